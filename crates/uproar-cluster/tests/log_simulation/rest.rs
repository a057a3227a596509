//! What must be so when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use uproar_cluster::{Answer, KeptMessage, Proposal, Reply, Room, RoomState};

use crate::scenario::Scenario;
use crate::world::{Outcome, World};

/// Within this time after the last fault every live node has Redis again, in milliseconds.
const RECOVERY_MS: u64 = 40_000;

/// Within this time a proposal has its outcome then.
const ANSWER_MS: u64 = 5_000;

/// Within this time a node that is gone is gone for all, and Redis has forgotten its members.
const GONE_MS: u64 = 16_000;

/// Heals everything, and checks what must be true.
pub(crate) fn check(scenario: &Scenario, world: &mut World) {
    heal(world);
    if world.live().is_empty() {
        world.start("z");
    }
    let is_well = |world: &World| {
        let is_well = |of: &usize| world.processes[*of].bridge.trouble().is_none();
        let begins = |of: usize| world.processes[of].is_up() && world.processes[of].mirror.is_none();
        let live = world.live();
        !live.is_empty() && live.iter().all(is_well) && !(0..world.processes.len()).any(begins)
    };
    assert!(world.until(RECOVERY_MS, is_well), "no recovery: {}", states(world));
    world.run(GONE_MS);
    assert!(is_well(world), "it does not last: {}", states(world));
    touch_rooms(world);
    world.run(2_000);
    check_outcomes(scenario, world);
    check_order(world);
    check_nodes(world);
    check_numbers(world);
    check_redis(world);
    check_newcomer(world);
}

fn states(world: &World) -> String {
    let up = world.processes.iter().filter(|process| process.is_up());
    let states: Vec<String> =
        up.map(|process| format!("{} {:?}", process.name(), process.bridge.trouble())).collect();
    states.join(", ")
}

fn heal(world: &mut World) {
    let now_ms = world.now_ms;
    world.breaks = 0;
    world.owner_ms_max = 5;
    world.redis.replicates = true;
    (world.down_ms, world.stopped_ms) = (world.down_ms.min(now_ms), world.stopped_ms.min(now_ms));
    for process in &mut world.processes {
        process.paused_ms = process.paused_ms.min(now_ms);
        process.full_ms = process.full_ms.min(now_ms);
        process.line.stalled_ms = process.line.stalled_ms.min(now_ms);
    }
    for of in 0..world.processes.len() {
        world.drive(of);
    }
}

/// Every room takes a message from every node, at the latest when it was repaired.
fn touch_rooms(world: &mut World) {
    for of in world.live() {
        for room in world.rooms_of(of) {
            let begun_ms = world.now_ms;
            loop {
                let message = |ticket: u64| Proposal::Message {
                    room: room.clone(),
                    user: 0,
                    visit: None,
                    account: None,
                    request: None,
                    message: ticket.to_string().into(),
                };
                let ticket = world.propose(of, message, None);
                let is_decided = |world: &World| world.tickets[&ticket].outcome.is_some();
                assert!(world.until(ANSWER_MS, is_decided), "a message has no outcome: {}", states(world));
                match &world.tickets[&ticket].outcome {
                    Some(Outcome::Decided { answer: Answer::Damaged, .. }) => {
                        assert!(world.now_ms - begun_ms < 20_000, "{room:?} is damaged for ever");
                        world.run(500);
                    }
                    Some(Outcome::Decided { answer: Answer::Sent(_), .. }) => break,
                    other => panic!("{room:?}: {other:?}"),
                }
            }
        }
    }
}

/// Every proposal has an outcome, which is what the log has.
fn check_outcomes(scenario: &Scenario, world: &World) {
    let times = world.record.times_sent();
    if let Some((ticket, times)) = times.iter().find(|(_, times)| **times > 1) {
        panic!("message {ticket} is {times} times in the log");
    }
    let tags: BTreeSet<_> = world.record.entries.values().map(|entry| &entry.tag).collect();
    let epoch = world.live().first().map(|of| world.processes[*of].mirror.clone().unwrap().epoch).unwrap();
    for (number, ticket) in &world.tickets {
        match &ticket.outcome {
            None => {
                let process = &world.processes[ticket.of];
                assert!(!process.is_up(), "ticket {number} of {} has no outcome", process.name());
            }
            Some(Outcome::Refused) => {
                assert!(!world.record.messages.contains(number), "ticket {number} was refused, and is sent");
            }
            Some(Outcome::Decided { tag, epoch: its, .. }) if !tags.contains(tag) => {
                assert!(*its != epoch, "{tag} is lost, and the epoch is the same");
                assert!(!scenario.keeps_everything(), "{tag} is lost, though Redis has lost nothing");
                assert!(!scenario.keeps_nodes(), "{tag} is lost, though all nodes were there");
            }
            Some(_) => {}
        }
    }
}

