//! Accounts: names, password hashes, and which of them are admins.
//!
//! They are kept in `accounts.db` under `--data`, which `uproar user` may change while the server runs. The server follows
//! the file: sign-ins at once, sessions and reserved names within a second. A sign-in compares names byte by byte; two
//! accounts whose names look the same cannot be added.

mod attempts_in_flight;
mod command;
mod failed_attempts;
mod identity;
mod known;
mod password;
mod rights;
mod store;
mod verifier;

pub use command::{CommandError, UserCommand, run};
pub use identity::Identity;
pub use known::{AccountChange, AccountChangeKind, AccountsChange, KnownAccounts, ReservedNames};
pub use password::{PASSWORD_BYTES_MAX, Password, PasswordError};
pub use rights::{PublishRights, Rights};
pub use store::{Account, AccountError, Accounts};
pub(crate) use verifier::log_denial;
pub use verifier::{Attempt, Credentials, SignInResult, Verifier, VerifierReport};
