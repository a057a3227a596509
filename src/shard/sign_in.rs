//! Signing in: what a user says it is, what the verifier of passwords says to that, and what follows.

use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::Shard;
use super::user::{RoomMembership, Standing};
use crate::accounts::{Attempt, Credentials, SignInResult};
use crate::clock::Now;
use crate::dialect::Refusal;
use crate::dialect::chat::{self, Direct};
use crate::metrics::{EndReason, SignInOutcome};
use crate::rooms::{Origin, Request, RoomIndex};

impl Shard {
    /// The next attempt to sign in that is to be verified. The verdict comes back as a
    /// [`crate::mail::Delivery::PasswordChecked`].
    #[must_use]
    pub fn poll_attempt(&mut self) -> Option<Attempt<Origin>> {
        self.attempts.pop_front()
    }

    /// Has a user's name and password verified. What it says meanwhile waits, and nobody else does.
    pub(super) fn sign_in(&mut self, id: ConnectionId, credentials: Credentials) {
        let ticket = self.origin(id);
        let Some(user) = self.clients.user(id) else { return };
        user.awaits_verdict = true;
        let address = self.clients.at(id.index).peer.ip();
        self.attempts.push_back(Attempt { ticket, address, credentials });
    }

    /// Does what the verdict on a user's attempt leads to.
    pub(super) fn handle_verdict(&mut self, id: ConnectionId, verdict: SignInResult, now: Now) {
        let is_open = self.clients.get_mut(id).is_some_and(|client| client.connection.is_open());
        let Some(user) = self.clients.user(id) else { return };
        user.awaits_verdict = false;
        // Of those who are about to be closed nobody enters a room any more.
        if !is_open || self.is_hushed {
            return;
        }
        let outcome = match verdict {
            SignInResult::Granted { name, is_admin } => {
                self.grant(id, name, is_admin, now);
                SignInOutcome::Granted
            }
            SignInResult::Denied => {
                self.close(id, 1008, "Authentication failed", EndReason::Unauthenticated, now);
                SignInOutcome::Denied
            }
            SignInResult::Unavailable => {
                self.refuse(id, &Refusal::SignInUnavailable, now);
                // Its time to sign in goes on.
                self.schedule(id);
                SignInOutcome::Unavailable
            }
        };
        self.metrics.sign_ins.with(outcome).add(1);
        self.list_readable(id);
    }

    /// Makes a user the one that it has proved to be.
    fn grant(&mut self, id: ConnectionId, new_name: Arc<str>, is_admin: bool, now: Now) {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return };
        user.standing = Standing::SignedIn { is_admin };
        user.name = Arc::clone(&new_name);
        let success = chat::direct(&Direct::AuthSuccess { name: &new_name, is_admin }, now);
        if let RoomMembership::In { room, .. } = user.membership {
            let user = user.registered_id();
            self.request(self.directory.home(room), Request::Rename { room, user, new_name, origin });
        } else {
            self.enter(id);
        }
        // The home hears of it first: the answer may overflow the queue, and then a leave follows.
        self.push(id, success, now);
    }

    /// Takes a newcomer to the first room.
    pub(super) fn enter(&mut self, id: ConnectionId) {
        self.register(id);
        let Some(user) = self.clients.user(id) else { return };
        user.membership = RoomMembership::Joining(RoomIndex::GENERAL);
        self.request_join(id, RoomIndex::GENERAL, None);
    }
}
