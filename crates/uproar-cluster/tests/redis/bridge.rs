//! Bridges of several nodes on one Redis.

use std::time::Instant;

use rand::RngExt;
use uproar_cluster::{Answer, End, Proposal, Room};

use crate::node::{join, keys, leave, publish, say};
use crate::world::{Fate, World};

#[test]
fn nodes_begin_and_have_the_same() {
    let mut world = World::new(1);
    let a = world.join("a");
    let room = world.open(a, "general");
    assert_eq!(world.decide(a, join(&room, 1, 0)), Answer::Done);
    assert_eq!(world.decide(a, say(&room, 1, 0, "one")), Answer::Sent(1));
    let b = world.join("b");
    assert_eq!(world.open(b, "general"), room);
    assert_eq!(world.decide(b, join(&room, 2, 0)), Answer::Done);
    let tickets: Vec<u64> =
        (0..1_000).map(|n| world.propose(b, say(&room, 2, 0, &n.to_string()), None)).collect();
    world.until(|world| tickets.iter().all(|ticket| world.fates.contains_key(ticket)));
    let ids: Vec<_> = tickets.iter().map(|ticket| world.fates[ticket].clone()).collect();
    assert!(
        ids.iter()
            .enumerate()
            .all(|(n, fate)| matches!(fate, Fate::Decided(_, Answer::Sent(id)) if *id == n as u64 + 2))
    );
    world.nobody_has_ended();
    world.check();
}

#[test]
fn a_node_that_is_killed_is_gone_for_all_with_its_members() {
    let mut world = World::new(2);
    let (a, b, c) = (world.join("a"), world.join("b"), world.join("c"));
    let room = world.open(a, "general");
    world.decide(a, join(&room, 1, 0));
    world.decide(b, join(&room, 2, 0));
    world.kill(b);
    let begun = world.now_ms;
    world.until(|world| {
        let members = |node: usize| world.nodes[node].mirror.as_ref().unwrap().rooms["general"].members.len();
        members(a) == 1 && members(c) == 1
    });
    assert!((9_000..12_000).contains(&(world.now_ms - begun)), "after {} ms", world.now_ms - begun);
    world.check();
    // Redis forgets them, too.
    assert_eq!(world.server.texts(&["HKEYS", &keys().roster("general")]), ["1"]);
}

#[test]
fn a_node_that_sleeps_too_long_finds_itself_gone() {
    let mut world = World::new(3);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(b, join(&room, 2, 0));
    world.pause(b, true);
    world.run(8_000);
    world.pause(b, false);
    assert!(world.nodes[b].bridge.is_trusted(world.now_ms));
    world.run(500);
    assert_eq!(world.nodes[b].ended, None, "8 s are not too long");
    world.pause(b, true);
    world.run(14_000);
    assert!(!world.nodes[b].bridge.is_trusted(world.now_ms), "it takes no input until it knows");
    world.pause(b, false);
    world.run(500);
    assert_eq!(world.nodes[b].ended, Some(End::Fenced));
    let again = world.join("b");
    assert_eq!(world.decide(again, join(&room, 2, 1)), Answer::Done);
    world.check();
}

#[test]
fn a_node_that_finds_no_redis_takes_input_until_there_is_one() {
    let mut world = World::new(4);
    let a = world.join("a");
    let bridge = &mut world.nodes[a].bridge;
    bridge.handle_disconnected();
    let found_ms = world.now_ms + 20_000;
    for now_ms in (world.now_ms..found_ms).step_by(1_000) {
        bridge.handle_tick(now_ms);
        assert!(bridge.is_trusted(now_ms), "after {} ms", now_ms - world.now_ms);
    }
    bridge.handle_connected(found_ms);
    assert!(!bridge.is_trusted(found_ms), "others may have gone on without it, which the next answer tells");
}

#[test]
fn where_redis_stands_still_nobody_is_gone() {
    let mut world = World::new(4);
    let (a, b) = (world.join("a"), world.join("b"));
    for node in [a, b] {
        world.disconnect(node);
    }
    world.run(60_000);
    for node in [a, b] {
        world.connect(node);
    }
    world.run(3_000);
    assert_eq!((&world.nodes[a].ended, &world.nodes[b].ended), (&None, &None));
    world.nobody_has_ended();
    world.check();
}

