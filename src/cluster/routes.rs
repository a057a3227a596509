//! The ways from the shared log to the shards of this server.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;
use uproar_cluster::{Answer, Entry, Incarnation, NodeName, Proposal, term_number};
use uproar_ring::Waker;

use super::link::Trust;
use super::people::{News, People};
use super::replies::{Asked, Replies, Reply};
use super::terms;
use super::told::Told;
use super::waiting::Waiting;
use crate::clock::unix_seconds;
use crate::mail::{Delivery, ModerationOrder, NodeNotice, OrderOrigin, OrderTarget};
use crate::mesh::Mesh;
use crate::moderation::{Admin, Moderation, ModerationNotice};
use crate::rooms::{
    self, ClientRef, Decision, Directory, LogEnd, NodeLife, Receipt, ShardIndex, SharedReceipt, UserId, Visit,
};

/// The shards of this server, and which of them has a room or a user.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    pub(super) node: NodeName,
    /// The life of this server, in all partitions.
    pub(super) incarnation: Incarnation,
    pub(super) directory: Directory,
    /// By shard.
    pub(super) shards: Vec<(mpsc::Sender<Vec<Receipt>>, Waker)>,
    pub(super) trust: Trust,
    pub(super) replies: Replies,
    pub(super) waiting: Waiting,
    pub(super) people: Arc<People>,
    /// The bans and mutes, which follow the log.
    pub(super) moderation: Moderation,
}

/// Every shard has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardsEnded;

impl Routes {
    /// Carries an entry to the homes and users that it is about, and waits until they have room for it.
    pub(super) async fn carry(
        &self,
        partition: u16,
        mesh: &Mesh,
        entry: &Arc<Entry>,
        asked: &[Option<Asked>],
    ) -> Result<(), ShardsEnded> {
        let is_own = entry.tag.node == self.node && entry.tag.incarnation == self.incarnation;
        let mut by_shard: Vec<Vec<Receipt>> = vec![Vec::new(); self.shards.len()];
        let mut mail = Vec::new();
        for (index, (proposal, answer)) in entry.decisions().enumerate() {
            let asked = asked.get(index).copied().flatten();
            let ticket = match asked {
                Some(Asked::Home(ticket)) => Some(ticket),
                Some(Asked::Connection(_)) | None => None,
            };
            let decided = || {
                let decision = Decision { partition, entry: Arc::clone(entry), index, ticket };
                Receipt::Shared(SharedReceipt::Decided(decision))
            };
            match proposal {
                Proposal::Open { name } => self.push(&mut by_shard, name, decided()),
                Proposal::Forget { room }
                | Proposal::Join { room, .. }
                | Proposal::Leave { room, .. }
                | Proposal::Rename { room, .. }
                | Proposal::Message { room, .. }
                | Proposal::Delete { room, .. } => self.push(&mut by_shard, &room.name, decided()),
                Proposal::Numbers => {
                    let blocks = self.directory.users().blocks().filter(|_| is_own);
                    if let (Some(block), Some(blocks)) = (block_of(answer), blocks) {
                        blocks.add(block);
                    }
                }
                Proposal::Begin { .. }
                | Proposal::End
                | Proposal::NodeGone { .. }
                | Proposal::Epoch { .. }
                    if *answer == Answer::Done =>
                {
                    by_shard.iter_mut().for_each(|receipts| receipts.push(decided()));
                }
                Proposal::Tell { only, what } => {
                    let is_ours = |(node, its): &NodeLife| *node == self.node && *its == self.incarnation;
                    let is_for_us = only.as_ref().is_none_or(is_ours);
                    match Told::decode(what).filter(|_| is_for_us) {
                        Some(Told::Room(notice)) => {
                            let by = (entry.tag.node.clone(), entry.tag.incarnation);
                            let name = Arc::clone(notice.name());
                            let noticed = SharedReceipt::Noticed { notice, by, ticket };
                            self.push(&mut by_shard, &name, Receipt::Shared(noticed));
                        }
                        Some(Told::Node(notice)) => {
                            let from = (&entry.tag.node, entry.tag.incarnation);
                            mail.extend(self.find_receiver(notice, from));
                        }
                        None => {
                            if let Some(ticket) = ticket {
                                let told = Receipt::Shared(SharedReceipt::Told(ticket));
                                by_shard[usize::from(ticket.room.home().0)].push(told);
                            }
                        }
                    }
                    if let Some(Asked::Connection(key)) = asked {
                        mail.extend(self.replies.take_sent(key).and_then(Reply::sent));
                    }
                }
                Proposal::Terms { changes, notices } if *answer == Answer::Done => {
                    let change = terms::read(changes, term_number(entry.number, index));
                    let left_out = self.moderation.apply(&change, unix_seconds());
                    if left_out > 0 {
                        warn!(
                            left_out,
                            "the cluster has more bans or mutes than are kept; some are not in force"
                        );
                    }
                    let reply = match asked {
                        Some(Asked::Connection(key)) => self.replies.take(key),
                        Some(Asked::Home(_)) | None => None,
                    };
                    match reply.and_then(Reply::sent) {
                        Some(decided) => mail.push(decided),
                        None => mail.extend(self.to_all_shards(terms::read_notices(notices))),
                    }
                }
                _ => {}
            }
        }
        for news in self.people.note(entry, is_own) {
            match news {
                News::Over(user, visit) => mail.extend(self.take_waiting(user, visit)),
                News::Superseded(to) => mail.push((to.shard, rooms::Delivery::Superseded { to }.into())),
            }
        }
        for (shard, receipts) in (0..).map(ShardIndex).zip(by_shard) {
            if !receipts.is_empty() {
                self.send(shard, receipts).await?;
            }
        }
        for (shard, delivery) in mail {
            deliver(mesh, shard, delivery).await?;
        }
        Ok(())
    }

