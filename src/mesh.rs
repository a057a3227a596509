//! The mesh: how shards reach each other. Each shard has a mailbox, bounded for each of the two classes of
//! message (see [`crate::hub::Request`] and [`crate::hub::Delivery`]), and everyone's address.

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::hub::{Delivery, Request, ShardIndex};

/// Messages of one class that a mailbox holds. What finds it full waits at its sender, which then reads no
/// more from its clients; nothing is lost.
///
/// Behind a flood of a topic of a thousand, a turn takes some 64 of them. So this is what another message waits for:
/// eight turns, and with those at the sender twelve.
pub const MAILBOX_MESSAGES_MAX: usize = 512;

/// What has arrived at a shard.
#[derive(Debug)]
pub struct Mailbox {
    /// For the rooms and users of this shard.
    pub requests: Receiver<Request>,
    /// For its members.
    pub deliveries: Receiver<Delivery>,
}

/// Where to send to a shard.
#[derive(Clone, Debug)]
pub struct Address {
    /// For its rooms and users.
    pub requests: Sender<Request>,
    /// For its members.
    pub deliveries: Sender<Delivery>,
}

/// A shard has ended, and takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStopped;

/// Every shard's address.
#[derive(Clone, Debug)]
pub struct Mesh(Vec<Address>);

impl Mesh {
    /// A mesh of so many shards, and their mailboxes in order.
    #[must_use]
    pub fn new(shards: u16) -> (Self, Vec<Mailbox>) {
        let (addresses, mailboxes) = (0..shards)
            .map(|_| {
                let (requests_to, requests) = channel(MAILBOX_MESSAGES_MAX);
                let (deliveries_to, deliveries) = channel(MAILBOX_MESSAGES_MAX);
                let address = Address { requests: requests_to, deliveries: deliveries_to };
                (address, Mailbox { requests, deliveries })
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
        let address = self.0.get(usize::from(to.0)).expect("Bug: an unknown shard");
        address.deliveries.blocking_send(delivery).map_err(|_| ShardStopped)
    }

    /// Every shard and its address.
    pub fn addresses(&self) -> impl Iterator<Item = (ShardIndex, &Address)> {
        (0..).map(ShardIndex).zip(&self.0)
    }
}
