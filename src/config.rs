//! The configuration: typed, with its defaults and its limits, and nothing about where it came from.
//!
//! Flags, environment and file become a [`Config`] in `cli`; everything else takes the parts of it that
//! it needs. [`Config::validate`] is the one place that knows what values are allowed, so a limit that
//! another module relies on (the largest message fits the send queue, say) is stated here and nowhere
//! else.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::thread::CpuSet;
use tracing::level_filters::LevelFilter;
use uproar_protocol::head::HEAD_BYTES_MAX;
use uproar_ring::Features;

pub use crate::address::AddressRange;
pub use crate::handshake::origin::{AllowedHost, AllowedOrigin};

/// The room where everybody starts.
pub const FIRST_ROOM: &str = "general";

/// The most clients that one process admits.
///
/// As many descriptors as `fs.nr_open` allows a process, unless it was raised.
pub const CLIENTS_MAX: usize = 1 << 20;

/// The most shards: the number of cores that a `cpu_set_t` can name (CPU_SET(3)).
pub const SHARDS_MAX: usize = 1024;

/// The longest `busy_poll`: by then waking up costs next to nothing of the time that was waited.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

/// The most acceptors: as many as shards, which is more than any machine needs.
pub const ACCEPTORS_MAX: usize = SHARDS_MAX;

/// The shards that one acceptor serves by default: a handshake happens once for each connection, and is a small part of
/// what it costs unless connections are short.
const SHARDS_AN_ACCEPTOR: usize = 8;

/// The least `max_message_bytes`: room for the smallest sensible JSON message.
const MESSAGE_BYTES_MIN: usize = 64;
/// The least `max_frame_bytes`: a control frame's payload (RFC 6455, 5.5) is never refused as too big.
const FRAME_BYTES_MIN: usize = 125;
/// The most `max_frame_bytes`: a connection may hold one unfinished message of that size.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// The least `max_head_bytes`: what a browser sends without cookies.
const HEAD_BYTES_LEAST: usize = 1 << 10;
/// The most `max_head_bytes`: a connection may hold that much before anything is known of it, and reading a head
/// again with each piece that arrives costs the square of it.
const HEAD_BYTES_MOST: usize = 128 << 10;
/// The most `send_queue_bytes`: beyond it a slow reader is a memory leak with a name.
const SEND_QUEUE_BYTES_MAX: usize = 1 << 30;
/// The least duration: the timers of a shard tick in milliseconds.
const DURATION_MIN: Duration = Duration::from_millis(1);
/// The most duration: a day.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most rooms: the list of them, 64 characters of four bytes each, fits a default send queue.
const ROOMS_MAX: usize = 1000;
/// The most characters (Unicode scalar values) in a room's name.
const ROOM_CHARS_MAX: usize = 64;
/// The most `history`: a joiner receives all of it at once.
const HISTORY_MAX: usize = 10_000;
/// The most `presence_limit`: one join below the limit costs that many deliveries.
const PRESENCE_LIMIT_MAX: usize = 10_000;
/// The most `connect_rate_per_address`; who needs more means 0.
const CONNECT_RATE_MAX: usize = 1_000_000;
/// The most `rate` and `burst`; who needs more means `rate` 0.
const RATE_MAX: u32 = 1_000_000;

