//! The interface's place in the mesh: it asks homes for something, as shards do, and gets the answers.
//!
//! Homes answer to a [`ClientRef`] on [`ShardIndex::API`]. Its connection is the ticket of a request under way, which is
//! used once: late answers to an earlier one meet another generation.
//!
//! Bounded: at most [`REQUESTS_MAX`] requests are under way, so at most as many answers wait for this thread, and shards can
//! leave them without looking whether there is room. A request waits for room in a mailbox like one of a shard.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uproar_ring::ConnectionId;

use crate::events::ConnectionFacts;
use crate::mail::{self, AccountConnection, OrderOutcome, Request};
use crate::mesh::Mesh;
use crate::moderation::OrderRefusal;
use crate::rooms::{
    self, ClientRef, Delivery, Epoch, HistoryPage, MemberList, MessageId, RoomIndex, RoomRefusal, ShardIndex,
};

/// The most requests to homes that are under way. A batch has up to 1,000.
const REQUESTS_MAX: u32 = 4_096;

/// A message that a room has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) message: MessageId,
    pub(super) epoch: Epoch,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// The message, or its deletion, is as durable as configured.
    Done(Published),
    /// The room is open, and held until this is dropped, also if nobody waits for it any more.
    Opened(HeldRoom),
    /// Nothing happened, for this reason.
    Refused(RoomRefusal),
    /// Members have seen the message or the deletion, and the disk has not taken it.
    NotStored,
    /// So many queues have taken a message of a topic.
    Relayed { receivers: usize },
    /// The members of a room.
    Members(MemberList),
    /// Messages of a room.
    History(HistoryPage),
    /// Connections of a shard, and the slot from which their list goes on.
    Connections { facts: Vec<ConnectionFacts>, next_slot: Option<u32> },
    /// An order was carried out, or has no effect.
    Ordered(Result<OrderOutcome, OrderRefusal>),
    /// A shard has done it for so many connections.
    Counted(usize),
    /// A shard's first connections of an account, and how many it has.
    Account { connections: Vec<AccountConnection>, total: usize },
    /// A room with so many members is closed. False where the disk has not taken it.
    Closed { members: usize, is_stored: bool },
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// Nothing happened: the server shuts down.
    Draining,
    /// The server has ended before it answered.
    Lost,
}

/// The interface's place in the mesh. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct MeshLink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    mesh: Mesh,
    /// A permit for each request under way.
    room: Arc<Semaphore>,
    under_way: Mutex<UnderWay>,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct UnderWay {
    tickets: Slab<Ticket>,
    /// That of the next ticket.
    generation: u32,
}

/// A request under way.
#[derive(Debug)]
struct Ticket {
    generation: u32,
    state: TicketState,
    reply: oneshot::Sender<Reply>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum TicketState {
    /// Nothing has come yet.
    Asked,
    /// The room has the message, and the storage does not have it yet.
    Taken(Published),
    /// Some shards have told how many queues have taken it.
    Relaying(RelayCount),
}

/// The queues that have taken a message of a topic. The home tells how many shards have listeners, and each of these how
/// many queues took the message, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RelayCount {
    /// `None` until the home has told.
    shards: Option<usize>,
    shards_heard: usize,
    receivers: usize,
}

/// A room that stays open for this link until it is dropped.
#[derive(Debug)]
pub(super) struct HeldRoom {
    pub(super) room: RoomIndex,
    link: MeshLink,
}

