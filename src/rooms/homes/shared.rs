//! The homes of a server in a cluster: they propose to the log that all its servers share, and apply what comes out of it.
//!
//! Every server has every room, as long as it is open. Rooms that clients create are opened and forgotten by the log, too: it
//! does not forget a room that has members anywhere.

use std::sync::Arc;

use bytes::Bytes;
use uproar_cluster::{Answer, Incarnation, Mirror, NodeName, Proposal as Logged};

use uproar_protocol::frames::MessageKind;

use super::sharing::{Replicas, Sharing};
use super::{Homes, OpenRoom, RoomState, reschedule};
use crate::clock::Now;
use crate::rooms::shared::{
    Decision, JOIN_TIMEOUT_MS, NodeLife, RoomNotice, SharedProposal, SharedProposalKind, SharedReceipt,
    Ticket,
};
use crate::rooms::shared_log::RAISED_BY;
use crate::rooms::{ClientRef, Delivery, Epoch, MessageId, RoomIndex, RoomRefusal, UserId};

/// Members of a node that is gone that are let leave in one step.
const LEAVES_A_STEP: usize = 64;

impl Homes {
    /// Takes the rooms as the shared log has them. From now on nothing changes but by its receipts. With `awaits_replicas` a
    /// change is acknowledged when enough replicas have it.
    ///
    /// # Panics
    ///
    /// When a configured room is not open in the log.
    pub fn share(&mut self, mirrors: &[Mirror], awaits_replicas: bool, now: Now) {
        let partitions = partitions(mirrors.len());
        let epochs = mirrors.iter().map(|mirror| Arc::clone(&mirror.epoch)).collect();
        let (nodes, departing, relays) = Default::default();
        let replicas = if awaits_replicas { mirrors.len() } else { 0 };
        let replicas = std::iter::repeat_with(Replicas::default).take(replicas).collect();
        let out_of_reach = vec![false; mirrors.len()];
        let mut sharing = Sharing { epochs, nodes, departing, relays, replicas, out_of_reach };
        let directory = self.home.directory.clone();
        for listed in directory.rooms().iter().filter(|listed| listed.index().home() == self.index) {
            let mirror = &mirrors[usize::from(partitions.of(listed.name()))];
            let state = mirror.rooms.get(listed.name()).expect("Bug: a configured room is not open");
            let epoch = Epoch::of_shared(&mirror.epoch, listed.name(), state.opened);
            if let Some(RoomState::Open(open)) = self.rooms.get_mut(listed.index()) {
                open.room.share(epoch, state, awaits_replicas, |kept| {
                    sharing.nodes.client_of(&kept.node, kept.incarnation)
                });
            }
        }
        self.sharing = Some(Box::new(sharing));
        for mirror in mirrors {
            for (name, state) in &mirror.rooms {
                if directory.home_of(name) == self.index && directory.find(name).is_none() {
                    self.insert_opened(Arc::clone(name), &mirror.epoch, state, now);
                }
            }
        }
    }

    /// True in a cluster.
    pub(super) fn are_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// The next proposal to the shared log.
    #[must_use]
    pub fn poll_proposal(&mut self) -> Option<SharedProposal> {
        self.outbox.proposals.pop_front()
    }