/// Everything that can be configured.
///
/// [`Config::default`] is what the server runs with when nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen. Default `127.0.0.1:8080`: who wants strangers says so. Port 0 lets the kernel
    /// choose.
    pub listen: SocketAddr,
    /// How many shards there are, and on which cores. Default: one on each core that the process may use.
    pub placement: Placement,
    /// How many threads accept connections and shake hands; 1 to [`ACCEPTORS_MAX`].
    ///
    /// Default `None`: one for every eight shards, and at least one. See [`Config::acceptor_count`].
    pub acceptors: Option<NonZeroUsize>,
    /// The cores on which acceptors run. Default `None`: those that unpinned shards leave free, or else those of the shards.
    pub acceptor_cores: Option<Vec<usize>>,
    /// How long a shard looks for something to do before its thread sleeps; at most [`BUSY_POLL_MAX`]. It answers sooner,
    /// by what waking a thread takes, and uses its core while nothing is to be done.
    ///
    /// Default zero: it sleeps at once, so that an idle server uses no CPU time.
    pub busy_poll: Duration,
    /// Features of io_uring that shards use where the kernel has them. Default: all.
    pub ring_features: Features,
    /// The most upgraded connections at a time, over all shards; 1 to [`CLIENTS_MAX`].
    ///
    /// Default `None`: as many as the descriptor limit has room for, which `preflight` works out.
    pub max_clients: Option<usize>,
    /// The most upgraded connections of an address at a time, over all shards; 0 is no limit, which behind a proxy is
    /// needed, and lifts the limit on those that are not yet upgraded, too.
    ///
    /// Default `None`: a quarter of `max_clients`, but at least 64 and at most 1,000, which neither a household nor an
    /// office meets. IPv6 addresses count by /64.
    pub max_clients_per_address: Option<usize>,
    /// The most upgrades of an address in a second; 0 is no limit. Default 200: an office that lost its connections
    /// together is back within seconds.
    pub connect_rate_per_address: usize,
    /// The addresses that have no limits: proxies, and machines that measure. Default: loopback.
    pub no_limit_for: Vec<AddressRange>,
    /// The longest message in bytes that chat accepts; a longer one is answered, not punished.
    /// Default 10 KiB: a long paragraph, while a room of thousands still gets through it.
    pub max_message_bytes: usize,
    /// The longest message in bytes that any dialect accepts; a longer one ends the connection (1009).
    /// Default 64 KiB. At least `max_message_bytes`.
    pub max_frame_bytes: usize,
    /// The longest request head in bytes. Default 16 KiB: cookies of single sign-on fit.
    pub max_head_bytes: usize,
    /// What may wait for one connection, in bytes, before it is evicted as slow: the messages, and for each of
    /// them [`SharedBytes::OVERHEAD_BYTES`](uproar_ring::SharedBytes::OVERHEAD_BYTES) that the server keeps beside it.
    /// Default 1 MiB: some seconds of a busy room. At least `max_frame_bytes`, so that the largest message fits.
    pub send_queue_bytes: usize,
    /// How long a connection is silent before it is pinged. Default 30 s: below the minute after which
    /// common proxies and address translators forget a connection.
    pub ping_interval: Duration,
    /// How long a connection may be silent before it is closed. Default 120 s: a ping and its answer have
    /// a minute and a half. Longer than `ping_interval`.
    pub idle_timeout: Duration,
    /// How long TLS and a request head may take, and where [`Auth::Required`] is set, how long signing in. Default
    /// 10 s.
    pub handshake_timeout: Duration,
    /// How long a shutdown may take. Default 10 s: within the grace that common supervisors give.
    pub drain_timeout: Duration,
    /// The rooms; clients cannot add any. Default general, random, gaming. [`FIRST_ROOM`] is among them.
    pub rooms: Vec<String>,
    /// The directory of what outlives the process. Default `None`: everything is in memory.
    pub data: Option<PathBuf>,
    /// Who may speak. Default [`Auth::Off`].
    pub auth: Auth,
    /// How many messages a room keeps for those who join. Default 100. 0 keeps none.
    pub history: usize,
    /// How joins and leaves are announced. Default [`Presence::Auto`].
    pub presence: Presence,
    /// The members above which [`Presence::Auto`] announces in batches. Default 500: one join then costs
    /// at most 500 deliveries.
    pub presence_limit: usize,
    /// The messages that a connection may send in a second; 0 is no limit. Default 50.
    pub rate: u32,
    /// The messages that a connection may send at once after a pause. Default 100: two seconds of `rate`.
    /// At least 1 where there is a rate.
    pub burst: u32,
    /// The origins from which a browser may connect, beside the server's own. Default: none.
    pub allow_origins: Vec<AllowedOrigin>,
    /// Names other than loopback by which a server that listens on loopback may be called by browsers. Default: none.
    pub allow_hosts: Vec<AllowedHost>,
    /// The server's certificate in PEM form, and behind it those that lead from it to an authority. Default
    /// `None`: no TLS. Only together with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM form. Default `None`.
    pub tls_key: Option<PathBuf>,
    /// What the log looks like. Default [`LogFormat::Text`].
    pub log_format: LogFormat,
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
            max_message_bytes: 10 << 10,
            max_frame_bytes: 64 << 10,
            max_head_bytes: HEAD_BYTES_MAX,
            send_queue_bytes: 1 << 20,
            ping_interval: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            rooms: [FIRST_ROOM, "random", "gaming"].map(String::from).to_vec(),
            data: None,
            auth: Auth::Off,
            history: 100,
            presence: Presence::Auto,
            presence_limit: 500,
            rate: 50,
            burst: 100,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            tls_cert: None,
            tls_key: None,
            log_format: LogFormat::Text,
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

    /// Checks each value against its limits, and those that must fit each other.
    ///
    /// # Errors
    ///
    /// The first value that is not allowed, by its key on the command line.
    pub fn validate(&self) -> Result<(), Refusal> {
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
        self.validate_sizes()?;
        self.validate_durations()?;
        self.validate_rooms()?;
        if self.data.as_ref().is_some_and(|data| data.as_os_str().is_empty()) {
            return refuse("data", String::new(), "a directory that is there already");
        }
        if self.auth == Auth::Required && self.data.is_none() {
            return refuse("auth", "required".into(), "off; or required, with --data for the accounts");
        }
        self.validate_tls()?;
        within("history", self.history, 0, HISTORY_MAX, number)?;
        within("presence-limit", self.presence_limit, 1, PRESENCE_LIMIT_MAX, number)?;
        within("rate", self.rate, 0, RATE_MAX, number)?;
        // Without a rate the burst means nothing, and without a burst a rate lets nothing through.
        within("burst", self.burst, u32::from(self.rate > 0), RATE_MAX, number)
    }

    fn validate_placement(&self) -> Result<(), Refusal> {
        match &self.placement {
            Placement::Unpinned(shards) => within("shards", shards.get(), 1, SHARDS_MAX, number),
            Placement::Pinned(cores) => validate_cores("cores", cores),
        }
    }

    fn validate_sizes(&self) -> Result<(), Refusal> {
        let (message, frame, queue) = (self.max_message_bytes, self.max_frame_bytes, self.send_queue_bytes);
        within("max-frame", frame, FRAME_BYTES_MIN, FRAME_BYTES_MAX, size)?;
        within("max-message", message, MESSAGE_BYTES_MIN, FRAME_BYTES_MAX, size)?;
        if message > frame {
            return Err(Refusal {
                key: "max-message",
                value: size(message),
                allowed: format!("at most max-frame, which is {}", size(frame)),
                other: Some(Box::new(Other {
                    key: "max-frame",
                    value: size(frame),
                    allowed: format!("at least max-message, which is {}", size(message)),
                })),
            });
        }
        within("max-head", self.max_head_bytes, HEAD_BYTES_LEAST, HEAD_BYTES_MOST, size)?;
        within("send-queue", queue, FRAME_BYTES_MIN, SEND_QUEUE_BYTES_MAX, size)?;
        if queue < frame {
            return Err(Refusal {
                key: "send-queue",
                value: size(queue),
                allowed: format!("at least max-frame, which is {}", size(frame)),
                other: Some(Box::new(Other {
                    key: "max-frame",
                    value: size(frame),
                    allowed: format!("at most send-queue, which is {}", size(queue)),
                })),
            });
        }
        Ok(())
    }

    fn validate_durations(&self) -> Result<(), Refusal> {
        for (key, value) in [
            ("ping-interval", self.ping_interval),
            ("idle-timeout", self.idle_timeout),
            ("handshake-timeout", self.handshake_timeout),
            ("drain-timeout", self.drain_timeout),
        ] {
            within(key, value, DURATION_MIN, DURATION_MAX, duration)?;
        }
        // Otherwise every silent connection is closed before a ping could have shown that it lives.
        let (idle, ping) = (duration(self.idle_timeout), duration(self.ping_interval));
        if self.idle_timeout <= self.ping_interval {
            return Err(Refusal {
                key: "idle-timeout",
                allowed: format!("longer than ping-interval, which is {ping}"),
                other: Some(Box::new(Other {
                    key: "ping-interval",
                    allowed: format!("shorter than idle-timeout, which is {idle}"),
                    value: ping,
                })),
                value: idle,
            });
        }
        Ok(())
    }

    fn validate_tls(&self) -> Result<(), Refusal> {
        let shown = |path: &PathBuf| path.display().to_string();
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), None) => refuse(
                "tls-cert",
                shown(certificates),
                "a certificate together with its private key, which --tls-key names",
            ),
            (None, Some(key)) => refuse(
                "tls-key",
                shown(key),
                "a private key together with its certificate, which --tls-cert names",
            ),
            _ => Ok(()),
        }
    }

    fn validate_rooms(&self) -> Result<(), Refusal> {
        let shown = || self.rooms.join(",").escape_debug().to_string();
        if !self.rooms.iter().any(|room| room == FIRST_ROOM) {
            let allowed = format!("a list with {FIRST_ROOM} in it, where everybody starts");
            return refuse("rooms", shown(), allowed);
        }
        if self.rooms.len() > ROOMS_MAX {
            return refuse("rooms", shown(), format!("at most {ROOMS_MAX} rooms"));
        }
        for (index, room) in self.rooms.iter().enumerate() {
            let chars = room.chars().count();
            if !(1..=ROOM_CHARS_MAX).contains(&chars) || room.chars().any(char::is_control) {
                let allowed = format!("names of 1 to {ROOM_CHARS_MAX} characters, none a control character");
                return refuse("rooms", shown(), allowed);
            }
            if self.rooms[..index].contains(room) {
                return refuse("rooms", shown(), format!("each name once; {room} is there twice"));
            }
        }
        Ok(())
    }
}

