//! Moderation: admins kick, mute and unmute users. An order goes to the shard of its target, in any room and dialect.

use std::sync::Arc;

use tracing::info;

use super::client_io::ClientIo;
use super::user::User;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{ChatError, UserDialect, hub};
use crate::log_text::shown;
use crate::mail::{self, ModerationAction, ModerationOrder};
use crate::metrics::EndReason;
use crate::rooms::UserId;

/// The reason in `kicked` when the admin has given none.
const REASON: &str = "Kicked by admin";

impl User {
    /// Sends an admin's order to the shard of the target. Users who are not admins get `Permission denied`.
    pub(super) fn order(
        &self,
        target: Option<UserId>,
        action: Option<ModerationAction>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        if !self.is_admin() {
            return Err(ChatError::PermissionDenied);
        }
        let action = action.ok_or(ChatError::InvalidFormat)?;
        let target = target.ok_or(ChatError::UserNotFound)?;
        let connection = io.context.directory.users().find(target).ok_or(ChatError::UserNotFound)?;
        let (by, by_name, origin) = (self.registered_id(), Arc::clone(&self.name), io.origin());
        io.context.mail.request(
            connection.shard,
            mail::Request::Moderate(ModerationOrder { by, by_name, origin, target, action }),
        );
        Ok(())
    }

    /// Carries out an order about this user.
    pub(super) fn moderate(&mut self, order: &ModerationOrder, io: &mut ClientIo<'_>) {
        let ModerationOrder { by, by_name, target, action, .. } = order;
        match action {
            ModerationAction::Kick { .. } => {}
            ModerationAction::Mute { seconds } => {
                self.muted_until_ms = io.now.monotonic_ms + u64::from(*seconds) * 1_000;
            }
            ModerationAction::Unmute => self.muted_until_ms = 0,
        }
        info!(
            user = %target,
            name = shown(&self.name),
            %by,
            by_name = shown(by_name),
            measure = action.name(),
            seconds = action.seconds(),
            reason = action.reason().map(shown),
            "moderated"
        );
        io.push(match self.dialect {
            UserDialect::Chat => chat::direct(&in_chat(action), io.now),
            UserDialect::Hub => hub::system(&in_hub(action), io.context.rooms.names()),
        });
        if matches!(action, ModerationAction::Kick { .. }) {
            io.close(1008, "kicked", EndReason::Kicked);
        }
    }
}

fn in_chat(action: &ModerationAction) -> Direct<'_> {
    match action {
        ModerationAction::Kick { reason } => Direct::Kicked { reason: reason.as_deref().unwrap_or(REASON) },
        ModerationAction::Mute { seconds } => Direct::Muted { seconds: *seconds },
        ModerationAction::Unmute => Direct::Unmuted,
    }
}

fn in_hub(action: &ModerationAction) -> String {
    match action {
        ModerationAction::Kick { reason } => reason.as_deref().unwrap_or(REASON).to_owned(),
        ModerationAction::Mute { seconds } => format!("You are muted for {seconds} s"),
        ModerationAction::Unmute => "You are no longer muted".to_owned(),
    }
}
