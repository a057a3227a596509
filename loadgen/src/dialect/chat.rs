//! The chat dialect as a client reads it: what a join brings, the messages of a room, and private ones.
//!
//! A server that encodes an event once sends the same bytes to every member. So each broadcast is
//! parsed whole with serde_json and checked once a thread; the other receipts are compared with those
//! bytes. A receipt that differs is parsed again: checking is never skipped, it only gets faster.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::dialect::payload::{Stamp, Template};

/// The chat room in which every client begins.
pub const INITIAL_ROOM: &str = "general";
/// How many broadcasts can be under way before their bytes push each other out; a power of two.
const KNOWN_COUNT: usize = 256;

/// A message of the room, as it concerns the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomMessage {
    /// What it carries.
    pub stamp: Stamp,
    /// The server's number for it.
    pub message_id: u64,
}

/// What a text message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A broadcast of this run.
    Broadcast(RoomMessage),
    /// It carries a mark of this run, and is not the `message` that it must be.
    Altered,
    /// Anything else.
    Other,
}

/// A private message, as it concerns the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateDecoded {
    /// One of this run, for this client.
    Received(Stamp),
    /// The acknowledgement of one that this client wrote.
    Acknowledged,
    /// It carries a mark of this run, and is neither.
    Altered,
    /// Anything else.
    Other,
}

/// Reads the messages of a room for one thread, or private ones.
#[derive(Debug)]
pub struct Decoder {
    template: Template,
    mark: Finder<'static>,
    /// The bytes of the last broadcasts that were parsed, by sequence number.
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    message: Option<RoomMessage>,
    bytes: Vec<u8>,
}

impl Decoder {
    /// A decoder for the broadcasts that `template` makes.
    #[must_use]
    pub fn new(template: Template) -> Self {
        let mark = Finder::new(template.text_mark()).into_owned();
        Self { template, mark, known: vec![Known { message: None, bytes: Vec::new() }; KNOWN_COUNT] }
    }

    /// Reads one text message.
    pub fn decode(&mut self, text: &[u8]) -> Decoded {
        let Some(mark_at) = self.mark.find(text) else {
            return Decoded::Other;
        };
        let Some(sequence) = self.template.peek_text_sequence(text, mark_at) else {
            return Decoded::Altered;
        };
        let known = &mut self.known[sequence as usize % KNOWN_COUNT];
        if let Some(message) = known.message
            && known.bytes == text
        {
            return Decoded::Broadcast(message);
        }
        match parse_room_message(&self.template, text) {
            Some(message) => {
                known.message = Some(message);
                known.bytes.clear();
                known.bytes.extend_from_slice(text);
                Decoded::Broadcast(message)
            }
            None => Decoded::Altered,
        }
    }

    /// Reads one text message to a client that exchanges private messages. Each goes to one receiver, so there is
    /// nothing to recognise, and each is parsed.
    #[must_use]
    pub fn decode_private(&self, text: &[u8]) -> PrivateDecoded {
        #[derive(Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        #[allow(dead_code, reason = "the fields must be there, whatever they hold")]
        enum Message<'a> {
            PrivateMessage {
                from_id: u64,
                #[serde(borrow)]
                from_name: Cow<'a, str>,
                #[serde(borrow)]
                content: Cow<'a, str>,
                timestamp: u64,
            },
            PrivateMessageSent {
                to_id: u64,
                #[serde(borrow)]
                to_name: Cow<'a, str>,
                #[serde(borrow)]
                content: Cow<'a, str>,
                timestamp: u64,
            },
        }
        if self.mark.find(text).is_none() {
            return PrivateDecoded::Other;
        }
        match serde_json::from_slice(text) {
            Ok(Message::PrivateMessage { content, .. }) => self
                .template
                .read_text(content.as_bytes())
                .map_or(PrivateDecoded::Altered, PrivateDecoded::Received),
            Ok(Message::PrivateMessageSent { content, .. }) => self
                .template
                .read_text(content.as_bytes())
                .map_or(PrivateDecoded::Altered, |_| PrivateDecoded::Acknowledged),
            Err(_) => PrivateDecoded::Altered,
        }
    }
}

fn parse_room_message(template: &Template, text: &[u8]) -> Option<RoomMessage> {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "the fields must be there, whatever they hold")]
    struct Message<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        from_id: u64,
        #[serde(borrow)]
        from_name: Cow<'a, str>,
        #[serde(borrow)]
        content: Cow<'a, str>,
        timestamp: u64,
        message_id: u64,
    }
    let message: Message<'_> = serde_json::from_slice(text).ok()?;
    if message.kind != "message" {
        return None;
    }
    let stamp = template.read_text(message.content.as_bytes()).ok()?;
    Some(RoomMessage { stamp, message_id: message.message_id })
}

