//! The mesh: how shards reach each other. Each shard has a mailbox, bounded for each of the two classes of
//! message (see [`crate::hub::Request`] and [`crate::hub::Delivery`]), and everyone's address.

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::hub::{Delivery, Request, ShardIndex};

/// Messages of one class that a mailbox holds. What finds it full waits at its sender, which then reads no
/// more from its clients; nothing is lost.
pub const MAILBOX_MESSAGES_MAX: usize = 4_096;

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

    /// Every shard and its address.
    pub fn addresses(&self) -> impl Iterator<Item = (ShardIndex, &Address)> {
        (0..).map(ShardIndex).zip(&self.0)
    }
}
