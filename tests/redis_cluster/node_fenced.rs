//! A node that stands still for so long that the others count it as gone.

use rustix::process::Signal;

use crate::harness::Chat;
use crate::nodes::{says, start_two};
use crate::redis::Redis;
use crate::room::{all_hear, come_back, history, next_of, one_on_each, users};

#[tokio::test]
async fn it_closes_its_clients_when_it_goes_on_and_serves_again_at_its_address() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut bob, &mut [&mut alice], "before").await;
    b.signal(Signal::STOP);
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    let meanwhile = alice.message("meanwhile").await;
    b.signal(Signal::CONT);
    // Where to go meanwhile is up to it; when, it is told, so that not all come at once.
    bob.until("reconnect").await;
    assert_eq!(bob.closed_in_the_end().await, (1012, "node was fenced".to_owned()));

    says(&b, "this server serves again").await;
    let mut bob = come_back(&a, &bob).await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    let mut carl = Chat::enter(&b).await;
    for member in [&mut alice, &mut bob] {
        assert_eq!(next_of(member, "join").await, carl.id);
    }
    let seen_by_alice = (users(&mut alice).await, history(&mut alice).await);
    let mut everybody = [alice.id, bob.id, carl.id];
    everybody.sort_unstable();
    assert_eq!(seen_by_alice.0, everybody);
    assert_eq!(seen_by_alice.1.messages.last(), Some(&(meanwhile, "meanwhile".to_owned())));
    assert_eq!((users(&mut carl).await, history(&mut carl).await), seen_by_alice);
    all_hear(&mut alice, &mut [&mut bob, &mut carl], "welcome back").await;
    all_hear(&mut carl, &mut [&mut alice, &mut bob], "thanks").await;
}
