//! What is decided about proposals, and what Redis keeps of it.

use std::sync::Arc;

use bytes::Bytes;
use uproar_cluster::{
    Answer, AppendError, KeptLeft, KeptMember, KeptMessage, Proposal, RequestKey, Room, TermChange, TermKind,
    term_number,
};

use crate::node::{Node, delete, entries, join, keys, leave, publish, say};
use crate::server::{Server, load};

/// A room's history, as a node that starts reads it.
fn history(server: &mut Server, room: &Room) -> Vec<(u64, Option<String>)> {
    let list = server.texts(&["LRANGE", &keys().history(&room.name), "0", "-1"]);
    let read = |value: String| match KeptMessage::read(&Bytes::from(value)).unwrap() {
        KeptMessage::Whole { id, message, .. } => (id, Some(String::from_utf8(message.into()).unwrap())),
        KeptMessage::Deleted { id } => (id, None),
    };
    list.into_iter().map(read).collect()
}

/// A room's members: user, visit and node.
fn roster(server: &mut Server, room: &Room) -> Vec<(u64, u64, String)> {
    let pairs = server.texts(&["HGETALL", &keys().roster(&room.name)]);
    let read = |pair: &[String]| {
        let member = KeptMember::read(&Bytes::from(pair[1].clone())).unwrap();
        (pair[0].parse().unwrap(), member.visit, member.node.to_string())
    };
    let mut members: Vec<_> = pairs.chunks(2).map(read).collect();
    members.sort_unstable();
    members
}

#[test]
fn messages_of_all_nodes_get_their_ids_in_one_order() {
    let mut server = Server::start();
    load(&mut server);
    let mut a = Node::begin(&mut server, "a", 1);
    let mut b = Node::begin(&mut server, "b", 2);
    let room = a.open(&mut server, "general");
    assert_eq!(b.open(&mut server, "general"), room, "it is open");
    let other = b.open(&mut server, "random");
    assert_eq!(a.decide(&mut server, [join(&room, 1, 0), join(&other, 3, 0)]), [Answer::Done, Answer::Done]);
    assert_eq!(b.decide(&mut server, [join(&room, 2, 0)]), [Answer::Done]);
    let answers =
        a.decide(&mut server, [say(&room, 1, 0, "one"), say(&other, 3, 0, "uno"), say(&room, 1, 0, "two")]);
    assert_eq!(answers, [Answer::Sent(1), Answer::Sent(1), Answer::Sent(2)]);
    assert_eq!(b.decide(&mut server, [say(&room, 2, 0, "three")]), [Answer::Sent(3)]);
    let kept = [(1, "one"), (2, "two"), (3, "three")].map(|(id, text)| (id, Some(text.to_owned())));
    assert_eq!(history(&mut server, &room), kept);
    assert_eq!(roster(&mut server, &room), [(1, 0, "a".to_owned()), (2, 0, "b".to_owned())]);
    // The time never goes back, and every entry has its bytes.
    let log = entries(&mut server, 0);
    assert!(log.is_sorted_by(|one, next| one.time_ms <= next.time_ms && one.total_bytes < next.total_bytes));
}

#[test]
fn who_is_no_member_by_this_visit_comes_late() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    assert_eq!(a.decide(&mut server, [say(&room, 1, 0, "early")]), [Answer::Late]);
    assert_eq!(
        a.decide(&mut server, [join(&room, 1, 2), say(&room, 1, 2, "x")]),
        [Answer::Done, Answer::Sent(1)]
    );
    let late = [join(&room, 1, 1), join(&room, 1, 2), leave(&room, 1, 1), say(&room, 1, 1, "x")];
    assert_eq!(a.decide(&mut server, late), [Answer::Late, Answer::Late, Answer::Late, Answer::Late]);
    // By a later visit, which may be on another node, and in one batch.
    let mut b = Node::begin(&mut server, "b", 1);
    let again = [
        join(&room, 1, 3),
        say(&room, 1, 2, "old"),
        say(&room, 1, 3, "new"),
        leave(&room, 1, 3),
        leave(&room, 1, 3),
    ];
    let answers = [Answer::Done, Answer::Late, Answer::Sent(2), Answer::Done, Answer::Late];
    assert_eq!(b.decide(&mut server, again), answers);
    assert_eq!(roster(&mut server, &room), []);
    let rename = Proposal::Rename { room: room.clone(), user: 1, visit: 3, member: "Anna".into() };
    assert_eq!(
        b.decide(&mut server, [rename.clone(), join(&room, 1, 3), rename]),
        [Answer::Late, Answer::Done, Answer::Done]
    );
    let member = server.texts(&["HVALS", &keys().roster("general")]);
    assert_eq!(member, ["3 b 0000000000000001 Anna"]);
}

