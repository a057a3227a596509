//! The accounts as they were last read from the file, and what others have changed in it since.
//!
//! Sign-ins are checked against what was read, and changes are reported in the same order. So a session that began with an
//! old password is always older than the report of the new one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Account, AccountError, Accounts};
use crate::name;

/// All accounts of a file: some 250 bytes each.
#[derive(Debug)]
pub struct KnownAccounts {
    file: Accounts,
    /// The version of the file that was read.
    version: i64,
    by_name: HashMap<Arc<str>, Account>,
    reserved: Arc<ReservedNames>,
}

/// Names that only the server and signed-in users may have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReservedNames(HashSet<Box<str>>);

/// What has changed in the file of accounts.
#[derive(Debug)]
pub struct AccountsChange {
    /// The names that are reserved now.
    pub reserved: Arc<ReservedNames>,
    /// The changes that concern users who are signed in.
    pub changed: Vec<AccountChange>,
}

/// A change of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountChange {
    /// Its name.
    pub account: Arc<str>,
    /// The change.
    pub kind: AccountChangeKind,
}

/// How an account was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChangeKind {
    /// It was removed.
    Removed,
    /// It has another password, and perhaps another role.
    PasswordChanged,
    /// It has become an admin's, or is no longer one.
    RoleChanged {
        /// True when it may moderate from now on.
        is_admin: bool,
    },
}

impl KnownAccounts {
    /// Reads the accounts.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn read(file: Accounts) -> Result<Self, AccountError> {
        let version = file.data_version()?;
        let by_name = by_name(file.list()?);
        let reserved = Arc::new(ReservedNames::of(by_name.keys()));
        Ok(Self { file, version, by_name, reserved })
    }

    /// True when there are no accounts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The names that are reserved.
    #[must_use]
    pub fn reserved(&self) -> &Arc<ReservedNames> {
        &self.reserved
    }

    /// The account of that name.
    pub(super) fn find(&self, name: &str) -> Option<&Account> {
        self.by_name.get(name)
    }

    /// Reads the file again if another process has written to it, and returns what has changed.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; the next call tries again.
    pub(super) fn refresh(&mut self) -> Result<Option<AccountsChange>, AccountError> {
        let version = self.file.data_version()?;
        if version == self.version {
            return Ok(None);
        }
        let new = by_name(self.file.list()?);
        self.version = version;
        let old = std::mem::replace(&mut self.by_name, new);
        if old == self.by_name {
            return Ok(None);
        }
        let mut changed: Vec<_> = old.iter().filter_map(|(name, old)| self.change_of(name, old)).collect();
        changed.sort_by(|one, other| one.account.cmp(&other.account));
        self.reserved = Arc::new(ReservedNames::of(self.by_name.keys()));
        Ok(Some(AccountsChange { reserved: Arc::clone(&self.reserved), changed }))
    }

    fn change_of(&self, name: &Arc<str>, old: &Account) -> Option<AccountChange> {
        let kind = match self.by_name.get(name) {
            None => AccountChangeKind::Removed,
            Some(new) if new.password_hash != old.password_hash => AccountChangeKind::PasswordChanged,
            Some(new) if new.is_admin != old.is_admin => {
                AccountChangeKind::RoleChanged { is_admin: new.is_admin }
            }
            Some(_) => return None,
        };
        Some(AccountChange { account: Arc::clone(name), kind })
    }
}

fn by_name(accounts: Vec<Account>) -> HashMap<Arc<str>, Account> {
    accounts.into_iter().map(|account| (Arc::from(&*account.name), account)).collect()
}

impl ReservedNames {
    fn of<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        Self(names.into_iter().map(|name| name::key(name).into()).collect())
    }

    /// True for the [key](name::key) of `System`, of the name of an account, or of one that looks the same.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        name::is_system(key) || self.0.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account { name: name.into(), password_hash: "hash".into(), is_admin: false }
    }

    #[test]
    fn each_change_of_another_process_is_reported_once() {
        let directory = tempfile::tempdir().unwrap();
        let beside = Accounts::open(directory.path()).unwrap();
        for name in ["Ann", "Ben", "Cem", "Dora"] {
            beside.add(&account(name)).unwrap();
        }
        let mut known = KnownAccounts::read(Accounts::open(directory.path()).unwrap()).unwrap();
        assert!(known.refresh().unwrap().is_none());
        beside.remove("Ann").unwrap();
        beside.set_password_hash("Ben", "other").unwrap();
        beside.set_admin("Ben", true).unwrap();
        beside.set_admin("Cem", true).unwrap();
        beside.add(&account("Eva")).unwrap();
        let AccountsChange { reserved, changed } = known.refresh().unwrap().unwrap();
        let expected = [
            ("Ann", AccountChangeKind::Removed),
            ("Ben", AccountChangeKind::PasswordChanged),
            ("Cem", AccountChangeKind::RoleChanged { is_admin: true }),
        ];
        assert_eq!(changed, expected.map(|(name, kind)| AccountChange { account: name.into(), kind }));
        assert!(reserved.contains_key("eva") && !reserved.contains_key("ann"));
        assert!(known.find("Ann").is_none() && known.find("Eva").is_some());
        assert!(known.refresh().unwrap().is_none());
    }

    #[test]
    fn names_that_look_like_those_of_accounts_are_reserved() {
        let reserved = ReservedNames::of(&[Arc::from("Zoë")]);
        for name in ["Zoë", "ZOE\u{308}", "zo\u{200b}ë", "System", "ｓystem"] {
            assert!(reserved.contains_key(&name::key(name)), "{name}");
        }
        assert!(!reserved.contains_key("zoe") && ReservedNames::default().contains_key("system"));
    }
}
