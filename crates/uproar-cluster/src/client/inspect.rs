//! Looking at a Redis before it is used.

use std::time::Instant;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::address::RedisAddress;
use super::checks::{self, Check, Measured};
use super::line::{ConnectError, ask, info, open};
use super::permissions;
use crate::Keys;

/// How often `PING` is measured.
const PINGS: usize = 10;

/// Connects, and looks whether the Redis will do, in a Redis Cluster that of each partition. `replicas` is how many must have
/// a message before it is acknowledged.
///
/// # Errors
///
/// When it cannot be reached, or refuses.
pub async fn inspect(
    address: &RedisAddress,
    partitions: u16,
    replicas: u16,
) -> Result<Vec<Check>, ConnectError> {
    let servers = if address.is_of_cluster() { partitions } else { 1 };
    let mut checks = Vec::new();
    for keys in (0..servers).map(Keys::of_partition) {
        for check in inspect_server(address, &keys, replicas).await? {
            // Of what all have alike, one line is enough.
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
    }
    Ok(checks)
}

async fn inspect_server(
    address: &RedisAddress,
    keys: &Keys,
    replicas: u16,
) -> Result<Vec<Check>, ConnectError> {
    let mut connection = open(address, keys).await?;
    let info = info(&mut connection).await?;
    let mut checks = checks::essentials(&info, address.is_of_cluster());
    checks.push(permissions::check(&mut connection, keys, replicas).await?);
    let measured = Measured {
        replicas,
        fsync: setting(&mut connection, "appendfsync").await?,
        replicas_min: setting(&mut connection, "min-replicas-to-write")
            .await?
            .and_then(|text| text.parse().ok()),
        latency_ms: latency_ms(&mut connection).await?,
    };
    checks.extend(checks::advice(&info, &measured));
    Ok(checks)
}

/// A setting of Redis; `None` where the user may not ask.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Result<Option<String>, ConnectError> {
    let Some(value) = permitted(ask(connection, redis::cmd("CONFIG").arg("GET").arg(name)).await)? else {
        return Ok(None);
    };
    let pair: Vec<String> = redis::from_redis_value(value).map_err(redis::RedisError::from)?;
    Ok(pair.into_iter().nth(1))
}

/// The answer; `None` where the user lacks the permission, or a provider has removed the command.
fn permitted(answer: Result<Value, ConnectError>) -> Result<Option<Value>, ConnectError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ConnectError::Redis(error)) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The median time of `PING`, in milliseconds; `None` where the user may not send it.
async fn latency_ms(connection: &mut MultiplexedConnection) -> Result<Option<f64>, ConnectError> {
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let begun = Instant::now();
        if permitted(ask(connection, &redis::cmd("PING")).await)?.is_none() {
            return Ok(None);
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(Some(times[PINGS / 2].as_secs_f64() * 1_000.0))
}
