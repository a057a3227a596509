//! People who talk with one another.

use fantoccini::key::Key;
use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch};
use crate::tell;

#[tokio::test]
async fn two_people_talk() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let bob = Browser::enter(Kind::DESKTOP, &server).await;
    ann.until("text('#subtitle') === '2 online' && all('.member').length === 2").await;
    ann.write("#text", "Hello, Bob").await;
    ann.press(Key::Enter).await;
    bob.has_heard(&["Hello, Bob"]).await;
    ann.until("all('[data-state=sent]').length === 1").await;
    bob.say("Hello, Ann\nhow are you?").await;
    ann.has_heard(&["Hello, Bob", "Hello, Ann\nhow are you?"]).await;
    // Both see the room's order, and whoever comes later finds it.
    bob.has_heard(&["Hello, Bob", "Hello, Ann\nhow are you?"]).await;
    drop(bob);
    ann.until("text('#subtitle') === '1 online'").await;
    let late = Browser::enter(Kind::DESKTOP, &server).await;
    late.has_heard(&["Hello, Bob", "Hello, Ann\nhow are you?"]).await;
}

#[tokio::test]
async fn people_talk_over_tls() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).over_tls().start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    assert_eq!(ann.see("`${location.protocol} ${isSecureContext}`").await, "https: true");
    let [mut bob] = Chat::members(&server).await;
    ann.say("over TLS").await;
    assert_eq!(bob.until("message").await["content"], "over TLS");
    tell(&mut bob, "and back").await;
    ann.has_heard(&["over TLS", "and back"]).await;
}

#[tokio::test]
async fn a_private_talk_stays_between_two() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    ann.be_called("Ann").await;
    let [mut bob, mut cid] = Chat::members(&server).await;
    bob.say(json!({"type": "set_name", "name": "Bob"})).await;
    bob.until("name_changed").await;
    let ann_id = ann.see("Number(all('.member')[0].id.slice('member-'.length))").await;
    bob.say(json!({"type": "private_message", "to_id": ann_id, "content": "psst"})).await;
    // It does not take the room's place on the screen, but says that it is there.
    ann.until("text('#private .unread') === '1' && document.title.startsWith('(1)')").await;
    assert_eq!(ann.see("text('#title')").await, "# general");
    ann.choose("Bob").await;
    ann.has_heard(&["psst"]).await;
    ann.until("!document.querySelector('#private .unread')").await;
    ann.say("yes?").await;
    ann.until("all('.own[data-state=sent]').length === 1").await;
    assert_eq!(bob.until("private_message").await["content"], "yes?");
    // The room goes on beside it.
    tell(&mut cid, "to everyone").await;
    ann.until("text('#rooms .unread') === '1'").await;
    ann.choose("general").await;
    ann.has_heard(&["to everyone"]).await;
    // And a talk begins with a choice in the list.
    ann.choose_member("User3").await;
    ann.choose("Private message").await;
    ann.say("only you").await;
    assert_eq!(cid.until("private_message").await["content"], "only you");
}

#[tokio::test]
async fn whoever_is_gone_cannot_be_written_to_and_that_is_said() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [bob] = Chat::members(&server).await;
    ann.choose_member("User2").await;
    ann.choose("Private message").await;
    bob.leave().await;
    ann.until("text('#members-count') === '1'").await;
    ann.say("are you there?").await;
    ann.until("text('.notice.bad') === 'User not found or offline' && at('text').value === 'are you there?'")
        .await;
    ann.has_heard(&[]).await;
}

#[tokio::test]
async fn what_the_server_refuses_comes_back_to_be_changed() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    let long = "long ".repeat(3_000);
    ann.say(&long).await;
    ann.until("text('.notice.bad') === 'Message too large'").await;
    assert_eq!(ann.see("at('text').value").await, long);
    // However much room her text takes, she sees why it came back.
    ann.until("document.querySelector('.notice.bad').getBoundingClientRect().bottom <= at('typing').getBoundingClientRect().top + 1").await;
    ann.has_heard(&[]).await;
    ann.say("short").await;
    assert_eq!(bob.until("message").await["content"], "short");
    ann.has_heard(&["short"]).await;
    // It comes back to the talk that it was said in, which may not be on the screen any more.
    let statements = "const [long, room] = arguments[0];
        at('text').value = long;
        at('text').dispatchEvent(new Event('input'));
        at('composer').requestSubmit();
        all('#rooms button').find((one) => one.textContent.includes(room)).click();";
    ann.run(statements, json!([long, "random"])).await;
    ann.until("text('#title') === '# random'").await;
    assert_eq!(ann.see("at('text').value").await, "");
    ann.choose("general").await;
    ann.until("text('#title') === '# general' && at('text').value.length > 10_000").await;
    // While something else is being written, it keeps its place and says so.
    let statements = "for (const text of [arguments[0], 'next']) {
            at('text').value = text;
            at('text').dispatchEvent(new Event('input'));
            if (text !== 'next') at('composer').requestSubmit();
        }";
    ann.run(statements, long).await;
    ann.until("text('[data-state=failed] .mark').includes('Message too large')").await;
    assert_eq!(ann.see("at('text').value").await, "next");
}

