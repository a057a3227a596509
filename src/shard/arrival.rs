//! Admission: an upgraded connection becomes a user, a subscriber of a topic, or an echo client.

use std::sync::Arc;

use uproar_ring::{ConnectionId, SharedBytes};

use super::Shard;
use super::client::{Client, Session, TopicMembership};
use super::expiry;
use super::link::Link;
use super::rate::TokenBucket;
use super::settings::ShardSettings;
use super::user::{Standing, User};
use crate::accounts::Identity;
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::handshake::route::Endpoint;
use crate::handshake::{Admission, UpgradeRequest};
use crate::metrics::Dialect;
use crate::name;

impl Shard {
    /// Admits a connection. The caller attaches its socket to the ring under the returned id.
    pub fn admit(&mut self, admission: Admission, now: Now) -> ConnectionId {
        let Admission { request, received, tls, permit } = admission;
        let UpgradeRequest { endpoint, query, identity, peer, response } = request;
        let settings = &self.context.settings;
        let identity = identity.map(|identity| self.context.with_free_name(identity));
        let account = identity.as_ref().map(|identity| Arc::clone(&identity.account));
        let end = identity.as_ref().map(|identity| expiry::end_without_renewal(&identity.rights, now));
        let (dialect, session) = match endpoint {
            Endpoint::Chat => {
                let mut user = user(UserDialect::Chat, identity, settings, now);
                let is_muted = settings.moderation.is_address_muted(peer.ip(), now.unix_seconds);
                let may_choose = !user.is_signed_in() && !is_muted;
                let asked = query.name.as_deref().filter(|_| may_choose).and_then(name::parse);
                // A name that is not free is ignored, and one of a muted client, which would be announced.
                if let Some(name) = asked.filter(|name| !self.context.is_reserved(name)) {
                    user.name = name;
                }
                let session = query.session.as_deref().zip(settings.sessions.as_ref());
                user.claimed = session.and_then(|(token, sessions)| sessions.signer.check(token));
                user.signed_in_late = matches!(user.standing, Standing::MustSignIn { .. });
                (Dialect::Chat, Session::User(Box::new(user)))
            }
            Endpoint::Hub => {
                (Dialect::Hub, Session::User(Box::new(user(UserDialect::Hub, identity, settings, now))))
            }
            Endpoint::Raw { topic } => {
                let may_publish = match &identity {
                    None => !settings.anonymous_listen,
                    Some(identity) => identity.rights.may_publish_on(&topic),
                };
                let rate = settings.limits.topic_rate;
                let bucket = (rate.per_second > 0).then(|| TokenBucket::full(rate, now.monotonic_ms).into());
                let membership = TopicMembership::None;
                (Dialect::Raw, Session::Raw { topic: topic.into(), membership, may_publish, bucket })
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
        let mut link = Link::new(dialect, peer, response, tls, permit, config, now);
        if let (Some(end), Session::Raw { .. } | Session::Echo) = (end, &session) {
            link.deadline = end;
        }
        let is_user = matches!(session, Session::User(_));
        let id = self.clients.insert(Client { link, session });
        if let Some(account) = account.filter(|_| !is_user) {
            self.context.token_connections.insert(id, account, now.unix_seconds);
        }
        self.with_client(id, now, |session, io| session.begin(io));
        self.report_begin(id, now);
        if self.drain.is_some() {
            self.close_for_shutdown(id, now);
        }
        self.settle(now);
        self.clients.at(id.index).link.received_bytes += received.len() as u64;
        self.handle_plaintext(id, &received, now);
        self.settle(now);
        if has_ended {
            self.handle_end_of_stream(id, now);
            self.settle(now);
        }
        id
    }
}

fn user(dialect: UserDialect, identity: Option<Identity>, settings: &ShardSettings, now: Now) -> User {
    let rate = settings.limits.rate;
    let rate = identity.as_ref().map_or(rate, |identity| rate.or_of(&identity.rights));
    let mut user = User::new(dialect, rate, now);
    if let Some(identity) = identity {
        user.name = Arc::clone(&identity.name);
        user.standing = Standing::SignedIn(identity);
    } else if settings.anonymous_listen {
        user.standing = Standing::Listener;
    } else if let Some(timeout_ms) = settings.sign_in_timeout_ms {
        user.standing = Standing::MustSignIn { until_ms: now.monotonic_ms + timeout_ms };
    }
    user
}