    /// Tells the homes that enough replicas have the entries of this server up to this one.
    pub(super) async fn note_replicated(&self, partition: u16, through: u64) -> Result<(), ShardsEnded> {
        for shard in (0..).map(ShardIndex).take(self.shards.len()) {
            let replicated = SharedReceipt::Replicated { partition, through };
            self.send(shard, vec![Receipt::Shared(replicated)]).await?;
        }
        Ok(())
    }

    /// Tells the homes whether the log of a partition can be reached.
    pub(super) async fn note_reached(&self, partition: u16, is_reached: bool) -> Result<(), ShardsEnded> {
        self.waiting.set_reached(partition, is_reached);
        for shard in (0..).map(ShardIndex).take(self.shards.len()) {
            let reached = SharedReceipt::Reached { partition, is_reached };
            self.send(shard, vec![Receipt::Shared(reached)]).await?;
        }
        Ok(())
    }

    /// Tells whoever waits for a proposal that it will not happen.
    pub(super) async fn refuse(&self, mesh: &Mesh, asked: Asked) -> Result<(), ShardsEnded> {
        match asked {
            Asked::Home(ticket) => {
                let refused = Receipt::Shared(SharedReceipt::Refused(ticket));
                self.send(ticket.room.home(), vec![refused]).await
            }
            Asked::Connection(key) => match self.replies.take(key).and_then(Reply::failed) {
                Some((to, failed)) => deliver(mesh, to, failed).await,
                None => Ok(()),
            },
        }
    }

