//! The leading thread: starts the others, passes orders, reports and the time to the [`Coordinator`], and carries out its
//! actions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};
use uproar_ring::Waker;

use super::acceptors::{AcceptorsStart, address_limits, spawn_acceptors};
use super::control::{ApiDoor, ControlPlace, spawn_control};
use super::controls::{Controls, ShardStage};
use super::error::ServerError;
use super::hooks::{Hooked, Hooks};
use super::listener::Port;
use super::reloaded_files::ReloadedFiles;
use super::shards::{ThreadLinks, spawn_shards};
use super::shutdown::{Coordinator, Exit};
use super::stored::{SESSIONS_MIN, open_state, spawn_state_writer, spawn_storage};
use super::strangers::warn_of_strangers;
use super::thread_context::{ThreadContext, ThreadReport, ThreadReports};
use crate::address::AddressLimiter;
use crate::api::LocalBackend;
use crate::certificate::{Certificate, CertificateFiles};
use crate::clock::Clock;
use crate::cluster::{self, ClusterError, ClusterStart};
use crate::config::{ApiAddress, Config};
use crate::events;
use crate::handshake::{HandOver, Intake};
use crate::kept_requests::KeptRequests;
use crate::mesh::Mesh;
use crate::metrics::{ClusterMetrics, Metrics};
use crate::moderation::Moderation;
use crate::permit::ClientPermits;
use crate::preflight::{self, Capacity};
use crate::rooms::Directory;
use crate::storage::{DataDirectory, HISTORY_FILE, HistoryFile};
use crate::tokens::{TokenFiles, TokenKeys};
use crate::topics::TopicLimiter;

/// An order to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Shut down in order. Another one changes nothing.
    Shutdown,
    /// End at once.
    Interrupt,
    /// Read the files of certificates and keys again.
    Reload,
}

/// What a server is started with.
pub(super) struct Plan {
    pub(super) config: Config,
    /// What the machine allows. Without it, the preflight finds it.
    pub(super) capacity: Option<Capacity>,
    pub(super) hooks: Option<Box<dyn Hooks>>,
    /// The numbers of the node in its cluster, which go on when it begins anew.
    pub(super) cluster_metrics: Arc<ClusterMetrics>,
}

impl Plan {
    pub(super) fn new(config: Config) -> Self {
        let partitions = config.cluster.as_ref().map_or(0, |cluster| usize::from(cluster.partitions));
        let cluster_metrics = Arc::new(ClusterMetrics::new(partitions));
        Self { config, capacity: None, hooks: None, cluster_metrics }
    }
}

/// How a server has ended.
pub(super) type Outcome = Result<(), Arc<ServerError>>;

/// A server that serves.
pub(super) struct Started {
    pub(super) address: SocketAddr,
    pub(super) api_address: Option<ApiAddress>,
    pub(super) backend: LocalBackend,
}

/// The way to a leading thread. It shuts the server down when it is dropped.
pub(super) struct Lead {
    orders: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<Outcome>>,
}

impl Lead {
    /// Starts the thread. `announce` is called once, when every thread serves or the server has failed to start; it is
    /// dropped if the server is shut down before.
    pub(super) fn spawn(
        plan: Plan,
        announce: impl FnOnce(Result<Started, ServerError>) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, received) = unbounded_channel();
        let (outcome, ended) = watch::channel(None);
        let run = move || {
            let leader = Leader { plan, orders: received, announce: Some(announce) };
            leader.run(&outcome);
        };
        thread::Builder::new().name("lead".to_owned()).spawn(run)?;
        Ok(Self { orders, ended })
    }

    pub(super) fn give(&self, order: Order) {
        // Fails when the server has ended.
        let _ = self.orders.send(order);
    }

    /// Waits until the server has ended. Unless it has failed or was interrupted, all its threads have ended, too, and its
    /// data directory is free.
    pub(super) async fn wait(&self) -> Outcome {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => Err(Arc::new(ServerError::Lead)),
        }
    }
}

/// The thread's state.
struct Leader<F> {
    plan: Plan,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Called when all threads are ready.
    announce: Option<F>,
}

