//! A message that comes in pieces. Text is checked while it comes, so that the first wrong byte ends it
//! (RFC 6455, section 8.1), and no byte is looked at twice.

use super::header::Mask;
use super::{MessageKind, Violation};

/// What there is of a message so far.
#[derive(Debug)]
pub(super) enum Assembly {
    Text {
        text: String,
        /// The beginning of a character that is not complete: at most three bytes.
        cut: Vec<u8>,
    },
    Binary(Vec<u8>),
}

impl Assembly {
    pub(super) fn new(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text { text: String::new(), cut: Vec::new() },
            MessageKind::Binary => Self::Binary(Vec::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text { text, cut } => text.len() + cut.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &[u8], mask: &mut Option<Mask>) -> Result<(), Violation> {
        match self {
            Self::Binary(bytes) => Mask::append(mask, bytes, piece),
            Self::Text { text, cut } => {
                Mask::append(mask, cut, piece);
                let rest = match str::from_utf8(cut) {
                    Ok(valid) => {
                        text.push_str(valid);
                        0
                    }
                    Err(error) if error.error_len().is_some() => return Err(Violation::InvalidUtf8),
                    Err(error) => {
                        let valid = cut.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                        text.push_str(valid);
                        cut.len() - error.valid_up_to()
                    }
                };
                cut.drain(..cut.len() - rest);
                if cut.is_empty() {
                    *cut = Vec::new();
                }
            }
        }
        Ok(())
    }

    /// The text, if it is one that does not end in the middle of a character.
    pub(super) fn into_text(self) -> Result<String, Violation> {
        match self {
            Self::Text { text, cut } if cut.is_empty() => Ok(text),
            _ => Err(Violation::InvalidUtf8),
        }
    }

    /// What there is, complete or not.
    pub(super) fn into_parts(self) -> (MessageKind, Vec<u8>) {
        match self {
            Self::Binary(bytes) => (MessageKind::Binary, bytes),
            Self::Text { text, cut } => {
                let mut bytes = text.into_bytes();
                bytes.extend_from_slice(&cut);
                (MessageKind::Text, bytes)
            }
        }
    }
}
