//! The chat dialect's envelopes, as they are expected: without the timestamp, which
//! [`Chat::next`] has checked already.

use serde_json::{Value, json};

use super::Chat;

pub(crate) fn direct(kind: &str, content: Value) -> Value {
    json!({"type": kind, "content": content})
}

pub(crate) fn error(message: &str) -> Value {
    direct("error", json!({"message": message}))
}

/// A room event that `member` caused.
pub(crate) fn from(member: &Chat, kind: &str, content: Value) -> Value {
    json!({"type": kind, "from_id": member.id, "from_name": member.name, "content": content})
}

/// A room event that the server itself announces.
pub(crate) fn from_system(kind: &str, content: Value) -> Value {
    json!({"type": kind, "from_id": 0, "from_name": "System", "content": content})
}
