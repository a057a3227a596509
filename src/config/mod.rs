//! The configuration: typed, with its defaults and its limits, and nothing about where it came from.
//!
//! Flags, environment and file become a [`Config`] in `cli`; everything else takes the parts of it that it needs.
//!
//! - `validation` is the one place that knows what values are allowed, so a limit that another module relies on (the
//!   largest message fits the send queue, say) is stated there and nowhere else;
//! - `placement` says on which cores shards run.

mod api_address;
mod cluster;
mod placement;
mod validation;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use uproar_protocol::head::HEAD_BYTES_MAX;
use uproar_ring::Features;

pub use crate::address::AddressRange;
pub use crate::handshake::endpoint::Dialects;
pub use crate::handshake::origin::{AllowedHost, AllowedOrigin};
use crate::metrics::Dialect;
pub use api_address::ApiAddress;
pub use cluster::Cluster;
pub use placement::{Placement, SHARDS_MAX, allowed_cores, pin};
pub use validation::{ConfigError, ConflictingSetting};

/// The room that every client joins first.
pub const FIRST_ROOM: &str = "general";
/// The most characters (Unicode scalar values) in a room's name.
pub const ROOM_CHARS_MAX: usize = 64;

/// The most clients that one process admits.
///
/// As many descriptors as `fs.nr_open` allows a process, unless it was raised.
pub const CLIENTS_MAX: usize = 1 << 20;

/// The longest `busy_poll`. Beyond it, waking a thread up costs little compared with the wait.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

/// The most acceptors: as many as shards, which is more than any machine needs.
pub const ACCEPTORS_MAX: usize = SHARDS_MAX;

/// The shards that one acceptor serves by default: a handshake happens once for each connection, and is a small part
/// of its cost unless connections are short.
const SHARDS_AN_ACCEPTOR: usize = 8;

/// The most files in `token_keys`: each may have to be tried, and a rotation needs two.
pub const TOKEN_KEYS_MAX: usize = 16;

/// The most partitions of a cluster: each has two connections and a canary a second.
pub const PARTITIONS_MAX: u16 = 64;

/// The least that Redis keeps of a log: what nodes bring back to it after a failover.
pub const LOG_BYTES_MIN: u64 = 16 << 20;

