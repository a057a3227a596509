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