#[test]
fn a_message_is_deleted_by_its_author_its_account_or_an_admin() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    let of_ann = |text: &str| Proposal::Message {
        room: room.clone(),
        user: 7,
        visit: None,
        account: Some("ann: 7".into()),
        request: None,
        message: text.to_owned().into(),
    };
    let by = |message: u64, user: u64, account: Option<&str>, is_admin| Proposal::Delete {
        room: room.clone(),
        message,
        user,
        account: account.map(Arc::from),
        is_admin,
    };
    a.decide(&mut server, (0..4).map(|_| of_ann("x")));
    let answers = a.decide(
        &mut server,
        [
            by(1, 8, None, false),
            by(1, 8, Some("bob"), false),
            by(1, 7, None, false),
            by(1, 7, None, false),
            by(2, 8, Some("ann: 7"), false),
            by(3, 8, None, true),
            by(5, 7, None, false),
            by(0, 7, None, true),
            // In the batch that has sent it.
            of_ann("y"),
            by(5, 7, None, false),
        ],
    );
    use Answer::{Denied, Done, Sent, UnknownMessage};
    assert_eq!(
        answers,
        [Denied, Denied, Done, Done, Done, Done, UnknownMessage, UnknownMessage, Sent(5), Done]
    );
    let kept = [(1, None), (2, None), (3, None), (4, Some("x".to_owned())), (5, None)];
    assert_eq!(history(&mut server, &room), kept);
    // One that is deleted in a batch of its own is not there any more.
    assert_eq!(a.decide(&mut server, [delete(&room, 1, 7)]), [UnknownMessage]);
    // Older ones are forgotten: five are kept.
    a.decide(&mut server, (0..3).map(|_| publish(&room, "z")));
    assert_eq!(history(&mut server, &room).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
    assert_eq!(a.decide(&mut server, [by(3, 8, None, true), by(4, 8, None, true)]), [UnknownMessage, Done]);
}

#[test]
fn a_room_is_forgotten_without_members_and_opened_anew_as_another_one() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "team");
    a.decide(&mut server, [join(&room, 1, 0), publish(&room, "old")]);
    let forget = Proposal::Forget { room: room.clone() };
    use Answer::{Done, HasMembers, RoomGone};
    let answers = a.decide(
        &mut server,
        [forget.clone(), leave(&room, 1, 0), forget.clone(), forget, publish(&room, "late")],
    );
    assert_eq!(answers, [HasMembers, Done, Done, RoomGone, RoomGone]);
    assert!(server.texts(&["KEYS", "*team*"]).is_empty());
    let anew = a.open(&mut server, "team");
    assert_ne!(anew, room);
    assert_eq!(
        a.decide(&mut server, [publish(&room, "late"), publish(&anew, "new")]),
        [RoomGone, Answer::Sent(1)]
    );
    assert_eq!(history(&mut server, &anew), [(1, Some("new".to_owned()))]);
    // All in one batch.
    let answers = a.decide(
        &mut server,
        [
            publish(&anew, "b"),
            Proposal::Forget { room: anew.clone() },
            Proposal::Open { name: "team".into() },
            delete(&anew, 1, 0),
        ],
    );
    let opened = entries(&mut server, 0).last().unwrap().number;
    assert_eq!(answers, [Answer::Sent(2), Done, Answer::Opened(opened), RoomGone]);
    assert_eq!(history(&mut server, &anew), []);
}

#[test]
fn a_batch_that_is_sent_again_is_in_the_log_once() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    let append = a.next([publish(&room, "once")]);
    let first = a.append(&mut server, &append).unwrap();
    let before = server.everything();
    let again = a.append(&mut server, &append).unwrap();
    assert_eq!((again.number, first.is_known, again.is_known), (first.number, false, true));
    assert_eq!(server.everything(), before);
    // A batch that is left out is not.
    a.tag.batch += 1;
    let append = a.next([publish(&room, "more")]);
    assert_eq!(a.append(&mut server, &append), Err(AppendError::WrongBatch { last: 3 }));
    assert_eq!(server.everything(), before);
}