/// A value that is not allowed, and what is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value '{value}' for {key}: allowed is {allowed}")]
pub struct Refusal {
    /// The setting, by its flag's name without the dashes.
    pub key: &'static str,
    /// The value, as one would write it.
    pub value: String,
    /// What is allowed instead, to follow "allowed is".
    pub allowed: String,
    /// The setting that this one does not go with, if it is that: one of the two must change.
    pub other: Option<Box<Other>>,
}

/// A setting that another one does not go with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The setting, by its flag's name without the dashes.
    pub key: &'static str,
    /// Its value, as one would write it.
    pub value: String,
    /// What would be allowed here, to follow "allowed is".
    pub allowed: String,
}

fn refuse(key: &'static str, value: String, allowed: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { key, value, allowed: allowed.into(), other: None })
}

fn within<T: PartialOrd + Copy>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
    show: fn(T) -> String,
) -> Result<(), Refusal> {
    if value >= least && value <= most {
        return Ok(());
    }
    refuse(key, show(value), format!("{} to {}", show(least), show(most)))
}

fn number<T: fmt::Display>(value: T) -> String {
    value.to_string()
}

fn duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// A size as one would write it: exact, with the largest binary unit that divides it.
fn size(bytes: usize) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Where the shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One shard for each of these cores, pinned to it. No core twice; never empty.
    Pinned(Vec<usize>),
    /// This many shards, wherever the scheduler puts them.
    Unpinned(NonZeroUsize),
}

