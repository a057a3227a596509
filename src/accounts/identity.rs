//! Who a client has shown to be.

use std::sync::Arc;

use super::rights::Rights;

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
