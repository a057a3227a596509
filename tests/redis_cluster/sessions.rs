//! Users that come back on another node than the one that they have left.

use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Chat, eventually};
use crate::nodes::{node, start_two};
use crate::redis::Redis;
use crate::room::{come_back, enter_as, history, next_of, users};

#[tokio::test]
async fn a_node_that_begins_later_knows_who_has_left() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let mut alice = Chat::enter(&a).await;
    let mut bob = enter_as(&b, "Bob").await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    let mut carl = enter_as(&a, "Carl").await;
    assert_eq!(next_of(&mut alice, "join").await, carl.id);
    assert_eq!(next_of(&mut bob, "join").await, carl.id);
    carl.move_to("games").await;
    assert_eq!(next_of(&mut alice, "leave").await, carl.id);
    let mut watcher = Chat::enter(&a).await;
    assert_eq!(next_of(&mut alice, "join").await, watcher.id);
    watcher.move_to("games").await;
    assert_eq!(next_of(&mut carl, "join").await, watcher.id);
    end(&mut carl).await;
    assert_eq!(next_of(&mut watcher, "leave").await, carl.id);
    b.signal(Signal::KILL);
    while next_of(&mut alice, "leave").await != bob.id {}

    // Neither this node nor the next life of the other one has seen them.
    let c = node(&redis, "c").start();
    drop(b);
    let b = node(&redis, "b").start();
    let carl = come_back(&c, &carl).await;
    assert_eq!(next_of(&mut watcher, "join").await, carl.id, "in the room that he has left");
    let mut bob = come_back(&b, &bob).await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    let mut present = [alice.id, bob.id];
    present.sort_unstable();
    assert_eq!(users(&mut bob).await, present);
    // One who is there is nobody who has left.
    assert_eq!(users(&mut watcher).await.len(), 2);
}

#[tokio::test]
async fn who_has_left_is_known_even_where_redis_has_lost_everything() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let mut alice = Chat::enter(&a).await;
    let mut bob = enter_as(&b, "Bob").await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    end(&mut bob).await;
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    let old = history(&mut alice).await.epoch;
    redis.command(&["FLUSHALL"]);
    eventually("a new epoch", async || history(&mut alice).await.epoch != old).await;
    let c = node(&redis, "c").start();
    let bob = come_back(&c, &bob).await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
}

/// Closes the connection, with the closing handshake.
async fn end(chat: &mut Chat) {
    chat.send(Message::Close(None)).await;
    while let Some(Message::Text(_)) = chat.socket().next().await {}
}
