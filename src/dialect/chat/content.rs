//! Parts of JSON that events and lists share: the content of a message, and the account of a user.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::rooms::{Content, MemberAccount};

/// The `type` of a message.
pub(super) fn kind_of(content: &Content) -> &'static str {
    match content {
        Content::Text(_) => "message",
        Content::Image(_) => "image",
    }
}

/// The fields of a user, with the account if there is one.
pub(super) fn with_account(
    mut user: serde_json::Value,
    account: Option<&MemberAccount>,
) -> serde_json::Value {
    if let Some(MemberAccount { account, is_admin }) = account {
        user["account"] = serde_json::json!(account);
        user["is_admin"] = serde_json::json!(is_admin);
    }
    user
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
