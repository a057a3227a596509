//! What an observer is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use uproar_cluster::client::Observer;
use uproar_cluster::{Answer, Event, Proposal};

use crate::client::{Got, Node};
use crate::node::{join, keys, publish};
use crate::server::Server;

/// Notes what it is told.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    /// How often it was told this.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|it| *it == what).count()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Notes {
    fn connected(&mut self) {
        self.note("connected");
    }

    fn disconnected(&mut self) {
        self.note("disconnected");
    }

    fn appended(&mut self, proposals: usize, payload_bytes: usize, round_trip: Duration) {
        assert!(!round_trip.is_zero());
        self.note(format!("appended {proposals} of {payload_bytes} bytes"));
    }

    fn waited(&mut self, replicas: u64, is_enough: bool) {
        self.note(format!("waited {replicas} {is_enough}"));
    }

    fn read(&mut self, entries: usize) {
        self.note(format!("read {entries}"));
    }

    fn behind(&mut self, entries: u64) {
        self.note(format!("behind {entries}"));
    }

    fn canary_seen(&mut self) {
        self.note("canary");
    }

    fn timed_out(&mut self, proposals: usize) {
        self.note(format!("timed out {proposals}"));
    }

    fn damaged(&mut self, proposals: usize) {
        self.note(format!("damaged {proposals}"));
    }

    fn recovery_began(&mut self) {
        self.note("recovery began");
    }

    fn recovery_ended(&mut self) {
        self.note("recovery ended");
    }
}

#[tokio::test]
async fn an_observer_is_told_what_can_be_measured() {
    let mut server = Server::start();
    let mut a = Node::begin("a", 1, &format!("unix://{}", server.socket().display())).await;
    assert_eq!(a.notes.take()[..3], ["connected", "recovery began", "recovery ended"]);
    let room = a.open("general").await;
    assert_eq!(a.decide(join(&room, 1, 0)).await, Got::Answer(Answer::Done));
    assert_eq!(a.decide(publish(&room, "hello")).await, Got::Answer(Answer::Sent(1)));
    while a.notes.count("canary") == 0 {
        assert!(matches!(a.event().await, Event::Entry { .. }));
    }
    assert_eq!((a.notes.count("appended 1 of 5 bytes"), a.notes.count("appended 1 of 8 bytes")), (1, 1));
    // It can be read before it is answered, and then has been: read, and behind by one or by none.
    assert!(a.notes.count("read 1") >= 4 && a.notes.count("behind 0") >= 3, "{:?}", a.notes.take());

    server.call(&["SET", &keys().roster("general"), "a string"]);
    assert_eq!(a.decide(join(&room, 2, 0)).await, Got::Answer(Answer::Damaged));
    assert_eq!(a.notes.count("damaged 1"), 1);

    server.call(&["REPLICAOF", "127.0.0.1", "1"]);
    a.disconnected().await;
    let message = a.propose(publish(&room, "x"), Some(3_000)).await;
    assert_eq!(a.outcome(message).await, Got::Refused);
    let told = a.notes.take();
    assert!(
        told.contains(&"timed out 1".to_owned()) && told.contains(&"disconnected".to_owned()),
        "{told:?}"
    );
    server.call(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(a.decide(Proposal::Canary).await, Got::Answer(Answer::Done));
    let told = a.notes.take();
    for what in ["connected", "recovery began", "recovery ended"] {
        assert!(told.contains(&what.to_owned()), "{what}: {told:?}");
    }
}
