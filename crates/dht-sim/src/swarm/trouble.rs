//! What goes wrong and for how long, and how all of it is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::time::Instant;

use super::Swarm;
use crate::choices::{About, Ratio};
use crate::faults::{Fault, Kind, Wound};
use crate::profile::Profile;
use crate::world::HostId;

/// Lives that begin when a fault ends are numbered from here on, apart from those of churn.
const FIRST_LIFE: u32 = 1 << 31;

/// Faults that last.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    wounds: BTreeMap<(Instant, u32), Wound>,
    serial: u32,
    /// Whose node began anew, or lost its sense of time.
    hurt: BTreeSet<HostId>,
}

impl Trouble {
    /// When the next fault ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.wounds.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether a host's node began anew, or lost its sense of time.
    pub(super) fn has_hurt(&self, host: HostId) -> bool {
        self.hurt.contains(&host)
    }
}

impl Swarm {
    /// One fault happens, of the kinds that this run has.
    pub(super) fn inflict(&mut self) {
        let weights = &self.options.faults;
        let Some(kind) = weighted(weights, |n| self.world.choices().below(About::Fault, n)) else {
            return;
        };
        let secs = self.world.choices().between(About::Fault, 1, 60);
        let until = self.world.now() + Duration::from_secs(u64::from(secs));
        let mut hosts = self.nodes.clone();
        if kind == Kind::Relocate {
            // What everybody starts from has a name.
            hosts.retain(|host| self.introducers.first() != Some(host));
        }
        let Some(fault) = Fault::draw(kind, self.world.choices(), &hosts) else { return };
        if let Fault::Crash { host, .. } | Fault::Clock { host, .. } | Fault::Suspend { host } =
            &fault
        {
            self.trouble.hurt.insert(*host);
        }
        // Only a node that crashed begins anew.
        let index = if let Fault::Crash { host, .. } = &fault { host.0 } else { 0 };
        let config = self.config(index);
        let wound = fault.apply(&mut self.world, &config);
        self.trouble.serial += 1;
        self.trouble.wounds.insert((until, self.trouble.serial), wound);
    }

    /// Ends the faults that are due.
    pub(super) fn mend_due(&mut self) {
        let now = self.world.now();
        while let Some(entry) = self.trouble.wounds.first_entry().filter(|e| e.key().0 <= now) {
            let ((_, serial), wound) = entry.remove_entry();
            self.mend(serial, wound);
        }
    }

    fn mend(&mut self, serial: u32, wound: Wound) {
        // Whose owner has left meanwhile does not come back for that.
        if let Wound::Crashed { host, .. } = &wound
            && self.churn.as_ref().is_some_and(|churn| !churn.is_living(*host))
        {
            return;
        }
        wound.heal(&mut self.world, FIRST_LIFE | serial);
    }

    /// Ends all that is wrong, for good, and tells everybody where the introducers are now: host
    /// names outlive addresses. What hosts are behind stays.
    pub(super) fn heal(&mut self) {
        while let Some(((_, serial), wound)) = self.trouble.wounds.pop_first() {
            self.mend(serial, wound);
        }
        for host in core::mem::take(&mut self.adversaries) {
            self.world.retire(host);
        }
        let net = self.world.net_mut();
        net.heal();
        net.set_damage(&Profile::default());
        net.adjust(|profile| profile.bursts.loss = Ratio::ZERO);
        let start = self.bootstrap();
        for host in self.nodes.clone() {
            for &addr in &start {
                if self.world.host_at(addr) == Some(host) {
                    continue;
                }
                self.world.with(host, |dht, now| {
                    if dht.node_id(Family::of(&addr)).is_some() {
                        dht.add_bootstrap(now, addr);
                    }
                });
                if self.world.violation().is_some() {
                    return;
                }
            }
        }
    }
}

/// One kind, as often as its weight says.
pub(super) fn weighted<T: Copy>(weights: &[(T, u32)], below: impl FnOnce(u32) -> u32) -> Option<T> {
    let sum = weights.iter().fold(0, |sum: u32, (_, weight)| sum.saturating_add(*weight));
    let mut left = below(sum);
    for (kind, weight) in weights {
        if left < *weight {
            return Some(*kind);
        }
        left -= weight;
    }
    None
}
