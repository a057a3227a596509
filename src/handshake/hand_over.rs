//! Hands upgraded connections over: chooses the shard, and puts the connection into its queue.
//!
//! An acceptor first reserves a slot in a shard's queue, which may take a while, and then hands the connection over
//! in one step. So it always belongs to one of the two: to the acceptor, which can still answer it, or to the shard,
//! which empties its queue before it shuts down.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Permit, Receiver, Sender, channel};
use uproar_ring::Waker;

use super::admission::Admission;
use crate::permit::{ShardLoad, ShardPermit};

/// The most connections that wait in the queue of a shard.
///
/// A shard takes all of them at the beginning of a turn. The most expensive ones join a room whose joins are just about
/// still announced singly, to 500 members: 64 × 500 = 32,000 frames, as many as a turn's reading may push.
///
/// Memory, for each shard: 64 × 0.5 KiB without bytes after the request, 64 × 5 KiB with TLS, and 64 × 16 KiB = 1 MiB
/// if all of them send as much after their request as `--max-head` allows.
pub const ADMISSIONS_MAX: usize = 64;

/// A shard on the connection's core is preferred if it has at most a tenth more connections than the emptiest one.
const SLACK_DIVISOR: usize = 10;

/// One shard as acceptors see it.
#[derive(Clone, Debug)]
struct ShardQueue {
    queue: Sender<(OwnedFd, Admission)>,
    load: ShardLoad,
    waker: Waker,
    /// The core that it is pinned to, if it is.
    core: Option<usize>,
}

/// The queues of all shards. Each acceptor has a clone.
#[derive(Clone, Debug)]
pub struct HandOver {
    shards: Vec<ShardQueue>,
    /// Notified once for each slot that is free again.
    room: Arc<Notify>,
}

/// The receiving end of a shard's queue.
#[derive(Debug)]
pub struct Admissions {
    queue: Receiver<(OwnedFd, Admission)>,
    room: Arc<Notify>,
}

impl Admissions {
    /// The next connection, if there is one.
    pub fn take(&mut self) -> Option<(OwnedFd, Admission)> {
        let admission = self.queue.try_recv().ok()?;
        self.room.notify_one();
        Some(admission)
    }

    /// Waits for the next connection, on a thread without other work. `None` when all acceptors have ended.
    pub async fn wait(&mut self) -> Option<(OwnedFd, Admission)> {
        let admission = self.queue.recv().await?;
        self.room.notify_one();
        Some(admission)
    }

    /// True when no connection waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl HandOver {
    /// Queues to shards on these cores, `None` for an unpinned one, with their wakers; and their receiving ends, in
    /// the same order.
    #[must_use]
    pub fn new(cores: impl IntoIterator<Item = Option<usize>>, wakers: &[Waker]) -> (Self, Vec<Admissions>) {
        let room = Arc::new(Notify::new());
        let (shards, admissions) = cores
            .into_iter()
            .zip(wakers)
            .map(|(core, waker)| {
                let (queue, admissions) = channel(ADMISSIONS_MAX);
                (
                    ShardQueue { queue, load: ShardLoad::default(), waker: waker.clone(), core },
                    Admissions { queue: admissions, room: Arc::clone(&room) },
                )
            })
            .unzip();
        (Self { shards, room }, admissions)
    }

