//! Tests of what chat clients send.

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
    assert_eq!(text(r#"{"type":"delete_message","message_id":7}"#), Ok(Some(Command::Delete(MessageId(7)))));
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
    let is =
        |before: Option<u64>, limit| Ok(Some(Command::GetHistory { before: before.map(MessageId), limit }));
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
    assert_eq!(token, Ok(Some(Input::SignInWithToken(BearerToken::new("a.b.c".to_owned())))));
    assert!(!format!("{token:?}").contains("a.b.c"));
}

#[test]
fn a_moderation_command_has_a_target_and_valid_fields() {
    let target = UserId::from_wire(7);
    let moderate = |action| Ok(Some(Command::Moderate { target, action: Some(action) }));
    let nothing = Ok(Some(Command::Moderate { target, action: None }));
    let kick = |reason: Option<&str>| moderate(ModerationAction::Kick { reason: reason.map(str::to_owned) });
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
        assert_eq!(text(&json), Ok(Some(Command::Private { to: expected, content: "x".into() })), "{fields}");
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
