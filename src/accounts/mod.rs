//! Accounts: names, password hashes, and which of them are admins.
//!
//! They are kept in `accounts.db` under `--data`, which `uproar user` may change while the server runs: each sign-in
//! reads the file. Names are compared byte by byte; the caller normalises them.

mod attempts_in_flight;
mod command;
mod failed_attempts;
mod identity;
mod password;
mod rights;
mod store;
mod verifier;

pub use command::{CommandError, UserCommand, run};
pub use identity::Identity;
pub use password::{PASSWORD_BYTES_MAX, Password, PasswordError};
pub use rights::{Pattern, PublishRights, Rights};
pub use store::{Account, AccountError, Accounts};
pub(crate) use verifier::log_denial;
pub use verifier::{Attempt, Credentials, SignInResult, Verifier};
