//! A node that is stopped in order: it tells the others itself, and who was with it may be with them at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::nodes::{becomes_unready, start_two};
use crate::redis::Redis;
use crate::room::{all_hear, come_back, next_of, one_on_each};

/// A node that has not said goodbye is missed after ten canaries, one a second.
const CANARIES: Duration = Duration::from_secs(9);

#[tokio::test]
async fn its_members_leave_at_once_and_are_told_to_come_back() {
    let redis = Redis::start();
    let [a, mut b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    b.signal(Signal::TERM);
    // With a `reconnect` before it.
    assert_eq!(bob.closed().await, (1001, "server shutting down".to_owned()));
    assert_eq!(b.exit().await.code(), Some(0));
    let ended = Instant::now();
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    assert!(ended.elapsed() < CANARIES, "{:?}", ended.elapsed());
    let mut bob = come_back(&a, &bob).await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    all_hear(&mut bob, &mut [&mut alice], "here again").await;
}

#[tokio::test]
async fn whoever_has_left_it_need_not_wait_until_it_has_ended() {
    let redis = Redis::start();
    let [a, mut b] = start_two(&redis);
    let [mut alice, mut bob, carl] = one_on_each([&a, &b, &b]).await;
    b.signal(Signal::TERM);
    // Carl does not answer the close, so the node waits for him.
    assert_eq!(bob.closed_in_the_end().await, (1001, "server shutting down".to_owned()));
    let bob = come_back(&a, &bob).await;
    assert!(b.is_running(), "it has ended already");
    let mut left = [next_of(&mut alice, "leave").await, 0];
    let mut rest = [alice.next().await, alice.next().await];
    rest.sort_by_key(|event| event["type"].to_string());
    assert_eq!((&rest[0]["type"], &rest[0]["content"]["user_id"]), (&json!("join"), &json!(bob.id)));
    assert_eq!(rest[1]["type"], "leave", "{rest:?}");
    left[1] = rest[1]["content"]["user_id"].as_u64().unwrap();
    left.sort_unstable();
    let mut gone = [bob.id, carl.id];
    gone.sort_unstable();
    assert_eq!(left, gone);
}

#[tokio::test]
async fn it_ends_though_redis_is_gone_and_much_waits_for_it() {
    let mut redis = Redis::start();
    let [mut a, b] = start_two(&redis);
    let [mut alice, _bob] = one_on_each([&a, &b]).await;
    redis.kill();
    becomes_unready(&a).await;
    // More than a shard lets wait.
    alice
        .burst((0..5_000).map(|number| json!({"type": "set_name", "name": format!("Alice {number}")})))
        .await;
    a.signal(Signal::TERM);
    assert_eq!(a.exit().await.code(), Some(0));
}
