//! Who is at an address: a shipped node, or somebody who acts.

use core::fmt;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use dht_proto::Dht;
use dht_proto::time::Instant;

use crate::choices::Choices;
use crate::world::HostId;

/// A host that is no shipped node: an adversary, a node of another make, a script.
pub trait Actor: fmt::Debug + Send {
    /// A datagram arrived.
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    );

    /// The time that [`Stage::wake_at`] asked for has come. Also called once when the host starts.
    fn on_wake(&mut self, _stage: &mut Stage<'_>) {}
}

/// What an actor can do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stage<'a> {
    /// The present time.
    pub now: Instant,
    /// Which host this is.
    pub me: HostId,
    /// Where it is.
    pub addrs: Addrs,
    /// Its source of choices, to be used with [`About::Adversary`](crate::choices::About).
    pub choices: &'a mut Choices,
    pub(crate) sent: &'a mut Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    pub(crate) wake: Instant,
}

impl Stage<'_> {
    /// Sends a datagram from any address: nothing on this internet checks sources. There is none from
    /// one family to the other.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if from.is_ipv4() == to.is_ipv4() {
            self.sent.push((from, to, bytes));
        }
    }

    /// Asks to be woken at `at`, or sooner if that was asked for already.
    pub fn wake_at(&mut self, at: Instant) {
        self.wake = self.wake.min(at);
    }
}

/// The addresses of a host, one per family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there are two families")]
pub struct Addrs {
    /// The IPv4 address.
    pub v4: Option<SocketAddrV4>,
    /// The IPv6 address.
    pub v6: Option<SocketAddrV6>,
}

impl Addrs {
    /// From a list of at most one per family; later ones of the same family replace earlier ones.
    #[must_use]
    pub fn of(addrs: &[SocketAddr]) -> Self {
        let mut all = Self::default();
        for addr in addrs {
            match addr {
                SocketAddr::V4(addr) => all.v4 = Some(*addr),
                SocketAddr::V6(addr) => all.v6 = Some(*addr),
            }
        }
        all
    }

    /// The address of the same family as `other`.
    #[must_use]
    pub fn like(&self, other: &SocketAddr) -> Option<SocketAddr> {
        match other.ip() {
            IpAddr::V4(_) => self.v4.map(SocketAddr::V4),
            IpAddr::V6(_) => self.v6.map(SocketAddr::V6),
        }
    }

    /// Both addresses.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        let v6 = self.v6.map(SocketAddr::V6);
        self.v4.map(SocketAddr::V4).into_iter().chain(v6)
    }
}

/// A host's clock: `real * (1 + ppm / 10^6) + offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a clock errs in two ways")]
pub struct Clock {
    /// Microseconds that it is ahead.
    pub offset: i64,
    /// Millionths that it runs too fast.
    pub ppm: i32,
}

impl Clock {
    /// A clock that shows the same at `now` but for being set `ahead`, and runs `ppm` too fast from
    /// then on.
    #[must_use]
    pub fn changed(self, now: Instant, ppm: i32, ahead: core::time::Duration) -> Self {
        let shown = i128::from(self.local(now).as_micros())
            + i128::try_from(ahead.as_micros()).unwrap_or(i128::MAX / 2);
        let drift = i128::from(now.as_micros()) * i128::from(ppm) / 1_000_000;
        let offset = shown - i128::from(now.as_micros()) - drift;
        let bound = offset.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self { offset: bound as i64, ppm }
    }

    #[inline]
    pub(crate) fn local(self, now: Instant) -> Instant {
        if self == Self::default() {
            return now;
        }
        let now = now.as_micros();
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        let local = i128::from(now) + drift + i128::from(self.offset);
        Instant::from_micros(u64::try_from(local.max(0)).unwrap_or(u64::MAX))
    }

    /// The first real time at which the clock shows at least `local`.
    pub(crate) fn real(self, local: Instant) -> Instant {
        if local == Instant::FAR_FUTURE || self == Self::default() {
            return local;
        }
        let ahead = i128::from(local.as_micros()) - i128::from(self.offset);
        let real = ahead * 1_000_000 / (1_000_000 + i128::from(self.ppm)).max(1);
        let mut real = Instant::from_micros(u64::try_from(real.max(0)).unwrap_or(u64::MAX));
        while self.local(real) < local {
            real = real + core::time::Duration::from_micros(1);
        }
        real
    }
}

/// What stands behind a host's addresses.
#[derive(Debug)]
pub(crate) enum Body {
    /// A shipped node.
    Node(Dht),
    /// Somebody who acts.
    Actor(Box<dyn Actor>),
    /// Nobody: what is sent there is lost.
    Nobody,
}

/// One host: all that an event at it needs, in one line of a processor's cache. What few have is kept
/// beside it, in [`Hosts`].
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Host {
    pub(crate) body: Body,
    /// When its timer goes off: entries of the queue for any other time are stale.
    pub(crate) armed: Instant,
    /// How many microseconds after that it has something to do, as far as is known: what the timer
    /// was set for has come already.
    pub(crate) later: u32,
    v4: Option<SocketAddrV4>,
    /// Events of its node that the user has not taken, or `u8::MAX`: at least so many.
    waiting: u8,
    /// Frozen: it neither runs nor receives.
    pub(crate) suspended: bool,
    /// A NAT or firewall stands before it.
    pub(crate) guarded: bool,
    /// [`HAS_V6`] and [`ERRS`].
    rare: u8,
}

/// A host has an IPv6 address.
const HAS_V6: u8 = 1;
/// Its clock errs.
const ERRS: u8 = 2;

