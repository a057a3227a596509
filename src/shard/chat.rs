//! Commands of users of the chat dialect.

use std::sync::Arc;

use super::client_io::ClientIo;
use super::user::{RoomMembership, Standing, User};
use crate::dialect::chat::{self, Command, Direct, Input, Receiver, RoomFigures, Stats};
use crate::dialect::{ChatError, Message};
use crate::mail::{self, AccountMessage, PrivateMessage};
use crate::rooms::{Change, NewMessage, Unlogged};

impl User {
    /// Takes a chat client's message.
    pub(super) fn handle_chat_message(
        &mut self,
        message: &Message<'_>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        let must_sign_in = matches!(self.standing, Standing::MustSignIn { .. });
        match chat::decode(message, io.context.settings.limits.message_bytes_max) {
            Ok(Some(Input::SignIn(credentials))) => {
                self.sign_in(credentials.ok_or(ChatError::InvalidFormat)?, io);
                Ok(())
            }
            _ if must_sign_in => Err(ChatError::AuthenticationRequired),
            Ok(Some(Input::Command(command))) => self.carry_out(command, io),
            Ok(None) => Ok(()),
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
            Command::Say(content) => {
                io.propose(room, Change::Message { message: NewMessage { user, name, content }, origin });
            }
            Command::Typing(is_typing) => {
                io.propose(room, Unlogged::Typing { user, name, origin, is_typing });
            }
            Command::Read(message) => io.propose(room, Unlogged::Read { user, origin, message }),
            Command::SetName(new_name) => {
                let new_name = self.chosen_name(new_name, io)?;
                self.name = Arc::clone(&new_name);
                let changed = Direct::NameChanged { old_name: &name, new_name: &new_name };
                let changed = chat::direct(&changed, io.now);
                io.propose(room, Change::Rename { user, new_name, account: self.account(), origin });
                io.push(changed);
            }
            Command::Private { to: None, .. } => return Err(ChatError::UserNotFound),
            Command::Private { to: Some(Receiver::User(to)), content } => {
                let connection = io.context.directory.users().find(to).ok_or(ChatError::UserNotFound)?;
                let (from_account, content) = (self.account().map(|it| it.account), content.into());
                let private =
                    PrivateMessage { from: user, from_name: name, from_account, origin, to, content };
                io.context.mail.request(connection.shard, mail::Request::Private(private));
            }
            Command::Private { to: Some(Receiver::Account(account)), content } => {
                self.write_to_account(&account, content, io)?;
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
                let rooms = directory.rooms().map(|room| RoomFigures {
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

    /// Sends a private message to all connections of an account.
    fn write_to_account(
        &self,
        account: &str,
        content: String,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        let online = io.context.directory.accounts().find(account).ok_or(ChatError::UserNotFound)?;
        if content.is_empty() {
            return Ok(());
        }
        let message = AccountMessage {
            from: self.registered_id(),
            from_name: Arc::clone(&self.name),
            from_account: self.account().map(|it| it.account),
            account: account.into(),
            content: content.into(),
        };
        for &shard in &*online.shards {
            io.context.mail.request(shard, mail::Request::PrivateToAccount(message.clone()));
        }
        let sent = chat::private_message_sent_to_account(account, &online.name, &message.content, io.now);
        io.push(sent);
        Ok(())
    }
}
