//! The messages that backends send, as their requests say them.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Map, Value};
use uproar_protocol::frames::MessageKind;

use super::fields::Fields;
use super::idempotency::{ContentDigest, IdempotencyKey};
use super::limits::ApiLimits;
use super::problem::FieldError;
use crate::dialect::chat;
use crate::name;
use crate::rooms::{Content, NewMessage, UserId};

/// The most rooms that one message goes to.
pub(super) const ROOMS_MAX: usize = 1_000;

/// The most items of a batch.
pub(super) const ITEMS_MAX: usize = 1_000;

/// The most characters of an account, as in a token.
const ACCOUNT_CHARACTERS_MAX: usize = 128;

/// A message for rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoomPost {
    content: Content,
    from_name: Arc<str>,
    from_account: Option<Arc<str>>,
}

/// A chat message of the program that embeds the server: a text or an image, from System unless it says otherwise. It obeys
/// the rules of messages of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    content: Content,
    from_name: Option<String>,
    from_account: Option<String>,
}

impl Message {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: Content::Text(text.into()), from_name: None, from_account: None }
    }

    /// The URL of an image.
    #[must_use]
    pub fn image(url: impl Into<String>) -> Self {
        Self { content: Content::Image(url.into()), from_name: None, from_account: None }
    }

    /// With the display name of its sender.
    #[must_use]
    pub fn from_name(self, name: impl Into<String>) -> Self {
        Self { from_name: Some(name.into()), ..self }
    }

    /// With the account of its sender.
    #[must_use]
    pub fn from_account(self, account: impl Into<String>) -> Self {
        Self { from_account: Some(account.into()), ..self }
    }
}

impl<T: Into<String>> From<T> for Message {
    fn from(text: T) -> Self {
        Self::text(text)
    }
}

/// The rooms of a message, as they are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rooms {
    /// One, with an answer of its own.
    One(String),
    /// Several, with a list of results.
    Several(Vec<String>),
}

/// A message to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPost {
    pub(super) topic: String,
    pub(super) kind: MessageKind,
    pub(super) payload: Bytes,
}

/// An item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) post: Post,
    pub(super) key: Option<IdempotencyKey>,
}

/// A message to a room or to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Post {
    Room { room: String, post: RoomPost },
    Topic(TopicPost),
}

impl Post {
    /// The digest of what it says.
    pub(super) fn digest(&self) -> ContentDigest {
        match self {
            Self::Room { room, post: RoomPost { content, from_name, from_account } } => {
                let (kind, text) = match content {
                    Content::Text(text) => (&b"text"[..], text),
                    Content::Image(url) => (&b"image"[..], url),
                };
                // An account is never empty.
                let account = from_account.as_deref().unwrap_or_default();
                ContentDigest::of(&[
                    kind,
                    room.as_bytes(),
                    text.as_bytes(),
                    from_name.as_bytes(),
                    account.as_bytes(),
                ])
            }
            Self::Topic(TopicPost { topic, kind: MessageKind::Text, payload }) => {
                ContentDigest::of(&[b"topic text", topic.as_bytes(), payload])
            }
            Self::Topic(TopicPost { topic, kind: MessageKind::Binary, payload }) => {
                ContentDigest::of(&[b"topic binary", topic.as_bytes(), payload])
            }
        }
    }
}

impl RoomPost {
    /// The message as rooms take it.
    pub(super) fn message(&self) -> NewMessage {
        NewMessage {
            user: UserId::SYSTEM,
            name: Arc::clone(&self.from_name),
            account: self.from_account.clone(),
            content: self.content.clone(),
        }
    }

    /// Reads the fields of a message. `None` where one of them is wrong.
    pub(super) fn read(fields: &mut Fields, limits: ApiLimits) -> Option<Self> {
        let content = content(fields, limits);
        let from_name = checked_name(fields.text("from_name").as_deref());
        let from_account = checked_account(fields.text("from_account"));
        let from_name = fields.accept("from_name", from_name);
        let from_account = fields.accept("from_account", from_account);
        Some(Self { content: content?, from_name: from_name?, from_account: from_account? })
    }

    /// Checks the message of a program that embeds the server.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, by the name of the field.
    pub(super) fn check(message: Message, limits: ApiLimits) -> Result<Self, String> {
        let Message { content, from_name, from_account } = message;
        let (field, content) = match content {
            Content::Text(text) => ("content", checked_text(text, limits)),
            Content::Image(url) => ("image", checked_image(url)),
        };
        let told = |field: &str, detail: String| format!("{field} {detail}");
        Ok(Self {
            content: content.map_err(|detail| told(field, detail))?,
            from_name: checked_name(from_name.as_deref()).map_err(|detail| told("from_name", detail))?,
            from_account: checked_account(from_account).map_err(|detail| told("from_account", detail))?,
        })
    }
}

