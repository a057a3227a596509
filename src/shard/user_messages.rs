//! What users of either dialect say, ahead of what their dialect makes of it.

use super::Shard;
use super::user::User;
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{Refusal, UserDialect, hub};
use crate::mail::{Delivery, Private};
use crate::rooms::{Member, Request, ResumePoint, RoomIndex, UserId};
use std::sync::Arc;
use uproar_protocol::frames::MessageKind;
use uproar_ring::ConnectionId;

impl Shard {
    /// Gives a user whom this shard is about to greet its id, and a name if it has none. From now on others can reach it.
    ///
    /// It comes ahead of the user's first join: who hears of that may answer at once.
    pub(super) fn register(&mut self, id: ConnectionId) {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return };
        debug_assert_eq!(user.id, None, "registered twice");
        let user_id = self.directory.users().register(origin);
        user.id = Some(user_id);
        if user.name.is_empty() {
            user.name = format!("User{user_id}").into();
        }
    }

    /// A user of this shard, once it has been welcomed and until it goes.
    pub(super) fn find_user(&mut self, user: UserId) -> Option<(ConnectionId, &mut User)> {
        let at = self.directory.users().find(user).filter(|at| at.shard == self.settings.index)?;
        let user = self.clients.user(at.connection).filter(|user| user.welcomed)?;
        Some((at.connection, user))
    }

    pub(super) fn request_join(&mut self, id: ConnectionId, room: RoomIndex, after: Option<ResumePoint>) {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return };
        let &mut User { dialect, ref name, connected_at, .. } = user;
        let (user, name) = (user.registered_id(), Arc::clone(name));
        let wants_names = dialect == UserDialect::Hub;
        let member = Member { user, name, connected_at, origin, wants_names };
        self.request(self.directory.home(room), Request::Join { room, member, after });
    }

    /// Takes what a user has said, and answers when it has no effect.
    pub(super) fn handle_user_message(
        &mut self,
        id: ConnectionId,
        kind: MessageKind,
        payload: &[u8],
        now: Now,
    ) {
        let rate = self.settings.limits.rate;
        let Some(user) = self.clients.user(id) else { return };
        user.last_message_ms = now.monotonic_ms;
        let outcome = if !user.bucket.take(rate, now.monotonic_ms) {
            Err(Refusal::TooMany)
        } else {
            match user.dialect {
                UserDialect::Chat => self.handle_chat_message(id, kind, payload, now),
                UserDialect::Hub => self.handle_hub_message(id, kind, payload, now),
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(id, &refusal, now);
        }
    }

    /// Tells a user why something had no effect.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: &Refusal, now: Now) {
        let Some(user) = self.clients.user(id) else { return };
        let message = match user.dialect {
            UserDialect::Chat => chat::direct(&Direct::Error { message: refusal.to_string() }, now),
            UserDialect::Hub => hub::system(&refusal.to_string(), self.names()),
        };
        self.push(id, message, now);
    }

    /// Gives a private message to the user that it is for, who is one of this shard's if anyone's.
    pub(super) fn receive_private(&mut self, private: Private, now: Now) {
        let Private { from, from_name, origin, to, content } = private;
        let Some((id, &mut User { dialect, ref name, .. })) = self.find_user(to) else {
            self.reply(origin.shard, Delivery::UserNotFound { to: origin });
            return;
        };
        let receiver_name = Arc::clone(name);
        if content.is_empty() {
            return;
        }
        let message = match dialect {
            UserDialect::Chat => chat::private_message(from, &from_name, &content, now),
            UserDialect::Hub => hub::message(&from_name, &content, self.names()),
        };
        self.push(id, message, now);
        self.reply(origin.shard, Delivery::PrivateSent { to: origin, receiver: to, receiver_name, content });
    }
}
