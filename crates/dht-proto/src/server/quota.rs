//! How many entries of a store each network holds.

use alloc::collections::BTreeMap;

use crate::addr::{Addr, Family};
use crate::footprint;

/// Counts entries per network (/24, v6 /64) and per allocation (/16, v6 /32).
///
/// The second count is there because addresses are cheap in bulk: one /16 has 256 networks, one
/// v6 /32 has four billion. Its keys are bounded by the entries of the store that it counts.
#[derive(Debug, Default)]
pub(super) struct Quota {
    counts: BTreeMap<Holder, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Network(u64),
    Allocation(u64),
}

/// What a network and an allocation may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) network: usize,
    pub(super) allocation: usize,
}

impl Limits {
    /// `network` is configured; an allocation may hold a quarter of the store, or as much as a
    /// network if that is more.
    pub(super) fn new(network: usize, store: usize) -> Self {
        Self { network, allocation: network.max(store / 4) }
    }
}

impl Quota {
    /// The bytes of the heap that it takes up now.
    pub(super) fn heap_bytes(&self) -> usize {
        footprint::tree::<Holder, u32>(self.counts.len())
    }

    /// The most heap bytes that the counts of so many entries take up: each may add a holder of
    /// either kind.
    pub(super) const fn memory_ceiling(entries: usize) -> usize {
        footprint::btree::<Holder, u32>(entries.saturating_mul(2))
    }

    /// Whether `addr` may add one more entry.
    pub(super) fn admits<A: Addr>(&self, addr: A, limits: Limits) -> bool {
        let [network, allocation] = holders(addr);
        self.count(network) < limits.network && self.count(allocation) < limits.allocation
    }

    /// Counts one more entry of `addr`.
    pub(super) fn take<A: Addr>(&mut self, addr: A) {
        for holder in holders(addr) {
            *self.counts.entry(holder).or_default() += 1;
        }
    }

    /// Counts one entry of `addr` less.
    pub(super) fn give_back<A: Addr>(&mut self, addr: A) {
        for holder in holders(addr) {
            if let Some(count) = self.counts.get_mut(&holder) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.counts.remove(&holder);
                }
            }
        }
    }

    /// What an entry loses in the choice of what to drop, because its allocation has many.
    ///
    /// Eight points for each doubling. Nearness earns one point for each bit, up to 24: ids near
    /// ours can be minted, allocations cannot.
    pub(super) fn crowding<A: Addr>(&self, addr: A) -> i64 {
        let [_, allocation] = holders(addr);
        8 * i64::from(self.count(allocation).max(1).ilog2())
    }

    /// Entries of all networks together.
    pub(super) fn total(&self) -> usize {
        let networks =
            self.counts.iter().filter(|(holder, _)| matches!(holder, Holder::Network(_)));
        networks.map(|(_, count)| *count as usize).sum()
    }

    fn count(&self, holder: Holder) -> usize {
        self.counts.get(&holder).map_or(0, |count| *count as usize)
    }
}

fn holders<A: Addr>(addr: A) -> [Holder; 2] {
    let subnet = addr.subnet();
    let host_bits = match A::FAMILY {
        Family::V4 => 48,
        Family::V6 => 32,
    };
    [Holder::Network(subnet), Holder::Allocation(subnet >> host_bits)]
}

#[cfg(test)]
mod tests {
    use core::net::{SocketAddrV4, SocketAddrV6};

    use super::*;

    #[test]
    fn networks_and_allocations_are_counted() {
        let limits = Limits { network: 2, allocation: 3 };
        let mut quota = Quota::default();
        let addr = |c, d| SocketAddrV4::new([1, 2, c, d].into(), 9);
        quota.take(addr(1, 1));
        assert!(quota.admits(addr(1, 2), limits));
        quota.take(addr(1, 2));
        assert!(!quota.admits(addr(1, 3), limits), "the /24 is full");
        assert!(quota.admits(addr(2, 1), limits));
        quota.take(addr(2, 1));
        assert!(!quota.admits(addr(3, 1), limits), "the /16 is full");
        assert!(quota.admits(SocketAddrV4::new([1, 3, 1, 1].into(), 9), limits));
        assert_eq!((quota.total(), quota.crowding(addr(9, 9))), (3, 8));
        for addr in [addr(1, 1), addr(1, 2), addr(2, 1), addr(2, 1)] {
            quota.give_back(addr);
        }
        assert!(quota.counts.is_empty(), "nothing is kept for nobody");
    }

    #[test]
    fn one_v6_allocation_is_one_holder() {
        let limits = Limits { network: 1, allocation: 2 };
        let mut quota = Quota::default();
        let addr = |n| SocketAddrV6::new([0x2600, 1, n, 0, 0, 0, 0, 1].into(), 9, 0, 0);
        quota.take(addr(1));
        quota.take(addr(2));
        assert!(!quota.admits(addr(3), limits));
        assert!(quota.admits("[2600:2::1]:9".parse::<SocketAddrV6>().unwrap(), limits));
    }
}
