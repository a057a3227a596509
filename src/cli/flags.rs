//! The flags of the server, with their defaults.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tracing::level_filters::LevelFilter;
use uproar_cluster::NodeName;
use uproar_ring::Features;

use super::command::Command;
use super::values::{
    AddressList, CoreList, FileList, HostList, ListenAddress, OriginList, PatternList, RedisUrl, RoomList,
    duration, level, node, number, size, switch, threads,
};
use crate::config::{
    Anonymous, ApiAddress, Auth, Cluster, Config, Dialects, LogFormat, MetricsPlace, Placement, Presence,
};

/// A chat and broadcast server for Linux, on io_uring.
#[derive(Debug, Parser)]
#[command(
    name = "uproar",
    version,
    disable_help_subcommand = true,
    after_help = "Every flag is also read from the environment (--max-clients from UPROAR_MAX_CLIENTS) and from \
                  the file that --config names (TOML: max-clients = 10000). A flag beats the environment, the \
                  environment beats the file.\n\nDurations are written 30s or 500ms, sizes 10KiB or 10240."
)]
pub(super) struct Flags {
    /// `check`: test whether this machine can run the server, and print what to change.
    /// `user`: manage accounts, see `uproar user --help`.
    /// `token`: make a token, see `uproar token --help`.
    /// `api-key`: make a key for the HTTP API, see `uproar api-key --help`.
    #[arg(value_name = "check|user|token|api-key")]
    pub(super) command: Option<Command>,

    /// TOML file to read settings from; its keys are the flags' names.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Address and port to listen on; a host name stands for its first IPv4 address, or else its first IPv6 address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(super) listen: ListenAddress,

    /// Cores to run on, with one shard (a thread that serves clients) pinned to each [default: all cores that the
    /// process may use].
    #[arg(long, value_name = "0,2-3", conflicts_with = "shards")]
    pub(super) cores: Option<CoreList>,

    /// Run this many shards without pinning them.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(super) shards: Option<NonZeroUsize>,

    /// Threads that accept connections, for TLS, HTTP and /healthz; they run beside the shards [default: one for every
    /// 8 shards].
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(super) acceptors: Option<NonZeroUsize>,

    /// Pin the acceptors to these cores; where a shard uses one of them too, acceptors have a lower priority
    /// [default: the cores of the shards, unless --shards leaves some free].
    #[arg(long, value_name = "2,3")]
    pub(super) acceptor_cores: Option<CoreList>,

    /// How long a shard polls before it sleeps, up to 10ms: it answers faster, and uses more processor time when idle.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(super) busy_poll: Duration,

    /// Features of io_uring to use where the kernel has them: all, none, or a list of immediate-sends, ring-messages
    /// and no-iowait. Use it to find out whether one of them causes a problem.
    #[arg(long, value_name = "all|none|NAME,...", default_value = "all")]
    pub(super) ring_features: Features,

    /// Most connected clients [default: what the descriptor limit allows].
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(super) max_clients: Option<usize>,

    /// Most connected clients of an address (IPv6: of a /64); 0 for no limit. Behind a proxy, set --trusted-proxy
    /// [default: a quarter of all clients, from 64 to 1000].
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(super) max_clients_per_address: Option<usize>,

    /// Most clients of an address that may connect within a second; 0 for no limit.
    #[arg(long, value_name = "N", default_value = "200", value_parser = number::<usize>)]
    pub(super) connect_rate_per_address: usize,

    /// Address, or range such as 10.0.0.0/8, to which these two limits and the limit of unfinished handshakes do not
    /// apply. May be repeated, or list several with commas. It replaces the default, loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.0/8,::1")]
    pub(super) no_limit_for: Vec<AddressList>,

    /// Address, or range such as 10.0.0.0/8, of a proxy whose X-Forwarded-For or Forwarded tells the address of a
    /// client: limits and the log then go by that one, and the proxy itself has no limits. May be repeated, or list
    /// several with commas.
    #[arg(long, value_name = "CIDR")]
    pub(super) trusted_proxy: Vec<AddressList>,

