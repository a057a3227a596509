//! The key that signs the tokens of sessions, which all nodes must have alike.

use redis::Value;

use super::address::RedisAddress;
use super::line::{ConnectError, ask, open};
use crate::Keys;

/// The key that all nodes use: the one in Redis, or `own` where there is none, which is then put there.
///
/// A node calls it at its start with a random key, and with the answer after each recovery: where Redis has lost the
/// key, the first node puts it back, and tokens stay valid.
///
/// # Errors
///
/// When Redis cannot be reached, refuses, or has something else in its place.
pub async fn session_key(address: &RedisAddress, own: [u8; 32]) -> Result<[u8; 32], ConnectError> {
    let keys = Keys::of_partition(0);
    let mut connection = open(address, &keys).await?;
    let mut put = redis::cmd("SET");
    put.arg(keys.session_key()).arg(&own).arg("NX").arg("GET");
    match ask(&mut connection, &put).await? {
        Value::Nil => Ok(own),
        Value::BulkString(found) => found.try_into().map_err(|found: Vec<u8>| ConnectError::Unfit {
            name: "session key",
            found: format!("{} bytes", found.len()),
            advice: "remove it, and a node puts its own there",
        }),
        other => Err(ConnectError::Unfit {
            name: "session key",
            found: format!("{other:?}"),
            advice: "remove it, and a node puts its own there",
        }),
    }
}
