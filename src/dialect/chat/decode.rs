//! Messages of chat clients, decoded.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::accounts::{Credentials, Password};
use crate::dialect::{ChatError, Message};
use crate::moderation::{BanSubject, ModerationAction, NewBan, OrderRefusal};
use crate::name;
use crate::rooms::{Content, Epoch, MessageId, Page, ResumePoint, UserId};
use crate::tokens::BearerToken;

/// The most characters of an image's address.
const URL_CHARACTERS_MAX: usize = 2_048;

/// The messages of a `history` that was asked for, at most and unless it says how many.
const HISTORY_PAGE_MAX: usize = 100;
const HISTORY_PAGE_DEFAULT: usize = 50;

/// The longest mute, and the longest ban that is not for good: a year.
const TERM_SECONDS_MAX: u32 = 31_536_000;

/// A message of a chat client, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Sign in, which needs no room. `None` when the message lacks a name or a password: even then it is an attempt.
    SignIn(Option<Credentials>),
    /// Sign in with this token.
    SignInWithToken(BearerToken),
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
    /// Tell one user so. `None` when `to_id` cannot be a user id.
    TypingTo { to: Option<UserId>, is_typing: bool },
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
    /// Ban an account or an address. Only admins get the error.
    Ban(Result<NewBan, ChatError>),
    /// End a ban. Only admins get the error.
    Unban(Result<BanSubject, ChatError>),
    /// List the bans, or a page of them. Only admins get the error.
    GetBans(Result<Option<Page>, ChatError>),
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
            | Self::TypingTo { .. }
            | Self::Read(_)
            | Self::Delete(_)
            | Self::SetName(_)
            | Self::Private { .. }
            | Self::Moderate { .. }
            | Self::Ban(_)
            | Self::Unban(_)
            | Self::GetBans(_) => false,
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
            Some(Value::String(token)) => Input::SignInWithToken(BearerToken::new(token.clone())),
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
            Some(&Value::Bool(is_typing)) => Ok(Some(match fields.contains_key("to_id") {
                true => Command::TypingTo { to: user(fields, "to_id"), is_typing },
                false => Command::Typing(is_typing),
            })),
            _ => Err(ChatError::InvalidFormat),
        },
        "read" => message_id(fields, json).map(|id| Some(Command::Read(id))),
        "delete_message" => message_id(fields, json).map(|id| Some(Command::Delete(id))),
        "kick" => {
            let action = reason(fields).ok().map(|reason| ModerationAction::Kick { reason });
            Ok(Some(moderate(fields, action)))
        }
        "mute" => {
            let seconds = term(fields).filter(|seconds| *seconds > 0);
            Ok(Some(moderate(fields, seconds.map(|seconds| ModerationAction::Mute { seconds }))))
        }
        "ban" => Ok(Some(ban(fields))),
        "unban" => Ok(Some(Command::Unban(subject(fields).unwrap_or(Err(ChatError::InvalidFormat))))),
        "get_bans" => Ok(Some(Command::GetBans(page(fields)))),
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
/// Whether a text is the URL of an image: http or https, and not too long.
#[must_use]
pub fn is_image_url(url: &str) -> bool {
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

/// The reason of a kick or a ban; an empty one is none.
fn reason(fields: &Map<String, Value>) -> Result<Option<String>, ChatError> {
    Ok(text(fields, "reason")?.filter(|reason| !reason.is_empty()))
}

/// The seconds of a mute or a ban.
fn term(fields: &Map<String, Value>) -> Option<u32> {
    let seconds = fields.get("seconds").and_then(Value::as_u64);
    seconds.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds <= TERM_SECONDS_MAX)
}

/// Where several are given, `target_id` counts, and then `account`.
fn ban(fields: &Map<String, Value>) -> Command {
    let terms = term(fields).zip(reason(fields).ok());
    match subject(fields) {
        Some(subject) if !fields.contains_key("target_id") => Command::Ban(match (subject, terms) {
            (Ok(subject), Some((seconds, reason))) => {
                let address = fields.get("address").and_then(Value::as_str);
                let address = address.and_then(|address| address.parse().ok());
                Ok(NewBan { subject, address, seconds, reason })
            }
            _ => Err(ChatError::InvalidFormat),
        }),
        _ => moderate(fields, terms.map(|(seconds, reason)| ModerationAction::Ban { seconds, reason })),
    }
}

/// The account, or else the address, that an order names; `None` where there is neither. Text that cannot be one is of no
/// ban.
fn subject(fields: &Map<String, Value>) -> Option<Result<BanSubject, ChatError>> {
    let parse_account: fn(&str) -> Option<BanSubject> = BanSubject::account;
    let (value, parse) = match (fields.get("account"), fields.get("address")) {
        (Some(account), _) => (account, parse_account),
        (None, Some(address)) => (address, BanSubject::parse_address as _),
        (None, None) => return None,
    };
    let text = value.as_str().ok_or(ChatError::InvalidFormat);
    Some(text.and_then(|text| parse(text).ok_or(ChatError::Order(OrderRefusal::UnknownBan))))
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
mod tests;
