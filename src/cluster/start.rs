//! The start of the thread of the cluster.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as watched};
use tokio::task::JoinSet;
use tracing::{info, warn};
use uproar_cluster::client::{Link, RedisAddress, Status, drive, session_key};
use uproar_cluster::{Bridge, Config as BridgeConfig, Incarnation, Keys, Mirror, Partitions, Settings};
use uproar_ring::Waker;

use super::error::ClusterError;
use super::link::{ClusterLink, FromShard, MailRoom, RECEIPTS_WAITING_MAX, Trust};
use super::observed::Observed;
use super::partition::{Partition, ask_for_ids, forward, tell_reach, watch};
use super::people::People;
use super::replies::{Asked, Replies};
use super::routes::Routes;
use super::terms;
use super::waiting::Waiting;
use crate::clock::{Clock, unix_seconds};
use crate::config::{Cluster, Config};
use crate::mesh::Mesh;
use crate::metrics::ClusterMetrics;
use crate::moderation::Moderation;
use crate::rooms::{Directory, ShardIndex};
use crate::sessions::SessionKey;

/// How long a server may take to begin. A recovery takes at most some 20 s, and others may begin at the same time.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(40);

/// Orders and events that wait between the bridge of a partition and its task.
const QUEUE: usize = 64;

/// What a server needs of its cluster to serve.
#[derive(Debug)]
pub struct ClusterStart {
    /// By partition, what its log has led to.
    pub mirrors: Vec<Mirror>,
    /// The key that signs sessions on all nodes.
    pub session_key: SessionKey,
    /// By shard.
    pub links: Vec<ClusterLink>,
    /// What is left to do while the server serves.
    pub thread: ClusterThread,
}

/// The thread, which has begun.
#[derive(Debug)]
pub struct ClusterThread {
    thread: JoinHandle<()>,
    mesh: oneshot::Sender<Mesh>,
    ended: oneshot::Receiver<Result<(), ClusterError>>,
}

impl ClusterThread {
    /// Lets it serve these shards. Returns the thread to join, and how it ends: without an error once every shard has ended.
    #[must_use]
    pub fn serve(self, mesh: Mesh) -> (JoinHandle<()>, oneshot::Receiver<Result<(), ClusterError>>) {
        // Fails when the thread has ended, which it tells.
        let _ = self.mesh.send(mesh);
        (self.thread, self.ended)
    }
}

/// A node on its way into the cluster.
#[derive(Debug)]
pub struct ClusterBeginning {
    begins: oneshot::Receiver<(Vec<Mirror>, SessionKey)>,
    ended: oneshot::Receiver<Result<(), ClusterError>>,
    thread: JoinHandle<()>,
    mesh: oneshot::Sender<Mesh>,
    links: Vec<ClusterLink>,
}

impl ClusterBeginning {
    /// Waits until the node has begun, and the configured rooms are open in the log. Dropping this takes it back.
    ///
    /// # Errors
    ///
    /// When that takes too long, or this server cannot take part.
    pub async fn begun(self) -> Result<ClusterStart, ClusterError> {
        let Self { begins, ended, thread, mesh, links } = self;
        match begins.await {
            Ok((mirrors, session_key)) => Ok(ClusterStart {
                mirrors,
                session_key,
                links,
                thread: ClusterThread { thread, mesh, ended },
            }),
            // The thread has dropped it, and says why.
            Err(_) => Err(match ended.await {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => ClusterError::Failed,
            }),
        }
    }
}

