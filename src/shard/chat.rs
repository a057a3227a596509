//! Commands of users of the chat dialect.

use std::sync::Arc;

use super::client_io::ClientIo;
use super::user::{RoomMembership, Standing, User};
use crate::dialect::chat::{self, Command, Direct, Input, Receiver, RoomFigures, Stats};
use crate::dialect::{ChatError, Message};
use crate::mail::{self, AccountMessage, PrivateMessage, PrivateTyping};
use crate::rooms::{Change, Deletion, ListedRoom, NewMessage, Unlogged, Whereabouts};

/// The most rooms that one answer lists.
const ROOMS_LISTED_MAX: usize = 500;

/// What a look at a room counts for among the bytes of an answer.
const ROOM_LOOKED_AT_BYTES: usize = 16;

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
                self.sign_in_with_token(token.as_str(), io);
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
            Command::GetUsers(_)
                | Command::GetRooms { .. }
                | Command::GetHistory { .. }
                | Command::GetBans(_)
                | Command::JoinRoom(_)
                | Command::Resume { .. }
        );
        if asks_for_lists && self.has_spent_answers(io.context.settings.limits.rate, io.now) {
            return Err(ChatError::TooMany);
        }
        match command {
            Command::Say(_) | Command::Private { .. } | Command::SetName(_) if self.is_muted(io.now) => {
                return Err(ChatError::Muted);
            }
            Command::Typing(_) | Command::TypingTo { .. } if self.is_muted(io.now) => {}
            Command::Say(_) if !self.may_publish_in(&self.room_name) => {
                return Err(ChatError::PermissionDenied);
            }
            Command::Say(content) => {
                let message = NewMessage { user, name, account: self.account(), content };
                io.propose(room, Change::Message { message, visit: Some(self.visit), origin });
            }
            Command::Delete(message) => {
                let (account, is_admin) = (self.account(), self.is_admin());
                let deletion = Deletion { message, user, name, account, is_admin };
                io.propose(room, Change::Delete { deletion, origin });
            }
            Command::Typing(is_typing) => {
                io.propose(room, Unlogged::Typing { user, visit: self.visit, name, origin, is_typing });
            }
            Command::TypingTo { to, is_typing } => {
                let to = to.ok_or(ChatError::UserNotFound)?;
                let typing = PrivateTyping { from: user, from_name: name, origin, to, is_typing };
                match io.context.directory.users().locate(to).ok_or(ChatError::UserNotFound)? {
                    Whereabouts::Here(connection) => {
                        io.context.mail.request(connection.shard, mail::Request::Typing(typing));
                    }
                    Whereabouts::Elsewhere(node, _) => self.type_elsewhere(typing, node, io),
                }
            }
            Command::Read(message) => io.propose(room, Unlogged::Read { user, origin, message }),
            Command::SetName(new_name) => {
                let new_name = self.chosen_name(new_name, io)?;
                self.name = Arc::clone(&new_name);
                let changed = Direct::NameChanged { old_name: &name, new_name: &new_name };
                let changed = chat::direct(&changed, io.now);
                self.keep_session(io.context);
                self.propose_rename(room, io);
                io.push(changed);
            }
            Command::Private { to: None, .. } => return Err(ChatError::UserNotFound),
            Command::Private { to: Some(Receiver::User(to)), content } => {
                let (from, from_account) = (user, self.account());
                let content = content.into();
                let private = PrivateMessage { from, from_name: name, from_account, origin, to, content };
                match io.context.directory.users().locate(to).ok_or(ChatError::UserNotFound)? {
                    Whereabouts::Here(connection) => {
                        io.context.mail.request(connection.shard, mail::Request::Private(private));
                    }
                    Whereabouts::Elsewhere(node, name) => self.write_elsewhere(private, node, name, io),
                }
            }
            Command::Private { to: Some(Receiver::Account(account)), content } => {
                self.write_to_account(&account, content, io)?;
            }
            Command::Moderate { target, action } => self.order(target, action, io)?,
            Command::Ban(ban) => self.ban(ban, io)?,
            Command::Unban(subject) => self.unban(subject, io)?,
            Command::GetBans(page) => self.list_bans(page, io)?,
            Command::GetUsers(page) => {
                io.propose(room, Unlogged::ListMembers { user, origin, page });
            }
            Command::GetHistory { before, limit } => {
                // Its next request waits: a page is long.
                self.awaits_snapshot = true;
                io.propose(room, Unlogged::ListHistory { origin, before, limit });
            }
            Command::GetStats => {
                let stats = Stats::at(io.now, io.context.directory.users_online());
                io.push(chat::direct(&Direct::Stats(stats), io.now));
            }
            Command::JoinRoom(to) => self.change_room(&to, None, io)?,
            Command::Resume { room, point } => self.change_room(&room, Some(point), io)?,
            Command::GetRooms { prefix, offset } => self.list_rooms(&prefix, offset, io),
        }
        Ok(())
    }

    /// Lists the rooms that the user may join: the configured ones, then those that clients have created.
    fn list_rooms(&mut self, prefix: &str, offset: usize, io: &mut ClientIo<'_>) {
        let directory = &io.context.directory;
        let configured = directory.rooms().iter();
        let configured: Vec<_> = configured
            .filter(|room| room.name().starts_with(prefix) && self.may_join(room.name()))
            .map(|room| (Arc::clone(room), room.online()))
            .collect();
        let patterns = self.rights().and_then(|rights| rights.rooms.as_deref());
        let behind = offset.saturating_sub(configured.len());
        let created = directory.on_demand().page(patterns, prefix, behind, ROOMS_LISTED_MAX);
        let total = configured.len() + created.total;
        let listed: Vec<_> =
            configured.into_iter().skip(offset).chain(created.rooms).take(ROOMS_LISTED_MAX).collect();
        let figures = |(room, users_online): &(Arc<ListedRoom>, usize)| RoomFigures {
            room: Arc::clone(room.name()),
            users_online: *users_online,
            last_message_id: room.last_message(),
            epoch: room.epoch(),
        };
        let rooms = chat::rooms(&listed.iter().map(figures).collect::<Vec<_>>(), total, io.now);
        // Each room was looked at, which costs as much as some bytes of an answer.
        let looked_at = directory.rooms().len() + created.looked_at;
        self.answers.charge(rooms.len() + looked_at * ROOM_LOOKED_AT_BYTES, io.now.monotonic_ms);
        io.context.work.count_rooms(looked_at);
        io.push(rooms);
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
            from_account: self.account(),
            account: account.into(),
            content: content.into(),
            origin: None,
        };
        for &shard in &*online.shards {
            io.context.mail.request(shard, mail::Request::PrivateToAccount(message.clone()));
        }
        let sent = chat::private_message_sent_to_account(account, &online.name, &message.content, io.now);
        io.push(sent);
        Ok(())
    }
}
