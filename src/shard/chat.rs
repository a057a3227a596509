//! Users of the chat dialect: their coming, and what they ask for.

use super::connection::{RoomMembership, Session, TopicMembership};
use super::{Overflow, Shard};
use crate::clock::Now;
use crate::connection_id::ConnectionId;
use crate::dialect::chat::{self, Command, Direct, Refusal, Stats};
use crate::hub::{Delivery, Member, Private, Request, RoomIndex};
use crate::protocol::frames::MessageKind;

impl Shard {
    /// Makes a new connection what it asked to be, or asks its home to.
    pub(super) fn begin_session(&mut self, id: ConnectionId, now: Now) {
        let origin = self.origin(id);
        let limit_bytes = self.settings.limits.queue_bytes_max;
        let connection = self.connections.at(id.index);
        match &mut connection.session {
            Session::Chat(user) => {
                user.membership = RoomMembership::Joining(RoomIndex::GENERAL);
                self.request_join(id, RoomIndex::GENERAL);
            }
            Session::Raw { topic, membership } => {
                *membership = TopicMembership::Joining;
                let topic = topic.clone();
                let home = self.directory.topic_home(&topic);
                self.request(home, Request::Subscribe { topic, origin });
            }
            Session::Echo => match connection.greet(limit_bytes) {
                Ok(()) => self.mark_dirty(id),
                Err(Overflow) => self.evict(id, now),
            },
        }
    }

    pub(super) fn request_join(&mut self, id: ConnectionId, room: RoomIndex) {
        let origin = self.origin(id);
        let Some(user) = self.connections.chat_user(id) else { return };
        let (user, name, connected_at) = (user.id, user.name.clone(), user.connected_at);
        let member = Member { user, name, connected_at, origin };
        self.request(self.directory.home(room), Request::Join { room, member });
    }

    pub(super) fn handle_chat_message(&mut self, id: ConnectionId, kind: MessageKind, payload: &[u8], now: Now) {
        let limits = self.settings.limits;
        let Some(user) = self.connections.chat_user(id) else { return };
        let command = if user.bucket.take(limits.rate, now.monotonic_ms) {
            chat::decode(kind, payload, limits.message_bytes_max)
        } else {
            Err(Refusal::TooMany)
        };
        let outcome = match command {
            Ok(None) => Ok(()),
            Ok(Some(command)) => self.carry_out(id, command, now),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = outcome {
            self.refuse(id, &refusal, now);
        }
    }

    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: &Refusal, now: Now) {
        self.push(id, chat::direct(&Direct::Error { message: refusal.to_string() }, now), now);
    }

    fn carry_out(&mut self, id: ConnectionId, command: Command, now: Now) -> Result<(), Refusal> {
        let origin = self.origin(id);
        let Some(user) = self.connections.chat_user(id) else { return Ok(()) };
        let (user_id, name) = (user.id, user.name.clone());
        // Input is read only while the user is in a room, so there is one.
        let RoomMembership::In { room, place } = user.membership else { return Ok(()) };
        let home = self.directory.home(room);
        match command {
            Command::Say(content) => {
                self.request(home, Request::Say { room, user: user_id, name, origin, content });
            }
            Command::SetName(new_name) => {
                user.name = new_name.clone();
                let changed = Direct::NameChanged { old_name: &name, new_name: &new_name };
                let changed = chat::direct(&changed, now);
                // The home hears of it first: the answer may overflow the queue, and then a leave follows.
                self.request(home, Request::Rename { room, user: user_id, new_name, origin });
                self.push(id, changed, now);
            }
            Command::Private { to, content } => {
                let to = to.ok_or(Refusal::UserNotFound)?;
                let private = Private { from: user_id, from_name: name, origin, to, content: content.into() };
                self.request(to.shard(self.directory.shards()), Request::Private(private));
            }
            Command::GetUsers(page) => {
                self.request(home, Request::ListMembers { room, user: user_id, origin, page });
            }
            Command::GetStats => {
                let stats = Stats::at(now, self.directory.users_online());
                self.push(id, chat::direct(&Direct::Stats(stats), now), now);
            }
            Command::JoinRoom(to) => {
                let to = self.directory.find(&to).ok_or(Refusal::UnknownRoom(to))?;
                if to == room {
                    self.request(home, Request::Revisit { room, user: user_id, origin });
                } else {
                    user.membership = RoomMembership::Leaving { from: room, place, to };
                    self.request(home, Request::Leave { room, user: user_id, reply: Some(origin) });
                }
            }
            Command::GetRooms => {
                let directory = self.directory.clone();
                let rooms = directory.rooms().map(|room| (&**directory.name(room), directory.online(room)));
                self.push(id, chat::direct(&Direct::Rooms(rooms.collect()), now), now);
            }
        }
        Ok(())
    }

    /// Gives a private message to the user that it is for, who is one of this shard's if anyone's.
    pub(super) fn receive_private(&mut self, private: Private, now: Now) {
        let Private { from, from_name, origin, to, content } = private;
        let receiver = self.users.get(&to).copied();
        let receiver = receiver.and_then(|id| Some((id, self.connections.chat_user(id)?.name.clone())));
        let Some((id, receiver_name)) = receiver else {
            self.reply(origin.shard, Delivery::PrivateFailed { to: origin });
            return;
        };
        if content.is_empty() {
            return;
        }
        self.push(id, chat::private_message(from, &from_name, &content, now), now);
        self.reply(origin.shard, Delivery::PrivateSent { to: origin, receiver: to, receiver_name, content });
    }
}
