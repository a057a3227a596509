//! Who a client has shown to be.

use std::sync::Arc;

use super::rights::Rights;
use crate::name;

/// The most characters of a name that is made of an account.
const NAME_CHARACTERS_MAX: usize = 20;

/// The result of a successful sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account: the same for all connections of a person.
    pub account: Arc<str>,
    /// The display name that it gives.
    pub name: Arc<str>,
    /// True when it may moderate.
    pub is_admin: bool,
    /// What it may do.
    pub rights: Arc<Rights>,
}

impl Identity {
    /// The name that an account gives where there is no other one, if it can be shown.
    #[must_use]
    pub fn name_of(account: &str) -> Option<Arc<str>> {
        let cut: String = account.chars().take(NAME_CHARACTERS_MAX).collect();
        name::parse(&cut)
    }
}