    /// True while members of a node that is gone are still to leave: then nothing else of the log is handled.
    #[must_use]
    pub fn have_departing(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| !sharing.departing.is_empty())
    }

    /// Lets some of them leave.
    pub fn depart_some(&mut self, now: Now) {
        let Some(sharing) = &mut self.sharing else { return };
        let Some((node, rooms)) = sharing.departing.last_mut() else { return };
        let node = *node;
        let Some(&room) = rooms.last() else {
            sharing.departing.pop();
            sharing.nodes.forget(node);
            return;
        };
        let mut left = 0;
        self.with_room(room, now, |room, outbox| left = room.let_leave(node, LEAVES_A_STEP, now, outbox));
        if left < LEAVES_A_STEP
            && let Some((_, rooms)) = self.sharing.as_mut().and_then(|sharing| sharing.departing.last_mut())
        {
            rooms.pop();
        }
    }

    /// Handles what the shared log tells.
    pub(super) fn handle_shared(&mut self, receipt: SharedReceipt, now: Now) {
        match receipt {
            SharedReceipt::Decided(decision) => self.handle_decision(&decision, now),
            SharedReceipt::Noticed { notice, ticket, by } => self.handle_notice(&notice, ticket, &by, now),
            SharedReceipt::Replicated { partition, through } => self.handle_replicated(partition, through),
            SharedReceipt::Told(ticket) => {
                self.handle_told(ticket);
            }
            SharedReceipt::Refused(ticket) => self.handle_unproposed(ticket, now),
            SharedReceipt::Reached { partition, is_reached } => {
                self.handle_reached(partition, is_reached, now)
            }
            SharedReceipt::Ended(end) => self.handle_log_end(end, now),
        }
    }

    fn handle_decision(&mut self, decision: &Decision, now: Now) {
        let (proposal, answer) = decision.parts();
        let tag = &decision.entry.tag;
        // All servers tell the same time, and so does the history.
        let now = Now { unix_seconds: decision.unix_seconds(), ..now };
        match (proposal, answer) {
            (Logged::Open { name }, _) => self.handle_open(name, answer, decision.ticket, now),
            (Logged::Forget { room }, Answer::Done) => self.handle_forgotten(room),
            (Logged::Forget { room }, _) => self.handle_not_forgotten(room, now),
            (Logged::NodeGone { seen }, Answer::Done) => {
                self.begin_departure(|(node, incarnation)| {
                    *node == seen.node && *incarnation == seen.incarnation
                });
            }
            (Logged::End, Answer::Done) => {
                self.begin_departure(|(node, incarnation)| {
                    *node == tag.node && *incarnation == tag.incarnation
                });
            }
            (Logged::Begin { .. }, Answer::Done) => {
                self.begin_departure(|(node, incarnation)| {
                    *node == tag.node && *incarnation != tag.incarnation
                });
            }
            (Logged::Epoch { epoch }, Answer::Done) => self.handle_epoch(epoch, decision.partition, now),
            (
                Logged::Join { room, .. }
                | Logged::Leave { room, .. }
                | Logged::Rename { room, .. }
                | Logged::Message { room, .. }
                | Logged::Delete { room, .. },
                _,
            ) => {
                let Some(index) = self.find_shared(room) else { return };
                let is_done = matches!(answer, Answer::Done | Answer::Sent(_));
                if is_done
                    && matches!(proposal, Logged::Join { .. } | Logged::Message { visit: None, .. })
                    && let Some(OpenRoom { lease: Some(lease), .. }) = self.open_room(index)
                {
                    lease.was_used = true;
                }
                let elsewhere = self.client_of(tag.node.clone(), tag.incarnation);
                self.with_room(index, now, |room, outbox| {
                    room.handle_decision(decision, elsewhere, now, outbox);
                });
                self.await_replicas(decision);
            }
            _ => {}
        }
    }

    /// Has the changes by a decision acknowledged once enough replicas have them.
    fn await_replicas(&mut self, decision: &Decision) {
        let changes = std::mem::take(&mut self.outbox.unreplicated);
        if let Some(replicas) = self.replicas_of(decision.partition) {
            changes.into_iter().for_each(|change| replicas.wait(decision.entry.number, change));
            self.acknowledge_replicated(decision.partition);
        }
    }

    /// Replicas have the entries of this server up to this one: what waits for that is acknowledged.
    fn handle_replicated(&mut self, partition: u16, through: u64) {
        if let Some(replicas) = self.replicas_of(partition) {
            replicas.note(through);
            self.acknowledge_replicated(partition);
        }
    }

    fn acknowledge_replicated(&mut self, partition: u16) {
        while let Some((cursor, to)) = self.replicas_of(partition).and_then(Replicas::poll) {
            self.outbox.send(to.shard, Delivery::Kept { to, cursor });
        }
    }

    fn replicas_of(&mut self, partition: u16) -> Option<&mut Replicas> {
        self.sharing.as_mut()?.replicas.get_mut(usize::from(partition))
    }

    /// The log of a partition can or cannot be reached from now on.
    fn handle_reached(&mut self, partition: u16, is_reached: bool, now: Now) {
        let Some(sharing) = &mut self.sharing else { return };
        if let Some(is_out) = sharing.out_of_reach.get_mut(usize::from(partition)) {
            *is_out = !is_reached;
        }
        self.outbox.is_log_out_of_reach = sharing.out_of_reach.contains(&true);
        if self.outbox.is_log_out_of_reach {
            // What changes nothing waits no more.
            for index in self.waiting.clone() {
                self.with_room(index, now, |room, outbox| room.apply_outcomes(now, outbox));
            }
        }
    }

    fn handle_notice(&mut self, notice: &RoomNotice, ticket: Option<Ticket>, by: &NodeLife, now: Now) {
        match notice {
            RoomNotice::Relay { topic, is_text, payload } => {
                let kind = if *is_text { MessageKind::Text } else { MessageKind::Binary };
                let origin = ticket.and_then(|ticket| self.handle_told(ticket));
                return self.relay(topic, kind, payload.clone(), origin, now);
            }
            RoomNotice::Read { author, message, reader, read_at, .. } => {
                return self.tell_author(*author, *message, *reader, *read_at);
            }
            RoomNotice::Typing { .. } | RoomNotice::Close { .. } => {}
        }
        let Some(index) = notice.room().and_then(|room| self.find_shared(&room)) else { return };
        let elsewhere = self.client_of(by.0.clone(), by.1);
        self.with_room(index, now, |room, outbox| {
            room.handle_notice(notice, ticket, elsewhere, now, outbox);
        });
    }

    /// Has a message of a topic told to all nodes.
    pub(super) fn propose_relay(
        &mut self,
        topic: Arc<str>,
        kind: MessageKind,
        payload: Bytes,
        origin: Option<ClientRef>,
    ) {
        let relay = RoomNotice::Relay { topic, is_text: kind == MessageKind::Text, payload };
        let ticket = self.outbox.tell(self.index, None, relay);
        match (origin, ticket, &mut self.sharing) {
            (Some(to), Some(ticket), Some(sharing)) => {
                sharing.relays.insert(ticket.number, to);
            }
            (Some(to), None, _) => {
                self.outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NotStored });
            }
            _ => {}
        }
    }

    /// What was to be told is in the log. Returns the request of the HTTP API that waits for it.
    fn handle_told(&mut self, ticket: Ticket) -> Option<ClientRef> {
        self.outbox.proposals_waiting -= 1;
        self.sharing.as_mut()?.relays.remove(&ticket.number)
    }

    fn tell_author(&mut self, author: u64, message: u64, reader: u64, read_at: u64) {
        let (Some(author), Some(reader)) = (UserId::from_wire(author), UserId::from_wire(reader)) else {
            return;
        };
        if let Some(connection) = self.home.directory.users().find(author) {
            let read = Delivery::Read { author, message: MessageId(message), reader, read_at };
            self.outbox.send(connection.shard, read);
        }
    }

    /// A proposal will not get into the log.
    fn handle_unproposed(&mut self, ticket: Ticket, now: Now) {
        if ticket.room == RoomIndex::none_at(self.index) {
            if let Some(to) = self.handle_told(ticket) {
                self.outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NotStored });
            }
            return;
        }
        match self.rooms.get_mut(ticket.room) {
            Some(RoomState::Opening { .. }) => self.fail_opening(ticket.room),
            Some(RoomState::Open(_)) => {
                self.with_room(ticket.room, now, |room, outbox| room.handle_refused(ticket, now, outbox));
            }
            None => {}
        }
    }

    fn client_of(&mut self, node: NodeName, incarnation: Incarnation) -> ClientRef {
        let sharing = self.sharing.as_mut().expect("Bug: the shared log answers a server that has none");
        sharing.nodes.client_of(&node, incarnation)
    }

    /// The room that the log names, if it is open here.
    fn find_shared(&mut self, room: &uproar_cluster::Room) -> Option<RoomIndex> {
        let configured = self.home.directory.find(&room.name);
        let index = configured.or_else(|| self.on_demand.get(&room.name).copied())?;
        let open = self.open_room(index)?;
        (open.room.shared_name()?.opened == room.opened).then_some(index)
    }

    /// Asks the log to open a room, for the clients that wait for it.
    pub(super) fn propose_opening(&mut self, name: Arc<str>, index: RoomIndex) {
        let opening = Logged::Open { name: Arc::clone(&name) };
        self.propose_shared(index, name, opening, Some(JOIN_TIMEOUT_MS));
    }

    fn propose_shared(
        &mut self,
        index: RoomIndex,
        room: Arc<str>,
        proposal: Logged,
        timeout_ms: Option<u64>,
    ) {
        let ticket = Ticket { room: index, number: self.outbox.next_ticket() };
        let kind = SharedProposalKind::Change(proposal);
        self.outbox.proposals.push_back(SharedProposal { ticket, room, kind, timeout_ms });
    }

    fn handle_open(&mut self, name: &Arc<str>, answer: &Answer, ticket: Option<Ticket>, now: Now) {
        let Answer::Opened(opened) = *answer else {
            if let Some(ticket) = ticket {
                self.handle_unproposed(ticket, now);
            }
            return;
        };
        if self.home.directory.find(name).is_some() {
            return;
        }
        let epoch = self.epoch_of(name);
        let state = uproar_cluster::RoomState::opened_by(opened);
        let Some(&index) = self.on_demand.get(name) else {
            return self.insert_opened(Arc::clone(name), &epoch, &state, now);
        };
        // Another node may have been faster: the room is open for those who wait here, too.
        if matches!(self.rooms.get_mut(index), Some(RoomState::Opening { .. })) {
            self.finish_opening(index, None, now);
            self.share_opened(index, &epoch, &state, now);
        }
    }

    /// The epoch of the log that a room is in.
    fn epoch_of(&self, room: &str) -> Arc<str> {
        let epochs = self.sharing.as_ref().map(|sharing| &sharing.epochs[..]).unwrap_or_default();
        let partition = partitions(epochs.len()).of(room);
        epochs.get(usize::from(partition)).cloned().unwrap_or_default()
    }

    /// A room that another node has opened.
    fn insert_opened(
        &mut self,
        name: Arc<str>,
        log_epoch: &str,
        state: &uproar_cluster::RoomState,
        now: Now,
    ) {
        let opening = RoomState::Opening { name: Arc::clone(&name), waiting: Vec::new() };
        let index = self.rooms.insert(opening);
        self.on_demand.insert(name, index);
        self.home.directory.on_demand().reserve_anyway();
        self.finish_opening(index, None, now);
        self.share_opened(index, log_epoch, state, now);
    }

    fn share_opened(
        &mut self,
        index: RoomIndex,
        log_epoch: &str,
        state: &uproar_cluster::RoomState,
        now: Now,
    ) {
        let Some(sharing) = &mut self.sharing else { return };
        if let Some(RoomState::Open(OpenRoom { room, lease: Some(lease), .. })) = self.rooms.get_mut(index) {
            let epoch = Epoch::of_shared(log_epoch, room.listed().name(), state.opened);
            let awaits_replicas = !sharing.replicas.is_empty();
            room.share(epoch, state, awaits_replicas, |kept| {
                sharing.nodes.client_of(&kept.node, kept.incarnation)
            });
            // As if somebody had left it: who has opened it elsewhere joins in a moment, or the room is forgotten in its time.
            lease.was_used = true;
        }
        self.follow(index, now);
    }

    /// Asks the log to forget a room without members.
    pub(super) fn propose_forgetting(&mut self, index: RoomIndex) {
        let Some(RoomState::Open(OpenRoom { room, lease: Some(lease), .. })) = self.rooms.get_mut(index)
        else {
            return;
        };
        if lease.is_forgetting || lease.held > 0 || room.member_count() > 0 {
            return;
        }
        let Some(shared) = room.shared_name().cloned() else { return };
        lease.is_forgetting = true;
        reschedule(&mut self.expiries, index, &mut lease.expiry_ms, None);
        let name = Arc::clone(&shared.name);
        self.propose_shared(index, name, Logged::Forget { room: shared }, None);
    }

    fn handle_forgotten(&mut self, forgotten: &uproar_cluster::Room) {
        let Some(index) = self.find_shared(forgotten) else { return };
        self.take_off(index);
        let Some(RoomState::Open(mut open)) = self.rooms.remove(index) else { return };
        debug_assert_eq!(open.room.member_count(), 0, "a room with members is forgotten");
        self.outbox.proposals_waiting -= open.room.forget_waiting(&mut self.outbox);
    }

    /// Somebody has joined meanwhile, or the room was forgotten before.
    fn handle_not_forgotten(&mut self, room: &uproar_cluster::Room, now: Now) {
        if let Some(index) = self.find_shared(room)
            && let Some(OpenRoom { lease: Some(lease), .. }) = self.open_room(index)
        {
            lease.is_forgetting = false;
            // It is looked at anew, and where it is still empty, later once more.
            lease.is_empty = false;
            lease.left_ms = Some(now.monotonic_ms);
            self.follow(index, now);
        }
    }

    /// The members of these nodes are to leave.
    fn begin_departure(&mut self, is_gone: impl Fn(&NodeLife) -> bool) {
        let rooms: Vec<RoomIndex> = self.configured().chain(self.on_demand.values().copied()).collect();
        let Some(sharing) = &mut self.sharing else { return };
        for node in sharing.nodes.which(is_gone) {
            sharing.departing.push((node, rooms.clone()));
        }
    }

    /// The configured rooms whose home is here.
    fn configured(&self) -> impl Iterator<Item = RoomIndex> + use<> {
        let (rooms, index) = (self.home.directory.clone(), self.index);
        let own: Vec<RoomIndex> = rooms.rooms().iter().map(|room| room.index()).collect();
        own.into_iter().filter(move |room| room.home() == index)
    }

    fn handle_epoch(&mut self, epoch: &Arc<str>, partition: u16, now: Now) {
        let Some(sharing) = &mut self.sharing else { return };
        let partitions = partitions(sharing.epochs.len());
        match sharing.epochs.get_mut(usize::from(partition)) {
            Some(known) if *known != *epoch => *known = Arc::clone(epoch),
            _ => return,
        }
        let rooms: Vec<RoomIndex> = self.configured().chain(self.on_demand.values().copied()).collect();
        for index in rooms {
            self.with_room(index, now, |room, _| {
                let new = room
                    .shared_name()
                    .filter(|shared| partitions.of(&shared.name) == partition)
                    .map(|shared| Epoch::of_shared(epoch, &shared.name, shared.opened));
                if let Some(new) = new {
                    room.handle_epoch(new, RAISED_BY);
                }
            });
        }
    }
}

/// So many partitions.
fn partitions(count: usize) -> uproar_cluster::Partitions {
    uproar_cluster::Partitions(u16::try_from(count).unwrap_or(u16::MAX).max(1))
}