    /// Chooses a shard for a connection whose packets arrive on this core, and reserves a slot in its queue. If all
    /// queues are full, waits for a slot in any of them. The connection counts for the shard from now on, so that a
    /// burst of connections is spread. `None` when the shard has ended.
    pub(super) async fn reserve(&self, incoming_cpu: Option<usize>) -> Option<Reservation<'_>> {
        loop {
            let mut room = pin!(self.room.notified());
            // Registered first, so that a slot that is freed in between ends the wait below.
            room.as_mut().enable();
            if let Some((shard, connections)) = self.choose(incoming_cpu) {
                // Entered first: an unused slot would have to be announced.
                let Some(load) = shard.load.enter(connections) else { continue };
                match shard.queue.try_reserve() {
                    Ok(slot) => {
                        return Some(Reservation {
                            slot: Some((slot, load)),
                            waker: &shard.waker,
                            room: &self.room,
                        });
                    }
                    Err(TrySendError::Closed(())) => return None,
                    // Another acceptor was faster.
                    Err(TrySendError::Full(())) => continue,
                }
            }
            room.await;
        }
    }

    /// A shard whose queue has room, and its number of connections. So a late shard does not delay connections that can
    /// go to another one.
    fn choose(&self, incoming_cpu: Option<usize>) -> Option<(&ShardQueue, usize)> {
        let connections: Vec<usize> = self.shards.iter().map(|shard| shard.load.connections()).collect();
        let cores: Vec<Option<usize>> = self.shards.iter().map(|shard| shard.core).collect();
        let has_room = |shard: usize| self.shards[shard].queue.capacity() > 0;
        let chosen = choose_shard(&connections, &cores, incoming_cpu, has_room)?;
        Some((&self.shards[chosen], connections[chosen]))
    }
}

/// A slot in a shard's queue.
pub(super) struct Reservation<'a> {
    /// Present until the connection is handed over.
    slot: Option<(Permit<'a, (OwnedFd, Admission)>, ShardPermit)>,
    waker: &'a Waker,
    room: &'a Notify,
}

impl Reservation<'_> {
    /// Hands the connection over.
    pub(super) fn hand_over(mut self, socket: OwnedFd, mut admission: Admission) {
        let (slot, load) = self.slot.take().expect("Bug: a slot is used once");
        admission.permit = admission.permit.counted_on(load);
        slot.send((socket, admission));
        self.waker.wake();
    }
}

impl Drop for Reservation<'_> {
    /// An unused slot is free for another connection.
    fn drop(&mut self) {
        if self.slot.take().is_some() {
            self.room.notify_one();
        }
    }
}

