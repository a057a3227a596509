//! Who connects, who speaks, who is slow, and on which thread: everything about a run that is decided
//! before it begins. All threads read the same plan.

use std::net::{Ipv4Addr, SocketAddr};

use crate::cli::{Dialect, RunOptions};
use crate::clock::nanoseconds;
use crate::error::Error;
use crate::payload::{BINARY_BYTES_MIN, TEXT_BYTES_MIN, Template};
use crate::schedule::{BROADCASTS_MAX, Schedule};
use crate::target::Target;

/// How often one client speaks in chat, at most: a chat server may limit a client to 50 messages a
/// second, and a limit that is only just met would be met unevenly.
pub const CHAT_SPEAKER_RATE_MAX: f64 = 40.0;
/// How many clients are on their way at a time when nothing else is asked for: below every usual
/// listen backlog, so that no SYN is dropped and retried a second later.
const CONNECTING_MAX: u32 = 512;

/// A run, decided.
#[derive(Debug)]
pub struct Plan {
    /// The language spoken.
    pub dialect: Dialect,
    /// Where the server is.
    pub server: SocketAddr,
    /// The `Host` header.
    pub authority: String,
    /// The path that is upgraded.
    pub path: String,
    /// The chat room, or the topic.
    pub room: String,
    /// How many clients there are.
    pub clients: u32,
    /// How many of them speak: the clients numbered below this.
    pub speakers: u32,
    /// How many threads share the clients.
    pub threads: u32,
    /// Which clients stop reading once they have joined.
    slow: Vec<bool>,
    /// When what is due.
    pub schedule: Schedule,
    /// Makes and reads payloads.
    pub template: Template,
    /// How long to wait for what is missing.
    pub drain_ns: u64,
    /// Connects a second and thread.
    pub connect_rate: Option<f64>,
    /// How many clients of a thread may be on their way at a time.
    pub connecting_max: usize,
    /// Source addresses to take in turn; empty for the kernel's choice.
    pub sources: Vec<Ipv4Addr>,
    /// Poll instead of sleeping.
    pub busy_poll: bool,
    /// Seed of keys and masks.
    pub seed: u64,
}

/// What preflight found out, for the plan.
#[derive(Debug)]
pub struct Findings {
    /// The address of the server.
    pub server: SocketAddr,
    /// Source addresses to take in turn.
    pub sources: Vec<Ipv4Addr>,
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
    pub fn new(
        options: &RunOptions,
        target: &Target,
        findings: Findings,
        seed: u64,
        token: u32,
    ) -> Result<Self, Error> {
        check(options)?;
        let speakers = speaker_count(options);
        let Findings { server, sources, threads, busy_poll } = findings;
        let room = options.room.clone().unwrap_or_else(|| default_room(options.dialect).to_owned());
        Ok(Self {
            dialect: options.dialect,
            server,
            authority: target.authority.clone(),
            path: path(options, target),
            room,
            clients: options.clients,
            speakers,
            threads,
            slow: choose_slow(options.clients, speakers, slow_count(options), seed),
            schedule: Schedule::constant(options.rate, options.warmup, options.duration),
            template: Template::new(token, options.payload),
            drain_ns: nanoseconds(options.drain),
            connect_rate: options.connect_rate.map(|rate| rate / f64::from(threads)),
            connecting_max: CONNECTING_MAX.div_ceil(threads) as usize,
            sources,
            busy_poll,
            seed,
        })
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
        (sequence % u64::from(self.speakers)) as u32
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

    /// How many deliveries one broadcast comes to when so many clients read.
    #[must_use]
    pub fn deliveries(&self, readers: u64) -> u64 {
        deliveries(self.dialect, readers)
    }

    /// How many deliveries of measured broadcasts the clients of a thread are to receive.
    #[must_use]
    pub fn expected_on(&self, thread: u32) -> u64 {
        let readers = (0..self.clients_of(thread))
            .filter(|&local_index| !self.is_slow(self.client_at(thread, local_index)))
            .count() as u64;
        let spoken_here = (0..self.schedule.measured_count() as usize)
            .filter(|&index| self.thread_of(self.speaker_of(self.schedule.sequence_of(index))) == thread)
            .count() as u64;
        match self.dialect {
            Dialect::Chat => self.schedule.measured_count() * readers - spoken_here,
            Dialect::Raw => self.schedule.measured_count() * readers,
            Dialect::Echo => spoken_here,
        }
    }
}

/// Refuses options that contradict each other.
///
/// # Errors
///
/// [`Error::Usage`], naming the option and what is allowed.
pub fn check(options: &RunOptions) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Usage(why));
    let least = if options.dialect == Dialect::Chat { TEXT_BYTES_MIN } else { BINARY_BYTES_MIN };
    if !(least..=1 << 20).contains(&options.payload) {
        let (name, payload) = (options.dialect.name(), options.payload);
        return refuse(format!("--payload {payload}: {name} takes {least} to 1,048,576 bytes"));
    }
    if options.duration.is_zero() {
        return refuse("--duration 0: there is nothing to measure in no time".to_owned());
    }
    let is_plain = |topic: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !topic.is_empty() && topic.bytes().all(allowed)
    };
    if let (Dialect::Raw, Some(topic)) = (options.dialect, &options.room)
        && !is_plain(topic)
    {
        return refuse(format!(
            "--topic {topic:?}: it is part of a path; letters, digits and -._~ are allowed"
        ));
    }
    let span = options.warmup + options.duration + options.drain;
    if options.rate * span.as_secs_f64() > BROADCASTS_MAX as f64 || span.as_secs() > 72 * 3600 {
        return refuse(format!("--rate and --duration: at most {BROADCASTS_MAX} broadcasts in 72 hours"));
    }
    let slow = slow_count(options);
    if options.dialect == Dialect::Echo && slow > 0 {
        return refuse(
            "--slow-clients: an echo goes to its sender alone, so nobody waits for the slow".into(),
        );
    }
    let speakers = speaker_count(options);
    let readers = options.clients - slow;
    if speakers > readers {
        return refuse(format!(
            "--rate {}: needs {speakers} clients that speak ({CHAT_SPEAKER_RATE_MAX} messages a second each, \
             see --help), and {readers} read",
            options.rate
        ));
    }
    if deliveries(options.dialect, u64::from(readers)) == 0 {
        return refuse("--clients: chat needs one that speaks and one that receives".to_owned());
    }
    Ok(())
}

