//! Orders of backends about an account or one connection. What they mean for other connections goes to all shards as a
//! [`ModerationNotice`], as for admins in the chat; the HTTP API sends the notices, and counts what the shards answer.
//!
//! An order is about the connections that are there when it arrives at their shard. One about the future, a ban or a mute,
//! is in the register before that, and a connection that comes later finds it there.

use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::Shard;
use super::client::Session;
use super::client_io::{ClientIo, Context};
use super::mass_order::MassAction;
use super::moderation::{BANNED, KICKED};
use super::user::{OrderedMove, RoomMembership};
use crate::clock::Now;
use crate::mail::{
    ACCOUNT_CONNECTIONS_SHOWN, AccountConnection, AccountMove, Delivery, ModerationOrder, OrderOutcome,
};
use crate::metrics::{EndReason, OrderKind};
use crate::moderation::{
    BanId, BanSubject, ModerationAction, ModerationNotice, MuteSubject, NewBan, OrderRefusal,
};
use crate::rooms::ClientRef;
use crate::storage::StateChange;

impl Shard {
    /// Carries out an order about a connection of this shard.
    pub(super) fn carry_out_on_connection(
        &mut self,
        id: ConnectionId,
        order: &ModerationOrder,
        now: Now,
    ) -> Result<OrderOutcome, OrderRefusal> {
        let outcome = self.with_client(id, now, |session, io| {
            // One that is closing has left.
            if !io.link.is_open() {
                return Err(OrderRefusal::UserNotFound);
            }
            match session {
                Session::User(user) => user.moderate(order, io),
                Session::Raw { .. } | Session::Echo => session.moderate(order, io),
            }
        });
        outcome.unwrap_or(Err(OrderRefusal::UserNotFound))
    }

    /// Begins to move this shard's chat connections of an account.
    pub(super) fn move_account(&mut self, order: AccountMove) {
        let AccountMove { account, from, to, origin } = order;
        let ids = self.context.signed_in.of(&account).collect();
        self.order_all(ids, MassAction::Move(OrderedMove { from, to }), Some(origin));
    }

    /// Shows the HTTP API this shard's first connections of an account, and how many there are.
    pub(super) fn show_account(&mut self, account: &str, to: ClientRef) {
        let total = self.context.signed_in.count(account)
            + self.context.token_connections.by_account().count(account);
        let ids: Vec<_> = self.connections_of(account).take(ACCOUNT_CONNECTIONS_SHOWN).collect();
        self.context.work.count_looks(2 * ids.len());
        let connections = ids.into_iter().filter_map(|id| self.account_connection(id)).collect();
        self.context.mail.deliver(to.shard, Delivery::AccountShown { to, connections, total });
    }

    fn account_connection(&mut self, id: ConnectionId) -> Option<AccountConnection> {
        let client = ClientRef { shard: self.context.settings.index, connection: id };
        let since = self.context.token_connections.since(id);
        let found = self.clients.get_mut(id)?;
        let dialect = found.link.dialect;
        let nowhere =
            AccountConnection { client, user: None, name: None, dialect, room: None, topic: None, since: 0 };
        Some(match &found.session {
            Session::User(user) => AccountConnection {
                user: user.id,
                name: Some(Arc::clone(&user.name)).filter(|name| !name.is_empty()),
                room: (user.membership != RoomMembership::None).then(|| Arc::clone(&user.room_name)),
                since: user.connected_at,
                ..nowhere
            },
            Session::Raw { topic, .. } => {
                AccountConnection { topic: Some(Arc::clone(topic)), since: since?, ..nowhere }
            }
            Session::Echo => AccountConnection { since: since?, ..nowhere },
        })
    }
}

