//! Socket addresses of one family: compact form, subnets, and which addresses are believed.
//!
//! [`Addr`] is sealed and implemented for [`SocketAddrV4`] and [`SocketAddrV6`] only, so a v6
//! contact cannot enter a v4 table.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::id::ID_LEN;

mod sealed {
    #[expect(unnameable_types, reason = "naming it is what sealing forbids")]
    pub trait Sealed {}
    impl Sealed for core::net::SocketAddrV4 {}
    impl Sealed for core::net::SocketAddrV6 {}
}

/// An address family of the DHT (BEP 32: two separate networks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two IP versions")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address. IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn of(addr: &SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// How far an address can be reached from. Ordered from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the order is the meaning")]
pub enum Scope {
    /// Never a unicast peer: unspecified, multicast, broadcast, documentation, reserved.
    Invalid,
    /// This machine.
    Loopback,
    /// This link or site: RFC 1918, RFC 6598, link-local, unique local.
    Private,
    /// The internet.
    Global,
}

/// A socket address of one family.
pub trait Addr:
    Copy + Eq + Ord + core::hash::Hash + fmt::Debug + fmt::Display + sealed::Sealed + 'static
{
    /// The compact form: address then port, network byte order (BEP 5 "Contact Encoding", BEP 32).
    type Compact: Copy + Eq + Ord + core::hash::Hash + fmt::Debug + AsRef<[u8]> + 'static;

    /// Which family this is.
    const FAMILY: Family;
    /// Length of the compact form: 6 or 18 bytes.
    const COMPACT_LEN: usize;
    /// What precedes a compact form that is a bencoded string: `6:` or `18:`.
    const COMPACT_PREFIX: &'static [u8];
    /// Length of a compact node, id then address: 26 or 38 bytes.
    const NODE_LEN: usize = ID_LEN + Self::COMPACT_LEN;
    /// The longest datagram sent to this family: no usual path fragments it.
    const MAX_DATAGRAM: usize;
    /// The most peers in one `values` list: eight nodes fit beside them into 1024 bytes (BEP 32).
    const MAX_VALUES: usize;
    /// The same beside the two filters of a scrape (BEP 33).
    const MAX_VALUES_WITH_SCRAPE: usize;

    /// The address, if it is of this family. IPv4-mapped IPv6 addresses count as IPv4.
    fn from_socket_addr(addr: SocketAddr) -> Option<Self>;
    /// The address in the common type.
    fn socket_addr(self) -> SocketAddr;
    /// The IP address.
    fn ip(self) -> IpAddr;
    /// The UDP or TCP port.
    fn port(self) -> u16;
    /// The same IP address with another port.
    #[must_use]
    fn with_port(self, port: u16) -> Self;
    /// The compact form.
    fn compact(self) -> Self::Compact;
    /// The address that a compact form stands for.
    fn from_compact(compact: Self::Compact) -> Self;
    /// Reads a compact form of exactly [`Addr::COMPACT_LEN`] bytes.
    fn read_compact(bytes: &[u8]) -> Option<Self>;
    /// The network that one operator can be expected to hold whole: /24, or /64 for IPv6.
    ///
    /// Left-aligned, so that shifting right compares wider networks.
    fn subnet(self) -> u64;
    /// How far the address can be reached from.
    fn scope(self) -> Scope;

    /// Whether a node can be at this address at all.
    #[inline]
    fn is_possible(self) -> bool {
        self.port() != 0 && self.scope() != Scope::Invalid
    }

    /// Whom the address speaks for, as far as addresses tell people apart: one [`subnet`](Self::subnet)
    /// is one operator. In a local network each host counts, whatever its port.
    fn operator(self) -> u64 {
        match self.ip() {
            _ if self.scope() == Scope::Global => self.subnet(),
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            // Hosts of a local network share their /64.
            IpAddr::V6(ip) => u128::from(ip) as u64,
        }
    }

    /// Whether this address, told by a node at `teller`, can be a peer: valid, with a port, and
    /// reachable at least as widely as the teller itself.
    ///
    /// A node on the internet that hands out loopback or private addresses is wrong or lying.
    fn is_credible_from(self, teller: Self) -> bool {
        self.is_credible_in(teller.scope())
    }

    /// The same, told by a node of either family at an address of this scope.
    #[inline]
    fn is_credible_in(self, teller: Scope) -> bool {
        self.is_possible() && self.scope() >= teller
    }
}

impl Addr for SocketAddrV4 {
    type Compact = [u8; 6];

