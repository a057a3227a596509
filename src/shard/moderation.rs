//! Moderation: admins kick, mute and ban. An order about a user goes to the shard of that user, in any room and dialect; one
//! about an account or an address is carried out where the admin is. What it means for other connections goes from there to
//! all shards, as a [`ModerationNotice`]; each answers, and until then the admin's further messages wait.
//!
//! What an order does to one user is in `moderated_user`. Bans and mutes are noted in
//! [`Moderation`](crate::moderation::Moderation) first. So a client that a notice does not find comes later, and is looked up
//! when it comes.

use std::sync::Arc;

use tracing::info;
use uproar_ring::ConnectionId;

use super::Shard;
use super::client::Session;
use super::client_io::{ClientIo, Context};
use super::mass_order::MassAction;
use super::order_report::target_of;
use super::terms_orders::{BANNED, Ordered};
use super::user::User;
use crate::clock::Now;
use crate::dialect::{ChatError, chat};
use crate::mail::{
    self, LogMail, ModerationOrder, NodeOrder, OrderOrigin, OrderOutcome, OrderReport, OrderTarget,
    TermsOrder,
};
use crate::metrics::{EndReason, OrderKind};
use crate::moderation::{Admin, BanSubject, ModerationAction, ModerationNotice, NewBan, OrderRefusal};
use crate::rooms::{ClientRef, Page, UserId, Whereabouts};

/// The reason of the close when a user or an account is kicked.
pub(super) const KICKED: &str = "kicked";

/// What a row of a list of bans counts for among the bytes of an answer: it was looked for from the beginning.
const BAN_LOOKED_AT_BYTES: usize = 16;

impl Shard {
    /// Carries out an order, and tells the admin's shard or the HTTP API.
    pub(super) fn carry_out(&mut self, order: ModerationOrder, now: Now) {
        let ordered = match order.target {
            OrderTarget::User(user) => match self.carry_out_on_user(user, &order, now) {
                Some(ordered) => ordered,
                None => return,
            },
            OrderTarget::Connection(id) => self.carry_out_on_connection(id, &order, now),
            OrderTarget::Account(ref account) => self.context.carry_out_on_account(account, &order, now),
            OrderTarget::Ban(id) => self.context.end_ban(id, &order, now),
        };
        let outcome = match ordered {
            Ok(Ordered::Done(outcome)) => Ok(outcome),
            Ok(Ordered::InLog) => return,
            Err(refusal) => Err(refusal),
        };
        self.context.answer_order(order.origin, outcome);
    }

    /// Carries out an order about a user of this shard. `None` for one that has come back on another shard: the order
    /// follows it.
    fn carry_out_on_user(
        &mut self,
        target: UserId,
        order: &ModerationOrder,
        now: Now,
    ) -> Option<Result<Ordered, OrderRefusal>> {
        let found = self.context.directory.users().find(target);
        if let Some(found) = found.filter(|found| found.shard != self.context.settings.index) {
            self.context.mail.request(found.shard, mail::Request::Moderate(order.clone()));
            return None;
        }
        // It may not be welcomed yet, if it is about to join its first room.
        let outcome = found.and_then(|found| {
            let is_target = |user: &User| user.id == Some(target);
            self.with_user(found.connection, now, |user, io| {
                is_target(user).then(|| user.moderate(order, io))
            })
        });
        Some(outcome.flatten().unwrap_or(Err(OrderRefusal::UserNotFound)))
    }

    /// Takes the outcome of an order of an admin of this shard. What it means for other connections goes to all shards, also
    /// if the admin has gone.
    pub(super) fn handle_order_done(
        &mut self,
        to: ClientRef,
        outcome: Result<OrderOutcome, OrderRefusal>,
        now: Now,
    ) {
        let outcome = outcome.map(|outcome| {
            outcome.notices.into_iter().map(|notice| self.context.notify_shards(to, notice)).sum::<u32>()
        });
        self.answer(to.connection, now, |user, io| {
            user.answers_awaited -= 1;
            match outcome {
                Ok(notices_sent) => user.answers_awaited += notices_sent,
                Err(refusal) => user.refuse(&refusal.into(), io),
            }
        });
    }

    /// Begins to carry out what an order means for the connections of this shard.
    pub(super) fn take_notice(&mut self, notice: Arc<ModerationNotice>, origin: ClientRef) {
        let ids = match &*notice {
            ModerationNotice::Kicked { account, .. }
            | ModerationNotice::Banned { subject: BanSubject::Account(account), .. } => {
                self.connections_of(account).collect()
            }
            ModerationNotice::AccountMuted { account, .. } | ModerationNotice::AccountUnmuted(account) => {
                self.users_of(account)
            }
            ModerationNotice::Banned { subject, .. } => self.without_account_at(subject),
            ModerationNotice::AddressUnmuted(address) => {
                self.without_account_at(&BanSubject::Address(*address))
            }
        };
        self.order_all(ids, MassAction::Notice(notice), Some(origin));
    }

