//! A Redis that is killed while people talk, and comes back with what it had written: it writes before it answers.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::Chat;
use crate::nodes::{becomes_unready, start_two};
use crate::redis::Redis;
use crate::room::{Seen, history, next_message, one_on_each};

/// Messages of each who talks.
const COUNT: usize = 200;

/// Messages that were heard when Redis is killed.
const HEARD_BEFORE: usize = 100;

/// Messages of an answer to `get_history`.
const HISTORY: usize = 100;

/// The last words.
const END: &str = "end";

#[tokio::test]
async fn no_acknowledged_message_is_lost_or_doubled_and_ids_have_no_gap() {
    let mut redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob, mut carl] = one_on_each([&a, &b, &b]).await;
    let epoch = history(&mut carl).await.epoch;
    let mut heard: Vec<Seen> = Vec::new();
    let disaster = async {
        while heard.len() < HEARD_BEFORE {
            heard.push(next_message(&mut carl).await);
        }
        redis.kill();
        becomes_unready(&a).await;
        becomes_unready(&b).await;
        redis.start_again();
    };
    let (mut sent, sent_by_bob, ()) = tokio::join!(talk(&mut alice, "a"), talk(&mut bob, "b"), disaster);
    sent.extend(sent_by_bob);
    sent.insert(END.to_owned(), say(&mut alice, END).await.expect("Redis is back"));
    while heard.last().is_none_or(|(_, content)| content != END) {
        heard.push(next_message(&mut carl).await);
    }

    let ids: Vec<u64> = heard.iter().map(|(id, _)| *id).collect();
    assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?}");
    let by_content: BTreeMap<String, u64> =
        heard.iter().map(|(id, content)| (content.clone(), *id)).collect();
    assert_eq!(by_content.len(), heard.len(), "doubled: {heard:?}");
    assert_eq!(by_content, sent, "what was heard, and what was acknowledged");
    let latest = history(&mut carl).await;
    assert_eq!(latest.epoch, epoch);
    assert_eq!(latest.messages, heard[heard.len() - HISTORY..]);
}

/// Says one thing after the other, each when the last one was answered, and returns what was acknowledged.
async fn talk(speaker: &mut Chat, name: &str) -> BTreeMap<String, u64> {
    let mut sent = BTreeMap::new();
    for number in 0..COUNT {
        let content = format!("{name} {number}");
        if let Some(id) = say(speaker, &content).await {
            sent.insert(content, id);
        }
    }
    sent
}

/// Says something, while others talk, and returns its id. `None` where it was refused.
async fn say(speaker: &mut Chat, content: &str) -> Option<u64> {
    speaker.say(json!({"type": "message", "content": content})).await;
    loop {
        let event = speaker.next().await;
        match event["type"].as_str().unwrap() {
            "message" => {}
            "message_sent" => return event["content"]["message_id"].as_u64(),
            "error" => {
                assert_eq!(event["content"]["message"], "Message could not be stored");
                return None;
            }
            _ => panic!("{event}"),
        }
    }
}
