//! The file of accounts.
//!
//! Two accounts whose names look the same cannot be added. A file of an earlier version may have such accounts: they stay,
//! and opening the file logs what to do.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use thiserror::Error;
use tracing::warn;

use crate::log_text::shown;
use crate::name;
use crate::storage::{self, DatabaseError, Schema};

/// The file under `--data`.
const FILE: &str = "accounts.db";

const SCHEMA: Schema = Schema {
    // "Upac" in ASCII.
    application_id: 0x5570_6163,
    steps: &[
        "CREATE TABLE accounts (
             name TEXT NOT NULL PRIMARY KEY,
             password_hash TEXT NOT NULL,
             is_admin INTEGER NOT NULL CHECK (is_admin IN (0, 1))
         ) STRICT, WITHOUT ROWID",
        // NULL for accounts of the first version, until `Accounts::fill_keys`; then for those whose key is taken.
        "ALTER TABLE accounts ADD COLUMN name_key TEXT;
         CREATE UNIQUE INDEX accounts_by_key ON accounts (name_key)",
    ],
};

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name to sign in with.
    pub name: String,
    /// The hash of its password, as a PHC string.
    pub password_hash: String,
    /// True when it may kick, mute and ban users.
    pub is_admin: bool,
}

/// Why an operation on accounts failed.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum AccountError {
    /// The file cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// An account of that name exists.
    #[error("there is an account named {name} already; uproar user passwd changes its password")]
    Exists { name: String },
    /// An account of a name that looks the same exists.
    #[error(
        "there is an account named {existing} already, and {name} looks the same or differs only in case; choose \
         another name"
    )]
    Similar { name: String, existing: String },
    /// The name is that of the server itself.
    #[error("{name} is what the server calls itself; choose another name")]
    Reserved { name: String },
    /// No account has that name.
    #[error("there is no account named {name}; uproar user list shows all of them")]
    Absent { name: String },
}

/// The accounts in one data directory. Several processes may have them open.
#[derive(Debug)]
pub struct Accounts {
    connection: Connection,
    path: PathBuf,
}

impl Accounts {
    /// Opens the accounts in a directory, which must exist. Creates the file if there is none.
    ///
    /// # Errors
    ///
    /// When the file is damaged, newer than this program, another program's, or cannot be written.
    pub fn open(directory: &Path) -> Result<Self, AccountError> {
        let path = directory.join(FILE);
        let connection = storage::open(&path, &SCHEMA)?;
        let accounts = Self { connection, path };
        accounts.fill_keys().map_err(|error| accounts.failed(error))?;
        Ok(accounts)
    }

    /// Opens the accounts in a directory, if there are any yet; creates nothing.
    ///
    /// # Errors
    ///
    /// As for [`Accounts::open`], or when there is no such directory.
    pub fn open_existing(directory: &Path) -> Result<Option<Self>, AccountError> {
        let is_there = directory.join(FILE).try_exists().unwrap_or(true);
        // Without the directory, opening reports the error, and can create nothing.
        if directory.is_dir() && !is_there { Ok(None) } else { Self::open(directory).map(Some) }
    }

