//! Messages of chat clients, decoded.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::accounts::{Credentials, Password};
use crate::dialect::{ChatError, Message};
use crate::mail::ModerationAction;
use crate::name;
use crate::rooms::{Content, Epoch, MessageId, Page, ResumePoint, UserId};

/// The most characters of an image's address.
const URL_CHARACTERS_MAX: usize = 2_048;

/// The messages of a `history` that was asked for, at most and unless it says how many.
const HISTORY_PAGE_MAX: usize = 100;
const HISTORY_PAGE_DEFAULT: usize = 50;

/// The longest mute: a year.
const MUTE_SECONDS_MAX: u32 = 31_536_000;

/// A message of a chat client, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Sign in, which needs no room. `None` when the message lacks a name or a password: even then it is an attempt.
    SignIn(Option<Credentials>),
    /// Sign in with this token.
    SignInWithToken(String),
    /// Everything else.
    Command(Command),
}

/// A command, its fields checked as far as they can be without knowing the room.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a message or an image to the room.
    Say(Content),
    /// Announce that the user started or stopped typing.
    Typing(bool),
    /// Tell a message's sender that the user has read it.
    Read(MessageId),
    /// Delete a message.
    Delete(MessageId),
    /// Change the display name. `None` when the name is invalid: only those who may change theirs get an error about it.
    SetName(Option<Arc<str>>),
    /// Send a message to one user. `None` when `to_id` or `to_account` cannot name one.
    Private { to: Option<Receiver>, content: String },
    /// List the members of the room, or a page of them.
    GetUsers(Option<Page>),
    /// Get the server's figures.
    GetStats,
    /// Enter another room.
    JoinRoom(String),
    /// List the rooms whose names begin with `prefix`, without the first `offset` of them.
    GetRooms { prefix: String, offset: usize },
    /// Get kept messages of the room: the last `limit` before a message, or of all.
    GetHistory { before: Option<MessageId>, limit: usize },
    /// Enter a room, and get the messages since a point.
    Resume { room: String, point: ResumePoint },
    /// Moderate a user, as an admin. `None` when `target_id` cannot be a user id, or when the action's fields are wrong:
    /// only admins get an error about either.
    Moderate { target: Option<UserId>, action: Option<ModerationAction> },
}

impl Command {
    /// True for requests that others hear nothing of, but that the user comes and goes.
    #[must_use]
    pub fn only_asks(&self) -> bool {
        match self {
            Self::GetUsers(_)
            | Self::GetStats
            | Self::GetRooms { .. }
            | Self::GetHistory { .. }
            | Self::JoinRoom(_)
            | Self::Resume { .. } => true,
            Self::Say(_)
            | Self::Typing(_)
            | Self::Read(_)
            | Self::Delete(_)
            | Self::SetName(_)
            | Self::Private { .. }
            | Self::Moderate { .. } => false,
        }
    }
}

/// The receiver of a private message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// This user.
    User(UserId),
    /// All connections that are signed in with this account.
    Account(String),
}

/// Decodes one message. `Ok(None)` is a message that is ignored without an answer.
///
/// # Errors
///
/// The [`ChatError`] to answer with.
pub fn decode(message: &Message<'_>, message_bytes_max: usize) -> Result<Option<Input>, ChatError> {
    if message.bytes().len() > message_bytes_max {
        return Err(ChatError::TooLarge);
    }
    let Message::Text(json) = message else { return Err(ChatError::InvalidFormat) };
    // The parser refuses nesting deeper than 128 levels and numbers beyond a double's range.
    let Ok(Value::Object(fields)) = serde_json::from_str(json) else {
        return Err(ChatError::InvalidFormat);
    };
    let Some(Value::String(kind)) = fields.get("type") else {
        return Err(ChatError::InvalidFormat);
    };
    if kind == "auth" {
        return Ok(Some(match fields.get("token") {
            Some(Value::String(token)) => Input::SignInWithToken(token.clone()),
            Some(_) => Input::SignIn(None),
            None => Input::SignIn(credentials(&fields)),
        }));
    }
    Ok(command(kind, &fields, json)?.map(Input::Command))
}

