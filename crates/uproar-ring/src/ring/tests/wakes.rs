//! What ends the wait of a thread.

use std::io::Write;

use super::*;

#[test]
fn bytes_a_deadline_and_another_thread_each_end_the_wait() {
    let waker = Waker::new().unwrap();
    let mut ring = Ring::new(small(), waker.clone()).unwrap();
    let (socket, mut peer) = pair();
    ring.attach(id(0), socket);
    let start = Instant::now();
    ring.wait(Some(Duration::from_millis(20)), || false).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(ring.next_completion().is_none());

    let writer = std::thread::spawn(move || {
        peer.write_all(b"wake").unwrap();
        peer
    });
    ring.wait(None, || false).unwrap();
    assert!(matches!(ring.next_completion(), Some(Completion::Received(_, b"wake"))));
    assert!(ring.next_completion().is_none());
    let _peer = writer.join().unwrap();

    for _ in 0..100 {
        let (publish, published) = std::sync::mpsc::channel();
        let waker = waker.clone();
        let other = std::thread::spawn(move || {
            published.recv().unwrap();
            waker.wake();
        });
        // It is asked for news when the waker works.
        let has_news = || {
            publish.send(()).unwrap();
            false
        };
        ring.wait(None, has_news).unwrap();
        assert!(ring.next_completion().is_none());
        other.join().unwrap();
    }
    ring.wait(None, || true).unwrap();
}

#[test]
fn a_ring_wakes_the_thread_of_another_one() {
    for features in [Features::ALL, Features::NONE] {
        let waker = Waker::new().unwrap();
        let mut sleeper = Ring::new(Options { features, ..small() }, waker.clone()).unwrap();
        let (fall_asleep, asleep) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let mut ring = new_ring(Options { features, ..small() });
            for () in asleep {
                ring.wake(&waker);
                ring.enter().unwrap();
            }
            ring.counts().submissions
        });
        let set_up = sleeper.counts().completions;
        for _ in 0..100 {
            let start = Instant::now();
            let has_news = || {
                fall_asleep.send(()).unwrap();
                false
            };
            sleeper.wait(Some(LIMIT), has_news).unwrap();
            assert!(start.elapsed() < LIMIT, "it slept until its deadline");
            assert!(sleeper.next_completion().is_none());
        }
        assert_eq!(sleeper.counts().completions - set_up, 100);
        drop(fall_asleep);
        // A message is a submission.
        let has_messages = sleeper.features().has(Feature::RingMessages);
        assert_eq!(other.join().unwrap(), if has_messages { 100 } else { 0 });
    }
}

#[test]
fn a_message_that_does_not_arrive_is_followed_by_the_event() {
    let waker = Waker::new().unwrap();
    // What it takes for the ring is none.
    waker.receive_messages(std::fs::File::open("/dev/null").unwrap().into());
    let mut sleeper = Ring::new(Options { features: Features::NONE, ..small() }, waker.clone()).unwrap();
    let mut ring = new_ring(small());
    if !ring.features().has(Feature::RingMessages) {
        return;
    }
    let start = Instant::now();
    for _ in 0..3 {
        let has_news = || {
            ring.wake(&waker);
            ring.enter().unwrap();
            assert!(ring.next_completion().is_none());
            false
        };
        sleeper.wait(Some(LIMIT), has_news).unwrap();
        assert!(sleeper.next_completion().is_none());
    }
    assert!(start.elapsed() < LIMIT, "it slept until its deadline");
    assert!(!ring.features().has(Feature::RingMessages), "the next one is told by its event at once");
}

#[test]
fn a_thread_that_is_awake_is_not_woken_again() {
    let waker = Waker::new().unwrap();
    let mut ring = Ring::new(small(), waker.clone()).unwrap();
    ring.enter().unwrap();
    waker.wake();
    let start = Instant::now();
    ring.wait(Some(Duration::from_millis(20)), || false).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20), "a wake-up was left over");
}
