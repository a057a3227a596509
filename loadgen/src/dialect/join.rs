//! The steps of a join, as a state machine for clients and for the probe.

use crate::dialect::chat::{self, INITIAL_ROOM, Notice};

/// What a joining client awaits, in the order in which it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// `welcome`.
    Welcome,
    /// `users` of the first room.
    Users,
    /// `history` of the first room.
    History,
    /// The answer to `join_room`.
    RoomJoined,
    /// `users` of the room asked for.
    RoomUsers,
    /// `history` of the room asked for.
    RoomHistory,
}

/// What follows a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This is awaited.
    Await(JoinStep),
    /// This is to be sent, and [`JoinStep::RoomJoined`] awaited.
    Ask(String),
    /// The client is in its room.
    Done,
}

impl JoinStep {
    /// What follows a message (`None`: one that is not what the protocol says) for who goes to `room`.
    ///
    /// # Errors
    ///
    /// Why the join failed; `None` stands for a message that is not what the protocol says.
    pub fn next(self, notice: Option<Notice>, room: &str) -> Result<Progress, Option<String>> {
        Ok(Progress::Await(match (self, notice.ok_or(None)?) {
            (Self::Welcome, Notice::Welcome(_)) => Self::Users,
            (Self::Users, Notice::Users) => Self::History,
            (Self::RoomJoined, Notice::RoomJoined) => Self::RoomUsers,
            (Self::RoomUsers, Notice::Users) => Self::RoomHistory,
            (Self::History, Notice::History) if room != INITIAL_ROOM => {
                return Ok(Progress::Ask(chat::join_room(room)));
            }
            (Self::History | Self::RoomHistory, Notice::History) => return Ok(Progress::Done),
            // Room events of others may come in between.
            (step, Notice::Other | Notice::MessageSent(_)) => step,
            (_, Notice::Error(message)) => return Err(Some(message)),
            (step, notice) => return Err(Some(format!("{notice:?} while awaiting {step:?}"))),
        }))
    }
}
