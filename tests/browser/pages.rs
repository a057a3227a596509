//! Pages of other people, opened from a file.

use std::path::PathBuf;

use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch, Server};
use crate::tell;

async fn open(browser: &Browser, page: &str, server: &Server) {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/browser/pages", page].iter().collect();
    browser.visit(&format!("file://{}?{}", file.display(), server.address())).await;
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
