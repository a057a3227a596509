//! A primary that has started or changed, with the end of the log or without.

use uproar_cluster::{
    Answer, Append, AppendError, MEETING_MS, Proposal, Recovery, RecoveryError, RecoveryStep, Reply, Report,
};

use crate::node::{Node, delete, entries, join, keys, leave, publish, say};
use crate::server::Server;

/// What is to be the same after a recovery.
fn kept(server: &mut Server) -> Vec<(String, String)> {
    let mut all = server.everything();
    all.retain(|(key, _)| *key != keys().recovery());
    for (key, value) in &mut all {
        if *key == keys().meta() {
            // The life is another one.
            let fields = value.split("[Text").filter(|field| !field.contains("life"));
            *value = fields.collect();
        }
    }
    all
}

#[test]
fn after_a_restart_nothing_is_appended_until_the_nodes_have_met() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let mut b = Node::begin(&mut server, "b", 2);
    let room = a.open(&mut server, "general");
    a.decide(&mut server, [publish(&room, "one")]);
    let last = entries(&mut server, 0).pop().unwrap();
    let mut server = server.restart();
    let append = a.next([publish(&room, "two")]);
    assert_eq!(a.append(&mut server, &append), Err(AppendError::Life));

    let (of_a, of_b) = (a.report(&last), b.report(&last));
    let seen = a.recover(&mut server, "1", Some(&of_a)).unwrap();
    assert_eq!(seen.kept.number(), last.number);
    assert_eq!(a.step(&seen), RecoveryStep::Wait, "b has not reported");
    let seen = b.recover(&mut server, "2", Some(&of_b)).unwrap();
    assert_eq!(seen.id, "1", "one recovery");
    assert_eq!(b.step(&seen), RecoveryStep::Wait, "of equal logs, the node with the first name acts");
    let mut seen = a.recover(&mut server, "3", Some(&of_a)).unwrap();
    seen.age_ms = MEETING_MS - 1;
    assert_eq!(a.step(&seen), RecoveryStep::Wait, "somebody may come whom nobody knows");
    seen.age_ms = MEETING_MS;
    let act = RecoveryStep::Act { append_behind: None, is_complete: true };
    assert_eq!(a.step(&seen), act, "nothing is lost");
    let seen = a.claim(&mut server, &seen, "c", &of_a);
    assert!(seen.is_claimed_by(&a.live()));
    assert_eq!(Recovery::outcome(&server.run(&seen.finish(&keys()))), Ok(()));
    assert_eq!(a.recover(&mut server, "4", Some(&of_a)), None, "the log lives");
    assert!(!a.append(&mut server, &append).unwrap().is_known);
    assert_eq!(b.decide(&mut server, [Proposal::Canary]), [Answer::Done]);
}

#[test]
fn a_lost_end_is_appended_again_as_it_was() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let mut b = Node::begin(&mut server, "b", 2);
    let room = a.open(&mut server, "general");
    a.decide(&mut server, [join(&room, 1, 0), say(&room, 1, 0, "kept")]);
    let known = entries(&mut server, 0).pop().unwrap();

    // What another primary has of the log: everything up to here.
    let mut other = Server::start();
    for key in server.texts(&["KEYS", "*"]) {
        let Reply::Text(dump) = server.call(&["DUMP", &key]) else { panic!("{key}") };
        other.restore(&key, &dump);
    }

    b.decide(&mut server, [join(&room, 2, 0), say(&room, 2, 0, "lost"), delete(&room, 1, 1)]);
    let mut c = Node::begin(&mut server, "c", 3);
    let team = c.open(&mut server, "team");
    c.decide(&mut server, [publish(&team, "lost, too"), join(&team, 3, 0)]);
    a.decide(&mut server, [leave(&room, 1, 0), Proposal::NodeGone { seen: b.tag.clone() }]);
    let all = entries(&mut server, 0);
    let last = all.last().unwrap();
    let before = kept(&mut server);

    // c has read everything, a only what the other primary has, b is gone.
    let (of_a, of_c) = (a.report(&known), c.report(last));
    a.recover(&mut other, "r", Some(&of_a)).unwrap();
    let seen = c.recover(&mut other, "s", Some(&of_c)).unwrap();
    assert_eq!(c.step(&seen), RecoveryStep::Wait, "Redis knows b as a live node");
    // b's end was among what is lost. It reports, because it does not know.
    let of_b = b.report(&known);
    let seen = b.recover(&mut other, "t", Some(&of_b)).unwrap();
    assert_eq!(b.step(&seen), RecoveryStep::Wait, "c has the longest log");
    let seen = c.recover(&mut other, "u", Some(&of_c)).unwrap();
    let mut seen = c.claim(&mut other, &seen, "d", &of_c);
    seen.age_ms = MEETING_MS;
    let RecoveryStep::Act { append_behind: Some(behind), is_complete: true } = c.step(&seen) else {
        panic!("{seen:?}")
    };
    assert_eq!((behind.number(), behind.tag()), (known.number, Some(&known.tag)));
    for entry in all.iter().filter(|entry| entry.number > behind.number()) {
        let append = Append::again(entry, &seen.id);
        let appended = c.append(&mut other, &append).unwrap();
        assert_eq!((appended.number, appended.is_known), (entry.number, false));
        assert!(c.append(&mut other, &append).unwrap().is_known, "it may be sent again");
    }
    assert_eq!(Recovery::outcome(&other.run(&seen.finish(&keys()))), Ok(()));
    assert_eq!(kept(&mut other), before);
    assert_eq!(c.decide(&mut other, [publish(&team, "new")]), [Answer::Sent(2)]);
    let append = b.next([Proposal::Canary]);
    assert_eq!(b.append(&mut other, &append), Err(AppendError::Fenced));
}