impl Rooms {
    /// Reads the fields `room` and `rooms`, of which one is there. `None` where one of them is wrong.
    pub(super) fn read(fields: &mut Fields) -> Option<Self> {
        match (fields.text("room"), fields.texts("rooms")) {
            (Some(room), None) => return Some(Self::One(room)),
            (None, Some(rooms)) if (1..=ROOMS_MAX).contains(&rooms.len()) => {
                return Some(Self::Several(rooms));
            }
            (None, Some(_)) => fields.refuse("rooms", format!("has not 1 to {ROOMS_MAX} rooms")),
            (Some(_), Some(_)) => fields.refuse("rooms", "cannot be given together with room"),
            (None, None) => fields.require("room", false),
        }
        None
    }
}

fn content(fields: &mut Fields, limits: ApiLimits) -> Option<Content> {
    match (fields.text("content"), fields.text("image")) {
        (Some(_), Some(_)) => fields.refuse("image", "cannot be given together with content"),
        (None, None) => fields.require("content", false),
        (Some(text), None) => return fields.accept("content", checked_text(text, limits)),
        (None, Some(url)) => return fields.accept("image", checked_image(url)),
    }
    None
}

fn checked_text(text: String, limits: ApiLimits) -> Result<Content, String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        length if length > limits.message_bytes_max => {
            Err(format!("is longer than {} bytes", limits.message_bytes_max))
        }
        _ => Ok(Content::Text(text)),
    }
}

fn checked_image(url: String) -> Result<Content, String> {
    match chat::is_image_url(&url) {
        true => Ok(Content::Image(url)),
        false => Err("is no URL with http or https of at most 2,048 characters".to_owned()),
    }
}

fn checked_name(name: Option<&str>) -> Result<Arc<str>, String> {
    let name = name.map_or_else(|| Some(name::SYSTEM.into()), name::parse);
    name.ok_or_else(|| "is no valid name: 1 to 20 characters that show".to_owned())
}

fn checked_account(account: Option<String>) -> Result<Option<Arc<str>>, String> {
    let characters = account.as_ref().map(|account| account.chars().count());
    match characters.is_some_and(|count| !(1..=ACCOUNT_CHARACTERS_MAX).contains(&count)) {
        true => Err("has not 1 to 128 characters".to_owned()),
        false => Ok(account.map(Into::into)),
    }
}

impl Item {
    /// Reads an item of a batch, which is at this place.
    ///
    /// # Errors
    ///
    /// The fields that are wrong.
    pub(super) fn read(
        object: Map<String, Value>,
        index: usize,
        caller: &str,
        limits: ApiLimits,
    ) -> Result<Self, Vec<FieldError>> {
        let is_for_topic = object.contains_key("topic");
        let mut fields = Fields::of_object(object, format!("/items/{index}"));
        let key_text = fields.text("idempotency_key");
        let key = key_text.as_deref().map(|text| IdempotencyKey::parse(text, caller));
        if key == Some(None) {
            fields.refuse("idempotency_key", "is not 1 to 128 visible ASCII characters");
        }
        let post = match is_for_topic {
            true => topic_post(&mut fields, limits).map(Post::Topic),
            false => {
                let room = fields.text("room");
                fields.require("room", room.is_some());
                let post = RoomPost::read(&mut fields, limits);
                room.zip(post).map(|(room, post)| Post::Room { room, post })
            }
        };
        fields.end()?;
        let post = post.expect("Bug: a wrong field that was not refused");
        Ok(Self { post, key: key.flatten() })
    }
}