#[tokio::test]
async fn rooms_have_counts_and_are_left_and_entered() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).flag("--rooms", "general,tea").start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob, mut cid] = Chat::members(&server).await;
    tell(&mut bob, "before").await;
    bob.move_to("tea").await;
    tell(&mut bob, "tea?").await;
    ann.has_heard(&["before"]).await;
    ann.choose("tea").await;
    ann.until("text('#title') === '# tea' && text('#subtitle') === '2 online'").await;
    ann.has_heard(&["tea?"]).await;
    ann.say("please").await;
    assert_eq!(bob.until("message").await["content"], "please");
    ann.until("text('#rooms li:first-child .size') === '1'").await;
    // Back in the first room everything is there once, with what was said meanwhile.
    tell(&mut cid, "meanwhile").await;
    ann.choose("general").await;
    ann.has_heard(&["before", "meanwhile"]).await;
    ann.until("text('#title') === '# general'").await;
}

#[tokio::test]
async fn a_new_name_is_everybodys_to_see_and_a_bad_one_is_refused() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    ann.be_called("Ann 安").await;
    assert_eq!(bob.until("user_renamed").await["content"]["new_name"], "Ann 安");
    bob.say(json!({"type": "set_name", "name": "Bob"})).await;
    ann.until("text('.notice:last-child') === 'User2 is now Bob'").await;
    ann.until("all('.member .name').map((one) => one.textContent).join() === 'Ann 安,Bob'").await;
    ann.click("#me").await;
    ann.run("document.querySelector('dialog input').value = arguments[0];", "x".repeat(21)).await;
    ann.choose("Save").await;
    ann.until("text('dialog .error') === '1 to 20 characters'").await;
    ann.press(Key::Escape).await;
    ann.until("!at('dialog').open && text('#me .name') === 'Ann 安'").await;
    // The name is there again after the page was loaded anew.
    ann.visit(&format!("http://{}/chat", server.address())).await;
    ann.until("text('#me .name') === 'Ann 安'").await;
}

#[tokio::test]
async fn an_image_is_fetched_only_when_asked_for() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    let url = format!("http://{}/no-image.png", server.address());
    bob.say(json!({"type": "image", "url": url})).await;
    ann.until("all('.picture button').length === 1").await;
    assert_eq!(ann.see("all('.picture img').length").await, 0);
    assert_eq!(ann.see("text('.picture a')").await, server.address().to_string());
    ann.choose("Show image").await;
    ann.until("text('.picture').includes('The image cannot be loaded')").await;
    // Her own she sends through a window.
    ann.click("#add-image").await;
    ann.write("dialog input", "https://localhost/cat.png").await;
    ann.press(Key::Enter).await;
    assert_eq!(bob.until("image").await["content"], json!({"url": "https://localhost/cat.png"}));
    ann.until("all('.own[data-state=sent] .picture').length === 1").await;
}

#[tokio::test]
async fn one_sees_who_is_typing_and_who_has_read() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    bob.say(json!({"type": "typing", "is_typing": true})).await;
    ann.until("text('#typing') === 'User2 typing…'").await;
    let id = tell(&mut bob, "there").await;
    ann.until("text('#typing') === ''").await;
    // What is on the screen has been read.
    let read = bob.until("message_read").await;
    assert_eq!(read["content"]["message_id"], id);
    ann.write("#text", "w").await;
    assert_eq!(bob.until("typing").await["content"]["is_typing"], true);
    ann.press(Key::Enter).await;
    assert_eq!(bob.until("typing").await["content"]["is_typing"], false);
    let id = bob.until("message").await["message_id"].clone();
    bob.say(json!({"type": "read", "message_id": id})).await;
    ann.until("document.querySelector('.own .mark')?.title === 'Read by 1'").await;
}

