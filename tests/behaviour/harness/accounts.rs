//! Accounts, as `uproar user` makes them.

use std::path::Path;

use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use tempfile::TempDir;

use super::run_with_input;
use super::server::data_directory;

/// A data directory with accounts. Removed when dropped.
pub(crate) struct AccountFile {
    directory: TempDir,
}

impl AccountFile {
    /// Everybody's password is "secret of" and the name.
    pub(crate) async fn of(users: &[&str], admins: &[&str]) -> Self {
        let accounts = Self { directory: data_directory() };
        for name in users {
            accounts.change(&["add", name], &password_of(name)).await;
        }
        for name in admins {
            accounts.change(&["add", name, "--admin"], &password_of(name)).await;
        }
        accounts
    }

    /// Gives an account a hash of its password that takes no time to compare with, for tests of many attempts.
    pub(crate) fn hash_cheaply(&self, name: &str) {
        let params = Params::new(Params::MIN_M_COST, Params::MIN_T_COST, 1, None).unwrap();
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash: PasswordHash = hasher.hash_password(password_of(name).as_bytes()).unwrap();
        self.set_hash(name, &hash.to_string());
    }

    /// Gives an account this hash, as a PHC string.
    pub(crate) fn set_hash(&self, name: &str, hash: &str) {
        let file = rusqlite::Connection::open(self.path().join("accounts.db")).unwrap();
        let changed = file.execute("UPDATE accounts SET password_hash = ?2 WHERE name = ?1", [name, hash]);
        assert_eq!(changed, Ok(1));
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs `uproar user`, with a line to read.
    pub(crate) async fn change(&self, arguments: &[&str], line: &str) {
        let mut all = vec!["user"];
        all.extend(arguments);
        all.extend(["--data", self.path().to_str().unwrap()]);
        let finished = run_with_input(&all, &format!("{line}\n")).await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
}

pub(crate) fn password_of(name: &str) -> String {
    format!("secret of {name}")
}
