//! One partition of the log, between its bridge and the shards.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};
use uproar_cluster::client::{Given, Link, Order, Status};
use uproar_cluster::{End, Event, Incarnation, Mirror, Proposal};

use super::error::{ClusterEnd, ClusterError};
use super::link::FromShard;
use super::replies::{Asked, MailOutcomes, Reply};
use super::routes::{Routes, ShardsEnded, block_of};
use super::terms;
use super::told::Told;
use super::waiting::UNREACHED_TIMEOUT;
use crate::mail::{NodeMail, NodeNotice, NodeOrder};
use crate::mesh::Mesh;
use crate::metrics::{ClusterMetrics, ProposalRefusal};
use crate::moderation::{Admin, ModerationAction};
use crate::rooms::{IdBlocks, NodeLife, SharedProposal, SharedProposalKind, UserId, Users};

/// How long mail to another node may wait while the log cannot be reached, in milliseconds: as long as a message.
const MAIL_TIMEOUT_MS: u64 = 3_000;

/// How long the author of an order about bans or mutes waits at most. The order may take effect later.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long leaving may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A partition whose log this server has begun with.
pub(super) struct Partition {
    pub(super) index: u16,
    pub(super) link: Link<Asked>,
    /// What the log has led to: what Redis lacks is written from it.
    pub(super) mirror: Mirror,
    pub(super) metrics: Arc<ClusterMetrics>,
}

impl Partition {
    /// Waits until this server has begun with the log, these rooms are open in it, and it has ids for users.
    pub(super) async fn begin(
        (index, incarnation): (u16, Incarnation),
        mut link: Link<Asked>,
        rooms: &[Arc<str>],
        users: &Users,
        metrics: &Arc<ClusterMetrics>,
        node: &str,
    ) -> Result<Self, ClusterError> {
        let mirror = loop {
            match link.events.recv().await {
                Some(Event::Begun(mirror)) => break *mirror,
                Some(Event::Ended { end, .. }) => return Err(failure(end, node)),
                // Everything is in the mirror that comes.
                Some(_) => {}
                None => return Err(ClusterError::Failed),
            }
        };
        let mut partition = Self { index, link, mirror, metrics: Arc::clone(metrics) };
        for name in rooms {
            if !partition.mirror.rooms.contains_key(name) {
                let proposal = Proposal::Open { name: Arc::clone(name) };
                let order = Order { proposal, ticket: None, timeout_ms: None };
                partition.link.orders.send(order).await.map_err(|_| ClusterError::Failed)?;
            }
        }
        let blocks = users.blocks().filter(|_| index == 0);
        if blocks.is_some() {
            let order = Order { proposal: Proposal::Numbers, ticket: None, timeout_ms: None };
            partition.link.orders.send(order).await.map_err(|_| ClusterError::Failed)?;
        }
        while !rooms.iter().all(|name| partition.mirror.rooms.contains_key(name))
            || blocks.is_some_and(IdBlocks::are_empty)
        {
            let event = partition.link.events.recv().await.ok_or(ClusterError::Failed)?;
            if let Event::Ended { end, .. } = event {
                return Err(failure(end, node));
            }
            partition.note(&event, node)?;
            if let (Event::Entry { entry, .. }, Some(blocks)) = (&event, blocks)
                && entry.tag.incarnation == incarnation
            {
                entry
                    .decisions()
                    .filter_map(|(_, answer)| block_of(answer))
                    .for_each(|block| blocks.add(block));
            }
        }
        Ok(partition)
    }