impl<F: FnOnce(Result<Started, ServerError>)> Leader<F> {
    fn run(mut self, outcome: &watch::Sender<Option<Outcome>>) {
        let mut held = Held::default();
        let ended = self.serve(&mut held);
        match (ended, self.announce.take()) {
            // Threads of a server that has failed are not waited for before it is told. A panic among them was told.
            (Err(error), Some(announce)) => {
                announce(Err(error));
                let _ = held.release();
            }
            (Err(error), None) => {
                outcome.send_replace(Some(Err(Arc::new(error))));
                let _ = held.release();
            }
            (Ok(()), _) => {
                let released = held.release().map_err(Arc::new);
                outcome.send_replace(Some(released));
            }
        }
    }

    fn serve(&mut self, held: &mut Held) -> Result<(), ServerError> {
        let Plan { config, capacity, .. } = &self.plan;
        // Ahead of the next step, because it looks at the cores that the process may use.
        let capacity = match *capacity {
            Some(capacity) => capacity,
            None => {
                config.validate()?;
                let report = preflight::run(config);
                report.capacity().ok_or(ServerError::Preflight(report))?
            }
        };
        // This thread only waits, but it should do so on the cores of the server, as the threads that it starts.
        config.placement.confine()?;
        held.data = config.data.as_deref().map(DataDirectory::lock).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Some(server) =
            RunningServer::start(&mut self.plan, capacity, (&runtime, &mut self.orders), held)?
        else {
            return Ok(());
        };
        runtime.block_on(server.lead(&mut self.orders, &mut self.announce))
    }
}

/// What is held until every thread has ended.
#[derive(Default)]
struct Held {
    threads: Vec<JoinHandle<()>>,
    data: Option<DataDirectory>,
}

impl Held {
    /// Waits for all threads to end, and lets the data directory go.
    fn release(self) -> Result<(), ServerError> {
        // Each of them is waited for, whatever became of those before.
        let panicked = self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        match panicked {
            0 => Ok(()),
            _ => Err(io::Error::other("a thread has panicked").into()),
        }
    }
}

/// A server whose threads are started.
struct RunningServer {
    coordinator: Coordinator<ServerError>,
    controls: Controls,
    clock: Clock,
    reports: mpsc::UnboundedReceiver<ThreadReport>,
    /// How many threads are not yet ready.
    waiting_for: usize,
    started: Option<Started>,
    reloaded: ReloadedFiles,
    /// How the thread of the cluster ends, until it has ended.
    cluster_ended: Option<oneshot::Receiver<Result<(), ClusterError>>>,
    /// Why it has ended before the server.
    cluster_failure: Option<ClusterError>,
}

