//! The content of a room's message in JSON, for events and for history.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::rooms::Content;

/// The `type` of a message.
pub(super) fn kind_of(content: &Content) -> &'static str {
    match content {
        Content::Text(_) => "message",
        Content::Image(_) => "image",
    }
}

/// A `content`: a string, or `{"url"}`.
pub(super) struct Shown<'a>(pub(super) &'a Content);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Content::Text(text) => serializer.serialize_str(text),
            Content::Image(url) => {
                let mut fields = serializer.serialize_map(Some(1))?;
                fields.serialize_entry("url", url)?;
                fields.end()
            }
        }
    }
}
