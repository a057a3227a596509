//! Rooms of two logs.

use serde_json::json;

use crate::harness::{Chat, from};
use crate::nodes::{node, start};
use crate::redis::Redis;
use crate::room::{all_hear, come_back, history, next_of, one_on_each};

/// A room of each partition.
const ROOMS: [&str; 2] = ["general", "games"];

#[tokio::test]
async fn rooms_of_both_partitions_and_the_ways_between_them_work() {
    let redis = Redis::start();
    let [a, b] = start(["a", "b"].map(|name| node(&redis, name).flag("--redis-partitions", 2)));
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut alice, &mut [&mut bob], "here").await;

    bob.move_to("games").await;
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    // They are in rooms of different partitions.
    for (partition, room) in (0..).zip(ROOMS) {
        let roster = format!("{{uproar:{partition}}}:roster:{room}");
        assert_eq!(redis.command(&["HLEN", &roster]), "1", "{roster}");
    }
    tell(&mut alice, &mut bob, "one").await;
    tell(&mut bob, &mut alice, "two").await;
    let own = bob.message("alone").await;

    alice.move_to("games").await;
    assert_eq!(next_of(&mut bob, "join").await, alice.id);
    let messages = history(&mut alice).await.messages;
    assert_eq!(messages, [(own, "alone".to_owned())]);
    all_hear(&mut alice, &mut [&mut bob], "there").await;
    tell(&mut alice, &mut bob, "three").await;

    let mut earlier = bob;
    let mut bob = come_back(&a, &earlier).await;
    assert_eq!(earlier.closed().await, (1008, "session resumed elsewhere".to_owned()));
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    assert_eq!(next_of(&mut alice, "join").await, bob.id);

    alice.move_to("general").await;
    assert_eq!(next_of(&mut bob, "leave").await, alice.id);
    assert_eq!(history(&mut alice).await.contents(), ["here"]);
}

/// Sends a private message.
async fn tell(sender: &mut Chat, receiver: &mut Chat, content: &str) {
    sender.say(json!({"type": "private_message", "to_id": receiver.id, "content": content})).await;
    let sent = sender.next().await;
    assert_eq!((&sent["type"], &sent["to_id"]), (&json!("private_message_sent"), &json!(receiver.id)));
    assert_eq!(receiver.next().await, from(sender, "private_message", json!(content)));
}
