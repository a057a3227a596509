//! The threads of shards, and their parameters.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use uproar_cluster::Mirror;
use uproar_protocol::connection::KeepAlive;
use uproar_ring::{Ring, Waker};

use super::error::ServerError;
use super::thread_context::{ThreadContext, ThreadReport};
use crate::accounts::{Accounts, KnownAccounts, ReservedNames, Verifier, VerifierReport};
use crate::clock::RunningClock;
use crate::cluster::ClusterLink;
use crate::config::{self, Anonymous, Auth, Config, Presence};
use crate::events::EventSender;
use crate::handshake::Admissions;
use crate::mail::Delivery;
use crate::mesh::{Mailbox, Mesh, ShardStopped};
use crate::moderation::Moderation;
use crate::rooms::{self, ClientRef, EndedSession, PresencePolicy, Restored, ShardIndex};
use crate::shard::event_loop::{self, EventLoop};
use crate::shard::{Deadlines, Limits, Rate, SessionSettings, Shard, ShardSettings};
use crate::storage::{StateLink, StorageLink};
use crate::tokens::TokenChecker;

/// The shards' links to other threads, and what these have restored.
pub(super) struct ThreadLinks {
    pub(super) restored: Option<Restored>,
    /// By shard; empty without `--data`.
    pub(super) storage: Vec<StorageLink>,
    /// What the log of the cluster has led to, and the links to it by shard; none for a server that is alone.
    pub(super) cluster: Option<(Arc<[Mirror]>, Vec<ClusterLink>)>,
    /// The sessions of an earlier life of the server, and where changes of users go.
    pub(super) state: Option<(Arc<[EndedSession]>, StateLink)>,
    /// To the control thread.
    pub(super) api: UnboundedSender<Delivery>,
    /// To those who watch the server, by shard; empty where nobody does.
    pub(super) events: Vec<EventSender>,
}

/// Starts a thread for each shard.
pub(super) fn spawn_shards(
    context: &ThreadContext,
    wakers: &[Waker],
    mesh: &Mesh,
    mailboxes: Vec<Mailbox>,
    admissions: Vec<Admissions>,
    links: ThreadLinks,
) -> Result<Vec<JoinHandle<()>>, ServerError> {
    let ThreadLinks { restored, storage, cluster, state, api, events } = links;
    let (mirrors, cluster) = cluster.unzip();
    let mut cluster = cluster.into_iter().flatten();
    let mut events = events.into_iter();
    let (verifier, reserved_names) = start_verifier(context, mesh)?;
    let mut storage = storage.into_iter();
    let mut threads = Vec::new();
    let cores = context.config.placement.cores();
    let queues = admissions.into_iter().zip(mailboxes);
    for (((index, core), waker), (admissions, mailbox)) in (0..).zip(cores).zip(wakers).zip(queues) {
        let start = ShardStart {
            waker: waker.clone(),
            index: ShardIndex(index),
            core,
            context: context.clone(),
            mesh: mesh.clone(),
            mailbox,
            verifier: verifier.clone(),
            reserved_names: Arc::clone(&reserved_names),
            admissions,
            restored: restored.clone(),
            storage: storage.next(),
            cluster: mirrors.clone().zip(cluster.next()),
            api: api.clone(),
            events: events.next(),
            state: state.clone(),
        };
        let thread = thread::Builder::new().name(format!("shard-{index}"));
        let failed = |source| ServerError::Shard { shard: index, source };
        threads.push(thread.spawn(move || start.run()).map_err(failed)?);
    }
    Ok(threads)
}

/// Starts the thread that verifies passwords and watches the accounts, if there is a data directory. Returns the names that
/// are reserved at first, too. The thread is not joined: it ends after the last shard, when its current hash is done.
fn start_verifier(
    context: &ThreadContext,
    mesh: &Mesh,
) -> Result<(Option<Verifier<ClientRef>>, Arc<ReservedNames>), ServerError> {
    let Some(data) = &context.config.data else { return Ok((None, Arc::default())) };
    let accounts = KnownAccounts::read(Accounts::open(data)?)?;
    if context.config.auth == Auth::Required && !context.config.has_token_keys() && accounts.is_empty() {
        return Err(ServerError::NoAccounts { data: data.clone() });
    }
    let reserved_names = Arc::clone(accounts.reserved());
    let (mesh, shards) = (mesh.clone(), context.directory.shards());
    let deliver = move |report| match report {
        VerifierReport::Checked(to, result) => {
            let ClientRef { shard, .. } = to;
            mesh.deliver(shard, Delivery::PasswordChecked { to, result })
        }
        VerifierReport::Changed(change) => {
            let change = Arc::new(change);
            let changed = || Delivery::AccountsChanged(Arc::clone(&change));
            (0..shards).try_for_each(|shard| mesh.deliver(ShardIndex(shard), changed()))
        }
    };
    let report = move |report| match deliver(report) {
        Ok(()) => ControlFlow::Continue(()),
        Err(ShardStopped) => ControlFlow::Break(()),
    };
    let (verifier, _) = Verifier::start(accounts, report)?;
    Ok((Some(verifier), reserved_names))
}

