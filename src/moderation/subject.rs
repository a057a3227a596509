//! Who is banned or muted: the keys of bans and mutes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address;
use crate::log_text::shown;
use crate::rooms::UserId;

/// The longest account, in characters: as long as the `sub` of a token may be.
const ACCOUNT_CHARACTERS_MAX: usize = 128;

/// An account or an address that can be banned. Their order is that of `get_bans`: accounts by their bytes, then
/// addresses by number, those of IPv4 first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BanSubject {
    /// An account, or the `sub` of a token. It need not exist.
    Account(Arc<str>),
    /// An address of IPv4, or the first address of a /64 of IPv6. See [`address::network`].
    Address(IpAddr),
}

impl BanSubject {
    /// An account of 1 to 128 characters.
    #[must_use]
    pub fn account(name: &str) -> Option<Self> {
        let is_valid = !name.is_empty() && name.chars().nth(ACCOUNT_CHARACTERS_MAX).is_none();
        is_valid.then(|| Self::Account(name.into()))
    }

    /// The network of a client's address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(address::network(address))
    }

    /// An address as text, in any notation of IPv4 or IPv6, without port, prefix length or zone.
    #[must_use]
    pub fn parse_address(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::address)
    }
}

impl fmt::Display for BanSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) => f.write_str(&shown(account)),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// An account, a session or an address that can be muted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MuteSubject {
    /// An account, or the `sub` of a token.
    Account(Arc<str>),
    /// A session: its user id stays the same when it is resumed.
    Session(UserId),
    /// Clients that come from this network without signing in. See [`address::network`].
    Address(IpAddr),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_banned_by_its_network_in_any_notation() {
        for (text, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:c000:201", "192.0.2.1"),
            ("2001:db8:0:1:ffff::7", "2001:db8:0:1::"),
            ("2001:DB8:0:1::", "2001:db8:0:1::"),
        ] {
            let network = network.parse().unwrap();
            assert_eq!(BanSubject::parse_address(text), Some(BanSubject::Address(network)), "{text}");
        }
        for text in [
            "",
            " ",
            "192.0.2.1 ",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "[2001:db8::1]:80",
            "fe80::1%eth0",
            "2001:db8::/64",
            "10.0.0.0/8",
            "192.0.2",
            "192.0.2.256",
            "010.0.0.1",
            "localhost",
            "1",
        ] {
            assert_eq!(BanSubject::parse_address(text), None, "{text}");
        }
    }

    #[test]
    fn an_account_is_any_text_that_a_token_can_name() {
        for name in ["ann", " ann ", "Zoë\u{202e}\0", "👨\u{200d}👩\u{200d}👧", &"é".repeat(128)] {
            assert_eq!(BanSubject::account(name), Some(BanSubject::Account(name.into())), "{name:?}");
        }
        assert_eq!(BanSubject::account(""), None);
        assert_eq!(BanSubject::account(&"é".repeat(129)), None);
    }
}
