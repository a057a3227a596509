//! Who connects, who speaks, who is slow, and on which thread: everything about a run that is decided
//! before it begins. All threads read the same plan.

pub mod consistency;
pub mod layout;
pub mod rooms;
pub mod schedule;
pub mod servers;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::nanoseconds;
use crate::dialect::Dialect;
use crate::dialect::chat::INITIAL_ROOM;
use crate::dialect::payload::Template;
use crate::error::Error;
use crate::network::security::Security;
use crate::options::RunOptions;
use crate::plan::rooms::Rooms;
use crate::plan::schedule::Schedule;
use crate::plan::servers::Server;

/// How many clients are on their way at a time when nothing else is asked for: below every usual
/// listen backlog, so that no SYN is dropped and retried a second later.
pub const CONNECTING_MAX: u32 = 512;

/// A run, decided.
#[derive(Debug)]
pub struct Plan {
    /// The language spoken.
    pub dialect: Dialect,
    /// The servers that the clients are spread over.
    pub servers: Vec<Server>,
    /// The place of each client's server among them.
    dealt: Vec<u8>,
    /// The chat rooms, or the topics.
    pub room_names: Vec<String>,
    /// How many clients there are.
    pub clients: u32,
    /// The room of each client, and which clients speak. In private, a room is two clients that write to each other.
    pub rooms: Rooms,
    /// The id that the server gave to each client, in private; 0 before.
    user_ids: Vec<AtomicU64>,
    /// How many threads share the clients.
    pub threads: u32,
    /// Which clients stop reading once they have joined.
    slow: Vec<bool>,
    /// Who leaves and rejoins, and when.
    pub churn: Option<Churn>,
    /// The times at which broadcasts are due.
    pub schedule: Schedule,
    /// Makes and reads payloads.
    pub template: Template,
    /// How long to wait for what is missing.
    pub drain_ns: u64,
    /// Connects a second and thread.
    pub connect_rate: Option<f64>,
    /// How many clients of a thread may be on their way at a time.
    pub connecting_max: usize,
    /// Poll instead of sleeping.
    pub busy_poll: bool,
    /// Seed of keys and masks.
    pub seed: u64,
}

/// Who leaves and rejoins, and when.
#[derive(Debug)]
pub struct Churn {
    /// Leaves a second.
    pub rate: f64,
    /// The clients that leave, in turn.
    order: Vec<u32>,
}

impl Churn {
    /// Who leaves for the `index`-th time.
    #[must_use]
    pub fn client(&self, index: u64) -> u32 {
        self.order[(index % self.order.len() as u64) as usize]
    }

    /// When that is, when the warm-up begins at `start_ns`.
    #[must_use]
    pub fn due_ns(&self, start_ns: u64, index: u64) -> u64 {
        start_ns + ((index + 1) as f64 * 1e9 / self.rate) as u64
    }
}

/// What preflight found out, for the plan.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The servers, in the order of their URLs; at least one.
    pub servers: Vec<Server>,
    /// How many threads there are.
    pub threads: u32,
    /// Whether they poll.
    pub busy_poll: bool,
}

impl Plan {
    /// Decides a run. `token` tells its messages from those of other runs.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when options contradict each other.
    pub fn new(options: &RunOptions, findings: Findings, seed: u64, token: u32) -> Result<Self, Error> {
        consistency::check(options)?;
        let rooms = layout::rooms(options);
        let Findings { servers, threads, busy_poll } = findings;
        let slow = choose_slow(options.clients, rooms.senders, layout::slow_count(options), seed);
        let leave = |rate| Churn { rate, order: choose_leaving(rooms.senders, &slow, seed) };
        Ok(Self {
            dialect: options.dialect,
            dealt: servers::deal(options.dialect, rooms, servers.len(), options.clients),
            servers,
            room_names: layout::room_names(options),
            clients: options.clients,
            rooms,
            user_ids: (0..options.clients).map(|_| AtomicU64::new(0)).collect(),
            threads,
            churn: options.churn.map(leave),
            slow,
            schedule: Schedule::new(options.warmup, &options.stages(), options.arrivals, seed),
            template: Template::new(token, options.payload),
            drain_ns: nanoseconds(options.drain),
            connect_rate: options.connect_rate.map(|rate| rate / f64::from(threads)),
            connecting_max: CONNECTING_MAX.div_ceil(threads) as usize,
            busy_poll,
            seed,
        })
    }

    /// The place of a client's server.
    #[must_use]
    pub fn server_index(&self, client: u32) -> usize {
        usize::from(self.dealt[client as usize])
    }

    /// The server that a client connects to.
    #[must_use]
    pub fn server_of(&self, client: u32) -> &Server {
        &self.servers[self.server_index(client)]
    }