    /// Says whether the others take this server for alive.
    pub(super) fn set_trusted(&self, partition: u16, is_trusted: bool) {
        let before = self.trust.holds();
        self.trust.set(partition, is_trusted);
        if before != self.trust.holds() {
            self.shards.iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Tells every home that the log is at its end for this server.
    pub(super) async fn end(&self, end: LogEnd) {
        for shard in (0..).map(ShardIndex).take(self.shards.len()) {
            // Where the shard has ended, it need not be told.
            let _ = self.send(shard, vec![Receipt::Shared(SharedReceipt::Ended(end))]).await;
        }
    }

    /// Tells the author of an order that nothing was heard of it in time.
    pub(super) async fn give_up(&self, mesh: &Mesh, key: u64) -> Result<(), ShardsEnded> {
        match self.replies.give_up(key) {
            Some((shard, told)) => deliver(mesh, shard, told).await,
            None => Ok(()),
        }
    }

    fn to_all_shards(&self, notices: Vec<ModerationNotice>) -> Vec<(ShardIndex, Delivery)> {
        let shards = (0..).map(ShardIndex).take(self.shards.len());
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        let of_shard = |shard| notices.iter().map(move |it| (shard, Delivery::Noticed(Arc::clone(it))));
        shards.flat_map(of_shard).collect()
    }

    /// The shard of the user that is told. Where the user is not here any more, any shard passes it on, or says so.
    fn find_receiver(
        &self,
        notice: NodeNotice,
        (node, incarnation): (&NodeName, Incarnation),
    ) -> Option<(ShardIndex, Delivery)> {
        let found = notice.user().and_then(|user| self.directory.users().find(user));
        let shard = found.map_or(ShardIndex(0), |found| found.shard);
        match notice {
            NodeNotice::OrderEnd { number, refusal } => self.replies.end_order(number, refusal),
            NodeNotice::Order { number, user, by, by_name, by_account, action } => {
                let by = Admin::User { user: UserId::from_wire(by)?, name: by_name, account: by_account };
                let origin = OrderOrigin::Node(Arc::new((node.clone(), incarnation)), number);
                let target = OrderTarget::User(UserId::from_wire(user)?);
                let order = ModerationOrder { by, origin, target, action };
                Some((shard, Delivery::OrderFromNode(Box::new(order))))
            }
            notice => Some((shard, Delivery::FromNode(Box::new(notice)))),
        }
    }

    fn take_waiting(
        &self,
        user: UserId,
        through: Visit,
    ) -> impl Iterator<Item = (ShardIndex, Delivery)> + use<> {
        let waiting = self.waiting.take(user, through).into_iter();
        waiting.map(|to| (to.shard, Delivery::SessionEnded { to }))
    }

    /// Notes that a connection waits until a user is no longer on another node by this visit, and tells it if that is so by now.
    pub(super) async fn await_end(
        &self,
        mesh: &Mesh,
        (user, visit): (UserId, Visit),
        connection: ClientRef,
    ) -> Result<(), ShardsEnded> {
        self.waiting.add(user, visit, connection);
        if self.directory.users().is_elsewhere(user, visit) {
            return Ok(());
        }
        for (shard, delivery) in self.take_waiting(user, visit) {
            deliver(mesh, shard, delivery).await?;
        }
        Ok(())
    }

    /// Tells connections that have waited too long for a user to end elsewhere, for as long as the server lives.
    pub(super) async fn give_up_waiting(self, mesh: Mesh) {
        loop {
            let to = self.waiting.overdue().await;
            if deliver(&mesh, to.shard, Delivery::SessionNotReached { to }).await.is_err() {
                return;
            }
        }
    }

    fn push(&self, by_shard: &mut [Vec<Receipt>], room: &str, receipt: Receipt) {
        by_shard[usize::from(self.directory.home_of(room).0)].push(receipt);
    }

    async fn send(&self, to: ShardIndex, receipts: Vec<Receipt>) -> Result<(), ShardsEnded> {
        let (shard, waker) = &self.shards[usize::from(to.0)];
        shard.send(receipts).await.map_err(|_| ShardsEnded)?;
        waker.wake();
        Ok(())
    }
}

async fn deliver(mesh: &Mesh, to: ShardIndex, delivery: Delivery) -> Result<(), ShardsEnded> {
    let address = mesh.address(to);
    address.deliveries.send(delivery).await.map_err(|_| ShardsEnded)?;
    address.waker.wake();
    Ok(())
}

/// The block of user ids that an answer gives to this server.
pub(super) fn block_of(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Numbers(block) => Some(*block),
        _ => None,
    }
}
