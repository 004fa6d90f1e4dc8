//! What becomes of a datagram between two hosts.
//!
//! State grows with the number of hosts, never with the number of pairs: each has a place on a
//! square and an access link, 16 bytes in one array. Whatever only some hosts have (a NAT, a bad
//! link, a clog) is kept beside that and found by a flag.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use dht_proto::ReadAhead;
use dht_proto::addr::Family;
use dht_proto::time::Instant;

use crate::choices::{About, Choices, Ratio};
use crate::curve::Quantiles;
use crate::host::Addrs;
use crate::world::HostId;

pub use crate::profile::{Bandwidth, Bursts, Geography, Nat, Profile};

mod damage;
mod nat;

pub use damage::Damage;
use damage::{Fate, Lottery};
pub use nat::Ports;
use nat::{Middlebox, Site};

/// A datagram that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// How many microseconds it takes: a plain number, because every datagram is given one.
    pub micros: u64,
    /// What is wrong with it when it arrives.
    pub damage: Damage,
}

impl Delivery {
    /// How long it takes.
    #[must_use]
    pub const fn after(&self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

/// Groups that hosts can be put in, to cut some off from others.
pub const GROUPS: u8 = 64;

/// The link is of the sort that loses in bursts.
const BURSTY: u8 = 1;
/// And it is losing now.
const BAD: u8 = 2;
/// Nothing passes until a certain time.
const CLOGGED: u8 = 4;
/// A middlebox stands before the host.
const GUARDED: u8 = 8;
/// Its nodes are clients.
const READ_ONLY: u8 = 16;
/// What asks for more than a delay.
const SPECIAL: u8 = BURSTY | CLOGGED;

/// Where a host is and how it is attached.
#[derive(Clone, Copy, Debug)]
struct Link {
    x: u16,
    y: u16,
    /// Microseconds that the last mile takes one way.
    last_mile: u32,
    /// Its middlebox, if it has one.
    middlebox: u32,
    flags: u8,
    group: u8,
}

const _: () = assert!(size_of::<Link>() == 16);

impl Link {
    /// One that does nothing to a datagram.
    const PLAIN: Self = Self { x: 0, y: 0, last_mile: 0, middlebox: u32::MAX, flags: 0, group: 0 };
}

/// Delays by place.
#[derive(Debug)]
struct Map {
    /// Microseconds one way from edge to edge, times 2^16, over the square's width.
    scale: u64,
    last_miles: Quantiles,
    /// What delays are multiplied by, times 2^16.
    jitter: Quantiles,
}

impl Map {
    fn new(geography: &Geography) -> Self {
        let sigma = |ratio: Ratio| f64::from(ratio.num) / f64::from(ratio.den.max(1));
        let last_mile = geography.last_mile.as_micros() as u32;
        Self {
            scale: geography.across.as_micros() as u64 / 2,
            last_miles: Quantiles::log_normal(
                f64::from(last_mile) / 2.0,
                sigma(geography.last_mile_sigma),
            ),
            jitter: Quantiles::log_normal(65_536.0, sigma(geography.jitter)),
        }
    }

    /// Microseconds one way, without jitter.
    #[inline]
    fn delay(&self, a: &Link, b: &Link) -> u64 {
        // Half the width, so that the square of the distance fits in 32 bits.
        let x = u32::from(a.x.abs_diff(b.x) / 2);
        let y = u32::from(a.y.abs_diff(b.y) / 2);
        let distance = u64::from((x * x + y * y).isqrt());
        ((distance * self.scale) >> 15) + u64::from(a.last_mile) + u64::from(b.last_mile)
    }

    #[inline]
    fn jittered(&self, delay: u64, choices: &mut Choices) -> u64 {
        let draw = choices.below(About::Delay, 1 << 10) as u16;
        (delay * u64::from(self.jitter.at(draw << 6))) >> 16
    }
}

/// The network between the hosts of a world.
#[derive(Debug)]
pub struct Network {
    profile: Profile,
    /// The same as it was at first.
    made_with: Profile,
    map: Option<Map>,
    lottery: Lottery,
    links: Vec<Link>,
    /// Somebody's link is or was [`SPECIAL`].
    any_special: bool,
    boxes: Vec<Middlebox>,
    sites: Vec<Site>,
    nat_ports: Ports,
    clogs: BTreeMap<HostId, Instant>,
    /// For each group, those that it cannot reach, as bits.
    cuts: [u64; GROUPS as usize],
    is_cut: bool,
    /// Until when each access link is busy, up and down; empty if links have no limit.
    busy: Vec<[Instant; 2]>,
}

impl Network {
    /// A network without hosts, whose NATs map to these ports.
    #[must_use]
    pub fn new(profile: Profile, nat_ports: Ports) -> Self {
        Self {
            map: profile.geography.as_ref().map(Map::new),
            lottery: Lottery::new(&profile),
            made_with: profile.clone(),
            profile,
            links: Vec::new(),
            any_special: false,
            boxes: Vec::new(),
            sites: Vec::new(),
            nat_ports,
            clogs: BTreeMap::new(),
            cuts: [0; GROUPS as usize],
            is_cut: false,
            busy: Vec::new(),
        }
    }

    /// What it is like.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Changes what the network does to datagrams from now on; where hosts are stays as it is.
    pub fn adjust(&mut self, change: impl FnOnce(&mut Profile)) {
        change(&mut self.profile);
        self.lottery = Lottery::new(&self.profile);
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.links.reserve_exact(more);
        if self.profile.bandwidth.is_some() {
            self.busy.reserve_exact(more);
        }
    }

    /// The heap that it takes up.
    pub(crate) fn memory(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
            + self.busy.capacity() * size_of::<[Instant; 2]>()
            + self.boxes.capacity() * size_of::<Middlebox>()
            + self.boxes.iter().map(Middlebox::memory).sum::<usize>()
            + self.sites.capacity() * size_of::<Site>()
            + self.sites.iter().map(Site::memory).sum::<usize>()
            + self.clogs.len() * size_of::<(HostId, Instant)>()
    }

    /// A host joins; hosts are numbered in order.
    pub(crate) fn attach(&mut self, choices: &mut Choices) {
        let mut link = self.outside();
        if let Some(map) = &self.map {
            let mut draw = || choices.below(About::Topology, 1 << 16) as u16;
            (link.x, link.y) = (draw(), draw());
            link.last_mile = map.last_miles.at(draw());
        }
        if choices.chance(About::Topology, self.profile.bursts.share) {
            link.flags |= BURSTY;
            self.any_special = true;
        }
        self.links.push(link);
        if self.profile.bandwidth.is_some() {
            self.busy.push([Instant::ZERO; 2]);
        }
    }

    /// What stands for the link of somebody outside the simulation: central, of middling quality.
    fn outside(&self) -> Link {
        let last_mile = self.map.as_ref().map_or(0, |map| map.last_miles.at(1 << 15));
        Link { x: 1 << 15, y: 1 << 15, last_mile, middlebox: u32::MAX, flags: 0, group: 0 }
    }

    fn link(&self, host: Option<HostId>) -> Link {
        let link = host.and_then(|host| self.links.get(host.index()));
        link.map_or_else(|| self.outside(), |link| *link)
    }

    /// Whether no link does anything to a datagram: then none is read, which are two lines of memory less
    /// for each.
    const fn is_plain(&self) -> bool {
        self.map.is_none() && !self.any_special && !self.is_cut && self.busy.is_empty()
    }

    /// The smallest round trip between two hosts, from one's table to the other's; the mean one in
    /// a network without places.
    #[must_use]
    pub fn round_trip(&self, a: HostId, b: HostId) -> Duration {
        match &self.map {
            Some(map) => {
                Duration::from_micros(2 * map.delay(&self.link(Some(a)), &self.link(Some(b))))
            }
            None => self.profile.delay.0 + self.profile.delay.1,
        }
    }

    /// When a datagram of `len` bytes arrives, if it does, and whether a second time. `None` stands
    /// for somebody outside the simulation.
    #[inline]
    pub fn carry(
        &mut self,
        now: Instant,
        from: Option<HostId>,
        to: Option<HostId>,
        len: usize,
        choices: &mut Choices,
    ) -> [Option<Delivery>; 2] {
        let fate = self.lottery.draw(choices);
        if fate == Fate::Lost || len > self.profile.mtu {
            return [None, None];
        }
        let [a, b] =
            if self.is_plain() { [Link::PLAIN; 2] } else { [from, to].map(|host| self.link(host)) };
        let mut after = self.delay(&a, &b, choices);
        let is_special = (a.flags | b.flags) & SPECIAL != 0;
        if is_special || self.is_cut || !self.busy.is_empty() {
            match self.hinder(now, (from, &a), (to, &b), (len, after), choices) {
                Some(late) => after = late,
                None => return [None, None],
            }
        }
        let mut first = Delivery { micros: after, damage: Damage::None };
        if fate == Fate::Unharmed {
            return [Some(first), None];
        }
        let mut second = None;
        match fate {
            Fate::Twice => {
                let micros = self.delay(&a, &b, choices).max(after);
                second = Some(Delivery { micros, damage: Damage::None });
            }
            Fate::HeldBack => {
                let most = self.profile.held_back.as_micros() as u32;
                let longer = choices.below(About::Delay, most.saturating_add(1));
                first.micros += u64::from(longer);
            }
            Fate::Corrupted => {
                first.damage = Damage::Bit(choices.below(About::Damage, len as u32 * 8));
            }
            Fate::Truncated => {
                first.damage = Damage::Cut(choices.below(About::Damage, len as u32));
            }
            Fate::Unharmed | Fate::Lost => {}
        }
        [Some(first), second]
    }

    /// Microseconds that a datagram takes if nothing hinders it.
    #[inline]
    fn delay(&self, a: &Link, b: &Link, choices: &mut Choices) -> u64 {
        if let Some(map) = &self.map {
            return map.jittered(map.delay(a, b), choices);
        }
        let (low, high) = self.profile.delay;
        let spread = high.saturating_sub(low).as_micros() as u32;
        let extra = choices.below(About::Delay, spread.saturating_add(1));
        low.as_micros() as u64 + u64::from(extra)
    }

    /// What only some datagrams meet: cuts, bad links, clogs, full links. When it arrives after all.
    #[inline(never)]
    fn hinder(
        &mut self,
        now: Instant,
        (from, a): (Option<HostId>, &Link),
        (to, b): (Option<HostId>, &Link),
        (len, after): (usize, u64),
        choices: &mut Choices,
    ) -> Option<u64> {
        if self.cuts.get(usize::from(a.group))? >> b.group & 1 == 1 {
            return None;
        }
        for host in [from, to].into_iter().flatten() {
            if self.is_lost_in_burst(host, choices) {
                return None;
            }
        }
        let held = [from, to].into_iter().flatten().map(|host| self.held_until(now, host)).max();
        let start = held.unwrap_or(now).max(now);
        let Some(bandwidth) = self.profile.bandwidth else {
            return Some(start.since(now).as_micros() as u64 + after);
        };
        let mut at = start;
        if let Some(host) = from {
            at = self.squeeze(host, 0, at, len, bandwidth)?;
        }
        at = at + Duration::from_micros(after);
        if let Some(host) = to {
            at = self.squeeze(host, 1, at, len, bandwidth)?;
        }
        Some(at.since(now).as_micros() as u64)
    }

    /// Moves the state of a bursty link on by one datagram, and asks whether that one is lost.
    fn is_lost_in_burst(&mut self, host: HostId, choices: &mut Choices) -> bool {
        let Some(link) = self.links.get_mut(host.index()) else { return false };
        if link.flags & BURSTY == 0 {
            return false;
        }
        let bursts = &self.profile.bursts;
        let changes = if link.flags & BAD == 0 { bursts.begin } else { bursts.end };
        if choices.chance(About::Damage, changes) {
            link.flags ^= BAD;
        }
        link.flags & BAD != 0 && choices.chance(About::Damage, bursts.loss)
    }

    fn held_until(&mut self, now: Instant, host: HostId) -> Instant {
        match self.clogs.get(&host) {
            Some(until) if *until > now => *until,
            Some(_) => {
                self.clogs.remove(&host);
                self.set_flag(host, CLOGGED, false);
                now
            }
            None => now,
        }
    }

    /// Sends `len` bytes through an access link from `at` on: when they are through.
    fn squeeze(
        &mut self,
        host: HostId,
        way: usize,
        at: Instant,
        len: usize,
        bandwidth: Bandwidth,
    ) -> Option<Instant> {
        let busy = self.busy.get_mut(host.index())?.get_mut(way)?;
        let start = at.max(*busy);
        if start.since(at) > bandwidth.queue {
            return None;
        }
        let micros = len as u64 * 1_000_000 / u64::from(bandwidth.bytes_per_sec.max(1));
        *busy = start + Duration::from_micros(micros);
        Some(*busy)
    }

    fn set_flag(&mut self, host: HostId, flag: u8, value: bool) {
        self.any_special |= value && flag & SPECIAL != 0;
        if let Some(link) = self.links.get_mut(host.index()) {
            link.flags = if value { link.flags | flag } else { link.flags & !flag };
        }
    }

    // Breaking it.

    /// Has one access link lose in bursts, or no longer.
    pub fn set_bursty(&mut self, host: HostId, is_bursty: bool) {
        self.set_flag(host, BURSTY, is_bursty);
        self.set_flag(host, BAD, false);
    }

    /// Holds up all datagrams from and to a host: they set out at `until`.
    pub fn clog(&mut self, host: HostId, until: Instant) {
        self.clogs.insert(host, until);
        self.set_flag(host, CLOGGED, true);
    }

    /// Puts a host in a group; all start in group 0, and so do hosts outside the simulation.
    /// Numbers from [`GROUPS`] on stand for the last group.
    pub fn set_group(&mut self, host: HostId, group: u8) {
        if let Some(link) = self.links.get_mut(host.index()) {
            link.group = group.min(GROUPS - 1);
        }
    }

    /// Cuts the way from one group to another, in this direction alone.
    pub fn cut(&mut self, from: u8, to: u8) {
        if let Some(cuts) = self.cuts.get_mut(usize::from(from)) {
            *cuts |= 1 << to.min(GROUPS - 1);
            self.is_cut = true;
        }
    }

    /// Mends the way from one group to another.
    pub fn mend(&mut self, from: u8, to: u8) {
        if let Some(cuts) = self.cuts.get_mut(usize::from(from)) {
            *cuts &= !(1 << to.min(GROUPS - 1));
        }
        self.is_cut = self.cuts.iter().any(|cuts| *cuts != 0);
    }

    /// Mends all cuts and clogs; groups and what hosts are behind stay.
    pub fn heal(&mut self) {
        self.cuts = [0; GROUPS as usize];
        self.is_cut = false;
        for (host, _) in core::mem::take(&mut self.clogs) {
            self.set_flag(host, CLOGGED, false);
        }
    }

    /// Damages single datagrams as the profile that the network was made with does.
    pub fn calm(&mut self) {
        let made_with = self.made_with.clone();
        self.set_damage(&made_with);
    }

    /// Damages single datagrams from now on as another profile does; delays stay.
    pub fn set_damage(&mut self, like: &Profile) {
        let own = &mut self.profile;
        (own.loss, own.duplicated, own.reordered) = (like.loss, like.duplicated, like.reordered);
        (own.corrupted, own.truncated) = (like.corrupted, like.truncated);
        (own.held_back, own.mtu) = (like.held_back, like.mtu);
        self.lottery = Lottery::new(own);
    }

    // NATs and firewalls.

    /// What the profile puts the next host behind, and whether that host says that it is read-only.
    pub(crate) fn draw_nat(&self, choices: &mut Choices) -> (Option<Nat>, bool) {
        const PARTS: u32 = 1_000_000;
        let mix = &self.profile.mix;
        if mix.behind.is_empty() {
            return (None, false);
        }
        // A source that has run dry gives public hosts: the last numbers are those behind something.
        let mut draw = PARTS - 1 - choices.below(About::Topology, PARTS);
        for (share, nat) in &mix.behind {
            let parts = share.of(PARTS);
            if draw < parts {
                let is_ro = nat.mapping.is_none() && choices.chance(About::Topology, mix.read_only);
                return (Some(*nat), is_ro);
            }
            draw -= parts;
        }
        (None, false)
    }

    /// The shared address, if there is one, that has room for another host with such a NAT.
    pub(crate) fn site_with_room(&self, nat: &Nat) -> Option<u32> {
        // Earlier ones are full, or hosts have left them.
        let recent = self.sites.iter().enumerate().rev().take(8);
        let mut fitting = recent.filter(|(_, site)| site.has_room(nat));
        fitting.next().map(|(index, _)| index as u32)
    }

    /// A new shared address.
    pub(crate) fn add_site(&mut self, nat: &Nat, external: core::net::Ipv4Addr) -> u32 {
        self.sites.push(Site::new(*nat, external, self.nat_ports));
        self.sites.len() as u32 - 1
    }

    /// Puts a host behind a middlebox: its own, or a shared one. Earlier state is forgotten.
    pub(crate) fn guard(&mut self, host: HostId, addrs: Addrs, nat: &Nat, site: Option<u32>) {
        let Some(link) = self.links.get_mut(host.index()) else { return };
        let before = link.middlebox;
        let is_new = before as usize >= self.boxes.len();
        let number = if is_new { self.boxes.len() as u32 } else { before };
        link.flags |= GUARDED;
        link.middlebox = number;
        let site = site.and_then(|site| self.sites.get_mut(site as usize));
        let new = match site {
            Some(site) => site.join(number, host, addrs),
            None => Middlebox::new(*nat, host, addrs, self.nat_ports),
        };
        match self.boxes.get_mut(number as usize) {
            Some(old) => *old = new,
            None => self.boxes.push(new),
        }
    }

    /// Takes a host's middlebox away.
    pub(crate) fn expose(&mut self, host: HostId) {
        if let Some(link) = self.links.get_mut(host.index()) {
            link.flags &= !GUARDED;
            link.middlebox = u32::MAX;
        }
    }

    /// What a host is behind.
    #[must_use]
    pub fn nat(&self, host: HostId) -> Option<&Nat> {
        self.middlebox(host).map(Middlebox::nat)
    }

    /// Whether a host's nodes know that nobody reaches them.
    #[must_use]
    pub fn is_read_only(&self, host: HostId) -> bool {
        self.links.get(host.index()).is_some_and(|link| link.flags & READ_ONLY != 0)
    }

    pub(crate) fn set_read_only(&mut self, host: HostId, is_read_only: bool) {
        self.set_flag(host, READ_ONLY, is_read_only);
    }

    /// Whether strangers reach a host.
    #[must_use]
    pub fn is_reachable(&self, host: HostId) -> bool {
        self.nat(host).is_none_or(Nat::is_open)
    }

    /// The address under which others see a host with these addresses of its own.
    pub(crate) fn external(&self, host: HostId, own: &Addrs, family: Family) -> Option<IpAddr> {
        match family {
            Family::V6 => own.v6.map(|addr| IpAddr::V6(*addr.ip())),
            Family::V4 => match self.middlebox(host) {
                Some(middlebox) => middlebox.external().map(IpAddr::V4),
                None => own.v4.map(|addr| IpAddr::V4(*addr.ip())),
            },
        }
    }

    /// Says that carrying a datagram from or to a host is next.
    #[inline]
    pub(crate) fn read_ahead(&self, host: HostId, ahead: &mut impl ReadAhead) {
        if !(self.is_plain() && self.boxes.is_empty())
            && let Some(link) = self.links.get(host.index())
        {
            ahead.line(link);
        }
    }

    fn middlebox(&self, host: HostId) -> Option<&Middlebox> {
        self.boxes.get(self.links.get(host.index())?.middlebox as usize)
    }

    /// The source address that a host's datagram bears outside; `None` if it does not get out.
    #[inline]
    pub(crate) fn outgoing(
        &mut self,
        now: Instant,
        host: HostId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.boxes.is_empty() {
            return Some(from);
        }
        match self.links.get(host.index()) {
            Some(link) if link.flags & GUARDED != 0 => {
                self.boxes.get_mut(link.middlebox as usize)?.outgoing(now, from, to)
            }
            Some(_) | None => Some(from),
        }
    }

    /// The host behind a shared address that a port belongs to.
    pub(crate) fn member(&self, site: u32, port: u16) -> Option<HostId> {
        let number = self.sites.get(site as usize)?.member(port)?;
        self.boxes.get(number as usize).map(Middlebox::host)
    }

    /// A datagram for a host behind something: the host's own address, if it gets in.
    pub(crate) fn incoming(
        &mut self,
        now: Instant,
        host: HostId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let middlebox = self.links.get(host.index())?.middlebox;
        let middlebox = self.boxes.get_mut(middlebox as usize)?;
        // The own address of a host that shares another is not on the network.
        let is_meant = match to.ip() {
            IpAddr::V4(ip) => middlebox.external() == Some(ip),
            IpAddr::V6(_) => true,
        };
        is_meant.then(|| middlebox.incoming(now, from, to)).flatten()
    }
}

#[cfg(test)]
mod tests;
