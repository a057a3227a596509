//! What nodes tell each other of members and messages: the part that Redis does not read.
//!
//! Another version may write more fields behind these, which are not read. A field is never removed.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::rooms::{Content, Member, MemberAccount};

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPayload {
    /// Its display name.
    pub name: Arc<str>,
    /// Its account, if it has signed in.
    pub account: Option<Arc<str>>,
    /// Whether it may moderate.
    pub is_admin: bool,
    /// When it connected, in Unix seconds.
    pub connected_at: u64,
    /// The account that its session belongs to, where it has not signed in. Others do not see it.
    pub owner: Option<Arc<str>>,
}

/// A message, beside what the log has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePayload {
    /// The sender's name.
    pub name: Arc<str>,
    /// True for the URL of an image.
    pub is_image: bool,
    /// The text or the URL.
    pub content: String,
}

impl MemberPayload {
    pub(in crate::rooms) fn of(member: &Member) -> Self {
        Self::new(&member.name, member.account.as_ref(), member.connected_at, member.owner.as_ref())
    }

    pub(in crate::rooms) fn new(
        name: &Arc<str>,
        account: Option<&MemberAccount>,
        connected_at: u64,
        owner: Option<&Arc<str>>,
    ) -> Self {
        Self {
            name: Arc::clone(name),
            account: account.map(|it| Arc::clone(&it.account)),
            is_admin: account.is_some_and(|it| it.is_admin),
            connected_at,
            owner: owner.cloned(),
        }
    }

    pub(in crate::rooms) fn account(&self) -> Option<MemberAccount> {
        let account = Arc::clone(self.account.as_ref()?);
        Some(MemberAccount { account, is_admin: self.is_admin })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads it. `None` for what no node writes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

impl MessagePayload {
    pub(in crate::rooms) fn new(name: &Arc<str>, content: &Content) -> Self {
        let (is_image, text) = match content {
            Content::Text(text) => (false, text),
            Content::Image(url) => (true, url),
        };
        Self { name: Arc::clone(name), is_image, content: text.clone() }
    }

    pub(in crate::rooms) fn into_content(self) -> Content {
        if self.is_image { Content::Image(self.content) } else { Content::Text(self.content) }
    }

    pub(in crate::rooms) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(in crate::rooms) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_allocvec(value).expect("Bug: a payload cannot be written").into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_as_they_were_written_and_what_a_later_version_adds_is_skipped() {
        let account = Some("ann".into());
        let owner = Some("ben".into());
        let member =
            MemberPayload { name: "Änn".into(), account, is_admin: true, connected_at: 1_700, owner };
        let message = MessagePayload { name: "Ann".into(), is_image: false, content: "hé".to_owned() };
        let with_more = |bytes: Bytes| [&bytes[..], &[7, 7]].concat();
        assert_eq!(MemberPayload::decode(&with_more(member.encode())), Some(member));
        assert_eq!(MessagePayload::decode(&with_more(message.encode())), Some(message));
    }

    #[test]
    fn rubbish_is_no_payload() {
        for bytes in [&b""[..], b"\xff", b"\x02a", b"\x01\xff\x00\x00\x00"] {
            assert_eq!(MemberPayload::decode(bytes), None, "{bytes:?}");
            assert_eq!(MessagePayload::decode(bytes), None, "{bytes:?}");
        }
    }
}
