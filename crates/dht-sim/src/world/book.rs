//! Who is at an address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::HostId;
use crate::address::Plan;
use crate::host::Addrs;

const NOBODY: u32 = u32::MAX;

/// Addresses given out by a plan, found without a search, and others.
#[derive(Debug)]
pub(super) struct Book {
    plan: Plan,
    /// The host of each number of the plan that was given out.
    by_number: Vec<u32>,
    others: BTreeMap<SocketAddr, HostId>,
}

impl Book {
    pub(super) const fn new(plan: Plan) -> Self {
        Self { plan, by_number: Vec::new(), others: BTreeMap::new() }
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The next number that was not given out yet; `None` when the range is used up.
    pub(super) fn next_number(&mut self) -> Option<u32> {
        let number = u32::try_from(self.by_number.len()).ok()?;
        if u64::from(number) >= self.plan.size() {
            return None;
        }
        self.by_number.push(NOBODY);
        Some(number)
    }

    /// Puts a host at its addresses. `false` if one of them is another's.
    pub(super) fn enter(&mut self, host: HostId, addrs: &Addrs) -> bool {
        addrs.iter().all(|addr| match self.place(addr) {
            Some(place) if *place == NOBODY || *place == host.0 => {
                *place = host.0;
                true
            }
            Some(_) => false,
            None => *self.others.entry(addr).or_insert(host) == host,
        })
    }

    pub(super) fn leave(&mut self, addrs: &Addrs) {
        for addr in addrs.iter() {
            match self.place(addr) {
                Some(place) => *place = NOBODY,
                None => {
                    self.others.remove(&addr);
                }
            }
        }
    }

    pub(super) fn host(&self, addr: SocketAddr) -> Option<HostId> {
        let planned = self.plan.number(addr).and_then(|n| self.by_number.get(n as usize));
        match planned {
            Some(&host) => (host != NOBODY).then_some(HostId(host)),
            None => self.others.get(&addr).copied(),
        }
    }

    /// Whether an address is the plan's to give out, now or later.
    pub(super) fn is_ours(&self, addr: SocketAddr) -> bool {
        self.plan.number(addr).is_some_and(|n| (n as usize) < self.by_number.len())
            || self.others.contains_key(&addr)
    }

    fn place(&mut self, addr: SocketAddr) -> Option<&mut u32> {
        self.by_number.get_mut(self.plan.number(addr)? as usize)
    }
}
