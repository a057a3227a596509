//! What Redis holds beside the log, as a node reads it when it starts.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Incarnation, NodeName};

/// A value that another program, or another version, has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value that this version does not know")]
pub struct BadValue;

/// A place in the history of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptMessage {
    /// A message.
    Whole {
        /// Its id.
        id: u64,
        /// When it was sent, in Unix milliseconds.
        time_ms: u64,
        /// Its author; 0 is the system.
        user: u64,
        /// The author's account; empty without one.
        account: String,
        /// The message, as its author's node has written it.
        message: Bytes,
    },
    /// One that was deleted.
    Deleted {
        /// Its id.
        id: u64,
    },
}

impl KeptMessage {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Self::Whole { id, .. } | Self::Deleted { id } => *id,
        }
    }

    /// Writes it as the script `append` does.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Whole { id, time_ms, user, account, message } => {
                let mut value = format!("{id} {time_ms} {user} {}:{account}", account.len()).into_bytes();
                value.extend_from_slice(message);
                value
            }
            Self::Deleted { id } => id.to_string().into_bytes(),
        }
    }

    /// Reads `id time user length:account message`, or `id` alone.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn read(value: &Bytes) -> Result<Self, BadValue> {
        let mut rest = value.clone();
        if let Ok(id) = std::str::from_utf8(value).map_err(|_| BadValue).and_then(parse) {
            return Ok(Self::Deleted { id });
        }
        let id = parse(word(&mut rest, b' ')?)?;
        let time_ms = parse(word(&mut rest, b' ')?)?;
        let user = parse(word(&mut rest, b' ')?)?;
        let account = counted(&mut rest)?;
        Ok(Self::Whole { id, time_ms, user, account, message: rest })
    }
}

/// A member of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMember {
    /// By which of the user's connections.
    pub visit: u64,
    /// Where it is.
    pub node: NodeName,
    /// In which life of that node. One that is over has no members.
    pub incarnation: Incarnation,
    /// The member as others see it.
    pub member: Bytes,
}

impl KeptMember {
    /// Writes it as the script `append` does.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut value = format!("{} {} {} ", self.visit, self.node, self.incarnation).into_bytes();
        value.extend_from_slice(&self.member);
        value
    }

    /// Reads `visit node incarnation member`.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn read(value: &Bytes) -> Result<Self, BadValue> {
        let mut rest = value.clone();
        let visit = parse(word(&mut rest, b' ')?)?;
        let node = word(&mut rest, b' ')?.parse().map_err(|_| BadValue)?;
        let incarnation = word(&mut rest, b' ')?.parse().map_err(|_| BadValue)?;
        Ok(Self { visit, node, incarnation, member: rest })
    }
}

/// A user that has left a room, and may come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLeft {
    /// The user.
    pub user: u64,
    /// When it has left, in Unix milliseconds by the clock of Redis.
    pub time_ms: u64,
    /// The name of the room.
    pub room: Arc<str>,
    /// What it was as a member.
    pub member: KeptMember,
}

impl KeptLeft {
    /// Writes it as the script `append` does.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let Self { user, time_ms, room, member } = self;
        let mut value = format!("{user} {time_ms} {}:{room}", room.len()).into_bytes();
        value.extend_from_slice(&member.write());
        value
    }

    /// Reads `user time length:room member`.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn read(value: &Bytes) -> Result<Self, BadValue> {
        let mut rest = value.clone();
        let user = parse(word(&mut rest, b' ')?)?;
        let time_ms = parse(word(&mut rest, b' ')?)?;
        let room = counted(&mut rest)?.into();
        Ok(Self { user, time_ms, room, member: KeptMember::read(&rest)? })
    }
}

/// Takes a text behind its length in bytes.
fn counted(rest: &mut Bytes) -> Result<String, BadValue> {
    let length = usize::try_from(parse(word(rest, b':')?)?).map_err(|_| BadValue)?;
    if length > rest.len() {
        return Err(BadValue);
    }
    String::from_utf8(rest.split_to(length).into()).map_err(|_| BadValue)
}

/// Takes what stands before a mark, and the mark.
fn word(rest: &mut Bytes, mark: u8) -> Result<String, BadValue> {
    let end = rest.iter().position(|byte| *byte == mark).ok_or(BadValue)?;
    let word = String::from_utf8(rest.split_to(end).into()).map_err(|_| BadValue)?;
    *rest = rest.slice(1..);
    Ok(word)
}

pub(crate) fn parse(text: impl AsRef<str>) -> Result<u64, BadValue> {
    text.as_ref().parse().map_err(|_| BadValue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_members_are_read_whatever_is_in_them() {
        let account = "ann: 1".to_owned();
        let whole = KeptMessage::read(&Bytes::from_static(b"7 1700 3 6:ann: 1a b\n\xff"));
        let message = Bytes::from_static(b"a b\n\xff");
        assert_eq!(whole, Ok(KeptMessage::Whole { id: 7, time_ms: 1700, user: 3, account, message }));
        assert_eq!(KeptMessage::read(&Bytes::from_static(b"8")), Ok(KeptMessage::Deleted { id: 8 }));
        let member = KeptMember::read(&Bytes::from_static(b"2 a 00000000000000ff ")).unwrap();
        assert_eq!((member.visit, member.incarnation, member.member.len()), (2, Incarnation(255), 0));
        let left = KeptLeft::read(&Bytes::from_static(b"7 1700 3:a b2 a 00000000000000ff ")).unwrap();
        assert_eq!(left, KeptLeft { user: 7, time_ms: 1700, room: "a b".into(), member });
        assert_eq!(KeptLeft::read(&left.write().into()), Ok(left));
    }

    #[test]
    fn rubbish_is_told() {
        for value in ["", "x", "1 2", "1 2 3 9:ann", "1 2 3 -1:", "1 2 3 99999999999999999999:a"] {
            assert_eq!(KeptMessage::read(&Bytes::from_static(value.as_bytes())), Err(BadValue), "{value}");
        }
        for value in ["", "1", "1 a", "1 a ff x", "x a 00000000000000ff x"] {
            assert_eq!(KeptMember::read(&Bytes::from_static(value.as_bytes())), Err(BadValue), "{value}");
        }
        for value in ["", "1", "1 2 9:a2 a 00000000000000ff ", "1 2 1:a", "1 2 a2 a 00000000000000ff "] {
            assert_eq!(KeptLeft::read(&Bytes::from_static(value.as_bytes())), Err(BadValue), "{value}");
        }
    }
}
