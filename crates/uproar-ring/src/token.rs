//! The token of an operation, by which its completion is recognised.

use crate::connection_id::ConnectionId;

/// Which operation a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Receive = 1,
    Send = 2,
    /// A request to end one of the other two; its own completion says nothing of interest.
    Cancel = 3,
    /// The read of the waker's event.
    Wake = 4,
    /// A message to another ring, which has a completion only if it did not reach it.
    Message = 5,
    /// A message from another ring.
    Woken = 6,
}

const INDEX_BITS: u32 = 32;
const GENERATION_BITS: u32 = 24;
const _: () = assert!(ConnectionId::GENERATIONS == 1 << GENERATION_BITS);
const _: () = assert!(INDEX_BITS + GENERATION_BITS + 8 == u64::BITS);

/// Packs an operation and its connection into a submission's `user_data`.
pub(crate) fn pack(operation: Operation, id: ConnectionId) -> u64 {
    assert!(id.generation < ConnectionId::GENERATIONS, "Bug: a generation of more than 24 bits");
    let high = (operation as u64) << (INDEX_BITS + GENERATION_BITS);
    high | u64::from(id.generation) << INDEX_BITS | u64::from(id.index)
}

/// The inverse of [`pack`].
pub(crate) fn unpack(token: u64) -> (Operation, ConnectionId) {
    let operation = match token >> (INDEX_BITS + GENERATION_BITS) {
        1 => Operation::Receive,
        2 => Operation::Send,
        3 => Operation::Cancel,
        4 => Operation::Wake,
        5 => Operation::Message,
        6 => Operation::Woken,
        other => panic!("Bug: the kernel returned a token of the unknown operation {other}"),
    };
    let generation = (token >> INDEX_BITS) as u32 & (ConnectionId::GENERATIONS - 1);
    (operation, ConnectionId { index: token as u32, generation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_returns_what_was_packed() {
        for (index, generation) in
            [(0, 0), (u32::MAX, 0), (7, ConnectionId::GENERATIONS - 1), (0x8000_0001, 3)]
        {
            let id = ConnectionId { index, generation };
            for operation in [
                Operation::Receive,
                Operation::Send,
                Operation::Cancel,
                Operation::Wake,
                Operation::Message,
                Operation::Woken,
            ] {
                assert_eq!(unpack(pack(operation, id)), (operation, id));
            }
        }
    }
}