    /// Carries out what an order means for a connection. False when it was not about this one.
    pub(super) fn follow_notice(&mut self, id: ConnectionId, notice: &ModerationNotice, now: Now) -> bool {
        let is_concerned = match notice {
            ModerationNotice::Kicked { reason, .. } => {
                return self.close_by_order(id, reason.as_deref(), KICKED, EndReason::Kicked, now);
            }
            // It has signed in since the ban came, which is not about its account.
            ModerationNotice::Banned { subject: BanSubject::Address(_), .. } if self.has_account(id) => {
                return false;
            }
            ModerationNotice::Banned { reason, .. } => {
                return self.close_by_order(id, reason.as_deref(), BANNED, EndReason::Banned, now);
            }
            // Who is not welcomed yet looks at its mute when it is.
            ModerationNotice::AccountMuted { seconds, until, .. } => self.with_user(id, now, |user, io| {
                user.welcomed.then(|| user.be_muted(*until, *seconds, io)).is_some()
            }),
            ModerationNotice::AccountUnmuted(_) => {
                self.with_user(id, now, |user, io| user.welcomed.then(|| user.be_unmuted(io)).is_some())
            }
            ModerationNotice::AddressUnmuted(_) => self.with_user(id, now, |user, io| {
                if user.mute.is_of_address {
                    user.be_unmuted(io);
                }
                // The order was about others.
                false
            }),
        };
        is_concerned.unwrap_or(false)
    }

    fn close_by_order(
        &mut self,
        id: ConnectionId,
        reason: Option<&str>,
        close: &str,
        end: EndReason,
        now: Now,
    ) -> bool {
        let was_open = self.with_client(id, now, |session, io| {
            let was_open = io.link.is_open();
            session.be_closed(reason, close, end, io);
            was_open
        });
        was_open.unwrap_or(false)
    }

    /// The connections that have shown an account.
    pub(super) fn connections_of(&self, account: &str) -> impl Iterator<Item = ConnectionId> {
        self.context.signed_in.of(account).chain(self.context.token_connections.by_account().of(account))
    }

    /// The users of an account, or of a session of it, if they have not signed in since.
    fn users_of(&self, account: &str) -> Vec<ConnectionId> {
        let signed_in = self.context.signed_in.of(account);
        let in_sessions = self.context.in_sessions.of(account).filter(|id| {
            let client = self.clients.in_slot(id.index);
            client.is_some_and(|(_, client)| !client.session.is_signed_in())
        });
        signed_in.chain(in_sessions).collect()
    }

    fn has_account(&mut self, id: ConnectionId) -> bool {
        let token_connections = &self.context.token_connections;
        self.clients.get_mut(id).is_some_and(|client| client.session.has_account(id, token_connections))
    }

    /// The connections from a network that have shown no account. An index by address would cost memory for each connection,
    /// and orders are few.
    fn without_account_at(&mut self, network: &BanSubject) -> Vec<ConnectionId> {
        self.context.work.count_looks(self.clients.count());
        self.clients.without_account_at(network, &self.context.token_connections)
    }
}

impl Session {
    /// Closes a connection by an order. A user is told why.
    pub(super) fn be_closed(&self, reason: Option<&str>, close: &str, end: EndReason, io: &mut ClientIo<'_>) {
        if let Self::User(user) = self {
            return user.be_closed(reason, close, end, io);
        }
        // Nothing may come before the answer to the upgrade.
        io.link.greet();
        io.close(1008, close, end);
    }
}

impl ClientIo<'_> {
    /// Whether this client may not connect, with this account or without one.
    pub(super) fn is_banned(&self, account: Option<&str>) -> bool {
        let moderation = &self.context.settings.moderation;
        moderation.is_banned(account, self.link.peer.ip(), self.now.unix_seconds)
    }

    /// Whether clients are muted that come from its address without signing in.
    pub(super) fn is_address_muted(&self) -> bool {
        let moderation = &self.context.settings.moderation;
        moderation.is_address_muted(self.link.peer.ip(), self.now.unix_seconds)
    }
}

impl Context {
    /// Sends a notice to all shards, which answer the admin. Returns how many there are.
    pub(super) fn notify_shards(&mut self, origin: ClientRef, notice: ModerationNotice) -> u32 {
        let notice = Arc::new(notice);
        let shards = self.mail.shards();
        shards
            .map(|shard| {
                let notice = Arc::clone(&notice);
                self.mail.request(shard, mail::Request::TakeNotice { notice, origin });
            })
            .count() as u32
    }

    /// An order that bans an account or an address. What it means for connections is left to the caller.
    pub(super) fn ban_order(
        &self,
        ban: &NewBan,
        by: &Admin,
        origin: OrderOrigin,
        now: Now,
    ) -> Result<TermsOrder, OrderRefusal> {
        let NewBan { subject, seconds, reason, .. } = ban;
        let change = self.settings.moderation.ban(ban, by, now.unix_seconds).inspect_err(|refusal| {
            let (by_name, by_account) = (by.shown_name(), by.shown_account());
            info!(%subject, %by, by_name, by_account, %refusal, "not banned");
        })?;
        let (target, seconds) = (target_of(subject), Some(*seconds));
        let report =
            OrderReport { target, by: by.clone(), kind: OrderKind::Ban, seconds, reason: reason.clone() };
        Ok(TermsOrder { change, notices: Vec::new(), effect: None, report, origin })
    }

