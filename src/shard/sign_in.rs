//! Signing in: the credentials of a user, the verifier's result, and what follows from it and from later changes of the
//! account.

use std::sync::Arc;

use tracing::info;

use super::client_io::ClientIo;
use super::terms_orders::BANNED;
use super::user::{RoomMembership, Standing, User};
use crate::accounts::{AccountChangeKind, Attempt, Credentials, Identity, SignInResult};
use crate::dialect::ChatError;
use crate::dialect::chat::{self, Direct};
use crate::log_limit::LogLimit;
use crate::log_text::shown;
use crate::metrics::{EndReason, SignInOutcome, TokenOutcome};
use crate::rooms::{Change, RoomIndex};

/// The reason of the close when a token does not allow what the client does.
pub(super) const PERMISSION_DENIED: &str = "Permission denied";

impl User {
    /// Has a user's name and password verified. Its further messages wait meanwhile, and nobody else's.
    pub(super) fn sign_in(&mut self, credentials: Credentials, io: &mut ClientIo<'_>) {
        self.awaits_sign_in = true;
        self.update_sign_in_deadline(io);
        let attempt = Attempt { ticket: io.origin(), address: io.link.peer.ip(), credentials };
        io.context.mail.verify(attempt);
    }

    /// Carries out the result of this user's attempt.
    pub(super) fn handle_sign_in_result(&mut self, result: SignInResult, io: &mut ClientIo<'_>) {
        self.awaits_sign_in = false;
        // A client that is about to be closed enters no room any more.
        if !io.link.is_open() || io.context.has_stopped_reading {
            return;
        }
        let outcome = match result {
            SignInResult::Granted(identity) if !self.is_of_another(&identity) => self.grant(identity, io),
            SignInResult::Granted(_) | SignInResult::Denied => {
                self.deny(io);
                SignInOutcome::Denied
            }
            SignInResult::Unavailable => {
                self.update_sign_in_deadline(io);
                self.refuse(&ChatError::SignInUnavailable, io);
                SignInOutcome::Unavailable
            }
        };
        io.context.metrics.sign_ins.with(outcome).add(1);
    }

    /// Signs a user in with a token, or renews the rights of the token before.
    pub(super) fn sign_in_with_token(&mut self, token: &str, io: &mut ClientIo<'_>) {
        static REFUSED: LogLimit = LogLimit::new();
        let mut keys_tried = 0;
        let checked = io.context.settings.tokens.check_counting(token, io.now.unix_seconds, &mut keys_tried);
        io.context.work.count_token_checks(keys_tried);
        let counted = checked.as_ref().map_or_else(|error| error.outcome(), |_| TokenOutcome::Valid);
        io.context.metrics.token_checks.with(counted).add(1);
        let outcome = match checked {
            Ok(identity) if !self.is_of_another(&identity) => self.grant(identity, io),
            checked => {
                if let Some(left_out) = REFUSED.allow_at(io.now.monotonic_ms) {
                    let reason = checked
                        .err()
                        .map_or("it is of another account".to_owned(), |error| error.to_string());
                    info!(address = %io.link.peer.ip(), reason, left_out, "sign-in with a token failed");
                }
                self.deny(io);
                SignInOutcome::Denied
            }
        };
        io.context.metrics.sign_ins.with(outcome).add(1);
    }

    fn deny(&self, io: &mut ClientIo<'_>) {
        io.close(1008, "Authentication failed", EndReason::Unauthenticated);
    }

    /// Whether the user has signed in with another account than this identity's.
    fn is_of_another(&self, identity: &Identity) -> bool {
        matches!(&self.standing, Standing::SignedIn(own) if own.account != identity.account)
    }

