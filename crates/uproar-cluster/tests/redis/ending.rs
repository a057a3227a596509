//! Nodes that end, in order or not, and what Redis has of their members then.

use uproar_cluster::{Answer, End, Room};

use crate::node::{join, keys, say};
use crate::world::{Fate, Fault, World};

#[test]
fn a_node_that_ends_in_order_is_gone_at_once() {
    let mut world = World::new(15);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(a, join(&room, 1, 0));
    world.decide(b, join(&room, 2, 0));
    let messages: Vec<u64> = (0..1_000).map(|_| world.propose(b, say(&room, 2, 0, "x"), None)).collect();
    world.leave(b);
    let late = world.propose(b, say(&room, 2, 0, "late"), None);
    let begun = world.now_ms;
    world.until(|world| world.nodes[a].mirror.as_ref().unwrap().rooms["general"].members.len() == 1);
    world.until(|world| world.nodes[b].ended.is_some());
    assert!(world.now_ms - begun < 500, "after {} ms", world.now_ms - begun);
    assert_eq!(world.nodes[b].ended, Some(End::Left));
    assert!(messages.iter().all(|ticket| matches!(world.fates[ticket], Fate::Decided(_, Answer::Sent(_)))));
    assert_eq!(world.fates[&late], Fate::Refused);
    assert!(world.server.texts(&["HKEYS", &keys().nodes()]).iter().eq(["a"]));
    let again = world.join("b");
    assert_eq!(world.decide(again, join(&room, 2, 1)), Answer::Done);
    world.check();
}

#[test]
fn whether_its_end_was_answered_a_node_ends_in_order() {
    for fault in [Fault::Before, Fault::Behind, Fault::Silence, Fault::Late(200)] {
        let mut world = World::new(16);
        let (a, b) = (world.join("a"), world.join("b"));
        let room = world.open(a, "general");
        world.decide(b, join(&room, 2, 0));
        world.run(200);
        let message = world.propose(b, say(&room, 2, 0, "x"), None);
        world.leave(b);
        world.next_fault = Some((b, fault));
        world.until(|world| world.nodes[b].ended.is_some());
        assert_eq!(world.next_fault, None);
        assert_eq!(world.nodes[b].ended, Some(End::Left), "{fault:?}");
        assert_eq!(world.fates[&message], Fate::Decided(6, Answer::Sent(1)), "{fault:?}");
        world.check();
    }
}

#[test]
fn a_node_ends_without_redis_as_well() {
    let mut world = World::new(17);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(b, join(&room, 2, 0));
    world.disconnect(b);
    let message = world.propose(b, say(&room, 2, 0, "x"), None);
    world.leave(b);
    world.run(1_900);
    assert_eq!(world.nodes[b].ended, None);
    world.run(200);
    assert_eq!((&world.nodes[b].ended, &world.fates[&message]), (&Some(End::Left), &Fate::Unknown));
    let early = world.start("c");
    world.leave(early);
    world.step();
    assert_eq!(world.nodes[early].ended, Some(End::Left), "it has not begun");
    world.until(|world| world.nodes[a].mirror.as_ref().unwrap().rooms["general"].members.is_empty());
    world.check();
}

#[test]
fn a_node_that_ends_during_a_recovery_does_not_cost_the_epoch() {
    let mut world = World::new(18);
    let (a, b) = (world.join("a"), world.join("b"));
    let epoch = world.nodes[a].mirror.as_ref().unwrap().epoch.clone();
    world.server.change_life();
    world.run(100);
    world.leave(b);
    world.until(|world| world.nodes[b].ended.is_some());
    world.run(500);
    assert_eq!(world.nodes[b].ended, Some(End::Left));
    let mirror = world.nodes[a].mirror.as_ref().unwrap();
    assert_eq!((&mirror.epoch, mirror.nodes.len()), (&epoch, 1));
    world.check();
}

/// Users whom Redis has in the rosters of the rooms.
fn in_rosters(world: &mut World, rooms: &[Room]) -> Vec<String> {
    let mut users = Vec::new();
    for room in rooms {
        users.extend(world.server.texts(&["HKEYS", &keys().roster(&room.name)]));
    }
    users.sort();
    users
}

#[test]
fn members_of_a_node_that_is_gone_are_removed_by_the_next_when_the_first_is_gone_as_well() {
    let mut world = World::new(19);
    let (a, b, c) = (world.join("a"), world.join("b"), world.join("c"));
    let rooms: Vec<Room> = (0..40).map(|n| world.open(a, &format!("room {n}"))).collect();
    let joins: Vec<u64> = (0..6_000)
        .map(|n| {
            let room = if n < 4_000 { &rooms[0] } else { &rooms[n % 40] };
            world.propose(c, join(room, 1_000 + n as u64, 0), None)
        })
        .collect();
    world.until(|world| joins.iter().all(|ticket| world.fates.contains_key(ticket)));
    world.decide(b, join(&rooms[0], 1, 0));
    world.kill(c);
    world.until(|world| world.nodes[a].bridge.unanswered() > 100);
    let mut most = 0;
    for _ in 0..3 {
        world.step();
        most = most.max(world.nodes[a].bridge.unanswered());
    }
    assert!(most <= 2_000, "a few batches at a time, not {most}");
    world.kill(a);
    let left = in_rosters(&mut world, &rooms).len();
    assert!((1_000..6_000).contains(&left), "it was under way: {left}");
    world.until(|world| world.nodes[b].mirror.as_ref().unwrap().nodes.len() == 1);
    world.run(2_000);
    assert_eq!(in_rosters(&mut world, &rooms), ["1"]);
    world.check();
}

#[test]
fn who_begins_alone_removes_the_members_of_all_before() {
    let mut world = World::new(20);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    for user in 1..=300 {
        world.propose(b, join(&room, user, 0), None);
    }
    world.decide(a, join(&room, 1_000, 0));
    world.run(100);
    world.kill(a);
    world.leave(b);
    world.until(|world| world.nodes[b].ended == Some(End::Left));
    assert_eq!(in_rosters(&mut world, std::slice::from_ref(&room)).len(), 301);
    let again = world.join("a");
    world.decide(again, join(&room, 1_001, 0));
    world.run(500);
    assert_eq!(in_rosters(&mut world, &[room]), ["1001"]);
    world.check();
}
