//! What admins do to users: kick, mute, unmute. An order goes to the shard of the user that it is about,
//! whatever room and dialect that user is in.

use std::sync::Arc;

use tracing::info;
use uproar_ring::ConnectionId;

use super::Shard;
use super::user::Standing;
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{Refusal, UserDialect, hub};
use crate::log_text::shown;
use crate::mail::{Delivery, Measure, Order, Request};
use crate::metrics::EndReason;
use crate::rooms::UserId;

/// What a kicked user is told when the admin has given no reason.
const REASON: &str = "Kicked by admin";

impl Shard {
    /// Sends an admin's order to the shard of the user that it is about. Who is no admin learns nothing else.
    pub(super) fn order(
        &mut self,
        id: ConnectionId,
        target: Option<UserId>,
        measure: Option<Measure>,
    ) -> Result<(), Refusal> {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return Ok(()) };
        if user.standing != (Standing::SignedIn { is_admin: true }) {
            return Err(Refusal::PermissionDenied);
        }
        let (by, by_name) = (user.registered_id(), Arc::clone(&user.name));
        let measure = measure.ok_or(Refusal::InvalidFormat)?;
        let target = target.ok_or(Refusal::UserNotFound)?;
        let connection = self.directory.users().find(target).ok_or(Refusal::UserNotFound)?;
        let order = Order { by, by_name, origin, target, measure };
        self.request(connection.shard, Request::Moderate(order));
        Ok(())
    }

    /// Carries out an order on the user that it is about, who is one of this shard's if anyone's.
    pub(super) fn moderate(&mut self, order: Order, now: Now) {
        let Order { by, by_name, origin, target, measure } = order;
        let Some((id, user)) = self.find_user(target) else {
            self.reply(origin.shard, Delivery::UserNotFound { to: origin });
            return;
        };
        match &measure {
            Measure::Kick { .. } => {}
            Measure::Mute { seconds } => {
                user.muted_until_ms = now.monotonic_ms + u64::from(*seconds) * 1_000;
            }
            Measure::Unmute => user.muted_until_ms = 0,
        }
        info!(
            user = %target,
            name = shown(&user.name),
            %by,
            by_name = shown(&by_name),
            measure = measure.name(),
            seconds = measure.seconds(),
            reason = measure.reason().map(shown),
            "moderated"
        );
        let told = match user.dialect {
            UserDialect::Chat => chat::direct(&in_chat(&measure), now),
            UserDialect::Hub => hub::system(&in_hub(&measure), self.names()),
        };
        self.push(id, told, now);
        if matches!(measure, Measure::Kick { .. }) {
            self.close(id, 1008, "kicked", EndReason::Kicked, now);
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
