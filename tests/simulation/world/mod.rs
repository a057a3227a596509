//! One run: shards, clients and time under a seeded scheduler. First anything may happen; then everyone
//! who reads is given what they are owed; then all leave, and nothing may be left of them.

mod backend;
mod checks;

use uproar::clock::Now;
use uproar::mail::Delivery;
use uproar::metrics::{EndReason, Metrics};
use uproar::permit::ClientPermits;
use uproar::rooms::Directory;
use uproar::shard::stage::Stage;

use crate::client::Client;
use crate::host::{Around, Host, Mailbox, Pace};
use crate::random::Random;
use crate::record::Record;
use crate::scenario::{ON_DEMAND, SESSION_MS_AMPLE, Scenario};
use crate::shutdown::Shutdown;
use crate::storage::Storage;
use crate::trace::Trace;
use crate::violation::{Checked, Violation, ensure, violated};

/// Rounds in which everything that can happen does, until nothing can: far more than any seed needs whose
/// server does not go in circles.
const ROUNDS_MAX: usize = 40_000;

/// Times that a run's end may wait for a timer.
const TIMERS_MAX: usize = 4_000;

/// Steps in which a stage of a shutdown may take its time; then everything that can happen does.
const STAGE_STEPS_MAX: usize = 200;

const START_UNIX_SECONDS: u64 = 1_700_000_000;

struct World<'a> {
    scenario: Scenario,
    random: Random,
    directory: Directory,
    places: ClientPermits,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    record: Record,
    storage: Option<Storage>,
    /// How often a backend has closed a room, and what it was answered.
    closes: usize,
    api_answers: Vec<Delivery>,
    now_ms: u64,
    /// Turns so far: each has a second of its own, so that no two of them make broadcasts that are alike.
    turns: u64,
    shutdown: Shutdown,
    trace: &'a mut Trace,
}

/// What a run came to, for a digest over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) clients: usize,
    pub(crate) delivered: u64,
    pub(crate) evicted: u64,
}

/// Runs one seed to its end or to its first violation.
pub(crate) fn run(seed: u64, trace: &mut Trace) -> Checked<Summary> {
    let mut random = Random::new(seed);
    let scenario = Scenario::draw(&mut random);
    trace.note([seed as usize, 0, 0], || format!("{scenario:?}"));
    let directory = Directory::new(&scenario.rooms, scenario.shards)
        .with_rooms_on_demand(&[format!("{ON_DEMAND}*")], scenario.rooms_max);
    let places = ClientPermits::new(scenario.clients_max);
    let metrics = Metrics::new(usize::from(scenario.shards), 0, places.clone());
    let storage = scenario.is_durable.then(|| Storage::new(&directory, &scenario));
    let hosts = (0..usize::from(scenario.shards))
        .map(|index| Host::new(index, &scenario, &directory, metrics.shard(index), storage.as_ref()))
        .collect();
    let shutdown = Shutdown::draw(&scenario, &mut random);
    let mut world = World {
        scenario,
        random,
        directory,
        places,
        hosts,
        clients: Vec::new(),
        record: Record::default(),
        storage,
        closes: 0,
        api_answers: Vec::new(),
        now_ms: 1,
        turns: 0,
        shutdown,
        trace,
    };
    for _ in 0..world.scenario.steps {
        world.step()?;
    }
    world.come_to_rest()?;
    world.check_at_rest(false)?;
    world.probe();
    let ended_before = world.ended_count();
    world.come_to_rest()?;
    // What was told of the rooms is still so when nobody has gone since.
    world.check_at_rest(world.ended_count() == ended_before)?;
    world.end()?;
    world.check_end()
}