    /// Applies an event to the mirror, and gives the bridge what it asks for. Fails where the log contradicts itself.
    fn note(&mut self, event: &Event<Asked>, node: &str) -> Result<(), ClusterError> {
        match event {
            Event::Entry { entry, .. } => {
                let epoch = Arc::clone(&self.mirror.epoch);
                if !self.mirror.apply(entry) {
                    error!(
                        entry = entry.number,
                        "an entry of the cluster's log does not fit those before it: was Redis changed by hand?"
                    );
                    return Err(failure(End::OtherLog, node));
                }
                let partition = usize::from(self.index);
                self.metrics.nodes(partition, self.mirror.nodes.len());
                if epoch != self.mirror.epoch {
                    self.metrics.epoch_changed(partition);
                }
            }
            Event::Damaged { room, entry } => {
                let state = self.mirror.rooms.get(room).cloned().unwrap_or_default();
                warn!(room = %room, entry, "what Redis has of a room is damaged; writing it anew");
                let given = Given::Repair { room: Arc::clone(room), damaged_by: *entry, state };
                // Fails when the bridge has ended, which its last event tells.
                let _ = self.link.given.send(given);
            }
            Event::Rewrite => {
                warn!(
                    partition = self.index,
                    "Redis has lost the log of the cluster; writing everything anew"
                );
                let rooms = self.mirror.rooms.iter();
                let rooms = rooms.map(|(name, state)| (Arc::clone(name), state.clone())).collect();
                let (left, terms) = (self.mirror.left.clone(), self.mirror.terms.clone());
                let _ = self.link.given.send(Given::Rewrite { rooms, left, terms });
            }
            Event::Begun(_) | Event::Refused(_) | Event::Replicated { .. } | Event::Ended { .. } => {}
        }
        Ok(())
    }

    /// Carries events to the shards until one of both sides has ended. When the shards have, this server leaves the cluster.
    pub(super) async fn run(
        mut self,
        routes: Routes,
        mesh: Mesh,
        mut shards_ended: oneshot::Receiver<()>,
    ) -> Result<(), ClusterError> {
        loop {
            let event = tokio::select! {
                event = self.link.events.recv() => event.ok_or(ClusterError::Failed)?,
                _ = &mut shards_ended => break,
            };
            self.note(&event, routes.node.as_str())?;
            let carried = match event {
                Event::Entry { entry, tickets } => routes.carry(self.index, &mesh, &entry, &tickets).await,
                Event::Replicated { through } => routes.note_replicated(self.index, through).await,
                Event::Refused(asked) => routes.refuse(&mesh, asked).await,
                Event::Ended { end, tickets } => {
                    let partition = usize::from(self.index);
                    self.metrics.refused(partition, ProposalRefusal::PlaceLost, tickets.len());
                    if end == End::Fenced {
                        self.metrics.fenced(partition);
                    }
                    return Err(failure(end, routes.node.as_str()));
                }
                _ => Ok(()),
            };
            if let Err(ShardsEnded) = carried {
                break;
            }
        }
        self.leave(routes.node.as_str()).await;
        Ok(())
    }

