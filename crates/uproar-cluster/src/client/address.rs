//! Where Redis is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use redis::io::tcp::TcpSettings;
use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// Where Redis is, and as whom to sign in.
///
/// - `redis://HOST:6379` or `rediss://HOST:6379` with TLS; `unix:///PATH`;
/// - `redis+sentinel://HOST:26379,HOST:26379/NAME`: the primary that Sentinels know by this name; `rediss+sentinel` for
///   TLS to Redis;
/// - `redis+cluster://HOST:6379,HOST:6379`: some servers of a Redis Cluster, which tell where each partition is;
///   `rediss+cluster` with TLS.
///
/// With TLS, the certificate of Redis must be one that the system trusts, and be for its host. Where it is from a
/// certification authority of your own, name that one's certificate, a PEM file:
/// `rediss://HOST:6379?ca=/etc/uproar/redis-ca.pem`. Then it alone is trusted. The path is taken as it stands. The file
/// is read at each connection.
///
/// A user and a password may stand before the host, as in `redis://uproar:secret@HOST`, percent-encoded where they have
/// characters that mean something in a URL; with Sentinel they are for Redis. Its text never has the password.
#[derive(Clone)]
pub struct RedisAddress {
    shown: String,
    pub(super) kind: Kind,
    /// The file with the certificates that are trusted; `None` for those that the system trusts.
    pub(super) ca: Option<PathBuf>,
    /// The whole text and another password, to compare.
    text: (String, Option<String>),
}

#[derive(Clone)]
pub(super) enum Kind {
    Direct(Box<ConnectionInfo>),
    Sentinel { sentinels: Vec<Host>, name: String, is_tls: bool, sign_in: SignIn },
    Cluster { servers: Vec<Host>, is_tls: bool, sign_in: SignIn },
}

/// A name or an address, and a port.
pub(super) type Host = (String, u16);

/// As whom to sign in.
#[derive(Clone, Default)]
pub(super) struct SignIn {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Why a text is no address of Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Of another kind.
    #[error(
        "not redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, redis+sentinel://HOST:PORT,…/NAME or \
         redis+cluster://HOST:PORT,…"
    )]
    Scheme,
    /// The rest is wrong.
    #[error("not a valid address of Redis: {0}")]
    Invalid(String),
    /// A certificate is given where there is no TLS.
    #[error("ca= is for TLS, so the address must begin with rediss")]
    CaWithoutTls,
    /// Something of Sentinel is missing.
    #[error(
        "the address of Sentinels is HOST:PORT,HOST:PORT/NAME, with the name by which they know the primary"
    )]
    Sentinel,
    /// Something of a Redis Cluster is missing.
    #[error("the address of a Redis Cluster is HOST:PORT,HOST:PORT, with some of its servers")]
    Cluster,
}

impl FromStr for RedisAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (sign_in, place) =
            rest.rsplit_once('@').map_or((None, rest), |(sign_in, place)| (Some(sign_in), place));
        let (text_for_redis, ca) = take_ca(text);
        if ca.is_some() && !scheme.starts_with("rediss") {
            return Err(AddressError::CaWithoutTls);
        }
        let place = place.split('?').next().unwrap_or_default();
        let kind = match scheme {
            "redis" | "rediss" | "unix" => {
                let info = text_for_redis.as_str().into_connection_info();
                let info = info.map_err(|error| AddressError::Invalid(error.to_string()))?;
                Kind::Direct(Box::new(with_settings(info)))
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let (hosts, name) = place.split_once('/').ok_or(AddressError::Sentinel)?;
                if name.is_empty() || name.contains('/') {
                    return Err(AddressError::Sentinel);
                }
                Kind::Sentinel {
                    sentinels: hosts_of(hosts, SENTINEL_PORT).ok_or(AddressError::Sentinel)?,
                    name: name.to_owned(),
                    is_tls: scheme.starts_with("rediss"),
                    sign_in: SignIn::of(sign_in)?,
                }
            }
            "redis+cluster" | "rediss+cluster" => Kind::Cluster {
                servers: hosts_of(place.trim_end_matches('/'), REDIS_PORT).ok_or(AddressError::Cluster)?,
                is_tls: scheme.starts_with("rediss"),
                sign_in: SignIn::of(sign_in)?,
            },
            _ => return Err(AddressError::Scheme),
        };
        Ok(Self { shown: without_password(text), kind, ca, text: (text.to_owned(), None) })
    }
}

