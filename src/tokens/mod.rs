//! Tokens: JWTs (RFC 7519) with which a backend says who a client is, and what it may do.
//!
//! The backend signs them; the server has keys to check them with, and no list of users. The crate jsonwebtoken checks
//! signatures; `claims` is what Uproar demands of the content. An [`Identity`](crate::accounts::Identity) comes out.
//!
//! [`TokenKeys`] reads the key files, at the start and on SIGHUP. Acceptors and shards have a [`TokenChecker`] each.
//! Nothing here prints a token or a part of one.

mod bearer;
mod claims;
mod command;
mod error;
mod jwk;
mod key;
mod key_set;

pub use bearer::BearerToken;
pub use command::{TokenCommand, TokenCommandError, run};
pub use error::{TokenError, TokenKeyError};
pub use key_set::{KeySet, TOKEN_BYTES_MAX, TokenChecker, TokenFiles, TokenKeys};

#[cfg(test)]
mod tests;
