//! NATs and firewalls (RFC 4787): state only for the hosts behind one.

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use dht_proto::time::Instant;

use crate::address::mix;
use crate::host::Addrs;
use crate::profile::{Filtering, Mapping, Nat};
use crate::world::HostId;

/// The ports that NATs map to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a range")]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// How many. Hosts that share an address share them, too, so there must be more of them.
    pub count: u16,
}

impl Ports {
    /// All that are not reserved for services.
    pub const ALL: Self = Self { first: 1_024, count: u16::MAX - 1_024 };

    /// How many of them each host has that shares an address.
    fn block(self, nat: &Nat) -> u16 {
        (self.count / nat.sharing.clamp(1, Nat::MAX_SHARING)).max(1)
    }
}

/// The most peers that are remembered for one host; then the one longest silent is forgotten.
const MAX_SESSIONS: usize = 512;
/// Times are kept in units of 2^16 microseconds.
const TIME_SHIFT: u32 = 16;

/// A remote endpoint in one word: address above, port in the low 16 bits.
type Remote = u64;

const IS_V6: u64 = 1 << 63;

fn remote(addr: SocketAddr) -> Remote {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        // 47 bits of a hash stand for the address.
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            (mix((bits >> 64) as u64 ^ mix(bits as u64)) | IS_V6) >> 16
        }
    };
    ip << 16 | u64::from(addr.port())
}

fn units(now: Instant) -> u32 {
    u32::try_from(now.as_micros() >> TIME_SHIFT).unwrap_or(u32::MAX)
}

/// Somebody the host sent to.
#[derive(Clone, Copy, Debug)]
struct Session {
    remote: Remote,
    /// When that was, or when it last answered if that counts.
    last: u32,
    /// The external port that was used.
    port: u16,
}

/// What stands between one host and the network.
#[derive(Debug)]
pub(super) struct Middlebox {
    nat: Nat,
    /// Its timeout, in units.
    timeout: u32,
    host: HostId,
    /// The host's own addresses.
    inside: Addrs,
    /// The external IPv4 address, and the ports of it that are this host's.
    external: Option<Ipv4Addr>,
    block: Ports,
    next_port: u16,
    /// The last port that an endpoint-independent mapping used, and when.
    mapped: (u16, u32),
    sessions: Vec<Session>,
}

impl Middlebox {
    /// Alone behind its own address.
    pub(super) fn new(nat: Nat, host: HostId, inside: Addrs, ports: Ports) -> Self {
        Self {
            nat: Nat { sharing: 1, ..nat },
            timeout: u32::try_from(nat.timeout.as_micros() >> TIME_SHIFT).unwrap_or(u32::MAX),
            host,
            inside,
            external: inside.v4.map(|addr| *addr.ip()),
            block: ports,
            next_port: 0,
            mapped: (0, 0),
            sessions: Vec::new(),
        }
    }

    /// With a block of the ports of an address that is shared.
    fn sharing(nat: Nat, host: HostId, inside: Addrs, external: Ipv4Addr, block: Ports) -> Self {
        let mut new = Self::new(nat, host, inside, block);
        new.nat = Nat { preserves_port: false, ..nat };
        new.external = Some(external);
        new
    }

    /// The address under which others see the host in IPv4.
    pub(super) const fn external(&self) -> Option<Ipv4Addr> {
        self.external
    }

    pub(super) const fn host(&self) -> HostId {
        self.host
    }

    pub(super) const fn nat(&self) -> &Nat {
        &self.nat
    }

    /// The heap that it takes up.
    pub(super) fn memory(&self) -> usize {
        self.sessions.capacity() * size_of::<Session>()
    }

    /// A datagram leaves: the source it bears outside; `None` if it does not get out.
    pub(super) fn outgoing(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let now = units(now);
        let key = remote(to);
        let (IpAddr::V4(_), Some(mapping), Some(external)) =
            (to.ip(), self.nat.mapping, self.external)
        else {
            self.note(now, key, from.port());
            return Some(from);
        };
        if to.ip() == IpAddr::V4(external) && !self.nat.hairpin {
            return None;
        }
        let port = self.port_towards(now, mapping, key, from.port());
        self.note(now, key, port);
        Some(SocketAddr::V4(SocketAddrV4::new(external, port)))
    }