impl Drop for HeldRoom {
    fn drop(&mut self) {
        let (room, link) = (self.room, self.link.clone());
        let release = async move {
            let address = link.0.mesh.address(room.home());
            // Once the shard has ended, there is nothing to release.
            if address.requests.send(Request::Room(rooms::Request::Release { room })).await.is_ok() {
                address.waker.wake();
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}

/// A request that was sent.
#[derive(Debug)]
pub(super) struct Asked(oneshot::Receiver<Reply>);

impl Asked {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// [`NoReply::Lost`].
    pub(super) async fn reply(self) -> Result<Reply, NoReply> {
        self.0.await.map_err(|_| NoReply::Lost)
    }
}

impl MeshLink {
    pub(super) fn new(mesh: Mesh) -> Self {
        Self(Arc::new(Shared {
            mesh,
            room: Arc::new(Semaphore::new(REQUESTS_MAX as usize)),
            under_way: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Sends a request to a shard, as soon as it has room. Requests to one shard arrive in the order of the calls.
    ///
    /// # Errors
    ///
    /// [`NoReply::Draining`].
    pub(super) async fn ask(
        &self,
        to: ShardIndex,
        request: impl FnOnce(ClientRef) -> Request,
    ) -> Result<Asked, NoReply> {
        let permit = Arc::clone(&self.0.room).acquire_owned().await.map_err(|_| NoReply::Draining)?;
        let address = self.0.mesh.address(to);
        let place = address.requests.reserve().await.map_err(|_| NoReply::Draining)?;
        let (reply, replied) = oneshot::channel();
        {
            // Within the lock, so that `close` sees either the request or none.
            let mut under_way = self.lock();
            if self.0.is_closed.load(SeqCst) {
                return Err(NoReply::Draining);
            }
            let origin = under_way.insert(reply, permit);
            place.send(request(origin));
        }
        address.waker.wake();
        Ok(Asked(replied))
    }

    /// True when no request is sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(SeqCst)
    }

    /// From now on no request is sent. Answers still come.
    pub(super) fn close(&self) {
        let _under_way = self.lock();
        self.0.is_closed.store(true, SeqCst);
        // Whoever waits for a place is told.
        self.0.room.close();
    }

    /// Takes the answers of all shards until every one of them has ended. Requests without an answer are lost then.
    pub(super) async fn run(self, mut answers: UnboundedReceiver<mail::Delivery>) {
        while let Some(answer) = answers.recv().await {
            let opened = |room| HeldRoom { room, link: self.clone() };
            self.lock().handle(answer, opened);
        }
        self.lock().tickets.clear();
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        // Each change is complete before anything can panic.
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn insert(&mut self, reply: oneshot::Sender<Reply>, permit: OwnedSemaphorePermit) -> ClientRef {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let ticket = Ticket { generation, state: TicketState::Asked, reply, _permit: permit };
        let index = self.tickets.insert(ticket) as u32;
        ClientRef { shard: ShardIndex::API, connection: ConnectionId { index, generation } }
    }

    /// Takes an answer. `opened` makes the guard of a room that is held for the link.
    fn handle(&mut self, answer: mail::Delivery, opened: impl FnOnce(RoomIndex) -> HeldRoom) {
        match answer {
            mail::Delivery::Room(Delivery::Done { to, message, epoch, pending }) => {
                let published = Published { message, epoch };
                match pending {
                    None => self.finish(to, Reply::Done(published)),
                    Some(_) => {
                        if let Some(ticket) = self.find(to) {
                            ticket.state = TicketState::Taken(published);
                        }
                    }
                }
            }
            mail::Delivery::Room(Delivery::Kept { to, .. }) => {
                if let Some(Ticket { state: TicketState::Taken(published), .. }) = self.find(to) {
                    let published = *published;
                    self.finish(to, Reply::Done(published));
                }
            }
            mail::Delivery::Room(Delivery::Lost { to, .. }) => self.finish(to, Reply::NotStored),
            mail::Delivery::Room(Delivery::Opened { to, room }) => {
                self.finish(to, Reply::Opened(opened(room)));
            }
            mail::Delivery::Room(Delivery::Refused { to, refusal }) => {
                self.finish(to, Reply::Refused(refusal))
            }
            mail::Delivery::Room(Delivery::Members { to, members }) => {
                self.finish(to, Reply::Members(members))
            }
            mail::Delivery::Room(Delivery::History { to, page }) => self.finish(to, Reply::History(page)),
            mail::Delivery::Room(Delivery::Relayed { to, shards }) => {
                self.count_relay(to, |count| count.shards = Some(shards));
            }
            mail::Delivery::RelayReceived { to, receivers } => self.count_relay(to, |count| {
                count.shards_heard += 1;
                count.receivers += receivers;
            }),
            mail::Delivery::Connections { to, facts, next_slot } => {
                self.finish(to, Reply::Connections { facts, next_slot });
            }
            mail::Delivery::OrderDone { to, outcome } => self.finish(to, Reply::Ordered(outcome)),
            mail::Delivery::NoticeDone { to, connections } => self.finish(to, Reply::Counted(connections)),
            mail::Delivery::AccountShown { to, connections, total } => {
                self.finish(to, Reply::Account { connections, total });
            }
            mail::Delivery::Room(Delivery::Closed { to, members, is_stored }) => {
                self.finish(to, Reply::Closed { members, is_stored });
            }
            // Nothing else is sent to what is no client.
            other => debug_assert!(false, "Bug: the API gets {other:?}"),
        }
    }

    fn count_relay(&mut self, to: ClientRef, change: impl FnOnce(&mut RelayCount)) {
        let Some(ticket) = self.find(to) else { return };
        let mut count = match ticket.state {
            TicketState::Relaying(count) => count,
            TicketState::Asked | TicketState::Taken(_) => RelayCount::default(),
        };
        change(&mut count);
        ticket.state = TicketState::Relaying(count);
        if count.shards == Some(count.shards_heard) {
            self.finish(to, Reply::Relayed { receivers: count.receivers });
        }
    }

    fn find(&mut self, to: ClientRef) -> Option<&mut Ticket> {
        let ConnectionId { index, generation } = to.connection;
        self.tickets.get_mut(index as usize).filter(|ticket| ticket.generation == generation)
    }

    fn finish(&mut self, to: ClientRef, reply: Reply) {
        if self.find(to).is_some() {
            let ticket = self.tickets.remove(to.connection.index as usize);
            // The caller may have given up. A room is then released.
            let _ = ticket.reply.send(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::timeout;
    use uproar_ring::Waker;

    use super::*;

    #[tokio::test]
    async fn a_room_that_is_opened_for_nobody_is_released() {
        let (mesh, mut mailboxes) = Mesh::new(vec![Waker::new().unwrap()]);
        let link = MeshLink::new(mesh);
        let (shards, answers) = unbounded_channel();
        let answering = tokio::spawn(link.clone().run(answers));
        let open =
            |origin| Request::Room(rooms::Request::Open { name: "team-1".into(), origin, is_owed: false });
        let asked = link.ask(ShardIndex(0), open).await.unwrap();
        let requests = &mut mailboxes[0].requests;
        let Some(Request::Room(rooms::Request::Open { origin, .. })) = requests.recv().await else {
            panic!("it asks for the room")
        };
        // The caller gives up before the room is open.
        drop(asked);
        let room = RoomIndex::example(5);
        shards.send(mail::Delivery::Room(Delivery::Opened { to: origin, room })).unwrap();
        let released = timeout(Duration::from_secs(20), requests.recv()).await.unwrap();
        assert!(
            matches!(released, Some(Request::Room(rooms::Request::Release { room: of })) if of == room),
            "{released:?}"
        );
        drop(shards);
        answering.await.unwrap();
    }
}
