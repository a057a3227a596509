//! Accounts: who may sign in, by which password, and who of them is an admin.
//!
//! They are kept in `accounts.db` under `--data`, which `uproar user` changes while the server runs: each
//! sign-in reads the file, so a change counts from the next one on. Names are the caller's business; here
//! they are compared byte by byte.

mod attempts_in_flight;
mod command;
mod failed_attempts;
mod password;
mod store;
mod verifier;

pub use command::{CommandError, UserCommand, run};
pub use password::{PASSWORD_BYTES_MAX, Password, PasswordError};
pub use store::{Account, AccountError, Accounts};
pub(crate) use verifier::log_denial;
pub use verifier::{Attempt, Credentials, SignInResult, Verifier};
