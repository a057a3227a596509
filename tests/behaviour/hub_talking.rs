//! Talking in the hub: words, new names, and who is there.

use serde_json::json;

use crate::harness::{Hub, Launch, line, on_one_and_four_shards};

on_one_and_four_shards! {
    words_reach_everyone_the_sender_included,
    words_before_login_are_ignored,
    empty_and_missing_words_are_ignored,
    words_arrive_as_they_were_written,
    everyone_hears_everything_in_one_order,
    a_new_name_is_told_to_everyone,
    a_new_name_can_be_typed,
    a_bad_new_name_changes_nothing,
    a_rename_before_login_gets_a_system_message,
    who_lists_the_names_to_the_one_who_asks,
    who_can_be_typed,
    other_words_with_a_backslash_are_words,
    keys_may_be_left_out_and_others_may_be_there,
}

async fn words_reach_everyone_the_sender_included(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, mut cleo] = members(&server).await;
    bea.say("user", "hello").await;
    let expected = line("user", "Bea", "hello", &["Ann", "Bea", "Cleo"]);
    for member in [&mut ann, &mut bea, &mut cleo] {
        assert_eq!(member.next().await, expected);
    }
}

async fn words_before_login_are_ignored(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut visitor = Hub::visit(&server).await;
    visitor.say("user", "let me in").await;
    visitor.login("Bea").await;
    assert_eq!(ann.next().await["type"], "login");
    visitor.say("user", "here").await;
    for member in [&mut ann, &mut visitor] {
        assert_eq!(member.next().await["content"], "here");
    }
}

async fn empty_and_missing_words_are_ignored(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    ann.say("user", "").await;
    ann.send(r#"{"type":"user"}"#).await;
    ann.say("user", " ").await;
    assert_eq!(ann.next().await, line("user", "Ann", " ", &["Ann"]));
}

async fn words_arrive_as_they_were_written(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, _cleo] = members(&server).await;
    for content in [
        "\0",
        "\"\\/\u{8}\u{c}\n\r\t",
        "</script><b>&amp;",
        "\u{202e}backwards\u{202c}\u{2066}",
        "\u{200b}\u{feff}",
        "日本語 👩‍👩‍👧‍👦 e\u{301}",
    ] {
        ann.say("user", content).await;
        assert_eq!(ann.next().await["content"], content);
        assert_eq!(bea.next().await["content"], content);
    }
}

async fn everyone_hears_everything_in_one_order(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let mut members = members(&server).await;
    let count = 50;
    for member in &mut members {
        let words = (0..count)
            .map(|n| json!({"type": "user", "content": format!("{} {n}", member.name)}).to_string().into());
        let words: Vec<_> = words.collect();
        member.socket().send_all(words).await;
    }
    let mut orders = Vec::new();
    for member in &mut members {
        let mut order = Vec::new();
        for _ in 0..3 * count {
            order.push(member.next().await["content"].clone());
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    for name in ["Ann", "Bea", "Cleo"] {
        let own = orders[0].iter().filter(|words| words.as_str().unwrap().starts_with(name));
        let expected = (0..count).map(|n| json!(format!("{name} {n}")));
        assert!(own.eq(expected.collect::<Vec<_>>().iter()), "what {name} said, in its order");
    }
}

async fn a_new_name_is_told_to_everyone(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, mut cleo] = members(&server).await;
    ann.say("rename", "  Dora ").await;
    let expected = line("system", "", "Ann 改名为 Dora", &["Bea", "Cleo", "Dora"]);
    for member in [&mut ann, &mut bea, &mut cleo] {
        assert_eq!(member.next().await, expected);
    }
    ann.say("user", "new me").await;
    assert_eq!(bea.next().await, line("user", "Dora", "new me", &["Bea", "Cleo", "Dora"]));
}

async fn a_new_name_can_be_typed(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, _cleo] = members(&server).await;
    ann.say("user", r"\rename Dora D.").await;
    let expected = line("system", "", "Ann 改名为 Dora D.", &["Bea", "Cleo", "Dora D."]);
    for member in [&mut ann, &mut bea] {
        assert_eq!(member.next().await, expected, "and not the words");
    }
}