#[test]
fn a_request_with_a_key_is_carried_out_once() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let mut b = Node::begin(&mut server, "b", 1);
    let room = a.open(&mut server, "general");
    let request = |key, content| Proposal::Message {
        room: room.clone(),
        user: 0,
        visit: None,
        account: None,
        request: Some(RequestKey { key, content }),
        message: "x".into(),
    };
    use Answer::{OtherRequest, Repeated, Sent};
    let answers = a.decide(&mut server, [request(1, 1), request(1, 1), request(1, 2), request(2, 1)]);
    assert_eq!(answers, [Sent(1), Repeated(1), OtherRequest, Sent(2)]);
    assert_eq!(b.decide(&mut server, [request(2, 1), request(1, 2)]), [Repeated(2), OtherRequest]);
    // When the hash is turned over, its keys are known for as long again.
    server.call(&["HSET", &keys().meta(), "turned", "0"]);
    assert_eq!(a.decide(&mut server, [request(3, 1)]), [Sent(3)]);
    assert_eq!(a.decide(&mut server, [request(1, 1), request(3, 1)]), [Repeated(1), Repeated(3)]);
    server.call(&["HSET", &keys().meta(), "turned", "0"]);
    assert_eq!(a.decide(&mut server, [request(4, 1)]), [Sent(4)]);
    assert_eq!(a.decide(&mut server, [request(3, 1), request(1, 1)]), [Repeated(3), Sent(5)]);
}

#[test]
fn a_node_that_was_silent_is_gone_and_appends_nothing_more() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let mut b = Node::begin(&mut server, "b", 9);
    let gone = Proposal::NodeGone { seen: b.tag.clone() };
    b.decide(&mut server, [Proposal::Canary]);
    assert_eq!(a.decide(&mut server, [gone]), [Answer::Alive]);
    let gone = Proposal::NodeGone { seen: b.tag.clone() };
    assert_eq!(a.decide(&mut server, [gone.clone(), gone]), [Answer::Done, Answer::Done]);
    let append = b.next([Proposal::Canary]);
    assert_eq!(b.append(&mut server, &append), Err(AppendError::Fenced));
    // With another incarnation it comes back.
    let mut b = Node::begin(&mut server, "b", 10);
    assert_eq!(b.decide(&mut server, [Proposal::Canary]), [Answer::Done]);
}

#[test]
fn a_second_process_of_a_name_takes_over() {
    let mut server = Server::start();
    let mut first = Node::begin(&mut server, "a", 1);
    let mut second = Node::begin_after(&mut server, "a", 2, Some(1));
    let append = first.next([Proposal::Canary]);
    assert_eq!(first.append(&mut server, &append), Err(AppendError::Replaced));
    // A third one that has seen the first only does not end the second.
    let mut third = Node::new("a", 3);
    let append = third.next([Proposal::Begin { replaces: Some(uproar_cluster::Incarnation(1)), reads: 1 }]);
    assert_eq!(third.append(&mut server, &append), Err(AppendError::BeginAgain));
    assert_eq!(second.decide(&mut server, [Proposal::Canary]), [Answer::Done]);
}

#[test]
fn nodes_with_other_settings_do_not_begin() {
    let mut server = Server::start();
    Node::begin(&mut server, "a", 1);
    let mut other = Node::new("b", 1);
    other.settings.agreed = "--history 50".to_owned();
    let append = other.next([Proposal::Begin { replaces: None, reads: 1 }]);
    let refused = AppendError::Settings { theirs: "--history 5".to_owned() };
    assert_eq!(other.append(&mut server, &append), Err(refused));
}

#[test]
fn the_log_is_trimmed_by_its_bytes() {
    let mut server = Server::start_with(&["--appendonly", "no"]);
    let mut a = Node::begin(&mut server, "a", 1);
    a.settings.log_bytes = 1 << 20;
    let room = a.open(&mut server, "general");
    let text = "x".repeat(4_000);
    for _ in 0..1_000 {
        let append = a.next([publish(&room, &text)]);
        a.append(&mut server, &append).unwrap();
    }
    let log = entries(&mut server, 0);
    let bytes = log.last().unwrap().total_bytes - log[0].total_bytes;
    // Redis removes whole nodes of its tree, of up to 100 entries.
    assert!((900_000..1_600_000).contains(&bytes), "{bytes} bytes are kept");
    assert_eq!(log.last().unwrap().number, 1_002);
}