fn command(kind: &str, fields: &Map<String, Value>, json: &str) -> Result<Option<Command>, ChatError> {
    match kind {
        "message" => {
            let content = text(fields, "content")?.filter(|content| !content.is_empty());
            Ok(content.map(|content| Command::Say(Content::Text(content))))
        }
        "set_name" => Ok(Some(Command::SetName(name(fields)))),
        "private_message" => {
            let content = text(fields, "content")?.unwrap_or_default();
            Ok(Some(Command::Private { to: receiver(fields), content }))
        }
        "get_users" => page(fields).map(|page| Some(Command::GetUsers(page))),
        "get_stats" => Ok(Some(Command::GetStats)),
        "join_room" => match text(fields, "room")? {
            Some(room) => Ok(Some(Command::JoinRoom(room))),
            None => Err(ChatError::InvalidFormat),
        },
        "image" => match fields.get("url") {
            Some(Value::String(url)) if is_image_url(url) => {
                Ok(Some(Command::Say(Content::Image(url.clone()))))
            }
            _ => Err(ChatError::InvalidImageUrl),
        },
        "typing" => match fields.get("is_typing") {
            Some(Value::Bool(is_typing)) => Ok(Some(Command::Typing(*is_typing))),
            _ => Err(ChatError::InvalidFormat),
        },
        "read" => message_id(fields, json).map(|id| Some(Command::Read(id))),
        "delete_message" => message_id(fields, json).map(|id| Some(Command::Delete(id))),
        "kick" => {
            let reason = text(fields, "reason").ok();
            let kick = |reason: Option<String>| ModerationAction::Kick {
                reason: reason.filter(|it| !it.is_empty()),
            };
            Ok(Some(moderate(fields, reason.map(kick))))
        }
        "mute" => {
            let seconds = fields.get("seconds").and_then(Value::as_u64).and_then(|it| u32::try_from(it).ok());
            let seconds = seconds.filter(|seconds| (1..=MUTE_SECONDS_MAX).contains(seconds));
            Ok(Some(moderate(fields, seconds.map(|seconds| ModerationAction::Mute { seconds }))))
        }
        "unmute" => Ok(Some(moderate(fields, Some(ModerationAction::Unmute)))),
        "get_rooms" => {
            let prefix = text(fields, "prefix")?.unwrap_or_default();
            Ok(Some(Command::GetRooms { prefix, offset: number(fields, "offset")?.unwrap_or(0) }))
        }
        "get_history" => {
            let before = number(fields, "before")?.map(|id| MessageId(id as u64));
            let limit = number(fields, "limit")?.unwrap_or(HISTORY_PAGE_DEFAULT);
            if !(1..=HISTORY_PAGE_MAX).contains(&limit) {
                return Err(ChatError::InvalidFormat);
            }
            Ok(Some(Command::GetHistory { before, limit }))
        }
        "resume" => match (text(fields, "room")?, fields.get("after").and_then(Value::as_u64)) {
            (Some(room), Some(after)) => {
                let epoch = text(fields, "epoch")?.map(|epoch| Epoch::from_wire(&epoch));
                let point = ResumePoint { after: MessageId(after), epoch };
                Ok(Some(Command::Resume { room, point }))
            }
            _ => Err(ChatError::InvalidFormat),
        },
        unknown => Err(ChatError::UnknownType(unknown.to_owned())),
    }
}

/// The message that a command is about.
fn message_id(fields: &Map<String, Value>, json: &str) -> Result<MessageId, ChatError> {
    match fields.get("message_id") {
        // No room keeps a message with a fraction or a sign.
        Some(Value::Number(number)) => match number.as_u64() {
            Some(id) => Ok(MessageId(id)),
            None => Err(ChatError::UnknownMessage(message_id_as_sent(json, number))),
        },
        _ => Err(ChatError::InvalidFormat),
    }
}

