//! One connection to Redis.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, InfoDict, Value};

use super::address::RedisAddress;
use crate::Keys;

/// How long to wait for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Redis cannot be reached, or refuses.
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    /// It takes too long.
    #[error("no connection within 2 s")]
    Timeout,
    /// It cannot do what is asked of it.
    #[error("{name}: {found}; {advice}")]
    Unfit {
        /// What is wrong.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        advice: &'static str,
    },
    /// It does not take a script.
    #[error("it does not take the script {script}: {error}")]
    Script {
        /// Which one.
        script: &'static str,
        /// What it says.
        error: redis::RedisError,
    },
}

impl ConnectError {
    /// True when Redis has answered, and refuses: trying again does not help before a setting has changed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Redis(error) | Self::Script { error, .. } => {
                error.kind() == redis::ErrorKind::AuthenticationFailed
                    || matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS"))
            }
            Self::Unfit { .. } => true,
            Self::Timeout => false,
        }
    }
}

/// One connection to the primary of a partition.
pub(super) async fn open(address: &RedisAddress, keys: &Keys) -> Result<MultiplexedConnection, ConnectError> {
    let client = tokio::time::timeout(CONNECT_TIMEOUT, address.client(keys)).await;
    open_to(&client.map_err(|_| ConnectError::Timeout)??).await
}

/// One connection. It ends no command by itself: `XREAD` waits for long.
pub(super) async fn open_to(client: &redis::Client) -> Result<MultiplexedConnection, ConnectError> {
    let connecting = async {
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| ConnectError::Timeout)?
}

pub(super) async fn info(connection: &mut MultiplexedConnection) -> Result<InfoDict, ConnectError> {
    let info = ask(connection, &redis::cmd("INFO")).await?;
    Ok(redis::from_redis_value(info).map_err(redis::RedisError::from)?)
}

/// Sends a command, and waits for the answer no longer than for a connection.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Value, ConnectError> {
    let asking = tokio::time::timeout(CONNECT_TIMEOUT, command.query_async(connection));
    Ok(asking.await.map_err(|_| ConnectError::Timeout)??)
}