impl World<'_> {
    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            uptime_ms: self.now_ms,
            unix_seconds: START_UNIX_SECONDS + self.turns,
        }
    }

    /// One choice of the scheduler.
    fn step(&mut self) -> Checked {
        self.trace.step += 1;
        if self.random.percent(self.scenario.chances.jump) {
            // Somebody may still come back with a session that lasts.
            if self.next_due_ms().is_some_and(|due_ms| due_ms < SESSION_MS_AMPLE) {
                self.wait_for_timer();
            }
        } else if self.random.percent(20) {
            self.now_ms += self.random.below(20) as u64;
        }
        self.commit(Pace::Random);
        if self.random.percent(self.scenario.chances.close_room) {
            self.close_room();
        }
        match self.random.below(100) {
            0..40 => {
                let shard = self.random.below(self.hosts.len());
                if self.random.percent(40) {
                    self.fall_asleep(shard);
                } else {
                    self.turn(shard, Pace::Random)?;
                }
            }
            40..50 => self.connect(),
            50..80 => {
                let Some(client) = self.some_client() else { return Ok(()) };
                let bytes_max = *self.random.pick(&[1, 100, 1_000, 1 << 20]);
                self.read(client, bytes_max)?;
            }
            _ => {
                let Some(client) = self.some_client() else { return Ok(()) };
                self.act(client);
            }
        }
        Ok(())
    }

    fn some_client(&mut self) -> Option<usize> {
        let there: Vec<usize> =
            self.clients.iter().filter(|client| !client.is_gone()).map(|client| client.number).collect();
        (!there.is_empty()).then(|| *self.random.pick(&there))
    }

    fn connect(&mut self) {
        if self.clients.len() >= self.scenario.arrivals_max {
            return;
        }
        if !self.shutdown.hands_over(&mut self.random) {
            return;
        }
        let Some(permit) = self.places.acquire() else { return };
        let number = self.clients.len();
        let mut client = Client::draw(number, &self.scenario, &mut self.random);
        client.permit = Some(permit);
        if self.scenario.sessions.is_some() && self.random.percent(self.scenario.chances.comes_back) {
            client.come_back(&mut self.record, &mut self.random);
        }
        let shard = client.shard;
        self.trace.note([number, shard, 0], || {
            format!("{number} connects to shard {shard}: {:?}", client.endpoint())
        });
        self.hosts[shard].admissions.push_back(number);
        self.hosts[shard].mailbox.wake();
        self.clients.push(client);
    }

    /// Lets a client do something of its own.
    fn act(&mut self, number: usize) {
        let step = self.trace.step;
        let chances = self.scenario.chances.clone();
        let random = &mut self.random;
        let client = &mut self.clients[number];
        if random.percent(chances.stall) {
            client.is_reading = !client.is_reading;
            let is_reading = client.is_reading;
            return self.trace.note([number, 1, 0], || format!("{number} reads: {is_reading}"));
        }
        if !client.is_talking() {
            return;
        }
        let deed = if random.percent(chances.farewell) {
            client.leave(random);
            "leaves"
        } else if random.percent(chances.mischief) {
            client.misbehave(&self.scenario, random);
            "misbehaves"
        } else if random.percent(chances.flood) {
            client.flood(&mut self.record, &self.scenario, step, random);
            "floods"
        } else {
            for _ in 0..random.between(1, 4) {
                client.speak(&mut self.record, &self.scenario, step, random);
            }
            "speaks"
        };
        let waiting = client.socket.up.len();
        self.trace.note([number, 2, waiting], || format!("{number} {deed}, {waiting} bytes to be received"));
    }

    fn read(&mut self, number: usize, bytes_max: usize) -> Checked<bool> {
        let client = &mut self.clients[number];
        if !client.is_reading {
            return Ok(false);
        }
        let outcome = client.read(bytes_max, &mut self.record, &self.scenario, self.trace, &mut self.random);
        outcome.map_err(|violation| of_client(number, violation))
    }

    fn turn(&mut self, index: usize, pace: Pace) -> Checked<bool> {
        self.turn_in(index, None, pace)
    }

    /// A turn that begins a stage, if one is given.
    fn turn_in(&mut self, index: usize, stage: Option<Stage>, pace: Pace) -> Checked<bool> {
        self.turns += 1;
        let (outcome, reached) = self.with_host(index, pace, |host, others, around| {
            let outcome = host.turn(stage, others, around);
            (outcome, host.poll_reached(others, around))
        });
        if let Some(stage) = reached {
            self.trace.note([index, 3, 1], || format!("shard {index} has reached {stage:?}"));
            let left = self.hosts[index].admissions.len();
            ensure!(Settled, left == 0 || self.shutdown.is_cut_short, "{left} connections were left out");
            self.shutdown.handle_stage_reached(index, stage);
        }
        self.check_places()?;
        outcome
    }

    /// A step of a shard towards its sleep. True when it is to look what has come next.
    fn fall_asleep(&mut self, index: usize) -> bool {
        self.with_host(index, Pace::Random, |host, others, around| host.fall_asleep(others, around))
    }

    /// Does something with a shard, the mailboxes of the others, and what else is around it.
    fn with_host<T>(
        &mut self,
        index: usize,
        pace: Pace,
        action: impl FnOnce(&mut Host, &mut [Mailbox], &mut Around<'_>) -> T,
    ) -> T {
        let now = self.now();
        // A shard never posts to itself, so its own mailbox may be away meanwhile.
        let mut others: Vec<Mailbox> =
            self.hosts.iter_mut().map(|host| std::mem::take(&mut host.mailbox)).collect();
        self.hosts[index].mailbox = std::mem::take(&mut others[index]);
        let mut around = Around {
            clients: &mut self.clients,
            scenario: &self.scenario,
            random: &mut self.random,
            trace: self.trace,
            record: &self.record,
            storage: &mut self.storage,
            api_answers: &mut self.api_answers,
            now,
            pace,
            is_draining: self.shutdown.is_settled(),
        };
        let outcome = action(&mut self.hosts[index], &mut others, &mut around);
        for (to, mailbox) in others.into_iter().enumerate() {
            if to != index {
                self.hosts[to].mailbox = mailbox;
            }
        }
        outcome
    }

    /// Lets the disk have some of what waits for it.
    fn commit(&mut self, pace: Pace) -> bool {
        let Some(storage) = &mut self.storage else { return false };
        let before: Vec<usize> = (0..self.hosts.len()).map(|shard| storage.receipts_for(shard)).collect();
        // In the end every disk is mended.
        if storage.is_failing() && (pace == Pace::Eager || self.random.percent(10)) {
            storage.mend();
        } else if self.scenario.has_failing_disk && pace == Pace::Random && self.random.percent(5) {
            storage.fail();
        }
        let count = match pace {
            Pace::Eager => storage.len(),
            Pace::Random if self.random.percent(self.scenario.chances.commit) => {
                self.random.between(0, storage.len())
            }
            Pace::Random => 0,
        };
        let mut has_progressed = storage.commit(count, &mut self.record);
        for (host, before) in self.hosts.iter_mut().zip(before) {
            // Of a disk that was mended as well.
            if storage.receipts_for(host.index) > before {
                host.mailbox.wake();
                has_progressed = true;
            }
        }
        has_progressed
    }

    /// Lets everything happen that can, without letting time pass.
    fn settle(&mut self) -> Checked {
        for _ in 0..ROUNDS_MAX {
            self.trace.step += 1;
            let mut has_progressed = false;
            for index in 0..self.hosts.len() {
                while self.fall_asleep(index) {}
                has_progressed |= self.turn(index, Pace::Eager)?;
            }
            has_progressed |= self.commit(Pace::Eager);
            for number in 0..self.clients.len() {
                has_progressed |= self.read(number, usize::MAX)?;
            }
            if !has_progressed {
                return self.check_sleep();
            }
        }
        let stuck: Vec<_> = self.hosts.iter().map(|host| (host.index, host.shard.next_due_ms())).collect();
        violated!(NoWaitingOnTheSlow, "no rest at {} ms: {stuck:?}", self.now_ms)
    }

    fn check_sleep(&mut self) -> Checked {
        (0..self.hosts.len()).try_for_each(|index| {
            self.with_host(index, Pace::Eager, |host, others, around| host.check_sleep(others, around))
        })
    }

    /// Settles until the last presence report is out: a second in which nobody has gone.
    fn come_to_rest(&mut self) -> Checked {
        self.settle()?;
        for seconds in 0..60 {
            let ended_before = self.ended_count();
            self.now_ms += 1_100;
            self.settle()?;
            if seconds > 0 && self.ended_count() == ended_before {
                return Ok(());
            }
        }
        violated!(NothingLeft, "connections go on ending for a minute")
    }

    fn ended_count(&self) -> u64 {
        let reasons = EndReason::ALL.iter();
        reasons
            .flat_map(|&reason| {
                self.hosts.iter().map(move |host| host.metrics.connections_ended.with(reason).get())
            })
            .sum()
    }

    fn wait_for_timer(&mut self) -> bool {
        let due_ms = self.next_due_ms();
        self.now_ms = self.now_ms.max(due_ms.unwrap_or(0));
        due_ms.is_some()
    }

    fn next_due_ms(&self) -> Option<u64> {
        self.hosts.iter().filter_map(|host| host.shard.next_due_ms()).min()
    }

    fn probe(&mut self) {
        let step = self.trace.step;
        for client in self.clients.iter_mut().filter(|client| client.is_faithful()) {
            client.probe(&mut self.record, step, &mut self.random);
        }
    }

    /// Everyone goes, by themselves or with the server.
    fn end(&mut self) -> Checked {
        if self.scenario.ends_by_drain {
            self.shut_down()?;
        } else {
            for number in 0..self.clients.len() {
                // Whoever stays without reading or speaking is ended by the idle timeout.
                let client = &mut self.clients[number];
                if client.is_talking() && (client.is_reading || self.random.percent(50)) {
                    client.leave(&mut self.random);
                }
            }
        }
        for _ in 0..TIMERS_MAX {
            self.shutdown.handle_time(self.now_ms);
            self.settle()?;
            if self.hosts.iter().all(|host| host.shard.clients().count() == 0) {
                return Ok(());
            }
            if !self.wait_for_timer() {
                break;
            }
        }
        let left: Vec<_> = self.hosts.iter().map(|host| host.links.slots.clone()).collect();
        violated!(NothingLeft, "connections stay at {} ms: {left:?}", self.now_ms)
    }

    /// Takes all shards through the stages while clients go on as before, up to the last one's beginning.
    /// Each stage begins on each shard at a time of its own.
    fn shut_down(&mut self) -> Checked {
        // A change of room is the longest chain of messages, and should be under way.
        self.scenario.chances.move_room = 80;
        // And input that is held back should be long.
        self.scenario.chances.flood *= 4;
        for _ in 0..self.random.below(60) {
            self.step()?;
        }
        for client in self.clients.iter_mut().filter(|client| client.is_talking()) {
            client.speak(&mut self.record, &self.scenario, self.trace.step, &mut self.random);
        }
        self.shutdown.begin(self.now_ms);
        let mut stage = self.shutdown.stage;
        let mut patience = self.random.below(STAGE_STEPS_MAX);
        let mut steps = 0;
        while self.shutdown.stage < Stage::Draining || !self.has_begun() {
            if self.random.percent(15) {
                self.begin_stage()?;
            } else if self.random.percent(2) {
                self.shutdown.drain_acceptor(&mut self.random);
            } else if steps < patience {
                self.step()?;
            } else {
                let index = self.random.below(self.hosts.len());
                self.trace.step += 1;
                while self.fall_asleep(index) {}
                self.turn(index, Pace::Eager)?;
                self.commit(Pace::Eager);
                self.shutdown.drain_acceptor(&mut self.random);
            }
            self.shutdown.handle_time(self.now_ms);
            steps += 1;
            ensure!(Settled, steps < ROUNDS_MAX, "{stage:?} is never reached");
            if self.shutdown.stage != stage {
                stage = self.shutdown.stage;
                (steps, patience) = (0, self.random.below(STAGE_STEPS_MAX));
            }
        }
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.hosts.iter().all(|host| host.progress.begun() >= Stage::Draining)
    }

    /// Tells one of the shards of the stage that it should be in.
    fn begin_stage(&mut self) -> Checked {
        let index = self.random.below(self.hosts.len());
        // A shard that stops would end here. The model's shards first close everyone, however late that is.
        let stage = self.shutdown.stage.min(Stage::Draining);
        if self.hosts[index].progress.begun() != stage {
            self.trace.note([index, 3, 0], || format!("shard {index} begins {stage:?}"));
            self.turn_in(index, Some(stage), Pace::Random)?;
        }
        Ok(())
    }
}

/// Says whose view it was that broke an invariant.
fn of_client(number: usize, violation: Violation) -> Violation {
    Violation { detail: format!("client {number}: {}", violation.detail), ..violation }
}