impl Session {
    /// Carries out an order about a connection that is no user.
    fn moderate(
        &mut self,
        order: &ModerationOrder,
        io: &mut ClientIo<'_>,
    ) -> Result<OrderOutcome, OrderRefusal> {
        let account = io.context.token_connections.account(io.id).cloned();
        let address = io.link.peer.ip();
        match (&order.action, account) {
            (ModerationAction::Kick { reason }, account) => {
                let subject = account.map_or_else(|| BanSubject::address(address), BanSubject::Account);
                io.context.note_order(&subject, &order.by, OrderKind::Kick, None, reason.as_deref(), io.now);
                self.be_closed(reason.as_deref(), KICKED, EndReason::Kicked, io);
            }
            (_, Some(account)) => return io.context.carry_out_on_account(&account, order, io.now),
            (ModerationAction::Ban { seconds, reason }, None) => {
                let (subject, reason) = (BanSubject::address(address), reason.clone());
                let ban = NewBan { subject, address: Some(address), seconds: *seconds, reason };
                io.context.impose_ban(&ban, &order.by, io.now)?;
                // Others may share the address.
                self.be_closed(ban.reason.as_deref(), BANNED, EndReason::Banned, io);
            }
            // There is nobody who could be muted.
            (ModerationAction::Mute { .. } | ModerationAction::Unmute | ModerationAction::Unban, None) => {
                return Err(OrderRefusal::UserNotFound);
            }
        }
        Ok(OrderOutcome { connections: 1, notices: Vec::new() })
    }
}

impl Context {
    /// Carries out an order about an account, whether or not it is connected.
    pub(super) fn carry_out_on_account(
        &self,
        account: &Arc<str>,
        order: &ModerationOrder,
        now: Now,
    ) -> Result<OrderOutcome, OrderRefusal> {
        let (moderation, by) = (&self.settings.moderation, &order.by);
        let account = Arc::clone(account);
        let subject = BanSubject::Account(Arc::clone(&account));
        let notice = match &order.action {
            ModerationAction::Kick { reason } => {
                self.note_order(&subject, by, OrderKind::Kick, None, reason.as_deref(), now);
                Some(ModerationNotice::Kicked { account, reason: reason.clone() })
            }
            ModerationAction::Mute { seconds } => {
                let until =
                    moderation.mute_account(&account, *seconds, now.unix_seconds).inspect_err(|refusal| {
                        tracing::info!(%subject, %by, %refusal, "not muted");
                    })?;
                self.note_account_mute(&account);
                self.note_order(&subject, by, OrderKind::Mute, Some(*seconds), None, now);
                Some(ModerationNotice::AccountMuted { account, seconds: *seconds, until })
            }
            ModerationAction::Unmute => {
                moderation.unmute_account(&account, now.unix_seconds);
                self.note_account_mute(&account);
                self.note_order(&subject, by, OrderKind::Unmute, None, None, now);
                Some(ModerationNotice::AccountUnmuted(account))
            }
            ModerationAction::Ban { seconds, reason } => {
                let ban = NewBan { subject, address: None, seconds: *seconds, reason: reason.clone() };
                self.impose_ban(&ban, by, now)?;
                Some(ModerationNotice::Banned { subject: ban.subject, reason: ban.reason })
            }
            ModerationAction::Unban => {
                moderation.unban(&subject, now.unix_seconds)?;
                self.note_ban(&subject);
                self.note_order(&subject, by, OrderKind::Unban, None, None, now);
                None
            }
        };
        Ok(OrderOutcome { connections: 0, notices: notice.into_iter().collect() })
    }

    /// Ends a ban.
    pub(super) fn end_ban(
        &self,
        id: BanId,
        order: &ModerationOrder,
        now: Now,
    ) -> Result<OrderOutcome, OrderRefusal> {
        let subject = self.settings.moderation.unban_by_id(id, now.unix_seconds)?;
        self.note_ban(&subject);
        self.note_order(&subject, &order.by, OrderKind::Unban, None, None, now);
        Ok(OrderOutcome::default())
    }

    fn note_account_mute(&self, account: &Arc<str>) {
        if let Some(state) = &self.state {
            state.note(StateChange::Mute(MuteSubject::Account(Arc::clone(account))));
        }
    }
}
