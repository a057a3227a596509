//! A private message to an account, for its connections on this shard.

use bytes::Bytes;

use super::client_io::ClientIo;
use super::user::User;
use crate::clock::Now;
use crate::dialect::{UserDialect, chat, hub};
use crate::mail::AccountMessage;

/// A private message to the connections of an account, encoded once for each dialect.
#[derive(Debug)]
pub(super) struct MessageToAccount {
    message: AccountMessage,
    for_chat: Bytes,
    for_hub: Option<Bytes>,
}

impl MessageToAccount {
    /// A message, as of this moment.
    pub(super) fn new(message: AccountMessage, now: Now) -> Self {
        let AccountMessage { from, from_name, from_account, content, .. } = &message;
        let for_chat = chat::private_message(*from, from_name, from_account.as_deref(), content, now);
        Self { message, for_chat, for_hub: None }
    }

    /// Gives it to a user, once that is welcomed.
    pub(super) fn push_to(&mut self, user: &User, io: &mut ClientIo<'_>) -> bool {
        if !user.welcomed {
            return false;
        }
        let AccountMessage { from_name, content, .. } = &self.message;
        let names = io.context.rooms.names();
        let frame = match user.dialect {
            UserDialect::Chat => &self.for_chat,
            UserDialect::Hub => self.for_hub.get_or_insert_with(|| hub::message(from_name, content, names)),
        };
        io.push(frame.clone());
        true
    }
}