/// The number in the digits that were sent: what is parsed may be rounded. It is no longer than a message.
fn message_id_as_sent(json: &str, parsed: &serde_json::Number) -> String {
    #[derive(Deserialize)]
    struct Read<'a> {
        #[serde(borrow)]
        message_id: &'a RawValue,
    }
    // Fails where the field is there twice.
    let read: Result<Read<'_>, _> = serde_json::from_str(json);
    read.map_or_else(|_| parsed.to_string(), |read| read.message_id.get().to_owned())
}

/// A text field that may be missing.
fn text(fields: &Map<String, Value>, key: &str) -> Result<Option<String>, ChatError> {
    match fields.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ChatError::InvalidFormat),
    }
}

/// True for a URL that the server accepts: http or https, followed by something,
/// without characters that are forbidden in a URL (RFC 3986, section 2) and might confuse another program.
fn is_image_url(url: &str) -> bool {
    let rest = url
        .split_once("://")
        .filter(|(scheme, _)| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)));
    rest.is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/'))
        && url.chars().count() <= URL_CHARACTERS_MAX
        && !url.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// A number that may be missing.
fn number(fields: &Map<String, Value>, key: &str) -> Result<Option<usize>, ChatError> {
    match fields.get(key) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_u64().ok_or(ChatError::InvalidFormat)?;
            Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
        }
    }
}

fn name(fields: &Map<String, Value>) -> Option<Arc<str>> {
    fields.get("name").and_then(Value::as_str).and_then(name::parse)
}

fn moderate(fields: &Map<String, Value>, action: Option<ModerationAction>) -> Command {
    Command::Moderate { target: user(fields, "target_id"), action }
}

/// A name and a password. The name is trimmed as that of the account was.
fn credentials(fields: &Map<String, Value>) -> Option<Credentials> {
    let text = |key| fields.get(key).and_then(Value::as_str);
    let username = text("username")?.trim().to_owned();
    Some(Credentials { username, password: Password::new(text("password")?.to_owned()) })
}

/// Where both are given, `to_id` counts.
fn receiver(fields: &Map<String, Value>) -> Option<Receiver> {
    match fields.get("to_account") {
        Some(account) if !fields.contains_key("to_id") => {
            account.as_str().map(|account| Receiver::Account(account.to_owned()))
        }
        _ => user(fields, "to_id").map(Receiver::User),
    }
}

/// A user, as a number or a numeric string.
fn user(fields: &Map<String, Value>, key: &str) -> Option<UserId> {
    let number = match fields.get(key)? {
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Value::String(_) => return None,
        value => value.as_u64()?,
    };
    UserId::from_wire(number)
}

