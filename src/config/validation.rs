//! Which values are allowed: the limits of each, and the settings that must fit each other: over 500 lines because
//! each refusal is tested by its text.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::placement::{Placement, SHARDS_MAX};
use super::{
    ACCEPTORS_MAX, ApiAddress, Auth, BUSY_POLL_MAX, CLIENTS_MAX, Config, FIRST_ROOM, LOG_BYTES_MIN,
    MetricsPlace, PARTITIONS_MAX, ROOM_CHARS_MAX, TOKEN_KEYS_MAX,
};
use crate::pattern::Pattern;

/// The least `max_message_bytes`: room for the smallest sensible JSON message.
const MESSAGE_BYTES_MIN: usize = 64;
/// The least `max_frame_bytes`: a control frame's payload (RFC 6455, 5.5) is never refused as too big.
const FRAME_BYTES_MIN: usize = 125;
/// The most `max_frame_bytes`: a connection may hold one unfinished message of that size.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// The least `max_head_bytes`: what a browser sends without cookies.
const HEAD_BYTES_LEAST: usize = 1 << 10;
/// The most `max_head_bytes`: an unknown client can make the server hold that much, and a head that arrives in pieces
/// is parsed again with each of them.
const HEAD_BYTES_MOST: usize = 128 << 10;
/// The most `send_queue_bytes` for one slow client.
const SEND_QUEUE_BYTES_MAX: usize = 1 << 30;
/// The least duration: the timers of a shard tick in milliseconds.
const DURATION_MIN: Duration = Duration::from_millis(1);
/// The most duration: a day.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most rooms: the list of them, 64 characters of four bytes each, fits a default send queue.
const ROOMS_MAX: usize = 1000;
/// The most patterns of rooms that clients create: each join of such a room looks at all.
const ROOM_PATTERNS_MAX: usize = 100;
/// The most `rooms_max`: a million rooms of one member take some 2 GB.
const ROOMS_ON_DEMAND_MAX: usize = 1_000_000;
/// The most `rooms_kept`: ten million rows and their two indexes are a gigabyte, beside the messages.
const ROOMS_KEPT_MAX: usize = 10_000_000;
/// The most `room_ttl`: thirty days.
const ROOM_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most `history`: a new member receives all of it at once.
const HISTORY_MAX: usize = 10_000;
/// The most `presence_limit`: one join below the limit costs that many deliveries.
const PRESENCE_LIMIT_MAX: usize = 10_000;
/// The most `replicas` of a cluster: no Redis has more in practice, and each makes acknowledgements later.
const REPLICAS_MAX: u16 = 16;
/// The most `log_bytes` of a cluster: more is a mistake, because no machine has that much memory for one log.
const LOG_BYTES_MAX: u64 = 1 << 40;
/// The most `connect_rate_per_address`; 0 means no limit.
const CONNECT_RATE_MAX: usize = 1_000_000;
/// The most `topics_max`: each has a connection.
const TOPICS_MAX: usize = CLIENTS_MAX;
/// The most `rate`, `topic_rate` and `burst`; a rate of 0 means no limit.
const RATE_MAX: u32 = 1_000_000;