    const FAMILY: Family = Family::V4;
    const COMPACT_LEN: usize = 6;
    const COMPACT_PREFIX: &'static [u8] = b"6:";
    const MAX_DATAGRAM: usize = 1_400;
    const MAX_VALUES: usize = 50;
    const MAX_VALUES_WITH_SCRAPE: usize = 20;

    fn from_socket_addr(addr: SocketAddr) -> Option<Self> {
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Some(Self::new(ip, addr.port())),
            IpAddr::V6(_) => None,
        }
    }

    fn socket_addr(self) -> SocketAddr {
        SocketAddr::V4(self)
    }

    fn ip(self) -> IpAddr {
        IpAddr::V4(*Self::ip(&self))
    }

    fn port(self) -> u16 {
        Self::port(&self)
    }

    fn with_port(self, port: u16) -> Self {
        Self::new(*Self::ip(&self), port)
    }

    fn compact(self) -> [u8; 6] {
        let [a, b, c, d] = Self::ip(&self).octets();
        let [high, low] = Self::port(&self).to_be_bytes();
        [a, b, c, d, high, low]
    }

    fn from_compact(compact: [u8; 6]) -> Self {
        let [a, b, c, d, high, low] = compact;
        Self::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
    }

    fn read_compact(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_compact)
    }

    fn subnet(self) -> u64 {
        u64::from(u32::from(*Self::ip(&self)) & 0xffff_ff00) << 32
    }

    #[inline]
    fn scope(self) -> Scope {
        scope_v4(*Self::ip(&self))
    }
}

impl Addr for SocketAddrV6 {
    type Compact = [u8; 18];

    const FAMILY: Family = Family::V6;
    const COMPACT_LEN: usize = 18;
    const COMPACT_PREFIX: &'static [u8] = b"18:";
    const MAX_DATAGRAM: usize = 1_232;
    const MAX_VALUES: usize = 28;
    const MAX_VALUES_WITH_SCRAPE: usize = 8;

    fn from_socket_addr(addr: SocketAddr) -> Option<Self> {
        match addr.ip().to_canonical() {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(Self::new(ip, addr.port(), 0, 0)),
        }
    }

    fn socket_addr(self) -> SocketAddr {
        SocketAddr::V6(self)
    }

    fn ip(self) -> IpAddr {
        IpAddr::V6(*Self::ip(&self))
    }

    fn port(self) -> u16 {
        Self::port(&self)
    }

    fn with_port(self, port: u16) -> Self {
        Self::new(*Self::ip(&self), port, 0, 0)
    }

    fn compact(self) -> [u8; 18] {
        let mut compact = [0; 18];
        let (ip, port) = compact.split_at_mut(16);
        ip.copy_from_slice(&Self::ip(&self).octets());
        port.copy_from_slice(&Self::port(&self).to_be_bytes());
        compact
    }

    fn from_compact(compact: [u8; 18]) -> Self {
        let (ip, port) = compact.split_at(16);
        let mut octets = [0; 16];
        octets.copy_from_slice(ip);
        let port = port.try_into().map_or(0, u16::from_be_bytes);
        Self::new(Ipv6Addr::from(octets), port, 0, 0)
    }

    fn read_compact(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_compact)
    }

    fn subnet(self) -> u64 {
        (u128::from(*Self::ip(&self)) >> 64) as u64
    }

    fn scope(self) -> Scope {
        scope_v6(*Self::ip(&self))
    }
}

/// First octets that say all: whoever has one of them is on the internet.
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
const GLOBAL_OCTETS: [bool; 256] = {
    let mut global = [true; 256];
    let mut rest: &[u8] = &[0, 10, 100, 127, 169, 172, 192, 198, 203];
    while let [octet, others @ ..] = rest {
        global[*octet as usize] = false;
        rest = others;
    }
    let mut reserved = 224;
    while reserved < global.len() {
        global[reserved] = false;
        reserved += 1;
    }
    global
};

#[inline]
fn scope_v4(ip: Ipv4Addr) -> Scope {
    let [first, ..] = ip.octets();
    let is_global = GLOBAL_OCTETS.get(usize::from(first)).is_some_and(|global| *global);
    if is_global { Scope::Global } else { scope_v4_by_all(ip) }
}

