//! Messages to chat clients, in three envelopes: *direct*, *room* and *private*.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeZone;
use serde::Serialize;
use serde_json::json;
use uproar_protocol::frames;

use super::content::{Shown, kind_of, with_account};
use crate::clock::Now;
use crate::moderation::{Ban, BanSubject, BansPage};
use crate::rooms::{Content, Epoch, MessageId, NamedMember, PresenceReport, RoomEvent, UserId};

/// The server's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    users_online: usize,
    uptime_seconds: u64,
    server_time: String,
}

impl Stats {
    /// The figures of this moment; the time is local.
    #[must_use]
    pub fn at(now: Now, users_online: usize) -> Self {
        let seconds = i64::try_from(now.unix_seconds).unwrap_or(i64::MAX);
        let server_time = chrono::Local
            .timestamp_opt(seconds, 0)
            .earliest()
            .map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string())
            .unwrap_or_default();
        Self { users_online, uptime_seconds: now.uptime_ms / 1_000, server_time }
    }
}

/// A message to one connection, other than a list.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Direct<'a> {
    /// The first message to a user.
    Welcome { user: UserId, name: &'a str, stats: Stats, room: &'a str, session: Option<String> },
    /// A message of the user had no effect.
    Error { message: String },
    /// The user's own new name.
    NameChanged { old_name: &'a str, new_name: &'a str },
    /// The figures.
    Stats(Stats),
    /// The user is in this room now.
    RoomJoined { room: &'a str },
    /// Another user has read one of the user's messages, at this time in Unix seconds.
    MessageRead { message: MessageId, reader: UserId, read_at: u64 },
    /// The user has signed in, and has this name now.
    AuthSuccess { name: &'a str, is_admin: bool },
    /// The user's token has expired; without another one the connection is closed after this time.
    TokenExpired { grace_seconds: u64 },
    /// The user is about to be closed by an admin.
    Kicked { reason: &'a str },
    /// The user may not send messages for so long.
    Muted { seconds: u32 },
    /// The user may send messages again.
    Unmuted,
    /// The connection is about to be closed; the client is to return after this time.
    Reconnect { after_ms: u64 },
}

/// A room, as a list of all has it.
#[derive(Debug, Serialize)]
pub struct RoomFigures {
    /// Its name.
    pub room: Arc<str>,
    /// How many are in it.
    pub users_online: usize,
    /// The id of its last message; 0 when there is none.
    pub last_message_id: MessageId,
    /// The epoch of that id.
    pub epoch: Epoch,
}

/// Encodes a message to one connection.
#[must_use]
pub fn direct(direct: &Direct<'_>, now: Now) -> Bytes {
    let (kind, content) = match direct {
        Direct::Welcome { user, name, stats, room, session } => {
            let message = "Welcome to the chat room!";
            let mut content = json!({
                "user_id": user, "user_name": name, "message": message, "server_stats": stats, "room": room,
            });
            if let Some(session) = session {
                content["session"] = json!(session);
            }
            ("welcome", content)
        }
        Direct::Error { message } => ("error", json!({ "message": message })),
        Direct::NameChanged { old_name, new_name } => {
            ("name_changed", json!({ "old_name": old_name, "new_name": new_name }))
        }
        Direct::Stats(stats) => ("stats", json!(stats)),
        Direct::RoomJoined { room } => ("room_joined", json!({ "room": room })),
        Direct::MessageRead { message, reader, read_at } => {
            ("message_read", json!({ "message_id": message, "read_by": reader, "read_at": read_at }))
        }
        Direct::AuthSuccess { name, is_admin } => {
            ("auth_success", json!({ "user_name": name, "is_admin": is_admin }))
        }
        Direct::TokenExpired { grace_seconds } => {
            ("token_expired", json!({ "grace_seconds": grace_seconds }))
        }
        Direct::Kicked { reason } => ("kicked", json!({ "reason": reason })),
        Direct::Muted { seconds } => ("muted", json!({ "seconds": seconds })),
        Direct::Unmuted => ("unmuted", json!({})),
        Direct::Reconnect { after_ms } => ("reconnect", json!({ "after_ms": after_ms })),
    };
    text(&Envelope { content, timestamp: now.unix_seconds, kind })
}

/// The direct envelope.
#[derive(Serialize)]
struct Envelope<C> {
    content: C,
    timestamp: u64,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Rooms<'a> {
    content: &'a [RoomFigures],
    timestamp: u64,
    total: usize,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Lists rooms, of which there are `total` in all.
#[must_use]
pub fn rooms(listed: &[RoomFigures], total: usize, now: Now) -> Bytes {
    text(&Rooms { content: listed, timestamp: now.unix_seconds, total, kind: "rooms" })
}

#[derive(Serialize)]
struct Bans<'a> {
    content: Vec<BanRow<'a>>,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<usize>,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct BanRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    until: u64,
    reason: &'a str,
}

impl<'a> BanRow<'a> {
    fn of((subject, ban): &'a (BanSubject, Ban)) -> Self {
        let (account, address) = match subject {
            BanSubject::Account(account) => (Some(&**account), None),
            BanSubject::Address(address) => (None, Some(*address)),
        };
        Self { account, address, until: ban.until, reason: &ban.reason }
    }
}

/// Lists bans. A page, and a list that leaves some out, has the number of all.
#[must_use]
pub fn bans(page: &BansPage, is_page: bool, now: Now) -> Bytes {
    let content: Vec<_> = page.listed.iter().map(BanRow::of).collect();
    let total = Some(page.total).filter(|total| is_page || *total > content.len());
    text(&Bans { content, timestamp: now.unix_seconds, total, kind: "bans" })
}

#[derive(Serialize)]
struct MessageSent<'a> {
    message_id: MessageId,
    room: &'a str,
}

/// Acknowledges a message to its sender, with the id that it got.
#[must_use]
pub fn message_sent(id: MessageId, room: &str, timestamp: u64) -> Bytes {
    let content = MessageSent { message_id: id, room };
    text(&Envelope { content, timestamp, kind: "message_sent" })
}

/// The room envelope.
#[derive(Serialize)]
struct Room<'a, C> {
    #[serde(rename = "type")]
    kind: &'a str,
    from_id: u64,
    from_name: &'a str,
    content: C,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_account: Option<&'a str>,
}

