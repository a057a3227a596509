//! A message of a client, as its connection yields it.

use std::borrow::Cow;

use bytes::Bytes;
use uproar_protocol::frames::MessageKind;

/// A whole message that was received. Text is valid UTF-8 (RFC 6455, 8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
}

impl Message<'_> {
    /// Its payload.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Its payload, copied only if it is borrowed.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_owned().into(),
            Self::Binary(bytes) => bytes.into_owned().into(),
        }
    }

    /// Which of the two it is.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that came in pieces was joined in a buffer of its own, which then is what is sent.
    #[test]
    fn a_message_in_a_buffer_of_its_own_is_not_copied() {
        let joined = vec![b'x'; 100_000];
        let start = joined.as_ptr();
        assert_eq!(Message::Binary(Cow::Owned(joined)).into_bytes().as_ptr(), start);
        let joined = "x".repeat(100_000);
        let start = joined.as_ptr();
        assert_eq!(Message::Text(Cow::Owned(joined)).into_bytes().as_ptr(), start);
    }
}
