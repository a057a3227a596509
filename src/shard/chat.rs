//! What users of the chat dialect ask for.

use uproar_protocol::frames::MessageKind;
use uproar_ring::ConnectionId;

use super::Shard;
use super::user::{RoomMembership, Standing};
use crate::clock::Now;
use crate::dialect::Refusal;
use crate::dialect::chat::{self, Command, Direct, RoomFigures, Stats};
use crate::mail::{self, Private};
use crate::rooms::{Request, ResumePoint};

impl Shard {
    /// Takes what a chat client has said.
    pub(super) fn handle_chat_message(
        &mut self,
        id: ConnectionId,
        kind: MessageKind,
        payload: &[u8],
        now: Now,
    ) -> Result<(), Refusal> {
        let Some(user) = self.clients.user(id) else { return Ok(()) };
        let is_stranger = matches!(user.standing, Standing::Stranger { .. });
        match chat::decode(kind, payload, self.settings.limits.message_bytes_max) {
            Ok(Some(Command::Auth(credentials))) => {
                self.sign_in(id, credentials.ok_or(Refusal::InvalidFormat)?);
                Ok(())
            }
            _ if is_stranger => Err(Refusal::AuthenticationRequired),
            Ok(Some(command)) => self.carry_out(id, command, now),
            Ok(None) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn carry_out(&mut self, id: ConnectionId, command: Command, now: Now) -> Result<(), Refusal> {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return Ok(()) };
        // Input is read only while the user is in a room, so there is one.
        let RoomMembership::In { room, .. } = user.membership else { return Ok(()) };
        let (user_id, name) = (user.registered_id(), user.name.clone());
        let home = self.directory.home(room);
        let asks_for_lists = matches!(
            command,
            Command::GetUsers(_) | Command::GetRooms | Command::JoinRoom(_) | Command::Resume { .. }
        );
        if asks_for_lists && user.has_spent_answers(self.settings.limits.rate, now) {
            return Err(Refusal::TooMany);
        }
        match command {
            Command::Say(_) | Command::Private { .. } if user.is_muted(now) => return Err(Refusal::Muted),
            Command::Say(content) => {
                self.request(home, Request::Say { room, user: user_id, name, origin, content });
            }
            Command::Typing(is_typing) => {
                self.request(home, Request::Typing { room, user: user_id, name, origin, is_typing });
            }
            Command::Read(message) => {
                self.request(home, Request::Read { room, user: user_id, origin, message });
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
                let connection = self.directory.users().find(to).ok_or(Refusal::UserNotFound)?;
                let private = Private { from: user_id, from_name: name, origin, to, content: content.into() };
                self.request(connection.shard, mail::Request::Private(private));
            }
            Command::Moderate { target, measure } => self.order(id, target, measure)?,
            Command::GetUsers(page) => {
                self.request(home, Request::ListMembers { room, user: user_id, origin, page });
            }
            Command::GetStats => {
                let stats = Stats::at(now, self.directory.users_online());
                self.push(id, chat::direct(&Direct::Stats(stats), now), now);
            }
            Command::JoinRoom(to) => self.change_room(id, &to, None)?,
            Command::Resume { room, point } => self.change_room(id, &room, Some(point))?,
            Command::Auth(_) => unreachable!("Bug: signing in needs no room"),
            Command::GetRooms => {
                let directory = self.directory.clone();
                let rooms = directory.rooms().map(|room| RoomFigures {
                    room: directory.name(room),
                    users_online: directory.online(room),
                    last_message_id: directory.last_message(room),
                    epoch: directory.epoch(room),
                });
                let rooms = chat::direct(&Direct::Rooms(rooms.collect()), now);
                user.answers.charge(rooms.len(), now.monotonic_ms);
                self.push(id, rooms, now);
            }
        }
        Ok(())
    }

    /// Takes a user to another room, or shows it its own again.
    fn change_room(&mut self, id: ConnectionId, to: &str, after: Option<ResumePoint>) -> Result<(), Refusal> {
        let to = self.directory.find(to).ok_or_else(|| Refusal::UnknownRoom(to.to_owned()))?;
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return Ok(()) };
        let RoomMembership::In { room, place } = user.membership else { return Ok(()) };
        let user_id = user.registered_id();
        let request = if to == room {
            user.awaits_snapshot = true;
            Request::Revisit { room, user: user_id, origin, after }
        } else {
            user.membership = RoomMembership::Leaving { from: room, place, to: Some(to), after };
            Request::Leave { room, user: user_id, reply: Some(origin) }
        };
        self.request(self.directory.home(room), request);
        Ok(())
    }
}