/// All have the entries that the log has, in its order.
fn check_order(world: &World) {
    for of in world.live() {
        let process = &world.processes[of];
        for (number, tag) in &process.applied {
            let noted = world.record.entries.get(number).map(|entry| &entry.tag);
            assert_eq!(noted, Some(tag), "{}: entry {number}", process.name());
        }
        let last = world.record.entries.last_key_value().map_or(0, |(number, _)| *number);
        let read = process.bridge.last_read();
        assert!(read + 3 > last, "{} has read {read} of {last}", process.name());
    }
}

/// Redis and all nodes know who is alive.
fn check_nodes(world: &World) {
    let alive: BTreeMap<String, String> = world
        .live()
        .into_iter()
        .map(|of| &world.processes[of].life)
        .map(|life| (life.node.to_string(), life.incarnation.to_string()))
        .collect();
    let known: BTreeMap<String, String> = pairs(world, &world.keys.nodes())
        .into_iter()
        .map(|(node, state)| (node, state.split(' ').next().unwrap().to_owned()))
        .collect();
    assert_eq!(known, alive, "the nodes that Redis knows");
    for of in world.live() {
        let mirror = world.processes[of].mirror.as_ref().unwrap();
        let known: BTreeMap<String, String> =
            mirror.nodes.values().map(|tag| (tag.node.to_string(), tag.incarnation.to_string())).collect();
        assert_eq!(known, alive, "the nodes that {} knows", world.processes[of].name());
    }
}

/// Nobody has a block of user ids twice, unless a log was begun anew because nobody had the old one.
fn check_numbers(world: &World) {
    let mut blocks = BTreeSet::new();
    for (proposal, answer) in world.record.entries.values().flat_map(|entry| entry.decisions()) {
        if let (Proposal::Numbers, Answer::Numbers(block)) = (proposal, answer) {
            assert!(blocks.insert(*block), "block {block} was given out twice");
        }
    }
}

/// What Redis has beside the log is what the nodes have.
fn check_redis(world: &World) {
    for of in world.live() {
        let name = world.processes[of].name();
        let mirror = world.processes[of].mirror.as_ref().unwrap();
        let rooms: BTreeMap<String, String> = pairs(world, &world.keys.rooms()).into_iter().collect();
        let own: BTreeSet<String> = mirror.rooms.keys().map(|room| room.to_string()).collect();
        assert_eq!(rooms.keys().cloned().collect::<BTreeSet<_>>(), own, "rooms of {name}");
        for (room, state) in &mirror.rooms {
            let of_redis = &rooms[room.as_ref()];
            let begin = format!("{} {} ", state.opened, state.last);
            assert!(of_redis.starts_with(&begin), "{name}, {room}: {begin}, and in Redis {of_redis}");
            check_room(world, &name, &Room { name: room.clone(), opened: state.opened }, state);
        }
    }
}

fn check_room(world: &World, name: &str, room: &Room, state: &RoomState) {
    let history = world.redis.call(&["LRANGE", &world.keys.history(&room.name), "0", "-1"]);
    let expected = state.history.iter().map(|message| Reply::Text(KeptMessage::write(message).into()));
    assert_eq!(history, Reply::List(expected.collect()), "{name}: history of {room:?}");
    let roster: BTreeMap<String, String> = pairs(world, &world.keys.roster(&room.name)).into_iter().collect();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let expected: BTreeMap<String, String> =
        state.members.iter().map(|(user, member)| (user.to_string(), text(member.write()))).collect();
    assert_eq!(roster, expected, "{name}: roster of {room:?}");
}

/// Who begins now has the same.
fn check_newcomer(world: &mut World) {
    let newcomer = world.start("y");
    let has_begun = |world: &World| world.processes[newcomer].is_live();
    assert!(world.until(ANSWER_MS, has_begun), "a node does not begin: {}", states(world));
    world.run(1_500);
    let expected = world.processes[newcomer].mirror.clone().unwrap();
    for of in world.live() {
        let (name, mirror) = (world.processes[of].name(), world.processes[of].mirror.as_ref().unwrap());
        assert_eq!((&mirror.epoch, mirror.numbers), (&expected.epoch, expected.numbers), "{name}");
        for (room, state) in &mirror.rooms {
            let theirs = expected.rooms.get(room).unwrap_or_else(|| panic!("{name}: no {room} for others"));
            let same = (state.opened, state.last, &state.history, &state.members);
            let their_same = (theirs.opened, theirs.last, &theirs.history, &theirs.members);
            assert_eq!(same, their_same, "{name}: {room}");
        }
        assert_eq!(mirror.rooms.len(), expected.rooms.len(), "{name}");
    }
}

/// The fields and values of a hash.
fn pairs(world: &World, key: &str) -> Vec<(String, String)> {
    let Reply::List(values) = world.redis.call(&["HGETALL", key]) else { panic!("{key} is no hash") };
    let text = |reply: &Reply| match reply {
        Reply::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    };
    values.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}
