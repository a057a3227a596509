//! The mesh: how shards reach each other. Each shard has a mailbox, bounded for each of the two classes of
//! message (see [`crate::mail`]), and everyone's address.
//!
//! Nobody waits in here. A shard looks into its mailbox in each turn, and is woken when it sleeps. One that finds a mailbox
//! full asks to be woken when there is room again ([`Address::ask_for_room`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use uproar_ring::Waker;

use crate::mail::{Delivery, Request};
use crate::rooms::ShardIndex;

/// Messages of one class that a mailbox holds. If it is full, messages wait at their sender, which then reads no
/// more from its clients; nothing is lost.
///
/// While a topic of a thousand is flooded, a turn handles some 64 of them. So another message waits at most
/// eight turns, or twelve with the messages that wait at the sender.
pub const MAILBOX_MESSAGES_MAX: usize = 512;

/// What has arrived at a shard.
#[derive(Debug)]
pub struct Mailbox {
    /// For the rooms and users of this shard.
    pub requests: Receiver<Request>,
    /// For its members.
    pub deliveries: Receiver<Delivery>,
    /// The shards that have asked for room, by index.
    room_wanted: Arc<[AtomicBool]>,
}

impl Mailbox {
    /// How many messages are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len() + self.deliveries.len()
    }

    /// True when nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.deliveries.is_empty()
    }

    /// The next shard that has asked for room, once. Called when a turn has taken its mail.
    pub fn next_room_wanted(&self) -> Option<ShardIndex> {
        // Pairs with the fence of `ask_for_room`: either the messages taken are seen there, or the question here.
        fence(Ordering::SeqCst);
        let is_wanted =
            |wanted: &AtomicBool| wanted.load(Ordering::Relaxed) && wanted.swap(false, Ordering::Relaxed);
        let mut shards = (0..).map(ShardIndex).zip(self.room_wanted.iter());
        shards.find(|(_, wanted)| is_wanted(wanted)).map(|(index, _)| index)
    }
}

/// Where to send to a shard.
#[derive(Clone, Debug)]
pub struct Address {
    /// For its rooms and users.
    pub requests: Sender<Request>,
    /// For its members.
    pub deliveries: Sender<Delivery>,
    /// Wakes it.
    pub waker: Waker,
    room_wanted: Arc<[AtomicBool]>,
}

impl Address {
    /// Asks to be woken when messages were taken out of this mailbox. To be called when the asking shard can be woken, and
    /// before it looks again whether there is room.
    pub fn ask_for_room(&self, from: ShardIndex) {
        self.room_wanted[usize::from(from.0)].store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// A shard has ended, and takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStopped;

/// Every shard's address.
#[derive(Clone, Debug)]
pub struct Mesh(Vec<Address>);

impl Mesh {
    /// A mesh of the shards that these wake, and their mailboxes in order.
    #[must_use]
    pub fn new(wakers: Vec<Waker>) -> (Self, Vec<Mailbox>) {
        let shards = wakers.len();
        let (addresses, mailboxes) = wakers
            .into_iter()
            .map(|waker| {
                let (requests_to, requests) = channel(MAILBOX_MESSAGES_MAX);
                let (deliveries_to, deliveries) = channel(MAILBOX_MESSAGES_MAX);
                let room_wanted: Arc<[AtomicBool]> = (0..shards).map(|_| AtomicBool::new(false)).collect();
                let address = Address {
                    requests: requests_to,
                    deliveries: deliveries_to,
                    waker,
                    room_wanted: Arc::clone(&room_wanted),
                };
                (address, Mailbox { requests, deliveries, room_wanted })
            })
            .unzip();
        (Self(addresses), mailboxes)
    }

    /// Posts a delivery from a thread that is no shard's, and waits until there is room for it. Deliveries
    /// are always taken, so there will be.
    ///
    /// # Errors
    ///
    /// When the shard has ended.
    pub fn deliver(&self, to: ShardIndex, delivery: Delivery) -> Result<(), ShardStopped> {
        let address = self.address(to);
        address.deliveries.blocking_send(delivery).map_err(|_| ShardStopped)?;
        address.waker.wake();
        Ok(())
    }

    /// A shard's address.
    #[must_use]
    pub fn address(&self, of: ShardIndex) -> &Address {
        self.0.get(usize::from(of.0)).expect("Bug: an unknown shard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_asks_for_room_is_named_once_to_the_owner_of_the_mailbox() {
        let wakers = (0..3).map(|_| Waker::new().expect("an eventfd")).collect();
        let (mesh, mailboxes) = Mesh::new(wakers);
        mesh.address(ShardIndex(1)).ask_for_room(ShardIndex(0));
        mesh.address(ShardIndex(1)).ask_for_room(ShardIndex(0));
        mesh.address(ShardIndex(1)).ask_for_room(ShardIndex(2));
        let wanted = |of: usize| std::iter::from_fn(|| mailboxes[of].next_room_wanted()).collect::<Vec<_>>();
        assert_eq!(wanted(0), []);
        assert_eq!(wanted(1), [ShardIndex(0), ShardIndex(2)]);
        assert_eq!(wanted(1), []);
    }
}
