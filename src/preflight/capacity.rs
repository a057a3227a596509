//! How a descriptor limit is divided among the process, pending connections and clients.

use crate::config::CLIENTS_MAX;

/// The most connections that have not yet upgraded; each has a task, a buffer and a deadline.
const PENDING_MAX: usize = 8192;
/// The least descriptors kept for the process itself.
const RESERVE_MIN: usize = 128;
/// Descriptors of the process, independent of the number of its threads: standard streams, signals, files, the
/// listener.
const RESERVE_PROCESS: usize = 32;
/// Descriptors of a shard (its ring twice, the ring's eventfd) or of an acceptor (its ring and four more of its
/// runtime, its handle to the listener), and two to spare.
const RESERVE_THREAD: usize = 8;

/// How many connections the process can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The most upgraded connections, over all shards.
    pub max_clients: usize,
    /// The most connections that have not yet upgraded, over all shards.
    pub pending_max: usize,
}

impl Capacity {
    /// Divides a descriptor limit among the process with its shards and acceptors, pending connections and clients.
    ///
    /// Pending connections get 3/8 of what the process leaves, at most 8,192, so that new connections cannot use up the
    /// descriptors of clients; the clients get the rest, at most [`CLIENTS_MAX`].
    #[must_use]
    pub fn of(descriptors: usize, threads: usize) -> Self {
        let rest = descriptors.saturating_sub(reserve(threads));
        let pending_max = (rest / 8 * 3 + rest % 8 * 3 / 8).min(PENDING_MAX);
        Self { max_clients: (rest - pending_max).min(CLIENTS_MAX), pending_max }
    }

    /// The smallest descriptor limit that allows this many clients.
    #[must_use]
    pub fn descriptors_for(max_clients: usize, threads: usize) -> usize {
        // The two cases: the clients are 5/8 of the rest, rounded up, or all but 8,192.
        let rest = ((max_clients.max(1) - 1) * 8 / 5 + 1).min(max_clients + PENDING_MAX);
        reserve(threads) + rest
    }
}

/// Descriptors that are not for connections.
fn reserve(threads: usize) -> usize {
    RESERVE_MIN.max(RESERVE_PROCESS + threads * RESERVE_THREAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_what_the_process_and_pending_connections_leave() {
        let of = |descriptors| {
            let capacity = Capacity::of(descriptors, 2);
            (capacity.max_clients, capacity.pending_max)
        };
        assert_eq!(of(1024), (560, 336));
        assert_eq!(of(20_000), (12_420, 7452));
        assert_eq!(of(100_000), (91_680, 8192));
        assert_eq!(of(100), (0, 0));
        assert_eq!(of(129), (1, 0));
        assert_eq!(of(usize::MAX), (CLIENTS_MAX, 8192));
    }

    #[test]
    fn many_threads_reserve_more_than_the_least() {
        assert_eq!(reserve(12), 128);
        assert_eq!(reserve(64), 544);
    }

    #[test]
    fn the_needed_limit_is_the_least_that_fits() {
        for max_clients in (1..30_000).chain([CLIENTS_MAX - 1, CLIENTS_MAX]) {
            let needed = Capacity::descriptors_for(max_clients, 4);
            assert_eq!(Capacity::of(needed, 4).max_clients, max_clients);
            assert!(Capacity::of(needed - 1, 4).max_clients < max_clients);
        }
    }
}