fn topic_post(fields: &mut Fields, limits: ApiLimits) -> Option<TopicPost> {
    let topic = fields.text("topic");
    fields.require("topic", topic.is_some());
    let (text, base64) = (fields.text("text"), fields.text("base64"));
    let (kind, payload) = match (text, base64) {
        (Some(text), None) => ("text", Some((MessageKind::Text, Bytes::from(text)))),
        (None, Some(encoded)) => {
            let decoded = BASE64.decode(encoded.as_bytes()).ok();
            if decoded.is_none() {
                fields.refuse("base64", "is not base64 (RFC 4648, 4)");
            }
            ("base64", decoded.map(|bytes| (MessageKind::Binary, Bytes::from(bytes))))
        }
        (Some(_), Some(_)) => {
            fields.refuse("base64", "cannot be given together with text");
            return None;
        }
        (None, None) => {
            fields.require("text", false);
            return None;
        }
    };
    let (message_kind, payload) = payload?;
    if payload.len() > limits.frame_bytes_max {
        fields.refuse(kind, format!("is longer than {} bytes", limits.frame_bytes_max));
        return None;
    }
    Some(TopicPost { topic: topic?, kind: message_kind, payload })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: ApiLimits = ApiLimits { message_bytes_max: 100, frame_bytes_max: 10 };

    fn read(item: Value) -> Result<Item, Vec<String>> {
        let Value::Object(object) = item else { panic!("no object") };
        let told = |errors: Vec<FieldError>| errors.into_iter().filter_map(|error| error.pointer).collect();
        Item::read(object, 3, "billing", LIMITS).map_err(told)
    }

    #[test]
    fn a_message_goes_to_a_room_or_to_several() {
        let post = |body: &[u8]| {
            let mut fields = Fields::of_body(body).unwrap();
            let (rooms, post) = (Rooms::read(&mut fields), RoomPost::read(&mut fields, LIMITS));
            fields.end().map(|()| (rooms.unwrap(), post.unwrap()))
        };
        let (room, one) = post(br#"{"room": "general", "content": "hi"}"#).unwrap();
        assert_eq!((room, &*one.from_name), (Rooms::One("general".into()), "System"));
        assert_eq!(one.message().user, UserId::SYSTEM);
        let several = post(
            br#"{"rooms": ["a", "b"], "image": "https://a.example/", "from_name": " Shop ", "from_account": "x"}"#,
        );
        let (rooms, several) = several.unwrap();
        assert_eq!(rooms, Rooms::Several(vec!["a".into(), "b".into()]));
        assert_eq!((&*several.from_name, several.from_account.as_deref()), ("Shop", Some("x")));
        for body in
            [&br#"{"room": "a", "rooms": ["b"], "content": "c"}"#[..], br#"{"rooms": [], "content": "c"}"#]
        {
            assert_eq!(post(body).unwrap_err()[0].pointer.as_deref(), Some("/rooms"));
        }
    }

    #[test]
    fn a_message_goes_to_a_topic_as_text_or_as_bytes() {
        let Post::Topic(post) = read(json!({"topic": "t", "text": "hi"})).unwrap().post else { panic!() };
        assert_eq!((post.kind, &*post.payload), (MessageKind::Text, &b"hi"[..]));
        let Post::Topic(post) = read(json!({"topic": "t", "base64": "/wA="})).unwrap().post else { panic!() };
        assert_eq!((post.kind, &*post.payload), (MessageKind::Binary, &b"\xff\x00"[..]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (item, pointers) in [
            (json!({}), &["/items/3/room", "/items/3/content"][..]),
            (json!({"room": 1, "content": 2}), &["/items/3/room", "/items/3/content"]),
            (json!({"room": "a", "rooms": ["b"], "content": "c"}), &["/items/3/rooms"]),
            (json!({"room": "a", "content": ""}), &["/items/3/content"]),
            (json!({"room": "a", "content": "x".repeat(101)}), &["/items/3/content"]),
            (json!({"room": "a", "content": "c", "image": "http://b.example/"}), &["/items/3/image"]),
            (json!({"room": "a", "image": "ftp://b.example/"}), &["/items/3/image"]),
            (json!({"room": "a", "content": "c", "from_name": "\u{200b}"}), &["/items/3/from_name"]),
            (json!({"room": "a", "content": "c", "from_account": ""}), &["/items/3/from_account"]),
            (json!({"room": "a", "content": "c", "idempotency-key": "k"}), &["/items/3/idempotency-key"]),
            (json!({"room": "a", "content": "c", "idempotency_key": "k k"}), &["/items/3/idempotency_key"]),
            (json!({"topic": "t"}), &["/items/3/text"]),
            (json!({"topic": "t", "text": "a", "base64": "YQ=="}), &["/items/3/base64"]),
            (json!({"topic": "t", "base64": "a"}), &["/items/3/base64"]),
            (json!({"topic": "t", "text": "x".repeat(11)}), &["/items/3/text"]),
            (json!({"topic": "t", "text": "a", "room": "b"}), &["/items/3/room"]),
        ] {
            assert_eq!(read(item.clone()).unwrap_err(), pointers, "{item}");
        }
    }
}