    /// Ends a ban of a subject.
    pub(super) fn unban(
        &mut self,
        subject: &BanSubject,
        by: &Admin,
        origin: OrderOrigin,
        now: Now,
    ) -> Result<Ordered, OrderRefusal> {
        let change = self.settings.moderation.unban(subject, now.unix_seconds)?;
        let (target, by) = (target_of(subject), by.clone());
        let report = OrderReport { target, by, kind: OrderKind::Unban, seconds: None, reason: None };
        let order = TermsOrder { change, notices: Vec::new(), effect: None, report, origin };
        Ok(self.put_in_force(order, now))
    }
}

/// Orders of admins. Users who are not admins get `Permission denied`.
impl User {
    /// Sends an order to the shard of the target. Further messages of the admin wait until it was carried out.
    pub(super) fn order(
        &mut self,
        target: Option<UserId>,
        action: Option<ModerationAction>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        self.must_be_admin()?;
        let action = action.ok_or(ChatError::InvalidFormat)?;
        let target = target.ok_or(OrderRefusal::UserNotFound)?;
        let present = io.context.directory.users().locate(target).ok_or(OrderRefusal::UserNotFound)?;
        self.answers_awaited = 1;
        let (by, origin) = (self.as_admin(), io.origin());
        match present {
            Whereabouts::Here(connection) => {
                let (origin, target) = (origin.into(), OrderTarget::User(target));
                let order = ModerationOrder { by, origin, target, action };
                io.context.mail.request(connection.shard, mail::Request::Moderate(order));
            }
            Whereabouts::Elsewhere(to, _) => {
                let room = Arc::clone(&self.room_name);
                let order = NodeOrder { to, room, by, user: target, action, origin };
                io.context.mail.post(LogMail::Order(Box::new(order)));
            }
        }
        Ok(())
    }

    /// A shard has carried out what this admin's order means for it.
    pub(super) fn handle_notice_done(&mut self) {
        self.answers_awaited -= 1;
    }

    /// Bans an account or an address, whether or not it is connected. Further messages of the admin wait until the
    /// connections are being closed.
    pub(super) fn ban(
        &mut self,
        ban: Result<NewBan, ChatError>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        self.must_be_admin()?;
        let ban = ban?;
        let origin = io.origin();
        let order = io.context.ban_order(&ban, &self.as_admin(), origin.into(), io.now)?;
        let NewBan { subject, reason, .. } = ban;
        let order = TermsOrder { notices: vec![ModerationNotice::Banned { subject, reason }], ..order };
        let ordered = io.context.put_in_force(order, io.now);
        self.await_answers(ordered, io);
        Ok(())
    }

    /// Ends a ban.
    pub(super) fn unban(
        &mut self,
        subject: Result<BanSubject, ChatError>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        self.must_be_admin()?;
        let subject = subject?;
        let origin = io.origin();
        let ordered = io.context.unban(&subject, &self.as_admin(), origin.into(), io.now)?;
        self.await_answers(ordered, io);
        Ok(())
    }

    /// Lets this admin's further messages wait for what its order leads to.
    fn await_answers(&mut self, ordered: Ordered, io: &mut ClientIo<'_>) {
        let origin = io.origin();
        self.answers_awaited = match ordered {
            Ordered::Done(OrderOutcome { notices, .. }) => {
                notices.into_iter().map(|notice| io.context.notify_shards(origin, notice)).sum()
            }
            Ordered::InLog => 1,
        };
    }

    /// Lists the bans, or a page of them.
    pub(super) fn list_bans(
        &mut self,
        page: Result<Option<Page>, ChatError>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        self.must_be_admin()?;
        let asked = page?;
        let page = asked.unwrap_or(Page { offset: 0, limit: usize::MAX });
        let bans = io.context.settings.moderation.bans(page, io.now.unix_seconds);
        let listed = chat::bans(&bans, asked.is_some(), io.now);
        let looked_at_bytes = page.offset.min(bans.total) * BAN_LOOKED_AT_BYTES;
        self.answers.charge(listed.len() + looked_at_bytes, io.now.monotonic_ms);
        // As with a history, it may exceed the queue's limit, and nothing is read until it has left.
        io.push_join([listed]);
        Ok(())
    }

    fn must_be_admin(&self) -> Result<(), ChatError> {
        if self.is_admin() { Ok(()) } else { Err(ChatError::PermissionDenied) }
    }

    /// This user as the author of orders.
    fn as_admin(&self) -> Admin {
        let (user, name, account) = (self.registered_id(), Arc::clone(&self.name), self.account());
        Admin::User { user, name, account }
    }
}
