//! The connections that wait until their user has ended on another node.
//!
//! None waits for ever: the node may be gone, and the log out of reach.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::rooms::{ClientRef, UserId, Visit};

/// How long a connection waits while the log is out of reach: as long as for a room.
pub(super) const UNREACHED_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it waits otherwise: a node that is killed is found out within 12 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Those that wait. Bounded by the number of connections that have come within the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    has_added: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    by_user: HashMap<UserId, Vec<(Visit, ClientRef)>>,
    /// When each is looked at: after the first time, and those that are left then after the second one.
    first: VecDeque<Due>,
    second: VecDeque<Due>,
    /// A bit for each partition of which the log is out of reach.
    out_of_reach: u64,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    user: UserId,
    visit: Visit,
    connection: ClientRef,
}

impl Waiting {
    /// A connection waits until this user is not there any more by this visit.
    pub(super) fn add(&self, user: UserId, visit: Visit, connection: ClientRef) {
        let mut inner = self.inner();
        inner.by_user.entry(user).or_default().push((visit, connection));
        let at = Instant::now() + UNREACHED_TIMEOUT;
        inner.first.push_back(Due { at, user, visit, connection });
        self.0.has_added.notify_one();
    }

    /// Takes the connections that have waited for this visit or an earlier one.
    pub(super) fn take(&self, user: UserId, through: Visit) -> Vec<ClientRef> {
        self.inner().take(user, |(visit, _)| *visit <= through)
    }

    /// Notes whether the log of a partition can be reached.
    pub(super) fn set_reached(&self, partition: u16, is_reached: bool) {
        let bit = 1 << partition;
        let mut inner = self.inner();
        if is_reached {
            inner.out_of_reach &= !bit;
        } else {
            inner.out_of_reach |= bit;
        }
    }

    /// The next connection that has waited too long. It waits no more.
    pub(super) async fn overdue(&self) -> ClientRef {
        loop {
            let due = match self.inner().next_overdue(Instant::now()) {
                Ok(connection) => return connection,
                Err(due) => due,
            };
            let is_due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_due => {}
                () = self.0.has_added.notified() => {}
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A task that has panicked has ended the server.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, user: UserId, is_it: impl Fn(&(Visit, ClientRef)) -> bool) -> Vec<ClientRef> {
        let Some(waiting) = self.by_user.get_mut(&user) else { return Vec::new() };
        let taken = waiting.extract_if(.., |waits| is_it(waits)).map(|(_, connection)| connection).collect();
        if waiting.is_empty() {
            self.by_user.remove(&user);
        }
        taken
    }

    /// A connection that has waited too long, or when the next one may have.
    fn next_overdue(&mut self, now: Instant) -> Result<ClientRef, Option<Instant>> {
        while let Some(due) = pop_due(&mut self.first, now) {
            if self.out_of_reach == 0 {
                self.second.push_back(Due { at: due.at + (TIMEOUT - UNREACHED_TIMEOUT), ..due });
            } else if let Some(connection) = self.take_due(due) {
                return Ok(connection);
            }
        }
        while let Some(due) = pop_due(&mut self.second, now) {
            if let Some(connection) = self.take_due(due) {
                return Ok(connection);
            }
        }
        let next = [&self.first, &self.second].into_iter().filter_map(|queue| Some(queue.front()?.at)).min();
        Err(next)
    }

    /// `None` where it waits no more.
    fn take_due(&mut self, Due { user, visit, connection, .. }: Due) -> Option<ClientRef> {
        self.take(user, |waits| *waits == (visit, connection)).pop()
    }
}

fn pop_due(queue: &mut VecDeque<Due>, now: Instant) -> Option<Due> {
    queue.front().is_some_and(|due| due.at <= now).then(|| queue.pop_front())?
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::rooms::ShardIndex;

    fn connection(index: u32) -> ClientRef {
        ClientRef { shard: ShardIndex(0), connection: ConnectionId { index, generation: 0 } }
    }

    fn user() -> UserId {
        UserId::from_wire(7).unwrap()
    }

    /// How many seconds the next connection waits, and which one it is.
    async fn overdue(waiting: &Waiting, begun: Instant) -> (u64, ClientRef) {
        let connection = waiting.overdue().await;
        (begun.elapsed().as_secs(), connection)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_for_a_visit_and_those_before_it() {
        let waiting = Waiting::default();
        (1..=3).for_each(|number| waiting.add(user(), Visit(number), connection(number as u32)));
        assert_eq!(waiting.take(user(), Visit(2)), [connection(1), connection(2)]);
        assert_eq!(waiting.take(user(), Visit(2)), []);
        assert_eq!(overdue(&waiting, Instant::now()).await, (20, connection(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn none_waits_long_for_a_log_that_is_out_of_reach() {
        let (waiting, begun) = (Waiting::default(), Instant::now());
        waiting.set_reached(3, false);
        waiting.add(user(), Visit(1), connection(1));
        assert_eq!(overdue(&waiting, begun).await, (10, connection(1)));
        waiting.set_reached(3, true);
        waiting.add(user(), Visit(1), connection(2));
        assert_eq!(overdue(&waiting, begun).await, (30, connection(2)));
        assert!(waiting.inner().by_user.is_empty());
    }
}
