//! Commands of users of the hub dialect, all of them in the room `general`.

use std::sync::Arc;

use super::client_io::ClientIo;
use super::user::{RoomMembership, User};
use crate::config::FIRST_ROOM;
use crate::dialect::hub::{self, Command};
use crate::dialect::{ChatError, Message};
use crate::metrics::EndReason;
use crate::rooms::{Change, Content, NewMessage, Unlogged};

impl User {
    /// Takes a hub client's message.
    pub(super) fn handle_hub_message(
        &mut self,
        message: &Message<'_>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        match hub::decode(message, io.context.settings.limits.message_bytes_max)? {
            Some(command) => self.carry_out_for_hub(command, io),
            None => Ok(()),
        }
    }

    fn carry_out_for_hub(&mut self, command: Command, io: &mut ClientIo<'_>) -> Result<(), ChatError> {
        let (room, origin) = (io.context.directory.general(), io.origin());
        // Input is read only while no answer is awaited, so it is in the room or was never there.
        let place = match self.membership {
            RoomMembership::In { place, .. } => Some(place),
            _ => None,
        };
        let is_logged_in = place.is_some();
        match command {
            Command::Login(name) => {
                // One with a token has its name already.
                let own_name = self.is_signed_in().then(|| Arc::clone(&self.name));
                let name = own_name.clone().or(name).ok_or(ChatError::InvalidName)?;
                if is_logged_in {
                    return Err(ChatError::LoggedInAlready);
                }
                self.name = match own_name {
                    Some(_) => name,
                    // A name would be announced: it gets a default one.
                    None if io.is_address_muted() => "".into(),
                    None => self.chosen_name(Some(name), io)?,
                };
                self.membership = RoomMembership::Joining(room);
                self.room_name = io.context.directory.configured_name(room);
                if !self.register(io) {
                    self.turn_away(io);
                    return Ok(());
                }
                self.request_join(room, None, io);
            }
            Command::Say(_) | Command::Rename(_) if self.is_muted(io.now) => return Err(ChatError::Muted),
            Command::Say(_) if is_logged_in && !self.may_publish_in(FIRST_ROOM) => {
                return Err(ChatError::PermissionDenied);
            }
            Command::Say(content) if is_logged_in => {
                let (user, name, account) = (self.registered_id(), Arc::clone(&self.name), self.account());
                let message = NewMessage { user, name, account, content: Content::Text(content) };
                io.propose(room, Change::Message { message, visit: Some(self.visit), origin });
            }
            Command::Say(_) => {}
            Command::Rename(_) if !is_logged_in => return Err(ChatError::NotLoggedIn),
            Command::Rename(new_name) => {
                let new_name = self.chosen_name(Some(new_name), io)?;
                self.name = new_name;
                self.propose_rename(room, io);
            }
            Command::Who if self.has_spent_answers(io.context.settings.limits.rate, io.now) => {
                return Err(ChatError::TooMany);
            }
            Command::Who => self.request_names(io),
            Command::Logout => match place {
                // Its own earlier messages are still on their way to it.
                Some(place) => {
                    self.membership = RoomMembership::Leaving { from: room, place, to: None, after: None };
                    let user = self.registered_id();
                    io.propose(room, Change::Leave { user, visit: self.visit, reply: Some(origin) });
                }
                None => io.close(1000, "", EndReason::Closed),
            },
        }
        Ok(())
    }

    /// Asks for the names in the room: for the handshake, and later for a `who`.
    pub(super) fn request_names(&mut self, io: &mut ClientIo<'_>) {
        self.awaits_snapshot = true;
        io.propose(io.context.directory.general(), Unlogged::ListNames { origin: io.origin() });
    }

    /// Handles the home's answer to [`User::request_names`].
    pub(super) fn handle_names(&mut self, io: &mut ClientIo<'_>) {
        self.awaits_snapshot = false;
        let names = io.context.rooms.names();
        if io.link.is_greeted() {
            let told = hub::names_told(names);
            self.answers.charge(told.len(), io.now.monotonic_ms);
            io.push(told);
        } else {
            io.push_join([hub::handshake(io.link.peer, names)]);
        }
    }

    /// Closes a hub client that has sent nothing for the idle timeout.
    pub(super) fn close_silent_hub(&self, io: &mut ClientIo<'_>) {
        // Nothing may come before the answer to the upgrade.
        io.link.greet();
        let reason = "idle timeout";
        io.push(hub::system(reason, io.context.rooms.names()));
        io.close(1008, reason, EndReason::Idle);
    }
}