fn page(fields: &Map<String, Value>) -> Result<Option<Page>, ChatError> {
    match (number(fields, "offset")?, number(fields, "limit")?) {
        (None, None) => Ok(None),
        (offset, limit) => Ok(Some(Page { offset: offset.unwrap_or(0), limit: limit.unwrap_or(usize::MAX) })),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> Result<Option<Command>, ChatError> {
        Ok(decode(&Message::Text(json.into()), 10_240)?.map(|input| match input {
            Input::Command(command) => command,
            Input::SignIn(_) | Input::SignInWithToken(_) => panic!("{json} is no command"),
        }))
    }

    #[test]
    fn each_command_is_understood() {
        let say = |content: &str| Ok(Some(Command::Say(Content::Text(content.into()))));
        assert_eq!(text(r#"{"type":"message","content":"hi","more":1}"#), say("hi"));
        assert_eq!(text(r#"{"type":"message","content":"a","content":"b"}"#), say("b"));
        assert_eq!(text(r#"{"type":"message","content":""}"#), Ok(None));
        assert_eq!(text(r#"{"type":"message"}"#), Ok(None));
        assert_eq!(text(r#"{"type":"get_stats"}"#), Ok(Some(Command::GetStats)));
        let rooms = |prefix: &str, offset| Ok(Some(Command::GetRooms { prefix: prefix.into(), offset }));
        assert_eq!(text(r#"{"type":"get_rooms"}"#), rooms("", 0));
        assert_eq!(text(r#"{"type":"get_rooms","prefix":"te","offset":500}"#), rooms("te", 500));
        assert_eq!(
            text(r#"{"type":"delete_message","message_id":7}"#),
            Ok(Some(Command::Delete(MessageId(7))))
        );
        assert_eq!(text(r#"{"type":"get_users"}"#), Ok(Some(Command::GetUsers(None))));
        let page = Page { offset: 3, limit: usize::MAX };
        assert_eq!(text(r#"{"type":"get_users","offset":3}"#), Ok(Some(Command::GetUsers(Some(page)))));
        let epoch = Epoch::random();
        for (sent, epoch) in [(String::new(), None), (format!(r#","epoch":"{epoch}""#), Some(epoch))] {
            let point = ResumePoint { after: MessageId(7), epoch };
            let json = format!(r#"{{"type":"resume","room":"a","after":7{sent}}}"#);
            assert_eq!(text(&json), Ok(Some(Command::Resume { room: "a".into(), point })));
        }
        assert_eq!(text(r#"{"type":"join_room","room":"a"}"#), Ok(Some(Command::JoinRoom("a".into()))));
    }

    #[test]
    fn an_image_has_an_address_of_the_web() {
        let longest = format!("https://a/{}", "ü".repeat(URL_CHARACTERS_MAX - 10));
        for (url, is_good) in [
            ("http://a/b.png", true),
            ("HTTPS://a", true),
            ("https://a/?q=<script>#你", true),
            (&longest, true),
            (&format!("{longest}x"), false),
            ("", false),
            ("http", false),
            ("http://", false),
            ("https:///a", false),
            ("//a/b.png", false),
            ("ftp://a", false),
            ("javascript:alert(1)//http://a", false),
            ("javascript://http://a", false),
            ("data:image/png;base64,AAAA", false),
            (" http://a", false),
            ("http://a\n", false),
            ("http://a b", false),
        ] {
            let json = serde_json::json!({ "type": "image", "url": url }).to_string();
            let expected = if is_good {
                Ok(Some(Command::Say(Content::Image(url.to_owned()))))
            } else {
                Err(ChatError::InvalidImageUrl)
            };
            assert_eq!(text(&json), expected, "{url}");
        }
        for bad in [r#"{"type":"image"}"#, r#"{"type":"image","url":7}"#, r#"{"type":"image","url":null}"#] {
            assert_eq!(text(bad), Err(ChatError::InvalidImageUrl), "{bad}");
        }
    }

    #[test]
    fn a_page_of_the_history_has_a_limit_that_the_server_keeps_to() {
        let page = |fields: &str| text(&format!(r#"{{"type":"get_history"{fields}}}"#));
        let is = |before: Option<u64>, limit| {
            Ok(Some(Command::GetHistory { before: before.map(MessageId), limit }))
        };
        assert_eq!(page(""), is(None, 50));
        for before in [0, 1, 1 << 53, u64::MAX] {
            assert_eq!(page(&format!(r#","before":{before},"limit":100"#)), is(Some(before), 100));
        }
        for bad in ["0", "101", "-1", "1.5", "\"7\"", "null", "1e99", "18446744073709551616"] {
            assert_eq!(page(&format!(r#","limit":{bad}"#)), Err(ChatError::InvalidFormat), "{bad}");
        }
        for bad in ["-1", "1.5", "\"7\"", "null", "[7]", "18446744073709551616"] {
            assert_eq!(page(&format!(r#","before":{bad}"#)), Err(ChatError::InvalidFormat), "{bad}");
        }
    }

    #[test]
    fn what_was_read_is_a_number() {
        let read = |json: &str| text(&format!(r#"{{"type":"read","message_id":{json}}}"#));
        assert_eq!(read("7"), Ok(Some(Command::Read(MessageId(7)))));
        for unknown in ["-1", "-0", "1.50", "1e30", "7.0", "99999999999999999999", "0.00000000000000000001"] {
            assert_eq!(read(unknown), Err(ChatError::UnknownMessage(unknown.to_owned())));
        }
        assert_eq!(read("\"7\""), Err(ChatError::InvalidFormat));
        assert_eq!(text(r#"{"type":"read"}"#), Err(ChatError::InvalidFormat));
        assert_eq!(text(r#"{"type":"typing","is_typing":true}"#), Ok(Some(Command::Typing(true))));
        assert_eq!(text(r#"{"type":"typing","is_typing":1}"#), Err(ChatError::InvalidFormat));
        assert_eq!(text(r#"{"type":"typing"}"#), Err(ChatError::InvalidFormat));
    }

    #[test]
    fn a_name_and_a_password_sign_in() {
        let auth = |json: &str| match decode(&Message::Text(json.into()), 10_240) {
            Ok(Some(Input::SignIn(credentials))) => credentials,
            other => panic!("{other:?}"),
        };
        let wanted = Credentials { username: "Ann".into(), password: Password::new(" s ".into()) };
        assert_eq!(auth(r#"{"type":"auth","username":" Ann\u3000","password":" s "}"#), Some(wanted));
        for bad in [
            r#"{"type":"auth"}"#,
            r#"{"type":"auth","username":"Ann"}"#,
            r#"{"type":"auth","password":"s"}"#,
            r#"{"type":"auth","username":7,"password":"s"}"#,
            r#"{"type":"auth","username":"Ann","password":null}"#,
        ] {
            assert_eq!(auth(bad), None, "{bad}");
        }
        assert_eq!(auth(r#"{"type":"auth","token":7,"username":"Ann","password":"s"}"#), None);
        let token = decode(&Message::Text(r#"{"type":"auth","token":"a.b.c"}"#.into()), 10_240);
        assert_eq!(token, Ok(Some(Input::SignInWithToken("a.b.c".into()))));
    }

    #[test]
    fn a_moderation_command_has_a_target_and_valid_fields() {
        let target = UserId::from_wire(7);
        let moderate = |action| Ok(Some(Command::Moderate { target, action: Some(action) }));
        let nothing = Ok(Some(Command::Moderate { target, action: None }));
        let kick =
            |reason: Option<&str>| moderate(ModerationAction::Kick { reason: reason.map(str::to_owned) });
        assert_eq!(text(r#"{"type":"kick","target_id":7}"#), kick(None));
        assert_eq!(text(r#"{"type":"kick","target_id":"7","reason":""}"#), kick(None));
        assert_eq!(text(r#"{"type":"kick","target_id":7,"reason":"spam"}"#), kick(Some("spam")));
        assert_eq!(text(r#"{"type":"unmute","target_id":7}"#), moderate(ModerationAction::Unmute));
        let nobody = Command::Moderate { target: None, action: Some(ModerationAction::Unmute) };
        assert_eq!(text(r#"{"type":"unmute","target_id":[7]}"#), Ok(Some(nobody)));
        let mute = |seconds: &str| text(&format!(r#"{{"type":"mute","target_id":7,"seconds":{seconds}}}"#));
        for seconds in [1, 31_536_000] {
            assert_eq!(mute(&seconds.to_string()), moderate(ModerationAction::Mute { seconds }));
        }
        for bad in ["0", "-1", "1.5", "31536001", "4294967297", "1e99", "\"1\"", "null", "[1]", "true"] {
            assert_eq!(mute(bad), nothing, "{bad}");
        }
        assert_eq!(text(r#"{"type":"mute","target_id":7}"#), nothing);
        assert_eq!(text(r#"{"type":"kick","target_id":7,"reason":5}"#), nothing);
    }

    #[test]
    fn a_receiver_is_a_number_or_a_numeric_string() {
        for (to_id, expected) in [
            ("7", Some(7)),
            ("\"7\"", Some(7)),
            ("0", None),
            ("-1", None),
            ("1.5", None),
            ("\"x\"", None),
            ("\"+7\"", None),
            ("[]", None),
        ] {
            let json = format!(r#"{{"type":"private_message","to_id":{to_id},"content":"x"}}"#);
            let to = expected.and_then(UserId::from_wire).map(Receiver::User);
            assert_eq!(text(&json), Ok(Some(Command::Private { to, content: "x".into() })), "{to_id}");
        }
    }

    #[test]
    fn a_receiver_may_be_an_account() {
        for (fields, expected) in [
            (r#""to_account":"7""#, Some(Receiver::Account("7".into()))),
            (r#""to_account":7"#, None),
            (r#""to_account":"Ann","to_id":7"#, UserId::from_wire(7).map(Receiver::User)),
            (r#""to_account":"Ann","to_id":null"#, None),
        ] {
            let json = format!(r#"{{"type":"private_message",{fields},"content":"x"}}"#);
            assert_eq!(
                text(&json),
                Ok(Some(Command::Private { to: expected, content: "x".into() })),
                "{fields}"
            );
        }
    }

    #[test]
    fn names_are_trimmed_and_held_to_the_rules() {
        let name = |json: &str| text(&format!(r#"{{"type":"set_name","name":{json}}}"#));
        let is = |name: &str| Ok(Some(Command::SetName(Some(name.into()))));
        assert_eq!(name(r#""  \u3000Ann\u00a0 ""#), is("Ann"));
        assert_eq!(name(&format!("\"{}\"", "你".repeat(20))), is(&"你".repeat(20)));
        for bad in
            ["1", "null", "\"\"", "\"  \"", "\"a\\u0007b\"", "\"a\\nb\"", &format!("\"{}\"", "x".repeat(21))]
        {
            assert_eq!(name(bad), Ok(Some(Command::SetName(None))), "{bad}");
        }
    }

    #[test]
    fn an_invalid_message_is_rejected_with_the_right_error() {
        let deep = "[".repeat(9_000);
        for bad in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"message","content":1}"#,
            &deep,
            r#"{"type":"message","content":null}"#,
            r#"{"type":"get_users","limit":-1}"#,
            r#"{"type":"resume","room":"general"}"#,
            r#"{"type":"resume","room":"general","after":"1"}"#,
            r#"{"type":"join_room"}"#,
            r#"{"type":"join_room","room":7}"#,
            r#"{"type":"message","n":1e999}"#,
            r#"{"type":"message","content":"\ud800"}"#,
        ] {
            assert_eq!(text(bad), Err(ChatError::InvalidFormat), "{bad}");
        }
        assert_eq!(decode(&Message::Binary(b"{}".into()), 10), Err(ChatError::InvalidFormat));
        assert_eq!(decode(&Message::Text("{}".into()), 1), Err(ChatError::TooLarge));
        assert_eq!(text(r#"{"type":"dance"}"#), Err(ChatError::UnknownType("dance".into())));
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(payload: Vec<u8>, text: bool) {
            let lossy = String::from_utf8_lossy(&payload);
            let message = if text { Message::Text(lossy) } else { Message::Binary(payload.as_slice().into()) };
            let _ = decode(&message, 10_240);
        }

        #[test]
        fn a_message_is_taken_as_it_was_said(content in ".+") {
            let json = serde_json::json!({"type": "message", "content": content}).to_string();
            prop_assert_eq!(decode(&Message::Text(json.as_str().into()), usize::MAX), Ok(Some(Input::Command(Command::Say(Content::Text(content))))));
        }
    }
}
