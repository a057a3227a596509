//! Moderation: admins kick, mute and ban. An order about a user goes to the shard of that user, in any room and dialect; one
//! about an account or an address is carried out where the admin is. What it means for other connections goes from there to
//! all shards, as a [`ModerationNotice`]; each answers, and until then the admin's further messages wait.
//!
//! Bans and mutes are noted in [`Moderation`](crate::moderation::Moderation) first. So a client that a notice does not find
//! comes later, and is looked up when it comes.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::field::display;
use tracing::info;
use uproar_ring::ConnectionId;

use super::Shard;
use super::client::Session;
use super::client_io::{ClientIo, Context};
use super::user::User;
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{ChatError, UserDialect, hub};
use crate::log_text::shown;
use crate::mail::{self, Delivery, ModerationOrder};
use crate::metrics::{EndReason, OrderKind};
use crate::moderation::{
    BanSubject, ModeratedUser, ModerationAction, ModerationNotice, Mute, MuteSubject, Muted, NewBan,
    OrderRefusal,
};
use crate::rooms::{ClientRef, Page, UserId};
use crate::storage::StateChange;

/// The reason in `kicked` when the admin has given none.
const REASON: &str = "Kicked by admin";

/// The reason of the close when an account or an address is banned.
pub(super) const BANNED: &str = "banned";

/// What a row of a list of bans counts for among the bytes of an answer: it was looked for from the beginning.
const BAN_LOOKED_AT_BYTES: usize = 16;

impl Shard {
    /// Carries out an order about a user of this shard, and tells the admin's shard. The order follows a user that has come
    /// back on another shard.
    pub(super) fn carry_out(&mut self, order: ModerationOrder, now: Now) {
        let found = self.context.directory.users().find(order.target);
        if let Some(found) = found.filter(|found| found.shard != self.context.settings.index) {
            return self.context.mail.request(found.shard, mail::Request::Moderate(order));
        }
        // It may not be welcomed yet, if it is about to join its first room.
        let outcome = found.and_then(|found| {
            let is_target = |user: &User| user.id == Some(order.target);
            self.with_user(found.connection, now, |user, io| {
                is_target(user).then(|| user.moderate(&order, io))
            })
        });
        let outcome = outcome.flatten().unwrap_or(Err(OrderRefusal::UserNotFound));
        self.context.mail.deliver(order.origin.shard, Delivery::OrderDone { to: order.origin, outcome });
    }

    /// Takes the outcome of an order of an admin of this shard. What it means for other connections goes to all shards, also
    /// if the admin has gone.
    pub(super) fn handle_order_done(
        &mut self,
        to: ClientRef,
        outcome: Result<Vec<ModerationNotice>, OrderRefusal>,
        now: Now,
    ) {
        let outcome = outcome.map(|notices| {
            notices.into_iter().map(|notice| self.context.notify_shards(to, notice)).sum::<u32>()
        });
        self.with_user(to.connection, now, |user, io| {
            user.answers_awaited -= 1;
            match outcome {
                Ok(notices_sent) => user.answers_awaited += notices_sent,
                Err(refusal) => user.refuse(&refusal.into(), io),
            }
        });
    }

    /// Carries out a notice, and tells the shard of the admin.
    pub(super) fn take_notice(&mut self, notice: &ModerationNotice, origin: ClientRef, now: Now) {
        self.handle_notice(notice, now);
        self.context.mail.deliver(origin.shard, Delivery::NoticeDone { to: origin });
    }

    /// Carries out what an order means for the connections of this shard.
    fn handle_notice(&mut self, notice: &ModerationNotice, now: Now) {
        match notice {
            ModerationNotice::Banned { subject, reason } => {
                for id in self.connections_of(subject) {
                    self.with_client(id, now, |session, io| session.end_banned(reason.as_deref(), io));
                }
            }
            ModerationNotice::AccountMuted { account, seconds, until } => {
                self.with_account(account, now, |user, io| user.be_muted(*until, *seconds, io));
            }
            ModerationNotice::AccountUnmuted(account) => {
                self.with_account(account, now, |user, io| user.be_unmuted(io));
            }
            ModerationNotice::AddressUnmuted(address) => {
                for id in self.connections_of(&BanSubject::Address(*address)) {
                    self.with_user(id, now, |user, io| {
                        if user.mute.is_of_address {
                            user.be_unmuted(io);
                        }
                    });
                }
            }
        }
    }

