//! The deadlines of sessions: the time to sign in, and the end of tokens.
//!
//! A chat client is told when its token expires, and may renew it. The other dialects have no way to do so. Both are closed
//! after the grace time.

use super::client::Session;
use super::client_io::ClientIo;
use super::deadline::SessionDeadline;
use super::user::{Standing, User};
use crate::accounts::Rights;
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::dialect::chat::{self, Direct};
use crate::metrics::EndReason;

/// How long a connection stays after its token has expired: enough to get another one from the backend.
const GRACE_SECONDS: u64 = 30;

/// How long a client that has not been answered yet is left alone.
const PAUSE_MS: u64 = 100;

/// The end of rights.
fn end(rights: &Rights, now: Now) -> SessionDeadline {
    let Some(ends_at) = rights.expires_at else { return SessionDeadline::None };
    let left_ms = ends_at.saturating_sub(now.unix_seconds).saturating_mul(1_000);
    SessionDeadline::Token { due_ms: now.monotonic_ms.saturating_add(left_ms), ends_at }
}

/// The deadline of a connection that cannot renew its token.
pub(super) fn end_without_renewal(rights: &Rights, now: Now) -> SessionDeadline {
    end(rights, now).later(GRACE_SECONDS)
}

impl Session {
    /// Handles the deadline of a session.
    pub(super) fn handle_deadline(&mut self, io: &mut ClientIo<'_>) {
        match self {
            Self::User(user) => user.handle_deadline(io),
            Self::Raw { .. } | Self::Echo => close_expired(io),
        }
    }
}

impl User {
    /// Sets the deadline that follows from the user's standing.
    pub(super) fn set_deadline(&mut self, io: &mut ClientIo<'_>) {
        io.link.deadline = match &self.standing {
            Standing::MustSignIn { until_ms } if !self.awaits_sign_in => {
                SessionDeadline::SignIn { due_ms: *until_ms }
            }
            Standing::MustSignIn { .. } | Standing::Guest | Standing::Listener => SessionDeadline::None,
            Standing::SignedIn(identity) => match self.dialect {
                UserDialect::Chat => end(&identity.rights, io.now),
                UserDialect::Hub => end_without_renewal(&identity.rights, io.now),
            },
        };
    }

    /// As [`User::set_deadline`] for a user who has not signed in. An attempt does not put off the end of a token.
    pub(super) fn update_sign_in_deadline(&mut self, io: &mut ClientIo<'_>) {
        if matches!(self.standing, Standing::MustSignIn { .. }) {
            self.set_deadline(io);
        }
    }

    fn handle_deadline(&mut self, io: &mut ClientIo<'_>) {
        match self.standing {
            Standing::MustSignIn { .. } => {
                io.close(1008, "Authentication required", EndReason::Unauthenticated);
            }
            Standing::SignedIn(_) if self.dialect == UserDialect::Hub || self.has_expired => {
                close_expired(io)
            }
            // Nothing may come before the answer to the upgrade.
            Standing::SignedIn(_) if !io.link.is_greeted() => {
                io.link.deadline = SessionDeadline::Token {
                    due_ms: io.now.monotonic_ms.saturating_add(PAUSE_MS),
                    ends_at: io.now.unix_seconds.saturating_add(1),
                };
            }
            Standing::SignedIn(_) => {
                self.has_expired = true;
                let Now { monotonic_ms: due_ms, unix_seconds: ends_at, .. } = io.now;
                io.link.deadline = SessionDeadline::Token { due_ms, ends_at }.later(GRACE_SECONDS);
                let expired = Direct::TokenExpired { grace_seconds: GRACE_SECONDS };
                io.push(chat::direct(&expired, io.now));
            }
            Standing::Guest | Standing::Listener => io.link.deadline = SessionDeadline::None,
        }
    }
}

fn close_expired(io: &mut ClientIo<'_>) {
    io.close(1008, "token expired", EndReason::TokenExpired);
}
