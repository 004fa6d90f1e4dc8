//! What goes wrong, for how long, and how it is mended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::snapshot::Snapshot;
use dht_proto::time::Instant;

use super::Swarm;
use crate::choices::{About, Ratio};
use crate::host::Clock;
use crate::options::FaultKind;
use crate::world::HostId;

/// What ends a fault.
#[derive(Debug)]
enum Undo {
    Network,
    Restart(HostId, Option<Box<Snapshot>>),
    Resume(HostId),
}

/// Faults that last.
#[derive(Debug, Default)]
pub(super) struct Faults {
    undo: BTreeMap<(Instant, u64), Undo>,
    serial: u64,
    lives: u32,
    clocks: BTreeMap<HostId, Clock>,
}

impl Faults {
    /// When the next fault ends.
    pub(super) fn next_undo(&self) -> Option<Instant> {
        self.undo.first_key_value().map(|((at, _), _)| *at)
    }

    fn later(&mut self, at: Instant, undo: Undo) {
        self.serial += 1;
        self.undo.insert((at, self.serial), undo);
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
        let Some(&host) = self.world.choices().pick(About::Fault, &self.nodes) else { return };
        match kind {
            FaultKind::Loss => {
                let percent = self.world.choices().between(About::Fault, 10, 90);
                self.world.net_mut().adjust(|profile| profile.loss = Ratio::percent(percent));
                self.faults.later(until, Undo::Network);
            }
            FaultKind::Delay => {
                let more = Duration::from_millis(u64::from(self.world.choices().between(
                    About::Fault,
                    100,
                    3_000,
                )));
                self.world.net_mut().adjust(|profile| profile.delay.1 += more);
                self.faults.later(until, Undo::Network);
            }
            FaultKind::Crash => {
                if self.world.crash(host).is_some() {
                    self.faults.later(until, Undo::Restart(host, None));
                }
            }
            FaultKind::Restart => {
                if let Some(dht) = self.world.crash(host) {
                    let snapshot = Some(Box::new(dht.snapshot()));
                    self.faults.later(until, Undo::Restart(host, snapshot));
                }
            }
            FaultKind::Suspend => {
                self.world.suspend(host);
                self.faults.later(until, Undo::Resume(host));
            }
            FaultKind::Relocate => self.relocate(host),
            FaultKind::Clock => self.disturb_clock(host),
        }
    }

    /// Ends the faults that are due.
    pub(super) fn undo_due(&mut self) {
        let now = self.world.now();
        while let Some(entry) = self.faults.undo.first_entry().filter(|e| e.key().0 <= now) {
            let undo = entry.remove();
            self.undo(undo);
        }
    }

    /// Ends all faults for good, and tells everybody where the first nodes are now: host names
    /// outlive addresses. Clocks stay as wrong as they are.
    pub(super) fn heal(&mut self) {
        while let Some((_, undo)) = self.faults.undo.pop_first() {
            self.undo(undo);
        }
        for host in core::mem::take(&mut self.meddlers) {
            self.world.retire(host);
        }
        let mut profile = self.options.profile();
        profile.loss = Ratio::ZERO;
        self.world.net_mut().adjust(|now| *now = profile);
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

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Network => {
                let profile = self.options.profile();
                self.world.net_mut().adjust(|now| *now = profile);
            }
            Undo::Resume(host) => self.world.resume(host),
            Undo::Restart(host, snapshot) => {
                self.faults.lives += 1;
                let index = self.nodes.iter().position(|other| *other == host).unwrap_or(0);
                let mut config = self.options.config(index as u32);
                config.bootstrap = self.bootstrap();
                let (config, networks) = (Arc::new(config), self.options.networks);
                let life = self.faults.lives;
                self.world.restart(host, &config, networks, snapshot.as_deref(), life);
                // It may have been frozen when it ended.
                self.world.resume(host);
            }
        }
    }

    fn relocate(&mut self, host: HostId) {
        // What everybody starts from has a name.
        if self.nodes.first() == Some(&host) {
            return;
        }
        let addrs = self.world.next_addrs(self.options.networks);
        self.tell_place(host, addrs);
        self.world.relocate(host, addrs);
    }

    fn disturb_clock(&mut self, host: HostId) {
        let clock = self.faults.clocks.entry(host).or_default();
        match self.world.choices().below(About::Fault, 3) {
            0 => clock.ppm = self.world.choices().below(About::Fault, 601).cast_signed() - 300,
            1 => {
                let secs = self.world.choices().between(About::Fault, 1, 3_600);
                clock.offset += i64::from(secs) * 1_000_000;
            }
            _ => {
                let millis = self.world.choices().between(About::Fault, 1, 5_000);
                clock.offset -= i64::from(millis) * 1_000;
            }
        }
        self.world.set_clock(host, *clock);
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
