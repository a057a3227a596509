//! A Redis that does not answer: it was killed, or it stands still.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Chat, error};
use crate::nodes::{becomes_ready, becomes_unready, start_two};
use crate::redis::Redis;
use crate::room::{all_hear, history, next_message, one_on_each, users};

#[tokio::test]
async fn without_redis_everybody_stays_and_reads_and_is_refused_and_with_it_talk_goes_on() {
    let mut redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    let first = all_hear(&mut alice, &mut [&mut bob], "before").await;
    let before = history(&mut bob).await;
    redis.kill();
    becomes_unready(&a).await;
    becomes_unready(&b).await;

    for member in [&mut alice, &mut bob] {
        member.say(json!({"type": "message", "content": "refused"})).await;
        assert_eq!(member.next().await, error("Message could not be stored"));
    }
    let mut newcomer = Chat::connect(&a).await;
    assert_eq!(newcomer.closed().await, (1013, "Try again later".to_owned()));
    let mut everybody = [alice.id, bob.id];
    everybody.sort_unstable();
    for member in [&mut alice, &mut bob] {
        assert_eq!(history(member).await, before);
        assert_eq!(users(member).await, everybody);
    }

    redis.start_again();
    becomes_ready(&a).await;
    becomes_ready(&b).await;
    all_hear(&mut alice, &mut [&mut bob], "after").await;
    let last = all_hear(&mut bob, &mut [&mut alice], "and on").await;
    for member in [&mut alice, &mut bob] {
        let history = history(member).await;
        assert_eq!(history.contents(), ["before", "after", "and on"]);
        assert_eq!((history.epoch, last), (before.epoch.clone(), first + 2));
    }
}

#[tokio::test]
async fn whoever_has_asked_for_a_change_reads_on_and_whoever_changes_rooms_is_told_to_try_later() {
    let mut redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut alice, &mut [&mut bob], "before").await;
    redis.kill();
    becomes_unready(&a).await;
    becomes_unready(&b).await;
    // The new name waits for Redis, and what is asked behind it does not.
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    alice.say(json!({"type": "get_history", "limit": 9})).await;
    assert_eq!(alice.until("history").await["content"][0]["content"], "before");
    bob.say(json!({"type": "join_room", "room": "games"})).await;
    assert_eq!(bob.closed_in_the_end().await, (1013, "Try again later".to_owned()));

    redis.start_again();
    becomes_ready(&a).await;
    becomes_ready(&b).await;
    // He has left all the same.
    let mut carl = Chat::enter(&b).await;
    let mut present = [alice.id, carl.id];
    present.sort_unstable();
    assert_eq!(users(&mut carl).await, present);
}

#[tokio::test]
async fn private_messages_beyond_what_may_wait_are_all_answered() {
    /// More than a shard lets wait.
    const COUNT: usize = 5_000;
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    redis.signal(Signal::STOP);
    let (to, mut sent) = (bob.id, 0);
    let private = |number| json!({"type": "private_message", "to_id": to, "content": number_text(number)});
    alice.burst((0..COUNT).map(private)).await;
    redis.signal(Signal::CONT);
    for _ in 0..COUNT {
        let answer = alice.next().await;
        if answer["type"] == "private_message_sent" {
            sent += 1;
        } else {
            assert_eq!(answer, error("Message could not be stored"));
        }
    }
    let mut last = None;
    for _ in 0..sent {
        let number = bob.until("private_message").await["content"].as_str().unwrap().to_owned();
        assert!(last.is_none_or(|last: String| last < number), "in their order");
        last = Some(number);
    }
}

/// Numbers that sort as they count.
fn number_text(number: usize) -> String {
    format!("{number:05}")
}

#[tokio::test]
async fn what_a_redis_that_stands_still_has_not_answered_comes_once_when_it_goes_on() {
    unanswered_comes_once(|redis| redis.signal(Signal::CONT)).await;
}

#[tokio::test]
async fn what_a_redis_that_is_killed_has_not_answered_comes_once_when_it_is_back() {
    unanswered_comes_once(|redis| {
        redis.kill();
        redis.start_again();
    })
    .await;
}

async fn unanswered_comes_once(bring_back: impl FnOnce(&mut Redis)) {
    let mut redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    let before = all_hear(&mut alice, &mut [&mut bob], "before").await;
    redis.signal(Signal::STOP);
    // Its node sends it to Redis at once. Only if a canary is on its way at this moment, it waits, and is refused.
    alice.say(json!({"type": "message", "content": "late"})).await;
    // Both have given up their connections, in which Redis still finds what they have sent if it goes on.
    becomes_unready(&a).await;
    becomes_unready(&b).await;
    bring_back(&mut redis);
    becomes_ready(&a).await;
    becomes_ready(&b).await;
    let answer = alice.next().await;
    let mut wanted = vec!["before", "after"];
    if answer["type"] == "message_sent" {
        assert_eq!(next_message(&mut bob).await, (before + 1, "late".to_owned()));
        wanted.insert(1, "late");
    } else {
        assert_eq!(answer, error("Message could not be stored"));
    }
    all_hear(&mut bob, &mut [&mut alice], "after").await;
    for member in [&mut alice, &mut bob] {
        assert_eq!(history(member).await.contents(), wanted);
    }
}