impl Placement {
    /// One pinned shard on each core of the calling thread's affinity mask.
    ///
    /// Where the mask cannot be read (a machine of more cores than [`SHARDS_MAX`]), as many unpinned
    /// shards as the standard library counts cores, or one.
    #[must_use]
    pub fn every_core() -> Self {
        match allowed_cores() {
            Some(cores) if !cores.is_empty() => Self::Pinned(cores),
            _ => Self::Unpinned(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        match self {
            Self::Pinned(cores) => cores.len(),
            Self::Unpinned(shards) => shards.get(),
        }
    }

    /// The core that each shard is pinned to, `None` where it is not.
    #[must_use]
    pub fn cores(&self) -> Vec<Option<usize>> {
        match self {
            Self::Pinned(cores) => cores.iter().copied().map(Some).collect(),
            Self::Unpinned(shards) => vec![None; shards.get()],
        }
    }

    /// True where the process may use more cores than there are shards, so that other threads need not take any time
    /// from these. Pinned shards never leave a core: the server uses none but those that were named, and each has one.
    fn has_spare_cores(&self) -> bool {
        match self {
            Self::Pinned(_) => false,
            Self::Unpinned(shards) => std::thread::available_parallelism().is_ok_and(|cores| cores > *shards),
        }
    }

    /// Lets the calling thread, and those that it starts from now on, run on the cores of the shards alone,
    /// where they are pinned.
    ///
    /// # Errors
    ///
    /// When the process may not use one of them.
    pub fn confine(&self) -> io::Result<()> {
        match self {
            Self::Pinned(cores) => pin(cores),
            Self::Unpinned(_) => Ok(()),
        }
    }
}

fn validate_cores(key: &'static str, cores: &[usize]) -> Result<(), Refusal> {
    let shown = || cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let distinct: HashSet<_> = cores.iter().collect();
    if cores.is_empty() || distinct.len() < cores.len() {
        return refuse(key, shown(), "at least one core, each named once");
    }
    if cores.iter().any(|core| *core >= SHARDS_MAX) {
        return refuse(key, shown(), format!("cores from 0 to {}", SHARDS_MAX - 1));
    }
    Ok(())
}

/// Lets the calling thread, and those that it starts from now on, run on these cores alone.
///
/// # Errors
///
/// When the process may not use one of them.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The cores of the calling thread's affinity mask, in ascending order; `None` when it cannot be read.
#[must_use]
pub fn allowed_cores() -> Option<Vec<usize>> {
    let mask = rustix::thread::sched_getaffinity(None).ok()?;
    Some((0..SHARDS_MAX).filter(|core| mask.is_set(*core)).collect())
}

/// How joins and leaves are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Singly up to `presence_limit` members, in batches above.
    Auto,
    /// Always singly: the price of a join grows with the room.
    Exact,
    /// Only numbers, whatever the size.
    Count,
}

impl FromStr for Presence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "exact" => Ok(Self::Exact),
            "count" => Ok(Self::Count),
            _ => Err("allowed is auto, exact or count".into()),
        }
    }
}