/// Everything that can be configured.
///
/// [`Config::default`] has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address to listen on. Default `127.0.0.1:8080`, which other machines cannot reach. With port 0 the kernel
    /// chooses one.
    pub listen: SocketAddr,
    /// How many shards there are, and on which cores. Default: one on each core that the process may use.
    pub placement: Placement,
    /// How many threads accept connections and shake hands; 1 to [`ACCEPTORS_MAX`].
    ///
    /// Default `None`: one for every eight shards, and at least one. See [`Config::acceptor_count`].
    pub acceptors: Option<NonZeroUsize>,
    /// The cores on which acceptors run. Default `None`: those that unpinned shards leave free, or else those of the
    /// shards.
    pub acceptor_cores: Option<Vec<usize>>,
    /// How long a shard polls before its thread sleeps; at most [`BUSY_POLL_MAX`]. It saves the time to wake the
    /// thread, and uses the core while there is nothing to do.
    ///
    /// Default zero: the thread sleeps at once, and an idle server uses no CPU time.
    pub busy_poll: Duration,
    /// Features of io_uring that shards use where the kernel has them. Default: all.
    pub ring_features: Features,
    /// The most upgraded connections at a time, over all shards; 1 to [`CLIENTS_MAX`].
    ///
    /// Default `None`: as many as the descriptor limit has room for, which `preflight` works out.
    pub max_clients: Option<usize>,
    /// The most upgraded connections of an address at a time, over all shards; 0 is no limit. It also lifts the limit
    /// on connections that are not yet upgraded.
    ///
    /// Default `None`: a quarter of `max_clients`, but at least 64 and at most 1,000, which neither a household nor an
    /// office reaches. IPv6 addresses count by /64.
    pub max_clients_per_address: Option<usize>,
    /// The most upgrades of an address in a second; 0 is no limit. Default 200: an office whose clients all lost
    /// their connections is back within seconds.
    pub connect_rate_per_address: usize,
    /// The addresses that have no limits, for example machines that measure. Default: loopback.
    pub no_limit_for: Vec<AddressRange>,
    /// The addresses of proxies that tell the addresses of clients. They have no limits, and their clients have.
    /// Default: none.
    pub trusted_proxies: Vec<AddressRange>,
    /// Whether these proxies begin each connection with a header of the PROXY protocol. Default false.
    pub proxy_protocol: bool,
    /// The dialects that are spoken. Default: all.
    pub dialects: Dialects,
    /// The longest message in bytes that chat accepts; a longer one is answered with an error.
    /// Default 10 KiB: a long paragraph, which a room of thousands can still be sent.
    pub max_message_bytes: usize,
    /// The longest message in bytes that any dialect accepts; a longer one ends the connection (1009).
    /// Default 64 KiB. At least `max_message_bytes`.
    pub max_frame_bytes: usize,
    /// The longest request head in bytes. Default 16 KiB: cookies of single sign-on fit.
    pub max_head_bytes: usize,
    /// The most bytes that wait to be sent to one connection; beyond that it is evicted as slow. They are the
    /// messages, and for each of them [`SharedBytes::OVERHEAD_BYTES`](uproar_ring::SharedBytes::OVERHEAD_BYTES) that
    /// the server keeps beside it. Default 1 MiB: some seconds of a busy room. At least `max_frame_bytes`, so that
    /// the largest message fits.
    pub send_queue_bytes: usize,
    /// How long a connection is silent before it is pinged. Default 30 s: below the minute after which
    /// common proxies and address translators forget a connection.
    pub ping_interval: Duration,
    /// How long a connection may be silent before it is closed. Default 120 s: a ping and its answer have
    /// a minute and a half. Longer than `ping_interval`.
    pub idle_timeout: Duration,
    /// How long TLS and a request head may take, and with [`Auth::Required`] how long signing in may take. Default 10
    /// s.
    pub handshake_timeout: Duration,
    /// How long after the end of a chat connection its user may come back with the session; 0 switches sessions off.
    /// Default 2 minutes: a change of networks, a reloaded page, or a restart of the server.
    pub session_timeout: Duration,
    /// How long a shutdown may take. Default 10 s: within the grace that common supervisors give.
    pub drain_timeout: Duration,
    /// The rooms that are always there. Default general, random, gaming. [`FIRST_ROOM`] is among them.
    pub rooms: Vec<String>,
    /// Patterns of the names of rooms that clients may create by joining them: see [`pattern`](crate::pattern). Default:
    /// none.
    pub room_patterns: Vec<String>,
    /// The most rooms that clients have created at a time; then the one that has been empty longest makes place.
    /// Default 100,000: 100 to 200 MB, beside their messages.
    pub rooms_max: usize,
    /// How long a room that a client has created is kept after its last member has left. Default 10 minutes: who lost
    /// its connection finds the room again, with its history.
    pub room_ttl: Duration,
    /// Of how many rooms that clients have created, and that are forgotten, the messages stay in `data`; beyond that, those
    /// of the room that was forgotten longest ago are deleted. Default 100,000: as many as `rooms_max`.
    pub rooms_kept: usize,
    /// The directory for history and accounts. Default `None`: everything is in memory.
    pub data: Option<PathBuf>,
    /// The place of the server among others that share its rooms. Default `None`: it is alone. Not with `data`.
    pub cluster: Option<Cluster>,
    /// Whether users must sign in. Default [`Auth::Off`].
    pub auth: Auth,
    /// What clients without an account and a token may do. Default `None`: with [`Auth::Off`] everything, with
    /// [`Auth::Required`] nothing.
    pub anonymous: Option<Anonymous>,
    /// Files with the keys of tokens; at most [`TOKEN_KEYS_MAX`]. Default: none. See [`tokens`](crate::tokens).
    pub token_keys: Vec<PathBuf>,
    /// A file with a JWK set of such keys. Default `None`.
    pub token_jwks: Option<PathBuf>,
    /// The issuer that tokens must have. Default `None`: any. Only with keys.
    pub token_issuer: Option<String>,
    /// The audience that tokens must be for. Default `None`: any. Only with keys.
    pub token_audience: Option<String>,
    /// How many messages a room keeps for new members. Default 100. 0 keeps none.
    pub history: usize,
    /// How joins and leaves are announced. Default [`Presence::Auto`].
    pub presence: Presence,
    /// The members above which [`Presence::Auto`] announces in batches. Default 500: one join then costs
    /// at most 500 deliveries.
    pub presence_limit: usize,
    /// The messages that a connection may send in a second; 0 is no limit. Default 50.
    pub rate: u32,
    /// The messages that a connection may send without a delay after a pause. Default 100: two seconds of `rate`.
    /// At least 1 where there is a rate.
    pub burst: u32,
    /// The messages that a raw connection may send in a second, with bursts of twice as many; 0, the default, is no
    /// limit.
    pub topic_rate: u32,
    /// The most raw topics at a time. Default 100,000, some 20 MB of memory. The names are kept twice, so that the
    /// longest, of 1,024 bytes each, take 200 MB more.
    pub topics_max: usize,
    /// The origins from which a browser may connect, beside the server's own. Default: none.
    pub allow_origins: Vec<AllowedOrigin>,
    /// Names other than loopback by which a server that listens on loopback may be called by browsers. Default: none.
    pub allow_hosts: Vec<AllowedHost>,
    /// The server's certificate in PEM form, followed by the certificates of its issuers. Default
    /// `None`: no TLS. Only together with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM form. Default `None`.
    pub tls_key: Option<PathBuf>,
    /// Where the HTTP API for backends is served. Default `None`: nowhere.
    pub api_listen: Option<ApiAddress>,
    /// The file with the keys of the HTTP API; needed over TCP. Default `None`.
    pub api_key_file: Option<PathBuf>,
    /// Whether the HTTP API is served over TLS, with the certificate of `tls_cert`. Default false.
    pub api_tls: bool,
    /// Where the metrics are served. Default [`MetricsPlace::Api`].
    pub metrics: MetricsPlace,
    /// The format of the log. Default [`LogFormat::Text`].
    pub log_format: LogFormat,
    /// Whether each connection and each request of the HTTP API has a line in the log. Default false.
    pub log_access: bool,
    /// The least severe level that is logged. Default `INFO`.
    pub log_level: LevelFilter,
}