impl RunningServer {
    /// Starts all threads. `None` when an order ends the server while it waits for its cluster.
    fn start(
        Plan { config, hooks, cluster_metrics, .. }: &mut Plan,
        capacity: Capacity,
        (runtime, orders): (&Runtime, &mut mpsc::UnboundedReceiver<Order>),
        held: &mut Held,
    ) -> Result<Option<Self>, ServerError> {
        let (config, hooks) = (&*config, hooks.take());
        let data = held.data.as_ref();
        let (tls_in_use, tls) = watch::channel(None);
        let certificate =
            CertificateFiles::of(config).map(|files| Certificate::open(files, tls_in_use)).transpose()?;
        let (token_keys, tokens) = TokenFiles::of(config).map(TokenKeys::open).transpose()?.unzip();
        let (api, api_keys) = ApiDoor::open(config)?;
        let reloaded = ReloadedFiles { certificate, token_keys, api_keys };
        let shards =
            u16::try_from(config.placement.shards()).expect("Bug: the configuration allows fewer shards");
        let directory = Directory::new(&config.rooms, shards)
            .with_rooms_on_demand(&config.room_patterns, config.rooms_max);
        let directory = if config.cluster.is_some() { directory.in_cluster() } else { directory };
        let directory = if api.is_some() { directory.with_recent_fan_outs() } else { directory };
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
        let client_permits = ClientPermits::new(capacity.max_clients);
        let acceptors = config.acceptor_count();
        let metrics = Metrics::new(usize::from(shards), acceptors, client_permits.clone())
            .with_cluster(Arc::clone(cluster_metrics));
        reloaded.note_certificate(&metrics);
        let clock = Clock::start();
        let sessions_max = capacity.max_clients.max(SESSIONS_MIN);
        let wakers = (0..shards).map(|_| Waker::new()).collect::<io::Result<Vec<_>>>()?;
        let moderation = Moderation::new(config.trusted_proxies.clone());
        // Ahead of the cluster, which others would see this server join and leave again where its port is taken.
        let port = Port::bind(config.listen)?;
        // Ahead of the listener, so that no client connects before the rooms of the cluster are here.
        let cluster = match &config.cluster {
            None => None,
            Some(place) => {
                let limits = (clock, sessions_max);
                let cluster_metrics = Arc::clone(cluster_metrics);
                let start =
                    cluster::start(config, place, &directory, &wakers, limits, &moderation, cluster_metrics)?;
                match runtime.block_on(unless_ended(orders, start.begun())) {
                    Some(begun) => Some(begun?),
                    None => return Ok(None),
                }
            }
        };
        let last_author = history.as_ref().and_then(|(_, restored)| restored.last_author);
        let (sessions, state) = open_state(
            config,
            data,
            &directory,
            &moderation,
            last_author,
            (sessions_max, cluster.as_ref().map(|cluster| &cluster.session_key)),
        )?;
        let listener = port.listen()?;
        let address = listener.address()?;
        warn_of_strangers(config, address);
        let (intake, intake_seen) = watch::channel(Intake::Open);
        let (reports, reports_received) = ThreadReports::new();
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
        let (restored, links) = match history {
            None => (None, Vec::new()),
            Some((file, restored)) => {
                let (thread, links) = spawn_storage(file, &context, wakers.clone())?;
                held.threads.push(thread);
                (Some(restored), links)
            }
        };
        let (state, requests) = match state {
            None => (None, KeptRequests::default()),
            Some((file, restored)) => {
                let requests = KeptRequests::restored(restored.requests, Instant::now());
                let (thread, link) = spawn_state_writer(file, &context, requests.clone())?;
                held.threads.push(thread);
                (Some((restored.sessions.into(), link)), requests)
            }
        };
        let (mesh, mailboxes) = Mesh::new(wakers.clone());
        let (cluster, cluster_ended) = match cluster {
            None => (None, None),
            Some(ClusterStart { mirrors, links, thread, .. }) => {
                let (thread, ended) = thread.serve(mesh.clone());
                held.threads.push(thread);
                (Some((mirrors.into(), links)), Some(ended))
            }
        };
        let state_link = state.as_ref().map(|(_, link)| link.clone());
        let (to_control, answers) = unbounded_channel();
        let is_watched = api.is_some() || hooks.is_some();
        let watched = is_watched.then(|| events::open(context.directory.instance(), shards));
        let (event_senders, events) = match watched {
            None => (Vec::new(), None),
            Some((log, senders, collector)) => (senders, Some((log, collector))),
        };
        // From the first event on.
        let hooked = hooks.zip(events.as_ref()).map(|(hooks, (log, _))| Hooked::new(hooks, log));
        // The answers to the control thread end with the last shard, and so do the events.
        let links =
            ThreadLinks { restored, storage: links, cluster, state, api: to_control, events: event_senders };
        held.threads.extend(spawn_shards(&context, &wakers, &mesh, mailboxes, admissions, links)?);
        held.threads.extend(spawn_acceptors(&context, &acceptors_start, &listener)?);
        let api_address = api.as_ref().map(ApiDoor::address).transpose()?;
        if let Some(address) = &api_address {
            info!(%address, tls = config.api_tls, "the HTTP API listens");
        }
        let place = ControlPlace {
            index: acceptors,
            mesh,
            answers,
            tls,
            events,
            requests,
            state: state_link,
            intake: intake_seen,
        };
        let (control, backend) = spawn_control(&context, place, api)?;
        held.threads.push(control);
        if let Some(hooked) = hooked {
            held.threads.push(hooked.spawn(&context)?);
        }
        // The control thread is drained like an acceptor, behind these.
        let drained_count = acceptors + 1;
        // So that the channel closes with the last thread.
        drop((context, acceptors_start));
        let drain_timeout_ms = config.drain_timeout.as_millis() as u64;
        Ok(Some(Self {
            coordinator: Coordinator::new(usize::from(shards), drained_count, drain_timeout_ms),
            controls: Controls { stage, intake, listener, metrics },
            clock,
            reports: reports_received,
            waiting_for: usize::from(shards) + drained_count,
            started: Some(Started { address, api_address, backend }),
            reloaded,
            cluster_ended,
            cluster_failure: None,
        }))
    }

