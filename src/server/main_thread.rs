//! The main thread: starts the others, and passes signals, reports and the time to the [`Coordinator`], and carries
//! out its actions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use uproar_ring::Waker;

use super::acceptors::{AcceptorsStart, address_limits, spawn_acceptors};
use super::api::{ApiPlace, ApiStart};
use super::error::ServerError;
use super::listener::Listener;
use super::shards::{ThreadLinks, spawn_shards};
use super::shutdown::{Action, Coordinator, Exit, Notice};
use super::thread_context::{ThreadContext, ThreadReport, ThreadReports};
use crate::address::AddressLimiter;
use crate::api::ApiKeyFile;
use crate::certificate::{Certificate, CertificateFiles};
use crate::clock::Clock;
use crate::config::Config;
use crate::handshake::{HandOver, Intake};
use crate::mesh::Mesh;
use crate::metrics::{Dialect, Metrics};
use crate::moderation::Moderation;
use crate::permit::ClientPermits;
use crate::preflight::Capacity;
use crate::rooms::{Directory, UserId};
use crate::sessions::{SessionKey, SessionSigner};
use crate::shard::SessionSettings;
use crate::shard::stage::Stage;
use crate::storage::{
    DataDirectory, HISTORY_FILE, HistoryFile, HistoryWriter, RestoredState, STATE_FILE, StateFile, StateLink,
    StateSources, StateWriter, StorageLink,
};
use crate::tokens::{TokenFiles, TokenKeys};
use crate::topics::TopicLimiter;

/// Runs the server until a signal stops it. `announce` is called once, when every shard and every
/// acceptor serves.
///
/// # Errors
///
/// [`ServerError`], which says what to do.
pub fn run(
    config: &Config,
    capacity: Capacity,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), ServerError> {
    // This thread only waits, but it should do so on the cores of the server, too.
    config.placement.confine()?;
    // Held until every shard has ended.
    let data = config.data.as_deref().map(DataDirectory::lock).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, capacity, data.as_ref(), announce))
}

