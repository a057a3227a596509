//! The program is told what happens.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use tokio::time::timeout;
use tungstenite::Message as Frame;
use uproar::api::{LocalBackend, Message};
use uproar::events::ConnectionFacts;
use uproar::rooms::RoomMessage;
use uproar::server::{Hooks, Server, ServerError};

use crate::{Client, PATIENCE, small};

/// Notes what it is told, each time when it may go on.
struct Noting {
    notes: Sender<String>,
    go_on: Option<Receiver<()>>,
}

impl Noting {
    fn note(&self, note: String) {
        let _ = self.notes.send(note);
        if let Some(go_on) = &self.go_on {
            // Once the test has dropped the sender, nothing waits.
            let _ = go_on.recv();
        }
    }
}

impl Hooks for Noting {
    fn connected(&mut self, connection: &ConnectionFacts) {
        self.note(format!("{} connected", connection.dialect));
    }

    fn disconnected(&mut self, connection: &ConnectionFacts) {
        let end = connection.end.expect("it has ended");
        self.note(format!("{} {:?}", connection.dialect, end.reason));
    }

    fn message(&mut self, room: &str, message: &RoomMessage) {
        self.note(format!("{room}: {}: {}", message.from_name, message.content.as_str()));
    }

    fn gap(&mut self, lost: Option<u64>) {
        assert!(lost.is_some_and(|lost| lost > 0), "{lost:?}");
        self.note("gap".to_owned());
    }
}

fn next(notes: &Receiver<String>) -> String {
    notes.recv_timeout(PATIENCE).expect("a note")
}

#[tokio::test]
async fn hooks_are_told_of_connections_and_messages() {
    let (sender, notes) = channel();
    let server = Server::start_with_hooks(small(), Noting { notes: sender, go_on: None }).unwrap();
    let mut member = Client::enter(server.local_addr());
    assert_eq!(next(&notes), "chat connected");
    member.0.send(Frame::text(r#"{"type":"message","content":"hello"}"#)).unwrap();
    assert_eq!(next(&notes), "general: User1: hello");
    server.publish("general", "and you").await.unwrap();
    assert_eq!(next(&notes), "general: System: and you");
    member.0.close(None).unwrap();
    member.closed();
    assert_eq!(next(&notes), "chat Closed");
    let _second = Client::enter(server.local_addr());
    assert_eq!(next(&notes), "chat connected");
    timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
    // Everything was told before the end.
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["chat Shutdown"]);
}

#[tokio::test]
async fn a_closure_is_told_of_messages() {
    let (sender, notes) = channel();
    let told = move |room: &str, message: &RoomMessage| {
        sender.send(format!("{room}: {}", message.content.as_str())).unwrap();
    };
    let server = Server::start_with_hooks(small(), told).unwrap();
    server.publish("general", "hello").await.unwrap();
    assert_eq!(next(&notes), "general: hello");
    timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
}

#[tokio::test]
async fn slow_hooks_delay_nobody_and_are_told_of_a_gap() {
    let (sender, notes) = channel();
    let (let_go, go_on) = channel();
    let hooks = Noting { notes: sender, go_on: Some(go_on) };
    let server = Server::start_with_hooks(small(), hooks).unwrap();
    server.publish("general", "first").await.unwrap();
    assert_eq!(next(&notes), "general: System: first");
    let backend = server.backend();
    let publish = async |count| {
        for _ in 0..count {
            let publishing = (0..100).map(|_| backend.publish("general", Message::text("more")));
            let outcomes = timeout(PATIENCE, futures_util::future::join_all(publishing)).await.unwrap();
            assert!(outcomes.iter().all(Result::is_ok));
        }
    };
    // More than are kept, while the hook sleeps.
    publish(100).await;
    let mut is_gap = false;
    for _ in 0..20 {
        publish(10).await;
        let_go.send(()).unwrap();
        is_gap = next(&notes) == "gap";
        if is_gap {
            break;
        }
    }
    assert!(is_gap, "it is told of everything");
    server.publish("general", "last").await.unwrap();
    drop(let_go);
    while next(&notes) != "general: System: last" {}
    timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hook_that_panics_ends_the_server() {
    struct Panicking;
    impl Hooks for Panicking {
        fn message(&mut self, _: &str, _: &RoomMessage) {
            panic!("as intended");
        }
    }
    let server = Server::start_with_hooks(small(), Panicking).unwrap();
    // It may have ended before the message is answered.
    let _ = server.publish("general", "hello").await;
    let error = timeout(PATIENCE, server.wait()).await.unwrap().unwrap_err();
    assert!(matches!(*error, ServerError::Hooks(_)), "{error}");
}

/// Passes on what it is told with a queue of tokio, which blocks while it is full, and answers with a backend.
struct Blocking {
    told: tokio::sync::mpsc::Sender<String>,
    runtime: tokio::runtime::Handle,
    backend: Arc<OnceLock<LocalBackend>>,
}

impl Hooks for Blocking {
    fn message(&mut self, room: &str, message: &RoomMessage) {
        let content = message.content.as_str();
        if content == "question"
            && let Some(backend) = self.backend.get()
        {
            self.runtime.block_on(backend.publish(room, Message::text("answer"))).unwrap();
        }
        let _ = self.told.blocking_send(content.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hooks_may_block_as_tokio_does() {
    let (sender, mut told) = tokio::sync::mpsc::channel(1);
    let backend = Arc::default();
    let runtime = tokio::runtime::Handle::current();
    let hooks = Blocking { told: sender, runtime, backend: Arc::clone(&backend) };
    let server = Server::start_with_hooks(small(), hooks).unwrap();
    backend.set(server.backend()).unwrap();
    server.publish("general", "question").await.unwrap();
    for expected in ["question", "answer"] {
        assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap().as_deref(), Some(expected));
    }
    drop(told);
    timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
}