/// The text of an address, valid or not, without user and password: to be shown to people.
#[must_use]
pub fn without_password(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    // A query can have a password, too.
    let place = match rest.rsplit_once('@') {
        // Whether that is a query or the password, either side may have a part of it.
        Some((before, _)) if before.contains('?') => "…",
        Some((_, place)) => place.split('?').next().unwrap_or_default(),
        None => rest.split('?').next().unwrap_or_default(),
    };
    if scheme.is_empty() { place.to_owned() } else { format!("{scheme}://{place}") }
}

/// Takes `ca=PATH` out of the query of an address.
fn take_ca(text: &str) -> (String, Option<PathBuf>) {
    let Some((address, query)) = text.split_once('?') else { return (text.to_owned(), None) };
    let (ca, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("ca="));
    let ca = ca.last().map(|pair| PathBuf::from(pair.trim_start_matches("ca=")));
    let rest = if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) };
    (rest, ca)
}

/// Ports where none is given.
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How this program talks to Redis, whatever its address.
pub(super) fn with_settings(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP2)
        // Redis 7.0 does not know it, and one with permissions would have to allow it.
        .set_skip_set_lib_name();
    let tcp = TcpSettings::default().set_nodelay(true);
    info.set_redis_settings(settings).set_tcp_settings(tcp)
}

/// `HOST:PORT,HOST:PORT`, with another port where none is given. `None` where that is something else.
fn hosts_of(text: &str, default_port: u16) -> Option<Vec<Host>> {
    text.split(',').map(|host| host_of(host, default_port)).collect()
}

/// `HOST:PORT`, in which an IPv6 address stands in brackets.
pub(super) fn host_of(text: &str, default_port: u16) -> Option<Host> {
    let has_port = text.rfind(':') > text.rfind(']');
    let (host, port) = match text.rsplit_once(':').filter(|_| has_port) {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl SignIn {
    /// `USER:PASSWORD`, of which either part may be empty.
    fn of(text: Option<&str>) -> Result<Self, AddressError> {
        let (user, password) = text.map_or(("", ""), |text| text.split_once(':').unwrap_or((text, "")));
        Ok(Self { user: decoded(user)?, password: decoded(password)? })
    }
}

/// A part of an address, in which characters may be percent-encoded; `None` for an empty one.
fn decoded(part: &str) -> Result<Option<String>, AddressError> {
    let decoded = percent_decode_str(part).decode_utf8();
    let decoded = decoded.map_err(|error| AddressError::Invalid(error.to_string()))?;
    Ok((!decoded.is_empty()).then(|| decoded.into_owned()))
}

impl RedisAddress {
    /// True when the text has a password, or another was given.
    #[must_use]
    pub fn has_password(&self) -> bool {
        match &self.kind {
            Kind::Direct(info) => info.redis_settings().password().is_some(),
            Kind::Sentinel { sign_in, .. } | Kind::Cluster { sign_in, .. } => sign_in.password.is_some(),
        }
    }

    /// The same with this password, in place of one in the text.
    #[must_use]
    pub fn with_password(mut self, new: &str) -> Self {
        match &mut self.kind {
            Kind::Direct(info) => {
                let settings = info.redis_settings().clone().set_password(new);
                **info = (**info).clone().set_redis_settings(settings);
            }
            Kind::Sentinel { sign_in, .. } | Kind::Cluster { sign_in, .. } => {
                sign_in.password = Some(new.to_owned());
            }
        }
        self.text.1 = Some(new.to_owned());
        self
    }

    /// True for a Redis Cluster, in which each partition has a primary of its own.
    pub(super) fn is_of_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster { .. })
    }
}

