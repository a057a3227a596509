//! What has happened, on the admin page: the messages of a room, and ends that two answers tell of.

use serde_json::{Value, json};

use crate::admin::{has_row, open, server_with_key, signed_in};
use crate::browser::{Kind, stage};
use crate::harness::{Backend, Chat, eventually};

#[tokio::test]
async fn the_messages_of_a_room_are_read_and_deleted() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann").await;
    let backend = Backend::with_key(&server, &key);
    let items: Vec<Value> =
        (0..70).map(|n| json!({"room": "general", "content": format!("line {n}\n<b>two</b>")})).collect();
    assert_eq!(backend.post("/api/v1/batch", &json!({"items": items})).await.status, 200);
    let image = json!({
        "room": "general", "image": "https://a.example/b.png", "from_name": "<b>Shop</b>", "from_account": "shop",
    });
    assert_eq!(backend.post("/api/v1/publish", &image).await.status, 200);
    let admin = open(Kind::DESKTOP, &server, &key, "rooms/general").await;
    // The last ones come first, and older ones when they are asked for.
    let said = "all('td .said').map((one) => one.textContent)";
    admin.until(&format!("{said}.length === 50")).await;
    assert_eq!(admin.see(&format!("{said}[0]")).await, "Image: https://a.example/b.png");
    assert_eq!(admin.see(&format!("{said}[49]")).await, "line 21\n<b>two</b>");
    has_row(&admin, &["<b>Shop</b>", "shop", "b.png"]).await;
    admin.picture("admin-history").await;
    admin.choose("Show older").await;
    admin.until(&format!("{said}.length === 71 && {said}[70] === 'line 0\\n<b>two</b>'")).await;
    assert_eq!(admin.see("all('img, td b').length").await, 0);
    let delete =
        "all('tr').find((row) => row.textContent.includes('line 30\\n')).querySelector('button').click();";
    // One is deleted, once that is confirmed; those around it stay where they are.
    admin.run(delete, Value::Null).await;
    admin.until("text('dialog').includes('System: line 30')").await;
    admin.picture("admin-delete-message").await;
    admin.choose("Cancel").await;
    admin.until("!at('dialog').open").await;
    assert_eq!(admin.see(&format!("{said}.length")).await, 71);
    admin.run(delete, Value::Null).await;
    admin.click("dialog .primary").await;
    let deleted = ann.until("message_deleted").await["content"].clone();
    admin.until(&format!("{said}.length === 70 && text('#said').includes('deleted')")).await;
    assert_eq!(admin.see(&format!("{said}.some((one) => one.startsWith('line 30'))")).await, false);
    admin.until("!at('dialog').open && document.activeElement === at('view')").await;
    let history = backend.get("/api/v1/rooms/general/history").await.json();
    let ids: Vec<_> = history["messages"].as_array().unwrap().iter().map(|one| &one["message_id"]).collect();
    assert!(ids.len() == 70 && !ids.contains(&&deleted["message_id"]), "{deleted} {ids:?}");
    admin.run("document.documentElement.style.colorScheme = 'dark';", Value::Null).await;
    admin.picture("admin-history-dark").await;
}

/// Goal: an end that is in the list of ended connections and comes with the stream later is shown once.
#[tokio::test]
async fn an_end_that_the_list_and_the_stream_bring_is_shown_once() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let [bob, ann] = Chat::members(&server).await;
    let admin = open(Kind::DESKTOP, &server, &key, "bans").await;
    // The list is asked for when the test says so, and then the stream goes on.
    let held = "const gate = (name) => new Promise((open) => (window[name] = open));
        const [list, stream, plain] = [gate('list'), gate('stream'), fetch];
        window.fetch = async (url, fields) => {
            if (url.includes('ended=true')) await ((window.isAsked = true), list);
            const answer = await plain(url, fields);
            if (!url.includes('events')) return answer;
            const late = new TransformStream({ transform: (piece, out) => stream.then(() => out.enqueue(piece)) });
            return new Response(answer.body.pipeThrough(late), answer);
        };";
    admin.run(held, Value::Null).await;
    admin.click("nav [href='#live']").await;
    admin.until("window.isAsked").await;
    bob.leave().await;
    let backend = Backend::with_key(&server, &key);
    eventually("the end is in the list", async || {
        let ended = backend.get("/api/v1/connections?ended=true").await.json();
        ended["connections"].as_array().unwrap().len() == 1
    })
    .await;
    admin.run("list();", Value::Null).await;
    admin.until("all('tbody tr').length === 1").await;
    admin.run("stream();", Value::Null).await;
    ann.leave().await;
    admin.until("text('tbody').includes('User2')").await;
    let rows = admin.see("all('tbody tr').map((row) => row.cells[2].textContent)").await;
    let rows = rows.as_array().unwrap();
    assert!(rows.len() == 2 && rows[0] != rows[1], "{rows:?}");
}
