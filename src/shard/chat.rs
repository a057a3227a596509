//! Commands of users of the chat dialect.

use std::sync::Arc;

use super::client_io::ClientIo;
use super::user::{RoomMembership, Standing, User};
use crate::dialect::chat::{self, Command, Direct, Input, RoomFigures, Stats};
use crate::dialect::{ChatError, Message};
use crate::mail::{self, PrivateMessage};
use crate::rooms::{Change, NewMessage, Unlogged};

impl User {
    /// Takes a chat client's message.
    pub(super) fn handle_chat_message(
        &mut self,
        message: &Message<'_>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        let must_sign_in = matches!(self.standing, Standing::MustSignIn { .. });
        let is_listener = self.standing == Standing::Listener;
        match chat::decode(message, io.context.settings.limits.message_bytes_max) {
            Ok(Some(Input::SignIn(credentials))) => {
                self.sign_in(credentials.ok_or(ChatError::InvalidFormat)?, io);
                Ok(())
            }
            Ok(Some(Input::SignInWithToken(token))) => {
                self.sign_in_with_token(&token, io);
                Ok(())
            }
            _ if must_sign_in => Err(ChatError::AuthenticationRequired),
            // It may be a question, which a listener may ask.
            Err(refusal @ (ChatError::InvalidFormat | ChatError::TooLarge)) => Err(refusal),
            Ok(Some(Input::Command(command))) if !is_listener || command.only_asks() => {
                self.carry_out(command, io)
            }
            _ if is_listener => Err(ChatError::PermissionDenied),
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn carry_out(&mut self, command: Command, io: &mut ClientIo<'_>) -> Result<(), ChatError> {
        // Input is read only while the user is in a room, so there is one.
        let RoomMembership::In { room, .. } = self.membership else { return Ok(()) };
        let (user, name, origin) = (self.registered_id(), Arc::clone(&self.name), io.origin());
        let asks_for_lists = matches!(
            command,
            Command::GetUsers(_) | Command::GetRooms | Command::JoinRoom(_) | Command::Resume { .. }
        );
        if asks_for_lists && self.has_spent_answers(io.context.settings.limits.rate, io.now) {
            return Err(ChatError::TooMany);
        }
        match command {
            Command::Say(_) | Command::Private { .. } if self.is_muted(io.now) => {
                return Err(ChatError::Muted);
            }
            Command::Say(_) if !self.may_publish_in(io.context.directory.name(room)) => {
                return Err(ChatError::PermissionDenied);
            }
            Command::Say(content) => {
                io.propose(room, Change::Message { message: NewMessage { user, name, content }, origin });
            }
            Command::Typing(is_typing) => {
                io.propose(room, Unlogged::Typing { user, name, origin, is_typing });
            }
            Command::Read(message) => io.propose(room, Unlogged::Read { user, origin, message }),
            Command::SetName(_) if !self.may_rename() => return Err(ChatError::PermissionDenied),
            Command::SetName(new_name) => {
                self.name = Arc::clone(&new_name);
                let changed = Direct::NameChanged { old_name: &name, new_name: &new_name };
                let changed = chat::direct(&changed, io.now);
                io.propose(room, Change::Rename { user, new_name, origin });
                io.push(changed);
            }
            Command::Private { to, content } => {
                let to = to.ok_or(ChatError::UserNotFound)?;
                let connection = io.context.directory.users().find(to).ok_or(ChatError::UserNotFound)?;
                let private =
                    PrivateMessage { from: user, from_name: name, origin, to, content: content.into() };
                io.context.mail.request(connection.shard, mail::Request::Private(private));
            }
            Command::Moderate { target, action } => self.order(target, action, io)?,
            Command::GetUsers(page) => {
                io.propose(room, Unlogged::ListMembers { user, origin, page });
            }
            Command::GetStats => {
                let stats = Stats::at(io.now, io.context.directory.users_online());
                io.push(chat::direct(&Direct::Stats(stats), io.now));
            }
            Command::JoinRoom(to) => self.change_room(&to, None, io)?,
            Command::Resume { room, point } => self.change_room(&room, Some(point), io)?,
            Command::GetRooms => {
                let directory = &io.context.directory;
                let rooms = directory.rooms().filter(|&room| self.may_join(directory.name(room)));
                let rooms = rooms.map(|room| RoomFigures {
                    room: directory.name(room),
                    users_online: directory.online(room),
                    last_message_id: directory.last_message(room),
                    epoch: directory.epoch(room),
                });
                let rooms = chat::direct(&Direct::Rooms(rooms.collect()), io.now);
                self.answers.charge(rooms.len(), io.now.monotonic_ms);
                io.push(rooms);
            }
        }
        Ok(())
    }
}
