//! Messages of hub clients, decoded.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::dialect::{ChatError, Message};
use crate::name;

/// A command, its fields checked as far as they can be without knowing whether its sender has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Enter the room under this name, `None` where it is invalid: it does not matter where a token gives the name.
    Login(Option<Arc<str>>),
    /// Send a message; never empty.
    Say(String),
    /// Change the display name.
    Rename(Arc<str>),
    /// List the names of the members.
    Who,
    /// Leave.
    Logout,
}

/// Decodes one message. `Ok(None)` is a message that is ignored without an answer.
///
/// # Errors
///
/// The [`ChatError`] to answer with.
pub fn decode(message: &Message<'_>, message_bytes_max: usize) -> Result<Option<Command>, ChatError> {
    if message.bytes().len() > message_bytes_max {
        return Err(ChatError::TooLarge);
    }
    let Message::Text(json) = message else { return Err(ChatError::InvalidFormat) };
    let Ok(Value::Object(fields)) = serde_json::from_str(json) else {
        return Err(ChatError::InvalidFormat);
    };
    let Some(Value::String(kind)) = fields.get("type") else {
        return Err(ChatError::InvalidFormat);
    };
    match kind.as_str() {
        "login" => Ok(Some(Command::Login(name(&fields).ok()))),
        "user" => match fields.get("content") {
            None => Ok(None),
            Some(Value::String(content)) => said(content),
            Some(_) => Err(ChatError::InvalidFormat),
        },
        "rename" => name(&fields).map(|name| Some(Command::Rename(name))),
        "who" => Ok(Some(Command::Who)),
        "logout" => Ok(Some(Command::Logout)),
        unknown => Err(ChatError::UnknownType(unknown.to_owned())),
    }
}

/// A message's content: text, or a command that is typed as text.
fn said(content: &str) -> Result<Option<Command>, ChatError> {
    if content.trim() == r"\who" {
        return Ok(Some(Command::Who));
    }
    if let Some(rest) = content.trim_start().strip_prefix(r"\rename")
        && (rest.is_empty() || rest.starts_with(char::is_whitespace))
    {
        let name = name::parse(rest).ok_or(ChatError::InvalidName)?;
        return Ok(Some(Command::Rename(name)));
    }
    Ok((!content.is_empty()).then(|| Command::Say(content.to_owned())))
}

fn name(fields: &Map<String, Value>) -> Result<Arc<str>, ChatError> {
    fields.get("content").and_then(Value::as_str).and_then(name::parse).ok_or(ChatError::InvalidName)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> Result<Option<Command>, ChatError> {
        decode(&Message::Text(json.into()), 10_240)
    }

    fn user(content: &str) -> Result<Option<Command>, ChatError> {
        text(&serde_json::json!({ "type": "user", "content": content }).to_string())
    }

    #[test]
    fn each_command_is_understood() {
        let whole = r#"{"ip":"","user":"x","from":"y","type":"login","content":" Ann ","user_list":[]}"#;
        assert_eq!(text(whole), Ok(Some(Command::Login(Some("Ann".into())))));
        assert_eq!(text(r#"{"type":"rename","content":"Ben"}"#), Ok(Some(Command::Rename("Ben".into()))));
        assert_eq!(text(r#"{"type":"who"}"#), Ok(Some(Command::Who)));
        assert_eq!(text(r#"{"type":"logout"}"#), Ok(Some(Command::Logout)));
        assert_eq!(text(r#"{"type":"user"}"#), Ok(None));
        assert_eq!(user(""), Ok(None));
        assert_eq!(user(" "), Ok(Some(Command::Say(" ".into()))));
    }

    #[test]
    fn commands_can_be_typed_like_words() {
        assert_eq!(user(r"\who"), Ok(Some(Command::Who)));
        assert_eq!(user("\\who\n"), Ok(Some(Command::Who)));
        assert_eq!(user(r"\rename Ann B"), Ok(Some(Command::Rename("Ann B".into()))));
        assert_eq!(user(r"\rename"), Err(ChatError::InvalidName));
        assert_eq!(user(&format!(r"\rename {}", "x".repeat(21))), Err(ChatError::InvalidName));
        for words in [r"\whoever", r"\who is there", r"\renamed", r"\", r"say \who", r"\dance", r"\\who"] {
            assert_eq!(user(words), Ok(Some(Command::Say(words.into()))));
        }
    }

    #[test]
    fn an_invalid_message_is_rejected_with_the_right_error() {
        for bad in ["", "x", "[]", "{}", r#"{"type":1}"#, r#"{"type":"user","content":1}"#] {
            assert_eq!(text(bad), Err(ChatError::InvalidFormat), "{bad}");
        }
        for bad in [r#"{"type":"login"}"#, r#"{"type":"login","content":7}"#] {
            assert_eq!(text(bad), Ok(Some(Command::Login(None))), "{bad}");
        }
        assert_eq!(text(r#"{"type":"rename"}"#), Err(ChatError::InvalidName));
        assert_eq!(decode(&Message::Binary(b"{}".into()), 10), Err(ChatError::InvalidFormat));
        assert_eq!(decode(&Message::Text("{}".into()), 1), Err(ChatError::TooLarge));
        assert_eq!(text(r#"{"type":"message"}"#), Err(ChatError::UnknownType("message".into())));
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(payload: Vec<u8>, text: bool) {
            let lossy = String::from_utf8_lossy(&payload);
            let message = if text { Message::Text(lossy) } else { Message::Binary(payload.as_slice().into()) };
            let _ = decode(&message, 10_240);
        }
    }
}
