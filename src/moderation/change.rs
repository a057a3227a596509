//! A change of the bans and mutes, which an order decides on, and which takes effect at once, or once all nodes of a cluster
//! have it.

use std::net::IpAddr;

use super::terms::Term;
use super::{Ban, BanSubject, MuteSubject};

/// A mute of an account, a session or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MuteTerm {
    /// Its last second, in Unix seconds.
    pub until: u64,
    /// The network that was muted together with this session.
    pub network: Option<IpAddr>,
}

impl Term for MuteTerm {
    fn last_second(&self) -> Option<u64> {
        Some(self.until)
    }
}

/// What subjects have from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermsChange {
    /// Bans; `None` ends one. A new ban has no id yet: [`BanId::NONE`](super::BanId::NONE).
    pub bans: Vec<(BanSubject, Option<Ban>)>,
    /// Mutes; `None` ends one.
    pub mutes: Vec<(MuteSubject, Option<MuteTerm>)>,
}

impl TermsChange {
    pub(super) fn of_ban(subject: BanSubject, ban: Option<Ban>) -> Self {
        Self { bans: vec![(subject, ban)], mutes: Vec::new() }
    }

    pub(super) fn of_mutes(mutes: impl IntoIterator<Item = (MuteSubject, Option<MuteTerm>)>) -> Self {
        Self { bans: Vec::new(), mutes: mutes.into_iter().collect() }
    }
}