/// Encodes an event of a room, for all members but the one that caused it; only a deletion is for this one, too.
#[must_use]
pub fn room_event(event: &RoomEvent, room: &str, timestamp: u64) -> Bytes {
    let by_user = |kind: &str, from: UserId, from_name: &Arc<str>, content: serde_json::Value| {
        let (message_id, from_account) = (None, None);
        text(&Room { kind, from_id: from.get(), from_name, content, timestamp, message_id, from_account })
    };
    let by_system = |kind: &str, content: serde_json::Value| {
        let (from_name, message_id, from_account) = ("System", None, None);
        text(&Room { kind, from_id: 0, from_name, content, timestamp, message_id, from_account })
    };
    match event {
        RoomEvent::Message(message) => {
            let envelope = Room {
                kind: kind_of(&message.content),
                from_id: message.from.get(),
                from_name: &message.from_name,
                content: Shown(&message.content),
                timestamp,
                message_id: Some(message.id),
                from_account: message.from_account.as_deref(),
            };
            let (Content::Text(text) | Content::Image(text)) = &message.content;
            long_text(text.len(), &envelope)
        }
        RoomEvent::Deleted { message, by, by_name } => {
            by_user("message_deleted", *by, by_name, json!({ "message_id": message, "deleted_by": by }))
        }
        RoomEvent::Joined { user, name, account, users_online } => {
            let content =
                json!({ "user_id": user, "user_name": name, "users_online": users_online, "room": room });
            by_user("join", *user, name, with_account(content, account.as_ref()))
        }
        RoomEvent::Left { user, name, users_online } => {
            let content =
                json!({ "user_id": user, "user_name": name, "users_online": users_online, "room": room });
            by_system("leave", content)
        }
        RoomEvent::Renamed { user, old_name, new_name } => {
            let content = json!({ "user_id": user, "old_name": old_name, "new_name": new_name });
            by_user("user_renamed", *user, new_name, content)
        }
        RoomEvent::Typing { user, name, is_typing } => {
            let content = json!({ "user_id": user, "user_name": name, "is_typing": is_typing });
            by_user("typing", *user, name, content)
        }
        RoomEvent::Presence(PresenceReport { users_online, joined, left, renamed, truncated }) => {
            let entry = |NamedMember { id, name, account }: &NamedMember| {
                with_account(json!({ "id": id, "name": name }), account.as_ref())
            };
            let named = |users: &[NamedMember]| -> serde_json::Value { users.iter().map(entry).collect() };
            let content = json!({
                "room": room, "users_online": users_online, "joined": named(joined), "left": left,
                "renamed": named(renamed), "truncated": truncated,
            });
            by_system("presence", content)
        }
    }
}

