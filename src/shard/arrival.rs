//! Admission: an upgraded connection becomes a user, a subscriber of a topic, or an echo client.

use uproar_ring::{ConnectionId, SharedBytes};

use super::Shard;
use super::client::{Client, Session, TopicMembership};
use super::link::Link;
use super::rate::TokenBucket;
use super::settings::ShardSettings;
use super::user::{Standing, User};
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::handshake::route::Endpoint;
use crate::handshake::{Admission, UpgradeRequest};
use crate::metrics::Dialect;

impl Shard {
    /// Admits a connection. The caller attaches its socket to the ring under the returned id.
    pub fn admit(&mut self, admission: Admission, now: Now) -> ConnectionId {
        let Admission { request, received, tls, permit } = admission;
        let UpgradeRequest { endpoint, query: _, peer, response } = request;
        let settings = &self.context.settings;
        let (dialect, session) = match endpoint {
            Endpoint::Chat => (Dialect::Chat, user(UserDialect::Chat, settings, now)),
            Endpoint::Hub => (Dialect::Hub, user(UserDialect::Hub, settings, now)),
            Endpoint::Raw { topic } => {
                let rate = settings.limits.topic_rate;
                let bucket = (rate.per_second > 0).then(|| TokenBucket::full(rate, now.monotonic_ms).into());
                let membership = TopicMembership::None;
                (Dialect::Raw, Session::Raw { topic: topic.into(), membership, bucket })
            }
            Endpoint::Echo => (Dialect::Echo, Session::Echo),
        };
        let metrics = &self.context.metrics;
        metrics.upgrades.add(1);
        metrics.connections.with(dialect).add(1);
        metrics.tls_connections.add(usize::from(tls.is_some()));
        let has_ended = tls.as_ref().is_some_and(|tls| tls.peer_has_closed());
        let response = SharedBytes::new(response);
        let config = &self.context.connection_config;
        let link = Link::new(dialect, peer, response, tls, permit, config, now.monotonic_ms);
        let id = self.clients.insert(Client { link, session });
        self.with_client(id, now, |session, io| session.begin(io));
        if self.drain.is_some() {
            self.close_for_shutdown(id, now);
        }
        self.settle(now);
        self.handle_plaintext(id, &received, now);
        self.settle(now);
        if has_ended {
            self.handle_end_of_stream(id, now);
            self.settle(now);
        }
        id
    }
}

fn user(dialect: UserDialect, settings: &ShardSettings, now: Now) -> Session {
    let mut user = User::new(dialect, settings.limits.rate, now);
    if let Some(timeout_ms) = settings.sign_in_timeout_ms {
        user.standing = Standing::MustSignIn { until_ms: now.monotonic_ms + timeout_ms };
    }
    Session::User(Box::new(user))
}
