//! Messages of users of either dialect, before their dialect handles them.

use std::sync::Arc;

use bytes::Bytes;

use super::client_io::ClientIo;
use super::user::User;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{ChatError, Message, UserDialect, hub};
use crate::mail::{Delivery, PrivateMessage, PrivateTyping};

impl User {
    /// Handles a user's message, and answers with an error if it has no effect.
    pub(super) fn handle_message(&mut self, message: &Message<'_>, io: &mut ClientIo<'_>) {
        self.last_message_ms = io.now.monotonic_ms;
        let outcome = if !self.bucket.take(self.rate, io.now.monotonic_ms) {
            io.context.metrics.messages_over_rate.with(io.link.dialect).add(1);
            Err(ChatError::TooMany)
        } else {
            match self.dialect {
                UserDialect::Chat => self.handle_chat_message(message, io),
                UserDialect::Hub => self.handle_hub_message(message, io),
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(&refusal, io);
        }
    }

    /// Tells a user why a message had no effect.
    pub(super) fn refuse(&self, error: &ChatError, io: &mut ClientIo<'_>) {
        let refusal = self.error(error, io);
        io.push(refusal);
    }

    /// An error in this user's dialect.
    pub(super) fn error(&self, error: &ChatError, io: &ClientIo<'_>) -> Bytes {
        let message = error.to_string();
        match self.dialect {
            UserDialect::Chat => chat::direct(&Direct::Error { message }, io.now),
            UserDialect::Hub => hub::system(&message, io.context.rooms.names()),
        }
    }

    /// Gives a private message to this user.
    pub(super) fn receive_private(&mut self, private: PrivateMessage, io: &mut ClientIo<'_>) {
        let PrivateMessage { from, from_name, from_account, origin, to, content } = private;
        if content.is_empty() {
            return;
        }
        io.push(match self.dialect {
            UserDialect::Chat => {
                chat::private_message(from, &from_name, from_account.as_deref(), &content, io.now)
            }
            UserDialect::Hub => hub::message(&from_name, &content, io.context.rooms.names()),
        });
        let receiver_name = Arc::clone(&self.name);
        let sent = Delivery::PrivateSent { to: origin, receiver: to, receiver_name, content };
        io.context.mail.deliver(origin.shard, sent);
    }

    /// Tells this user that another one is writing to it. The hub dialect has no such message.
    pub(super) fn receive_typing(&self, typing: &PrivateTyping, io: &mut ClientIo<'_>) {
        let PrivateTyping { from, from_name, is_typing, .. } = typing;
        if self.dialect == UserDialect::Chat {
            io.push(chat::private_typing(*from, from_name, *is_typing, io.now));
        }
    }
}