/// Begins with the log of each partition.
///
/// # Errors
///
/// When the thread cannot be started.
pub fn start(
    config: &Config,
    cluster: &Cluster,
    directory: &Directory,
    wakers: &[Waker],
    (clock, sessions_max): (Clock, usize),
    moderation: &Moderation,
    metrics: Arc<ClusterMetrics>,
) -> Result<ClusterBeginning, ClusterError> {
    let partitions = Partitions(cluster.partitions);
    let (proposals_to, proposals): (Vec<_>, Vec<_>) =
        (0..cluster.partitions).map(|_| mpsc::unbounded_channel()).unzip();
    let (receipts_to, receipts): (Vec<_>, Vec<_>) =
        wakers.iter().map(|_| mpsc::channel(RECEIPTS_WAITING_MAX)).unzip();
    let trust = Trust::default();
    // One life in all partitions: who has seen it begin in one ends no members of it in another.
    let incarnation = Incarnation(rand::random());
    let routes = Routes {
        node: cluster.node.clone(),
        incarnation,
        directory: directory.clone(),
        shards: receipts_to.into_iter().zip(wakers.iter().cloned()).collect(),
        trust: trust.clone(),
        replies: Replies::default(),
        waiting: Waiting::default(),
        people: Arc::new(People::new(
            directory.users().clone(),
            clock,
            config.session_timeout.as_millis() as u64,
            sessions_max,
        )),
        moderation: moderation.clone(),
    };
    let shards = (0..).map(ShardIndex);
    let links = shards.zip(receipts).zip(wakers).map(|((shard, receipts), waker)| ClusterLink {
        shard,
        proposals: proposals_to.clone(),
        partitions,
        receipts,
        trust: trust.clone(),
        mail_room: MailRoom::of(waker.clone()),
    });
    let links = links.collect();
    let configured = directory.rooms().iter().map(|room| Arc::clone(room.name())).collect();
    let beginning = Beginning {
        cluster: cluster.clone(),
        settings: settings(config, cluster),
        configured,
        routes,
        metrics,
    };
    let (begun, begins) = oneshot::channel();
    let (ended_with, ended) = oneshot::channel();
    let (mesh, mesh_made) = oneshot::channel();
    let thread = thread::Builder::new().name("cluster".to_owned());
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => runtime.block_on(beginning.run(begun, mesh_made, proposals)),
            Err(error) => Err(ClusterError::Thread(error)),
        };
        // Fails when the server has ended.
        let _ = ended_with.send(outcome);
    };
    let thread = thread.spawn(run).map_err(ClusterError::Thread)?;
    Ok(ClusterBeginning { begins, ended, thread, mesh, links })
}

/// What all nodes must have alike, in words that are shown where they differ.
fn settings(config: &Config, cluster: &Cluster) -> Settings {
    let mut rooms = config.rooms.clone();
    rooms.sort_unstable();
    let agreed = format!(
        "--history {} --rooms {} --redis-partitions {}",
        config.history,
        rooms.join(","),
        cluster.partitions
    );
    let left_ms = config.session_timeout.as_millis() as u64;
    Settings { history: config.history, log_bytes: cluster.log_bytes, left_ms, agreed }
}

struct Beginning {
    cluster: Cluster,
    settings: Settings,
    configured: Vec<Arc<str>>,
    routes: Routes,
    metrics: Arc<ClusterMetrics>,
}

