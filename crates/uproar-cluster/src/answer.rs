//! What the log has decided about a proposal.

use std::fmt;
use std::str::FromStr;

/// The decision about a proposal, which is part of its entry. All nodes see the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// This block of user ids belongs to the node: 0, 1, 2 … . Below 2^43, and not in sequence where the epoch has
    /// changed.
    Numbers(u64),
    /// A room is open, since the entry with this number.
    Opened(u64),
    /// A message has this id.
    Sent(u64),
    /// It comes late: the user is a member by a later visit, or by none. Nothing happened.
    Late,
    /// The request was made before, and its message has this id. Nothing happened now.
    Repeated(u64),
    /// The key of the request was used for another one. Nothing happened.
    OtherRequest,
    /// There is no such message any more. Nothing happened.
    UnknownMessage,
    /// Who wants to delete a message may not. Nothing happened.
    Denied,
    /// A room with members is not forgotten.
    HasMembers,
    /// A room was forgotten. Nothing happened.
    RoomGone,
    /// A node that was thought gone has appended a batch meanwhile. It stays.
    Alive,
    /// What Redis has of the room is damaged. Nothing happened: propose it again once the room was written anew.
    Damaged,
}

/// Text that is not an answer of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer of the log")]
pub struct BadAnswer;

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Numbers(block) => write!(f, "numbers {block}"),
            Self::Opened(entry) => write!(f, "opened {entry}"),
            Self::Sent(id) => write!(f, "sent {id}"),
            Self::Late => f.write_str("late"),
            Self::Repeated(id) => write!(f, "repeated {id}"),
            Self::OtherRequest => f.write_str("other"),
            Self::UnknownMessage => f.write_str("unknown"),
            Self::Denied => f.write_str("denied"),
            Self::HasMembers => f.write_str("members"),
            Self::RoomGone => f.write_str("gone"),
            Self::Alive => f.write_str("alive"),
            Self::Damaged => f.write_str("damaged"),
        }
    }
}

impl FromStr for Answer {
    type Err = BadAnswer;

    fn from_str(text: &str) -> Result<Self, BadAnswer> {
        let (word, number) = text.split_once(' ').unwrap_or((text, ""));
        let number = || number.parse().map_err(|_| BadAnswer);
        Ok(match word {
            "ok" => Self::Done,
            "numbers" => Self::Numbers(number()?),
            "opened" => Self::Opened(number()?),
            "sent" => Self::Sent(number()?),
            "late" => Self::Late,
            "repeated" => Self::Repeated(number()?),
            "other" => Self::OtherRequest,
            "unknown" => Self::UnknownMessage,
            "denied" => Self::Denied,
            "members" => Self::HasMembers,
            "gone" => Self::RoomGone,
            "alive" => Self::Alive,
            "damaged" => Self::Damaged,
            _ => return Err(BadAnswer),
        })
    }
}