#[tokio::test]
async fn a_message_is_read_by_members_of_its_room_each_counted_once() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).flag("--rooms", "general,tea").start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let ann_id = ann.see("Number(all('.member')[0].id.slice('member-'.length))").await;
    let [mut bob, mut cid, mut dan] = Chat::members(&server).await;
    ann.say("in general").await;
    let in_general = bob.until("message").await["message_id"].clone();
    cid.move_to("tea").await;
    dan.move_to("tea").await;
    ann.choose("tea").await;
    ann.until("text('#title') === '# tea' && text('#subtitle') === '3 online'").await;
    ann.say("one").await;
    ann.say("two").await;
    let one = cid.until("message").await["message_id"].clone();
    let two = cid.until("message").await["message_id"].clone();
    ann.until("all('.own[data-state=sent]').length === 2").await;
    // Each room counts for itself, so this mark has the number of another message than it means.
    assert_eq!(in_general, one);
    bob.say(json!({"type": "read", "message_id": in_general})).await;
    bob.say(json!({"type": "private_message", "to_id": ann_id, "content": "I have read it"})).await;
    ann.until("text('#private .unread') === '1'").await;
    // Whoever has read the last has read those before it, and does so once.
    cid.say(json!({"type": "read", "message_id": two})).await;
    let marks = "all('.own .mark').map((mark) => mark.title).join()";
    ann.until(&format!("{marks} === 'Read by 1,Read by 1'")).await;
    cid.say(json!({"type": "read", "message_id": one})).await;
    cid.say(json!({"type": "private_message", "to_id": ann_id, "content": "again"})).await;
    ann.until("text('#private').includes('User3')").await;
    dan.say(json!({"type": "read", "message_id": one})).await;
    ann.until(&format!("{marks} === 'Read by 2,Read by 1'")).await;
}

#[tokio::test]
async fn an_emoji_is_chosen_by_keyboard() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    ann.write("#text", "hi ").await;
    ann.click("#open-emoji").await;
    ann.until("at('emoji').matches(':popover-open')").await;
    ann.press(Key::Tab).await;
    ann.press(Key::Tab).await;
    ann.press(Key::Enter).await;
    ann.until("at('text').value === 'hi 😄' && document.activeElement === at('text')").await;
    ann.press(Key::Enter).await;
    ann.has_heard(&["hi 😄"]).await;
}

#[tokio::test]
async fn what_is_deleted_goes_from_every_page() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "one").await;
    let id = tell(&mut bob, "oops").await;
    tell(&mut bob, "two").await;
    ann.has_heard(&["one", "oops", "two"]).await;
    bob.say(json!({"type": "delete_message", "message_id": id})).await;
    ann.has_heard(&["one", "two"]).await;
    // What is deleted while it looks elsewhere goes, too.
    ann.choose("random").await;
    ann.until("text('#title') === '# random'").await;
    bob.say(json!({"type": "delete_message", "message_id": id - 1})).await;
    bob.until("message_deleted").await;
    bob.until("message_deleted").await;
    ann.choose("general").await;
    ann.has_heard(&["two"]).await;
}

#[tokio::test]
async fn rooms_that_one_is_not_in_count_what_was_said_since() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "before").await;
    bob.say(json!({"type": "join_room", "room": "random"})).await;
    bob.until("history").await;
    tell(&mut bob, "of old").await;
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let count = |room: &str| {
        format!(
            "all('#rooms button').find((one) => one.innerText.includes('{room}')).querySelector('.unread')?.textContent"
        )
    };
    ann.until("all('#rooms button').length === 3").await;
    assert_eq!(ann.see(&count("random")).await, serde_json::Value::Null, "nothing is new to a new page");
    tell(&mut bob, "one").await;
    tell(&mut bob, "two").await;
    ann.choose("gaming").await;
    ann.until(&format!("{} === '2' && document.title.startsWith('(2)')", count("random"))).await;
    ann.choose("random").await;
    ann.has_heard(&["of old", "one", "two"]).await;
    ann.until(&format!("!{} && !document.title.startsWith('(')", count("random"))).await;
    ann.choose("general").await;
    ann.has_heard(&["before"]).await;
    tell(&mut bob, "three").await;
    ann.choose("gaming").await;
    ann.until(&format!("{} === '1'", count("random"))).await;
    assert_eq!(ann.see(&count("general")).await, serde_json::Value::Null);
}
