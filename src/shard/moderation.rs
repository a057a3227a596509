//! Moderation: admins kick, mute and unmute users. An order goes to the shard of its target, in any room and dialect.

use std::sync::Arc;

use tracing::info;

use super::client_io::ClientIo;
use super::user::{Standing, User};
use crate::dialect::chat::{self, Direct};
use crate::dialect::{Refusal, UserDialect, hub};
use crate::log_text::shown;
use crate::mail::{self, Measure, Order};
use crate::metrics::EndReason;
use crate::rooms::UserId;

/// What a kicked user is told when the admin has given no reason.
const REASON: &str = "Kicked by admin";

impl User {
    /// Sends an admin's order to the shard of the target. Other users learn only that they are no admin.
    pub(super) fn order(
        &self,
        target: Option<UserId>,
        measure: Option<Measure>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), Refusal> {
        if self.standing != (Standing::SignedIn { is_admin: true }) {
            return Err(Refusal::PermissionDenied);
        }
        let measure = measure.ok_or(Refusal::InvalidFormat)?;
        let target = target.ok_or(Refusal::UserNotFound)?;
        let connection = io.context.directory.users().find(target).ok_or(Refusal::UserNotFound)?;
        let (by, by_name, origin) = (self.registered_id(), Arc::clone(&self.name), io.origin());
        io.context.mail.request(
            connection.shard,
            mail::Request::Moderate(Order { by, by_name, origin, target, measure }),
        );
        Ok(())
    }

    /// Carries out an order about this user.
    pub(super) fn moderate(&mut self, order: &Order, io: &mut ClientIo<'_>) {
        let Order { by, by_name, target, measure, .. } = order;
        match measure {
            Measure::Kick { .. } => {}
            Measure::Mute { seconds } => {
                self.muted_until_ms = io.now.monotonic_ms + u64::from(*seconds) * 1_000;
            }
            Measure::Unmute => self.muted_until_ms = 0,
        }
        info!(
            user = %target,
            name = shown(&self.name),
            %by,
            by_name = shown(by_name),
            measure = measure.name(),
            seconds = measure.seconds(),
            reason = measure.reason().map(shown),
            "moderated"
        );
        io.push(match self.dialect {
            UserDialect::Chat => chat::direct(&in_chat(measure), io.now),
            UserDialect::Hub => hub::system(&in_hub(measure), io.context.rooms.names()),
        });
        if matches!(measure, Measure::Kick { .. }) {
            io.close(1008, "kicked", EndReason::Kicked);
        }
    }
}

fn in_chat(measure: &Measure) -> Direct<'_> {
    match measure {
        Measure::Kick { reason } => Direct::Kicked { reason: reason.as_deref().unwrap_or(REASON) },
        Measure::Mute { seconds } => Direct::Muted { seconds: *seconds },
        Measure::Unmute => Direct::Unmuted,
    }
}

fn in_hub(measure: &Measure) -> String {
    match measure {
        Measure::Kick { reason } => reason.as_deref().unwrap_or(REASON).to_owned(),
        Measure::Mute { seconds } => format!("You are muted for {seconds} s"),
        Measure::Unmute => "You are no longer muted".to_owned(),
    }
}
