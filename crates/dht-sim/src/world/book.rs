//! Who is at an address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::HostId;
use crate::address::Plan;
use crate::host::Addrs;

/// Whoever is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// A host.
    Host(HostId),
    /// What stands before a host: any port may lead to it.
    Guard(HostId),
    /// A NAT that several hosts share, by its number in the network.
    Site(u32),
}

/// An [`At`] or nobody, in a word: its kind in the top two bits.
type Entry = u32;

const KIND: u32 = 0b11 << 30;
const GUARD: u32 = 0b01 << 30;
const SITE: u32 = 0b10 << 30;
const NOBODY: Entry = u32::MAX;

const fn entry_of(host: HostId, is_guarded: bool) -> Entry {
    host.0 | if is_guarded { GUARD } else { 0 }
}

const fn read(entry: Entry) -> Option<At> {
    match entry & KIND {
        0 => Some(At::Host(HostId(entry))),
        GUARD => Some(At::Guard(HostId(entry & !KIND))),
        SITE => Some(At::Site(entry & !KIND)),
        _ => None,
    }
}

/// Addresses given out by a plan, found without a search, and others.
#[derive(Debug)]
pub(super) struct Book {
    plan: Plan,
    /// Who is at each number of the plan that was given out.
    by_number: Vec<Entry>,
    others: BTreeMap<SocketAddr, Entry>,
}

impl Book {
    pub(super) const fn new(plan: Plan) -> Self {
        Self { plan, by_number: Vec::new(), others: BTreeMap::new() }
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.by_number.reserve_exact(more);
    }

    /// The heap that it takes up.
    pub(super) fn memory(&self) -> usize {
        self.by_number.capacity() * size_of::<Entry>()
            + self.others.len() * size_of::<(SocketAddr, Entry)>()
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

    /// How many numbers are left.
    pub(super) const fn left(&self) -> u64 {
        self.plan.size() - self.by_number.len() as u64
    }

    /// Puts a host at its addresses, or what stands before it. `false` if one of them is another's.
    pub(super) fn enter(&mut self, host: HostId, addrs: &Addrs, is_guarded: bool) -> bool {
        let new = entry_of(host, is_guarded);
        addrs.iter().all(|addr| {
            let place = match self.plan.number(addr) {
                Some(number) if (number as usize) < self.by_number.len() => {
                    self.by_number.get_mut(number as usize)
                }
                Some(_) | None => Some(self.others.entry(addr).or_insert(NOBODY)),
            };
            place.is_some_and(|place| {
                let is_free = *place == NOBODY || *place & !KIND == host.0 && *place & KIND != SITE;
                if is_free {
                    *place = new;
                }
                is_free
            })
        })
    }

    /// Puts a shared NAT at a number.
    pub(super) fn enter_site(&mut self, number: u32, site: u32) {
        if let Some(place) = self.by_number.get_mut(number as usize) {
            *place = site | SITE;
        }
    }

    pub(super) fn leave(&mut self, addrs: &Addrs) {
        for addr in addrs.iter() {
            let number = self.plan.number(addr);
            match number.and_then(|number| self.by_number.get_mut(number as usize)) {
                Some(place) => *place = NOBODY,
                None => {
                    self.others.remove(&addr);
                }
            }
        }
    }

    /// Who is at an address. The port matters where a host is, not where something stands before it.
    #[inline]
    pub(super) fn find(&self, addr: SocketAddr) -> Option<At> {
        let planned = self
            .plan
            .number_of_ip(addr.ip())
            .and_then(|number| Some((number, *self.by_number.get(number as usize)?)));
        if let Some((number, entry)) = planned {
            match read(entry) {
                Some(At::Host(_)) | None => {
                    if self.plan.port_of(number) == addr.port() {
                        return read(entry);
                    }
                }
                guard => return guard,
            }
        }
        self.others.get(&addr).and_then(|entry| read(*entry))
    }

    /// The host whose own address it is.
    pub(super) fn host(&self, addr: SocketAddr) -> Option<HostId> {
        let entry = match self.plan.number(addr) {
            Some(number) if (number as usize) < self.by_number.len() => {
                self.by_number.get(number as usize)
            }
            Some(_) | None => self.others.get(&addr),
        };
        match read(*entry?)? {
            At::Host(host) | At::Guard(host) => Some(host),
            At::Site(_) => None,
        }
    }

    /// Whether an address was the plan's to give out.
    pub(super) fn is_ours(&self, addr: SocketAddr) -> bool {
        self.plan.number(addr).is_some_and(|n| (n as usize) < self.by_number.len())
            || self.others.contains_key(&addr)
    }
}
