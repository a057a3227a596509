//! The orders of admins, and what follows from them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::BanSubject;
use crate::log_text::shown;
use crate::rooms::UserId;

/// The author of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A user of the chat.
    User {
        /// Its id.
        user: UserId,
        /// Its name.
        name: Arc<str>,
        /// Its account.
        account: Option<Arc<str>>,
    },
    /// A backend, with the API key of this name.
    Backend {
        /// The key's name.
        key: Arc<str>,
    },
}

impl Admin {
    /// The admin as lists of bans name it: `account:boss`, `user:7` or `key:shop`.
    #[must_use]
    pub fn label(&self) -> Arc<str> {
        match self {
            Self::User { account: Some(account), .. } => format!("account:{account}").into(),
            Self::User { user, account: None, .. } => format!("user:{user}").into(),
            Self::Backend { key } => format!("key:{key}").into(),
        }
    }

    /// A user's name, for the log.
    #[must_use]
    pub fn shown_name(&self) -> Option<String> {
        match self {
            Self::User { name, .. } => Some(shown(name)),
            Self::Backend { .. } => None,
        }
    }

    /// A user's account, for the log.
    #[must_use]
    pub fn shown_account(&self) -> Option<String> {
        match self {
            Self::User { account, .. } => account.as_deref().map(shown),
            Self::Backend { .. } => None,
        }
    }
}

/// For the log: the id of a user, or the name of a key.
impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { user, .. } => user.fmt(f),
            Self::Backend { key } => write!(f, "key:{}", shown(key)),
        }
    }
}

/// What an admin does to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModerationAction {
    /// Disconnect the user.
    Kick {
        /// What the user is told; not empty.
        reason: Option<String>,
    },
    /// Forbid the user to send messages for a while.
    Mute {
        /// For how long.
        seconds: u32,
    },
    /// Allow it again.
    Unmute,
    /// Disconnect the user, and refuse its account, or else its address.
    Ban {
        /// For how long; 0 for good.
        seconds: u32,
        /// What the user is told; not empty.
        reason: Option<String>,
    },
    /// End the ban of an account, or a ban that is given by its id.
    Unban,
}

/// A ban of an account or an address, as an admin orders it.
#[expect(missing_docs, reason = "as in a moderation action")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBan {
    pub subject: BanSubject,
    /// The address whose network the subject is, as the admin has given it.
    pub address: Option<IpAddr>,
    pub seconds: u32,
    pub reason: Option<String>,
}

/// Why an order has no effect, with the text that the admin gets.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderRefusal {
    /// The target is unknown or offline.
    #[error("User not found or offline")]
    UserNotFound,
    /// There is no such ban.
    #[error("Unknown ban")]
    UnknownBan,
    /// There are as many bans as are kept.
    #[error("Too many bans")]
    TooManyBans,
    /// There are as many mutes as are kept.
    #[error("Too many mutes")]
    TooManyMutes,
    /// The address belongs to a trusted proxy. Banning it would ban every client whose address the proxy does not report.
    #[error("Address of a trusted proxy")]
    TrustedProxy,
    /// The log of the cluster is out of reach. Nothing happened.
    #[error("The order could not be stored")]
    NotStored,
    /// The log of the cluster has not answered in time. The order may have taken effect, or take effect later.
    #[error("Outcome unknown")]
    OutcomeUnknown,
}

/// What an order means for the connections of all shards, on all nodes of a cluster. The order of its variants and of their
/// fields stays: other versions read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModerationNotice {
    /// The connections of an account end.
    Kicked {
        /// The account.
        account: Arc<str>,
        /// What they are told.
        reason: Option<String>,
    },
    /// The connections of a banned account end. If an address was banned, those from there that have not signed in end.
    Banned {
        /// The account or the address.
        subject: BanSubject,
        /// What they are told.
        reason: Option<String>,
    },
    /// The users of an account are muted.
    AccountMuted {
        /// The account.
        account: Arc<str>,
        /// For how long, as they are told.
        seconds: u32,
        /// The last second of the mute, in Unix seconds.
        until: u64,
    },
    /// The users of an account are no longer muted.
    AccountUnmuted(Arc<str>),
    /// Users who came from this network are no longer muted for that.
    AddressUnmuted(IpAddr),
}
