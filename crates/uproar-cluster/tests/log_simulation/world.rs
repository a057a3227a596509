//! Time, and what happens next in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uproar_cluster::{Answer, Command, KeptMember, Keys, Proposal, Reply, Room, Tag};

use crate::model::Redis;
use crate::model::redis::Copy;
use crate::process::{Common, Flight, Given, Process};
use crate::record::Record;
use crate::trace::{Trace, short, words_of};

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in this entry. The epoch is that of the node by then.
    Decided {
        tag: Tag,
        answer: Answer,
        epoch: Arc<str>,
    },
    Refused,
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Ticket {
    /// The process.
    pub(crate) of: usize,
    pub(crate) outcome: Option<Outcome>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Orphan(usize),
    Connect(usize),
    Command(usize),
    Read(usize),
    Given(usize),
    Due(usize),
    Begin(usize),
}

pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) keys: Keys,
    pub(crate) common: Common,
    pub(crate) now_ms: u64,
    pub(crate) random: StdRng,
    pub(crate) processes: Vec<Process>,
    pub(crate) record: Record,
    pub(crate) tickets: BTreeMap<u64, Ticket>,
    pub(crate) trace: Trace,
    /// What was on its way to Redis on lines that were closed, each with the time when it arrives.
    orphans: Vec<(u64, Command)>,
    /// Names that begin again, each with the time.
    pub(crate) beginnings: Vec<(u64, String)>,
    /// Until then Redis is not there; connections are refused.
    pub(crate) down_ms: u64,
    /// Until then it stands still.
    pub(crate) stopped_ms: u64,
    /// In a thousand commands on so many the line breaks.
    pub(crate) breaks: u32,
    /// How long an answer of the owner takes at most, in milliseconds.
    pub(crate) owner_ms_max: u64,
    /// The clock of Redis less that of this world.
    pub(crate) clock_ahead_ms: u64,
    pub(crate) disk: Copy,
    /// True once the primary has lost something. Its replica follows it in that.
    pub(crate) has_lost: bool,
    next_ticket: u64,
    next_incarnation: u64,
}

/// Wakes at one time, or refusals within a second, from which on a process counts as one that spins.
const SPINS: u32 = 100;

impl World {
    pub(crate) fn new(seed: u64, common: Common, trace: Trace) -> Self {
        let redis = Redis::new(common.replicas > 0);
        Self {
            disk: redis.copy(),
            redis,
            keys: Keys::of_partition(0),
            common,
            now_ms: 1_000,
            random: StdRng::seed_from_u64(seed),
            processes: Vec::new(),
            record: Record::default(),
            tickets: BTreeMap::new(),
            trace,
            orphans: Vec::new(),
            beginnings: Vec::new(),
            down_ms: 0,
            stopped_ms: 0,
            breaks: 0,
            owner_ms_max: 5,
            clock_ahead_ms: 1_700_000_000_000,
            has_lost: false,
            next_ticket: 1,
            next_incarnation: 1,
        }
    }

    pub(crate) fn chance(&mut self, of_thousand: u32) -> bool {
        self.random.random_range(0..1_000) < of_thousand
    }

    /// One of `0..count`.
    pub(crate) fn one_of(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        self.random.random_range(from..=to)
    }

    pub(crate) fn note(&self, words: impl FnOnce() -> String) {
        self.trace.note(self.now_ms, words);
    }

    /// How long something takes on a line: mostly little.
    pub(crate) fn latency(&mut self) -> u64 {
        if self.chance(50) { self.between(1, 60) } else { self.between(1, 3) }
    }

    pub(crate) fn start(&mut self, name: &str) -> usize {
        let process = Process::new(name, self.next_incarnation, &self.common, self.now_ms);
        self.next_incarnation += 1;
        self.note(|| format!("{} starts", process.name()));
        self.processes.push(process);
        self.processes.len() - 1
    }

