//! The server: preflight, listener, one thread for each shard and each acceptor, signals, drain.
//!
//! The binary is a few lines around it: [`cli`] makes a [`Config`] of flags, environment and file,
//! [`preflight`] looks whether the machine can serve it, and [`run`] serves until it is told to
//! stop.
//!
//! # The flow
//!
//! A server is a set of shards, one thread on one core each, which share nothing but counters, and a few acceptors, a
//! thread each beside them.
//!
//! ```text
//!                                  an acceptor
//!             ┌────────────────────────────────────────────────────────┐
//!  TCP ──────►│ accept → TLS → head → route → page, health, or upgrade │  a task for each connection
//!             └────────────────────────────────────────┬───────────────┘
//!                                                      │ admission, to the shard with the fewest connections
//!                                   a shard            │
//!             ┌────────────────────────────────────────┼───────────────┐
//!             │          ring ──► completion ──────────▼               │  one loop for all
//!  frames ◄──►│   ▲                  │               Shard             │
//!             │   │                  ▼                                 │
//!             │   │       connection → dialect → command               │
//!             │   │                                 │ request          │
//!             │   │                  home of the room (hub)            │◄──► mesh ◄──► other
//!             │   │                                 │ delivery         │              shards
//!             │   └─ submission ◄─ out-queues ◄─ encode once           │
//!             └────────────────────────────────────────────────────────┘
//! ```
//!
//! - [`handshake`] does what happens once for each connection, with [`uproar_protocol`] to tell it what a request means.
//! - [`shard::event_loop`] does what happens for each message. It waits, collects completions from its [`uproar_ring`],
//!   steps the state machine [`shard::Shard`], and submits what that asks for.
//! - [`dialect`] turns messages into commands and events into bytes; [`hub`] knows rooms, and no sockets.
//!   Each room has one home shard, to which everything that changes it is sent as a [`hub::Request`], and
//!   which answers every shard that has members with a [`hub::Delivery`], through the [`mesh`].
//! - [`uproar_ring`] is the only crate with unsafe code.
//!
//! Imports point downwards in this list. [`shard::Shard`], [`hub::Homes`] and everything in [`uproar_protocol`] and
//! [`dialect`] are values: bytes, events and the time go in, bytes and events come out, and nothing waits.
//!
//! # Embedding
//!
//! A program can run the server itself:
//!
//! ```no_run
//! use uproar::config::Config;
//! use uproar::{preflight, server};
//!
//! let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
//! config.validate()?;
//! let report = preflight::run(&config);
//! let capacity = report.capacity().ok_or_else(|| report.to_string())?;
//! server::run(&config, capacity, |address| println!("at http://{address}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It takes over SIGINT, SIGTERM, SIGHUP and SIGXFSZ, keeps the calling thread on the cores of the
//! configuration, and returns when the shutdown that the first two ask for is complete, or cut short by a
//! second one.
//!
//! [`cli`]: crate::cli
//! [`preflight`]: crate::preflight
//! [`handshake`]: crate::handshake
//! [`uproar_protocol`]: uproar_protocol
//! [`shard::event_loop`]: crate::shard::event_loop
//! [`shard::Shard`]: crate::shard::Shard
//! [`dialect`]: crate::dialect
//! [`mesh`]: crate::mesh

mod acceptors;
mod listener;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use uproar_protocol::connection::KeepAlive;
use uproar_ring::{Ring, Waker};

use crate::accounts::{AccountError, Accounts, Verifier};
use crate::address::{self, AddressLimits};
use crate::certificate::{Certificate, CertificateError, CertificateFiles};
use crate::clock::{Clock, RunningClock};
use crate::config::{self, Auth, Config, Presence};
use crate::handshake::{Admissions, HandOver, Intake};
use crate::hub::{self, Delivery, Directory, Origin, PresencePolicy, Restored, ShardIndex};
use crate::mesh::{Mailbox, Mesh, ShardStopped};
use crate::metrics::Metrics;
use crate::permit::ClientPlaces;
use crate::preflight::Capacity;
use crate::shard::event_loop::{self, EventLoop};
use crate::shard::stage::Stage;
use crate::shard::{Deadlines, Limits, Rate, Settings, Shard};
use crate::storage::{
    DataDirectory, DatabaseError, DirectoryError, HISTORY_FILE, HistoryFile, HistoryWriter, StorageLink,
};
use acceptors::{AcceptorsStart, spawn_acceptors};
use listener::Listener;

