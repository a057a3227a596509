//! A Redis that is full, is another one's, or has wrong types under our keys.

use uproar_cluster::{Answer, AppendError, Proposal, Reply};

use crate::node::{Node, entries, join, keys, publish};
use crate::server::Server;

#[test]
fn a_full_redis_refuses_a_batch_before_it_has_any_effect() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    a.decide(&mut server, [publish(&room, "one")]);
    server.call(&["CONFIG", "SET", "maxmemory", "1"]);
    let before = server.everything();
    let append = a.next([publish(&room, "two"), join(&room, 1, 0)]);
    let refused = a.append(&mut server, &append);
    assert!(matches!(&refused, Err(AppendError::Redis(text)) if text.starts_with("OOM ")), "{refused:?}");
    assert_eq!(server.everything(), before);
    server.call(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(!a.append(&mut server, &append).unwrap().is_known);
}

#[test]
fn a_room_with_wrong_types_is_damaged_and_others_are_not() {
    for key in [keys().history("general"), keys().roster("general")] {
        let mut server = Server::start();
        let mut a = Node::begin(&mut server, "a", 1);
        let (room, good) = (a.open(&mut server, "general"), a.open(&mut server, "good"));
        a.decide(&mut server, [publish(&room, "before")]);
        server.call(&["SET", &key, "a string"]);
        let delete =
            Proposal::Delete { room: room.clone(), message: 1, user: 1, account: None, is_admin: true };
        let proposals = [delete, join(&room, 1, 0), publish(&good, "x"), Proposal::Canary];
        let answers = a.decide(&mut server, proposals);
        assert!(answers[..2].contains(&Answer::Damaged), "{key}: {answers:?}");
        assert_eq!(answers[2..], [Answer::Sent(1), Answer::Done], "{key}");
        assert_eq!(server.texts(&["HKEYS", &keys().damaged()]), ["general"]);
    }
}

#[test]
fn a_write_that_fails_behind_the_entry_leaves_it_in_the_log_and_the_room_damaged() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    // The history is not looked at before the entry is written.
    server.call(&["SET", &keys().history("general"), "a string"]);
    let answers = a.decide(&mut server, [publish(&room, "x"), join(&room, 1, 0)]);
    assert_eq!(answers, [Answer::Sent(1), Answer::Done]);
    assert_eq!(server.texts(&["HKEYS", &keys().damaged()]), ["general"]);
    // What could be written was.
    assert_eq!(server.texts(&["HKEYS", &keys().roster("general")]), ["1"]);
    // The retry is no second message.
    assert_eq!(entries(&mut server, 0).len(), 3);
}

#[test]
fn wrong_types_under_the_keys_of_the_log_refuse_a_batch() {
    for key in [keys().log(), keys().meta(), keys().nodes(), keys().rooms()] {
        let mut server = Server::start();
        let mut a = Node::begin(&mut server, "a", 1);
        server.call(&["SET", &key, "a string"]);
        let before = server.call(&["DBSIZE"]);
        let append = a.next([Proposal::Open { name: "general".into() }]);
        let refused = a.append(&mut server, &append);
        assert!(
            matches!(&refused, Err(AppendError::Redis(text)) if text.contains("WRONGTYPE")),
            "{key}: {refused:?}"
        );
        assert_eq!(server.call(&["DBSIZE"]), before);
    }
}

#[test]
fn a_replica_refuses_a_batch() {
    let mut primary = Server::start();
    let mut a = Node::begin(&mut primary, "a", 1);
    primary.call(&["REPLICAOF", "127.0.0.1", "1"]);
    let append = a.next([Proposal::Canary]);
    let refused = a.append(&mut primary, &append);
    assert!(matches!(&refused, Err(AppendError::Redis(text)) if text.starts_with("READONLY")), "{refused:?}");
}

#[test]
fn without_its_permission_a_node_is_told_so() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    server.call(&["ACL", "SETUSER", "default", "-xadd"]);
    let append = a.next([Proposal::Canary]);
    let refused = a.append(&mut server, &append);
    let is_told = |text: &str| text.contains("NOPERM") || text.contains("can't run this command");
    assert!(matches!(&refused, Err(AppendError::Redis(text)) if is_told(text)), "{refused:?}");
    assert!(matches!(server.call(&["XLEN", &keys().log()]), Reply::Number(1)));
}
