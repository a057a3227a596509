//! Whether a Redis can do what is asked of it.

use redis::InfoDict;

/// The oldest version whose scripts see that memory is full before they write.
const VERSION_MIN: (u32, u32) = (7, 0);

/// The longest answer to `PING`, in milliseconds, that needs no remark. A message takes two such times and more.
const LATENCY_MS_MAX: f64 = 10.0;

/// How full the memory may be without a remark, in percent.
const MEMORY_PERCENT_MAX: u64 = 90;

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// Whether that will do.
    pub finding: Finding,
}

/// Whether something will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It will.
    Good,
    /// It will, but messages may be lost or late. What it should be.
    Warning(&'static str),
    /// It will not. What it should be.
    Bad(&'static str),
}

/// What was measured of a Redis beside its `INFO`.
pub(super) struct Measured {
    /// How many replicas must have a message.
    pub(super) replicas: u16,
    /// What `CONFIG GET` tells of `appendfsync` and `min-replicas-to-write`. Many users may not ask.
    pub(super) fsync: Option<String>,
    pub(super) replicas_min: Option<u64>,
    /// How long `PING` takes, in milliseconds.
    pub(super) latency_ms: Option<f64>,
}

fn text(info: &InfoDict, name: &str) -> String {
    info.get(name).unwrap_or_default()
}

fn number(info: &InfoDict, name: &str) -> u64 {
    info.get(name).unwrap_or_default()
}

fn good_if(is_good: bool, otherwise: Finding) -> Finding {
    if is_good { Finding::Good } else { otherwise }
}

/// What must be right before a node begins, with an address of a Redis Cluster or of one server.
pub(super) fn essentials(info: &InfoDict, is_of_cluster: bool) -> Vec<Check> {
    // Valkey tells in `redis_version` which Redis it can stand in for.
    let version = text(info, "redis_version");
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let numbers = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let policy = text(info, "maxmemory_policy");
    let role = text(info, "role");
    let is_cluster = number(info, "cluster_enabled") == 1;
    vec![
        Check {
            name: "version",
            found: version,
            finding: good_if(numbers >= VERSION_MIN, Finding::Bad("use Redis 7.0 or later, or Valkey")),
        },
        Check {
            name: "cluster mode",
            found: if is_cluster { "on" } else { "off" }.to_owned(),
            finding: good_if(
                is_of_cluster || !is_cluster,
                Finding::Bad("give its address as redis+cluster://HOST:PORT,HOST:PORT"),
            ),
        },
        Check {
            name: "role",
            finding: good_if(role == "master", Finding::Bad("give the address of the primary")),
            found: role,
        },
        Check {
            name: "eviction policy",
            finding: good_if(
                policy == "noeviction",
                Finding::Bad(
                    "set maxmemory-policy noeviction, or Redis removes rooms when its memory is full",
                ),
            ),
            found: policy,
        },
    ]
}

/// What else an operator should know.
pub(super) fn advice(info: &InfoDict, measured: &Measured) -> Vec<Check> {
    let mut checks = vec![memory(info), persistence(info)];
    checks.extend(fsync(info, measured));
    checks.extend(replicas(info, measured));
    checks.extend(measured.latency_ms.map(|latency_ms| Check {
        name: "latency",
        found: format!("{latency_ms:.2} ms"),
        finding: good_if(
            latency_ms <= LATENCY_MS_MAX,
            Finding::Warning("put Redis nearer to the nodes, because each message waits for it twice"),
        ),
    }));
    checks
}

fn memory(info: &InfoDict) -> Check {
    let (used, limit) = (number(info, "used_memory"), number(info, "maxmemory"));
    let (used_text, limit_text) = (text(info, "used_memory_human"), text(info, "maxmemory_human"));
    let is_below = |percent: u64| limit == 0 || used / 100 < limit / 10_000 * percent;
    Check {
        name: "memory",
        found: if limit == 0 {
            format!("{used_text}, without a limit")
        } else {
            format!("{used_text} of {limit_text}")
        },
        finding: if is_below(MEMORY_PERCENT_MAX) {
            Finding::Good
        } else if used < limit {
            Finding::Warning("raise maxmemory, because a full Redis takes no messages")
        } else {
            Finding::Bad("raise maxmemory, because a full Redis takes no messages")
        },
    }
}

fn persistence(info: &InfoDict) -> Check {
    let has_file = number(info, "aof_enabled") == 1;
    let is_kept = has_file || saves(info);
    Check {
        name: "persistence",
        found: if has_file {
            "append-only file"
        } else if is_kept {
            "snapshots"
        } else {
            "none"
        }
        .to_owned(),
        finding: good_if(
            is_kept,
            Finding::Warning("set appendonly yes, or everything is lost when all servers and Redis stop"),
        ),
    }
}

/// True when Redis writes snapshots now and then: it has counted changes for the next, or written one.
fn saves(info: &InfoDict) -> bool {
    info.get::<u64>("rdb_last_save_time").is_some()
        && info.get::<u64>("rdb_saves").is_some_and(|saves| saves > 0)
}

/// When the file reaches the disk, if there is one and the user may know.
fn fsync(info: &InfoDict, measured: &Measured) -> Option<Check> {
    let found = measured.fsync.clone().filter(|_| number(info, "aof_enabled") == 1)?;
    let finding = good_if(
        found != "no",
        Finding::Warning(
            "set appendfsync everysec, or the last half minute is lost with the machine of Redis",
        ),
    );
    Some(Check { name: "appendfsync", found, finding })
}

/// Where replicas must have a message.
fn replicas(info: &InfoDict, measured: &Measured) -> Vec<Check> {
    let wanted = u64::from(measured.replicas);
    if wanted == 0 {
        return Vec::new();
    }
    let connected = number(info, "connected_slaves");
    // It is told only where it is set. How many are asked for only `CONFIG GET` tells.
    let is_set = info.get::<String>("min_slaves_good_slaves").is_some();
    let replicas_min = measured.replicas_min.unwrap_or(u64::from(is_set));
    vec![
        Check {
            name: "replicas",
            found: format!("{connected} connected, {wanted} asked for"),
            finding: good_if(
                connected >= wanted,
                Finding::Warning("connect more replicas, because no message is acknowledged until then"),
            ),
        },
        Check {
            name: "min-replicas-to-write",
            found: replicas_min.to_string(),
            finding: good_if(
                replicas_min > 0,
                Finding::Warning(
                    "set min-replicas-to-write 1, or a primary that is cut off takes messages that are lost",
                ),
            ),
        },
    ]
}
