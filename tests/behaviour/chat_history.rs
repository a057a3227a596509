//! Looking back: what a room has kept, page by page.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, error, on_one_and_four_shards, take_epoch};

on_one_and_four_shards! {
    a_page_ends_before_a_message_and_says_whether_there_are_older_ones,
    a_page_has_fifty_messages_unless_it_is_asked_for_another_number,
    what_is_no_longer_kept_is_on_no_page,
    a_page_is_of_ones_own_room_and_stands_in_its_order,
    what_is_no_number_is_refused,
    the_longest_page_reaches_who_asks_however_long_it_is,
    many_pages_cost_an_allowance,
}

async fn a_page_ends_before_a_message_and_says_whether_there_are_older_ones(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::connect(&server).await;
    alice.read_welcome().await;
    let mut joined = alice.until("history").await;
    let epoch = take_epoch(&mut joined);
    assert_eq!(joined.get("more"), None);
    assert_eq!(page(&mut alice, json!({})).await, (vec![], false));
    for number in 1..=7 {
        alice.message(&number.to_string()).await;
    }
    for (fields, expected, has_more) in [
        (json!({}), "1234567", false),
        (json!({"limit": 3}), "567", true),
        (json!({"limit": 7}), "1234567", false),
        (json!({"before": 5, "limit": 3}), "234", true),
        (json!({"before": 4, "limit": 3}), "123", false),
        (json!({"before": 4, "limit": 1}), "3", true),
        (json!({"before": 2}), "1", false),
        (json!({"before": 1}), "", false),
        (json!({"before": 0}), "", false),
        (json!({"before": 8, "limit": 2}), "67", true),
        (json!({"before": 1u64 << 53, "limit": 2}), "67", true),
        (json!({"before": u64::MAX, "limit": 100}), "1234567", false),
    ] {
        let (contents, more) = page(&mut alice, fields.clone()).await;
        assert_eq!((contents.concat().as_str(), more), (expected, has_more), "{fields}");
    }
    let mut shown = ask(&mut alice, json!({"limit": 1})).await;
    let row = shown["content"][0].as_object_mut().unwrap();
    row.remove("timestamp");
    let expected = json!({"message_id": 7, "type": "message", "sender": alice.name, "from_id": alice.id, "content": "7"});
    assert_eq!(Value::from(row.clone()), expected);
    assert_eq!(take_epoch(&mut shown), epoch);
    assert_eq!(shown.get("complete").or(shown.get("deleted")), None);
    alice.say(json!({"type": "resume", "room": "general", "after": 0})).await;
    assert_eq!(alice.until("history").await.get("more"), None);
}

async fn a_page_has_fifty_messages_unless_it_is_asked_for_another_number(launch: Launch) {
    let server = launch.without_rate_limit().flag("--history", 150).start();
    let mut alice = Chat::enter(&server).await;
    alice.messages((1..=150).map(|number| number.to_string())).await;
    for (fields, first, last, has_more) in [
        (json!({}), 101, 150, true),
        (json!({"before": 101, "limit": 100}), 1, 100, false),
        (json!({"before": 102, "limit": 100}), 2, 101, true),
        (json!({"before": 31}), 1, 30, false),
    ] {
        let (contents, more) = page(&mut alice, fields.clone()).await;
        let expected: Vec<String> = (first..=last).map(|number: u64| number.to_string()).collect();
        assert_eq!((contents, more), (expected, has_more), "{fields}");
    }
}

async fn what_is_no_longer_kept_is_on_no_page(launch: Launch) {
    let server = launch.flag("--history", 3).start();
    let mut alice = Chat::enter(&server).await;
    for number in 1..=5 {
        alice.message(&number.to_string()).await;
    }
    assert_eq!(page(&mut alice, json!({"limit": 2})).await, (vec!["4".to_owned(), "5".to_owned()], true));
    assert_eq!(page(&mut alice, json!({"before": 4})).await, (vec!["3".to_owned()], false));
    assert_eq!(page(&mut alice, json!({"before": 3})).await, (vec![], false));
}

async fn a_page_is_of_ones_own_room_and_stands_in_its_order(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    bob.message("in general").await;
    assert_eq!(alice.next().await["content"], "in general");
    alice
        .burst([
            json!({"type": "message", "content": "mine"}),
            json!({"type": "get_history"}),
            json!({"type": "join_room", "room": "random"}),
            json!({"type": "get_history"}),
        ])
        .await;
    assert_eq!(alice.next().await["type"], "message_sent");
    assert_eq!(contents_of(&alice.next().await), ["in general", "mine"]);
    assert_eq!(alice.next().await["type"], "room_joined");
    assert_eq!(alice.next().await["type"], "users");
    assert_eq!(alice.next().await.get("more"), None);
    let random = alice.next().await;
    assert_eq!((contents_of(&random), &random["more"]), (vec![], &json!(false)));
}

async fn what_is_no_number_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.message("here").await;
    let numbers = [json!("1"), json!(null), json!(-1), json!(1.5), json!(true), json!([1]), json!({})];
    let before = numbers.iter().map(|value| json!({"before": value}));
    let beyond = [json!(0), json!(101)];
    let limit = numbers.iter().chain(&beyond).map(|value| json!({"limit": value}));
    for fields in before.chain(limit) {
        assert_eq!(ask(&mut alice, fields.clone()).await, error("Invalid message format"), "{fields}");
    }
    assert_eq!(page(&mut alice, json!({})).await.0, ["here"]);
}

async fn the_longest_page_reaches_who_asks_however_long_it_is(launch: Launch) {
    let server = launch.without_rate_limit().flag("--send-queue", "70KiB").start();
    let mut alice = Chat::enter(&server).await;
    for _ in 0..30 {
        alice.message(&"x".repeat(9_000)).await;
    }
    let (contents, more) = page(&mut alice, json!({"limit": 100})).await;
    assert_eq!((contents.len(), more), (30, false));
    alice.message("still here").await;
}

/// Each waits for the one before it, so those behind the allowance are refused and cost nothing.
async fn many_pages_cost_an_allowance(launch: Launch) {
    let server = launch.flag("--burst", 300).start();
    let mut alice = Chat::enter(&server).await;
    for _ in 0..100 {
        alice.message(&"x".repeat(9_000)).await;
    }
    let ask = json!({"type": "get_history", "limit": 100});
    alice.burst(std::iter::repeat_n(ask, 40)).await;
    let mut pages = 0;
    for _ in 0..40 {
        let answer = alice.next().await;
        match answer["type"].as_str().unwrap() {
            "history" => pages += 1,
            _ => assert_eq!(answer, error("Too many messages")),
        }
    }
    assert!((8..=20).contains(&pages), "{pages} pages of 900 KB");
}

/// Asks for a page with these fields, and returns the answer.
pub(crate) async fn ask(chat: &mut Chat, mut fields: Value) -> Value {
    fields["type"] = json!("get_history");
    chat.say(fields).await;
    chat.next().await
}

/// What is said on a page, and whether there is more.
async fn page(chat: &mut Chat, fields: Value) -> (Vec<String>, bool) {
    let history = ask(chat, fields).await;
    (contents_of(&history), history["more"].as_bool().expect("more is always there"))
}

fn contents_of(history: &Value) -> Vec<String> {
    assert_eq!(history["type"], "history", "{history}");
    let kept = history["content"].as_array().expect("a list").iter();
    kept.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}
