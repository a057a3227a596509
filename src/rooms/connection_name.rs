//! How the HTTP API names a connection.

use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use uproar_ring::ConnectionId;

use super::{ClientRef, ShardIndex};

/// A life of the server: a random number that tells its connections from those of an earlier life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance(u32);

impl Instance {
    /// A new life.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 4];
        // Fewer than 257 bytes come all at once, or none while the machine starts (getrandom(2)).
        while getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(bytes.len()) {}
        Self(u32::from_ne_bytes(bytes))
    }

    /// The name of a connection of this life.
    #[must_use]
    pub fn name(self, client: ClientRef) -> ConnectionName {
        ConnectionName { instance: self, client }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Instance {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text, 16).map(Self)
    }
}

/// The name of a connection: no other connection gets it, not even after a restart.
///
/// ```
/// use uproar::rooms::ConnectionName;
///
/// let name: ConnectionName = "00c0ffee-1-42-7".parse()?;
/// assert_eq!(name.client.connection.index, 42);
/// assert_eq!(name.to_string(), "00c0ffee-1-42-7");
/// # Ok::<(), uproar::rooms::NoConnectionName>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionName {
    /// The life of the server in which it was made.
    pub instance: Instance,
    /// The connection.
    pub client: ClientRef,
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, client: ClientRef { shard, connection } } = self;
        write!(f, "{instance}-{}-{}-{}", shard.0, connection.index, connection.generation)
    }
}

/// A text is no name of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a connection")]
pub struct NoConnectionName;

impl FromStr for ConnectionName {
    type Err = NoConnectionName;

    fn from_str(text: &str) -> Result<Self, NoConnectionName> {
        let parsed = || {
            let mut parts = text.split('-');
            let instance = parts.next()?.parse().ok()?;
            let shard = ShardIndex(parts.next()?.parse().ok()?);
            let index = parts.next()?.parse().ok()?;
            let generation = parts.next()?.parse().ok()?;
            let connection = ConnectionId { index, generation };
            Some(Self { instance, client: ClientRef { shard, connection } })
        };
        // A connection has one name: without signs and leading zeros.
        parsed().filter(|name| name.to_string() == text).ok_or(NoConnectionName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_one_name() {
        let others = [
            "",
            "-",
            "c0ffee-1-42-7",
            "00C0FFEE-1-42-7",
            "00c0ffee-01-42-7",
            "00c0ffee-1-+42-7",
            "00c0ffee-1-42",
            "00c0ffee-1-42-7-",
            "00c0ffee-1-42-4294967296",
            "00c0ffee-65536-42-7",
            "00c0ffee-1-42-7\n",
        ];
        for other in others {
            assert_eq!(other.parse::<ConnectionName>(), Err(NoConnectionName), "{other:?}");
        }
    }
}