/// Encodes that a user has started or stopped writing to the receiver.
#[must_use]
pub fn private_typing(from: UserId, from_name: &str, is_typing: bool, now: Now) -> Bytes {
    let content = json!({ "user_id": from, "user_name": from_name, "is_typing": is_typing, "private": true });
    let (kind, from_id, timestamp) = ("typing", from.get(), now.unix_seconds);
    text(&Room { kind, from_id, from_name, content, timestamp, message_id: None, from_account: None })
}

#[derive(Serialize)]
struct PrivateMessage<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_account: Option<&'a str>,
    from_id: UserId,
    from_name: &'a str,
    timestamp: u64,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Encodes a private message for its receivers; `from_account` is the account of a sender that has signed in.
#[must_use]
pub fn private_message(
    from: UserId,
    from_name: &str,
    from_account: Option<&str>,
    content: &str,
    now: Now,
) -> Bytes {
    let (timestamp, kind) = (now.unix_seconds, "private_message");
    text(&PrivateMessage { content, from_account, from_id: from, from_name, timestamp, kind })
}

#[derive(Serialize)]
struct PrivateMessageSent<'a> {
    content: &'a str,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_id: Option<UserId>,
    to_name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Acknowledges a private message to its sender.
#[must_use]
pub fn private_message_sent(to: UserId, to_name: &str, content: &str, now: Now) -> Bytes {
    let timestamp = now.unix_seconds;
    let (to_account, to_id) = (None, Some(to));
    text(&PrivateMessageSent { content, timestamp, to_account, to_id, to_name, kind: "private_message_sent" })
}

/// Acknowledges a private message to all connections of an account.
#[must_use]
pub fn private_message_sent_to_account(account: &str, to_name: &str, content: &str, now: Now) -> Bytes {
    let timestamp = now.unix_seconds;
    let (to_account, to_id) = (Some(account), None);
    text(&PrivateMessageSent { content, timestamp, to_account, to_id, to_name, kind: "private_message_sent" })
}

/// Room for a message without a long text.
const SHORT_BYTES: usize = 256;

fn text(message: &impl Serialize) -> Bytes {
    long_text(0, message)
}

/// Encodes a message that contains a text of so many bytes.
fn long_text(text_bytes: usize, message: &impl Serialize) -> Bytes {
    frames::written_text(SHORT_BYTES + text_bytes, |buffer| {
        serde_json::to_writer(buffer, message).expect("Bug: a message has a key that is no string");
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::RoomMessage;

    const NOW: Now = Now { monotonic_ms: 0, uptime_ms: 61_500, unix_seconds: 1_700_000_000 };

    fn json(frame: &[u8]) -> serde_json::Value {
        let header = if frame[1] < 126 { 2 } else { 4 };
        assert_eq!(frame[0], 0x81);
        serde_json::from_slice(&frame[header..]).unwrap()
    }

    #[test]
    fn a_message_has_the_room_envelope_and_its_id() {
        let mut expected = json!({
            "type": "message", "from_id": 3, "from_name": "Ann", "content": "a \"b\"\n你", "timestamp": 9,
            "message_id": 7,
        });
        for account in [None, Some("ann")] {
            let message = RoomMessage {
                id: MessageId(7),
                from: UserId::from_wire(3).unwrap(),
                from_name: "Ann".into(),
                from_account: account.map(Into::into),
                content: Content::Text("a \"b\"\n你".into()),
                timestamp: 9,
            };
            if let Some(account) = account {
                expected["from_account"] = json!(account);
            }
            let frame = room_event(&RoomEvent::Message(Arc::new(message)), "general", 9);
            assert_eq!(json(&frame), expected);
        }
    }

    #[test]
    fn what_the_server_itself_says_is_from_system() {
        let event =
            RoomEvent::Left { user: UserId::from_wire(3).unwrap(), name: "Ann".into(), users_online: 1 };
        let expected = json!({
            "type": "leave", "from_id": 0, "from_name": "System", "timestamp": 9,
            "content": { "user_id": 3, "user_name": "Ann", "users_online": 1, "room": "general" },
        });
        assert_eq!(json(&room_event(&event, "general", 9)), expected);
    }

    #[test]
    fn stats_hold_the_local_time_and_whole_seconds() {
        let frame = json(&direct(&Direct::Stats(Stats::at(NOW, 4)), NOW));
        assert_eq!(frame["timestamp"], 1_700_000_000);
        assert_eq!(frame["content"]["users_online"], 4);
        assert_eq!(frame["content"]["uptime_seconds"], 61);
        assert_eq!(frame["content"]["server_time"].as_str().map(str::len), Some(19));
    }
}