/// A shard's part of the configuration.
fn settings(
    config: &Config,
    index: ShardIndex,
    tokens: TokenChecker,
    moderation: Moderation,
    sessions: Option<SessionSettings>,
) -> ShardSettings {
    let milliseconds = |duration: Duration| duration.as_millis() as u64;
    ShardSettings {
        index,
        limits: Limits {
            message_bytes_max: config.max_message_bytes,
            frame_bytes_max: config.max_frame_bytes,
            queue_bytes_max: config.send_queue_bytes,
            rate: Rate { per_second: config.rate, burst: config.burst },
            topic_rate: Rate { per_second: config.topic_rate, burst: 2 * config.topic_rate },
        },
        deadlines: Deadlines {
            keep_alive: KeepAlive {
                ping_interval_ms: milliseconds(config.ping_interval),
                idle_timeout_ms: milliseconds(config.idle_timeout),
            },
            drain_timeout_ms: milliseconds(config.drain_timeout),
        },
        tokens,
        moderation,
        sign_in_timeout_ms: config.requires_sign_in().then(|| milliseconds(config.handshake_timeout)),
        sessions,
        anonymous_listen: config.anonymous == Some(Anonymous::Listen),
        rooms: rooms::RoomSettings {
            names_max: config.presence_limit,
            presence: match config.presence {
                Presence::Auto => PresencePolicy::UpTo(config.presence_limit),
                Presence::Exact => PresencePolicy::Exact,
                Presence::Count => PresencePolicy::Count(config.presence_limit),
            },
            history: config.history,
            ttl_ms: milliseconds(config.room_ttl),
        },
    }
}

/// The parameters of a shard's thread.
struct ShardStart {
    index: ShardIndex,
    waker: Waker,
    core: Option<usize>,
    context: ThreadContext,
    mesh: Mesh,
    mailbox: Mailbox,
    verifier: Option<Verifier<ClientRef>>,
    reserved_names: Arc<ReservedNames>,
    admissions: Admissions,
    restored: Option<Restored>,
    storage: Option<StorageLink>,
    cluster: Option<(Arc<[Mirror]>, ClusterLink)>,
    api: UnboundedSender<Delivery>,
    events: Option<EventSender>,
    /// The sessions of an earlier life of the server, and where changes of users go.
    state: Option<(Arc<[EndedSession]>, StateLink)>,
}

impl ShardStart {
    fn run(self) {
        let shard = self.index.0;
        let failed = |source| ServerError::Shard { shard, source };
        let end = self.context.report_end(failed(io::Error::other("its thread has panicked")));
        let pinned = self.core.map_or(Ok(()), |core| config::pin(&[core]));
        end.report(pinned.and_then(|()| self.serve()).map_err(failed));
    }

    fn serve(self) -> io::Result<()> {
        let ThreadContext { config, directory, metrics, clock, tokens, moderation, sessions, stage, reports } =
            self.context;
        let shard_metrics = metrics.shard(usize::from(self.index.0));
        let settings = settings(&config, self.index, tokens, moderation, sessions);
        let mut shard = Shard::new(settings, &directory, Arc::clone(&shard_metrics));
        if let Some(restored) = &self.restored {
            shard.restore(restored);
        }
        let cluster = self.cluster.map(|(mirrors, link)| {
            let awaits_replicas = config.cluster.as_ref().is_some_and(|cluster| cluster.replicas > 0);
            shard.share(&mirrors, awaits_replicas, (link.trust(), link.mail_room()), clock.now());
            link
        });
        if let Some((sessions, link)) = self.state {
            shard.restore_sessions(&sessions, link);
        }
        if let Some(events) = self.events {
            shard.report_events(events);
        }
        shard.reserve_names(self.reserved_names);
        let index = usize::from(self.index.0);
        let reached = reports.clone();
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
            cluster,
            api: self.api,
            receipts: VecDeque::new(),
            admissions: self.admissions,
            stage,
            reached: Box::new(move |stage| {
                reached.send(ThreadReport::StageReached(index, stage));
            }),
            clock: RunningClock::new(clock),
            busy_poll: config.busy_poll,
            metrics: shard_metrics,
            tally: event_loop::Tally::default(),
        };
        reports.send(ThreadReport::Ready);
        drop(reports);
        event_loop.run()
    }
}
