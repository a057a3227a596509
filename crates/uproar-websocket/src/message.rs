//! The messages of a socket.

pub use uproar_protocol::frames::Close;

/// A whole message, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
    /// A ping, of at most 125 bytes. Those that are read have been answered.
    Ping(Vec<u8>),
    /// A pong, of at most 125 bytes.
    Pong(Vec<u8>),
    /// A close, with its code and reason if it has any. The reason has at most 123 bytes. One that is read has
    /// been answered, and is the last message.
    Close(Option<Close>),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Binary(bytes.into())
    }

    /// A close.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(Some(Close { code, reason: reason.into() }))
    }

    /// True for text and binary.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Binary(_))
    }

    /// The text, of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}
