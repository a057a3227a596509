//! The syntax of values.

use std::convert::Infallible;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use tracing::level_filters::LevelFilter;
use uproar_cluster::NodeName;
use uproar_cluster::client::without_password;

use crate::config::{AddressRange, AllowedHost, AllowedOrigin, SHARDS_MAX};

#[derive(Clone, Debug)]
pub(super) struct CoreList(pub(super) Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "allowed is cores and ranges of them, such as 0,2-3";
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let core = |text: &str| text.trim().parse().map_err(|_| ALLOWED.to_owned());
            let (first, last): (usize, usize) = (core(first)?, core(last)?);
            if first > last || last >= SHARDS_MAX {
                return Err(format!("{ALLOWED}, ascending and below {SHARDS_MAX}"));
            }
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

#[derive(Clone, Debug)]
pub(super) struct RoomList(pub(super) Vec<String>);

impl FromStr for RoomList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.split(',').map(|room| room.trim().to_owned()).collect()))
    }
}

/// Several values of one kind, with commas between them.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        text.split(',').map(|value| value.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

pub(super) type OriginList = List<AllowedOrigin>;
pub(super) type AddressList = List<AddressRange>;
pub(super) type HostList = List<AllowedHost>;
pub(super) type PatternList = List<String>;
pub(super) type FileList = List<PathBuf>;

/// The value of `--listen`: an address or a name, and a port.
#[derive(Clone, Debug)]
pub(super) struct ListenAddress(pub(super) String);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let is_of_names = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            // The last label of a name is never a number (RFC 1123, 2.1), so a mistyped address is not taken for a
            // name.
            let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            name.chars().all(is_of_names) && last.contains(|c: char| !c.is_ascii_digit())
        };
        let is_named = text.rsplit_once(':').is_some_and(|(name, port)| {
            is_name(name) && port.parse::<u16>().is_ok_and(|_| !port.starts_with('+'))
        });
        if is_named || text.parse::<SocketAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err("allowed is an address or a name, and a port, such as 127.0.0.1:8080, [::]:8080 or localhost:8080".into())
    }
}

impl ListenAddress {
    /// Resolves the name, if it is one.
    ///
    /// Of several addresses the first IPv4 address is taken: clients try all addresses of a name, and some have no
    /// IPv6.
    pub(super) fn resolve(&self) -> Result<SocketAddr, String> {
        let found =
            self.0.to_socket_addrs().map_err(|error| format!("the name cannot be resolved: {error}"))?;
        preferred(found).ok_or_else(|| "the name has no address".into())
    }
}

/// The address to listen on among those of a name.
pub(super) fn preferred(found: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    // `min_by_key` takes the first of several that are equal.
    found.min_by_key(SocketAddr::is_ipv6)
}

/// The value of `--redis`, which is read later: clap would show all of an invalid one, its password, too.
#[derive(Clone)]
pub(super) struct RedisUrl(pub(super) String);

impl FromStr for RedisUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

pub(super) fn node(text: &str) -> Result<NodeName, String> {
    text.parse().map_err(|_| "allowed is 1 to 64 letters, digits, dots, underscores and hyphens".into())
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "allowed is a whole number from 0 on".into())
}

/// A flag without a value, or with one where it is a variable or a key of the file.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "allowed is true or false".into())
}

pub(super) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("allowed is 1 to {SHARDS_MAX}"))
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let size: Option<ByteSize> = text.parse().ok();
    size.and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| "allowed is a size, such as 10KiB, 1MiB or 10240".into())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "allowed is a duration with its unit, such as 30s or 500ms".into())
}

pub(super) fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "off" | "error" | "warn" | "info" | "debug" | "trace" => text.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| "allowed is error, warn, info, debug, trace or off".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        for (text, bytes) in [("10KiB", 10 << 10), ("1 MiB", 1 << 20), ("4096", 4096), ("1kB", 1000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "10 apples"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("30").is_err());
    }

    #[test]
    fn core_lists_have_ranges() {
        let cores = |text: &str| text.parse::<CoreList>().map(|list| list.0);
        assert_eq!(cores("0,2-3"), Ok(vec![0, 2, 3]));
        assert_eq!(cores("5"), Ok(vec![5]));
        for text in ["", ",", "a", "1-", "-1", "2-1", "0-99999999"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }
}
