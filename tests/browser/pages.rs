//! Pages of other people, opened from a file, and our own where the server does not know itself.

use std::path::PathBuf;

use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch, Server};
use crate::line::Line;
use crate::tell;

async fn open(browser: &Browser, page: &str, server: &Server) {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/browser/pages", page].iter().collect();
    browser.look_at(&format!("file://{}?{}", file.display(), server.address())).await;
}

#[tokio::test]
async fn a_page_from_a_file_speaks_the_chat_dialect() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).flag("--allow-origin", "null").start();
    let ann = Browser::open(Kind::DESKTOP).await;
    open(&ann, "chat.html", &server).await;
    ann.until("text('#status').startsWith('connected as User')").await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "from a program").await;
    ann.until("text('#messages').includes('User2: from a program')").await;
    ann.write("#input", "from a file\u{e007}").await;
    assert_eq!(bob.until("message").await["content"], "from a file");
    ann.until("text('#messages').includes('me: from a file')").await;
    ann.write("#name", "Ann\u{e007}").await;
    assert_eq!(bob.until("user_renamed").await["content"]["new_name"], "Ann");
    ann.until("text('#users') === 'Ann, User2'").await;
    bob.say(json!({"type": "typing", "is_typing": true})).await;
    ann.until("text('#typing') === 'User2 is typing'").await;
    bob.leave().await;
    ann.until("text('#users') === 'Ann'").await;
}

#[tokio::test]
async fn a_page_from_a_file_is_refused_unless_it_is_allowed() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::open(Kind::DESKTOP).await;
    open(&ann, "chat.html", &server).await;
    ann.until("text('#status') === 'closed'").await;
}

#[tokio::test]
async fn a_page_whose_origin_is_refused_says_why() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let refused = "text('#state') === 'Refused by the server. Trying again…' && text('#barrier')";
    // A server on loopback is called by a name that anybody may have given it.
    let ann = Browser::open(Kind::DESKTOP).await;
    ann.visit(&format!("http://chat.test:{}/", server.address().port())).await;
    let advice = ann.until(refused).await;
    assert!(advice.as_str().unwrap().contains("“--allow-host chat.test”"), "{advice}");
    // A proxy has the server take the page for one of another site.
    let line = Line::renaming_host(server.address()).await;
    ann.visit(&format!("http://{}/", line.address)).await;
    let advice = ann.until(refused).await;
    assert!(
        advice.as_str().unwrap().contains(&format!("“--allow-origin http://{}”", line.address)),
        "{advice}"
    );
    drop(server);
}

#[tokio::test]
async fn a_page_that_was_let_in_again_no_longer_says_why_it_was_not() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let address = server.address();
    let ann = Browser::open(Kind::DESKTOP).await;
    ann.visit(&format!("http://chat.test:{}/", address.port())).await;
    ann.until("!at('barrier').hidden").await;
    drop(server);
    let launch = Launch::with_shards(1).flag("--allow-host", "chat.test");
    let _server = launch.at(address).start();
    ann.reconnect().await;
    ann.is_ready().await;
    ann.until("at('barrier').hidden").await;
}

#[tokio::test]
async fn a_page_from_a_file_speaks_the_hub_dialect() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).flag("--allow-origin", "null").start();
    let [mut bob] = Chat::members(&server).await;
    let ann = Browser::open(Kind::DESKTOP).await;
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/browser/pages/hub.html"].iter().collect();
    ann.look_at(&format!("file://{}?{}&{}", file.display(), server.address(), "%E5%AE%89")).await;
    ann.until("text('#user-list') === 'User1, 安' && text('#user-num') === '2'").await;
    assert_eq!(bob.until("join").await["content"]["user_name"], "安");
    // Both dialects share one room.
    ann.write("#msg-box", "from the hub\u{e007}").await;
    assert_eq!(bob.until("message").await["content"], "from the hub");
    ann.until("text('#msg-list').includes('安: from the hub')").await;
    tell(&mut bob, "from the chat").await;
    ann.until("text('#msg-list').includes('User1: from the chat')").await;
    ann.write("#msg-box", "\\rename Ann\u{e007}").await;
    assert_eq!(bob.until("user_renamed").await["content"]["new_name"], "Ann");
    ann.until("text('#user-list') === 'User1, Ann' && text('#msg-list').includes('安 改名为 Ann')").await;
    bob.leave().await;
    ann.until("text('#user-list') === 'Ann'").await;
}