    /// Drives the coordinator until the server has ended.
    async fn lead(
        mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        announce: &mut Option<impl FnOnce(Result<Started, ServerError>)>,
    ) -> Result<(), ServerError> {
        let coordinator = &mut self.coordinator;
        let mut has_handle = true;
        loop {
            while let Some(action) = coordinator.poll_action() {
                if let Some(exit) = self.controls.carry_out(action) {
                    return match exit {
                        Exit::Complete => self.cluster_failure.map_or(Ok(()), |error| Err(error.into())),
                        Exit::Interrupted => Err(ServerError::Interrupted),
                        Exit::NotStopped => Err(ServerError::NotStopped),
                        Exit::Failed(error) => Err(error),
                    };
                }
            }
            let now_ms = || self.clock.now().monotonic_ms;
            let due_ms = coordinator.next_due_ms();
            let pause = Duration::from_millis(due_ms.unwrap_or(0).saturating_sub(now_ms()));
            tokio::select! {
                () = tokio::time::sleep(pause), if due_ms.is_some() => coordinator.handle_timeout(now_ms()),
                order = orders.recv(), if has_handle => match order {
                    Some(Order::Shutdown) => coordinator.handle_shutdown(now_ms()),
                    // Whoever could give orders has dropped the handle.
                    None => {
                        has_handle = false;
                        coordinator.handle_shutdown(now_ms());
                    }
                    Some(Order::Interrupt) => coordinator.handle_interrupt(),
                    Some(Order::Reload) => {
                        self.reloaded.reload();
                        self.reloaded.note_certificate(&self.controls.metrics);
                    }
                },
                ended = cluster_end(&mut self.cluster_ended) => {
                    self.cluster_ended = None;
                    if let Err(error) = ended {
                        error!("{error}");
                        self.cluster_failure = Some(error);
                        // Clients come back elsewhere, or here once it has begun anew.
                        coordinator.handle_shutdown(now_ms());
                    }
                },
                report = self.reports.recv() => match report {
                    Some(ThreadReport::Ready) => {
                        self.waiting_for -= 1;
                        if self.waiting_for == 0
                            && let (Some(announce), Some(started)) = (announce.take(), self.started.take())
                        {
                            announce(Ok(started));
                        }
                    }
                    Some(ThreadReport::AcceptorDrained(acceptor)) => coordinator.handle_acceptor_drained(acceptor),
                    Some(ThreadReport::StageReached(shard, stage)) => {
                        coordinator.handle_stage_reached(shard, stage);
                    }
                    Some(ThreadReport::Ended(Err(error))) => coordinator.handle_failure(error),
                    Some(ThreadReport::Ended(Ok(()))) => {}
                    None => coordinator.handle_all_ended(),
                },
            }
        }
    }
}

/// Waits for something, unless an order ends the server first.
async fn unless_ended<T>(
    orders: &mut mpsc::UnboundedReceiver<Order>,
    awaited: impl Future<Output = T>,
) -> Option<T> {
    let ended = async {
        // What could be reloaded has just been read.
        while let Some(Order::Reload) = orders.recv().await {}
    };
    tokio::select! {
        awaited = awaited => Some(awaited),
        () = ended => None,
    }
}

/// Waits for the end of the thread of the cluster, or for ever.
async fn cluster_end(
    ended: &mut Option<oneshot::Receiver<Result<(), ClusterError>>>,
) -> Result<(), ClusterError> {
    match ended {
        Some(ended) => ended.await.unwrap_or(Err(ClusterError::Failed)),
        None => std::future::pending().await,
    }
}