impl Config {
    /// Checks each value against its limits, and those that must fit each other.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, by its key on the command line.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_placement()?;
        if let Some(cores) = &self.acceptor_cores {
            validate_cores("acceptor-cores", cores)?;
        }
        if let Some(acceptors) = self.acceptors {
            within("acceptors", acceptors.get(), 1, ACCEPTORS_MAX, number)?;
        }
        within("busy-poll", self.busy_poll, Duration::ZERO, BUSY_POLL_MAX, duration)?;
        if let Some(max_clients) = self.max_clients {
            within("max-clients", max_clients, 1, CLIENTS_MAX, number)?;
        }
        if let Some(clients) = self.max_clients_per_address {
            within("max-clients-per-address", clients, 0, CLIENTS_MAX, number)?;
        }
        within("connect-rate-per-address", self.connect_rate_per_address, 0, CONNECT_RATE_MAX, number)?;
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return invalid(
                "proxy-protocol",
                "true".into(),
                "false; or true together with --trusted-proxy, the addresses of the proxies that speak it",
            );
        }
        self.validate_sizes()?;
        self.validate_durations()?;
        self.validate_rooms()?;
        if self.data.as_ref().is_some_and(|data| data.as_os_str().is_empty()) {
            return invalid("data", String::new(), "an existing directory");
        }
        self.validate_cluster()?;
        if self.auth == Auth::Required && self.data.is_none() && !self.has_token_keys() {
            let allowed =
                "off; or required, with --data for accounts, or --token-key or --token-jwks for tokens";
            return invalid("auth", "required".into(), allowed);
        }
        if self.anonymous.is_some() && self.data.is_none() && !self.has_token_keys() {
            // Otherwise nobody could ever speak.
            let allowed =
                "listen together with --data for accounts, or --token-key or --token-jwks for tokens";
            return invalid("anonymous", "listen".into(), allowed);
        }
        if (self.auth == Auth::Required || self.anonymous.is_some()) && !self.has_sign_in() {
            let allowed = "a list with chat, where accounts sign in; or others together with --token-key or \
                           --token-jwks for tokens";
            return invalid("dialects", self.dialects.to_string(), allowed);
        }
        self.validate_tokens()?;
        self.validate_api()?;
        self.validate_tls()?;
        within("history", self.history, 0, HISTORY_MAX, number)?;
        within("presence-limit", self.presence_limit, 1, PRESENCE_LIMIT_MAX, number)?;
        within("rate", self.rate, 0, RATE_MAX, number)?;
        within("topic-rate", self.topic_rate, 0, RATE_MAX, number)?;
        within("topics-max", self.topics_max, 1, TOPICS_MAX, number)?;
        // Without a rate the burst means nothing, and without a burst a rate lets nothing through.
        within("burst", self.burst, u32::from(self.rate > 0), RATE_MAX, number)
    }

    fn validate_cluster(&self) -> Result<(), ConfigError> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        if let Some(data) = &self.data {
            let allowed = "a directory without --redis: the nodes of a cluster keep everything in Redis";
            return invalid("data", data.display().to_string(), allowed);
        }
        within("redis-replicas", cluster.replicas, 0, REPLICAS_MAX, number)?;
        within("redis-partitions", cluster.partitions, 1, PARTITIONS_MAX, number)?;
        within("redis-log", cluster.log_bytes, LOG_BYTES_MIN, LOG_BYTES_MAX, |bytes| size(bytes as usize))
    }

    fn validate_tokens(&self) -> Result<(), ConfigError> {
        if self.token_keys.len() > TOKEN_KEYS_MAX {
            let count = format!("{} files", self.token_keys.len());
            return invalid(
                "token-key",
                count,
                format!("at most {TOKEN_KEYS_MAX} files, or a set in --token-jwks"),
            );
        }
        for (key, value) in [("token-issuer", &self.token_issuer), ("token-audience", &self.token_audience)] {
            if let Some(value) = value.as_ref().filter(|_| !self.has_token_keys()) {
                return invalid(key, value.clone(), "a name together with --token-key or --token-jwks");
            }
        }
        Ok(())
    }

    fn validate_api(&self) -> Result<(), ConfigError> {
        match (&self.api_listen, &self.api_key_file) {
            (Some(address @ ApiAddress::Tcp(_)), None) => {
                let allowed = "a port together with --api-key-file; or a unix socket, which needs no keys";
                return invalid("api-listen", address.to_string(), allowed);
            }
            (Some(ApiAddress::Tcp(address)), _) if address.port() != 0 && *address == self.listen => {
                return invalid("api-listen", address.to_string(), "another address than that of --listen");
            }
            (None, Some(path)) => {
                let allowed = "a file together with --api-listen, where its keys are used";
                return invalid("api-key-file", path.display().to_string(), allowed);
            }
            _ => {}
        }
        if self.api_tls && (self.tls_cert.is_none() || !matches!(self.api_listen, Some(ApiAddress::Tcp(_)))) {
            let allowed = "false; or true together with --api-listen on a port, --tls-cert and --tls-key";
            return invalid("api-tls", "true".into(), allowed);
        }
        if self.metrics == MetricsPlace::Public && self.api_listen.is_none() {
            // Without the API they are public already.
            return invalid("metrics", "public".into(), "api; or public together with --api-listen");
        }
        Ok(())
    }

    fn validate_placement(&self) -> Result<(), ConfigError> {
        match &self.placement {
            Placement::Unpinned(shards) => within("shards", shards.get(), 1, SHARDS_MAX, number),
            Placement::Pinned(cores) => validate_cores("cores", cores),
        }
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        let (message, frame, queue) = (self.max_message_bytes, self.max_frame_bytes, self.send_queue_bytes);
        within("max-frame", frame, FRAME_BYTES_MIN, FRAME_BYTES_MAX, size)?;
        within("max-message", message, MESSAGE_BYTES_MIN, FRAME_BYTES_MAX, size)?;
        if message > frame {
            return Err(ConfigError {
                key: "max-message",
                value: size(message),
                allowed: format!("at most max-frame, which is {}", size(frame)),
                other: Some(Box::new(ConflictingSetting {
                    key: "max-frame",
                    value: size(frame),
                    allowed: format!("at least max-message, which is {}", size(message)),
                })),
            });
        }
        within("max-head", self.max_head_bytes, HEAD_BYTES_LEAST, HEAD_BYTES_MOST, size)?;
        within("send-queue", queue, FRAME_BYTES_MIN, SEND_QUEUE_BYTES_MAX, size)?;
        if queue < frame {
            return Err(ConfigError {
                key: "send-queue",
                value: size(queue),
                allowed: format!("at least max-frame, which is {}", size(frame)),
                other: Some(Box::new(ConflictingSetting {
                    key: "max-frame",
                    value: size(frame),
                    allowed: format!("at most send-queue, which is {}", size(queue)),
                })),
            });
        }
        Ok(())
    }

    fn validate_durations(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("ping-interval", self.ping_interval),
            ("idle-timeout", self.idle_timeout),
            ("handshake-timeout", self.handshake_timeout),
            ("drain-timeout", self.drain_timeout),
        ] {
            within(key, value, DURATION_MIN, DURATION_MAX, duration)?;
        }
        within("session-timeout", self.session_timeout, Duration::ZERO, DURATION_MAX, duration)?;
        // Otherwise silent connections are closed before they can answer a ping.
        let (idle, ping) = (duration(self.idle_timeout), duration(self.ping_interval));
        if self.idle_timeout <= self.ping_interval {
            return Err(ConfigError {
                key: "idle-timeout",
                allowed: format!("longer than ping-interval, which is {ping}"),
                other: Some(Box::new(ConflictingSetting {
                    key: "ping-interval",
                    allowed: format!("shorter than idle-timeout, which is {idle}"),
                    value: ping,
                })),
                value: idle,
            });
        }
        Ok(())
    }

    fn validate_tls(&self) -> Result<(), ConfigError> {
        let shown = |path: &PathBuf| path.display().to_string();
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), None) => invalid(
                "tls-cert",
                shown(certificates),
                "a certificate together with --tls-key, its private key",
            ),
            (None, Some(key)) => {
                invalid("tls-key", shown(key), "a private key together with --tls-cert, its certificate")
            }
            _ => Ok(()),
        }
    }

    fn validate_rooms(&self) -> Result<(), ConfigError> {
        let shown = || self.rooms.join(",").escape_debug().to_string();
        if !self.rooms.iter().any(|room| room == FIRST_ROOM) {
            let allowed = format!("a list that contains {FIRST_ROOM}, which clients join first");
            return invalid("rooms", shown(), allowed);
        }
        if self.rooms.len() > ROOMS_MAX {
            return invalid("rooms", shown(), format!("at most {ROOMS_MAX} rooms"));
        }
        for (index, room) in self.rooms.iter().enumerate() {
            let chars = room.chars().count();
            if !(1..=ROOM_CHARS_MAX).contains(&chars) || room.chars().any(char::is_control) {
                let allowed = format!("names of 1 to {ROOM_CHARS_MAX} characters, none a control character");
                return invalid("rooms", shown(), allowed);
            }
            if self.rooms[..index].contains(room) {
                return invalid("rooms", shown(), format!("each name once; {room} is listed twice"));
            }
        }
        if self.room_patterns.len() > ROOM_PATTERNS_MAX {
            let count = format!("{} patterns", self.room_patterns.len());
            return invalid("room-pattern", count, format!("at most {ROOM_PATTERNS_MAX} patterns"));
        }
        for pattern in &self.room_patterns {
            let is_usable = match Pattern::parse(pattern) {
                Pattern::Nothing => false,
                // Else no room may have this name.
                Pattern::Name(name) => !name.is_empty() && !name.ends_with(char::is_whitespace),
                Pattern::Prefix(_) => true,
            };
            if !is_usable
                || pattern.chars().count() > ROOM_CHARS_MAX
                || pattern.starts_with(char::is_whitespace)
                || pattern.contains(char::is_control)
            {
                let allowed = format!(
                    "a name, or the beginning of names and one * behind it, such as team-*, or * for any name; at most \
                     {ROOM_CHARS_MAX} characters, no space at either end of a name"
                );
                return invalid("room-pattern", pattern.escape_debug().to_string(), allowed);
            }
        }
        within("rooms-kept", self.rooms_kept, 0, ROOMS_KEPT_MAX, number)?;
        within("rooms-max", self.rooms_max, 1, ROOMS_ON_DEMAND_MAX, number)?;
        within("room-ttl", self.room_ttl, DURATION_MIN, ROOM_TTL_MAX, duration)
    }
}