    /// How connections are secured, if they are: with one server as with another.
    #[must_use]
    pub fn security(&self) -> Option<&Security> {
        self.servers[0].security.as_ref()
    }

    /// The path that a client upgrades.
    #[must_use]
    pub fn path_of(&self, client: u32) -> &str {
        let paths = &self.server_of(client).paths;
        &paths[self.rooms.of(client) as usize % paths.len()]
    }

    /// Why something happened to a client, with its server's name where there are several.
    #[must_use]
    pub fn at_server(&self, client: u32, why: &str) -> String {
        match self.servers.len() {
            1 => why.to_owned(),
            _ => format!("{}: {why}", self.server_of(client).url),
        }
    }

    /// The chat room of a client.
    #[must_use]
    pub fn room_of(&self, client: u32) -> &str {
        match self.dialect {
            Dialect::Private => INITIAL_ROOM,
            _ => &self.room_names[self.rooms.of(client) as usize],
        }
    }

    /// Notes the id that the server gave to a client.
    pub fn note_user_id(&self, client: u32, id: u64) {
        // The start of the run, for which every client is ready, comes in between.
        self.user_ids[client as usize].store(id, Ordering::Relaxed);
    }

    /// The user to whom a client writes in private; 0 when the server has not named it.
    #[must_use]
    pub fn partner_id_of(&self, client: u32) -> u64 {
        let partner = (client + self.rooms.count) % self.clients;
        self.user_ids[partner as usize].load(Ordering::Relaxed)
    }

    /// The thread that owns a client.
    #[must_use]
    pub fn thread_of(&self, client: u32) -> u32 {
        client % self.threads
    }

    /// The place of a client among those of its thread.
    #[must_use]
    pub fn local_index(&self, client: u32) -> usize {
        (client / self.threads) as usize
    }

    /// The client at a place of a thread.
    #[must_use]
    pub fn client_at(&self, thread: u32, local_index: usize) -> u32 {
        local_index as u32 * self.threads + thread
    }

    /// How many clients a thread owns.
    #[must_use]
    pub fn clients_of(&self, thread: u32) -> usize {
        (self.clients - thread).div_ceil(self.threads) as usize
    }

    /// Who sends a broadcast.
    #[must_use]
    pub fn speaker_of(&self, sequence: u64) -> u32 {
        self.rooms.origin(sequence).speaker
    }

    /// True for a client that stops reading.
    #[must_use]
    pub fn is_slow(&self, client: u32) -> bool {
        self.slow[client as usize]
    }

    /// How many clients stop reading.
    #[must_use]
    pub fn slow_count(&self) -> u32 {
        self.slow.iter().filter(|slow| **slow).count() as u32
    }

    /// How many clients of each room a thread owns that read.
    #[must_use]
    pub fn readers_on(&self, thread: u32) -> Vec<u64> {
        let mut readers = vec![0; self.rooms.count as usize];
        let clients = (0..self.clients_of(thread)).map(|local_index| self.client_at(thread, local_index));
        clients
            .filter(|&client| !self.is_slow(client))
            .for_each(|client| readers[self.rooms.of(client) as usize] += 1);
        readers
    }

    /// How many deliveries of some broadcasts the clients of a thread are to receive when nobody leaves.
    #[must_use]
    pub fn expected_on(&self, thread: u32, sequences: Range<u64>) -> u64 {
        let heard_here: u64 = (0..)
            .zip(self.readers_on(thread))
            .map(|(room, readers)| readers * self.rooms.broadcasts(room, sequences.clone()))
            .sum();
        let spoken_here = || {
            sequences.clone().filter(|&sequence| self.thread_of(self.speaker_of(sequence)) == thread).count()
                as u64
        };
        match self.dialect {
            Dialect::Chat | Dialect::Private => heard_here - spoken_here(),
            Dialect::Raw => heard_here,
            Dialect::Echo => spoken_here(),
        }
    }
}

/// Chooses slow clients among those that don't speak.
fn choose_slow(clients: u32, speakers: u32, count: u32, seed: u64) -> Vec<bool> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut slow = vec![false; clients as usize];
    for client in random.choose_multiple(speakers..clients, count as usize) {
        slow[client as usize] = true;
    }
    slow
}

