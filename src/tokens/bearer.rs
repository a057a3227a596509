//! A token as a client shows it, unchecked.

use std::fmt;

/// A token that has not been checked. It may be a secret, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// Takes a token as it came.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Its text, to be checked.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}