/// An invalid value, and which values are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value '{value}' for {key}: allowed is {allowed}")]
pub struct ConfigError {
    /// The setting, by its flag's name without the dashes.
    pub key: &'static str,
    /// The value as written on the command line.
    pub value: String,
    /// The allowed values, to follow "allowed is".
    pub allowed: String,
    /// The setting that this one conflicts with, if any: one of the two must change.
    pub other: Option<Box<ConflictingSetting>>,
}

/// A setting that conflicts with another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictingSetting {
    /// The setting, by its flag's name without the dashes.
    pub key: &'static str,
    /// Its value as written on the command line.
    pub value: String,
    /// The values that would resolve the conflict, to follow "allowed is".
    pub allowed: String,
}

fn invalid(key: &'static str, value: String, allowed: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError { key, value, allowed: allowed.into(), other: None })
}

fn within<T: PartialOrd + Copy>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
    show: fn(T) -> String,
) -> Result<(), ConfigError> {
    if value >= least && value <= most {
        return Ok(());
    }
    invalid(key, show(value), format!("{} to {}", show(least), show(most)))
}

fn number<T: fmt::Display>(value: T) -> String {
    value.to_string()
}

fn duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// A size as written on the command line: exact, with the largest binary unit that divides it.
fn size(bytes: usize) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn validate_cores(key: &'static str, cores: &[usize]) -> Result<(), ConfigError> {
    let shown = || cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let distinct: HashSet<_> = cores.iter().collect();
    if cores.is_empty() || distinct.len() < cores.len() {
        return invalid(key, shown(), "at least one core, each named once");
    }
    if cores.iter().any(|core| *core >= SHARDS_MAX) {
        return invalid(key, shown(), format!("cores from 0 to {}", SHARDS_MAX - 1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::super::{Anonymous, Cluster};
    use super::*;

    /// The error of `validate` after one change to the defaults.
    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    /// The place of a node with the defaults.
    fn cluster() -> Cluster {
        Cluster::new("redis://localhost".parse().unwrap(), "a".parse().unwrap())
    }

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Config::default().validate(), Ok(()));
        let in_a_cluster = Config { cluster: Some(cluster()), ..Config::default() };
        assert_eq!(in_a_cluster.validate(), Ok(()));
    }

    #[test]
    fn each_refusal_names_the_key_the_value_and_what_is_allowed() {
        let secs = Duration::from_secs;
        for (said, wanted) in [
            (
                refusal(|c| c.max_clients = Some(0)),
                "invalid value '0' for max-clients: allowed is 1 to 1048576",
            ),
            (
                refusal(|c| c.max_clients = Some(CLIENTS_MAX + 1)),
                "invalid value '1048577' for max-clients: allowed is 1 to 1048576",
            ),
            (
                refusal(|c| c.max_frame_bytes = 100),
                "invalid value '100' for max-frame: allowed is 125 to 16MiB",
            ),
            (
                refusal(|c| c.max_head_bytes = 1000),
                "invalid value '1000' for max-head: allowed is 1KiB to 128KiB",
            ),
            (
                refusal(|c| c.max_message_bytes = 1),
                "invalid value '1' for max-message: allowed is 64 to 16MiB",
            ),
            (
                refusal(|c| c.max_message_bytes = 65 << 10),
                "invalid value '65KiB' for max-message: allowed is at most max-frame, which is 64KiB",
            ),
            (
                refusal(|c| c.send_queue_bytes = 63 << 10),
                "invalid value '63KiB' for send-queue: allowed is at least max-frame, which is 64KiB",
            ),
            (
                refusal(|c| c.send_queue_bytes = 2 << 30),
                "invalid value '2GiB' for send-queue: allowed is 125 to 1GiB",
            ),
            (
                refusal(|c| c.ping_interval = Duration::ZERO),
                "invalid value '0s' for ping-interval: allowed is 1ms to 1day",
            ),
            (
                refusal(|c| c.handshake_timeout = secs(86_401)),
                "invalid value '1day 1s' for handshake-timeout: allowed is 1ms to 1day",
            ),
            (
                refusal(|c| c.session_timeout = secs(86_401)),
                "invalid value '1day 1s' for session-timeout: allowed is 0s to 1day",
            ),
            (
                refusal(|c| c.drain_timeout = Duration::ZERO),
                "invalid value '0s' for drain-timeout: allowed is 1ms to 1day",
            ),
            (
                refusal(|c| c.idle_timeout = secs(30)),
                "invalid value '30s' for idle-timeout: allowed is longer than ping-interval, which is 30s",
            ),
            (
                refusal(|c| c.data = Some(PathBuf::new())),
                "invalid value '' for data: allowed is an existing directory",
            ),
            (
                refusal(|c| c.auth = Auth::Required),
                "invalid value 'required' for auth: allowed is off; or required, with --data for accounts, or \
                 --token-key or --token-jwks for tokens",
            ),
            (
                refusal(|c| c.anonymous = Some(Anonymous::Listen)),
                "invalid value 'listen' for anonymous: allowed is listen together with --data for accounts, or \
                 --token-key or --token-jwks for tokens",
            ),
            (
                refusal(|c| {
                    c.auth = Auth::Required;
                    c.data = Some("data".into());
                    c.dialects = "hub,raw,echo".parse().unwrap();
                }),
                "invalid value 'hub,raw,echo' for dialects: allowed is a list with chat, where accounts sign in; or \
                 others together with --token-key or --token-jwks for tokens",
            ),
            (
                refusal(|c| c.token_issuer = Some("backend".into())),
                "invalid value 'backend' for token-issuer: allowed is a name together with --token-key or --token-jwks",
            ),
            (
                refusal(|c| c.token_keys = vec!["key".into(); 17]),
                "invalid value '17 files' for token-key: allowed is at most 16 files, or a set in --token-jwks",
            ),
            (
                refusal(|c| c.tls_cert = Some("chain.pem".into())),
                "invalid value 'chain.pem' for tls-cert: allowed is a certificate together with --tls-key, its \
                 private key",
            ),
            (
                refusal(|c| c.tls_key = Some("key.pem".into())),
                "invalid value 'key.pem' for tls-key: allowed is a private key together with --tls-cert, its \
                 certificate",
            ),
            (
                refusal(|c| {
                    c.cluster = Some(cluster());
                    c.data = Some("data".into());
                }),
                "invalid value 'data' for data: allowed is a directory without --redis: the nodes of a cluster keep \
                 everything in Redis",
            ),
            (
                refusal(|c| c.cluster = Some(Cluster { replicas: 17, ..cluster() })),
                "invalid value '17' for redis-replicas: allowed is 0 to 16",
            ),
            (
                refusal(|c| c.cluster = Some(Cluster { partitions: 0, ..cluster() })),
                "invalid value '0' for redis-partitions: allowed is 1 to 64",
            ),
            (
                refusal(|c| c.cluster = Some(Cluster { log_bytes: 1 << 20, ..cluster() })),
                "invalid value '1MiB' for redis-log: allowed is 16MiB to 1024GiB",
            ),
            (refusal(|c| c.history = 10_001), "invalid value '10001' for history: allowed is 0 to 10000"),
            (
                refusal(|c| c.presence_limit = 0),
                "invalid value '0' for presence-limit: allowed is 1 to 10000",
            ),
            (refusal(|c| c.rate = 1_000_001), "invalid value '1000001' for rate: allowed is 0 to 1000000"),
            (
                refusal(|c| c.topic_rate = 1_000_001),
                "invalid value '1000001' for topic-rate: allowed is 0 to 1000000",
            ),
            (
                refusal(|c| c.room_patterns = vec!["a*".into(), "a*b*".into()]),
                "invalid value 'a*b*' for room-pattern: allowed is a name, or the beginning of names and one * behind it, \
                 such as team-*, or * for any name; at most 64 characters, no space at either end of a name",
            ),
            (
                refusal(|c| c.room_patterns = vec!["team ".into()]),
                "invalid value 'team ' for room-pattern: allowed is a name, or the beginning of names and one * behind it, \
                 such as team-*, or * for any name; at most 64 characters, no space at either end of a name",
            ),
            (refusal(|c| c.rooms_max = 0), "invalid value '0' for rooms-max: allowed is 1 to 1000000"),
            (
                refusal(|c| c.rooms_kept = 10_000_001),
                "invalid value '10000001' for rooms-kept: allowed is 0 to 10000000",
            ),
            (
                refusal(|c| c.room_ttl = Duration::ZERO),
                "invalid value '0s' for room-ttl: allowed is 1ms to 30days",
            ),
            (refusal(|c| c.topics_max = 0), "invalid value '0' for topics-max: allowed is 1 to 1048576"),
            (
                refusal(|c| c.proxy_protocol = true),
                "invalid value 'true' for proxy-protocol: allowed is false; or true together with --trusted-proxy, the \
                 addresses of the proxies that speak it",
            ),
            (refusal(|c| c.burst = 0), "invalid value '0' for burst: allowed is 1 to 1000000"),
            (
                refusal(|c| c.placement = Placement::Pinned(vec![0, 0])),
                "invalid value '0,0' for cores: allowed is at least one core, each named once",
            ),
            (
                refusal(|c| c.placement = Placement::Pinned(vec![1024])),
                "invalid value '1024' for cores: allowed is cores from 0 to 1023",
            ),
            (
                refusal(|c| c.placement = Placement::Unpinned(NonZeroUsize::MAX)),
                "invalid value '18446744073709551615' for shards: allowed is 1 to 1024",
            ),
            (
                refusal(|c| c.acceptors = NonZeroUsize::new(1025)),
                "invalid value '1025' for acceptors: allowed is 1 to 1024",
            ),
        ] {
            assert_eq!(said, wanted);
        }
    }

    #[test]
    fn rooms_are_named_once_and_general_is_among_them() {
        let with = |rooms: &[&str]| refusal(|c| c.rooms = rooms.iter().map(ToString::to_string).collect());
        assert!(with(&[]).contains("a list that contains general"));
        assert!(with(&["random"]).contains("'random' for rooms: allowed is a list that contains general"));
        assert!(with(&["general", ""]).contains("names of 1 to 64 characters"));
        assert!(with(&["general", &"é".repeat(65)]).contains("names of 1 to 64 characters"));
        assert!(with(&["general", "a\nb"]).contains("'general,a\\nb' for rooms"));
        assert!(with(&["general", "x", "x"]).contains("each name once; x is listed twice"));
        let names: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        assert!(refusal(|c| c.rooms.extend(names)).contains("at most 1000 rooms"));
    }

    #[test]
    fn a_burst_of_zero_is_allowed_without_a_rate() {
        let config = Config { rate: 0, burst: 0, ..Config::default() };
        assert_eq!(config.validate(), Ok(()));
    }
}