#[test]
fn a_second_process_of_a_name_ends_the_first() {
    let mut world = World::new(5);
    let first = world.join("a");
    let second = world.join("a");
    world.run(500);
    assert_eq!(world.nodes[first].ended, Some(End::Replaced));
    assert_eq!(world.nodes[second].ended, None);
}

#[test]
fn what_was_never_sent_is_refused_when_its_time_is_over() {
    let mut world = World::new(6);
    let a = world.join("a");
    let room = world.open(a, "general");
    world.decide(a, join(&room, 1, 0));
    world.disconnect(a);
    let message = world.propose(a, say(&room, 1, 0, "x"), Some(3_000));
    let leave = world.propose(a, leave(&room, 1, 0), None);
    world.run(2_900);
    assert_eq!(world.fates.get(&message), None);
    world.run(200);
    assert_eq!(world.fates.get(&message), Some(&Fate::Refused));
    world.run(10_000);
    world.connect(a);
    world.until(|world| world.fates.contains_key(&leave));
    assert!(matches!(&world.fates[&leave], Fate::Decided(_, Answer::Done)));
    world.nobody_has_ended();
    world.check();
}

#[test]
fn a_full_redis_refuses_and_goes_on_later() {
    let mut world = World::new(7);
    let a = world.join("a");
    let room = world.open(a, "general");
    world.decide(a, join(&room, 1, 0));
    world.server.call(&["CONFIG", "SET", "maxmemory", "1"]);
    let message = world.propose(a, say(&room, 1, 0, "x"), Some(3_000));
    world.run(1_000);
    assert!(
        world.nodes[a].bridge.trouble().unwrap().contains("OOM"),
        "{:?}",
        world.nodes[a].bridge.trouble()
    );
    world.run(4_000);
    assert_eq!(world.fates.get(&message), Some(&Fate::Refused));
    world.server.call(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(world.decide(a, say(&room, 1, 0, "y")), Answer::Sent(1));
    assert_eq!(world.nodes[a].bridge.trouble(), None);
    world.nobody_has_ended();
    world.check();
}

#[test]
fn a_restart_without_loss_costs_a_pause_and_no_epoch() {
    let mut world = World::new(8);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(a, join(&room, 1, 0));
    let epoch = world.nodes[a].mirror.as_ref().unwrap().epoch.clone();
    assert!(!epoch.is_empty());
    world.server.change_life();
    let begun = world.now_ms;
    assert_eq!(world.decide(b, publish(&room, "x")), Answer::Sent(1));
    assert!(world.now_ms - begun < 1_500, "{} ms", world.now_ms - begun);
    assert_eq!(world.nodes[b].mirror.as_ref().unwrap().epoch, epoch);
    world.nobody_has_ended();
    world.check();
}

#[test]
fn a_lost_end_comes_back_from_who_remembers_it() {
    let mut world = World::new(9);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(a, join(&room, 1, 0));
    let snapshot = world.snapshot();
    for n in 0..20 {
        world.decide(a, say(&room, 1, 0, &n.to_string()));
    }
    let epoch = world.nodes[a].mirror.as_ref().unwrap().epoch.clone();
    world.fail_over(&snapshot);
    assert_eq!(world.decide(b, publish(&room, "x")), Answer::Sent(21));
    assert_eq!(world.nodes[b].mirror.as_ref().unwrap().epoch, epoch, "nobody has lost anything");
    assert_eq!(world.nodes.iter().map(|node| node.rewrites).sum::<usize>(), 0);
    world.nobody_has_ended();
    world.check();
}

#[test]
fn a_lost_end_that_nobody_remembers_costs_the_epoch() {
    let mut world = World::new(10);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(b, publish(&room, "one"));
    let snapshot = world.snapshot();
    world.run(50);
    // Only b has it.
    world.pause(a, true);
    assert_eq!(world.decide(b, publish(&room, "two")), Answer::Sent(2));
    world.kill(b);
    world.fail_over(&snapshot);
    world.pause(a, false);
    let epoch = world.nodes[a].mirror.as_ref().unwrap().epoch.clone();
    let (begun_ms, begun) = (world.now_ms, Instant::now());
    let Answer::Sent(id) = world.decide(a, publish(&room, "three")) else { panic!() };
    let waited_ms = world.now_ms - begun_ms;
    // For Redis, the time of this machine goes by as well.
    let real_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    assert!(waited_ms + real_ms >= 4_900 && waited_ms < 6_000, "it waits 5 s for b: {waited_ms} ms");
    assert_eq!(id, 2 + 65_536);
    assert_ne!(world.nodes[a].mirror.as_ref().unwrap().epoch, epoch);
    world.check();
}

#[test]
fn who_has_seen_what_is_lost_and_comes_late_starts_anew() {
    let mut world = World::new(11);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    let snapshot = world.snapshot();
    world.run(50);
    world.pause(a, true);
    assert_eq!(world.decide(b, publish(&room, "one")), Answer::Sent(1));
    world.pause(b, true);
    world.fail_over(&snapshot);
    world.pause(a, false);
    world.run(7_000);
    world.pause(b, false);
    world.run(2_000);
    assert_eq!(world.nodes[b].ended, Some(End::OtherLog));
    assert_eq!(world.nodes[a].ended, None);
    world.check();
}

#[test]
fn when_redis_has_lost_everything_it_is_written_again() {
    let mut world = World::new(12);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    let empty = world.open(a, "empty");
    for n in 0..2_500 {
        world.propose(a, join(&room, 1_000 + n, 0), None);
    }
    for n in 1..=12 {
        assert_eq!(world.decide(b, publish(&room, &n.to_string())), Answer::Sent(n));
    }
    let epoch = world.nodes[a].mirror.as_ref().unwrap().epoch.clone();
    world.run(100);
    let before = world.nodes[b].mirror.clone().unwrap();
    world.server.call(&["FLUSHALL"]);
    assert_eq!(world.decide(b, publish(&room, "x")), Answer::Sent(12 + 65_537));
    assert_eq!(world.nodes.iter().map(|node| node.rewrites).sum::<usize>(), 1);
    assert_eq!(world.decide(a, publish(&empty, "x")), Answer::Sent(65_537));
    let after = world.nodes[b].mirror.as_ref().unwrap();
    assert_ne!(after.epoch, epoch);
    assert_eq!(after.rooms["general"].members, before.rooms["general"].members);
    world.nobody_has_ended();
    world.check();
}

#[test]
fn large_rooms_are_read_and_written_in_parts() {
    let mut world = World::new(21);
    let a = world.join("a");
    let rooms: Vec<Room> = (0..6).map(|n| world.open(a, &format!("room {n}"))).collect();
    for room in &rooms[..5] {
        for n in 0..8 {
            assert_eq!(world.decide(a, publish(room, &n.to_string().repeat(900 << 10))), Answer::Sent(n + 1));
        }
    }
    // More members than one command takes.
    for n in 0..50_000 {
        let member = "m".repeat(100).into();
        world.propose(a, Proposal::Join { room: rooms[5].clone(), user: n, visit: 0, member }, None);
    }
    world.until(|world| world.nodes[a].bridge.unanswered() == 0);
    world.run(100);
    let before = world.nodes[a].mirror.as_ref().unwrap().rooms.clone();
    world.server.bytes_most = 0;
    let b = world.join("b");
    assert_eq!(world.nodes[b].mirror.as_ref().unwrap().rooms, before);
    assert!(world.server.bytes_most < 2 << 20, "{} bytes were read at once", world.server.bytes_most);
    world.server.call(&["FLUSHALL"]);
    world.until(|world| world.nodes[a].bridge.trouble().is_some());
    world.until(|world| world.live().iter().all(|node| world.nodes[*node].bridge.trouble().is_none()));
    assert!(world.server.bytes_most > 3 << 20, "{} bytes were written at once", world.server.bytes_most);
    world.run(100);
    let c = world.join("c");
    let read = &world.nodes[c].mirror.as_ref().unwrap().rooms;
    for (name, room) in &before {
        assert_eq!((&read[name].history, &read[name].members), (&room.history, &room.members), "{name}");
    }
    world.nobody_has_ended();
}

/// The next block of user ids.
fn numbers(world: &mut World, node: usize) -> u64 {
    match world.decide(node, Proposal::Numbers) {
        Answer::Numbers(block) => block,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_block_of_user_ids_is_given_out_twice() {
    let mut world = World::new(14);
    let (a, b) = (world.join("a"), world.join("b"));
    assert_eq!(world.decide(a, Proposal::Numbers), Answer::Numbers(0));
    assert_eq!(world.decide(b, Proposal::Numbers), Answer::Numbers(1));
    let snapshot = world.snapshot();
    assert_eq!(world.decide(a, Proposal::Numbers), Answer::Numbers(2));
    world.run(50);
    world.fail_over(&snapshot);
    assert_eq!(world.decide(b, Proposal::Numbers), Answer::Numbers(3), "the lost end has come back");
    world.run(50);
    world.server.call(&["FLUSHALL"]);
    let block = numbers(&mut world, a);
    assert!(block > 3, "{block}");
    world.nobody_has_ended();
    // What only b has seen is lost with it, and that twice.
    let snapshot = world.snapshot();
    let mut blocks = vec![block];
    world.kill(b);
    for _ in 0..2 {
        let b = world.join("b");
        world.pause(a, true);
        blocks.push(numbers(&mut world, b));
        world.kill(b);
        world.fail_over(&snapshot);
        world.pause(a, false);
        world.until(|world| world.nodes[a].bridge.trouble().is_none());
        world.run(200);
    }
    blocks.push(numbers(&mut world, a));
    assert!(blocks.is_sorted_by(|one, next| one < next), "{blocks:?}");
    world.check();
}

#[test]
fn a_damaged_room_is_written_again() {
    let mut world = World::new(13);
    let (a, b) = (world.join("a"), world.join("b"));
    let room = world.open(a, "general");
    world.decide(b, join(&room, 1, 0));
    for n in 1..=20 {
        assert_eq!(world.decide(a, publish(&room, &n.to_string())), Answer::Sent(n));
    }
    world.server.call(&["SET", &keys().roster("general"), "a string"]);
    world.server.call(&["SET", &keys().history("general"), "a string"]);
    let answer = world.decide(b, say(&room, 1, 0, "x"));
    assert_eq!(answer, Answer::Damaged);
    world.run(2_500);
    assert_eq!(world.decide(b, say(&room, 1, 0, "x")), Answer::Sent(21));
    assert!(world.nodes.iter().map(|node| node.repairs).sum::<usize>() > 0);
    world.nobody_has_ended();
    world.check();
}

/// Lines break, Redis fails over with and without its end, nodes are killed and come back, at random.
#[test]
fn whatever_breaks_all_nodes_have_the_same_in_the_end() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("UPROAR_SIMULATION_FIRST").unwrap_or(1);
    for seed in first..first + number("UPROAR_SIMULATION_SEEDS").unwrap_or(25) {
        println!("seed {seed}");
        run_at_random(seed);
    }
}

fn run_at_random(seed: u64) {
    let mut world = World::new(seed);
    for name in ["a", "b", "c"] {
        world.join(name);
    }
    let rooms: Vec<Room> = (0..3).map(|n| world.open(0, &format!("room {n}"))).collect();
    world.has_own_texts = true;
    world.faults = world.random.random_range(0..60);
    let mut snapshot = world.snapshot();
    let mut messages = 0;
    for _ in 0..300 {
        let live = world.live();
        match world.random.random_range(0..100) {
            0..80 if !live.is_empty() => {
                let node = live[world.random.random_range(0..live.len())];
                let room = &rooms[world.random.random_range(0..rooms.len())];
                let (user, visit) = (world.random.random_range(1..6), world.random.random_range(0..4));
                messages += 1;
                let proposal = match world.random.random_range(0..10) {
                    0..3 => join(room, user, visit),
                    3..5 => leave(room, user, visit),
                    5 => Proposal::Delete {
                        room: room.clone(),
                        message: world.random.random_range(1..40),
                        user,
                        account: None,
                        is_admin: true,
                    },
                    6 => Proposal::Numbers,
                    7 => publish(room, &messages.to_string()),
                    _ => say(room, user, visit, &messages.to_string()),
                };
                let timeout_ms = [None, Some(3_000)][world.random.random_range(0..2)];
                world.propose(node, proposal, timeout_ms);
            }
            80..84 => snapshot = world.snapshot(),
            84..86 => world.fail_over(&snapshot),
            86..88 => world.server.change_life(),
            88 if live.len() > 1 => world.kill(live[0]),
            89 => {
                let name = ["a", "b", "c"][world.random.random_range(0..3)];
                world.start(name);
            }
            90 if !live.is_empty() => {
                let node = live[world.random.random_range(0..live.len())];
                world.pause(node, true);
                let time_ms = world.random.random_range(100..12_000);
                world.run(time_ms);
                world.pause(node, false);
            }
            91 if live.len() > 1 => world.leave(live[live.len() - 1]),
            92 => {
                let time_ms = world.random.random_range(100..3_000);
                world.run(time_ms);
            }
            _ => {}
        }
        world.step();
    }
    world.check();
}
