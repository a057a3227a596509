//! The stages of a shutdown, which all shards go through together: one begins when every shard has reached
//! the one before. So every acknowledged message has arrived before any connection is closed.
//!
//! Once clients are no longer read, messages between shards only follow from messages. Each stage from
//! [`Stage::ReadingStopped`] to [`Stage::Settled`] takes them one step further: a shard has reached it when it has
//! handled what had been posted to it before the stage began, and posted what follows. The longest chain
//! has four steps, a change of room: leave, left, join, joined. The deliveries at the end of a chain are
//! taken at the beginning of [`Stage::Draining`].
//!
//! The server does not wait for ever: when the disk is late, it goes on to [`Stage::Draining`] from where it is.

use super::Shard;
use super::turn::Io;
use crate::clock::Now;

/// The stage of all shards: serving, or a step of the shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serve.
    #[default]
    Serving,
    /// Read no more from clients. Reached when all their requests are in the homes' mailboxes.
    ReadingStopped,
    /// Reached when the homes have handled these requests, and the answers are in the members' mailboxes.
    Answered,
    /// Reached when each user that has left one room has asked for the next.
    Moved,
    /// Reached when these homes, too, have answered.
    Settled,
    /// Send these answers to the clients, and close all connections. Reached when none is left.
    Draining,
    /// Return.
    Stopped,
}

impl Stage {
    /// The stage behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Serving => Self::ReadingStopped,
            Self::ReadingStopped => Self::Answered,
            Self::Answered => Self::Moved,
            Self::Moved => Self::Settled,
            Self::Settled => Self::Draining,
            Self::Draining | Self::Stopped => Self::Stopped,
        }
    }
}

/// A shard's progress through the stages.
///
/// A stage is begun, then turns are run, and after each of them [`Progress::poll_reached`] is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    begun: Stage,
    /// Invariant: not beyond `begun`. The leading thread may want a later stage, which this shard has not seen yet.
    reached: Stage,
}

impl Progress {
    /// The stage that was begun last.
    #[must_use]
    pub fn begun(&self) -> Stage {
        self.begun
    }

    /// Begins a stage.
    pub fn begin(&mut self, stage: Stage, shard: &mut Shard, io: &mut impl Io, now: Now) {
        self.begun = stage;
        match stage {
            Stage::ReadingStopped => shard.stop_reading(),
            Stage::Draining => {
                while let Some(delivery) = io.next_delivery() {
                    shard.handle_delivery(delivery, now);
                }
                shard.begin_drain(now);
            }
            Stage::Serving | Stage::Answered | Stage::Moved | Stage::Settled | Stage::Stopped => {}
        }
    }

    /// The stage that has been begun, once, when it is reached.
    #[must_use]
    pub fn poll_reached(&mut self, shard: &Shard, io: &impl Io) -> Option<Stage> {
        if self.reached == self.begun {
            return None;
        }
        let is_reached = match self.begun {
            Stage::Serving | Stage::Stopped => true,
            // Published messages must also be durable, and acknowledged.
            Stage::ReadingStopped | Stage::Answered | Stage::Moved | Stage::Settled
                if !shard.homes().are_settled() =>
            {
                false
            }
            // Of both classes: a request is answered by deliveries, and a delivery may lead to a request.
            Stage::ReadingStopped | Stage::Answered | Stage::Moved | Stage::Settled => {
                let has_orders = shard.mass_orders.has_unanswered();
                !has_orders
                    && !io.has_mail()
                    && shard.mail().shards().all(|to| shard.mail().waiting_for(to) == (0, 0))
            }
            Stage::Draining => shard.clients().count() == 0,
        };
        if is_reached {
            self.reached = self.begun;
        }
        is_reached.then_some(self.begun)
    }
}