/// Starts all threads, and runs until they have ended.
async fn serve(
    config: &Config,
    capacity: Capacity,
    data: Option<&DataDirectory>,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), ServerError> {
    let signals = Signals::take_over()?;
    let (tls_in_use, tls) = watch::channel(None);
    let certificate =
        CertificateFiles::of(config).map(|files| Certificate::open(files, tls_in_use)).transpose()?;
    let (token_keys, tokens) = TokenFiles::of(config).map(TokenKeys::open).transpose()?.unzip();
    let (api, api_keys) = ApiStart::open(config)?;
    let reloaded = ReloadedFiles { certificate, token_keys, api_keys };
    let shards =
        u16::try_from(config.placement.shards()).expect("Bug: the configuration allows fewer shards");
    let directory =
        Directory::new(&config.rooms, shards).with_rooms_on_demand(&config.room_patterns, config.rooms_max);
    // Ahead of the listener, so that no client connects before history can be written.
    let history = data
        .map(|data| {
            let path = data.path().join(HISTORY_FILE);
            HistoryFile::open(&path, &directory, config.history, config.rooms_kept)
        })
        .transpose()?;
    if let Some((_, restored)) = &history {
        directory.restore(&restored.rooms);
    }
    let moderation = Moderation::new(config.trusted_proxies.clone());
    let last_author = history.as_ref().and_then(|(_, restored)| restored.last_author);
    let sessions_max = capacity.max_clients.max(SESSIONS_MIN);
    let (sessions, state) = open_state(config, data, &directory, &moderation, last_author, sessions_max)?;
    let listener = Listener::open(config.listen)?;
    let address = listener.address()?;
    warn_of_strangers(config, address);
    let (intake, intake_seen) = watch::channel(Intake::Open);
    let (reports, reports_received) = ThreadReports::new();
    let client_permits = ClientPermits::new(capacity.max_clients);
    let acceptors = config.acceptor_count();
    let metrics = Metrics::new(usize::from(shards), acceptors, client_permits.clone());
    let wakers = (0..shards).map(|_| Waker::new()).collect::<io::Result<Vec<_>>>()?;
    let (stage, stage_seen) = ShardStage::new(wakers.clone());
    let (hand_over, admissions) = HandOver::new(config.placement.cores(), &wakers);
    let acceptors_start = AcceptorsStart {
        hand_over,
        intake: intake_seen.clone(),
        pending_max: capacity.pending_max,
        client_permits,
        addresses: AddressLimiter::new(address_limits(config, capacity)),
        topics: TopicLimiter::new(config.topics_max),
        metrics: metrics.clone(),
        tls: tls.clone(),
    };
    let clock = Clock::start();
    let context = ThreadContext {
        config: config.clone(),
        directory,
        metrics: metrics.clone(),
        clock,
        tokens: tokens.unwrap_or_default(),
        moderation,
        sessions,
        stage: stage_seen,
        reports,
    };
    let mut threads = Vec::new();
    let (restored, links) = match history {
        None => (None, Vec::new()),
        Some((file, restored)) => {
            let (thread, links) = spawn_storage(file, &context, wakers.clone())?;
            threads.push(thread);
            (Some(restored), links)
        }
    };
    let state = match state {
        None => None,
        Some((file, restored)) => {
            let (thread, link) = spawn_state_writer(file, &context)?;
            threads.push(thread);
            Some((restored.sessions.into(), link))
        }
    };
    let (mesh, mailboxes) = Mesh::new(wakers.clone());
    let (to_api, answers) = api.is_some().then(unbounded_channel).unzip();
    // The answers to the API end with the last shard.
    let links = ThreadLinks { restored, storage: links, state, api: to_api };
    threads.extend(spawn_shards(&context, &wakers, &mesh, mailboxes, admissions, links)?);
    threads.extend(spawn_acceptors(&context, &acceptors_start, &listener)?);
    // The API is drained like an acceptor, behind these.
    let mut drained_count = acceptors;
    if let Some((api, answers)) = api.zip(answers) {
        info!(address = %api.address()?, tls = config.api_tls, "the HTTP API listens");
        let place = ApiPlace { index: acceptors, mesh, answers, tls, intake: intake_seen };
        threads.push(api.spawn(&context, place)?);
        drained_count += 1;
    }
    // So that the channel closes with the last thread.
    drop((context, acceptors_start));
    let ready =
        Ready { waiting_for: usize::from(shards) + drained_count, announce: Some(|| announce(address)) };
    let controls = Controls { stage, intake, listener, metrics };
    let drain_timeout_ms = config.drain_timeout.as_millis() as u64;
    let coordinator = Coordinator::new(usize::from(shards), drained_count, drain_timeout_ms);
    lead(coordinator, controls, clock, signals, reports_received, ready, &reloaded).await?;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread has panicked"))?;
    }
    Ok(())
}

/// Sessions that have ended and are kept, where there may be fewer clients than this; otherwise as many as clients, because
/// all may be closed at once. Some 300 bytes each: 20 MB.
const SESSIONS_MIN: usize = 1 << 16;

/// The state that outlives the server, with `--data`, and how users come back.
type OpenedState = (Option<SessionSettings>, Option<(StateFile, RestoredState)>);

/// Opens the state of users and the key of their sessions, and continues their ids and sessions, the bans and the mutes.
fn open_state(
    config: &Config,
    data: Option<&DataDirectory>,
    directory: &Directory,
    moderation: &Moderation,
    last_author: Option<UserId>,
    sessions_max: usize,
) -> Result<OpenedState, ServerError> {
    let users = directory.users();
    let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (key, state) = match data {
        None => (SessionKey::random(), None),
        Some(data) => {
            let key = SessionKey::open(data.path())?;
            let path = data.path().join(STATE_FILE);
            (key, Some(StateFile::open(&path, config.session_timeout, unix_seconds)?))
        }
    };
    // Nobody is taken for the author of a kept message, also where the state was lost.
    users.continue_after(last_author.map_or(0, UserId::get));
    let series = state.as_ref().map_or([0; 16], |(_, restored)| restored.series);
    if let Some((_, restored)) = &state {
        users.continue_after(restored.last_user);
        users.reserve_through(restored.reserved_through);
        users.restore(&restored.sessions);
        let left_out = moderation.restore(&restored.terms, unix_seconds);
        if left_out > 0 {
            warn!(left_out, "{STATE_FILE} has more bans or mutes than are kept; some are not in force");
        }
    }
    let timeout_ms = config.session_timeout.as_millis() as u64;
    let signer = SessionSigner::new(&key, series);
    let settings = SessionSettings { signer, timeout_ms, kept_max: sessions_max };
    Ok(((timeout_ms > 0).then_some(settings), state))
}

