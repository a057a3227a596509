//! The chat dialect: JSON objects in text messages.

mod content;
mod decode;
mod encode;
mod lists;

pub use decode::{Command, Input, Receiver, decode, is_image_url};
pub use encode::{
    Direct, RoomFigures, Stats, bans, direct, message_sent, private_message, private_message_sent,
    private_message_sent_to_account, private_typing, room_event, rooms,
};
pub use lists::{Lists, history_page};
