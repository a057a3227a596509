//! What users of the hub dialect ask for, all of it in the room `general`.

use std::sync::Arc;

use uproar_protocol::frames::MessageKind;
use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;

use super::Shard;
use super::user::RoomMembership;
use crate::clock::Now;
use crate::dialect::Refusal;
use crate::dialect::hub::{self, Command, Names};
use crate::metrics::EndReason;
use crate::rooms::{Content, MemberEntry, Request, RoomIndex};

impl Shard {
    /// Takes what a hub client has said.
    pub(super) fn handle_hub_message(
        &mut self,
        id: ConnectionId,
        kind: MessageKind,
        payload: &[u8],
        now: Now,
    ) -> Result<(), Refusal> {
        match hub::decode(kind, payload, self.settings.limits.message_bytes_max)? {
            Some(command) => self.carry_out_for_hub(id, command, now),
            None => Ok(()),
        }
    }

    fn carry_out_for_hub(&mut self, id: ConnectionId, command: Command, now: Now) -> Result<(), Refusal> {
        let origin = self.origin(id);
        let room = RoomIndex::GENERAL;
        let home = self.directory.home(room);
        let Some(user) = self.clients.user(id) else { return Ok(()) };
        // Input is read only while no answer is awaited, so it is in the room or was never there.
        let place = match user.membership {
            RoomMembership::In { place, .. } => Some(place),
            _ => None,
        };
        let is_logged_in = place.is_some();
        match command {
            Command::Login(_) if is_logged_in => return Err(Refusal::LoggedInAlready),
            Command::Login(name) => {
                user.name = name;
                user.membership = RoomMembership::Joining(room);
                self.register(id);
                self.request_join(id, room, None);
            }
            Command::Say(_) if user.is_muted(now) => return Err(Refusal::Muted),
            Command::Say(content) if is_logged_in => {
                let (user, name) = (user.registered_id(), Arc::clone(&user.name));
                let content = Content::Text(content);
                self.request(home, Request::Say { room, user, name, origin, content });
            }
            Command::Say(_) => {}
            Command::Rename(_) if !is_logged_in => return Err(Refusal::NotLoggedIn),
            Command::Rename(new_name) => {
                user.name = Arc::clone(&new_name);
                let user = user.registered_id();
                self.request(home, Request::Rename { room, user, new_name, origin });
            }
            Command::Who if user.has_spent_answers(self.settings.limits.rate, now) => {
                return Err(Refusal::TooMany);
            }
            Command::Who => self.request_names(id),
            Command::Logout => match place {
                // What it said before is still on its way to it.
                Some(place) => {
                    user.membership = RoomMembership::Leaving { from: room, place, to: None, after: None };
                    let user = user.registered_id();
                    self.request(home, Request::Leave { room, user, reply: Some(origin) });
                }
                None => self.close(id, 1000, "", EndReason::Closed, now),
            },
        }
        Ok(())
    }

    /// Asks who is in the room: for the handshake, and later for a `who`.
    pub(super) fn request_names(&mut self, id: ConnectionId) {
        let origin = self.origin(id);
        let room = RoomIndex::GENERAL;
        let Some(user) = self.clients.user(id) else { return };
        user.awaits_snapshot = true;
        self.request(self.directory.home(room), Request::ListNames { room, origin });
    }

    /// The home's answer to that.
    pub(super) fn handle_names(&mut self, id: ConnectionId, listed: &Arc<[MemberEntry]>, now: Now) {
        self.names_mut().update(listed);
        let Some(client) = self.clients.get_mut(id) else { return };
        let (peer, greeting) = (client.peer, client.greeting.take());
        let Some(user) = self.clients.user(id) else { return };
        user.awaits_snapshot = false;
        match greeting {
            Some(greeting) => {
                let handshake = hub::handshake(peer, self.names());
                self.metrics.messages_delivered.add(1);
                self.push_join(id, vec![greeting, SharedBytes::new(handshake)]);
            }
            None => {
                let told = hub::names_told(self.names());
                if let Some(user) = self.clients.user(id) {
                    user.answers.charge(told.len(), now.monotonic_ms);
                }
                self.push(id, told, now);
            }
        }
        self.list_readable(id);
    }

    /// The names in the room as this shard was told them last.
    pub(super) fn names(&self) -> &Names {
        &self.rooms[RoomIndex::GENERAL.get()].names
    }

    pub(super) fn names_mut(&mut self) -> &mut Names {
        &mut self.rooms[RoomIndex::GENERAL.get()].names
    }

    /// Sends a hub client away that has said nothing for the idle timeout.
    pub(super) fn close_silent_hub(&mut self, id: ConnectionId, now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        // Nothing may come before the answer to the upgrade.
        client.greet();
        let reason = "idle timeout";
        let told = hub::system(reason, self.names());
        self.push(id, told, now);
        self.close(id, 1008, reason, EndReason::Idle, now);
    }
}