    /// Calls a handler with the welcomed users of an account, or of a session of it. The others look at its mute when they
    /// are welcomed.
    fn with_account(
        &mut self,
        account: &str,
        now: Now,
        mut handle: impl FnMut(&mut User, &mut ClientIo<'_>),
    ) {
        let signed_in = self.context.signed_in.of(account);
        for id in signed_in.into_iter().chain(self.clients.in_sessions_of(account)) {
            self.with_user(id, now, |user, io| {
                if user.welcomed {
                    handle(user, io);
                }
            });
        }
    }

    /// The connections of an account; or those from a network that have shown none.
    fn connections_of(&self, subject: &BanSubject) -> Vec<ConnectionId> {
        match subject {
            BanSubject::Account(account) => {
                let users = self.context.signed_in.of(account);
                users.into_iter().chain(self.context.token_connections.of(account)).collect()
            }
            // An index by address would cost memory for each connection, and orders are few.
            BanSubject::Address(_) => {
                self.clients.without_account_at(subject, &self.context.token_connections)
            }
        }
    }
}

impl Session {
    /// Tells a client that it is banned, and closes its connection.
    fn end_banned(&self, reason: Option<&str>, io: &mut ClientIo<'_>) {
        if let Self::User(user) = self {
            return user.be_closed(reason, BANNED, EndReason::Banned, io);
        }
        // Nothing may come before the answer to the upgrade.
        io.link.greet();
        io.close(1008, BANNED, EndReason::Banned);
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
    fn notify_shards(&mut self, origin: ClientRef, notice: ModerationNotice) -> u32 {
        let notice = Arc::new(notice);
        let shards = self.mail.shards();
        shards
            .map(|shard| {
                let notice = Arc::clone(&notice);
                self.mail.request(shard, mail::Request::TakeNotice { notice, origin });
            })
            .count() as u32
    }

    /// Tells the storage that a ban has changed.
    fn note_ban(&self, subject: &BanSubject) {
        if let Some(state) = &self.state {
            state.note(StateChange::Ban(subject.clone()));
        }
    }

    /// Tells the storage that mutes of a user may have changed, and that those of these networks have ended.
    fn note_mutes(&self, user: ModeratedUser<'_>, lifted: &[IpAddr]) {
        let lifted = lifted.iter().copied().map(MuteSubject::Address);
        if let Some(state) = &self.state {
            user.subjects().chain(lifted).for_each(|subject| state.note(StateChange::Mute(subject)));
        }
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
        let connection = io.context.directory.users().find(target).ok_or(OrderRefusal::UserNotFound)?;
        self.answers_awaited = 1;
        let (by, by_name, origin) = (self.registered_id(), Arc::clone(&self.name), io.origin());
        let by_account = self.account();
        let order = ModerationOrder { by, by_name, by_account, origin, target, action };
        io.context.mail.request(connection.shard, mail::Request::Moderate(order));
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
        io.context.settings.moderation.ban(&ban, io.now.unix_seconds).inspect_err(|refusal| {
            info!(
                subject = %ban.subject,
                by = %self.registered_id(),
                by_name = shown(&self.name),
                by_account = self.account().as_deref().map(shown),
                %refusal,
                "not banned"
            );
        })?;
        let NewBan { subject, seconds, reason, .. } = ban;
        io.context.note_ban(&subject);
        self.note_order_about(&subject, OrderKind::Ban, Some(seconds), reason.as_deref(), io);
        self.answers_awaited =
            io.context.notify_shards(io.origin(), ModerationNotice::Banned { subject, reason });
        Ok(())
    }

    /// Ends a ban.
    pub(super) fn unban(
        &self,
        subject: Result<BanSubject, ChatError>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        self.must_be_admin()?;
        let subject = subject?;
        io.context.settings.moderation.unban(&subject, io.now.unix_seconds)?;
        io.context.note_ban(&subject);
        self.note_order_about(&subject, OrderKind::Unban, None, None, io);
        Ok(())
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

    fn note_order_about(
        &self,
        subject: &BanSubject,
        kind: OrderKind,
        seconds: Option<u32>,
        reason: Option<&str>,
        io: &ClientIo<'_>,
    ) {
        io.context.metrics.moderation_orders.with(kind).add(1);
        let (account, address) = match subject {
            BanSubject::Account(account) => (Some(shown(account)), None),
            BanSubject::Address(address) => (None, Some(display(address))),
        };
        info!(
            account,
            address,
            by = %self.registered_id(),
            by_name = shown(&self.name),
            by_account = self.account().as_deref().map(shown),
            measure = %kind,
            seconds,
            reason = reason.map(shown),
            "moderated"
        );
    }
}

/// What orders do to a user.
impl User {
    /// Carries out an order about this user. Returns what it means for other connections.
    fn moderate(
        &mut self,
        order: &ModerationOrder,
        io: &mut ClientIo<'_>,
    ) -> Result<Vec<ModerationNotice>, OrderRefusal> {
        let log_refusal = |refusal: &OrderRefusal| {
            info!(
                user = %order.target,
                by = %order.by,
                by_name = shown(&order.by_name),
                by_account = order.by_account.as_deref().map(shown),
                %refusal,
                "not moderated"
            );
        };
        let mut notices = Vec::new();
        let (moderation, now) = (io.context.settings.moderation.clone(), io.now.unix_seconds);
        let (account, owner) = (self.account(), self.owner.clone());
        let address = io.link.peer.ip();
        let target = ModeratedUser {
            account: account.as_deref(),
            owner: owner.as_deref(),
            user: order.target,
            address,
        };
        // An error changes nothing.
        let (kind, seconds, reason) = match &order.action {
            ModerationAction::Kick { reason } => {
                self.be_closed(reason.as_deref(), "kicked", EndReason::Kicked, io);
                (OrderKind::Kick, None, reason.as_deref())
            }
            ModerationAction::Mute { seconds } => {
                let Muted { until, lifted } =
                    moderation.mute(target, *seconds, now).inspect_err(log_refusal)?;
                io.context.note_mutes(target, lifted.as_slice());
                match &account {
                    None => self.be_muted(until, *seconds, io),
                    Some(account) => notices.push(ModerationNotice::AccountMuted {
                        account: Arc::clone(account),
                        seconds: *seconds,
                        until,
                    }),
                }
                notices.extend(lifted.map(ModerationNotice::AddressUnmuted));
                (OrderKind::Mute, Some(*seconds), None)
            }
            ModerationAction::Unmute => {
                let lifted = moderation.unmute(target, now);
                io.context.note_mutes(target, &lifted);
                match account.as_ref().or(owner.as_ref()) {
                    None => self.be_unmuted(io),
                    Some(account) => notices.push(ModerationNotice::AccountUnmuted(Arc::clone(account))),
                }
                notices.extend(lifted.into_iter().map(ModerationNotice::AddressUnmuted));
                (OrderKind::Unmute, None, None)
            }
            ModerationAction::Ban { seconds, reason } => {
                let (subject, address) = match &account {
                    Some(account) => (BanSubject::Account(Arc::clone(account)), None),
                    None => (BanSubject::address(target.address), Some(target.address)),
                };
                let ban = NewBan { subject, address, seconds: *seconds, reason: reason.clone() };
                moderation.ban(&ban, now).inspect_err(log_refusal)?;
                io.context.note_ban(&ban.subject);
                match ban.subject {
                    // Others may share the address.
                    BanSubject::Address(_) => {
                        self.be_closed(reason.as_deref(), BANNED, EndReason::Banned, io);
                    }
                    subject => notices.push(ModerationNotice::Banned { subject, reason: ban.reason }),
                }
                (OrderKind::Ban, Some(*seconds), reason.as_deref())
            }
        };
        io.context.metrics.moderation_orders.with(kind).add(1);
        info!(
            user = %order.target,
            name = shown(&self.name),
            account = account.as_deref().map(shown),
            address = %target.address,
            by = %order.by,
            by_name = shown(&order.by_name),
            by_account = order.by_account.as_deref().map(shown),
            measure = %kind,
            seconds,
            reason = reason.map(shown),
            "moderated"
        );
        Ok(notices)
    }

    fn be_closed(&self, reason: Option<&str>, close: &str, end: EndReason, io: &mut ClientIo<'_>) {
        self.tell(&Direct::Kicked { reason: reason.unwrap_or(REASON) }, io);
        // Nothing may come before the answer to the upgrade.
        io.link.greet();
        io.close(1008, close, end);
    }

    /// Follows a mute. If there has been another order meanwhile, that one counts: orders of two admins may cross on their
    /// way.
    fn be_muted(&mut self, until: u64, seconds: u32, io: &mut ClientIo<'_>) {
        self.mute = self.present_mute(io);
        if self.is_muted(io.now) {
            let seconds_left = self.mute.seconds_left(io.now.unix_seconds);
            let seconds = if self.mute.until == until { seconds } else { seconds_left };
            self.tell(&Direct::Muted { seconds }, io);
        }
    }

    /// Ends the mute of this user, unless it has another one.
    fn be_unmuted(&mut self, io: &mut ClientIo<'_>) {
        self.mute = self.present_mute(io);
        if !self.is_muted(io.now) {
            self.tell(&Direct::Unmuted, io);
        }
    }

    /// Finds out whether this user is muted, now that it has come. Returns the message about that.
    pub(super) fn come_with_mute(&mut self, io: &ClientIo<'_>) -> Option<Direct<'static>> {
        self.mute = self.present_mute(io);
        let now = io.now.unix_seconds;
        self.mute.holds(now).then(|| Direct::Muted { seconds: self.mute.seconds_left(now) })
    }

    /// Follows from a mute to that of the account with which the user has just signed in, and tells the user of a change.
    pub(super) fn change_mute(&mut self, io: &mut ClientIo<'_>) {
        let before = (self.is_muted(io.now), self.mute.until);
        let told = self.come_with_mute(io);
        match told {
            Some(muted) if before != (true, self.mute.until) => self.tell(&muted, io),
            None if before.0 => self.tell(&Direct::Unmuted, io),
            Some(_) | None => {}
        }
    }

    fn present_mute(&self, io: &ClientIo<'_>) -> Mute {
        let account = self.account();
        let present = self.moderated(account.as_deref(), io);
        io.context.settings.moderation.mute_of(present, io.now.unix_seconds)
    }

    /// This user as mutes know it, with the account with which it has signed in.
    fn moderated<'a>(&'a self, account: Option<&'a str>, io: &ClientIo<'_>) -> ModeratedUser<'a> {
        let owner = self.owner.as_deref();
        ModeratedUser { account, owner, user: self.registered_id(), address: io.link.peer.ip() }
    }

    /// Tells this user about an order, in its dialect; before its first messages it is told nothing.
    pub(super) fn tell(&self, direct: &Direct<'_>, io: &mut ClientIo<'_>) {
        if !self.welcomed {
            return;
        }
        io.push(match self.dialect {
            UserDialect::Chat => chat::direct(direct, io.now),
            UserDialect::Hub => hub::system(&in_hub(direct), io.context.rooms.names()),
        });
    }
}

fn in_hub(direct: &Direct<'_>) -> String {
    match direct {
        Direct::Kicked { reason } => (*reason).to_owned(),
        Direct::Muted { seconds } => format!("You are muted for {seconds} s"),
        _ => "You are no longer muted".to_owned(),
    }
}
