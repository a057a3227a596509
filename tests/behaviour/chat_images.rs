//! Images: messages of a room that hold an address instead of words.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, direct, error, from, on_one_and_four_shards, take_epoch, take_timestamp};

on_one_and_four_shards! {
    an_image_reaches_the_others_and_its_sender_learns_its_id,
    images_and_messages_are_numbered_together,
    an_image_is_kept_in_the_history,
    what_is_no_web_address_is_refused,
    an_address_may_have_2048_characters,
    hostile_addresses_stay_what_they_are,
}

const REFUSAL: &str = "Invalid image URL";

async fn an_image_reaches_the_others_and_its_sender_learns_its_id(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    let url = "https://pictures.example/a.png?size=2#top";
    alice.say(json!({"type": "image", "url": url})).await;
    let sent = alice.next().await;
    let id = sent["content"]["message_id"].clone();
    assert!(id.is_u64(), "{sent}");
    assert_eq!(sent, direct("message_sent", json!({"message_id": id, "room": "general"})));
    let mut image = from(&alice, "image", json!({"url": url}));
    image["message_id"] = id;
    assert_eq!(bob.next().await, image);
    assert_eq!(carol.next().await, image);
    bob.message("nice").await;
    assert_eq!(alice.next().await["content"], "nice");
}

async fn images_and_messages_are_numbered_together(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let first = alice.message("look").await;
    assert_eq!(image(&mut alice, "http://a/1").await, first + 1);
    assert_eq!(image(&mut alice, "http://a/2").await, first + 2);
    assert_eq!(alice.message("seen?").await, first + 3);
}

async fn an_image_is_kept_in_the_history(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let text_id = alice.message("look").await;
    let image_id = image(&mut alice, "http://a/1").await;
    let mut bob = Chat::connect(&server).await;
    let mut history = bob.until("history").await;
    take_epoch(&mut history);
    for message in history["content"].as_array_mut().expect("a list") {
        take_timestamp(message, "timestamp");
    }
    let kept = |id: u64, kind: &str, content: Value| {
        json!({
            "message_id": id, "type": kind, "sender": alice.name, "from_id": alice.id, "content": content,
        })
    };
    let expected = json!([
        kept(text_id, "message", json!("look")),
        kept(image_id, "image", json!({"url": "http://a/1"}))
    ]);
    assert_eq!(history, direct("history", expected));
}

async fn what_is_no_web_address_is_refused(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.say(json!({"type": "image"})).await;
    assert_eq!(alice.next().await, error(REFUSAL));
    for url in [
        json!(""),
        json!("a.png"),
        json!("//host/a.png"),
        json!("/a.png"),
        json!("ftp://host/a.png"),
        json!("file:///etc/passwd"),
        json!("javascript:alert(1)"),
        json!("JavaScript:alert(1)//https://host"),
        json!("data:image/png;base64,AAAA"),
        json!("data:text/html,<script>alert(1)</script>"),
        json!("blob:https://host/1"),
        json!("httpx://host"),
        json!("http"),
        json!("http:"),
        json!("http:/host"),
        json!("\u{0}https://host"),
        json!(7),
        json!(null),
        json!(true),
        json!(["https://host"]),
        json!({"url": "https://host"}),
    ] {
        alice.say(json!({"type": "image", "url": url})).await;
        assert_eq!(alice.next().await, error(REFUSAL), "{url}");
    }
    alice.message("done").await;
    assert_eq!(bob.next().await["content"], "done", "nobody saw any of them");
}

async fn an_address_may_have_2048_characters(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let start = "https://host/";
    for letter in ["a", "ü", "你"] {
        let longest = format!("{start}{}", letter.repeat(2_048 - start.len()));
        image(&mut alice, &longest).await;
        assert_eq!(bob.next().await["content"], json!({"url": longest}));
        alice.say(json!({"type": "image", "url": format!("{longest}a")})).await;
        assert_eq!(alice.next().await, error(REFUSAL), "2,049 of {letter}");
    }
}

async fn hostile_addresses_stay_what_they_are(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for url in [
        "http://host/\"><script>alert(1)</script>",
        "https://host/'onerror='alert(1)",
        "http://host/\u{202e}gnp.exe",
        "HTTPS://HOST/",
        "http://user:password@host:99999/",
    ] {
        image(&mut alice, url).await;
        assert_eq!(bob.next().await["content"], json!({"url": url}));
    }
}

/// Shows an image and returns its id.
async fn image(chat: &mut Chat, url: &str) -> u64 {
    chat.say(json!({"type": "image", "url": url})).await;
    let sent = chat.next().await;
    assert_eq!(sent["type"], "message_sent", "{url}: {sent}");
    sent["content"]["message_id"].as_u64().expect("a message_id")
}