#[test]
fn who_was_paused_in_a_recovery_does_nothing_in_the_next() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let last = entries(&mut server, 0).pop().unwrap();
    server.change_life();
    let seen = a.recover(&mut server, "1", Some(&a.report(&last))).unwrap();
    // Redis starts again meanwhile, so that is for another life.
    server.change_life();
    let next = a.recover(&mut server, "2", Some(&a.report(&last))).unwrap();
    assert_eq!((next.id.as_str(), next.reports.len()), ("2", 1));
    assert_eq!(Recovery::outcome(&server.run(&seen.finish(&keys()))), Err(RecoveryError::Over));
    let append = Append { recovered: Append::again(&last, &seen.id).recovered, ..a.next([Proposal::Canary]) };
    assert_eq!(a.append(&mut server, &append), Err(AppendError::RecoveryOver));
    assert_eq!(Recovery::outcome(&server.run(&next.finish(&keys()))), Ok(()));
    assert_eq!(a.recover(&mut server, "3", None), None);
}

#[test]
fn a_recovery_without_progress_is_replaced() {
    let mut server = Server::start();
    let a = Node::begin(&mut server, "a", 1);
    let last = entries(&mut server, 0).pop().unwrap();
    server.change_life();
    let seen = a.recover(&mut server, "1", Some(&a.report(&last))).unwrap();
    // A second of silence too much, by the clock of Redis.
    let progress = server.texts(&["HMGET", &keys().recovery(), "progress"])[0].parse::<u64>().unwrap();
    let long_ago = (progress - 9_000).to_string();
    server.call(&["HSET", &keys().recovery(), "progress", &long_ago]);
    let b = Node::new("b", 2);
    let next = b.recover(&mut server, "2", None).unwrap();
    assert_eq!((next.id.as_str(), next.reports.len()), ("2", 0));
    assert_eq!(Recovery::outcome(&server.run(&seen.finish(&keys()))), Err(RecoveryError::Over));
}

#[test]
fn who_does_not_report_in_time_costs_the_epoch() {
    let mut server = Server::start();
    let a = Node::begin(&mut server, "a", 1);
    let b = Node::begin(&mut server, "b", 2);
    let last = entries(&mut server, 0).pop().unwrap();
    server.change_life();
    let mut seen = a.recover(&mut server, "1", Some(&a.report(&last))).unwrap();
    seen.age_ms = 4_999;
    assert_eq!(a.step(&seen), RecoveryStep::Wait);
    seen.age_ms = 5_000;
    assert_eq!(a.step(&seen), RecoveryStep::Act { append_behind: None, is_complete: false });
    // The same for a node that Redis has forgotten, and that this one knows.
    let live = b.live();
    seen.nodes.clear();
    assert_eq!(seen.step(&a.live(), &[live]), RecoveryStep::Act { append_behind: None, is_complete: false });
    assert_eq!(seen.step(&a.live(), &[]), RecoveryStep::Act { append_behind: None, is_complete: true });
}

#[test]
fn a_node_that_starts_waits_for_those_who_may_know_more() {
    let mut server = Server::start();
    let a = Node::new("a", 1);
    let mut seen = a.recover(&mut server, "1", None).unwrap();
    assert_eq!(a.step(&seen), RecoveryStep::Wait);
    seen.age_ms = 4_999;
    assert_eq!(a.step(&seen), RecoveryStep::Wait);
    seen.age_ms = 5_000;
    assert_eq!(a.step(&seen), RecoveryStep::Act { append_behind: None, is_complete: true });
}