    pub(crate) fn propose(
        &mut self,
        of: usize,
        proposal: impl FnOnce(u64) -> Proposal,
        timeout_ms: Option<u64>,
    ) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let proposal = proposal(ticket);
        self.tickets.insert(ticket, Ticket { of, outcome: None });
        let now_ms = self.now_ms;
        self.processes[of].bridge.propose(proposal, Some(ticket), timeout_ms, now_ms);
        self.drive(of);
        ticket
    }

    /// A process that does something, and has rooms.
    pub(crate) fn any_live(&mut self) -> Option<usize> {
        let now_ms = self.now_ms;
        let is_awake = |of: &usize| self.processes[*of].is_live() && self.processes[*of].paused_ms <= now_ms;
        let live: Vec<usize> = (0..self.processes.len()).filter(is_awake).collect();
        if live.is_empty() { None } else { Some(live[self.one_of(live.len())]) }
    }

    pub(crate) fn live(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|of| self.processes[*of].is_live()).collect()
    }

    /// Everything happens that is due until this time.
    pub(crate) fn run_until(&mut self, end_ms: u64) {
        while let Some((at_ms, next)) = self.next()
            && at_ms <= end_ms
        {
            self.advance(at_ms);
            self.happen(next);
        }
        self.advance(end_ms);
    }

    pub(crate) fn run(&mut self, milliseconds: u64) {
        self.run_until(self.now_ms + milliseconds);
    }

    /// True when it is so before this many milliseconds are over.
    pub(crate) fn until(&mut self, milliseconds: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        let end_ms = self.now_ms + milliseconds;
        while self.now_ms < end_ms {
            if is_so(self) {
                return true;
            }
            self.run(20);
        }
        is_so(self)
    }

    fn advance(&mut self, at_ms: u64) {
        self.now_ms = self.now_ms.max(at_ms);
        self.redis.set_clock_ms(self.now_ms + self.clock_ahead_ms);
    }

    /// The first of all that may happen; of several at one time any.
    fn next(&mut self) -> Option<(u64, Next)> {
        let mut first: Vec<(u64, Next)> = Vec::new();
        let mut add = |at_ms: u64, next: Next| match first.first() {
            Some((first_ms, _)) if *first_ms < at_ms => {}
            Some((first_ms, _)) if *first_ms == at_ms => first.push((at_ms, next)),
            _ => first = vec![(at_ms, next)],
        };
        // Where Redis stands still, what arrives waits.
        let redis_ms = self.stopped_ms.max(self.now_ms);
        for (index, (at_ms, _)) in self.orphans.iter().enumerate() {
            add(redis_ms.max(*at_ms), Next::Orphan(index));
        }
        for (index, (at_ms, _)) in self.beginnings.iter().enumerate() {
            add(self.now_ms.max(*at_ms), Next::Begin(index));
        }
        for (of, process) in self.processes.iter().enumerate() {
            if !process.is_up() {
                continue;
            }
            let awake_ms = process.paused_ms.max(self.now_ms);
            let line_ms = process.line.stalled_ms;
            let time_of =
                |at_ms: u64, is_back: bool| at_ms.max(line_ms).max(if is_back { awake_ms } else { redis_ms });
            match &process.line.command {
                Some(Flight::Going(at_ms, _) | Flight::Waiting(at_ms, _)) => {
                    add(time_of(*at_ms, false), Next::Command(of));
                }
                Some(Flight::Coming(at_ms, _)) => add(time_of(*at_ms, true), Next::Command(of)),
                Some(Flight::Lost) | None => {}
            }
            match &process.line.read {
                Some(Flight::Going(at_ms, _) | Flight::Waiting(at_ms, _)) => {
                    add(time_of(*at_ms, false), Next::Read(of));
                }
                Some(Flight::Coming(at_ms, _)) => add(time_of(*at_ms, true), Next::Read(of)),
                Some(Flight::Lost) | None => {}
            }
            if let Some(at_ms) = process.line.connecting_ms {
                add(time_of(at_ms, true).max(redis_ms), Next::Connect(of));
            }
            if let Some((at_ms, _)) = process.given.first() {
                add(awake_ms.max(*at_ms), Next::Given(of));
            }
            let due_ms = process.bridge.next_due_ms().map(|due_ms| due_ms.max(awake_ms));
            // An owner that takes events again, or a process that wakes, looks what there is.
            let full_ms = Some(process.full_ms).filter(|full_ms| *full_ms > self.now_ms);
            let pause_ms = Some(process.paused_ms).filter(|paused_ms| *paused_ms > self.now_ms);
            if let Some(due_ms) =
                [due_ms, full_ms.map(|it| it.max(awake_ms)), pause_ms].into_iter().flatten().min()
            {
                add(due_ms, Next::Due(of));
            }
        }
        if first.is_empty() { None } else { Some(first[self.random.random_range(0..first.len())]) }
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Orphan(index) => {
                let (_, command) = self.orphans.swap_remove(index);
                if self.down_ms <= self.now_ms {
                    self.note(|| format!("a late {} arrives", words_of(&command)));
                    self.execute(&command, None);
                }
            }
            Next::Begin(index) => {
                let (_, name) = self.beginnings.swap_remove(index);
                let of = self.start(&name);
                self.drive(of);
            }
            Next::Connect(of) => self.connect(of),
            Next::Command(of) => self.move_command(of),
            Next::Read(of) => self.move_read(of),
            Next::Given(of) => {
                let (_, given) = self.processes[of].given.remove(0);
                match given {
                    Given::Repair(room, entry, state) => {
                        self.processes[of].bridge.repair(&room, entry, &state);
                    }
                    Given::Rewrite { rooms, left, terms } => {
                        self.processes[of].bridge.rewrite(rooms, &left, &terms);
                    }
                }
                self.drive(of);
            }
            Next::Due(of) => {
                let (now_ms, process) = (self.now_ms, &mut self.processes[of]);
                let (at_ms, times) = process.woken;
                process.woken = if at_ms == now_ms { (now_ms, times + 1) } else { (now_ms, 0) };
                assert!(process.woken.1 < SPINS, "{} spins: {:#?}", process.name(), process.bridge);
                self.drive(of);
            }
        }
    }

    fn connect(&mut self, of: usize) {
        if self.down_ms > self.now_ms {
            let wait_ms = self.between(20, 400);
            self.processes[of].line.connecting_ms = Some(self.now_ms + wait_ms);
            return;
        }
        let now_ms = self.now_ms;
        let process = &mut self.processes[of];
        process.line.connecting_ms = None;
        process.line.connection = Default::default();
        process.bridge.handle_connected(now_ms);
        self.drive(of);
    }

    fn move_command(&mut self, of: usize) {
        match self.processes[of].line.command.take() {
            Some(Flight::Going(_, command)) => {
                if self.chance(self.breaks) {
                    // Before Redis has it, or behind: with or without a word about it.
                    let (has_run, is_silent) = (self.chance(500), self.chance(200));
                    self.note(|| {
                        format!("line {of} breaks, the command has run: {has_run}, silent: {is_silent}")
                    });
                    if has_run {
                        self.execute(&command, Some(of));
                    }
                    if is_silent {
                        self.processes[of].line.command = Some(Flight::Lost);
                    } else {
                        self.disconnect(of);
                    }
                    return;
                }
                let reply = self.execute(&command, Some(of));
                let at_ms = self.now_ms + self.latency();
                self.processes[of].line.command = Some(Flight::Coming(at_ms, reply));
            }
            Some(Flight::Coming(_, reply)) => {
                self.count_refusal(of, &reply);
                let now_ms = self.now_ms;
                self.processes[of].bridge.handle_reply(&reply, now_ms);
                self.drive(of);
            }
            other => self.processes[of].line.command = other,
        }
    }

    /// Nobody asks again and again for what Redis refuses.
    fn count_refusal(&mut self, of: usize, reply: &Reply) {
        let Reply::Error(error) = reply else { return };
        self.note(|| format!("{of} is refused: {error}"));
        let (now_ms, process) = (self.now_ms, &mut self.processes[of]);
        let (since_ms, times) = process.refused;
        process.refused = if now_ms - since_ms < 1_000 { (since_ms, times + 1) } else { (now_ms, 0) };
        assert!(process.refused.1 < SPINS, "{} asks without pause: {error}", process.name());
    }

    fn move_read(&mut self, of: usize) {
        match self.processes[of].line.read.take() {
            Some(Flight::Going(_, (behind, waits))) => {
                if self.chance(self.breaks) {
                    return self.disconnect(of);
                }
                let reply = self.redis.read(&self.keys.log(), behind);
                self.processes[of].line.read = Some(if waits && reply == Reply::Nil {
                    Flight::Waiting(self.now_ms + 1_000, (behind, waits))
                } else {
                    let at_ms = self.now_ms + self.latency();
                    Flight::Coming(at_ms, reply)
                });
            }
            Some(Flight::Waiting(_, (behind, _))) => {
                let reply = self.redis.read(&self.keys.log(), behind);
                let at_ms = self.now_ms + self.latency();
                self.processes[of].line.read = Some(Flight::Coming(at_ms, reply));
            }
            Some(Flight::Coming(_, reply)) => {
                let now_ms = self.now_ms;
                self.processes[of].bridge.handle_read(&reply, now_ms);
                self.drive(of);
            }
            other => self.processes[of].line.read = other,
        }
    }

    /// Redis runs a command, and what follows from it is noted.
    fn execute(&mut self, command: &Command, of: Option<usize>) -> Reply {
        let mut connection = of.map(|of| self.processes[of].line.connection).unwrap_or_default();
        let before = self.redis.offset();
        let reply = self.redis.run(command, &mut connection);
        if let Some(of) = of {
            self.processes[of].line.connection = connection;
        }
        self.note(|| {
            let whose = of.map_or("nobody".to_owned(), |of| self.processes[of].name());
            format!("{whose}: {} -> {}", words_of(command), short(&reply))
        });
        if self.redis.offset() != before {
            self.record.note(&self.redis, &self.keys.log(), self.now_ms);
            self.wake_reads();
        }
        reply
    }

    /// Reads that wait are answered with what has come.
    pub(crate) fn wake_reads(&mut self) {
        let log = self.keys.log();
        for of in 0..self.processes.len() {
            if let Some(Flight::Waiting(_, (behind, _))) = self.processes[of].line.read
                && self.redis.last(&log) > behind
            {
                let reply = self.redis.read(&log, behind);
                let at_ms = self.now_ms + self.latency();
                self.processes[of].line.read = Some(Flight::Coming(at_ms, reply));
            }
        }
    }

    /// The lines of a process break. What is on its way may still arrive.
    pub(crate) fn disconnect(&mut self, of: usize) {
        self.close(of);
        self.processes[of].bridge.handle_disconnected();
        self.drive(of);
    }

    pub(crate) fn close(&mut self, of: usize) {
        let (arrives, late) = (self.chance(500), self.chance(200));
        let delay_ms = if late { self.between(1, 12_000) } else { self.between(1, 60) };
        let opens_ms = self.now_ms + self.between(1, 60);
        let line = &mut self.processes[of].line;
        if let Some(Flight::Going(_, command)) = line.command.take()
            && arrives
        {
            self.orphans.push((self.now_ms + delay_ms, command));
        }
        line.read = None;
        line.stalled_ms = 0;
        line.connecting_ms = Some(opens_ms);
    }

    /// A process that ends without a word.
    pub(crate) fn kill(&mut self, of: usize) {
        self.note(|| format!("{} is killed", self.processes[of].name()));
        self.processes[of].is_killed = true;
        self.close(of);
    }

    /// All connections are lost, and Redis is away for so long.
    pub(crate) fn take_down(&mut self, milliseconds: u64) {
        self.down_ms = self.now_ms + milliseconds;
        self.stopped_ms = 0;
        for of in 0..self.processes.len() {
            if self.processes[of].is_up() && self.processes[of].line.connecting_ms.is_none() {
                self.close(of);
                self.processes[of].bridge.handle_disconnected();
                self.drive(of);
            }
        }
    }

    /// A process with this name begins in so many milliseconds.
    pub(crate) fn begin_later(&mut self, name: &str, milliseconds: u64) {
        self.beginnings.push((self.now_ms + milliseconds, name.to_owned()));
    }

    /// The replica takes over; the old primary is away at once. What nodes were told to be replicated is there.
    pub(crate) fn fail_over(&mut self, milliseconds: u64) {
        if !self.redis.fail_over() {
            return;
        }
        for process in &self.processes {
            let own =
                |(number, tag): &&(u64, Tag)| *number <= process.replicated && tag.live() == process.life;
            if !self.has_lost
                && process.is_live()
                && let Some((number, tag)) = process.applied.iter().rev().find(own)
            {
                assert!(
                    self.redis.last(&self.keys.log()) >= *number,
                    "{tag} was told to be replicated, and is not"
                );
            }
        }
        self.take_down(milliseconds);
    }

    pub(crate) fn member(&self, of: usize, room: &Room, user: u64) -> Option<KeptMember> {
        let mirror = self.processes[of].mirror.as_ref()?;
        mirror.rooms.get(&room.name)?.members.get(&user).cloned()
    }

    pub(crate) fn last_id(&self, of: usize, room: &Room) -> u64 {
        let mirror = self.processes[of].mirror.as_ref();
        mirror.and_then(|mirror| mirror.rooms.get(&room.name)).map_or(0, |state| state.last)
    }

    pub(crate) fn rooms_of(&self, of: usize) -> Vec<Room> {
        let mirror = self.processes[of].mirror.as_ref();
        let rooms = mirror.into_iter().flat_map(|mirror| &mirror.rooms);
        let mut rooms: Vec<Room> =
            rooms.map(|(name, state)| Room { name: Arc::clone(name), opened: state.opened }).collect();
        rooms.sort_by(|one, other| one.name.cmp(&other.name));
        rooms
    }
}