/// The clients of an address where nothing else is said: a quarter of all, but no more than an office with several
/// windows each has, and no less than a household.
const ADDRESS_CLIENTS_MAX: usize = 1_000;
const ADDRESS_CLIENTS_MIN: usize = 64;

/// The least connections of an address that are not yet upgraded or answered, which is a sixteenth of all otherwise: a
/// browser opens six at once, and each is done after a round trip or two.
const ADDRESS_HANDSHAKES_MIN: usize = 64;

/// How often the end of shards that were told to stop is asked for again.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// How often that is asked for before the server ends without them, or without the storage.
const STOPS_MAX: u32 = 3;

/// The part of the drain timeout in which what clients have asked for is to be dealt with, and to be on the
/// disk, before they are closed all the same. Closing takes half of it, and the answers have the rest.
const SETTLE_PART: u32 = 4;

/// Why the server did not start, or did not end well.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {advice}")]
    Listen { address: SocketAddr, source: io::Error, advice: &'static str },
    /// A shard's thread could not be started or has failed.
    #[error("shard {shard} failed: {source}")]
    Shard { shard: u16, source: io::Error },
    /// An acceptor's thread could not be started or has failed.
    #[error("acceptor {acceptor} failed: {source}")]
    Acceptor { acceptor: usize, source: io::Error },
    /// The directory for what outlives the process cannot be used.
    #[error(transparent)]
    Data(#[from] DirectoryError),
    /// The accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// Everybody must sign in, and nobody can.
    #[error(
        "--auth required, but there is no account in {}; add one with: uproar user add NAME --admin --data {}",
        data.display(),
        data.display()
    )]
    NoAccounts { data: PathBuf },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What is in it cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The thread that writes to it has failed.
    #[error("the storage has failed: its thread has panicked")]
    Storage,
    /// A thread did not end when it was told to.
    #[error(
        "not everything has stopped in time, and history.db may not be closed; what was acknowledged is kept: \
         see that the disk works"
    )]
    NotStopped,
    /// Somebody did not want to wait for the shutdown.
    #[error("stopped by a second signal")]
    Interrupted,
    /// Signals or threads could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// What another thread tells the main thread.
enum Report {
    /// A shard or an acceptor has what it needs.
    Ready,
    /// An acceptor hands nothing over any more.
    AcceptorDrained,
    /// A shard has reached a stage.
    Reached(Stage),
    /// A thread has ended.
    Ended(Result<(), ServerError>),
}

/// Runs the server until it is told to stop. `announce` is called once, when every shard and every
/// acceptor serves.
///
/// # Errors
///
/// [`ServerError`]: what failed, and what to do about it.
pub fn run(
    config: &Config,
    capacity: Capacity,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), ServerError> {
    // This thread only waits, but not on a core that was left to somebody else.
    config.placement.confine()?;
    // Held until every shard has ended.
    let data = config.data.as_deref().map(DataDirectory::lock).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, capacity, data.as_ref(), announce))
}