    /// Gives a user the name and the rights of its account, if there is a room that it may join.
    fn grant(&mut self, identity: Identity, io: &mut ClientIo<'_>) -> SignInOutcome {
        if io.is_banned(Some(&identity.account)) {
            static REFUSED: LogLimit = LogLimit::new();
            if let Some(left_out) = REFUSED.allow_at(io.now.monotonic_ms) {
                let (account, address) = (shown(&identity.account), io.link.peer.ip());
                info!(account, %address, left_out, "sign-in refused: the account is banned");
            }
            io.close(1008, BANNED, EndReason::Banned);
            return SignInOutcome::Denied;
        }
        let identity = io.context.with_free_name(identity);
        let Some(first_room) = io.context.directory.first_room(|room| identity.rights.may_join(room)) else {
            io.close(1008, PERMISSION_DENIED, EndReason::PermissionDenied);
            return SignInOutcome::Denied;
        };
        // A renewed token leaves the name that the user has chosen since.
        let is_renewed = matches!(
            &self.standing,
            Standing::SignedIn(own) if (&own.account, &own.name) == (&identity.account, &identity.name)
        );
        let is_admin = identity.is_admin;
        self.rate = io.context.settings.limits.rate.or_of(&identity.rights);
        if !is_renewed {
            self.name = Arc::clone(&identity.name);
        }
        let role_before = self.member_account();
        if let Standing::SignedIn(before) = &self.standing {
            io.context.release_names(before);
        }
        io.context.note_signed_in(&identity, io.id);
        self.standing = Standing::SignedIn(identity);
        self.has_expired = false;
        self.set_deadline(io);
        let new_name = Arc::clone(&self.name);
        let success = chat::direct(&Direct::AuthSuccess { name: &new_name, is_admin }, io.now);
        io.push(success);
        if self.welcomed {
            self.change_mute(io);
        }
        let RoomMembership::In { room, .. } = self.membership else {
            self.arrive(first_room, io);
            return SignInOutcome::Granted;
        };
        if !self.may_join(&self.room_name) {
            let _ = self.leave_for(first_room, io.context.directory.configured_name(first_room), None, io);
        } else if !is_renewed || self.member_account() != role_before {
            self.keep_session(io.context);
            self.propose_rename(room, io);
        }
        SignInOutcome::Granted
    }

    /// Carries out a change of the account that this user is signed in with.
    pub(super) fn follow_account(&mut self, change: AccountChangeKind, io: &mut ClientIo<'_>) {
        // A token stands for itself until it expires.
        if self.has_token() {
            return;
        }
        let reason = match change {
            AccountChangeKind::Removed => "account removed",
            AccountChangeKind::PasswordChanged => "password changed",
            AccountChangeKind::RoleChanged { is_admin } => {
                return self.change_role(is_admin, io);
            }
        };
        if let (Some(user), Some(account)) = (self.id, self.account()) {
            info!(%user, account = shown(&account), reason, "signed out");
        }
        io.close(1008, reason, EndReason::AccountChanged);
    }

    /// Gives a signed-in user the rights of an admin, or takes them.
    fn change_role(&mut self, is_admin: bool, io: &mut ClientIo<'_>) {
        if let Standing::SignedIn(identity) = &mut self.standing {
            identity.is_admin = is_admin;
        }
        // While the user changes rooms, its next join tells.
        if let RoomMembership::In { room, .. } | RoomMembership::Joining(room) = self.membership
            && !io.context.has_stopped_reading
        {
            self.propose_rename(room, io);
        }
    }

    /// A name that this user chooses, if it may have it. `None` is an invalid one.
    pub(super) fn chosen_name(
        &self,
        name: Option<Arc<str>>,
        io: &ClientIo<'_>,
    ) -> Result<Arc<str>, ChatError> {
        if !self.may_rename() {
            return Err(ChatError::PermissionDenied);
        }
        let name = name.ok_or(ChatError::InvalidName)?;
        if io.context.is_reserved(&name) && !self.is_own_name(&name) {
            return Err(ChatError::NameReserved);
        }
        Ok(name)
    }

    /// Tells the home of the user's room its present name and account.
    pub(super) fn propose_rename(&self, room: RoomIndex, io: &mut ClientIo<'_>) {
        let (user, visit, new_name) = (self.registered_id(), self.visit, Arc::clone(&self.name));
        let (account, connected_at, origin) = (self.member_account(), self.connected_at, io.origin());
        let owner = self.owner.clone();
        io.propose(room, Change::Rename { user, visit, new_name, account, connected_at, owner, origin });
    }

    /// Takes a new user to its first room.
    pub(super) fn enter(&mut self, room: RoomIndex, io: &mut ClientIo<'_>) {
        self.membership = RoomMembership::Joining(room);
        self.room_name = io.context.directory.configured_name(room);
        if self.register(io) {
            self.request_join(room, None, io);
        } else {
            self.turn_away(io);
        }
    }

    /// The first room that the user may join. Without one, the connection is closed.
    pub(super) fn first_room(&self, io: &mut ClientIo<'_>) -> Option<RoomIndex> {
        let room = io.context.directory.first_room(|room| self.may_join(room));
        if room.is_none() {
            io.close(1008, PERMISSION_DENIED, EndReason::PermissionDenied);
        }
        room
    }
}
