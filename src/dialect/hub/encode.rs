//! Messages to hub clients: one object with always the same keys.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use uproar_protocol::frames;

use crate::address::ClientAddress;
use crate::dialect::encoded::Encoded;
use crate::rooms::{Content, MemberEntry, RoomEvent};

/// Up to this many names are sent with every message that has a list. A list of 50 names is about
/// 1 KB, as long as a long message.
pub const NAMES_PACED_ABOVE: usize = 50;

/// The names in a room, as last received from its home.
#[derive(Debug, Default)]
pub struct Names(Encoded<MemberEntry>);

impl Names {
    /// Takes over a newer list.
    pub fn update(&mut self, members: &Arc<[MemberEntry]>) {
        self.0.of(members, |member| json!(member.name));
    }

    /// True when there are too many to send with every message.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.0.source().is_some_and(|members| members.len() > NAMES_PACED_ABOVE)
    }

    /// The names for a message to one client that has not asked for them: none, if they are many. It keeps
    /// those that it has.
    fn in_passing(&self) -> &str {
        if self.are_many() { "" } else { self.0.json() }
    }

    /// All names as text, for the answer to `who`.
    fn in_words(&self) -> String {
        let names = self.0.source().into_iter().flat_map(|members| members.iter());
        names.map(|member| &*member.name).collect::<Vec<_>>().join(", ")
    }
}

/// Every key but the list of names, which is encoded already.
#[derive(Serialize)]
struct Line<'a> {
    ip: &'a str,
    user: &'a str,
    from: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    content: &'a str,
}

/// The first message of a connection: its own address and port, which no other client gets. A proxy may not tell the
/// port.
#[must_use]
pub fn handshake(address: ClientAddress, names: &Names) -> Bytes {
    let ip = address.to_string();
    encode(&Line { ip: &ip, user: "", from: "", kind: "handshake", content: "" }, names.0.json())
}

/// Confirms a login; `last` is itself, when the room is too large for its name to be among
/// the others.
#[must_use]
pub fn login(name: &str, names: &Names, last: Option<&MemberEntry>) -> Bytes {
    let line = Line { ip: "", user: name, from: name, kind: "login", content: name };
    match last {
        None => encode(&line, names.0.json()),
        Some(last) => {
            let comma = if names.0.json().is_empty() { "" } else { "," };
            encode(&line, &format!("{}{comma}{}", names.0.json(), json!(last.name)))
        }
    }
}

/// A private message.
#[must_use]
pub fn message(from: &str, content: &str, names: &Names) -> Bytes {
    said(from, content, names.in_passing())
}

/// A message of the server itself.
#[must_use]
pub fn system(content: &str, names: &Names) -> Bytes {
    by_system(content, names.in_passing())
}

/// Answers a `who`.
#[must_use]
pub fn names_told(names: &Names) -> Bytes {
    by_system(&names.in_words(), names.0.json())
}

/// Tells one client its new name.
#[must_use]
pub fn renamed(old_name: &str, new_name: &str, names: &Names) -> Bytes {
    system(&in_new_words(old_name, new_name), names)
}

/// Encodes an event in a room, with the names or an empty list; `None` if this dialect has no message for it.
#[must_use]
pub fn room_event(event: &RoomEvent, names: &Names, is_listed: bool) -> Option<Bytes> {
    let names = if is_listed { names.0.json() } else { "" };
    let announced =
        |kind, name: &str| encode(&Line { ip: "", user: name, from: name, kind, content: name }, names);
    match event {
        RoomEvent::Message(said) => {
            let (Content::Text(content) | Content::Image(content)) = &said.content;
            Some(self::said(&said.from_name, content, names))
        }
        RoomEvent::Joined { name, .. } => Some(announced("login", name)),
        RoomEvent::Left { name, .. } => Some(announced("logout", name)),
        RoomEvent::Renamed { old_name, new_name, .. } => {
            Some(by_system(&in_new_words(old_name, new_name), names))
        }
        RoomEvent::Typing { .. } | RoomEvent::Presence(_) | RoomEvent::Deleted { .. } => None,
    }
}

fn said(from: &str, content: &str, names: &str) -> Bytes {
    encode(&Line { ip: "", user: from, from, kind: "user", content }, names)
}

fn by_system(content: &str, names: &str) -> Bytes {
    encode(&Line { ip: "", user: "", from: "", kind: "system", content }, names)
}

fn in_new_words(old_name: &str, new_name: &str) -> String {
    format!("{old_name} 改名为 {new_name}")
}

/// Room for a line without its content and the names.
const SHORT_BYTES: usize = 256;

fn encode(line: &Line<'_>, names: &str) -> Bytes {
    frames::written_text(SHORT_BYTES + line.content.len() + names.len(), |buffer| {
        serde_json::to_writer(&mut *buffer, line).expect("Bug: a line is always JSON");
        // The line is an object with at least one field; without its brace it goes on.
        buffer.pop();
        buffer.extend_from_slice(br#","user_list":["#);
        buffer.extend_from_slice(names.as_bytes());
        buffer.extend_from_slice(b"]}");
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{MessageId, RoomMessage, UserId};

    fn entry(n: u64, name: &str) -> MemberEntry {
        MemberEntry { id: UserId::from_wire(n).unwrap(), name: name.into(), account: None, connected_at: 0 }
    }

    fn names() -> Names {
        let mut names = Names::default();
        names.update(&Arc::from([entry(1, "A\"nn"), entry(2, "你")]));
        names
    }

    fn text(frame: &[u8]) -> &str {
        let header = if frame[1] < 126 { 2 } else { 4 };
        std::str::from_utf8(&frame[header..]).unwrap()
    }

    #[test]
    fn every_message_has_all_keys_in_their_order() {
        let expected =
            r#"{"ip":"","user":"","from":"","type":"system","content":"x\n","user_list":["A\"nn","你"]}"#;
        assert_eq!(text(&system("x\n", &names())), expected);
        let expected =
            r#"{"ip":"[::1]:80","user":"","from":"","type":"handshake","content":"","user_list":[]}"#;
        let address = "[::1]:80".parse::<std::net::SocketAddr>().unwrap();
        assert_eq!(text(&handshake(address.into(), &Names::default())), expected);
    }

    #[test]
    fn an_image_is_told_by_its_address() {
        let said = RoomMessage {
            id: MessageId(1),
            from: UserId::from_wire(2).unwrap(),
            from_name: "你".into(),
            from_account: None,
            content: Content::Image("http://a".into()),
            timestamp: 9,
        };
        let expected = r#"{"ip":"","user":"你","from":"你","type":"user","content":"http://a","user_list":["A\"nn","你"]}"#;
        assert_eq!(text(&room_event(&RoomEvent::Message(Arc::new(said)), &names(), true).unwrap()), expected);
    }

    #[test]
    fn who_is_answered_in_words_and_as_a_list() {
        let expected = r#"{"ip":"","user":"","from":"","type":"system","content":"A\"nn, 你","user_list":["A\"nn","你"]}"#;
        assert_eq!(text(&names_told(&names())), expected);
    }

    #[test]
    fn a_newcomer_of_a_large_room_stands_last_in_its_list() {
        let last = entry(9, "z");
        let expected =
            r#"{"ip":"","user":"z","from":"z","type":"login","content":"z","user_list":["A\"nn","你","z"]}"#;
        assert_eq!(text(&login("z", &names(), Some(&last))), expected);
        let expected = r#"{"ip":"","user":"z","from":"z","type":"login","content":"z","user_list":["z"]}"#;
        assert_eq!(text(&login("z", &Names::default(), Some(&last))), expected);
    }
}