async fn serve(
    config: &Config,
    capacity: Capacity,
    data: Option<&DataDirectory>,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), ServerError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // By default it ends the process; a program that has a terminal, or a supervisor that has every service read
    // its files again, means another end of it.
    let mut hangup = signal(SignalKind::hangup())?;
    // With a handler of its own in place of the default, which ends the process, a write beyond RLIMIT_FSIZE
    // fails like one to a full disk (setrlimit(2)). tokio keeps the handler when the stream is dropped.
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    let (tls_in_use, tls) = watch::channel(None);
    let certificate =
        CertificateFiles::of(config).map(|files| Certificate::open(files, tls_in_use)).transpose()?;
    let shards =
        u16::try_from(config.placement.shards()).expect("Bug: the configuration allows fewer shards");
    let directory = Directory::new(&config.rooms, shards);
    // Ahead of the listener, so that nobody is let in whose words could not be kept.
    let history = data
        .map(|data| HistoryFile::open(&data.path().join(HISTORY_FILE), &directory, config.history))
        .transpose()?;
    if let Some((_, restored)) = &history {
        directory.restore(&restored.rooms);
    }
    let listener = Listener::open(config.listen)?;
    let address = listener.address()?;
    let (intake, intake_seen) = watch::channel(Intake::Open);
    let (report, mut reports) = mpsc::unbounded_channel();
    let places = ClientPlaces::new(capacity.max_clients);
    let acceptors = config.acceptor_count();
    let metrics = Metrics::new(usize::from(shards), acceptors, places.clone());
    let wakers = (0..shards).map(|_| Waker::new()).collect::<io::Result<Vec<_>>>()?;
    let (stage, stage_seen) = ShardStage::new(wakers.clone());
    let (hand_over, admissions) = HandOver::new(config.placement.cores(), &wakers);
    let acceptors_start = AcceptorsStart {
        hand_over,
        intake: intake_seen,
        pending_max: capacity.pending_max,
        places,
        addresses: AddressLimits::new(address_limits(config, capacity)),
        metrics: metrics.clone(),
        tls,
    };
    let common = Common {
        config: config.clone(),
        directory,
        metrics: metrics.clone(),
        clock: Clock::start(),
        stage: stage_seen,
        report,
    };
    let mut threads = Vec::new();
    let (restored, links) = match history {
        None => (None, Vec::new()),
        Some((file, restored)) => {
            let (thread, links) = spawn_storage(file, &common, wakers.clone())?;
            threads.push(thread);
            (Some(restored), links)
        }
    };
    threads.extend(spawn_shards(&common, &wakers, admissions, restored.as_ref(), links)?);
    threads.extend(spawn_acceptors(&common, &acceptors_start, &listener)?);
    // The last report is that of the last thread.
    drop((common, acceptors_start));
    // Shards go through the stages of a shutdown while acceptors answer that there is one; in the end all return.
    let begin = |next: Stage| {
        stage.begin(next);
        if next == Stage::Stopped {
            intake.send_replace(Intake::Closed);
            listener.close();
        }
    };

    let mut waiting_for_ready = usize::from(shards) + acceptors;
    let mut waiting_for_drained = acceptors;
    let mut waiting_for_reached = shards;
    let mut announce = Some(announce);
    // When to close everyone though something is still to be dealt with.
    let mut settle_deadline: Option<Instant> = None;
    // When to stop waiting for those who do not answer.
    let mut deadline = None;
    let mut stops = 0;
    let outcome = loop {
        tokio::select! {
            () = sleep_until(settle_deadline.unwrap_or_else(Instant::now)), if settle_deadline.is_some() => {
                settle_deadline = None;
                if stage.current() < Stage::Draining {
                    warn!(
                        "everyone is closed before all their messages were stored and answered; if this is due to \
                         history.db, see that the disk works"
                    );
                    waiting_for_reached = shards;
                    begin(Stage::Draining);
                }
                continue;
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                if stops == 0 {
                    warn!("the drain timeout is over; whoever is left is cut off");
                } else if stops == STOPS_MAX {
                    break Err(ServerError::NotStopped);
                }
                stops += 1;
                deadline = Some(Instant::now() + STOP_TIME_MAX);
                begin(Stage::Stopped);
                continue;
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {
                match &certificate {
                    Some(certificate) => certificate.reload(),
                    None => info!("SIGHUP ignored: TLS is not configured, see --tls-cert"),
                }
                continue;
            }
            report = reports.recv() => {
                match report {
                    Some(Report::Ready) => {
                        waiting_for_ready -= 1;
                        if waiting_for_ready == 0 && let Some(announce) = announce.take() {
                            announce(address);
                        }
                    }
                    Some(Report::AcceptorDrained) => {
                        waiting_for_drained -= 1;
                        // What was handed over by now is taken in the turn with which the stage begins.
                        if waiting_for_drained == 0 && stage.current() == Stage::Serving {
                            begin(Stage::Hushed);
                        }
                    }
                    Some(Report::Reached(reached)) if reached == stage.current() => {
                        waiting_for_reached -= 1;
                        if waiting_for_reached == 0 {
                            waiting_for_reached = shards;
                            begin(reached.next());
                        }
                    }
                    Some(Report::Reached(_)) => {}
                    Some(Report::Ended(Err(error))) => break Err(error),
                    Some(Report::Ended(Ok(()))) => {}
                    None => break Ok(()),
                }
                continue;
            }
        }
        if deadline.is_some() {
            break Err(ServerError::Interrupted);
        }
        info!("shutting down");
        deadline = Some(Instant::now() + config.drain_timeout);
        settle_deadline = Some(Instant::now() + config.drain_timeout / SETTLE_PART);
        metrics.set_draining();
        intake.send_replace(Intake::Draining);
    };
    if outcome.is_ok() {
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a thread has panicked"))?;
        }
    }
    outcome
}