async fn a_bad_new_name_changes_nothing(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, _cleo] = members(&server).await;
    for (kind, content) in [
        ("rename", String::new()),
        ("rename", " ".to_owned()),
        ("rename", "x".repeat(21)),
        ("rename", "a\tb".to_owned()),
        ("user", r"\rename".to_owned()),
        ("user", r"\rename ".to_owned()),
        ("user", format!(r"\rename {}", "x".repeat(21))),
    ] {
        ann.say(kind, &content).await;
        assert!(!ann.system().await.is_empty(), "{kind} {content:?}");
    }
    for message in [json!({"type": "rename"}), json!({"type": "rename", "content": 7})] {
        ann.send(message.to_string()).await;
        assert!(!ann.system().await.is_empty(), "{message}");
    }
    ann.say("user", "still").await;
    assert_eq!(bea.next().await, line("user", "Ann", "still", &["Ann", "Bea", "Cleo"]));
}

async fn a_rename_before_login_gets_a_system_message(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut visitor = Hub::visit(&server).await;
    visitor.say("rename", "Bea").await;
    assert!(!visitor.system().await.is_empty());
    visitor.login("Cleo").await;
    assert_eq!(ann.next().await["content"], "Cleo", "nobody else has heard of it");
}

async fn who_lists_the_names_to_the_one_who_asks(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, _cleo] = members(&server).await;
    ann.say("who", "").await;
    check_who(&mut ann).await;
    ann.say("user", "so many").await;
    assert_eq!(bea.next().await["content"], "so many", "nobody else was told");
}

async fn who_can_be_typed(launch: Launch) {
    let server = launch.start();
    let [mut ann, mut bea, _cleo] = members(&server).await;
    ann.say("user", r"\who").await;
    check_who(&mut ann).await;
    ann.say("user", "so many").await;
    assert_eq!(bea.next().await["content"], "so many", "nobody else was told");
}

async fn other_words_with_a_backslash_are_words(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    for words in [r"\whoever", r"\renamed", r"\", r"\\who", r"say \who", r"\kick Bea"] {
        ann.say("user", words).await;
        assert_eq!(ann.next().await, line("user", "Ann", words, &["Ann"]));
    }
}

async fn keys_may_be_left_out_and_others_may_be_there(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::visit(&server).await;
    ann.send(
        r#"{"ip":"1.2.3.4","user":"Eve","from":"Eve","type":"login","content":"Ann","user_list":["Eve"]}"#,
    )
    .await;
    assert_eq!(ann.next().await, line("login", "Ann", "Ann", &["Ann"]));
    ann.send(r#"{"type":"user","content":"hi","from":"Eve","ip":"1.2.3.4","more":{"a":[null]}}"#).await;
    assert_eq!(ann.next().await, line("user", "Ann", "hi", &["Ann"]));
}

async fn check_who(asker: &mut Hub) {
    let told = asker.next().await;
    let content = told["content"].as_str().unwrap();
    for name in ["Ann", "Bea", "Cleo"] {
        assert!(content.contains(name), "{content}");
    }
    assert_eq!(told, line("system", "", content, &["Ann", "Bea", "Cleo"]));
}

/// Three members who have seen each other come.
async fn members(server: &crate::harness::Server) -> [Hub; 3] {
    let mut ann = Hub::enter(server, "Ann").await;
    let mut bea = Hub::enter(server, "Bea").await;
    assert_eq!(ann.next().await["type"], "login");
    let cleo = Hub::enter(server, "Cleo").await;
    assert_eq!(ann.next().await["type"], "login");
    assert_eq!(bea.next().await["type"], "login");
    [ann, bea, cleo]
}
