//! What only the simulator knows: every id, and who is truly closest.

use dht_proto::id::{NodeId, Target};

use crate::world::HostId;

/// A node: its id and host.
pub(crate) type Known = (NodeId, HostId);

/// Ranges this short are sorted instead of split.
const SHORT: usize = 16;

/// All nodes by id.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Sorted by id.
    nodes: Vec<(NodeId, HostId)>,
}

impl Oracle {
    /// Of these nodes, in any order.
    #[must_use]
    pub fn new(mut nodes: Vec<(NodeId, HostId)>) -> Self {
        nodes.sort_unstable();
        Self { nodes }
    }

    /// All nodes, sorted by id.
    #[must_use]
    pub fn nodes(&self) -> &[(NodeId, HostId)] {
        &self.nodes
    }

    /// Adds a node; one that is known already stays once.
    pub fn insert(&mut self, id: NodeId, host: HostId) {
        if let Err(place) = self.nodes.binary_search(&(id, host)) {
            self.nodes.insert(place, (id, host));
        }
    }

    /// Forgets a node.
    pub fn remove(&mut self, id: NodeId, host: HostId) {
        if let Ok(place) = self.nodes.binary_search(&(id, host)) {
            self.nodes.remove(place);
        }
    }

    /// The `n` nodes closest to `target` among those that `counts` admits, nearest first.
    pub fn closest(
        &self,
        target: Target,
        n: usize,
        mut counts: impl FnMut(HostId) -> bool,
    ) -> Vec<(NodeId, HostId)> {
        let mut found = Vec::with_capacity(n);
        visit(&self.nodes, target, 0, &mut |node| {
            if counts(node.1) {
                found.push(node);
            }
            found.len() < n
        });
        found
    }
}

/// Visits the nodes of a range that share their first `bit` bits, in order of distance.
fn visit(
    nodes: &[(NodeId, HostId)],
    target: Target,
    bit: usize,
    found: &mut impl FnMut((NodeId, HostId)) -> bool,
) -> bool {
    if nodes.len() <= SHORT || bit >= 160 {
        let mut near = nodes.to_vec();
        near.sort_unstable_by_key(|(id, _)| id.distance(target));
        return near.into_iter().all(found);
    }
    let (zeros, ones) = split(nodes, bit);
    let (near, far) = if bit_of(target.node_id(), bit) { (ones, zeros) } else { (zeros, ones) };
    visit(near, target, bit + 1, found) && visit(far, target, bit + 1, found)
}

/// The nodes of a range with bit `bit` clear, and those with it set. All earlier bits are equal.
pub(crate) fn split(nodes: &[Known], bit: usize) -> (&[Known], &[Known]) {
    nodes.split_at(nodes.partition_point(|(id, _)| !bit_of(*id, bit)))
}

/// Bit `bit` of an id, the first being the most significant.
pub(crate) fn bit_of(id: NodeId, bit: usize) -> bool {
    id.as_bytes().get(bit / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Choices;
    use dht_proto::seed::Domain;

    #[test]
    fn the_closest_are_those_that_sorting_finds() {
        let mut stream = Choices::seeded(4).node_seed(0).stream(Domain::NodeId);
        let mut id = || {
            let mut bytes = [0; 20];
            rand_core::Rng::fill_bytes(&mut stream, &mut bytes);
            NodeId::from_bytes(bytes)
        };
        let nodes: Vec<_> = (0..3_000).map(|i| (id(), HostId(i))).collect();
        let oracle = Oracle::new(nodes.clone());
        for _ in 0..100 {
            let target = id().target();
            let mut sorted: Vec<_> = nodes.iter().copied().filter(|n| n.1.0 % 3 > 0).collect();
            sorted.sort_by_key(|(id, _)| id.distance(target));
            assert_eq!(oracle.closest(target, 8, |h| h.0 % 3 > 0), sorted[..8]);
        }
    }
}
