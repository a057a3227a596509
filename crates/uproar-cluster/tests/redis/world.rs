//! Nodes with bridges, on one Redis, in a time of their own. Lines break, and Redis loses its end, where a test says so
//! or a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uproar_cluster::{
    Action, Answer, Bridge, Config, End, Entry, Event, Incarnation, Keys, Mirror, Proposal, Reply, Room,
    Settings,
};

use crate::server::Server;

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Decided(u64, Answer),
    Refused,
    Unknown,
}

/// What breaks a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It breaks before Redis gets the command.
    Before,
    /// It breaks before Redis answers.
    Behind,
    /// It says nothing any more.
    Silence,
    /// The answer comes after so many milliseconds, when others have gone on.
    Late(u64),
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) bridge: Bridge<u64>,
    /// What it has of the log.
    pub(crate) mirror: Option<Mirror>,
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) ended: Option<End>,
    pub(crate) rewrites: usize,
    pub(crate) repairs: usize,
    is_paused: bool,
    /// Answers on their way: when they come, and whether they are of a read.
    late: Vec<(u64, bool, Reply)>,
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) nodes: Vec<Node>,
    pub(crate) now_ms: u64,
    pub(crate) fates: BTreeMap<u64, Fate>,
    pub(crate) random: StdRng,
    /// What becomes of the next command of this node.
    pub(crate) next_fault: Option<(usize, Fault)>,
    /// In a thousand actions so many lines break.
    pub(crate) faults: u32,
    /// The node of each ticket.
    proposers: BTreeMap<u64, usize>,
    killed: BTreeSet<usize>,
    /// True where each message has another text.
    pub(crate) has_own_texts: bool,
    next_ticket: u64,
    next_incarnation: u64,
}

pub(crate) const HISTORY: usize = 8;