impl PartialEq for RedisAddress {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RedisAddress {}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_a_password() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("rediss://uproar:se%40cret@redis.example:6380/2", "rediss://redis.example:6380/2"),
            ("unix:///run/redis/redis.sock", "unix:///run/redis/redis.sock"),
            ("rediss://redis.example?ca=/etc/ca.pem&protocol=resp3", "rediss://redis.example"),
            ("unix:///run/redis/redis.sock?pass=secret", "unix:///run/redis/redis.sock"),
            ("redis+sentinel://:secret@a:26379,b,[::1]:3/main", "redis+sentinel://a:26379,b,[::1]:3/main"),
            ("rediss+cluster://uproar:secret@a,[::1],c:3?ca=/etc/ca.pem", "rediss+cluster://a,[::1],c:3"),
        ] {
            let address: RedisAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("secret"));
            assert_eq!(address.has_password(), text.contains("cret"), "{text}");
            assert!(address.with_password("other").has_password());
        }
    }

    #[test]
    fn a_user_and_a_password_for_the_redis_of_sentinels_are_decoded() {
        let address: RedisAddress = "redis+sentinel://upro%61r:s%40%2Fcret@a/main".parse().unwrap();
        let Kind::Sentinel { sign_in: SignIn { user, password }, .. } = address.kind else {
            panic!("not of Sentinels")
        };
        assert_eq!((user.as_deref(), password.as_deref()), (Some("uproar"), Some("s@/cret")));
        let error = "redis+sentinel://:%ff@a/main".parse::<RedisAddress>().unwrap_err();
        assert!(matches!(error, AddressError::Invalid(_)), "{error}");
    }

    #[test]
    fn a_host_may_have_a_port_and_brackets() {
        for (text, host) in [
            ("a", Some(("a", 1))),
            ("a:2", Some(("a", 2))),
            ("[::1]", Some(("::1", 1))),
            ("[::1]:2", Some(("::1", 2))),
            ("a:", None),
            ("a:b", None),
            (":2", None),
            ("", None),
        ] {
            assert_eq!(host_of(text, 1), host.map(|(name, port)| (name.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_shown_of_any_text_has_no_password() {
        for (text, shown) in [
            ("redis://user:se@cret@host:port", "redis://host:port"),
            ("user:secret@host", "host"),
            ("http://host?password=secret", "http://host"),
            ("redis://:se?cret@host", "redis://…"),
            ("unix:///socket?pass=sec@ret", "unix://…"),
            ("", ""),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        use AddressError::{CaWithoutTls, Cluster, Scheme, Sentinel};
        for (text, error) in [
            ("", Scheme),
            ("localhost:6379", Scheme),
            ("http://localhost", Scheme),
            ("redis+sentinel://a:1", Sentinel),
            ("redis+sentinel://a:1/", Sentinel),
            ("redis+sentinel://a:x/main", Sentinel),
            ("redis+sentinel://,b:1/main", Sentinel),
            ("redis+cluster://", Cluster),
            ("redis+cluster://a:1,,b:1", Cluster),
            ("redis+cluster://a:1/2", Cluster),
            ("redis+cluster://a:1?ca=/etc/ca.pem", CaWithoutTls),
            ("redis://localhost?ca=/etc/ca.pem", CaWithoutTls),
        ] {
            assert_eq!(text.parse::<RedisAddress>().unwrap_err(), error, "{text}");
        }
        let error = "redis://user:secret@host:notaport".parse::<RedisAddress>().unwrap_err();
        assert!(matches!(&error, AddressError::Invalid(text) if !text.contains("secret")), "{error}");
    }
}
