//! Two processes with the name of one node.

use crate::harness::Chat;
use crate::nodes::{node, start_two};
use crate::redis::Redis;
use crate::room::{all_hear, next_of, one_on_each};

#[tokio::test]
async fn the_second_process_of_a_name_takes_over_and_the_first_ends_and_says_why() {
    let redis = Redis::start();
    let [mut first, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&first, &b]).await;
    let second = node(&redis, "a").start();
    assert_eq!(next_of(&mut bob, "leave").await, alice.id);
    alice.closed_in_the_end().await;
    assert_eq!(first.exit().await.code(), Some(1));
    let why = "another server has begun with the name a of this one; give each its own --node";
    assert!(first.output().contains(why), "{}", first.output());
    let mut carl = Chat::enter(&second).await;
    assert_eq!(next_of(&mut bob, "join").await, carl.id);
    all_hear(&mut carl, &mut [&mut bob], "hello").await;
    all_hear(&mut bob, &mut [&mut carl], "hello to you").await;
}