impl Default for Config {
    /// The defaults. The placement depends on the process: it has a shard for each core of its affinity
    /// mask.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            placement: Placement::every_core(),
            acceptors: None,
            acceptor_cores: None,
            busy_poll: Duration::ZERO,
            ring_features: Features::ALL,
            max_clients: None,
            max_clients_per_address: None,
            connect_rate_per_address: 200,
            no_limit_for: AddressRange::LOOPBACK.to_vec(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            dialects: Dialects::ALL,
            max_message_bytes: 10 << 10,
            max_frame_bytes: 64 << 10,
            max_head_bytes: HEAD_BYTES_MAX,
            send_queue_bytes: 1 << 20,
            ping_interval: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
            rooms: [FIRST_ROOM, "random", "gaming"].map(String::from).to_vec(),
            room_patterns: Vec::new(),
            rooms_max: 100_000,
            room_ttl: Duration::from_secs(10 * 60),
            rooms_kept: 100_000,
            data: None,
            cluster: None,
            auth: Auth::Off,
            anonymous: None,
            token_keys: Vec::new(),
            token_jwks: None,
            token_issuer: None,
            token_audience: None,
            history: 100,
            presence: Presence::Auto,
            presence_limit: 500,
            rate: 50,
            burst: 100,
            topic_rate: 0,
            topics_max: 100_000,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            tls_cert: None,
            tls_key: None,
            api_listen: None,
            api_key_file: None,
            api_tls: false,
            metrics: MetricsPlace::Api,
            log_format: LogFormat::Text,
            log_access: false,
            log_level: LevelFilter::INFO,
        }
    }
}

impl Config {
    /// How many acceptors there are.
    #[must_use]
    pub fn acceptor_count(&self) -> usize {
        let default = (self.placement.shards() / SHARDS_AN_ACCEPTOR).max(1);
        self.acceptors.map_or(default, NonZeroUsize::get)
    }

    /// True where clients can do nothing before they have signed in.
    #[must_use]
    pub fn requires_sign_in(&self) -> bool {
        self.auth == Auth::Required && self.anonymous.is_none()
    }

    /// True where `/metrics` is served on the clients' port.
    #[must_use]
    pub fn has_public_metrics(&self) -> bool {
        self.api_listen.is_none() || self.metrics == MetricsPlace::Public
    }

    /// True where tokens are looked at.
    #[must_use]
    pub fn has_token_keys(&self) -> bool {
        !self.token_keys.is_empty() || self.token_jwks.is_some()
    }

    /// The dialects in which anyone who reaches the server may send messages without signing in, if others than
    /// programs on this machine may reach it: directly, or through a proxy.
    #[must_use]
    pub fn open_dialects(&self) -> Vec<Dialect> {
        if self.auth == Auth::Required
            || self.anonymous.is_some()
            || (self.listens_on_loopback() && self.trusted_proxies.is_empty())
        {
            return Vec::new();
        }
        let open = [Dialect::Hub, Dialect::Raw, Dialect::Echo].into_iter();
        open.filter(|dialect| self.dialects.contains(*dialect)).collect()
    }