/// Starts the thread that writes the state. It ends when every shard has dropped its link.
fn spawn_state_writer(
    file: StateFile,
    context: &ThreadContext,
) -> Result<(JoinHandle<()>, StateLink), ServerError> {
    let sources =
        StateSources { users: context.directory.users().clone(), moderation: context.moderation.clone() };
    let (writer, link) = StateWriter::new(file, sources);
    let end = context.report_end(ServerError::State);
    let thread = thread::Builder::new().name("state".to_owned());
    let run = move || {
        writer.run();
        end.report(Ok(()));
    };
    Ok((thread.spawn(run)?, link))
}

/// Warns when anyone who reaches the server may publish, or make it answer.
fn warn_of_strangers(config: &Config, address: SocketAddr) {
    let mut open = config.open_dialects();
    if open.is_empty() {
        return;
    }
    let (anyone, elsewhere) = if config.listens_on_loopback() {
        (format!("anyone whom a proxy connects to {address}"), String::new())
    } else {
        let here = format!(", or listen on this machine only, with --listen 127.0.0.1:{}", address.port());
        (format!("anyone who reaches {address}"), here)
    };
    let echo = open.pop_if(|dialect| *dialect == Dialect::Echo);
    let open = open.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let allowed = if open.is_empty() {
        format!("use echo: it answers {anyone}")
    } else {
        let and_echo = if echo.is_some() { ", and echo answers them" } else { "" };
        format!("publish: {anyone} may send messages as {open} without signing in{and_echo}")
    };
    warn!(
        "strangers may {allowed}. Require sign-in with --auth required, let strangers only listen with --anonymous \
         listen, speak less with --dialects chat{elsewhere}"
    );
}

/// Drives the coordinator until the server has ended.
async fn lead(
    mut coordinator: Coordinator<ServerError>,
    controls: Controls,
    clock: Clock,
    mut signals: Signals,
    mut reports: mpsc::UnboundedReceiver<ThreadReport>,
    mut ready: Ready<impl FnOnce()>,
    reloaded: &ReloadedFiles,
) -> Result<(), ServerError> {
    loop {
        while let Some(action) = coordinator.poll_action() {
            if let Some(exit) = controls.carry_out(action) {
                return match exit {
                    Exit::Complete => Ok(()),
                    Exit::Interrupted => Err(ServerError::Interrupted),
                    Exit::NotStopped => Err(ServerError::NotStopped),
                    Exit::Failed(error) => Err(error),
                };
            }
        }
        let now_ms = || clock.now().monotonic_ms;
        let due_ms = coordinator.next_due_ms();
        let pause = Duration::from_millis(due_ms.unwrap_or(0).saturating_sub(now_ms()));
        tokio::select! {
            () = tokio::time::sleep(pause), if due_ms.is_some() => coordinator.handle_timeout(now_ms()),
            _ = signals.interrupt.recv() => coordinator.handle_signal(now_ms()),
            _ = signals.terminate.recv() => coordinator.handle_signal(now_ms()),
            _ = signals.hangup.recv() => reloaded.reload(),
            report = reports.recv() => match report {
                Some(ThreadReport::Ready) => ready.count(),
                Some(ThreadReport::AcceptorDrained(acceptor)) => coordinator.handle_acceptor_drained(acceptor),
                Some(ThreadReport::StageReached(shard, stage)) => coordinator.handle_stage_reached(shard, stage),
                Some(ThreadReport::Ended(Err(error))) => coordinator.handle_failure(error),
                Some(ThreadReport::Ended(Ok(()))) => {}
                None => coordinator.handle_all_ended(),
            },
        }
    }
}

