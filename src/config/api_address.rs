//! Where the HTTP API listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The prefix of a unix socket's address.
const UNIX_PREFIX: &str = "unix:";

/// The address of `--api-listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket at an absolute path.
    Unix(PathBuf),
}

impl FromStr for ApiAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            "allowed is an address and a port, such as 127.0.0.1:9090, or unix: and an absolute path";
        match text.strip_prefix(UNIX_PREFIX) {
            Some(path) if path.starts_with('/') && !path.contains('\0') => Ok(Self::Unix(path.into())),
            Some(_) => Err(invalid.into()),
            None => text.parse().map(Self::Tcp).map_err(|_| invalid.into()),
        }
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_or_absolute_paths() {
        for text in ["127.0.0.1:9090", "[::1]:0", "unix:/run/uproar/api.sock"] {
            assert_eq!(text.parse::<ApiAddress>().unwrap().to_string(), text);
        }
        for text in ["", "9090", "localhost:9090", "unix:", "unix:api.sock", "/run/api.sock", "127.0.0.1"] {
            assert!(text.parse::<ApiAddress>().is_err(), "{text}");
        }
    }
}