    /// Adds an account.
    ///
    /// # Errors
    ///
    /// As for [`Accounts::check_free`], or when the file cannot be written.
    pub fn add(&self, account: &Account) -> Result<(), AccountError> {
        let Account { name, password_hash, is_admin } = account;
        self.check_free(name)?;
        let sql = "INSERT INTO accounts (name, password_hash, is_admin, name_key) VALUES (?1, ?2, ?3, ?4)";
        match self.connection.execute(sql, params![name, password_hash, is_admin, name::key(name)]) {
            Ok(_) => Ok(()),
            // Another process has added it meanwhile.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                self.check_free(name).and(Err(self.failed(error)))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Checks whether an account of this name can be added.
    ///
    /// # Errors
    ///
    /// When there is one of that name or of one that looks the same, the name is reserved, or the file cannot be read.
    pub fn check_free(&self, name: &str) -> Result<(), AccountError> {
        let (key, name) = (name::key(name), name.to_owned());
        if name::is_system(&key) {
            return Err(AccountError::Reserved { name });
        }
        let sql = "SELECT name FROM accounts WHERE name = ?1 OR name_key = ?2 ORDER BY name <> ?1 LIMIT 1";
        let found = self.connection.query_row(sql, [&name, &key], |row| row.get::<_, String>(0));
        match found.optional().map_err(|error| self.failed(error))? {
            None => Ok(()),
            Some(existing) if existing == name => Err(AccountError::Exists { name }),
            Some(existing) => Err(AccountError::Similar { name, existing }),
        }
    }

    /// Removes an account.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the file cannot be written.
    pub fn remove(&self, name: &str) -> Result<(), AccountError> {
        self.change(name, "DELETE FROM accounts WHERE name = ?1", params![name])
    }

    /// Changes the password of an account.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the file cannot be written.
    pub fn set_password_hash(&self, name: &str, password_hash: &str) -> Result<(), AccountError> {
        let sql = "UPDATE accounts SET password_hash = ?2 WHERE name = ?1";
        self.change(name, sql, params![name, password_hash])
    }

    /// The account of that name, as it is in the file now.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Account>, AccountError> {
        self.connection
            .prepare_cached("SELECT name, password_hash, is_admin FROM accounts WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([name], account).optional())
            .map_err(|error| self.failed(error))
    }

    /// Makes an account an admin's, or an ordinary one.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the file cannot be written.
    pub fn set_admin(&self, name: &str, is_admin: bool) -> Result<(), AccountError> {
        let sql = "UPDATE accounts SET is_admin = ?2 WHERE name = ?1";
        self.change(name, sql, params![name, is_admin])
    }

    /// Changes whenever another process has written to the file (`PRAGMA data_version`).
    pub(super) fn data_version(&self) -> Result<i64, AccountError> {
        let version = self.connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        version.map_err(|error| self.failed(error))
    }

    /// All accounts, by name.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<Account>, AccountError> {
        self.connection
            .prepare("SELECT name, password_hash, is_admin FROM accounts ORDER BY name")
            .and_then(|mut statement| statement.query_map([], account)?.collect())
            .map_err(|error| self.failed(error))
    }

    /// Gives accounts of an earlier version their keys, and warns of each whose key is taken.
    fn fill_keys(&self) -> rusqlite::Result<()> {
        let sql = "SELECT name FROM accounts WHERE name_key IS NULL ORDER BY name";
        let names = self
            .connection
            .prepare(sql)?
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        if names.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.unchecked_transaction()?;
        for name in names {
            let key = name::key(&name);
            let sql = "UPDATE OR IGNORE accounts SET name_key = ?2 WHERE name = ?1";
            if transaction.execute(sql, [&name, &key])? > 0 {
                continue;
            }
            let sql = "SELECT name FROM accounts WHERE name_key = ?1";
            let other: Option<String> = transaction.query_row(sql, [&key], |row| row.get(0)).optional()?;
            if let Some(other) = other {
                warn!(
                    account = shown(&name),
                    other = shown(&other),
                    "two accounts have names that look the same; both can sign in, but users cannot tell them \
                     apart: remove one with uproar user remove, and add it with another name"
                );
            }
        }
        transaction.commit()
    }

    fn change(&self, name: &str, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), AccountError> {
        match self.connection.execute(sql, values) {
            Ok(0) => Err(AccountError::Absent { name: name.to_owned() }),
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: rusqlite::Error) -> AccountError {
        DatabaseError::new(&self.path, error).into()
    }
}

fn account(row: &rusqlite::Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account { name: row.get(0)?, password_hash: row.get(1)?, is_admin: row.get(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, is_admin: bool) -> Account {
        Account { name: name.to_owned(), password_hash: format!("hash of {name}"), is_admin }
    }

    #[test]
    fn what_one_process_changes_another_finds_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let server = Accounts::open(directory.path()).unwrap();
        let command = Accounts::open(directory.path()).unwrap();
        assert_eq!(server.list().unwrap(), []);
        command.add(&named("Ben", false)).unwrap();
        command.add(&named("Ann", true)).unwrap();
        assert_eq!(server.find("Ann").unwrap(), Some(named("Ann", true)));
        assert_eq!(server.find("ann").unwrap(), None);
        assert_eq!(server.list().unwrap(), [named("Ann", true), named("Ben", false)]);
        command.set_password_hash("Ann", "another").unwrap();
        assert_eq!(server.find("Ann").unwrap().unwrap().password_hash, "another");
        command.set_admin("Ann", false).unwrap();
        assert!(!server.find("Ann").unwrap().unwrap().is_admin);
        command.remove("Ann").unwrap();
        assert_eq!(server.find("Ann").unwrap(), None);
    }

    #[test]
    fn names_that_look_the_same_cannot_both_be_added() {
        let directory = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(directory.path()).unwrap();
        accounts.add(&named("Ann", false)).unwrap();
        for similar in ["ann", "Ａnn", "A\u{200b}nn"] {
            let said = accounts.add(&named(similar, true)).unwrap_err().to_string();
            assert!(said.contains("an account named Ann already, and "), "{said}");
        }
        let said = accounts.add(&named("sYstem", true)).unwrap_err().to_string();
        assert!(said.contains("choose another name"), "{said}");
        accounts.add(&named("\u{410}nn", false)).unwrap();
        assert_eq!(accounts.list().unwrap(), [named("Ann", false), named("\u{410}nn", false)]);
    }

    /// A file as the first version wrote it.
    fn first_version(directory: &Path, names: &[&str]) {
        const FIRST: Schema = Schema { steps: &[SCHEMA.steps[0]], ..SCHEMA };
        let connection = storage::open(&directory.join(FILE), &FIRST).unwrap();
        for name in names {
            let sql = "INSERT INTO accounts (name, password_hash, is_admin) VALUES (?1, 'hash of ' || ?1, 0)";
            connection.execute(sql, [name]).unwrap();
        }
    }

    #[test]
    fn a_file_of_the_first_version_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        first_version(directory.path(), &["Ann", "Ben", "ann"]);
        for _ in 0..2 {
            let accounts = Accounts::open(directory.path()).unwrap();
            assert_eq!(
                accounts.list().unwrap(),
                [named("Ann", false), named("Ben", false), named("ann", false)]
            );
            assert!(matches!(accounts.add(&named("BEN", false)), Err(AccountError::Similar { .. })));
            assert!(matches!(accounts.add(&named("ann", false)), Err(AccountError::Exists { .. })));
        }
        // The one that is left gets its key with the next opening.
        Accounts::open(directory.path()).unwrap().remove("Ann").unwrap();
        let accounts = Accounts::open(directory.path()).unwrap();
        assert!(matches!(accounts.add(&named("ANN", false)), Err(AccountError::Similar { .. })));
    }

    #[test]
    fn a_name_is_there_once_and_an_absent_one_is_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(directory.path()).unwrap();
        accounts.add(&named("Ann", false)).unwrap();
        let twice = accounts.add(&named("Ann", true)).unwrap_err().to_string();
        assert!(twice.starts_with("there is an account named Ann already"), "{twice}");
        assert_eq!(accounts.find("Ann").unwrap(), Some(named("Ann", false)));
        for absent in
            [accounts.remove("Ben"), accounts.set_password_hash("Ben", "x"), accounts.set_admin("Ben", true)]
        {
            let said = absent.unwrap_err().to_string();
            assert!(said.starts_with("there is no account named Ben"), "{said}");
        }
    }
}
