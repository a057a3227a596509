//! A node that is stopped in order: it tells the others itself.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::nodes::start_two;
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