#[test]
fn an_epoch_is_an_entry() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    assert_eq!(a.decide(&mut server, [Proposal::Epoch { epoch: "e1".into() }]), [Answer::Done]);
    assert_eq!(server.texts(&["HMGET", &keys().meta(), "epoch"]), ["e1"]);
}

#[test]
fn a_recovery_is_claimed_once() {
    let mut server = Server::start();
    let a = Node::begin(&mut server, "a", 1);
    let b = Node::begin(&mut server, "b", 2);
    let last = entries(&mut server, 0).pop().unwrap();
    server.change_life();
    let (of_a, of_b) = (a.report(&last), b.report(&last));
    let seen = b.recover(&mut server, "1", Some(&of_b)).unwrap();
    let claimed = b.claim(&mut server, &seen, "2", &of_b);
    assert!(claimed.is_claimed_by(&b.live()));
    // a comes late, and would have been the one to act.
    let mut late = a.recover(&mut server, "3", Some(&of_a)).unwrap();
    late.age_ms = 6_000;
    assert_eq!(a.step(&late), RecoveryStep::Wait);
    for id in [&seen.id, &late.id] {
        let tried = a.claim(&mut server, &Recovery { id: id.clone(), ..late.clone() }, "4", &of_a);
        assert!(tried.is_claimed_by(&b.live()), "{tried:?}");
    }
    assert_eq!(Recovery::outcome(&server.run(&seen.finish(&keys()))), Err(RecoveryError::Over));
    // b has lost its line meanwhile, and goes on.
    let again = b.claim(&mut server, &claimed, "5", &of_b);
    assert_eq!((again.id.as_str(), again.is_claimed_by(&b.live())), ("5", true));
    assert_eq!(Recovery::outcome(&server.run(&claimed.finish(&keys()))), Err(RecoveryError::Over));
    assert_eq!(Recovery::outcome(&server.run(&again.finish(&keys()))), Ok(()));
}

#[test]
fn a_log_that_others_have_left_behind_is_not_brought_back() {
    let mut server = Server::start();
    let a = Node::begin(&mut server, "a", 1);
    let b = Node::begin(&mut server, "b", 2);
    let last = entries(&mut server, 0).pop().unwrap();
    server.change_life();
    // a has gone on in a new epoch; b has read more of the old one.
    server.call(&["HSET", &keys().meta(), "raised", "1"]);
    let of_a = Report { raised: 1, ..a.report(&last) };
    let of_b = Report { number: last.number + 9, ..b.report(&last) };
    b.recover(&mut server, "1", Some(&of_b)).unwrap();
    let mut seen = a.recover(&mut server, "2", Some(&of_a)).unwrap();
    seen.age_ms = 5_000;
    assert_eq!(b.step(&seen), RecoveryStep::Wait);
    assert_eq!(a.step(&seen), RecoveryStep::Act { append_behind: None, is_complete: true });
    // Without a, b finds that Redis has gone on.
    seen.reports.remove(&a.tag.node);
    assert_eq!(b.step(&seen), RecoveryStep::Act { append_behind: None, is_complete: false });
}

#[test]
fn an_entry_is_appended_again_in_its_place_or_not_at_all() {
    let mut server = Server::start();
    let mut a = Node::begin(&mut server, "a", 1);
    let room = a.open(&mut server, "general");
    a.decide(&mut server, [join(&room, 1, 0)]);
    a.decide(&mut server, [say(&room, 1, 0, "x")]);
    let log = entries(&mut server, 0);
    let mut other = Server::start();
    let seen = a.recover(&mut other, "1", None).unwrap();
    let again = |server: &mut Server, place: usize| a.append(server, &Append::again(&log[place], &seen.id));
    assert_eq!(again(&mut other, 1), Err(AppendError::Fenced), "its node has not begun");
    assert_eq!(again(&mut other, 0).unwrap().number, 1);
    assert_eq!(again(&mut other, 2), Err(AppendError::WrongBatch { last: 1 }));
    assert_eq!(again(&mut other, 1).unwrap().number, 2);
    // Something has happened in Redis that is not in the log.
    assert_eq!(again(&mut other, 2).unwrap().number, 3);
    other.call(&["DEL", &keys().roster("general")]);
    let before = other.everything();
    assert_eq!(again(&mut other, 3), Err(AppendError::Differs));
    assert_eq!(other.everything(), before);
}
