//! The tokens with which chat users come back, and the key that signs them.
//!
//! A token names a user and nothing else. What is kept of the user is in [`crate::rooms::Users`].

mod key;
mod token;

pub use key::{SESSION_KEY_FILE, SessionKey, SessionKeyError};
pub use token::{SESSION_TOKEN_CHARS, SessionSigner};