/// Appends what a client sends to say something. `put_content` appends what it says, in which nothing
/// needs an escape in JSON: a stamp and its padding hold no such character.
pub fn put_message(put_content: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"message","content":""#);
    put_content(out);
    out.extend_from_slice(br#""}"#);
}

/// Appends what a client sends to tell one user something. Of `put_content` the same holds as for a message.
pub fn put_private_message(to_id: u64, put_content: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"private_message","to_id":"#);
    out.extend_from_slice(to_id.to_string().as_bytes());
    out.extend_from_slice(br#","content":""#);
    put_content(out);
    out.extend_from_slice(br#""}"#);
}

/// What a client sends to enter a room.
#[must_use]
pub fn join_room(room: &str) -> String {
    serde_json::json!({"type": "join_room", "room": room}).to_string()
}

/// A message to this connection alone, or of a kind that is only looked at in passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first message, with the user's id.
    Welcome(u64),
    /// The members of the room.
    Users,
    /// The last messages of the room.
    History,
    /// The client has changed rooms.
    RoomJoined,
    /// A message was taken; its id.
    MessageSent(u64),
    /// The server refuses something.
    Error(String),
    /// Anything else.
    Other,
}

/// Parses a message whole. `None` when it is not what the protocol says.
#[must_use]
pub fn parse_notice(text: &[u8]) -> Option<Notice> {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "the timestamp must be there")]
    struct Envelope<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        content: Option<&'a RawValue>,
        timestamp: u64,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "the fields must be there, whatever they hold")]
    struct Welcome<'a> {
        user_id: u64,
        #[serde(borrow)]
        user_name: Cow<'a, str>,
        server_stats: IgnoredAny,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "the fields must be there, whatever they hold")]
    struct User<'a> {
        id: u64,
        #[serde(borrow)]
        name: Cow<'a, str>,
        connected_at: u64,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "the fields must be there, whatever they hold")]
    struct Kept<'a> {
        message_id: u64,
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        sender: Cow<'a, str>,
        from_id: u64,
        content: IgnoredAny,
        timestamp: u64,
    }
    #[derive(Deserialize)]
    struct RoomJoined<'a> {
        #[serde(borrow, rename = "room")]
        _room: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct MessageSent {
        message_id: u64,
        #[serde(rename = "room")]
        _room: IgnoredAny,
    }
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        message: Cow<'a, str>,
    }
    fn content<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
        serde_json::from_str(raw?.get()).ok()
    }

    let Envelope { kind, content: raw, .. } = serde_json::from_slice(text).ok()?;
    Some(match &*kind {
        "welcome" => content::<Welcome<'_>>(raw).map(|welcome| Notice::Welcome(welcome.user_id))?,
        "users" => content::<Each<User<'_>>>(raw).map(|_| Notice::Users)?,
        "history" => content::<Each<Kept<'_>>>(raw).map(|_| Notice::History)?,
        "room_joined" => content::<RoomJoined<'_>>(raw).map(|_| Notice::RoomJoined)?,
        "message_sent" => content::<MessageSent>(raw).map(|sent| Notice::MessageSent(sent.message_id))?,
        "error" => content::<Refusal<'_>>(raw).map(|error| Notice::Error(error.message.into_owned()))?,
        _ => Notice::Other,
    })
}