/// Those who leave in turn: all that neither speak nor are slow.
fn choose_leaving(speakers: u32, slow: &[bool], seed: u64) -> Vec<u32> {
    let mut order: Vec<_> = (speakers..slow.len() as u32).filter(|&client| !slow[client as usize]).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measure::presence::expected_counts;
    use crate::network::target::Target;
    use crate::options::tests::options;
    use std::sync::Arc;

    /// The plan of a command line, on one thread.
    pub(crate) fn plan(arguments: &[&str]) -> Arc<Plan> {
        plan_on(1, arguments)
    }

    fn plan_on(threads: u32, arguments: &[&str]) -> Arc<Plan> {
        let options = options(arguments);
        let server = |url: &String| {
            let target = Target::parse(url).expect("parses");
            Server {
                url: url.clone(),
                address: ([127, 0, 0, 1], 1).into(),
                security: None,
                paths: layout::paths(&options, &target).expect("consistent"),
                authority: target.authority,
                sources: Vec::new(),
            }
        };
        let servers = options.urls.iter().map(server).collect();
        let findings = Findings { servers, threads, busy_poll: false };
        Arc::new(Plan::new(&options, findings, 1, 2).expect("consistent"))
    }

    #[test]
    fn every_client_has_one_place() {
        for threads in 1..5 {
            let plan = plan_on(threads, &["--clients", "10"]);
            let mut clients: Vec<_> = (0..threads)
                .flat_map(|thread| {
                    let plan = &plan;
                    (0..plan.clients_of(thread)).map(move |local| {
                        let client = plan.client_at(thread, local);
                        assert_eq!((plan.thread_of(client), plan.local_index(client)), (thread, local));
                        client
                    })
                })
                .collect();
            clients.sort_unstable();
            assert_eq!(clients, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn threads_expect_together_what_the_run_expects() {
        for arguments in [
            &["--slow-clients", "20"][..],
            &["--slow-clients", "20", "--room", "a,b,c,d", "--senders", "7"],
            &["--slow-clients", "20", "--dialect", "raw"],
            &["--dialect", "raw", "--rooms", "7", "--arrivals", "poisson"],
            &["--dialect", "private"],
            &["--dialect", "echo"],
        ] {
            let plan = plan_on(3, &[&["--clients", "100", "--rate", "90"], arguments].concat());
            let sum: u64 = (0..3).map(|thread| plan.expected_on(thread, plan.schedule.measured())).sum();
            let readers: Vec<u64> = (0..plan.rooms.count as usize)
                .map(|room| (0..3).map(|thread| plan.readers_on(thread)[room]).sum())
                .collect();
            let expected = match plan.dialect {
                Dialect::Echo => plan.schedule.measured_count(),
                _ => expected_counts(&plan, 0, &readers, std::iter::empty()).iter().sum(),
            };
            assert_eq!(sum, expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_high_chat_rate_is_shared_by_several_speakers_and_they_read() {
        let plan = plan(&["--clients", "100", "--rate", "81", "--slow-clients", "97"]);
        assert_eq!((plan.rooms.senders, plan.slow_count()), (3, 97));
        assert!((0..3).all(|speaker| !plan.is_slow(speaker)));
        assert_eq!([0, 1, 2, 3].map(|sequence| plan.speaker_of(sequence)), [0, 1, 2, 0]);
    }

    #[test]
    fn clients_that_leave_neither_speak_nor_are_slow() {
        let plan = plan(&["--clients", "20", "--rate", "81", "--slow-clients", "50", "--churn", "4"]);
        let churn = plan.churn.as_ref().expect("asked for");
        let mut leaving: Vec<_> = (0..7).map(|index| churn.client(index)).collect();
        assert_eq!(churn.client(7), leaving[0], "and then again");
        leaving.sort_unstable();
        let others: Vec<_> = (3..20).filter(|&client| !plan.is_slow(client)).collect();
        assert_eq!(leaving, others);
        assert_eq!([0, 1].map(|index| churn.due_ns(10, index)), [250_000_010, 500_000_010]);
    }

    #[test]
    fn in_private_two_clients_write_to_each_other() {
        let plan = plan(&["--dialect", "private", "--clients", "6"]);
        (0..6).for_each(|client| plan.note_user_id(client, 100 + u64::from(client)));
        assert_eq!([0, 1, 3, 5].map(|client| plan.partner_id_of(client)), [103, 104, 100, 102]);
        assert_eq!([0, 1, 2, 3].map(|sequence| plan.speaker_of(sequence)), [0, 1, 2, 3]);
        assert_eq!((plan.path_of(5), plan.room_of(5)), ("/chat", "general"));
    }

    #[test]
    fn every_room_has_its_name_and_its_path() {
        let raw = plan(&["--dialect", "raw", "--rooms", "2", "--topic", "t"]);
        assert_eq!(
            [0, 1, 2].map(|client| raw.path_of(client)),
            ["/broadcast/t-0", "/broadcast/t-1", "/broadcast/t-0"]
        );
        let chat = plan(&["--room", "general,tea room"]);
        assert_eq!([0, 1].map(|client| chat.room_of(client)), ["general", "tea room"]);
        assert_eq!((chat.path_of(1), chat.rooms.senders), ("/chat", 2));
    }
}
