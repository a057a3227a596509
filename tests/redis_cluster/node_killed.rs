//! A node that is killed: its clients go on elsewhere.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::nodes::start_two;
use crate::redis::Redis;
use crate::room::{all_hear, come_back, enter_as, history, next_of, resume, users};

/// Ten canaries and some steps of the log take 12 s. A busy machine may double that.
const GONE_WITHIN: Duration = Duration::from_secs(25);

#[tokio::test]
async fn its_members_leave_once_and_come_back_on_another_node_and_miss_nothing() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let mut alice = enter_as(&a, "Alice").await;
    let mut bob = enter_as(&b, "Bob").await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    let mut dora = enter_as(&b, "Dora").await;
    for member in [&mut alice, &mut bob] {
        assert_eq!(next_of(member, "join").await, dora.id);
    }
    let before = all_hear(&mut alice, &mut [&mut bob, &mut dora], "before").await;
    let epoch = history(&mut bob).await.epoch;
    let mut gone = [bob.id, dora.id];
    gone.sort_unstable();

    b.signal(Signal::KILL);
    let killed = Instant::now();
    let missed = alice.message("missed").await;
    let leaving = async {
        let mut left = [next_of(&mut alice, "leave").await, next_of(&mut alice, "leave").await];
        assert!(killed.elapsed() < GONE_WITHIN, "{:?}", killed.elapsed());
        left.sort_unstable();
        assert_eq!(left, gone);
    };
    // One comes back at once, when nobody knows yet that its node is gone.
    let (mut bob, ()) = tokio::join!(come_back(&a, &bob), leaving);
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    assert_eq!(users(&mut alice).await.len(), 2);
    let mut dora = come_back(&a, &dora).await;
    for member in [&mut alice, &mut bob] {
        assert_eq!(next_of(member, "join").await, dora.id);
    }
    for member in [&mut bob, &mut dora] {
        let resumed = resume(member, &epoch, before).await;
        assert_eq!(resumed.messages, [(missed, "missed".to_owned())]);
        assert_eq!((&resumed.epoch, resumed.is_complete), (&epoch, Some(true)));
    }
    // Nobody has left or joined twice.
    all_hear(&mut alice, &mut [&mut bob, &mut dora], "welcome back").await;
    all_hear(&mut dora, &mut [&mut alice, &mut bob], "thanks").await;
}
