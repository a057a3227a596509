//! When a session must have signed in, or have shown a new token.

/// The next deadline of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionDeadline {
    /// There is none.
    None,
    /// Its user must have signed in.
    SignIn { due_ms: u64 },
    /// Its token expires, or the time to renew it ends: on the shard's clock, and in Unix seconds.
    ///
    /// The shard's clock stops while the server cannot run. The token's time does not.
    Token { due_ms: u64, ends_at: u64 },
}

impl SessionDeadline {
    /// The time; `u64::MAX` for never.
    ///
    /// Input that waits to be read may be the sign-in, so it puts that off. It does not put off the end of a token: a
    /// flood would keep its rights.
    pub(super) fn due_ms(self, is_input_waiting: impl FnOnce() -> bool) -> u64 {
        match self {
            Self::SignIn { .. } if is_input_waiting() => u64::MAX,
            Self::SignIn { due_ms } | Self::Token { due_ms, .. } => due_ms,
            Self::None => u64::MAX,
        }
    }

    /// True when the time of a token has ended, whatever the shard's clock says.
    #[inline]
    pub(super) fn is_over(self, unix_seconds: u64) -> bool {
        matches!(self, Self::Token { ends_at, .. } if ends_at <= unix_seconds)
    }

    /// The deadline of a token, so many seconds later.
    pub(super) fn later(self, seconds: u64) -> Self {
        match self {
            Self::Token { due_ms, ends_at } => Self::Token {
                due_ms: due_ms.saturating_add(seconds.saturating_mul(1_000)),
                ends_at: ends_at.saturating_add(seconds),
            },
            Self::None | Self::SignIn { .. } => self,
        }
    }
}
