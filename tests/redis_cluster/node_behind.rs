//! A node that stands still until the log no longer has what it has not read.

use rustix::process::Signal;

use crate::harness::Chat;
use crate::nodes::{node, says, start};
use crate::redis::Redis;
use crate::room::{all_hear, history, next_of, one_on_each};

/// Of 60 KiB: so many that the log, which keeps 16 MiB, has lost what came before them.
const MESSAGES: usize = 400;

/// Messages that the room keeps.
const HISTORY: usize = 100;

#[tokio::test]
async fn it_begins_anew_and_has_what_the_others_have() {
    let redis = Redis::start();
    let launch = |name| node(&redis, name).flag("--redis-log", "16MiB").flag("--max-message", "64KiB");
    let [a, b] = start([launch("a"), launch("b")]);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut alice, &mut [&mut bob], "before").await;
    b.signal(Signal::STOP);
    let long = "x".repeat(60 << 10);
    for _ in 0..MESSAGES {
        alice.message(&long).await;
    }
    b.signal(Signal::CONT);
    let (code, _) = bob.closed_in_the_end().await;
    assert_eq!(code, 1012);
    says(&b, "this server serves again").await;
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    // The history is short again, and small enough for one answer.
    for number in 0..HISTORY {
        alice.message(&format!("meanwhile {number}")).await;
    }
    let mut carl = Chat::enter(&b).await;
    assert_eq!(next_of(&mut alice, "join").await, carl.id);
    assert_eq!(history(&mut carl).await, history(&mut alice).await);
    all_hear(&mut alice, &mut [&mut carl], "after").await;
    all_hear(&mut carl, &mut [&mut alice], "thanks").await;
}