    /// Expect the PROXY protocol, version 1 or 2, from trusted proxies. Their connections without it are closed.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = switch
    )]
    pub(super) proxy_protocol: bool,

    /// Dialects to speak, of chat, hub, raw and echo. The paths of the others answer 404.
    #[arg(long, value_name = "NAMES", default_value = "chat,hub,raw,echo")]
    pub(super) dialects: Dialects,

    /// Longest message that chat accepts; a longer one is rejected.
    #[arg(long, value_name = "SIZE", default_value = "10KiB", value_parser = size)]
    pub(super) max_message: usize,

    /// Longest message that any connection may send; a longer one closes the connection.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    pub(super) max_frame: usize,

    /// Longest HTTP request head; a longer one is answered with 431.
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = size)]
    pub(super) max_head: usize,

    /// Most bytes that wait for a slow client before it is disconnected; each message counts 192 bytes more than its
    /// length.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub(super) send_queue: usize,

    /// Silence after which a connection is pinged.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) ping_interval: Duration,

    /// Silence after which a connection is closed.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(super) idle_timeout: Duration,

    /// Time limit for TLS and the request head, and for signing in where that is required.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) handshake_timeout: Duration,

    /// How long after its connection has ended a chat user may come back as the same user; 0s switches this off.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub(super) session_timeout: Duration,

    /// Time limit for closing all connections on shutdown.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) drain_timeout: Duration,

    /// The rooms that are always there, including general.
    #[arg(long, value_name = "NAMES", default_value = "general,random,gaming")]
    pub(super) rooms: RoomList,

    /// Names of rooms that clients may create by joining them: the beginning of names and a * behind it, such as
    /// team-*, or * for any. May be repeated, or list several with commas [default: none].
    #[arg(long, value_name = "PATTERN")]
    pub(super) room_pattern: Vec<PatternList>,

    /// Most rooms at a time that clients have created; then the one that has been empty longest is forgotten, or, if
    /// none is empty, no other one is created.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = number::<usize>)]
    pub(super) rooms_max: usize,

    /// How long a room that a client has created is kept after its last member has left. With --data its messages stay
    /// on the disk.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(super) room_ttl: Duration,

    /// With --data, most forgotten rooms whose messages stay on the disk; beyond that, those of the room that was
    /// forgotten longest ago are deleted.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = number::<usize>)]
    pub(super) rooms_kept: usize,

    /// Existing directory for history, accounts and what else outlives a restart [default: everything in memory, no
    /// accounts].
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,

    /// Share rooms with other servers, the nodes of a cluster, through this Redis: redis://HOST:6379, rediss:// for
    /// TLS, unix:///PATH, redis+sentinel://HOST:26379,HOST:26379/NAME, or redis+cluster://HOST:6379,HOST:6379. Needs
    /// --node, and takes the place of --data.
    #[arg(long, value_name = "URL")]
    pub(super) redis: Option<RedisUrl>,

    /// File whose first line is the password for Redis. Or set it in the environment, as UPROAR_REDIS_PASSWORD. `ps`
    /// shows everybody a password in the URL.
    #[arg(long, value_name = "FILE")]
    pub(super) redis_password_file: Option<PathBuf>,

    /// The name of this node, which no other one in the cluster has, and which stays when it restarts, such as chat-1,
    /// or the name of its host or pod: 1 to 64 letters, digits, dots, underscores and hyphens. A second process of the
    /// same name ends the first.
    #[arg(long, value_name = "NAME", value_parser = node)]
    pub(super) node: Option<NodeName>,

    /// Replicas of Redis that must have a message before it is acknowledged, up to 16. With 0, a failover can lose
    /// acknowledged messages that no node remembers either.
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u16>)]
    pub(super) redis_replicas: u16,

    /// Logs among which rooms are divided, up to 64; the same on all nodes, from the first start of the cluster on.
    /// One is enough until Redis uses a whole core.
    #[arg(long, value_name = "N", default_value = "1", value_parser = number::<u16>)]
    pub(super) redis_partitions: u16,

    /// Bytes of each log that Redis keeps, at least 16MiB. A node that has missed more starts anew, and its clients may
    /// have missed messages.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub(super) redis_log: usize,

    /// Whether users must sign in, with an account of `uproar user` or a token: off or required.
    #[arg(long, value_name = "off|required", default_value = "off")]
    pub(super) auth: Auth,

    /// What clients without an account and a token may do: listen (hear rooms and topics, and say nothing) [default:
    /// everything, or with --auth required nothing].
    #[arg(long, value_name = "listen")]
    pub(super) anonymous: Option<Anonymous>,

    /// File with a key that tokens are checked with: a public key in PEM form, or a secret of at least 32 bytes. May be
    /// repeated, or list several with commas. On SIGHUP it is read again.
    #[arg(long, value_name = "FILE")]
    pub(super) token_key: Vec<FileList>,

    /// File with a JWK set, whose keys are chosen by kid. On SIGHUP it is read again.
    #[arg(long, value_name = "FILE")]
    pub(super) token_jwks: Option<PathBuf>,

    /// Issuer (iss) that tokens must have.
    #[arg(long, value_name = "NAME")]
    pub(super) token_issuer: Option<String>,

    /// Audience (aud) that tokens must be for.
    #[arg(long, value_name = "NAME")]
    pub(super) token_audience: Option<String>,

    /// Messages that a room keeps for new members.
    #[arg(long, value_name = "N", default_value = "100", value_parser = number::<usize>)]
    pub(super) history: usize,

    /// How joins and leaves are announced: auto (singly, in large rooms in batches), exact (always singly), or count
    /// (only numbers).
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(super) presence: Presence,

    /// Members above which a room is large.
    #[arg(long, value_name = "N", default_value = "500", value_parser = number::<usize>)]
    pub(super) presence_limit: usize,

    /// Most messages a second that a connection may send; 0 for no limit.
    #[arg(long, value_name = "N", default_value = "50", value_parser = number::<u32>)]
    pub(super) rate: u32,

    /// Most messages that a connection may send at once.
    #[arg(long, value_name = "N", default_value = "100", value_parser = number::<u32>)]
    pub(super) burst: u32,

    /// Most messages a second that a connection to /broadcast may send, and twice as many at once; others are dropped.
    /// 0 for no limit.
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u32>)]
    pub(super) topic_rate: u32,

    /// Most topics of /broadcast at a time; connecting to another one is answered with 503.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = number::<usize>)]
    pub(super) topics_max: usize,

    /// Origin from which browsers may connect beside the server's own, such as https://example.com or
    /// https://*.example.com; null for pages opened from files, * for all. May be repeated, or list several with
    /// commas.
    #[arg(long, value_name = "ORIGIN")]
    pub(super) allow_origin: Vec<OriginList>,

    /// Host name that browsers may use for a server that listens on loopback: the name of the site, where a proxy on
    /// this machine passes it on and is no --trusted-proxy. May be repeated, or list several with commas.
    #[arg(long, value_name = "NAME")]
    pub(super) allow_host: Vec<HostList>,

    /// Serve only https and wss, with the certificate in this PEM file, followed by its issuers'; needs --tls-key. On
    /// SIGHUP both files are read again.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,

    /// Serve the HTTP API for backends there: an address and a port, which need --api-key-file, or unix: and the absolute
    /// path of a socket, which needs no key. Never on the port of --listen [default: no API].
    #[arg(long, value_name = "ADDR")]
    pub(super) api_listen: Option<ApiAddress>,

    /// File with the keys of the HTTP API, a line each, as `uproar api-key` prints them. It is read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,

    /// Serve the HTTP API over TLS only, with the certificate of --tls-cert.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = switch
    )]
    pub(super) api_tls: bool,

    /// Where /metrics is served: api, on --api-listen alone where there is one; or public, on --listen, too.
    #[arg(long, value_name = "api|public", default_value = "api")]
    pub(super) metrics: MetricsPlace,

    /// Format of the log: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log: LogFormat,

    /// Log one line for each connection at its end, and one for each request of the HTTP API, at any level.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = switch
    )]
    pub(super) log_access: bool,

    /// Least severe level to log: error, warn, info, debug, trace, or off.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    pub(super) log_level: LevelFilter,
}

