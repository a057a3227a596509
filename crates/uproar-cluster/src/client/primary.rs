//! Finding the server of Redis that takes the writes of a partition.

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisResult, TlsCertificates, TlsMode};

use super::address::{Host, Kind, RedisAddress, SignIn, host_of, with_settings};
use super::line::{ConnectError, ask, open_to};
use crate::Keys;

/// How many servers of a Redis Cluster may point to another one. More do so only while they disagree.
const REDIRECTIONS_MAX: usize = 4;

impl RedisAddress {
    /// A client for the primary of a partition. Sentinels are asked for it, or the servers of a Redis Cluster.
    pub(super) async fn client(&self, keys: &Keys) -> Result<Client, ConnectError> {
        let certificates = self.certificates()?;
        match &self.kind {
            Kind::Direct(info) => Ok(client_of((**info).clone(), certificates)?),
            Kind::Sentinel { sentinels, name, is_tls, sign_in } => {
                let tcp = |(host, port): &Host| ConnectionAddr::Tcp(host.clone(), *port);
                let sentinels: Vec<_> = sentinels.iter().map(tcp).collect();
                let mut builder =
                    SentinelClientBuilder::new(sentinels, name.clone(), SentinelServerType::Master)?
                        .set_client_to_redis_tcp_settings(TcpSettings::default().set_nodelay(true));
                if *is_tls {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                }
                if let Some(certificates) = certificates {
                    builder = builder.set_client_to_redis_certificates(certificates);
                }
                if let Some(user) = &sign_in.user {
                    builder = builder.set_client_to_redis_username(user.clone());
                }
                if let Some(password) = &sign_in.password {
                    builder = builder.set_client_to_redis_password(password.clone());
                }
                Ok(builder.build()?.async_get_client().await?)
            }
            Kind::Cluster { servers, is_tls, sign_in } => {
                // Another one each time: one that does not answer costs all the time that there is.
                let server = &servers[rand::random_range(0..servers.len())];
                let client = |server: &Host| {
                    client_of(server_of_cluster(server, *is_tls, sign_in)?, certificates.clone())
                };
                follow(server.clone(), keys, client).await
            }
        }
    }

    /// What is trusted, if it is not what the system trusts.
    fn certificates(&self) -> RedisResult<Option<TlsCertificates>> {
        let Some(path) = &self.ca else { return Ok(None) };
        let unreadable = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
        };
        let root_cert = Some(std::fs::read(path).map_err(unreadable)?);
        Ok(Some(TlsCertificates { client_tls: None, root_cert }))
    }
}

fn client_of(info: redis::ConnectionInfo, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn server_of_cluster(
    (host, port): &Host,
    is_tls: bool,
    SignIn { user, password }: &SignIn,
) -> RedisResult<redis::ConnectionInfo> {
    let scheme = if is_tls { "rediss" } else { "redis" };
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let info = with_settings(format!("{scheme}://{host}:{port}").into_connection_info()?);
    let mut settings = info.redis_settings().clone();
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

/// Asks a server of a Redis Cluster for something of a partition, and the one to which it points, until one has it.
async fn follow(
    mut server: Host,
    keys: &Keys,
    client_of: impl Fn(&Host) -> RedisResult<Client>,
) -> Result<Client, ConnectError> {
    let mut asking = redis::cmd("HLEN");
    asking.arg(keys.meta());
    for _ in 0..=REDIRECTIONS_MAX {
        let client = client_of(&server)?;
        let error = match ask(&mut open_to(&client).await?, &asking).await {
            Err(ConnectError::Redis(error)) => error,
            answer => return answer.map(|_| client),
        };
        // It has the partition also where it gives it away at the moment, and where something else is in its place.
        if matches!(error.code(), Some("ASK" | "WRONGTYPE")) {
            return Ok(client);
        }
        let Some((other, _)) = error.redirect_node() else { return Err(error.into()) };
        // Where it does not know the other one's address, it is at its own.
        let other = if other.starts_with(':') { format!("{}{other}", server.0) } else { other.to_owned() };
        server = host_of(&other, server.1).ok_or(error)?;
    }
    Err(ConnectError::Timeout)
}
