//! The connections of one user, told apart.

/// How many bits name the node: the lower ones.
const NODE_BITS: u32 = 24;

/// Tells the connections of one user apart, and which is the later one: the first has 0, and a later one a higher number. A room
/// tells by it what comes late from an earlier connection.
///
/// The upper bits count, and the lower ones name the node of a cluster that has given the number: so two nodes to which a user
/// comes back at once never give the same. Redis compares visits as numbers below 2^53, which leaves room for 2^29 connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit(pub u64);

/// What a node adds to the visits that it gives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VisitNode(u64);

impl VisitNode {
    /// One that most likely no other node has.
    pub(super) fn random() -> Self {
        Self(rand::random::<u64>() >> (u64::BITS - NODE_BITS))
    }
}

impl Visit {
    /// The next one, as this node gives it.
    pub(super) fn next(self, VisitNode(node): VisitNode) -> Self {
        let count = (self.0 >> NODE_BITS).wrapping_add(1);
        Self(count << NODE_BITS | node)
    }

    /// The last one before this one.
    #[must_use]
    pub fn before(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_visit_is_later_and_those_of_two_nodes_differ() {
        let [a, b] = [5, (1 << NODE_BITS) - 1].map(VisitNode);
        let first = Visit::default();
        assert_ne!(first.next(a), first.next(b));
        for next in [first.next(a), first.next(b)] {
            assert!(next > first);
            assert!(next.next(a) > first.next(b) && next.next(b) > first.next(a));
        }
        assert!((0..100).all(|_| VisitNode::random().0 < 1 << NODE_BITS));
    }
}