/// Chooses among the allowed shards: the one with the fewest connections, or one that has at most a tenth more and
/// runs on the core where the connection's packets arrive, so that they stay in that core's cache. The first of
/// equals.
fn choose_shard(
    connections: &[usize],
    cores: &[Option<usize>],
    incoming_cpu: Option<usize>,
    is_allowed: impl Fn(usize) -> bool,
) -> Option<usize> {
    let allowed = || (0..connections.len()).filter(|shard| is_allowed(*shard));
    let emptiest = allowed().min_by_key(|shard| connections[*shard])?;
    let fewest = connections[emptiest];
    let connections_max = fewest + fewest / SLACK_DIVISOR;
    let is_near = |shard: &usize| {
        incoming_cpu.is_some() && cores[*shard] == incoming_cpu && connections[*shard] <= connections_max
    };
    Some(allowed().find(is_near).unwrap_or(emptiest))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const CORES: [Option<usize>; 3] = [Some(4), Some(5), Some(6)];

    fn hand_over_to(shards: usize) -> (HandOver, Vec<Admissions>) {
        let wakers: Vec<_> = (0..shards).map(|_| Waker::new().expect("an eventfd")).collect();
        HandOver::new(vec![None; shards], &wakers)
    }

    fn chosen(connections: [usize; 3], incoming_cpu: Option<usize>) -> Option<usize> {
        choose_shard(&connections, &CORES, incoming_cpu, |_| true)
    }

    #[test]
    fn the_shard_with_the_fewest_connections_is_chosen() {
        assert_eq!(chosen([7, 3, 5], None), Some(1));
        assert_eq!(chosen([3, 3, 5], None), Some(0), "the first of equals");
        assert_eq!(chosen([7, 3, 5], Some(6)), Some(1), "5 are more than a tenth beyond 3");
        assert_eq!(chosen([7, 3, 5], Some(99)), Some(1), "no shard is on that core");
    }

    #[test]
    fn among_those_within_a_tenth_the_one_on_the_sockets_core_is_chosen() {
        assert_eq!(chosen([110, 100, 111], Some(4)), Some(0));
        assert_eq!(chosen([110, 100, 111], Some(6)), Some(1));
        assert_eq!(chosen([0, 0, 0], Some(6)), Some(2));
        assert_eq!(chosen([1, 0, 0], Some(4)), Some(1), "a tenth of nothing is nothing");
        assert_eq!(chosen([9, 10, 10], Some(6)), Some(0));
    }

    #[test]
    fn shards_that_are_not_pinned_are_on_no_core() {
        assert_eq!(choose_shard(&[1, 1], &[None, None], None, |_| true), Some(0));
        assert_eq!(choose_shard(&[1, 0], &[None, None], Some(0), |_| true), Some(1));
    }

    #[test]
    fn shards_that_are_not_allowed_are_left_out() {
        assert_eq!(choose_shard(&[7, 3, 5], &CORES, Some(5), |shard| shard != 1), Some(2));
        assert_eq!(choose_shard(&[7, 3, 5], &CORES, Some(5), |_| false), None);
        assert_eq!(choose_shard(&[], &[], None, |_| true), None);
    }

    /// Goal: those who come at once are spread, though no shard has taken any of them yet.
    #[tokio::test]
    async fn a_burst_is_spread_before_any_shard_has_seen_it() {
        let (hand_over, _admissions) = hand_over_to(3);
        let mut reservations = Vec::new();
        for _ in 0..30 {
            reservations.push(hand_over.reserve(None).await.expect("a slot"));
        }
        let connections =
            || hand_over.shards.iter().map(|shard| shard.load.connections()).collect::<Vec<_>>();
        assert_eq!(connections(), [10, 10, 10]);
        drop(reservations);
        assert_eq!(connections(), [0, 0, 0]);
    }

    /// Goal: acceptors that choose at the same time choose as one would.
    #[test]
    fn bursts_of_several_acceptors_are_spread() {
        let (hand_over, _admissions) = hand_over_to(4);
        let start = std::sync::Barrier::new(3);
        let burst = || {
            start.wait();
            let reserve = || hand_over.reserve(None).now_or_never().flatten().expect("a slot");
            (0..64).map(|_| reserve()).collect::<Vec<_>>()
        };
        // Seldom do two of them choose in the same instant.
        for _ in 0..1_000 {
            let _reservations: Vec<_> = std::thread::scope(|scope| {
                let acceptors = [(); 3].map(|()| scope.spawn(burst));
                acceptors.into_iter().flat_map(|acceptor| acceptor.join().expect("no panic")).collect()
            });
            let connections: Vec<usize> =
                hand_over.shards.iter().map(|shard| shard.load.connections()).collect();
            assert_eq!(connections, [48; 4]);
        }
    }

    /// Goal: one shard that takes nothing delays nobody while others have room, and when none has, all wait.
    #[tokio::test]
    async fn a_full_queue_is_passed_by_while_another_one_has_room() {
        let (hand_over, mut admissions) = hand_over_to(2);
        // The second has more connections, so the first would be chosen.
        let _inside: Vec<ShardPermit> =
            (0..3 * ADMISSIONS_MAX).map_while(|inside| hand_over.shards[1].load.enter(inside)).collect();
        let mut reservations = Vec::new();
        for _ in 0..2 * ADMISSIONS_MAX {
            reservations.push(hand_over.reserve(None).await.expect("a slot"));
        }
        let room = || hand_over.shards.iter().map(|shard| shard.queue.capacity()).collect::<Vec<_>>();
        assert_eq!(room(), [0, 0]);
        let mut waiting = std::pin::pin!(hand_over.reserve(None));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no slot"),
            () = std::future::ready(()) => {}
        }
        drop(reservations.pop());
        drop(reservations.remove(0));
        assert!(waiting.await.is_some());
        admissions.clear();
        assert!(hand_over.reserve(None).await.is_none(), "the shards have ended");
    }

    #[test]
    fn an_admission_may_go_to_another_thread() {
        fn assert_send<T: Send>() {}
        assert_send::<Admission>();
    }
}