/// Starts the thread that writes to the disk. It ends when every shard has let go of its link.
fn spawn_storage(
    file: HistoryFile,
    common: &Common,
    shards: Vec<Waker>,
) -> Result<(JoinHandle<()>, Vec<StorageLink>), ServerError> {
    let metrics = Arc::clone(common.metrics.storage());
    let (writer, links) = HistoryWriter::new(file, &common.directory, shards, metrics);
    let ending = Ending { report: common.report.clone(), outcome: Err(ServerError::Storage) };
    let thread = thread::Builder::new().name("storage".to_owned());
    let thread = thread.spawn(move || ending.finish(writer.run().map_err(ServerError::from)))?;
    Ok((thread, links))
}

/// Starts a thread for each shard.
fn spawn_shards(
    common: &Common,
    wakers: &[Waker],
    admissions: Vec<Admissions>,
    restored: Option<&Restored>,
    storage: Vec<StorageLink>,
) -> Result<Vec<JoinHandle<()>>, ServerError> {
    let (mesh, mailboxes) = Mesh::new(wakers.to_vec());
    let verifier = start_verifier(&common.config, &mesh)?;
    let mut storage = storage.into_iter();
    let mut threads = Vec::new();
    let cores = common.config.placement.cores();
    let queues = admissions.into_iter().zip(mailboxes);
    for (((index, core), waker), (admissions, mailbox)) in (0..).zip(cores).zip(wakers).zip(queues) {
        let start = ShardStart {
            waker: waker.clone(),
            index: ShardIndex(index),
            core,
            common: common.clone(),
            mesh: mesh.clone(),
            mailbox,
            verifier: verifier.clone(),
            admissions,
            restored: restored.cloned(),
            storage: storage.next(),
        };
        let thread = thread::Builder::new().name(format!("shard-{index}"));
        let failed = |source| ServerError::Shard { shard: index, source };
        threads.push(thread.spawn(move || start.run()).map_err(failed)?);
    }
    Ok(threads)
}

/// Starts the thread that verifies passwords, where there can be accounts. Nobody joins it: it ends behind
/// the last shard, when it is done with the hash that it is at.
fn start_verifier(config: &Config, mesh: &Mesh) -> Result<Option<Verifier<Origin>>, ServerError> {
    let Some(data) = &config.data else { return Ok(None) };
    let accounts = Accounts::open(data)?;
    if config.auth == Auth::Required && accounts.is_empty()? {
        return Err(ServerError::NoAccounts { data: data.clone() });
    }
    let mesh = mesh.clone();
    let answer = move |to: Origin, verdict| match mesh.deliver(to.shard, Delivery::Judged { to, verdict }) {
        Ok(()) => ControlFlow::Continue(()),
        Err(ShardStopped) => ControlFlow::Break(()),
    };
    let (verifier, _) = Verifier::start(accounts, answer)?;
    Ok(Some(verifier))
}

/// What each address may have.
fn address_limits(config: &Config, capacity: Capacity) -> address::Limits {
    let clients_max = config
        .max_clients_per_address
        .unwrap_or_else(|| (capacity.max_clients / 4).clamp(ADDRESS_CLIENTS_MIN, ADDRESS_CLIENTS_MAX));
    address::Limits {
        clients_max,
        upgrades_max: config.connect_rate_per_address,
        // Without a limit on its clients, an address stands for many: a proxy.
        handshakes_max: match clients_max {
            0 => 0,
            _ => (capacity.pending_max / 16).max(ADDRESS_HANDSHAKES_MIN),
        },
        unlimited: config.no_limit_for.clone(),
    }
}

