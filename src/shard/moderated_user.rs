//! What orders of admins and backends do to one user: it is closed, muted, or told that it is no longer muted.

use std::sync::Arc;

use tracing::info;

use super::client_io::ClientIo;
use super::moderation::KICKED;
use super::terms_orders::Ordered;
use super::user::User;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{UserDialect, hub};
use crate::mail::{ModerationOrder, OrderEffect, OrderOutcome, OrderReport, TermsOrder};
use crate::metrics::{EndReason, OrderKind};
use crate::moderation::{
    BanSubject, ModeratedUser, ModerationAction, ModerationNotice, Mute, Muted, NewBan, OrderRefusal,
};
use crate::rooms::UserId;

/// The reason in `kicked` when the admin has given none.
const REASON: &str = "Kicked by admin";

impl User {
    /// Carries out an order about this user. Returns what it means for other connections.
    pub(super) fn moderate(
        &mut self,
        order: &ModerationOrder,
        io: &mut ClientIo<'_>,
    ) -> Result<Ordered, OrderRefusal> {
        // A hub client has no id before it logs in.
        let id = self.id.unwrap_or(UserId::SYSTEM);
        let by = &order.by;
        let log_refusal = |refusal: &OrderRefusal| {
            let (by_name, by_account) = (by.shown_name(), by.shown_account());
            info!(user = %id, %by, by_name, by_account, %refusal, "not moderated");
        };
        let (moderation, now) = (io.context.settings.moderation.clone(), io.now.unix_seconds);
        let (account, owner) = (self.account(), self.owner.clone());
        let address = io.link.peer.ip();
        let user = ModeratedUser { account: account.as_deref(), owner: owner.as_deref(), user: id, address };
        let target = io.as_target((id, &self.name, account.clone()));
        let report = |kind, seconds, reason: &Option<String>| OrderReport {
            target,
            by: by.clone(),
            kind,
            seconds,
            reason: reason.clone(),
        };
        let mut notices = Vec::new();
        // Where nothing is said to other connections, this one is told or closed here.
        let (change, effect, report) = match &order.action {
            ModerationAction::Kick { reason } => {
                self.be_closed(reason.as_deref(), KICKED, EndReason::Kicked, io);
                io.context.note_order(&report(OrderKind::Kick, None, reason), io.now);
                return Ok(Ordered::Done(OrderOutcome { connections: 1, notices }));
            }
            // There is nothing by which it could be muted, or banned already.
            ModerationAction::Mute { .. } | ModerationAction::Unmute
                if self.id.is_none() && account.is_none() =>
            {
                return Err(OrderRefusal::UserNotFound);
            }
            ModerationAction::Unban => return Err(OrderRefusal::UnknownBan),
            ModerationAction::Mute { seconds } => {
                let seconds = *seconds;
                let (Muted { until, lifted }, change) =
                    moderation.mute(user, seconds, now).inspect_err(log_refusal)?;
                let effect = match &account {
                    None => Some(OrderEffect::Mute { seconds, until }),
                    Some(account) => {
                        let account = Arc::clone(account);
                        notices.push(ModerationNotice::AccountMuted { account, seconds, until });
                        None
                    }
                };
                notices.extend(lifted.map(ModerationNotice::AddressUnmuted));
                (change, effect, report(OrderKind::Mute, Some(seconds), &None))
            }
            ModerationAction::Unmute => {
                let (lifted, change) = moderation.unmute(user, now);
                let effect = match account.as_ref().or(owner.as_ref()) {
                    None => Some(OrderEffect::Unmute),
                    Some(account) => {
                        notices.push(ModerationNotice::AccountUnmuted(Arc::clone(account)));
                        None
                    }
                };
                notices.extend(lifted.into_iter().map(ModerationNotice::AddressUnmuted));
                (change, effect, report(OrderKind::Unmute, None, &None))
            }
            ModerationAction::Ban { seconds, reason } => {
                let (subject, address) = match &account {
                    Some(account) => (BanSubject::Account(Arc::clone(account)), None),
                    None => (BanSubject::address(address), Some(address)),
                };
                let ban = NewBan { subject, address, seconds: *seconds, reason: reason.clone() };
                let change = moderation.ban(&ban, by, now).inspect_err(log_refusal)?;
                let effect = match ban.subject {
                    // Others may share the address.
                    BanSubject::Address(_) => Some(OrderEffect::Ban { reason: ban.reason }),
                    subject => {
                        notices.push(ModerationNotice::Banned { subject, reason: ban.reason });
                        None
                    }
                };
                (change, effect, report(OrderKind::Ban, Some(*seconds), reason))
            }
        };
        let effect = effect.map(|effect| (io.id, effect));
        let order = TermsOrder { change, notices, effect, report, origin: order.origin.clone() };
        Ok(io.put_in_force(order, |effect, io| self.take_effect(effect, io)))
    }

    pub(super) fn be_closed(&self, reason: Option<&str>, close: &str, end: EndReason, io: &mut ClientIo<'_>) {
        self.tell(&Direct::Kicked { reason: reason.unwrap_or(REASON) }, io);
        // Nothing may come before the answer to the upgrade.
        io.link.greet();
        io.close(1008, close, end);
    }

    /// Follows a mute. If there has been another order meanwhile, that one counts: orders of two admins may cross on their
    /// way.
    pub(super) fn be_muted(&mut self, until: u64, seconds: u32, io: &mut ClientIo<'_>) {
        self.mute = self.present_mute(io);
        if self.is_muted(io.now) {
            let seconds_left = self.mute.seconds_left(io.now.unix_seconds);
            let seconds = if self.mute.until == until { seconds } else { seconds_left };
            self.tell(&Direct::Muted { seconds }, io);
        }
    }

    /// Ends the mute of this user, unless it has another one.
    pub(super) fn be_unmuted(&mut self, io: &mut ClientIo<'_>) {
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