impl Beginning {
    async fn run(
        self,
        mut begun: oneshot::Sender<(Vec<Mirror>, SessionKey)>,
        mesh: oneshot::Receiver<Mesh>,
        proposals: Vec<mpsc::UnboundedReceiver<FromShard>>,
    ) -> Result<(), ClusterError> {
        let mut drivers = JoinSet::new();
        let links: Vec<_> =
            (0..self.cluster.partitions).map(|index| self.drive(index, &mut drivers)).collect();
        let trouble = links.first().map(|(_, link)| link.status.clone());
        let partitions = tokio::select! {
            partitions = tokio::time::timeout(BEGIN_TIMEOUT, self.begin_all(links)) => partitions,
            // Nobody waits any more.
            () = begun.closed() => return Ok(()),
        };
        let Ok(partitions) = partitions else {
            let trouble = trouble.and_then(|status| status.borrow().trouble.clone());
            return Err(ClusterError::Late {
                redis: self.cluster.redis.to_string(),
                within: BEGIN_TIMEOUT,
                trouble: trouble.unwrap_or_else(|| "the log is being read".to_owned()),
            });
        };
        let partitions = partitions?;
        let key = session_key(&self.cluster.redis, *SessionKey::random().bytes()).await?;
        info!(node = %self.cluster.node, redis = %self.cluster.redis, "this server is part of the cluster");
        self.routes.people.note_all(partitions.iter().map(|partition| &partition.mirror));
        for Partition { mirror, .. } in &partitions {
            let left_out = self.routes.moderation.restore(&terms::stored(&mirror.terms), unix_seconds());
            if left_out > 0 {
                warn!(left_out, "the cluster has more bans or mutes than are kept; some are not in force");
            }
        }
        let mirrors = partitions.iter().map(|partition| partition.mirror.clone()).collect();
        // Both fail when the server has failed to start.
        if begun.send((mirrors, SessionKey::shared(key))).is_err() {
            return Ok(());
        }
        let Ok(mesh) = mesh.await else { return Ok(()) };
        drivers.spawn(self.routes.clone().give_up_waiting(mesh.clone()));
        let mut tasks = JoinSet::new();
        for ((index, partition), proposals) in (0..).zip(partitions).zip(proposals) {
            if index == 0 {
                drivers
                    .spawn(ask_for_ids(self.routes.directory.users().clone(), partition.link.orders.clone()));
            }
            let (end_of_shards, shards_ended) = oneshot::channel();
            let (orders, routes) = (partition.link.orders.clone(), self.routes.clone());
            drivers.spawn(forward(proposals, orders, routes, mesh.clone(), end_of_shards));
            let (routes, metrics) = (self.routes.clone(), Arc::clone(&self.metrics));
            let status = partition.link.status.clone();
            drivers.spawn(watch(status.clone(), move |status| {
                routes.set_trusted(index, status.is_trusted);
                metrics.set_trouble(usize::from(index), status.trouble.clone());
            }));
            drivers.spawn(tell_reach(index, status, self.routes.clone()));
            if index == 0 {
                drivers.spawn(put_key_back(partition.link.status.clone(), self.cluster.redis.clone(), key));
            }
            tasks.spawn(partition.run(self.routes.clone(), mesh.clone(), shards_ended));
        }
        // The first that fails ends the server.
        while let Some(outcome) = tasks.join_next().await {
            if let Err(error) = outcome.unwrap_or(Err(ClusterError::Failed)) {
                // Nothing comes behind the end.
                tasks.shutdown().await;
                self.routes.end(error.log_end()).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn begin_all(
        &self,
        links: Vec<(Incarnation, Link<Asked>)>,
    ) -> Result<Vec<Partition>, ClusterError> {
        let partitions = Partitions(self.cluster.partitions);
        let node = self.cluster.node.to_string();
        let beginnings = (0..).zip(links).map(|(index, (incarnation, link))| {
            let rooms: Vec<_> =
                self.configured.iter().filter(|room| partitions.of(room) == index).cloned().collect();
            let (node, users) = (node.clone(), self.routes.directory.users());
            let metrics = &self.metrics;
            async move { Partition::begin((index, incarnation), link, &rooms, users, metrics, &node).await }
        });
        futures_util::future::try_join_all(beginnings).await
    }

    fn drive(&self, index: u16, drivers: &mut JoinSet<()>) -> (Incarnation, Link<Asked>) {
        let keys = Keys::of_partition(index);
        let incarnation = self.routes.incarnation;
        let config = BridgeConfig {
            node: self.cluster.node.clone(),
            incarnation,
            keys: keys.clone(),
            settings: self.settings.clone(),
            replicas: self.cluster.replicas,
        };
        let (link, driving) = drive(
            |now_ms| Bridge::new(config, now_ms),
            keys,
            self.cluster.redis.clone(),
            QUEUE,
            Observed::new(&self.metrics, index),
        );
        drivers.spawn(driving);
        (incarnation, link)
    }
}

/// Puts the key of sessions back each time that the log is in reach again: Redis may have lost it.
async fn put_key_back(mut status: watched::Receiver<Status>, redis: RedisAddress, own: [u8; 32]) {
    let mut was_in_trouble = false;
    loop {
        let is_in_trouble = status.borrow_and_update().trouble.is_some();
        if was_in_trouble && !is_in_trouble {
            match session_key(&redis, own).await {
                Ok(key) if key == own => {}
                Ok(_) => warn!(
                    "Redis has another key of sessions than this server; users that change between the nodes are new ones"
                ),
                Err(error) => warn!(%error, "the key of sessions could not be put back into Redis"),
            }
        }
        was_in_trouble = is_in_trouble;
        if status.changed().await.is_err() {
            return;
        }
    }
}