/// A shard's part of the configuration.
fn settings(config: &Config, index: ShardIndex) -> Settings {
    let milliseconds = |duration: Duration| duration.as_millis() as u64;
    Settings {
        index,
        limits: Limits {
            message_bytes_max: config.max_message_bytes,
            frame_bytes_max: config.max_frame_bytes,
            queue_bytes_max: config.send_queue_bytes,
            rate: Rate { per_second: config.rate, burst: config.burst },
        },
        deadlines: Deadlines {
            keep_alive: KeepAlive {
                ping_interval_ms: milliseconds(config.ping_interval),
                idle_timeout_ms: milliseconds(config.idle_timeout),
            },
            drain_timeout_ms: milliseconds(config.drain_timeout),
        },
        sign_in_timeout_ms: (config.auth == Auth::Required).then(|| milliseconds(config.handshake_timeout)),
        rooms: hub::Settings {
            names_max: config.presence_limit,
            presence: match config.presence {
                Presence::Auto => PresencePolicy::UpTo(config.presence_limit),
                Presence::Exact => PresencePolicy::Exact,
                Presence::Count => PresencePolicy::Count(config.presence_limit),
            },
            history: config.history,
        },
    }
}

/// What shards and acceptors are started with.
#[derive(Clone)]
struct Common {
    config: Config,
    directory: Directory,
    metrics: Metrics,
    clock: Clock,
    stage: watch::Receiver<Stage>,
    report: mpsc::UnboundedSender<Report>,
}

/// The stage that all shards are told. Whatever ends the server, they end with it.
struct ShardStage {
    stage: watch::Sender<Stage>,
    wakers: Vec<Waker>,
}

impl ShardStage {
    fn new(wakers: Vec<Waker>) -> (Self, watch::Receiver<Stage>) {
        let (stage, seen) = watch::channel(Stage::Serving);
        (Self { stage, wakers }, seen)
    }

    fn current(&self) -> Stage {
        *self.stage.borrow()
    }

    fn begin(&self, stage: Stage) {
        self.stage.send_replace(stage);
        self.wakers.iter().for_each(Waker::wake);
    }
}

impl Drop for ShardStage {
    fn drop(&mut self) {
        self.begin(Stage::Stopped);
    }
}

/// Tells the main thread that one has ended, however it has.
struct Ending {
    report: mpsc::UnboundedSender<Report>,
    outcome: Result<(), ServerError>,
}

impl Ending {
    fn finish(mut self, outcome: Result<(), ServerError>) {
        self.outcome = outcome;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        // Fails when the main thread has given up already.
        let _ = self.report.send(Report::Ended(outcome));
    }
}

/// What a shard's thread takes with it.
struct ShardStart {
    index: ShardIndex,
    waker: Waker,
    core: Option<usize>,
    common: Common,
    mesh: Mesh,
    mailbox: Mailbox,
    verifier: Option<Verifier<Origin>>,
    admissions: Admissions,
    restored: Option<Restored>,
    storage: Option<StorageLink>,
}

impl ShardStart {
    fn run(self) {
        let shard = self.index.0;
        let failed = |source| ServerError::Shard { shard, source };
        let panicked = failed(io::Error::other("its thread has panicked"));
        let ending = Ending { report: self.common.report.clone(), outcome: Err(panicked) };
        let pinned = self.core.map_or(Ok(()), |core| config::pin(&[core]));
        ending.finish(pinned.and_then(|()| self.serve()).map_err(failed));
    }

    fn serve(self) -> io::Result<()> {
        let Common { config, directory, metrics, clock, stage, report } = self.common;
        let shard_metrics = metrics.shard(usize::from(self.index.0));
        let mut shard = Shard::new(settings(&config, self.index), &directory, Arc::clone(&shard_metrics));
        if let Some(restored) = &self.restored {
            shard.restore(restored);
        }
        let reached = report.clone();
        let ring_options =
            uproar_ring::Options { features: config.ring_features, ..uproar_ring::Options::default() };
        let event_loop = EventLoop {
            shard,
            index: self.index,
            ring: uproar_ring::retrying_enomem(|| Ring::new(ring_options, self.waker.clone()))?,
            mailbox: self.mailbox,
            mesh: self.mesh,
            verifier: self.verifier,
            storage: self.storage,
            receipts: VecDeque::new(),
            admissions: self.admissions,
            stage,
            reached: Box::new(move |stage| {
                let _ = reached.send(Report::Reached(stage));
            }),
            clock: RunningClock::new(clock),
            busy_poll: config.busy_poll,
            metrics: shard_metrics,
            tally: event_loop::Tally::default(),
        };
        let _ = report.send(Report::Ready);
        drop(report);
        event_loop.run()
    }
}
