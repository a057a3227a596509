//! Requests that the server drops or answers from another epoch. A server does so seldom; here the page's own
//! WebSocket does it.

use serde_json::{Value, json};

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch, Server};
use crate::tell;

/// Opens the chat with a WebSocket that refuses the requests for which `drop` is true, and changes with `change` what
/// comes. The refusal of `typing` comes when the next message has left.
async fn enter(server: &Server) -> Browser {
    let ann = Browser::open(Kind::DESKTOP).await;
    ann.look_at(&format!("http://{}/", server.address())).await;
    let statements = "window.asked = 0;
        window.change = (text) => text;
        window.drop = () => false;
        window.refusal = 'Too many messages';
        window.WebSocket = class extends WebSocket {
            send(text) {
                window.socket = this;
                const message = JSON.parse(text);
                const error = { type: 'error', content: { message: refusal }, timestamp: 1 };
                if (message.type === 'get_history') window.asked++;
                const isDropped = drop(message);
                this.refusals = (this.refusals ?? 0) + isDropped;
                if (!isDropped) super.send(text);
                if (message.type === 'typing') return;
                for (; this.refusals; this.refusals--) queueMicrotask(() => this.hear({ data: JSON.stringify(error) }));
            }
            set onmessage(hear) {
                this.hear = hear;
                super.onmessage = ({ data }) => hear({ data: change(data) });
            }
        };
        at('dialog').close();";
    ann.run(statements, Value::Null).await;
    ann.is_ready().await;
    ann
}

/// Scrolls to the first line, from somewhere else.
async fn scroll_up(ann: &Browser) {
    ann.run("at('timeline').scrollTop = at('timeline').scrollHeight;", Value::Null).await;
    ann.until("at('to-end').hidden").await;
    ann.run("at('timeline').scrollTop = 0;", Value::Null).await;
}

fn words() -> Vec<String> {
    (1..=60).map(|number| format!("word {number}")).collect()
}

#[tokio::test]
async fn a_new_epoch_while_one_reads_shows_its_messages_alone() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).without_rate_limit().start();
    let [mut bob] = Chat::members(&server).await;
    for word in words() {
        tell(&mut bob, &word).await;
    }
    let ann = enter(&server).await;
    ann.until("all('#timeline .text').length === 60").await;
    let statements = r#"window.change = (text) => text.includes('"type":"history"')
        ? text.replace(/"epoch":"[^"]*"/, '"epoch":"anew"') : text;"#;
    ann.run(statements, Value::Null).await;
    scroll_up(&ann).await;
    ann.until("text('.notice.bad').includes('started anew') && all('#timeline .text').length === 60").await;
    assert_eq!(ann.said().await, words());
    tell(&mut bob, "after").await;
    ann.until("all('#timeline .text').at(-1).textContent === 'after'").await;
    // Older ones are asked for again.
    assert_eq!(ann.see("asked").await, 1);
    scroll_up(&ann).await;
    ann.until("asked === 2").await;
}

#[tokio::test]
async fn a_page_of_history_that_is_refused_is_asked_for_again() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).without_rate_limit().start();
    let [mut bob] = Chat::members(&server).await;
    for word in words() {
        tell(&mut bob, &word).await;
    }
    let ann = enter(&server).await;
    ann.until("all('#timeline .text').length === 60").await;
    ann.run("window.drop = ({ type }) => type === 'get_history' && asked === 1;", Value::Null).await;
    scroll_up(&ann).await;
    ann.until("text('.notice.bad') === 'Too many messages'").await;
    scroll_up(&ann).await;
    ann.until("asked === 2").await;
}

#[tokio::test]
async fn a_refusal_of_something_else_takes_no_message_back() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = enter(&server).await;
    let [mut bob] = Chat::members(&server).await;
    ann.run("window.drop = ({ type }) => type === 'typing';", Value::Null).await;
    ann.say("once").await;
    ann.until("text('.notice.bad') === 'Too many messages'").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    assert_eq!(ann.see("at('text').value").await, "");
    assert_eq!(bob.until("message").await["content"], "once");
}

#[tokio::test]
async fn a_message_that_was_dropped_is_told_and_sent_again() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = enter(&server).await;
    let [mut bob] = Chat::members(&server).await;
    ann.run(
        "window.drop = ({ type }) => type === 'message' && !window.dropped++; window.dropped = 0;",
        json!(null),
    )
    .await;
    ann.say("dropped").await;
    ann.until("text('[data-state=failed] .mark').includes('Perhaps not sent')").await;
    ann.choose("Try again").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    assert_eq!(bob.until("message").await["content"], "dropped");
    ann.has_heard(&["dropped"]).await;
}

#[tokio::test]
async fn who_may_not_be_called_so_comes_back_to_the_room_nevertheless() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = enter(&server).await;
    ann.choose("random").await;
    ann.until("text('#title') === '# random'").await;
    // The upgrade takes no such name, so the page asks for it.
    let statements = "localStorage.name = 'x'.repeat(21);
        sessionStorage.clear();
        window.refusal = 'Permission denied';
        window.drop = ({ type }) => type === 'set_name';
        socket.close();";
    ann.run(statements, Value::Null).await;
    ann.until(
        "text('#me .name') === 'User2' && all('.notice.bad').at(-1)?.textContent === 'Permission denied'",
    )
    .await;
    ann.say("back").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    assert_eq!(ann.see("text('#title')").await, "# random");
}