/// A list whose elements are checked and not kept: ten thousand joins bring ten thousand long lists.
struct Each<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EachVisitor<T> {
            type Value = Each<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Each<T>, A::Error> {
                while list.next_element::<T>()?.is_some() {}
                Ok(Each(PhantomData))
            }
        }
        deserializer.deserialize_seq(EachVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(template: &Template, sequence: u64, message_id: u64) -> (Stamp, String) {
        let stamp = Stamp { sequence, intended_ns: 5, sent_ns: 6 };
        let mut content = Vec::new();
        template.put_text(stamp, &mut content);
        let content = String::from_utf8(content).expect("ASCII");
        let text = format!(
            r#"{{"type":"message","from_id":1,"from_name":"User1","content":"{content}","timestamp":9,"message_id":{message_id}}}"#
        );
        (stamp, text)
    }

    #[test]
    fn a_broadcast_is_parsed_once_and_recognised_after() {
        let template = Template::new(3, 64);
        let mut decoder = Decoder::new(template.clone());
        let (stamp, text) = message(&template, 300, 12);
        let expected = Decoded::Broadcast(RoomMessage { stamp, message_id: 12 });
        assert_eq!(decoder.decode(text.as_bytes()), expected);
        assert_eq!(decoder.decode(text.as_bytes()), expected);
        let (_, other) = message(&template, 300, 13);
        let Decoded::Broadcast(other) = decoder.decode(other.as_bytes()) else { panic!("not a broadcast") };
        assert_eq!(other.message_id, 13, "other bytes are parsed again");
    }

    #[test]
    fn every_alteration_is_seen() {
        let template = Template::new(3, 64);
        let (_, text) = message(&template, 1, 12);
        for (from, to) in [
            ("\"message\",", "\"image\","),
            ("abc", "abd"),
            ("opq", ""),
            (",\"message_id\":12", ""),
            ("\"from_id\":1,", ""),
            ("}", ""),
        ] {
            let mut decoder = Decoder::new(template.clone());
            assert!(matches!(decoder.decode(text.as_bytes()), Decoded::Broadcast(_)));
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text);
            assert_eq!(decoder.decode(altered.as_bytes()), Decoded::Altered, "{altered}");
        }
        let (_, foreign) = message(&Template::new(4, 64), 1, 12);
        assert_eq!(Decoder::new(template).decode(foreign.as_bytes()), Decoded::Other);
    }

    #[test]
    fn a_private_message_is_told_from_its_acknowledgement_and_both_are_checked() {
        let template = Template::new(3, 64);
        let decoder = Decoder::new(template.clone());
        let stamp = Stamp { sequence: 4, intended_ns: 5, sent_ns: 6 };
        let mut written = Vec::new();
        put_private_message(9, |content| template.put_text(stamp, content), &mut written);
        let written = String::from_utf8(written).expect("ASCII");
        assert!(written.starts_with(r#"{"type":"private_message","to_id":9,"content":"~lg"#), "{written}");
        let content = &written[written.find('~').expect("a mark")..written.len() - 2];
        let received = format!(
            r#"{{"type":"private_message","from_id":1,"from_name":"a","content":"{content}","timestamp":7}}"#
        );
        let sent = format!(
            r#"{{"type":"private_message_sent","to_id":9,"to_name":"b","content":"{content}","timestamp":7}}"#
        );
        let decode = |text: &str| decoder.decode_private(text.as_bytes());
        assert_eq!(decode(&received), PrivateDecoded::Received(stamp));
        assert_eq!(decode(&sent), PrivateDecoded::Acknowledged);
        for altered in
            [received.replace("abc", "abd"), received.replace("from_id", "id"), sent.replace("_sent", "")]
        {
            assert_eq!(decode(&altered), PrivateDecoded::Altered, "{altered}");
        }
        assert_eq!(decode(r#"{"type":"join","content":{},"timestamp":1}"#), PrivateDecoded::Other);
    }

    #[test]
    fn what_a_join_brings_is_checked() {
        let parse = |text: &str| parse_notice(text.as_bytes());
        let welcome = r#"{"type":"welcome","content":{"user_id":1,"user_name":"User1","message":"Welcome to the chat room!","server_stats":{"users_online":1},"room":"general"},"timestamp":1}"#;
        assert_eq!(parse(welcome), Some(Notice::Welcome(1)));
        let users = r#"{"type":"users","content":[{"id":1,"name":"Us\u0065r1","connected_at":2}],"timestamp":1,"total":7}"#;
        assert_eq!(parse(users), Some(Notice::Users));
        assert_eq!(parse(&users.replace("\"id\"", "\"di\"")), None);
        let history = r#"{"type":"history","content":[{"message_id":1,"type":"image","sender":"a","from_id":1,"content":{"url":"b"},"timestamp":3}],"timestamp":1}"#;
        assert_eq!(parse(history), Some(Notice::History));
        assert_eq!(parse(&history.replace("[{", "{").replace("}]", "}")), None);
        let sent = r#"{"type":"message_sent","content":{"message_id":5,"room":"general"},"timestamp":1}"#;
        assert_eq!(parse(sent), Some(Notice::MessageSent(5)));
        assert_eq!(parse(r#"{"type":"join","timestamp":1}"#), Some(Notice::Other));
        let error = r#"{"type":"error","content":{"message":"Unknown room: a"},"timestamp":1}"#;
        assert_eq!(parse(error), Some(Notice::Error("Unknown room: a".to_owned())));
        assert_eq!(parse("Server is full"), None);
        assert_eq!(join_room("a\"b"), r#"{"type":"join_room","room":"a\"b"}"#);
    }
}