    /// Tells the others that this server ends, so that they need not find out.
    async fn leave(&mut self, node: &str) {
        let _ = self.link.given.send(Given::Leave);
        let left = async {
            while let Some(event) = self.link.events.recv().await {
                if self.note(&event, node).is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(LEAVE_TIMEOUT, left).await.is_err() {
            warn!("the cluster could not be told that this server ends; the others notice within 12 s");
        }
    }
}

/// Why this server does not take part any more.
fn failure(end: End, node: &str) -> ClusterError {
    // It leaves only when the shards have ended.
    ClusterEnd::of(end, node).map_or(ClusterError::Failed, ClusterError::Ended)
}

/// Asks for a block of user ids whenever few are left.
pub(super) async fn ask_for_ids(users: Users, orders: mpsc::Sender<Order<Asked>>) {
    let Some(blocks) = users.blocks() else { return };
    loop {
        blocks.run_low().await;
        let order = Order { proposal: Proposal::Numbers, ticket: None, timeout_ms: None };
        if orders.send(order).await.is_err() {
            return;
        }
        blocks.be_added().await;
    }
}

/// Carries proposals of shards to the bridge, in their order. `shards_ended` is dropped when there are no more.
pub(super) async fn forward(
    mut proposals: mpsc::UnboundedReceiver<FromShard>,
    orders: mpsc::Sender<Order<Asked>>,
    routes: Routes,
    mesh: Mesh,
    _shards_ended: oneshot::Sender<()>,
) {
    while let Some(from_shard) = proposals.recv().await {
        let order = match from_shard {
            FromShard::Proposal(SharedProposal { ticket, kind, timeout_ms, .. }) => {
                let proposal = match kind {
                    SharedProposalKind::Change(proposal) => proposal,
                    SharedProposalKind::Tell(only, notice) => tell(only.as_deref(), &Told::Room(notice)),
                };
                Order { proposal, ticket: Some(Asked::Home(ticket)), timeout_ms }
            }
            FromShard::Mail(mail, place) => {
                let NodeMail { to, notice, origin, sent, failed, awaits, .. } = *mail;
                let timeout_ms = match awaits {
                    None => MAIL_TIMEOUT_MS,
                    Some(_) => UNREACHED_TIMEOUT.as_millis() as u64,
                };
                if let Some(visit) = awaits
                    && routes.await_end(&mesh, visit, origin).await.is_err()
                {
                    return;
                }
                let asked = routes.replies.keep(Reply::Mail {
                    to: origin,
                    outcomes: Box::new(MailOutcomes { sent, failed }),
                    _place: place,
                });
                let proposal = tell(Some(&to), &Told::Node(notice));
                Order { proposal, ticket: Some(asked), timeout_ms: Some(timeout_ms) }
            }
            FromShard::Terms(order, shard, place) => {
                let proposal = terms::propose(&order.change, &order.notices);
                let asked = routes.replies.keep(Reply::Terms { shard, order, _place: place });
                give_up_in_time(asked, &routes, &mesh);
                Order { proposal, ticket: Some(asked), timeout_ms: Some(MAIL_TIMEOUT_MS) }
            }
            FromShard::Order(order, place) => {
                let NodeOrder { to, by, user, action, origin, .. } = *order;
                let asked = routes.replies.keep(Reply::Order { origin, _place: place });
                give_up_in_time(asked, &routes, &mesh);
                let Some(notice) = order_notice(asked, user, by, action) else { continue };
                let proposal = tell(Some(&to), &Told::Node(notice));
                Order { proposal, ticket: Some(asked), timeout_ms: Some(MAIL_TIMEOUT_MS) }
            }
        };
        if orders.send(order).await.is_err() {
            return;
        }
    }
}

/// Lets the author of an order wait no longer than [`ORDER_TIMEOUT`].
fn give_up_in_time(asked: Asked, routes: &Routes, mesh: &Mesh) {
    let Asked::Connection(key) = asked else { return };
    let (routes, mesh) = (routes.clone(), mesh.clone());
    tokio::spawn(async move {
        tokio::time::sleep(ORDER_TIMEOUT).await;
        // Where the shards have ended, nobody waits.
        let _ = routes.give_up(&mesh, key).await;
    });
}

/// An order for the server of a user. Backends give none.
fn order_notice(asked: Asked, user: UserId, by: Admin, action: ModerationAction) -> Option<NodeNotice> {
    match (asked, by) {
        (Asked::Connection(number), Admin::User { user: by, name, account }) => Some(NodeNotice::Order {
            number,
            user: user.get(),
            by: by.get(),
            by_name: name,
            by_account: account,
            action,
        }),
        _ => None,
    }
}

fn tell(only: Option<&NodeLife>, told: &Told) -> Proposal {
    Proposal::Tell { only: only.cloned(), what: told.encode() }
}

/// Tells homes when the log of a partition is out of reach, and when it is in reach again.
pub(super) async fn tell_reach(partition: u16, mut status: watch::Receiver<Status>, routes: Routes) {
    let mut was_reached = true;
    loop {
        let trouble = status.borrow_and_update().trouble.clone();
        let is_reached = trouble.is_none();
        if is_reached != was_reached {
            match trouble {
                Some(trouble) => warn!(partition, %trouble, "the log of the cluster takes nothing"),
                None => info!(partition, "the log of the cluster takes messages again"),
            }
            if routes.note_reached(partition, is_reached).await.is_err() {
                return;
            }
        }
        was_reached = is_reached;
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Follows how a partition is.
pub(super) async fn watch(mut status: watch::Receiver<Status>, mut note: impl FnMut(&Status)) {
    loop {
        note(&status.borrow_and_update());
        if status.changed().await.is_err() {
            return;
        }
    }
}