/// How many deliveries one broadcast comes to when so many clients read.
#[must_use]
pub fn deliveries(dialect: Dialect, readers: u64) -> u64 {
    match dialect {
        Dialect::Chat => readers.saturating_sub(1),
        Dialect::Raw => readers,
        Dialect::Echo => 1,
    }
}

/// How many clients stop reading.
#[must_use]
pub fn slow_count(options: &RunOptions) -> u32 {
    (f64::from(options.clients) * options.slow_clients / 100.0).round() as u32
}

/// The path to upgrade.
#[must_use]
pub fn path(options: &RunOptions, target: &Target) -> String {
    let by_dialect = || match options.dialect {
        Dialect::Chat => "/chat".to_owned(),
        Dialect::Raw => {
            format!("/broadcast/{}", options.room.as_deref().unwrap_or(default_room(Dialect::Raw)))
        }
        Dialect::Echo => "/echo".to_owned(),
    };
    target.path.clone().unwrap_or_else(by_dialect)
}

/// The room that a chat client is in from the beginning, and the topic that only loadgen uses.
fn default_room(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Chat { INITIAL_ROOM } else { "loadgen" }
}

/// The chat room in which every client begins.
pub const INITIAL_ROOM: &str = "general";

fn speaker_count(options: &RunOptions) -> u32 {
    match options.dialect {
        Dialect::Chat => (options.rate / CHAT_SPEAKER_RATE_MAX).ceil().max(1.0) as u32,
        Dialect::Raw => 1,
        Dialect::Echo => options.clients,
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;
    use std::sync::Arc;

    fn options(arguments: &[&str]) -> RunOptions {
        Cli::try_parse_from([&["loadgen"], arguments].concat()).expect("parses").into_run().expect("a run")
    }

    /// The plan of a command line, on one thread.
    pub(crate) fn plan(arguments: &[&str]) -> Arc<Plan> {
        plan_on(1, arguments)
    }

    fn plan_on(threads: u32, arguments: &[&str]) -> Arc<Plan> {
        let options = options(arguments);
        let target = Target::parse(&options.url).expect("parses");
        let findings =
            Findings { server: ([127, 0, 0, 1], 1).into(), sources: Vec::new(), threads, busy_poll: false };
        Arc::new(Plan::new(&options, &target, findings, 1, 2).expect("consistent"))
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
        for dialect in ["chat", "raw", "echo"] {
            let slow = if dialect == "echo" { "0" } else { "20" };
            let plan = plan_on(
                3,
                &["--clients", "100", "--dialect", dialect, "--rate", "90", "--slow-clients", slow],
            );
            let readers = u64::from(plan.clients - plan.slow_count());
            let sum: u64 = (0..3).map(|thread| plan.expected_on(thread)).sum();
            assert_eq!(sum, plan.schedule.measured_count() * plan.deliveries(readers), "{dialect}");
        }
    }

    #[test]
    fn a_high_chat_rate_is_shared_by_several_speakers_and_they_read() {
        let plan = plan(&["--clients", "100", "--rate", "81", "--slow-clients", "97"]);
        assert_eq!((plan.speakers, plan.slow_count()), (3, 97));
        assert!((0..3).all(|speaker| !plan.is_slow(speaker)));
        assert_eq!([0, 1, 2, 3].map(|sequence| plan.speaker_of(sequence)), [0, 1, 2, 0]);
    }

    #[test]
    fn contradictions_are_refused() {
        for arguments in [
            &["--payload", "46"][..],
            &["--payload", "31", "--dialect", "raw"],
            &["--clients", "1"],
            &["--clients", "2", "--rate", "81"],
            &["--duration", "0s"],
            &["--dialect", "echo", "--slow-clients", "10"],
            &["--dialect", "raw", "--topic", "a b"],
        ] {
            assert!(matches!(check(&options(arguments)), Err(Error::Usage(_))), "{arguments:?}");
        }
    }
}
