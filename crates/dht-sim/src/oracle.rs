//! What only the simulator knows: every id, and who is truly closest.

use dht_proto::id::{NodeId, Target};

use crate::world::HostId;

/// A node: its id and host.
type Known = (NodeId, HostId);

/// Nodes in a bucket, on average, before all are split.
const FULL: usize = 64;
/// Bits by which buckets are told apart, at most.
const MAX_BITS: u32 = 24;
/// Ranges this short are sorted instead of split.
const SHORT: usize = 16;

/// Nodes of one family by id: adding, removing and finding cost the same however many there are.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// By the first `bits` bits of the id, each sorted.
    buckets: Vec<Vec<Known>>,
    bits: u32,
    len: usize,
}

impl Oracle {
    /// The bytes that it takes up beside itself.
    #[must_use]
    pub fn memory(&self) -> usize {
        let known = self.buckets.iter().map(|bucket| bucket.capacity() * size_of::<Known>());
        known.sum::<usize>() + self.buckets.capacity() * size_of::<Vec<Known>>()
    }

    /// Of these nodes, in any order.
    #[must_use]
    pub fn new(mut nodes: Vec<(NodeId, HostId)>) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        let mut new = Self { buckets: Vec::new(), bits: 0, len: nodes.len() };
        while new.bits < MAX_BITS && new.len >> new.bits >= FULL {
            new.bits += 1;
        }
        let mut rest = nodes.as_slice();
        for prefix in 0..1 << new.bits {
            let len = rest.partition_point(|(id, _)| first_bits(*id, new.bits) <= prefix);
            let (bucket, others) = rest.split_at(len);
            new.buckets.push(bucket.to_vec());
            rest = others;
        }
        new
    }

    /// Number of nodes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All nodes, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &(NodeId, HostId)> {
        self.buckets.iter().flatten()
    }

    /// All nodes, sorted by id: a copy.
    #[must_use]
    pub fn nodes(&self) -> Vec<(NodeId, HostId)> {
        self.iter().copied().collect()
    }

    /// Adds a node; one that is known already stays once.
    pub fn insert(&mut self, id: NodeId, host: HostId) {
        if self.buckets.is_empty() || self.len >> self.bits >= FULL {
            self.split();
        }
        let bucket = self.bucket_of(id);
        if let Some(bucket) = self.buckets.get_mut(bucket)
            && let Err(place) = bucket.binary_search(&(id, host))
        {
            bucket.insert(place, (id, host));
            self.len += 1;
        }
    }

    /// Forgets a node.
    pub fn remove(&mut self, id: NodeId, host: HostId) {
        let bucket = self.bucket_of(id);
        if let Some(bucket) = self.buckets.get_mut(bucket)
            && let Ok(place) = bucket.binary_search(&(id, host))
        {
            bucket.remove(place);
            self.len -= 1;
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
        let own = self.bucket_of(target.node_id());
        // Counted up, the difference of the first bits is the order of distance.
        for difference in 0..self.buckets.len() {
            let bucket = self.buckets.get(own ^ difference).map(Vec::as_slice).unwrap_or_default();
            let goes_on = visit(bucket, target, self.bits as usize, &mut |node| {
                if counts(node.1) {
                    found.push(node);
                }
                found.len() < n
            });
            if !goes_on {
                break;
            }
        }
        found
    }

    fn bucket_of(&self, id: NodeId) -> usize {
        first_bits(id, self.bits)
    }

    /// Tells nodes apart by one bit more.
    fn split(&mut self) {
        if self.buckets.is_empty() {
            self.buckets.push(Vec::new());
            return;
        }
        if self.bits >= MAX_BITS {
            return;
        }
        let bit = self.bits as usize;
        self.bits += 1;
        let old = core::mem::take(&mut self.buckets);
        self.buckets = old
            .into_iter()
            .flat_map(|mut bucket| {
                let ones = bucket.split_off(split(&bucket, bit).0.len());
                [bucket, ones]
            })
            .collect();
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
fn split(nodes: &[Known], bit: usize) -> (&[Known], &[Known]) {
    nodes.split_at(nodes.partition_point(|(id, _)| !bit_of(*id, bit)))
}

/// The first bits of an id as a number, at most 32.
pub(crate) fn first_bits(id: NodeId, bits: u32) -> usize {
    let [a, b, c, d, ..] = *id.as_bytes();
    (u64::from(u32::from_be_bytes([a, b, c, d])) >> (32 - bits)) as usize
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
        let mut oracle = Oracle::new(nodes[..2_000].to_vec());
        for (id, host) in &nodes[2_000..] {
            oracle.insert(*id, *host);
        }
        for i in 3_000..3_500 {
            let id = id();
            oracle.insert(id, HostId(i));
            oracle.insert(id, HostId(i));
            assert_eq!(oracle.len(), 3_001);
            oracle.remove(id, HostId(i));
        }
        assert!(oracle.nodes().is_sorted() && oracle.nodes().len() == 3_000);
        for _ in 0..100 {
            let target = id().target();
            let mut sorted: Vec<_> = nodes.iter().copied().filter(|n| n.1.0 % 3 > 0).collect();
            sorted.sort_by_key(|(id, _)| id.distance(target));
            assert_eq!(oracle.closest(target, 8, |h| h.0 % 3 > 0), sorted[..8]);
        }
    }
}
