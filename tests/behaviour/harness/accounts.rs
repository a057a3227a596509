//! Accounts, as `uproar user` makes them.

use std::path::Path;

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
