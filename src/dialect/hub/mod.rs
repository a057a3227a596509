//! The hub dialect: one form of JSON object for everything, both ways, and one room.

mod decode;
mod encode;

pub use decode::{Command, decode};
pub use encode::{
    NAMES_PACED_ABOVE, Names, handshake, login, message, names_told, renamed, room_event, system,
};