/// Whether users must sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody may speak, under any name; who has an account may sign in.
    Off,
    /// Only those with an account may speak, in the chat dialect alone, since the others have no way to
    /// sign in.
    Required,
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "required" => Ok(Self::Required),
            _ => Err("allowed is off or required".into()),
        }
    }
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A line that is one JSON object.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("allowed is text or json".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `validate` says after one change to the defaults.
    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Config::default().validate(), Ok(()));
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
                refusal(|c| c.drain_timeout = Duration::ZERO),
                "invalid value '0s' for drain-timeout: allowed is 1ms to 1day",
            ),
            (
                refusal(|c| c.idle_timeout = secs(30)),
                "invalid value '30s' for idle-timeout: allowed is longer than ping-interval, which is 30s",
            ),
            (
                refusal(|c| c.data = Some(PathBuf::new())),
                "invalid value '' for data: allowed is a directory that is there already",
            ),
            (
                refusal(|c| c.auth = Auth::Required),
                "invalid value 'required' for auth: allowed is off; or required, with --data for the accounts",
            ),
            (
                refusal(|c| c.tls_cert = Some("chain.pem".into())),
                "invalid value 'chain.pem' for tls-cert: allowed is a certificate together with its private key, \
                 which --tls-key names",
            ),
            (
                refusal(|c| c.tls_key = Some("key.pem".into())),
                "invalid value 'key.pem' for tls-key: allowed is a private key together with its certificate, \
                 which --tls-cert names",
            ),
            (refusal(|c| c.history = 10_001), "invalid value '10001' for history: allowed is 0 to 10000"),
            (
                refusal(|c| c.presence_limit = 0),
                "invalid value '0' for presence-limit: allowed is 1 to 10000",
            ),
            (refusal(|c| c.rate = 1_000_001), "invalid value '1000001' for rate: allowed is 0 to 1000000"),
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
    fn pinned_shards_leave_no_core_and_others_may() {
        assert!(!Placement::Pinned(vec![0]).has_spare_cores());
        assert!(!Placement::Unpinned(NonZeroUsize::MAX).has_spare_cores());
        assert_eq!(Placement::Pinned(vec![3, 1]).cores(), [Some(3), Some(1)]);
        assert_eq!(Placement::Unpinned(NonZeroUsize::MIN).cores(), [None]);
    }

    #[test]
    fn rooms_are_named_once_and_general_is_among_them() {
        let with = |rooms: &[&str]| refusal(|c| c.rooms = rooms.iter().map(ToString::to_string).collect());
        assert!(with(&[]).contains("a list with general in it"));
        assert!(with(&["random"]).contains("'random' for rooms: allowed is a list with general in it"));
        assert!(with(&["general", ""]).contains("names of 1 to 64 characters"));
        assert!(with(&["general", &"é".repeat(65)]).contains("names of 1 to 64 characters"));
        assert!(with(&["general", "a\nb"]).contains("'general,a\\nb' for rooms"));
        assert!(with(&["general", "x", "x"]).contains("each name once; x is there twice"));
        let names: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        assert!(refusal(|c| c.rooms.extend(names)).contains("at most 1000 rooms"));
    }

    #[test]
    fn a_burst_of_zero_is_allowed_without_a_rate() {
        let config = Config { rate: 0, burst: 0, ..Config::default() };
        assert_eq!(config.validate(), Ok(()));
    }
}
