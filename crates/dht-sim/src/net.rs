//! What becomes of a datagram between two hosts.
//!
//! State grows with the number of hosts, never with the number of pairs.

use core::time::Duration;

use crate::choices::{About, Choices, Ratio};
use crate::world::HostId;

/// What the network does to datagrams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// Shortest and longest delay one way.
    pub delay: (Duration, Duration),
    /// Datagrams lost.
    pub loss: Ratio,
    /// Datagrams that arrive twice.
    pub duplicated: Ratio,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            delay: (Duration::from_millis(20), Duration::from_millis(80)),
            loss: Ratio::ZERO,
            duplicated: Ratio::ZERO,
        }
    }
}

/// A datagram that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// How long it takes.
    pub after: Duration,
}

/// The network between the hosts of a world.
#[derive(Debug)]
pub struct Network {
    profile: Profile,
}

impl Network {
    /// A network without hosts.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self { profile }
    }

    /// A host joins; hosts are numbered in order.
    pub fn attach(&mut self, _choices: &mut Choices) {}

    /// The smallest round trip between two hosts, from one's table to the other's.
    #[must_use]
    pub fn round_trip(&self, _a: HostId, _b: HostId) -> Duration {
        self.profile.delay.0 + self.profile.delay.1
    }

    /// When a datagram of `len` bytes arrives, if it does, and whether a second time. `None` stands
    /// for somebody outside the simulation.
    pub fn carry(
        &mut self,
        _now: dht_proto::time::Instant,
        _from: Option<HostId>,
        _to: Option<HostId>,
        _len: usize,
        choices: &mut Choices,
    ) -> [Option<Delivery>; 2] {
        if choices.chance(About::Damage, self.profile.loss) {
            return [None, None];
        }
        let (low, high) = self.profile.delay;
        let spread = high.saturating_sub(low).as_micros() as u32;
        let delivery = |choices: &mut Choices| {
            let extra = choices.below(About::Delay, spread.saturating_add(1));
            Delivery { after: low + Duration::from_micros(u64::from(extra)) }
        };
        let first = delivery(choices);
        let twice = choices.chance(About::Damage, self.profile.duplicated);
        [Some(first), twice.then(|| delivery(choices))]
    }
}