#[test]
fn a_batch_may_be_as_large_as_it_gets() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    let rooms: Vec<Room> = (0..20).map(|n| a.open(&mut server, &format!("room {n}"))).collect();
    let joins = (0..512).map(|n| join(&rooms[n % 20], n as u64, 0));
    assert_eq!(a.decide(&mut server, joins), vec![Answer::Done; 512]);
    let leaves = (0..512).map(|n| leave(&rooms[n % 20], n as u64, 0));
    assert_eq!(a.decide(&mut server, leaves), vec![Answer::Done; 512]);
    let sent = a.decide(&mut server, (0..512).map(|n| publish(&room, &n.to_string())));
    assert_eq!(sent, (1..=512).map(Answer::Sent).collect::<Vec<_>>());
    assert_eq!(history(&mut server, &room).last().unwrap().1.as_deref(), Some("511"));
    let large = "x".repeat(1 << 20);
    assert_eq!(a.decide(&mut server, [publish(&room, &large)]), [Answer::Sent(513)]);
    assert_eq!(history(&mut server, &room).last().unwrap().1.as_deref(), Some(large.as_str()));
}

#[test]
fn blocks_of_user_ids_are_given_out_once() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let mut b = Node::begin(&mut server, "b", 2);
    let numbers = [Proposal::Numbers, Proposal::Canary, Proposal::Numbers];
    assert_eq!(a.decide(&mut server, numbers), [Answer::Numbers(0), Answer::Done, Answer::Numbers(1)]);
    let append = b.next([Proposal::Numbers]);
    b.append(&mut server, &append).unwrap();
    assert!(b.append(&mut server, &append).unwrap().is_known, "sent again, it takes no other block");
    assert_eq!(entries(&mut server, 0).pop().unwrap().answers, [Answer::Numbers(2)]);
    assert_eq!(a.decide(&mut server, [Proposal::Numbers]), [Answer::Numbers(3)]);
}

#[test]
fn who_has_left_is_kept_for_a_while_with_what_it_was() {
    let mut server = Server::start();
    load(&mut server);
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "games and more");
    a.decide(&mut server, [join(&room, 7, 1), join(&room, 8, 1), leave(&room, 7, 1), leave(&room, 7, 1)]);
    let left = |server: &mut Server| -> Vec<KeptLeft> {
        let values = server.texts(&["LRANGE", &keys().left(), "0", "-1"]).into_iter();
        values.map(|value| KeptLeft::read(&Bytes::from(value)).unwrap()).collect()
    };
    let [KeptLeft { user: 7, room: its, member, .. }] = &left(&mut server)[..] else { panic!() };
    assert_eq!((its, &member.member[..], member.visit), (&room.name, &b"member 7"[..], 1));
    // One that has left longer ago is forgotten with the next batch.
    a.settings.left_ms = 1;
    let begun = std::time::Instant::now();
    while !left(&mut server).is_empty() {
        a.decide(&mut server, [Proposal::Canary]);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    }
    // Nor is anybody kept where sessions are not.
    a.settings.left_ms = 0;
    a.decide(&mut server, [leave(&room, 8, 1)]);
    assert_eq!(left(&mut server), []);
}

/// A ban of this subject until this second, or its end.
fn ban(subject: &str, until: u64, value: Option<&str>) -> TermChange {
    TermChange { kind: TermKind::Ban, subject: subject.into(), until, value: value.map(Arc::from) }
}

fn terms(changes: impl Into<Vec<TermChange>>) -> Proposal {
    Proposal::Terms { changes: changes.into(), notices: Bytes::new() }
}

#[test]
fn bans_and_mutes_are_changed_in_the_order_of_the_log_and_ended_ones_go() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let mute = TermChange { kind: TermKind::Mute, ..ban("ann: 1", 0, Some("m")) };
    let proposals = [
        terms([ban("ann: 1", 0, Some("x y")), ban("ben", 1, Some("over")), mute]),
        terms([ban("cem", 0, Some("z"))]),
        terms([ban("cem", 0, None)]),
    ];
    assert_eq!(a.decide(&mut server, proposals), [Answer::Done, Answer::Done, Answer::Done]);
    let entry = entries(&mut server, 0).last().unwrap().number;
    let number = term_number(entry, 0);
    let kept = |server: &mut Server, kind| server.texts(&["HGETALL", &keys().terms(kind)]);
    assert_eq!(kept(&mut server, TermKind::Ban), ["ann: 1", &format!("{number} 0 x y")]);
    assert_eq!(kept(&mut server, TermKind::Mute), ["ann: 1", &format!("{number} 0 m")]);
    // A key of another type has no terms, and does not keep others from coming.
    server.call(&["SET", &keys().terms(TermKind::Ban), "x"]);
    a.decide(&mut server, [terms([ban("dora", 0, Some("z"))])]);
    let number = term_number(entry + 1, 0);
    assert_eq!(kept(&mut server, TermKind::Ban), ["dora", &format!("{number} 0 z")]);
}
