//! How a connection comes to a shard: from an upgrade to a user, a listener of a topic, or an echo.

use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;

use super::Shard;
use super::client::{Client, Session, TopicMembership};
use super::user::{Standing, User};
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::handshake::Admission;
use crate::handshake::route::Endpoint;
use crate::rooms::Request;

impl Shard {
    /// Takes a connection in. Its socket is to be attached to the ring under this id.
    pub fn admit(&mut self, admission: Admission, now: Now) -> ConnectionId {
        let Admission { endpoint, peer, response, received, tls, permit } = admission;
        let session = match endpoint {
            Endpoint::Chat => self.user_session(UserDialect::Chat, now),
            Endpoint::Hub => self.user_session(UserDialect::Hub, now),
            Endpoint::Raw { topic } => {
                Session::Raw { topic: topic.into(), membership: TopicMembership::None }
            }
            Endpoint::Echo => Session::Echo,
        };
        self.metrics.upgrades.add(1);
        self.metrics.connections.with(session.dialect()).add(1);
        self.metrics.tls_connections.add(usize::from(tls.is_some()));
        let has_ended = tls.as_ref().is_some_and(|tls| tls.peer_has_closed());
        let config = &self.connection_config;
        let client =
            Client::new(session, peer, SharedBytes::new(response), tls, permit, config, now.monotonic_ms);
        let id = self.clients.insert(client);
        self.schedule(id);
        self.begin_session(id);
        if self.drain.is_some() {
            self.close_for_shutdown(id, now);
        }
        self.settle(now);
        if !received.is_empty() {
            self.handle_plaintext(id, &received, now);
            self.settle(now);
        }
        if has_ended {
            self.handle_end_of_stream(id, now);
            self.settle(now);
        }
        id
    }

    /// Makes a new connection what it asked to be, or asks its home to.
    fn begin_session(&mut self, id: ConnectionId) {
        let origin = self.origin(id);
        let client = self.clients.at(id.index);
        match &mut client.session {
            Session::User(user) => match user.dialect {
                UserDialect::Chat if matches!(user.standing, Standing::Stranger { .. }) => {
                    client.greet();
                    self.mark_dirty(id);
                }
                UserDialect::Hub => self.request_names(id),
                UserDialect::Chat => self.enter(id),
            },
            Session::Raw { topic, membership } => {
                *membership = TopicMembership::Joining;
                let topic = topic.clone();
                let home = self.directory.topic_home(&topic);
                self.request(home, Request::Subscribe { topic, origin });
            }
            Session::Echo => {
                client.greet();
                self.mark_dirty(id);
            }
        }
    }

    fn user_session(&self, dialect: UserDialect, now: Now) -> Session {
        let mut user = User::new(dialect, self.settings.limits.rate, now);
        if let Some(timeout_ms) = self.settings.sign_in_timeout_ms {
            user.standing = Standing::Stranger { until_ms: now.monotonic_ms + timeout_ms };
        }
        Session::User(Box::new(user))
    }
}
