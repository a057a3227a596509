//! What nodes tell each other in the log beside changes of rooms, in bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::mail::NodeNotice;
use crate::rooms::RoomNotice;

/// What is told. The order of its variants and of their fields stays: other versions read it. New ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// To the homes of a room.
    Room(RoomNotice),
    /// To a user's shard.
    Node(NodeNotice),
}

impl Told {
    pub(super) fn encode(&self) -> Bytes {
        postcard::to_allocvec(self).expect("Bug: what is told cannot be written").into()
    }

    /// `None` for what this version does not know.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::take_from_bytes(bytes).ok().map(|(told, _)| told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_as_it_was_written() {
        let relay =
            RoomNotice::Relay { topic: "t".into(), is_text: false, payload: Bytes::from_static(b"\xff\0") };
        let over = NodeNotice::TakeOver { user: 7, visit: 2 };
        for told in [Told::Room(relay), Told::Node(over)] {
            assert_eq!(Told::decode(&told.encode()), Some(told));
        }
        for rubbish in [&b""[..], b"\x07", b"\x00\x02\x05a", b"\x01\x00"] {
            assert_eq!(Told::decode(rubbish), None, "{rubbish:?}");
        }
    }
}