// One line of a cache: a million of them are read in no order.
const _: () = assert!(size_of::<Host>() == 64);

impl Host {
    /// Forgets the timer.
    pub(crate) const fn disarm(&mut self) {
        (self.armed, self.later) = (Instant::FAR_FUTURE, 0);
    }

    /// Whether it has addresses on both networks.
    pub(crate) const fn is_dual(&self) -> bool {
        self.rare & HAS_V6 != 0 && self.v4.is_some()
    }

    const fn mark(&mut self, what: u8, is_so: bool) {
        self.rare = if is_so { self.rare | what } else { self.rare & !what };
    }

    /// Whether events of its node wait.
    pub(crate) const fn has_events(&self) -> bool {
        self.waiting > 0
    }

    pub(crate) const fn add_event(&mut self) {
        self.waiting = self.waiting.saturating_add(1);
    }

    /// One of its events was taken.
    pub(crate) const fn take_event(&mut self) {
        if self.waiting < u8::MAX {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// All of its events were taken.
    pub(crate) const fn clear_events(&mut self) {
        self.waiting = 0;
    }
}

/// All hosts of a world.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    all: Vec<Host>,
    /// IPv6 addresses, as far as hosts have them.
    v6: Vec<Option<SocketAddrV6>>,
    /// Clocks that err.
    clocks: BTreeMap<HostId, Clock>,
}

impl Hosts {
    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.all.reserve_exact(more);
    }

    /// Adds one where nobody is.
    pub(crate) fn push(&mut self, addrs: &Addrs) -> HostId {
        let host = HostId(self.all.len() as u32);
        self.all.push(Host {
            body: Body::Nobody,
            armed: Instant::FAR_FUTURE,
            later: 0,
            v4: None,
            waiting: 0,
            suspended: false,
            guarded: false,
            rare: 0,
        });
        self.set_addrs(host, addrs);
        host
    }

    #[inline]
    pub(crate) fn get(&self, host: HostId) -> Option<&Host> {
        self.all.get(host.index())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, host: HostId) -> Option<&mut Host> {
        self.all.get_mut(host.index())
    }

    /// A host's addresses; none for a host that does not exist.
    pub(crate) fn addrs(&self, host: HostId) -> Addrs {
        let v4 = self.get(host).and_then(|entry| entry.v4);
        Addrs { v4, v6: self.v6.get(host.index()).copied().flatten() }
    }

    pub(crate) fn set_addrs(&mut self, host: HostId, addrs: &Addrs) {
        let Some(entry) = self.all.get_mut(host.index()) else { return };
        entry.v4 = addrs.v4;
        entry.mark(HAS_V6, addrs.v6.is_some());
        if addrs.v6.is_some() && self.v6.len() <= host.index() {
            self.v6.resize(host.index() + 1, None);
        }
        if let Some(place) = self.v6.get_mut(host.index()) {
            *place = addrs.v6;
        }
    }

    /// The address of a host on the network that `other` is on.
    #[inline]
    pub(crate) fn addr_like(&self, host: HostId, other: &SocketAddr) -> Option<SocketAddr> {
        match other {
            SocketAddr::V4(_) => self.get(host)?.v4.map(SocketAddr::V4),
            SocketAddr::V6(_) => self.v6.get(host.index()).copied()?.map(SocketAddr::V6),
        }
    }

    /// A host's clock.
    #[inline]
    pub(crate) fn clock(&self, host: HostId) -> Clock {
        if self.get(host).is_none_or(|entry| entry.rare & ERRS == 0) {
            return Clock::default();
        }
        self.clocks.get(&host).copied().unwrap_or_default()
    }

    pub(crate) fn set_clock(&mut self, host: HostId, clock: Clock) {
        let Some(entry) = self.all.get_mut(host.index()) else { return };
        let errs = clock != Clock::default();
        entry.mark(ERRS, errs);
        if errs {
            self.clocks.insert(host, clock);
        } else {
            self.clocks.remove(&host);
        }
    }

    /// The heap that all this takes up, nodes and actors excluded.
    pub(crate) fn memory(&self) -> usize {
        self.all.capacity() * size_of::<Host>()
            + self.v6.capacity() * size_of::<Option<SocketAddrV6>>()
            + self.clocks.len() * size_of::<(HostId, Clock)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_changes_its_speed_does_not_jump() {
        let now = Instant::from_secs(100_000);
        let before = Clock { offset: 7_000_000, ppm: -400 };
        let after = before.changed(now, 300, core::time::Duration::ZERO);
        assert_eq!((after.local(now), after.ppm), (before.local(now), 300));
        let ahead = core::time::Duration::from_secs(60);
        assert_eq!(before.changed(now, 0, ahead).local(now), before.local(now) + ahead);
    }

    #[test]
    fn a_clock_that_errs_still_reaches_every_time() {
        for clock in [
            Clock { offset: 0, ppm: 0 },
            Clock { offset: -5_000_000, ppm: 200 },
            Clock { offset: 3_600_000_000, ppm: -300 },
        ] {
            for secs in [10, 1_000, 1_000_000] {
                let local = Instant::from_secs(secs) + core::time::Duration::from_micros(7);
                let real = clock.real(local);
                assert!(clock.local(real) >= local, "{clock:?}");
                if real > Instant::ZERO {
                    let before = Instant::from_micros(real.as_micros() - 1);
                    assert!(clock.local(before) < local, "{clock:?} {secs}");
                }
            }
        }
    }
}
