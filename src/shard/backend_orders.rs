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
use super::moderation::KICKED;
use super::order_report::target_of;
use super::terms_orders::Ordered;
use super::user::{OrderedMove, RoomMembership};
use crate::clock::Now;
use crate::mail::{
    ACCOUNT_CONNECTIONS_SHOWN, AccountConnection, AccountMove, Delivery, ModerationOrder, OrderEffect,
    OrderOutcome, OrderReport, TermsOrder,
};
use crate::metrics::{EndReason, OrderKind};
use crate::moderation::{
    BanId, BanSubject, Moderation, ModerationAction, ModerationNotice, NewBan, OrderRefusal, TermsChange,
};
use crate::rooms::ClientRef;

impl Shard {
    /// Carries out an order about a connection of this shard.
    pub(super) fn carry_out_on_connection(
        &mut self,
        id: ConnectionId,
        order: &ModerationOrder,
        now: Now,
    ) -> Result<Ordered, OrderRefusal> {
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
    fn moderate(&mut self, order: &ModerationOrder, io: &mut ClientIo<'_>) -> Result<Ordered, OrderRefusal> {
        let account = io.context.token_connections.account(io.id).cloned();
        let address = io.link.peer.ip();
        match (&order.action, account) {
            (ModerationAction::Kick { reason }, account) => {
                let subject = account.map_or_else(|| BanSubject::address(address), BanSubject::Account);
                let (target, by) = (target_of(&subject), order.by.clone());
                let reason_given = reason.clone();
                let kick =
                    OrderReport { target, by, kind: OrderKind::Kick, seconds: None, reason: reason_given };
                io.context.note_order(&kick, io.now);
                self.be_closed(reason.as_deref(), KICKED, EndReason::Kicked, io);
            }
            (_, Some(account)) => return io.context.carry_out_on_account(&account, order, io.now),
            (ModerationAction::Ban { seconds, reason }, None) => {
                let (subject, reason) = (BanSubject::address(address), reason.clone());
                let ban = NewBan { subject, address: Some(address), seconds: *seconds, reason };
                let banned = io.context.ban_order(&ban, &order.by, order.origin.clone(), io.now)?;
                // Others may share the address.
                let effect = Some((io.id, OrderEffect::Ban { reason: ban.reason }));
                let banned = TermsOrder { effect, ..banned };
                return Ok(io.put_in_force(banned, |effect, io| self.take_effect(effect, io)));
            }
            // There is nobody who could be muted.
            (ModerationAction::Mute { .. } | ModerationAction::Unmute | ModerationAction::Unban, None) => {
                return Err(OrderRefusal::UserNotFound);
            }
        }
        Ok(Ordered::Done(OrderOutcome { connections: 1, notices: Vec::new() }))
    }
}

impl Context {
    /// Carries out an order about an account, whether or not it is connected.
    pub(super) fn carry_out_on_account(
        &mut self,
        account: &Arc<str>,
        order: &ModerationOrder,
        now: Now,
    ) -> Result<Ordered, OrderRefusal> {
        let (by, origin) = (&order.by, order.origin.clone());
        let account = Arc::clone(account);
        let subject = BanSubject::Account(Arc::clone(&account));
        let target = target_of(&subject);
        let report = |kind, seconds, reason: &Option<String>| OrderReport {
            target,
            by: by.clone(),
            kind,
            seconds,
            reason: reason.clone(),
        };
        let (change, notice, report) = match &order.action {
            // It changes no term, and is to be heard by all nodes.
            ModerationAction::Kick { reason } => {
                let notice = ModerationNotice::Kicked { account, reason: reason.clone() };
                (TermsChange::default(), notice, report(OrderKind::Kick, None, reason))
            }
            ModerationAction::Mute { seconds } => {
                let seconds = *seconds;
                let muted = self.settings.moderation.mute_account(&account, seconds, now.unix_seconds);
                let (until, change) = muted.inspect_err(|refusal| {
                    tracing::info!(%subject, %by, %refusal, "not muted");
                })?;
                let notice = ModerationNotice::AccountMuted { account, seconds, until };
                (change, notice, report(OrderKind::Mute, Some(seconds), &None))
            }
            ModerationAction::Unmute => {
                let change = Moderation::unmute_account(&account);
                let notice = ModerationNotice::AccountUnmuted(account);
                (change, notice, report(OrderKind::Unmute, None, &None))
            }
            ModerationAction::Ban { seconds, reason } => {
                let ban = NewBan { subject, address: None, seconds: *seconds, reason: reason.clone() };
                let banned = self.ban_order(&ban, by, origin.clone(), now)?;
                let notice = ModerationNotice::Banned { subject: ban.subject, reason: ban.reason };
                (banned.change, notice, banned.report)
            }
            ModerationAction::Unban => return self.unban(&subject, by, origin, now),
        };
        let order = TermsOrder { change, notices: vec![notice], effect: None, report, origin };
        Ok(self.put_in_force(order, now))
    }

    /// Ends a ban.
    pub(super) fn end_ban(
        &mut self,
        id: BanId,
        order: &ModerationOrder,
        now: Now,
    ) -> Result<Ordered, OrderRefusal> {
        let subject = self.settings.moderation.subject_of(id, now.unix_seconds)?;
        self.unban(&subject, &order.by, order.origin.clone(), now)
    }
}
