//! Signing in: the credentials of a user, the verifier's result, and what follows from it and from later changes of the
//! account.

use std::mem;
use std::sync::Arc;

use tracing::info;

use super::client_io::ClientIo;
use super::user::{RoomMembership, Standing, User};
use crate::accounts::{AccountChangeKind, Attempt, Credentials, Identity, SignInResult};
use crate::dialect::ChatError;
use crate::dialect::chat::{self, Direct};
use crate::log_text::shown;
use crate::metrics::{EndReason, SignInOutcome};
use crate::rooms::{Change, RoomIndex};

impl User {
    /// Has a user's name and password verified. Its further messages wait meanwhile, and nobody else's.
    pub(super) fn sign_in(&mut self, credentials: Credentials, io: &mut ClientIo<'_>) {
        self.awaits_sign_in = true;
        io.link.sign_in_by_ms = self.sign_in_by_ms();
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
            SignInResult::Granted(identity) => {
                self.grant(identity, io);
                SignInOutcome::Granted
            }
            SignInResult::Denied => {
                io.close(1008, "Authentication failed", EndReason::Unauthenticated);
                SignInOutcome::Denied
            }
            SignInResult::Unavailable => {
                io.link.sign_in_by_ms = self.sign_in_by_ms();
                self.refuse(&ChatError::SignInUnavailable, io);
                SignInOutcome::Unavailable
            }
        };
        io.context.metrics.sign_ins.with(outcome).add(1);
    }

    /// Gives a user the name and the rights of its account.
    fn grant(&mut self, identity: Identity, io: &mut ClientIo<'_>) {
        let (new_name, is_admin) = (Arc::clone(&identity.name), identity.is_admin);
        io.context.note_signed_in(&identity, io.id);
        let account = Arc::clone(&identity.account);
        if let Standing::SignedIn(before) = mem::replace(&mut self.standing, Standing::SignedIn(identity))
            && before.account != account
        {
            io.context.note_signed_out(&before.account, io.id);
        }
        self.name = Arc::clone(&new_name);
        let success = chat::direct(&Direct::AuthSuccess { name: &new_name, is_admin }, io.now);
        if let RoomMembership::In { room, .. } = self.membership {
            let (user, origin) = (self.registered_id(), io.origin());
            io.propose(room, Change::Rename { user, new_name, account: self.member_account(), origin });
        } else {
            self.enter(io);
        }
        io.push(success);
    }

    /// Carries out a change of the account that this user is signed in with.
    pub(super) fn follow_account(&mut self, change: AccountChangeKind, io: &mut ClientIo<'_>) {
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
            let (user, new_name, origin) = (self.registered_id(), Arc::clone(&self.name), io.origin());
            io.propose(room, Change::Rename { user, new_name, account: self.member_account(), origin });
        }
    }

    /// A name that this user chooses, if it may have it. `None` is an invalid one.
    pub(super) fn chosen_name(
        &self,
        name: Option<Arc<str>>,
        io: &ClientIo<'_>,
    ) -> Result<Arc<str>, ChatError> {
        if matches!(self.standing, Standing::SignedIn(_)) {
            return Err(ChatError::PermissionDenied);
        }
        let name = name.ok_or(ChatError::InvalidName)?;
        if io.context.reserved_names.contains(&name) { Err(ChatError::NameReserved) } else { Ok(name) }
    }

    /// Takes a new user to the first room.
    pub(super) fn enter(&mut self, io: &mut ClientIo<'_>) {
        self.register(io);
        self.membership = RoomMembership::Joining(RoomIndex::GENERAL);
        self.request_join(RoomIndex::GENERAL, None, io);
    }
}
