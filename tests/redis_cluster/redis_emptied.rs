//! A Redis that has lost everything: nodes write it again from their memory.

use crate::harness::{Chat, eventually};
use crate::nodes::{node, start_two};
use crate::redis::Redis;
use crate::room::{History, all_hear, history, next_of, one_on_each, resume, users};

/// By how much ids go on higher.
const RAISED_BY: u64 = 65_536;

#[tokio::test]
async fn everything_is_written_again_in_a_new_epoch() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    let one = all_hear(&mut alice, &mut [&mut bob], "one").await;
    let two = all_hear(&mut bob, &mut [&mut alice], "two").await;
    let old = history(&mut alice).await.epoch;
    redis.command(&["FLUSHALL"]);
    for member in [&mut alice, &mut bob] {
        eventually("a new epoch", async || history(member).await.epoch != old).await;
    }
    let epoch = history(&mut alice).await.epoch;

    let three = all_hear(&mut alice, &mut [&mut bob], "three").await;
    assert_eq!(three, two + RAISED_BY + 1);
    let all = vec![(one, "one".to_owned()), (two, "two".to_owned()), (three, "three".to_owned())];
    let shown = History { epoch, messages: all, is_complete: None };
    for member in [&mut alice, &mut bob] {
        assert_eq!(resume(member, &old, two).await, History { is_complete: Some(false), ..shown.clone() });
    }
    // This node has nothing but what it reads from Redis.
    let c = node(&redis, "c").start();
    let mut everybody = vec![alice.id, bob.id];
    let mut newcomers = Vec::new();
    for node in [&a, &b, &c] {
        let mut newcomer = Chat::enter(node).await;
        assert!(!everybody.contains(&newcomer.id), "an id of somebody else");
        everybody.push(newcomer.id);
        everybody.sort_unstable();
        assert_eq!(users(&mut newcomer).await, everybody);
        assert_eq!(history(&mut newcomer).await, shown);
        assert_eq!(next_of(&mut alice, "join").await, newcomer.id);
        assert_eq!(next_of(&mut bob, "join").await, newcomer.id);
        newcomers.push(newcomer);
    }
}