    /// True where only programs on this machine can connect, a proxy perhaps among them.
    #[must_use]
    pub fn listens_on_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// True where clients have a way to sign in: with a token, or in chat with an account.
    #[must_use]
    pub fn has_sign_in(&self) -> bool {
        self.has_token_keys() || (self.data.is_some() && self.dialects.contains(Dialect::Chat))
    }

    /// True where acceptors have to share cores with shards.
    #[must_use]
    pub fn acceptors_share_cores(&self) -> bool {
        match (&self.acceptor_cores, &self.placement) {
            (Some(cores), Placement::Pinned(taken)) => cores.iter().any(|core| taken.contains(core)),
            // Unpinned shards may be on any core.
            (Some(_), Placement::Unpinned(_)) => true,
            (None, placement) => !placement.has_spare_cores(),
        }
    }
}

/// How joins and leaves are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Singly up to `presence_limit` members, in batches above.
    Auto,
    /// Always singly: the cost of a join grows with the room.
    Exact,
    /// Only numbers, in rooms of any size.
    Count,
}

impl FromStr for Presence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text, &[("auto", Self::Auto), ("exact", Self::Exact), ("count", Self::Count)])
    }
}

/// Whether users must sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Users may speak under any name; users with an account or a token may sign in.
    Off,
    /// Only users who have signed in may connect, with an account or a token. The other dialects than chat accept only
    /// tokens, since they have no other way to sign in.
    Required,
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text, &[("off", Self::Off), ("required", Self::Required)])
    }
}

/// What clients may do that have neither an account nor a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Hear rooms and topics, and say nothing.
    Listen,
}

impl FromStr for Anonymous {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "listen" { Ok(Self::Listen) } else { Err("allowed is listen".to_owned()) }
    }
}

/// Where the metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsPlace {
    /// With the HTTP API alone, where there is one.
    Api,
    /// On the clients' port, too.
    Public,
}

impl FromStr for MetricsPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text, &[("api", Self::Api), ("public", Self::Public)])
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people to read.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text, &[("text", Self::Text), ("json", Self::Json)])
    }
}

/// The value of this name.
fn by_name<T: Copy>(text: &str, values: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = values.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    let (last, others) = names.split_last().expect("Bug: a setting without values");
    Err(format!("allowed is {} or {last}", others.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_acceptor_for_every_eight_shards() {
        let count = |shards, acceptors| {
            let placement = Placement::Unpinned(NonZeroUsize::new(shards).unwrap());
            let acceptors = NonZeroUsize::new(acceptors);
            Config { placement, acceptors, ..Config::default() }.acceptor_count()
        };
        assert_eq!([1, 7, 8, 15, 16, 1024].map(|shards| count(shards, 0)), [1, 1, 1, 1, 2, 128]);
        assert_eq!(count(1, 3), 3);
    }

    #[test]
    fn strangers_may_publish_where_they_reach_a_dialect_without_sign_in() {
        let open = |listen: &str, dialects: &str, auth| {
            let (listen, dialects) = (listen.parse().unwrap(), dialects.parse().unwrap());
            Config { listen, dialects, auth, ..Config::default() }.open_dialects()
        };
        let all = "chat,hub,raw,echo";
        assert_eq!(open("0.0.0.0:1", all, Auth::Off), [Dialect::Hub, Dialect::Raw, Dialect::Echo]);
        assert_eq!(open("[::]:1", "chat,raw", Auth::Off), [Dialect::Raw]);
        for (listen, dialects, auth) in [
            ("127.0.0.1:1", all, Auth::Off),
            ("[::1]:1", all, Auth::Off),
            ("[::ffff:127.0.0.1]:1", all, Auth::Off),
            ("192.0.2.1:1", "chat", Auth::Off),
            ("192.0.2.1:1", all, Auth::Required),
        ] {
            assert_eq!(open(listen, dialects, auth), [], "{listen} {dialects} {auth:?}");
        }
        let trusted_proxies = AddressRange::LOOPBACK.to_vec();
        let behind_proxy = Config { trusted_proxies, ..Config::default() };
        assert_eq!(behind_proxy.open_dialects(), [Dialect::Hub, Dialect::Raw, Dialect::Echo]);
    }

    #[test]
    fn a_setting_with_names_lists_all_of_them() {
        assert_eq!("exact".parse(), Ok(Presence::Exact));
        assert_eq!("Exact".parse::<Presence>(), Err("allowed is auto, exact or count".to_owned()));
        assert_eq!("".parse::<Auth>(), Err("allowed is off or required".to_owned()));
        assert_eq!("xml".parse::<LogFormat>(), Err("allowed is text or json".to_owned()));
    }
}