    /// A datagram for an external address: the host's own address, if it gets in.
    pub(super) fn incoming(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let now = units(now);
        let inside = self.inside.like(&to)?;
        let translates = self.nat.mapping.filter(|_| to.is_ipv4());
        let is_mapped = match translates {
            None => to == inside,
            Some(Mapping::EndpointIndependent) => {
                to.port() == self.mapped.0 && self.lives(now, self.mapped.1)
            }
            Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent) => {
                self.is_used(now, to.port())
            }
        };
        if !is_mapped || !self.admits(now, remote(from)) {
            return None;
        }
        if self.nat.inbound_refresh {
            self.refresh(now, remote(from), to.port(), translates);
        }
        Some(inside)
    }

    fn lives(&self, now: u32, last: u32) -> bool {
        last > 0 && now.saturating_sub(last) < self.timeout
    }

    /// Whether a mapping that lives uses the port.
    fn is_used(&self, now: u32, port: u16) -> bool {
        self.sessions
            .iter()
            .any(|s| s.port == port && s.remote & IS_V6 == 0 && self.lives(now, s.last))
    }

    /// Whether the filter lets this remote in.
    fn admits(&self, now: u32, from: Remote) -> bool {
        let ignored = match self.nat.filtering {
            Filtering::Open => return true,
            Filtering::Address => 16,
            Filtering::AddressAndPort => 0,
        };
        self.sessions
            .iter()
            .any(|s| s.remote >> ignored == from >> ignored && self.lives(now, s.last))
    }

    /// The external port for a datagram to `to`: that of the mapping, or a new one.
    fn port_towards(&mut self, now: u32, mapping: Mapping, to: Remote, own: u16) -> u16 {
        let ignored = match mapping {
            Mapping::EndpointIndependent => {
                if !self.lives(now, self.mapped.1) {
                    self.mapped.0 = self.new_port(now, own);
                }
                self.mapped.1 = now;
                return self.mapped.0;
            }
            Mapping::AddressDependent => 16,
            Mapping::AddressAndPortDependent => 0,
        };
        let known = self
            .sessions
            .iter()
            .find(|s| s.remote >> ignored == to >> ignored && self.lives(now, s.last));
        match known {
            Some(session) => session.port,
            None => self.new_port(now, own),
        }
    }

    fn new_port(&mut self, now: u32, own: u16) -> u16 {
        if self.nat.preserves_port && !self.is_used(now, own) {
            return own;
        }
        for _ in 0..usize::from(self.block.count).min(MAX_SESSIONS + 1) {
            let port = self.turn();
            if port != self.mapped.0 && !self.is_used(now, port) {
                return port;
            }
        }
        // Fewer ports than destinations: each serves several of them, in turn.
        self.turn()
    }

    /// The next port of the block.
    fn turn(&mut self) -> u16 {
        let Ports { first, count } = self.block;
        self.next_port = (self.next_port + 1) % count.max(1);
        first + self.next_port
    }

    /// Remembers that the host sent to somebody.
    fn note(&mut self, now: u32, to: Remote, port: u16) {
        if let Some(session) = self.sessions.iter_mut().find(|s| s.remote == to) {
            (session.last, session.port) = (now.max(1), port);
            return;
        }
        if self.sessions.len() == self.sessions.capacity() || self.sessions.len() == MAX_SESSIONS {
            let timeout = self.timeout;
            self.sessions.retain(|s| now.saturating_sub(s.last) < timeout);
        }
        if self.sessions.len() == MAX_SESSIONS
            && let Some((oldest, _)) = self.sessions.iter().enumerate().min_by_key(|(_, s)| s.last)
        {
            self.sessions.swap_remove(oldest);
        }
        self.sessions.push(Session { remote: to, last: now.max(1), port });
    }

    /// What comes in keeps its mapping alive: all of it that goes to the same port.
    fn refresh(&mut self, now: u32, from: Remote, port: u16, mapping: Option<Mapping>) {
        let shared = matches!(mapping, None | Some(Mapping::EndpointIndependent));
        if mapping == Some(Mapping::EndpointIndependent) {
            self.mapped.1 = now;
        }
        for session in &mut self.sessions {
            let is_meant = if shared {
                session.remote >> 16 == from >> 16
            } else {
                session.port == port && session.remote & IS_V6 == 0
            };
            if is_meant && now.saturating_sub(session.last) < self.timeout {
                session.last = now;
            }
        }
    }
}

/// A carrier's NAT: one external IPv4 address and the hosts behind it.
#[derive(Debug)]
pub(super) struct Site {
    nat: Nat,
    external: Ipv4Addr,
    ports: Ports,
    /// Their middleboxes, by block of ports.
    members: Vec<u32>,
}

impl Site {
    pub(super) const fn new(nat: Nat, external: Ipv4Addr, ports: Ports) -> Self {
        Self { nat, external, ports, members: Vec::new() }
    }

    /// The heap that it takes up.
    pub(super) fn memory(&self) -> usize {
        self.members.capacity() * size_of::<u32>()
    }

    /// Whether another host with such a NAT finds a place here.
    pub(super) fn has_room(&self, nat: &Nat) -> bool {
        let most = nat.sharing.min(Nat::MAX_SHARING).min(self.ports.count);
        self.nat == *nat && self.members.len() < usize::from(most)
    }

    /// Adds a host, whose middlebox will have this number.
    pub(super) fn join(&mut self, number: u32, host: HostId, inside: Addrs) -> Middlebox {
        let member = self.members.len() as u16;
        self.members.push(number);
        let count = self.ports.block(&self.nat);
        let block = Ports { first: self.ports.first + member * count, count };
        Middlebox::sharing(self.nat, host, inside, self.external, block)
    }

    /// The middlebox that a port belongs to.
    pub(super) fn member(&self, port: u16) -> Option<u32> {
        let member = port.checked_sub(self.ports.first)? / self.ports.block(&self.nat);
        self.members.get(usize::from(member)).copied()
    }
}

#[cfg(test)]
mod tests;