const STEP_MS: u64 = 10;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            server: Server::start_with(&["--appendonly", "no"]),
            nodes: Vec::new(),
            now_ms: 1_000,
            fates: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            next_fault: None,
            faults: 0,
            proposers: BTreeMap::new(),
            killed: BTreeSet::new(),
            has_own_texts: false,
            next_ticket: 1,
            next_incarnation: 1,
        }
    }

    /// Starts a node. Returns its place.
    pub(crate) fn start(&mut self, name: &str) -> usize {
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let config = Config {
            node: name.parse().unwrap(),
            incarnation: Incarnation(incarnation),
            keys: Keys::of_partition(0),
            settings: Settings {
                history: HISTORY,
                log_bytes: 64 << 20,
                left_ms: 60_000,
                agreed: "the same".to_owned(),
            },
            replicas: 0,
        };
        let mut bridge = Bridge::new(config, self.now_ms);
        bridge.handle_connected(self.now_ms);
        self.nodes.push(Node {
            name: name.to_owned(),
            bridge,
            mirror: None,
            entries: Vec::new(),
            ended: None,
            rewrites: 0,
            repairs: 0,
            is_paused: false,
            late: Vec::new(),
        });
        self.nodes.len() - 1
    }

    /// Starts a node and waits until it has begun.
    pub(crate) fn join(&mut self, name: &str) -> usize {
        let node = self.start(name);
        self.until(|world| world.nodes[node].mirror.is_some());
        node
    }

    pub(crate) fn propose(&mut self, node: usize, proposal: Proposal, timeout_ms: Option<u64>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.proposers.insert(ticket, node);
        self.nodes[node].bridge.propose(proposal, Some(ticket), timeout_ms, self.now_ms);
        ticket
    }

    /// Proposes, and waits for what is decided.
    pub(crate) fn decide(&mut self, node: usize, proposal: Proposal) -> Answer {
        let ticket = self.propose(node, proposal, None);
        self.until(|world| world.fates.contains_key(&ticket));
        match &self.fates[&ticket] {
            Fate::Decided(_, answer) => answer.clone(),
            other => panic!("{other:?}: {:?}", self.nodes[node].ended),
        }
    }

    pub(crate) fn open(&mut self, node: usize, name: &str) -> Room {
        match self.decide(node, Proposal::Open { name: name.into() }) {
            Answer::Opened(opened) => Room { name: name.into(), opened },
            other => panic!("{other:?}"),
        }
    }

    /// A node ends in order.
    pub(crate) fn leave(&mut self, node: usize) {
        self.nodes[node].bridge.leave(self.now_ms);
    }

    /// A node stops as if its process was stopped, and its lines stay open.
    pub(crate) fn pause(&mut self, node: usize, is_paused: bool) {
        self.nodes[node].is_paused = is_paused;
    }

    /// A node ends without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].is_paused = true;
        self.nodes[node].ended = Some(End::Fenced);
        self.killed.insert(node);
    }

    pub(crate) fn disconnect(&mut self, node: usize) {
        self.nodes[node].late.clear();
        self.nodes[node].bridge.handle_disconnected();
    }

    pub(crate) fn connect(&mut self, node: usize) {
        let now_ms = self.now_ms;
        self.nodes[node].bridge.handle_connected(now_ms);
    }

    /// All nodes do what there is to do, and some time passes.
    pub(crate) fn step(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_paused {
                self.act(node);
            }
        }
        self.now_ms += STEP_MS;
        if self.nodes.iter().any(|node| node.bridge.trouble().is_some()) {
            // The clock of Redis goes slower than that of this world.
            let age = "if redis.call('EXISTS', KEYS[1]) == 1 then
                for _, name in ipairs({'begun', 'progress'}) do redis.call('HINCRBY', KEYS[1], name, ARGV[1]) end
            end";
            self.server.call(&["EVAL", age, "1", &Keys::of_partition(0).recovery(), &format!("-{STEP_MS}")]);
        }
    }

    pub(crate) fn run(&mut self, milliseconds: u64) {
        let end = self.now_ms + milliseconds;
        while self.now_ms < end {
            self.step();
        }
    }

    pub(crate) fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if is_so(self) {
                return;
            }
            self.step();
        }
        let troubles: Vec<_> = self.nodes.iter().map(|node| (node.bridge.trouble(), &node.ended)).collect();
        panic!("it does not happen: {troubles:?}");
    }

    fn act(&mut self, node: usize) {
        let now_ms = self.now_ms;
        self.nodes[node].bridge.handle_tick(now_ms);
        let late = &mut self.nodes[node].late;
        let (come, still) = std::mem::take(late).into_iter().partition(|(due_ms, ..)| *due_ms <= now_ms);
        *late = still;
        let come: Vec<(u64, bool, Reply)> = come;
        for (_, is_read, reply) in come {
            let bridge = &mut self.nodes[node].bridge;
            if is_read { bridge.handle_read(&reply, now_ms) } else { bridge.handle_reply(&reply, now_ms) }
        }
        self.collect(node);
        for _ in 0..4 {
            let Some(action) = self.nodes[node].bridge.poll_action(now_ms) else { break };
            let fault = match self.next_fault {
                Some((its, fault)) if its == node && matches!(action, Action::Run(_)) => {
                    self.next_fault = None;
                    fault
                }
                _ => self.fault(),
            };
            self.perform(node, &action, fault);
            self.collect(node);
        }
    }

    fn fault(&mut self) -> Fault {
        if self.random.random_range(0..1_000) >= self.faults {
            return Fault::None;
        }
        let late_ms = self.random.random_range(20..1_500);
        [Fault::Before, Fault::Behind, Fault::Silence, Fault::Late(late_ms)][self.random.random_range(0..4)]
    }

    fn perform(&mut self, node: usize, action: &Action, fault: Fault) {
        let now_ms = self.now_ms;
        let reply = match action {
            Action::Reconnect { .. } => {
                self.nodes[node].late.clear();
                return self.nodes[node].bridge.handle_connected(now_ms);
            }
            _ if fault == Fault::Before => None,
            Action::Run(command) => Some(self.server.run(command)),
            Action::Read { behind, .. } => Some(self.read(*behind)),
        };
        let bridge = &mut self.nodes[node].bridge;
        match (fault, action, reply) {
            (Fault::None, Action::Run(_), Some(reply)) => bridge.handle_reply(&reply, now_ms),
            (Fault::None, Action::Read { .. }, Some(reply)) => bridge.handle_read(&reply, now_ms),
            // The bridge finds out by itself.
            (Fault::Silence, ..) => {}
            (Fault::Late(ms), action, Some(reply)) => {
                let is_read = matches!(action, Action::Read { .. });
                self.nodes[node].late.push((now_ms + ms, is_read, reply));
            }
            _ => {
                self.nodes[node].late.clear();
                let bridge = &mut self.nodes[node].bridge;
                bridge.handle_disconnected();
                bridge.handle_connected(now_ms);
            }
        }
    }

    fn read(&mut self, behind: u64) -> Reply {
        let id = format!("{behind}-0");
        let reply = self.server.call(&["XREAD", "COUNT", "16", "STREAMS", &Keys::of_partition(0).log(), &id]);
        match reply {
            Reply::List(streams) => match &streams[0] {
                Reply::List(stream) => stream[1].clone(),
                other => panic!("{other:?}"),
            },
            reply => reply,
        }
    }

    fn collect(&mut self, place: usize) {
        while let Some(event) = self.nodes[place].bridge.poll_event() {
            let node = &mut self.nodes[place];
            match event {
                Event::Begun(mirror) => node.mirror = Some(*mirror),
                Event::Entry { entry, tickets } => {
                    let mirror = node.mirror.as_mut().unwrap();
                    mirror.apply(&entry);
                    for (ticket, answer) in tickets.iter().zip(&entry.answers) {
                        if let Some(ticket) = ticket {
                            let fate = Fate::Decided(entry.number, answer.clone());
                            let before = self.fates.insert(*ticket, fate);
                            assert_eq!(before, None, "ticket {ticket} has two outcomes");
                        }
                    }
                    node.entries.push(entry);
                }
                Event::Replicated { .. } => {}
                Event::Refused(ticket) => {
                    assert_eq!(
                        self.fates.insert(ticket, Fate::Refused),
                        None,
                        "ticket {ticket} has two outcomes"
                    );
                }
                Event::Damaged { room, entry } => {
                    node.repairs += 1;
                    if let Some(state) = node.mirror.as_ref().unwrap().rooms.get(&room) {
                        node.bridge.repair(&room, entry, state);
                    }
                }
                Event::Rewrite => {
                    node.rewrites += 1;
                    let mirror = node.mirror.as_ref().unwrap();
                    node.bridge.rewrite(mirror.rooms.clone(), &mirror.left, &mirror.terms);
                }
                Event::Ended { end, tickets } => {
                    node.ended = Some(end);
                    for ticket in tickets {
                        assert_eq!(
                            self.fates.insert(ticket, Fate::Unknown),
                            None,
                            "ticket {ticket} has two outcomes"
                        );
                    }
                }
            }
        }
    }

    /// Nodes that have begun and not ended.
    pub(crate) fn live(&self) -> Vec<usize> {
        let is_live = |node: &usize| self.nodes[*node].mirror.is_some() && self.nodes[*node].ended.is_none();
        (0..self.nodes.len()).filter(is_live).collect()
    }

    /// Nobody got a block of user ids twice.
    fn check_numbers(&self) {
        let mut blocks = BTreeSet::new();
        for fate in self.fates.values() {
            if let Fate::Decided(_, Answer::Numbers(block)) = fate {
                assert!(blocks.insert(block), "block {block} was given out twice");
            }
        }
    }

    /// Lets everything come to rest, and checks that all nodes, and Redis, have the same.
    pub(crate) fn check(&mut self) {
        self.faults = 0;
        // A recovery may have to begin again, because the node with the longest log has ended.
        self.until(|world| world.live().iter().all(|node| world.nodes[*node].bridge.trouble().is_none()));
        // Whoever is to be declared gone is.
        self.run(15_000);
        let is_open =
            |(ticket, node): &(&u64, &usize)| !self.killed.contains(node) && !self.fates.contains_key(ticket);
        if let Some((ticket, node)) = self.proposers.iter().find(is_open) {
            let Node { name, bridge, ended, .. } = &self.nodes[*node];
            panic!("ticket {ticket} of {name} has no outcome: {ended:?} {bridge:#?}");
        }
        self.check_order();
        self.check_messages();
        self.check_numbers();
        let late = self.join("late");
        self.run(200);
        let expected = self.nodes[late].mirror.clone().unwrap();
        for node in self.live() {
            let Node { name, mirror, .. } = &self.nodes[node];
            let mirror = mirror.as_ref().unwrap();
            // Which batch of a node was last differs with how far each has read.
            let ids = |mirror: &Mirror| -> BTreeMap<_, _> {
                mirror.nodes.values().map(|tag| (tag.node.to_string(), tag.incarnation)).collect()
            };
            assert_eq!(ids(mirror), ids(&expected), "{name}");
            assert_eq!((&mirror.epoch, mirror.numbers), (&expected.epoch, expected.numbers), "{name}");
            let mut names: Vec<_> = mirror.rooms.keys().collect();
            let mut expected_names: Vec<_> = expected.rooms.keys().collect();
            names.sort();
            expected_names.sort();
            assert_eq!(names, expected_names, "{name}");
            for (room, state) in &mirror.rooms {
                let theirs = &expected.rooms[room];
                assert_eq!((state.opened, state.last), (theirs.opened, theirs.last), "{name} {room}");
                assert_eq!(state.history, theirs.history, "{name} {room}");
                assert_eq!(state.members, theirs.members, "{name} {room}");
            }
        }
        self.check_rosters(late);
    }

    /// In the end Redis has no members whose node is gone.
    fn check_rosters(&mut self, node: usize) {
        // If all other nodes are gone, this one has still to find out.
        self.run(15_000);
        let rooms = self.nodes[node].mirror.as_ref().unwrap().rooms.clone();
        for (room, state) in rooms {
            let users = self.server.texts(&["HKEYS", &Keys::of_partition(0).roster(&room)]);
            let users: BTreeSet<u64> = users.iter().map(|user| user.parse().unwrap()).collect();
            assert!(users.iter().eq(state.members.keys()), "{room}: {users:?}, {:?}", state.members);
        }
    }

    /// Where Redis has lost nothing for good, nobody is told to begin again.
    pub(crate) fn nobody_has_ended(&self) {
        let ended: Vec<_> = self.nodes.iter().map(|node| &node.ended).collect();
        assert!(ended.iter().all(|end| end.is_none()), "{ended:?}");
    }

    /// What was sent is in the log once.
    fn check_messages(&self) {
        for node in self.live() {
            let Node { name, entries, .. } = &self.nodes[node];
            let mut texts = BTreeSet::new();
            for (proposal, answer) in entries.iter().flat_map(|entry| entry.decisions()) {
                if let (Proposal::Message { message, .. }, Answer::Sent(_)) = (proposal, answer) {
                    assert!(
                        !self.has_own_texts || texts.insert(message.clone()),
                        "{name}: {message:?} came twice"
                    );
                }
            }
        }
    }

    /// No two nodes have seen another entry under the same number, and none has missed one.
    fn check_order(&self) {
        let mut tags = BTreeMap::new();
        for node in self.live() {
            let entries = &self.nodes[node].entries;
            assert!(entries.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
            for entry in entries {
                let known = tags.entry(entry.number).or_insert_with(|| entry.tag.clone());
                assert_eq!(*known, entry.tag, "{}", self.nodes[node].name);
            }
        }
    }

    /// What another primary would have.
    pub(crate) fn snapshot(&mut self) -> Vec<(String, Vec<u8>)> {
        let keys = self.server.texts(&["KEYS", "*"]);
        let mut dump = |key: String| match self.server.call(&["DUMP", &key]) {
            Reply::Text(dump) => (key, dump.to_vec()),
            other => panic!("{other:?}"),
        };
        keys.into_iter().map(&mut dump).collect()
    }

    /// That one takes over.
    pub(crate) fn fail_over(&mut self, to: &[(String, Vec<u8>)]) {
        self.server.call(&["FLUSHALL"]);
        for (key, dump) in to {
            self.server.restore(key, dump);
        }
        self.server.change_life();
    }
}