/// The files that are read again on SIGHUP.
struct ReloadedFiles {
    certificate: Option<Certificate>,
    token_keys: Option<TokenKeys>,
    api_keys: Option<ApiKeyFile>,
}

impl ReloadedFiles {
    fn reload(&self) {
        if let Some(certificate) = &self.certificate {
            certificate.reload();
        }
        if let Some(token_keys) = &self.token_keys {
            token_keys.reload();
        }
        if let Some(api_keys) = &self.api_keys {
            api_keys.reload();
        }
        if self.certificate.is_none() && self.token_keys.is_none() && self.api_keys.is_none() {
            info!(
                "SIGHUP ignored: there are no files to read again, see --tls-cert, --token-key and --api-key-file"
            );
        }
    }
}

/// Starts the thread that writes to the disk. It ends when every shard has dropped its link.
fn spawn_storage(
    file: HistoryFile,
    context: &ThreadContext,
    shards: Vec<Waker>,
) -> Result<(JoinHandle<()>, Vec<StorageLink>), ServerError> {
    let metrics = Arc::clone(context.metrics.storage());
    let (writer, links) = HistoryWriter::new(file, shards, metrics);
    let end = context.report_end(ServerError::Storage);
    let thread = thread::Builder::new().name("storage".to_owned());
    let thread = thread.spawn(move || end.report(writer.run().map_err(ServerError::from)))?;
    Ok((thread, links))
}

/// The signals that the server handles.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Reads files again. By default SIGHUP ends a process.
    hangup: Signal,
}

impl Signals {
    fn take_over() -> io::Result<Self> {
        // With a handler instead of the default, which ends the process, a write beyond RLIMIT_FSIZE fails like one
        // to a full disk (setrlimit(2)). tokio keeps the handler when the stream is dropped.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Waits for all threads to be ready.
struct Ready<F> {
    waiting_for: usize,
    /// Called when all are ready.
    announce: Option<F>,
}

impl<F: FnOnce()> Ready<F> {
    fn count(&mut self) {
        self.waiting_for -= 1;
        if self.waiting_for == 0
            && let Some(announce) = self.announce.take()
        {
            announce();
        }
    }
}

/// Carries the coordinator's actions to the other threads.
struct Controls {
    stage: ShardStage,
    intake: watch::Sender<Intake>,
    listener: Listener,
    metrics: Metrics,
}

impl Controls {
    /// Carries an action out. Returns how the server ends if the action is [`Action::Exit`].
    fn carry_out(&self, action: Action<ServerError>) -> Option<Exit<ServerError>> {
        match action {
            Action::DrainAcceptors => {
                self.metrics.set_draining();
                self.intake.send_replace(Intake::Draining);
            }
            Action::BeginStage(stage) => self.stage.begin(stage),
            Action::StopAcceptors => {
                self.intake.send_replace(Intake::Closed);
                self.listener.close();
            }
            Action::Log(Notice::ShuttingDown) => info!("shutting down"),
            Action::Log(Notice::SettleTimedOut) => warn!(
                "everyone is closed before all messages were stored and answered; if history.db is the reason, check the disk"
            ),
            Action::Log(Notice::DrainTimedOut) => {
                warn!("the drain timeout is over; closing remaining connections");
            }
            Action::Exit(exit) => return Some(exit),
        }
        None
    }
}

/// Tells all shards which stage to begin, and to stop when it is dropped.
struct ShardStage {
    stage: watch::Sender<Stage>,
    wakers: Vec<Waker>,
}

impl ShardStage {
    fn new(wakers: Vec<Waker>) -> (Self, watch::Receiver<Stage>) {
        let (stage, seen) = watch::channel(Stage::Serving);
        (Self { stage, wakers }, seen)
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
