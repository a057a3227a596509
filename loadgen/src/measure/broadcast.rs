//! What a thread knows about one broadcast.

/// What is known about one measured broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// How many have received it.
    pub received_count: u32,
    /// When the first of them did, if any.
    pub first_ns: u64,
    /// When the last of them did, if any.
    pub last_ns: u64,
    /// When it was handed to the kernel, once known: to its sender's thread, and by receipt; 0 before.
    pub sent_ns: u64,
    /// The chat server's number for it, once seen; 0 before.
    pub message_id: u64,
    /// The place of the server of the client that saw it first.
    pub id_server: u8,
}

impl Broadcast {
    /// Adds what another thread knows. False when the two disagree about the message id.
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        let agree = self.message_id == 0 || other.message_id == 0 || self.message_id == other.message_id;
        if other.received_count > 0 {
            let unseen = self.received_count == 0;
            self.first_ns = if unseen { other.first_ns } else { self.first_ns.min(other.first_ns) };
            self.last_ns = self.last_ns.max(other.last_ns);
            self.received_count += other.received_count;
        }
        self.sent_ns = self.sent_ns.max(other.sent_ns);
        if self.message_id == 0 {
            (self.message_id, self.id_server) = (other.message_id, other.id_server);
        }
        agree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_saw_the_same_broadcast_are_merged() {
        let seen = Broadcast { sent_ns: 1, message_id: 7, id_server: 2, ..Broadcast::default() };
        let mut a = Broadcast { received_count: 2, first_ns: 5, last_ns: 9, ..seen };
        assert!(a.merge(&Broadcast { received_count: 1, first_ns: 3, last_ns: 3, id_server: 0, ..seen }));
        assert_eq!(a, Broadcast { received_count: 3, first_ns: 3, last_ns: 9, ..seen });
        assert!(a.merge(&Broadcast::default()));
        assert!(!a.merge(&Broadcast { message_id: 8, ..Broadcast::default() }));
    }
}
