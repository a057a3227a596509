//! The other nodes that have members in the rooms of a shard.

use uproar_cluster::{Incarnation, NodeName};

use crate::rooms::{ClientRef, NodeLife, ShardIndex};

/// Numbers the lives of nodes. A number is used again once its node is gone and its members have left.
#[derive(Debug, Default)]
pub(in crate::rooms) struct Nodes(Vec<Option<NodeLife>>);

impl Nodes {
    /// Stands for the clients of a node.
    pub(in crate::rooms) fn client_of(&mut self, node: &NodeName, incarnation: Incarnation) -> ClientRef {
        let is_it = |life: &Option<NodeLife>| {
            life.as_ref().is_some_and(|(name, its)| (name, *its) == (node, incarnation))
        };
        let number = self.0.iter().position(is_it).unwrap_or_else(|| {
            let free = self.0.iter().position(Option::is_none).unwrap_or_else(|| {
                self.0.push(None);
                self.0.len() - 1
            });
            self.0[free] = Some((node.clone(), incarnation));
            free
        });
        ClientRef::elsewhere(number)
    }

    /// The numbers of the lives for which this holds.
    pub(in crate::rooms) fn which(&self, is_it: impl Fn(&NodeLife) -> bool) -> Vec<ShardIndex> {
        let found = self.0.iter().enumerate().filter(|(_, life)| life.as_ref().is_some_and(&is_it));
        found.map(|(number, _)| ClientRef::elsewhere(number).shard).collect()
    }

    /// Frees the number of a node whose members have left.
    pub(in crate::rooms) fn forget(&mut self, node: ShardIndex) {
        if let Some(life) = node.elsewhere().and_then(|number| self.0.get_mut(number)) {
            *life = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_of_a_node_has_a_number_until_it_is_forgotten() {
        let mut nodes = Nodes::default();
        let [a, b]: [NodeName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let first = nodes.client_of(&a, Incarnation(1));
        let second = nodes.client_of(&a, Incarnation(2));
        let other = nodes.client_of(&b, Incarnation(1));
        assert_eq!(nodes.client_of(&a, Incarnation(1)), first);
        assert_eq!(nodes.which(|(name, _)| *name == a), [first.shard, second.shard]);
        nodes.forget(first.shard);
        assert_eq!(nodes.which(|(name, _)| *name == a), [second.shard]);
        assert_eq!(nodes.client_of(&b, Incarnation(2)), first);
        assert_ne!(other, first);
    }
}