impl Flags {
    pub(super) fn into_config(self, listen: SocketAddr, cluster: Option<Cluster>) -> Config {
        Config {
            listen,
            placement: match (self.cores, self.shards) {
                (Some(CoreList(cores)), _) => Placement::Pinned(cores),
                (None, Some(shards)) => Placement::Unpinned(shards),
                (None, None) => Placement::every_core(),
            },
            acceptors: self.acceptors,
            acceptor_cores: self.acceptor_cores.map(|list| list.0),
            busy_poll: self.busy_poll,
            ring_features: self.ring_features,
            max_clients: self.max_clients,
            max_clients_per_address: self.max_clients_per_address,
            connect_rate_per_address: self.connect_rate_per_address,
            no_limit_for: self.no_limit_for.into_iter().flat_map(|list| list.0).collect(),
            trusted_proxies: self.trusted_proxy.into_iter().flat_map(|list| list.0).collect(),
            proxy_protocol: self.proxy_protocol,
            dialects: self.dialects,
            max_message_bytes: self.max_message,
            max_frame_bytes: self.max_frame,
            max_head_bytes: self.max_head,
            send_queue_bytes: self.send_queue,
            ping_interval: self.ping_interval,
            idle_timeout: self.idle_timeout,
            handshake_timeout: self.handshake_timeout,
            session_timeout: self.session_timeout,
            drain_timeout: self.drain_timeout,
            rooms: self.rooms.0,
            room_patterns: self.room_pattern.into_iter().flat_map(|list| list.0).collect(),
            rooms_max: self.rooms_max,
            room_ttl: self.room_ttl,
            rooms_kept: self.rooms_kept,
            data: self.data,
            cluster,
            auth: self.auth,
            anonymous: self.anonymous,
            token_keys: self.token_key.into_iter().flat_map(|list| list.0).collect(),
            token_jwks: self.token_jwks,
            token_issuer: self.token_issuer,
            token_audience: self.token_audience,
            history: self.history,
            presence: self.presence,
            presence_limit: self.presence_limit,
            rate: self.rate,
            burst: self.burst,
            topic_rate: self.topic_rate,
            topics_max: self.topics_max,
            allow_origins: self.allow_origin.into_iter().flat_map(|list| list.0).collect(),
            allow_hosts: self.allow_host.into_iter().flat_map(|list| list.0).collect(),
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            api_listen: self.api_listen,
            api_key_file: self.api_key_file,
            api_tls: self.api_tls,
            metrics: self.metrics,
            log_format: self.log,
            log_access: self.log_access,
            log_level: self.log_level,
        }
    }
}
