//! When a session must have signed in, or have shown a new token.

/// The next deadline of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionDeadline {
    /// There is none.
    None,
    /// Its user must have signed in.
    SignIn { due_ms: u64 },
    /// Its token expires, or the time to renew it ends.
    Token { due_ms: u64 },
}

impl SessionDeadline {
    /// The time; `u64::MAX` for never.
    ///
    /// Input that waits to be read may be the sign-in, so it puts that off. It does not put off the end of a token: a
    /// flood would keep its rights.
    pub(super) fn due_ms(self, is_input_waiting: impl FnOnce() -> bool) -> u64 {
        match self {
            Self::SignIn { .. } if is_input_waiting() => u64::MAX,
            Self::SignIn { due_ms } | Self::Token { due_ms } => due_ms,
            Self::None => u64::MAX,
        }
    }
}
