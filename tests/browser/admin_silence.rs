//! The admin page in front of a server that says nothing any more.

use fantoccini::key::Key;
use serde_json::Value;

use crate::admin::{give, server_with_key, signed_in};
use crate::browser::{Browser, Kind, stage};
use crate::harness::Server;
use crate::line::Line;

/// A page at the end of this line, which waits for half a second where it would wait longer than ten.
async fn impatient(line: &Line, key: &str, view: &str) -> Browser {
    let admin = Browser::open(Kind::DESKTOP).await;
    admin.look_at(&format!("http://{}/admin#{view}", line.address)).await;
    let hasten = "const wait = setTimeout;
        window.setTimeout = (act, ms, ...rest) => wait(act, ms > 10000 ? 500 : ms, ...rest);";
    admin.run(hasten, Value::Null).await;
    give(&admin, key).await;
    admin.until("!at('dialog').open").await;
    admin
}

async fn line_to(server: &Server) -> Line {
    Line::to(server.api_address()).await
}

#[tokio::test]
async fn a_request_that_is_not_answered_is_given_up() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let line = line_to(&server).await;
    let admin = impatient(&line, &key, "rooms").await;
    admin.until("text('tbody').includes('general') && text('#summary').startsWith('serving')").await;
    line.silence();
    admin.click("nav [href='#bans']").await;
    admin.until("text('main .error') === 'The server does not answer.'").await;
    // The next request finds another connection.
    admin.until("text('#summary') === 'The server does not answer.'").await;
    admin.until("text('#summary').startsWith('serving')").await;
    admin.click("nav [href='#nodes']").await;
    admin.until("text('dl').includes('serving')").await;
    line.silence();
    admin.until("text('main .error') === 'The server does not answer.'").await;
    admin.until("text('dl').includes('serving')").await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_or_falls_silent_is_begun_again() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let line = line_to(&server).await;
    let admin = impatient(&line, &key, "rooms").await;
    admin.until("text('tbody').includes('general')").await;
    line.silence();
    admin.click("nav [href='#live']").await;
    for _ in 0..2 {
        // At first there is no head, and then nothing behind one.
        admin.until("text('main [role=status]') === 'The server does not answer.'").await;
        admin.until("text('main [role=status]').startsWith('Watching')").await;
    }
}

#[tokio::test]
async fn an_order_without_an_answer_is_repeated_without_a_second_effect() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann").await;
    let line = line_to(&server).await;
    let admin = impatient(&line, &key, "accounts/ann").await;
    admin.until("text('dl').includes('general')").await;
    admin.choose("Message").await;
    admin.write("[name=content]", "once").await;
    line.deafen();
    admin.press(Key::Enter).await;
    assert_eq!(ann.until("private_message").await["content"], "once");
    admin.until("text('dialog .error').includes('Perhaps it was done')").await;
    for _ in 0..6 {
        // Connections that were kept idle are lost, too.
        admin.until("!document.querySelector('dialog .primary').disabled").await;
        admin.click("dialog .primary").await;
        admin.until("!at('dialog').open || (document.querySelector('dialog .error').textContent && !document.querySelector('dialog .primary').disabled)").await;
        if admin.see("at('dialog').open").await == false {
            break;
        }
    }
    admin.until("text('#said').includes('1 connection reached')").await;
    // Other words are another message.
    admin.choose("Message").await;
    admin.write("[name=content]", "twice").await;
    admin.press(Key::Enter).await;
    assert_eq!(ann.until("private_message").await["content"], "twice");
}