fn scope_v4_by_all(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [127, ..] => Scope::Loopback,
        [10, ..] | [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => {
            Scope::Private
        }
        [0 | 224.., ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Scope::Invalid
        }
        // 198.18.0.0/15 (benchmarking) stays global: test networks stand on it.
        _ => Scope::Global,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    let [first, second, ..] = ip.segments();
    if ip.is_loopback() {
        Scope::Loopback
    } else if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80 {
        Scope::Private
    } else if first & 0xe000 != 0x2000 || (first, second) == (0x2001, 0x0db8) {
        // Only 2000::/3 is allocated for global unicast (RFC 4291, IANA). 3fff::/20 (documentation)
        // stays global, like 198.18.0.0/15: test networks stand on it.
        Scope::Invalid
    } else {
        Scope::Global
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> SocketAddrV6 {
        text.parse().unwrap()
    }

    #[test]
    fn compact_forms_round_trip() {
        let a = v4("1.2.3.4:6881");
        assert_eq!(a.compact(), [1, 2, 3, 4, 0x1a, 0xe1]);
        assert_eq!(SocketAddrV4::read_compact(&a.compact()), Some(a));
        assert_eq!(SocketAddrV4::read_compact(&[0; 7]), None);
        let b = v6("[2001:db8::1]:6881");
        assert_eq!(SocketAddrV6::read_compact(&b.compact()), Some(b));
        assert_eq!(SocketAddrV6::read_compact(&[0; 6]), None);
    }

    #[test]
    fn mapped_addresses_are_v4() {
        let mapped: SocketAddr = "[::ffff:1.2.3.4]:5".parse().unwrap();
        assert_eq!(SocketAddrV4::from_socket_addr(mapped), Some(v4("1.2.3.4:5")));
        assert_eq!(SocketAddrV6::from_socket_addr(mapped), None);
        assert_eq!(Family::of(&mapped), Family::V4);
    }

    #[test]
    fn scopes() {
        for (text, scope) in [
            ("127.0.0.1:1", Scope::Loopback),
            ("10.0.0.1:1", Scope::Private),
            ("100.64.0.1:1", Scope::Private),
            ("100.128.0.1:1", Scope::Global),
            ("169.254.1.1:1", Scope::Private),
            ("192.168.1.1:1", Scope::Private),
            ("198.18.0.1:1", Scope::Global),
            ("8.8.8.8:1", Scope::Global),
            ("0.1.2.3:1", Scope::Invalid),
            ("224.0.0.1:1", Scope::Invalid),
            ("255.255.255.255:1", Scope::Invalid),
        ] {
            assert_eq!(v4(text).scope(), scope, "{text}");
        }
        for (text, scope) in [
            ("[::1]:1", Scope::Loopback),
            ("[fd00::1]:1", Scope::Private),
            ("[fe80::1]:1", Scope::Private),
            ("[2600::1]:1", Scope::Global),
            ("[3fff::1]:1", Scope::Global),
            ("[2001:db8::1]:1", Scope::Invalid),
            ("[::]:1", Scope::Invalid),
            ("[ff02::1]:1", Scope::Invalid),
        ] {
            assert_eq!(v6(text).scope(), scope, "{text}");
        }
    }

    #[test]
    fn the_first_octet_says_what_all_do() {
        let parts = [0, 2, 16, 31, 51, 64, 100, 113, 127, 168, 254, 255];
        for first in 0..=255_u8 {
            let ips =
                parts.iter().flat_map(|second| parts.iter().map(move |third| (second, third)));
            let mut ips = ips.map(|(second, third)| Ipv4Addr::new(first, *second, *third, 1));
            let is_global = GLOBAL_OCTETS[usize::from(first)];
            assert!(ips.clone().all(|ip| scope_v4(ip) == scope_v4_by_all(ip)), "{first}");
            assert_eq!(is_global, ips.all(|ip| scope_v4_by_all(ip) == Scope::Global), "{first}");
        }
    }

    #[test]
    fn the_internet_may_not_hand_out_private_addresses() {
        let internet = v4("8.8.8.8:1");
        let lan = v4("192.168.0.1:1");
        let host = v4("127.0.0.1:1");
        assert!(!lan.is_credible_from(internet));
        assert!(!host.is_credible_from(lan));
        assert!(internet.is_credible_from(host) && internet.is_credible_from(internet));
        assert!(host.is_credible_from(host));
        assert!(!v4("8.8.8.8:0").is_credible_from(internet));
    }

    #[test]
    fn subnets() {
        assert_eq!(v4("1.2.3.4:1").subnet(), v4("1.2.3.99:7").subnet());
        assert_ne!(v4("1.2.3.4:1").subnet(), v4("1.2.4.4:1").subnet());
        assert_eq!(v6("[2600:1:2:3::1]:1").subnet(), v6("[2600:1:2:3:9::1]:1").subnet());
        assert_ne!(v6("[2600:1:2:3::1]:1").subnet(), v6("[2600:1:2:4::1]:1").subnet());
    }
}
