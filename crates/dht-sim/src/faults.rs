//! What can go wrong with a host or between hosts, by name, and how it is mended.

use core::time::Duration;
use std::sync::Arc;

use dht_proto::config::Config;
use dht_proto::snapshot::Snapshot;

use crate::choices::{About, Choices, Ratio};
use crate::kinds::kinds;
use crate::profile::{Filtering, Mapping, Nat, Profile};
use crate::world::{HostId, World};

kinds! {
    /// The sorts of faults: a run may allow some and not others.
    pub enum Kind {
        /// A node ends without a word, and comes back with what it saved.
        Crash = "crash",
        /// A node ends without a word, and comes back with nothing.
        Amnesia = "amnesia",
        /// A host freezes for a while.
        Suspend = "suspend",
        /// A clock runs too fast or too slowly.
        Drift = "drift",
        /// A clock is set ahead.
        Jump = "jump",
        /// A clock is set back: for the node it stands still for a while.
        SetBack = "set-back",
        /// A host gets other addresses.
        Relocate = "relocate",
        /// Nothing reaches or leaves a host for a while, then everything at once.
        Clog = "clog",
        /// A link loses in bursts.
        Burst = "burst",
        /// A NAT or firewall is put before a host that is behind none.
        Nat = "nat",
        /// Some hosts and the rest do not reach each other, or in one direction only.
        Partition = "partition",
        /// Datagrams are lost, doubled, reordered, corrupted and cut everywhere.
        Storm = "storm",
        /// All datagrams are late, and overtake each other.
        Slow = "slow",
    }
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// See [`Kind::Crash`] and [`Kind::Amnesia`].
    Crash {
        /// Whose node.
        host: HostId,
        /// Whether it comes back with a snapshot of what it knew.
        keeps_snapshot: bool,
    },
    /// See [`Kind::Suspend`].
    Suspend {
        /// Who.
        host: HostId,
    },
    /// See [`Kind::Drift`], [`Kind::Jump`] and [`Kind::SetBack`].
    Clock {
        /// Whose.
        host: HostId,
        /// Millionths that it runs too fast from now on.
        ppm: i32,
        /// How far it is set ahead.
        ahead: Duration,
        /// How far it is set back.
        back: Duration,
    },
    /// See [`Kind::Relocate`].
    Relocate {
        /// Who.
        host: HostId,
    },
    /// See [`Kind::Clog`].
    Clog {
        /// Who.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// See [`Kind::Burst`].
    Burst {
        /// Who.
        host: HostId,
    },
    /// See [`Kind::Nat`].
    Nat {
        /// Who.
        host: HostId,
        /// Behind what.
        nat: Nat,
    },
    /// See [`Kind::Partition`].
    Partition {
        /// Those who are cut off.
        hosts: Vec<HostId>,
        /// Whether what they send still arrives.
        is_heard: bool,
    },
    /// See [`Kind::Storm`] and [`Kind::Slow`].
    Storm {
        /// Whose damage to do.
        like: Box<Profile>,
    },
}

/// The group of hosts that are cut off.
const CUT_OFF: u8 = 1;

impl Fault {
    /// Draws one of a kind that befalls some of these hosts; `None` if there are none.
    pub fn draw(kind: Kind, choices: &mut Choices, hosts: &[HostId]) -> Option<Self> {
        let host = *choices.pick(About::Fault, hosts)?;
        Some(match kind {
            Kind::Crash => Self::Crash { host, keeps_snapshot: true },
            Kind::Amnesia => Self::Crash { host, keeps_snapshot: false },
            Kind::Suspend => Self::Suspend { host },
            Kind::Drift => {
                let ppm = choices.below(About::Fault, 1_001).cast_signed() - 500;
                Self::Clock { host, ppm, ahead: Duration::ZERO, back: Duration::ZERO }
            }
            Kind::Jump => {
                let most = *choices.pick(About::Fault, &[60, 60 * 60, 24 * 60 * 60])?;
                let secs = choices.between(About::Fault, 1, most);
                let ahead = Duration::from_secs(u64::from(secs));
                Self::Clock { host, ppm: 0, ahead, back: Duration::ZERO }
            }
            Kind::SetBack => {
                let millis = choices.between(About::Fault, 1, 30_000);
                let back = Duration::from_millis(u64::from(millis));
                Self::Clock { host, ppm: 0, ahead: Duration::ZERO, back }
            }
            Kind::Relocate => Self::Relocate { host },
            Kind::Clog => {
                let millis = choices.between(About::Fault, 100, 60_000);
                Self::Clog { host, lasts: Duration::from_millis(u64::from(millis)) }
            }
            Kind::Burst => Self::Burst { host },
            Kind::Nat => Self::Nat { host, nat: draw_nat(choices) },
            Kind::Partition => {
                let share = Ratio::percent(choices.between(About::Fault, 5, 50));
                let mut cut: Vec<_> =
                    hosts.iter().copied().filter(|_| choices.chance(About::Fault, share)).collect();
                cut.push(host);
                let is_heard = choices.chance(About::Fault, Ratio::percent(30));
                Self::Partition { hosts: cut, is_heard }
            }
            Kind::Storm => Self::Storm { like: Box::new(draw_storm(choices)) },
            Kind::Slow => Self::Storm { like: Box::new(draw_slowness(choices)) },
        })
    }

    /// Has it happen. What is needed to mend it; `config` is what a node that crashed comes back with.
    pub fn apply(self, world: &mut World, config: &Arc<Config>) -> Wound {
        match self {
            Self::Crash { host, keeps_snapshot } => match world.crash(host) {
                Some(dht) => {
                    let snapshot = keeps_snapshot.then(|| Box::new(dht.snapshot()));
                    Wound::Crashed { host, snapshot, config: config.clone() }
                }
                None => Wound::Healed,
            },
            Self::Suspend { host } => {
                world.suspend(host);
                Wound::Suspended { host }
            }
            Self::Clock { host, ppm, ahead, back } => {
                let mut clock = world.clock(host).changed(world.now(), ppm, ahead);
                clock.offset = clock.offset.saturating_sub_unsigned(back.as_micros() as u64);
                world.set_clock(host, clock);
                Wound::Clock { host }
            }
            Self::Relocate { host } => {
                if world.addresses_left() > 0 {
                    let addrs = world.next_addrs(world.networks(host));
                    world.relocate(host, addrs);
                }
                Wound::Healed
            }
            Self::Clog { host, lasts } => {
                let until = world.now() + lasts;
                world.net_mut().clog(host, until);
                Wound::Clogged { host }
            }
            Self::Burst { host } => {
                world.net_mut().set_bursty(host, true);
                Wound::Bursty { host }
            }
            Self::Nat { host, .. } if world.net().nat(host).is_some() => Wound::Healed,
            Self::Nat { host, nat } => {
                world.put_behind(host, &nat);
                Wound::Nat { host }
            }
            Self::Partition { hosts, is_heard } => {
                let net = world.net_mut();
                for host in &hosts {
                    net.set_group(*host, CUT_OFF);
                }
                net.cut(0, CUT_OFF);
                if !is_heard {
                    net.cut(CUT_OFF, 0);
                }
                Wound::CutOff { hosts }
            }
            Self::Storm { like } => {
                world.net_mut().set_damage(&like);
                Wound::Storm
            }
        }
    }
}

fn draw_nat(choices: &mut Choices) -> Nat {
    let mappings = [
        Some(Mapping::EndpointIndependent),
        Some(Mapping::AddressDependent),
        Some(Mapping::AddressAndPortDependent),
        None,
    ];
    let filters = [Filtering::Open, Filtering::Address, Filtering::AddressAndPort];
    let mut coin = || choices.chance(About::Fault, Ratio::percent(50));
    let (inbound_refresh, preserves_port, hairpin) = (coin(), coin(), coin());
    Nat {
        mapping: choices.pick(About::Fault, &mappings).copied().flatten(),
        filtering: choices.pick(About::Fault, &filters).copied().unwrap_or(Filtering::Open),
        timeout: Duration::from_secs(u64::from(choices.between(About::Fault, 10, 300))),
        inbound_refresh,
        preserves_port,
        hairpin,
        sharing: 1,
    }
}

/// Half of all sorts of damage, so that some storms only duplicate, and others only corrupt.
fn draw_storm(choices: &mut Choices) -> Profile {
    let mut storm = Profile::simple((Duration::ZERO, Duration::ZERO), Ratio::ZERO);
    let mut share = |most| {
        let is_part = choices.chance(About::Fault, Ratio::percent(50));
        Ratio::per_mille(if is_part { choices.below(About::Fault, most) } else { 0 })
    };
    storm.loss = share(900);
    storm.duplicated = share(300);
    storm.reordered = share(300);
    storm.corrupted = share(100);
    storm.truncated = share(100);
    storm.held_back = Duration::from_millis(u64::from(choices.below(About::Fault, 3_000)));
    if choices.chance(About::Fault, Ratio::percent(20)) {
        storm.mtu = choices.between(About::Fault, 300, 1_400) as usize;
    }
    storm
}

fn draw_slowness(choices: &mut Choices) -> Profile {
    let mut slow = Profile::simple((Duration::ZERO, Duration::ZERO), Ratio::ZERO);
    slow.reordered = Ratio::percent(100);
    slow.held_back = Duration::from_millis(u64::from(choices.between(About::Fault, 200, 6_000)));
    slow
}

/// What a fault has left, to be mended.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "what is dropped is never mended"]
pub enum Wound {
    /// A host without its node.
    Crashed {
        /// Where.
        host: HostId,
        /// What the node comes back with.
        snapshot: Option<Box<Snapshot>>,
        /// Its configuration.
        config: Arc<Config>,
    },
    /// A host that is frozen.
    Suspended {
        /// Which.
        host: HostId,
    },
    /// A clock that errs. Mended, it runs at the right speed from then on: it is never set back.
    Clock {
        /// Whose.
        host: HostId,
    },
    /// A host that is clogged, perhaps no longer.
    Clogged {
        /// Which.
        host: HostId,
    },
    /// A host with a bad link.
    Bursty {
        /// Which.
        host: HostId,
    },
    /// A host behind something.
    Nat {
        /// Which.
        host: HostId,
    },
    /// Hosts that are cut off.
    CutOff {
        /// Which.
        hosts: Vec<HostId>,
    },
    /// Damage to datagrams everywhere.
    Storm,
    /// Nothing, or nothing that can be mended.
    Healed,
}

impl Wound {
    /// Mends it. `life` numbers the lives of a host, for the seed of a node that comes back.
    ///
    /// Cuts are mended all at once, and so are storms: there is one of each at a time.
    pub fn heal(self, world: &mut World, life: u32) {
        match self {
            Self::Crashed { host, snapshot, config } => {
                if world.node(host).is_none() {
                    let networks = world.networks(host);
                    world.restart(host, &config, networks, snapshot.as_deref(), life);
                }
            }
            Self::Suspended { host } => world.resume(host),
            Self::Clock { host } => {
                let clock = world.clock(host).changed(world.now(), 0, Duration::ZERO);
                world.set_clock(host, clock);
            }
            Self::Clogged { host } => {
                let now = world.now();
                world.net_mut().clog(host, now);
            }
            Self::Bursty { host } => world.net_mut().set_bursty(host, false),
            Self::Nat { host } => world.expose(host),
            Self::CutOff { hosts } => {
                let net = world.net_mut();
                for host in hosts {
                    net.set_group(host, 0);
                }
                net.mend(0, CUT_OFF);
                net.mend(CUT_OFF, 0);
            }
            Self::Storm => world.net_mut().calm(),
            Self::Healed => {}
        }
    }
}

#[cfg(test)]
mod tests;
