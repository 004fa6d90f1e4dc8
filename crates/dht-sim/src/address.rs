//! Addresses of simulated hosts.
//!
//! The n-th address of a world is a keyed permutation of n over the range in use, so addresses look
//! random, spread over all networks, and finding the host behind one takes no hash map: the
//! permutation is undone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first 20 bits of the IPv6 addresses of a [`Range::Network`]: 3fff::/20 is set aside for
/// documentation (RFC 9637), so nobody has it, and programs take it for public.
pub const NETWORK_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20);

/// The addresses that hosts may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// Public unicast addresses, about 3.6 billion.
    Internet,
    /// One IPv4 network, for simulated hosts that real programs can reach, and beside it
    /// [`NETWORK_V6`].
    Network {
        /// The first address.
        base: Ipv4Addr,
        /// Length of the prefix in bits, 1 to 30.
        prefix: u8,
    },
}

/// First octets whose networks are public unicast as a whole.
const fn is_public(octet: u8) -> bool {
    !matches!(octet, 0 | 10 | 100 | 127 | 169 | 172 | 192 | 198 | 203 | 224..)
}

/// The public first octets in order, and their number.
const PUBLIC: ([u8; 256], usize) = {
    let (mut octets, mut count, mut octet) = ([0; 256], 0, 0_u8);
    while octet < 224 {
        if is_public(octet) {
            #[expect(clippy::indexing_slicing, reason = "count <= octet, at compile time")]
            {
                octets[count] = octet;
            }
            count += 1;
        }
        octet += 1;
    }
    (octets, count)
};

/// For each first octet its place among the public ones, or [`NOT_PUBLIC`].
const PLACES: [u8; 256] = {
    let (mut places, mut place) = ([NOT_PUBLIC; 256], 0);
    while place < PUBLIC.1 {
        #[expect(clippy::indexing_slicing, reason = "octets and places, at compile time")]
        {
            places[PUBLIC.0[place] as usize] = place as u8;
        }
        place += 1;
    }
    places
};
const NOT_PUBLIC: u8 = u8::MAX;

/// A keyed permutation of the numbers below `size`, cheap both ways: it runs for every datagram.
///
/// Adding, multiplying by an odd number and folding the upper half of a word onto the lower one can
/// each be undone. They work on words just wide enough for `size`; a word that falls outside is
/// taken through once more.
#[derive(Clone, Debug)]
struct Shuffle {
    size: u64,
    mask: u64,
    /// Half the bits of a word, rounded up.
    half: u32,
    offset: u64,
    factors: [u64; 2],
    inverses: [u64; 2],
}

impl Shuffle {
    const fn new(size: u64, key: u64) -> Self {
        let bits = u64::BITS - (size - 1).leading_zeros();
        let mask = if bits == 0 { 0 } else { u64::MAX >> (u64::BITS - bits) };
        let factors = [mix(key ^ 0x9e37_79b9_7f4a_7c15) | 1, mix(key ^ 0xd1b5_4a32_d192_ed03) | 1];
        let [first, second] = factors;
        let inverses = [inverse(first), inverse(second)];
        Self { size, mask, half: bits.div_ceil(2), offset: mix(key), factors, inverses }
    }

    #[inline]
    const fn forth(&self, number: u64) -> u64 {
        let [first, second] = self.factors;
        let mut word = number;
        loop {
            word = word.wrapping_add(self.offset) & self.mask;
            word ^= word >> self.half;
            word = word.wrapping_mul(first) & self.mask;
            word ^= word >> self.half;
            word = word.wrapping_mul(second) & self.mask;
            word ^= word >> self.half;
            if word < self.size {
                return word;
            }
        }
    }

    #[inline]
    const fn back(&self, place: u64) -> u64 {
        let [first, second] = self.inverses;
        let mut word = place;
        loop {
            word ^= word >> self.half;
            word = word.wrapping_mul(second) & self.mask;
            word ^= word >> self.half;
            word = word.wrapping_mul(first) & self.mask;
            word ^= word >> self.half;
            word = word.wrapping_sub(self.offset) & self.mask;
            if word < self.size {
                return word;
            }
        }
    }
}

/// What an odd number must be multiplied by to give 1, modulo 2^64.
const fn inverse(odd: u64) -> u64 {
    // Right in the lowest three bits; Newton's step doubles them.
    let (mut inverse, mut bits) = (odd, 3);
    while bits < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// Maps host numbers to addresses and back.
#[derive(Clone, Debug)]
pub struct Plan {
    range: Range,
    key: u64,
    /// The port of every host, or 0: each has its own, which follows from its number.
    port: u16,
    /// Addresses at the start of a network that are nobody's.
    reserved: u32,
    shuffle: Shuffle,
}

impl Plan {
    /// A plan for hosts in `range`; `port` 0 gives each its own.
    #[must_use]
    pub fn new(range: Range, port: u16, key: u64) -> Self {
        let size = match range {
            Range::Internet => (PUBLIC.1 as u64) << 24,
            // The network's own address and the broadcast address are nobody's.
            Range::Network { prefix, .. } => (1 << (32 - u32::from(prefix.clamp(1, 30)))) - 2,
        };
        Self { range, key, port, reserved: 0, shuffle: Shuffle::new(size, key) }
    }

    /// The same without the first addresses of a network, but for one at least: they are for
    /// programs outside the simulation.
    #[must_use]
    pub fn reserving(mut self, addresses: u32) -> Self {
        if let Range::Network { .. } = self.range {
            self.reserved = u64::from(addresses).min(self.size() - 1) as u32;
            self.shuffle = Shuffle::new(self.size() - u64::from(self.reserved), self.key);
        }
        self
    }

    /// How many addresses there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.shuffle.size
    }

    /// The IPv4 address of host `number`, which must be below [`size`](Self::size).
    #[must_use]
    pub fn v4(&self, number: u32) -> SocketAddr {
        SocketAddr::from((self.ip_of(self.shuffle.forth(u64::from(number))), self.port_of(number)))
    }

    /// The IPv6 address of host `number`: a /64 of its own in one of many allocations.
    #[must_use]
    pub fn v6(&self, number: u32) -> SocketAddr {
        let ip = self.v6_of(self.ip_of(self.shuffle.forth(u64::from(number))));
        SocketAddr::from((ip, self.port_of(number)))
    }

    /// The number of the host at an address, if the plan could give it out.
    #[must_use]
    #[inline]
    pub fn number(&self, addr: SocketAddr) -> Option<u32> {
        let number = self.number_of_ip(addr.ip())?;
        (addr.port() == self.port_of(number)).then_some(number)
    }

    /// The number of the host at an address, whatever the port.
    #[must_use]
    #[inline]
    pub fn number_of_ip(&self, ip: IpAddr) -> Option<u32> {
        let ip = match ip {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(ip) => self.v4_of(ip)?,
        };
        u32::try_from(self.shuffle.back(self.place_of(ip)?)).ok()
    }

    /// The port of host `number`.
    #[must_use]
    #[inline]
    pub const fn port_of(&self, number: u32) -> u16 {
        if self.port != 0 {
            return self.port;
        }
        // Most hosts of the real network use ports above 1024, and none of them is special.
        let mixed = (number as u64 ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        1_025 + ((mixed * 64_000) >> 32) as u16
    }

    /// The `place`-th address of the range.
    fn ip_of(&self, place: u64) -> Ipv4Addr {
        match self.range {
            Range::Internet => {
                let octet = PUBLIC.0.get((place >> 24) as usize).copied().unwrap_or(1);
                Ipv4Addr::from((u32::from(octet) << 24) | (place as u32 & 0xff_ffff))
            }
            Range::Network { base, prefix } => {
                let mask = !0u32 << (32 - u32::from(prefix.clamp(1, 30)));
                Ipv4Addr::from((u32::from(base) & mask) + self.reserved + place as u32 + 1)
            }
        }
    }

    /// The IPv6 address of the host that has this IPv4 one.
    fn v6_of(&self, ip: Ipv4Addr) -> Ipv6Addr {
        match self.range {
            Range::Internet => {
                let [a, b, c, d] = ip.octets();
                let (bc, ad) = (u16::from_be_bytes([b, c]), u16::from_be_bytes([a, d]));
                Ipv6Addr::new(0x2600 | u16::from(a & 0x0f), bc, ad, 1, 0, 0, 0, 1)
            }
            // The last bits first, which addresses of a network differ in, to be spread over many
            // allocations; and again in the last 16 of the /64, which ids depend on most (BEP 42).
            Range::Network { .. } => {
                let ([first, ..], ip) = (NETWORK_V6.0.segments(), u32::from(ip));
                let (low, middle, high) = ((ip & 0xfff) as u16, (ip >> 12) as u16, ip >> 28);
                Ipv6Addr::new(first, low, middle, ip as u16, high as u16, 0, 0, 1)
            }
        }
    }

    /// The IPv4 address that an IPv6 address was made of, if it was.
    fn v4_of(&self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        let [_, second, third, _, fifth, ..] = ip.segments();
        let v4 = match self.range {
            Range::Internet => {
                let ([b, c], [a, d]) = (second.to_be_bytes(), third.to_be_bytes());
                Ipv4Addr::new(a, b, c, d)
            }
            Range::Network { .. } => Ipv4Addr::from(
                u32::from(second & 0xfff) | u32::from(third) << 12 | u32::from(fifth & 0xf) << 28,
            ),
        };
        (self.v6_of(v4) == ip).then_some(v4)
    }

    #[inline]
    fn place_of(&self, ip: Ipv4Addr) -> Option<u64> {
        match self.range {
            Range::Internet => {
                let place = *PLACES.get(usize::from(ip.octets()[0]))?;
                let within = u64::from(u32::from(ip) & 0xff_ffff);
                (place != NOT_PUBLIC).then_some(u64::from(place) << 24 | within)
            }
            Range::Network { base, prefix } => {
                let mask = !0u32 << (32 - u32::from(prefix.clamp(1, 30)));
                let ip = u32::from(ip);
                let place = u64::from(ip & !mask).checked_sub(u64::from(self.reserved) + 1)?;
                (ip & mask == u32::from(base) & mask && place < self.size()).then_some(place)
            }
        }
    }
}

/// Spreads a word over all its bits (the finaliser of SplitMix64).
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_proto::addr::{Addr, Scope};
    use std::collections::BTreeSet;

    fn plans() -> [Plan; 3] {
        [
            Plan::new(Range::Internet, 0, 1),
            Plan::new(Range::Network { base: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 }, 6881, 2),
            Plan::new(Range::Network { base: Ipv4Addr::new(198, 18, 0, 0), prefix: 15 }, 6881, 3),
        ]
    }

    #[test]
    fn every_host_has_its_own_address_and_is_found_by_it() {
        for plan in plans() {
            let n = 20_000.min(plan.size() as u32);
            let mut seen = BTreeSet::new();
            for number in 0..n {
                for addr in [plan.v4(number), plan.v6(number)] {
                    assert_eq!(plan.number(addr), Some(number), "{addr}");
                    assert!(seen.insert(addr));
                    let mut elsewhere = addr;
                    elsewhere.set_port(addr.port() ^ 1);
                    assert_eq!(plan.number(elsewhere), None);
                }
            }
        }
    }

    #[test]
    fn a_shuffle_of_any_size_meets_every_number_once() {
        for size in [1, 2, 3, 5, 64, 100, 1_000, 65_537] {
            for key in [0, 1, 77] {
                let shuffle = Shuffle::new(size, key);
                let mut places: Vec<_> = (0..size).map(|number| shuffle.forth(number)).collect();
                assert!((0..size).zip(&places).all(|(n, place)| shuffle.back(*place) == n));
                places.sort_unstable();
                assert!(places.into_iter().eq(0..size), "{size} {key}");
            }
        }
    }

    #[test]
    fn a_small_network_is_used_whole() {
        let base = Ipv4Addr::new(127, 9, 0, 0);
        let plan = Plan::new(Range::Network { base, prefix: 24 }, 1, 9);
        assert_eq!(plan.size(), 254);
        let ips: BTreeSet<_> = (0..254).map(|n| plan.v4(n).ip()).collect();
        assert_eq!(ips.len(), 254);
        assert!(!ips.contains(&"127.9.0.0".parse().unwrap()));
        assert_eq!(plan.number("127.9.0.0:1".parse().unwrap()), None);
        assert_eq!(plan.number("127.9.0.255:1".parse().unwrap()), None);
        assert_eq!(plan.number("127.8.0.5:1".parse().unwrap()), None);
    }

    #[test]
    fn reserved_addresses_are_nobodys() {
        let base = Ipv4Addr::new(127, 9, 0, 0);
        let plan = Plan::new(Range::Network { base, prefix: 24 }, 1, 9).reserving(4);
        assert_eq!(plan.size(), 250);
        let last: BTreeSet<_> = (0..250)
            .map(|number| match plan.v4(number).ip() {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => unreachable!(),
            })
            .collect();
        assert_eq!(last, (5..255).collect());
        assert!((0..250).all(|number| plan.number(plan.v4(number)) == Some(number)));
        assert_eq!(plan.number("127.9.0.4:1".parse().unwrap()), None);
        let tiny = Plan::new(Range::Network { base, prefix: 30 }, 1, 9).reserving(99);
        assert_eq!((tiny.size(), tiny.number(tiny.v4(0))), (1, Some(0)));
    }

    fn scope(addr: SocketAddr) -> Option<Scope> {
        let v4 = std::net::SocketAddrV4::from_socket_addr(addr).map(Addr::scope);
        v4.or_else(|| std::net::SocketAddrV6::from_socket_addr(addr).map(Addr::scope))
    }

    #[test]
    fn a_network_has_public_ipv6_addresses_of_many_allocations() {
        let base = Ipv4Addr::new(198, 18, 0, 0);
        let plan = Plan::new(Range::Network { base, prefix: 15 }, 1, 9).reserving(512);
        let mut allocations = BTreeSet::new();
        for number in 0..10_000 {
            let addr = plan.v6(number);
            assert_eq!(scope(addr), Some(Scope::Global), "{addr}");
            let IpAddr::V6(ip) = addr.ip() else { unreachable!() };
            let [first, second, ..] = ip.segments();
            assert_eq!((first, second & 0xf000), (0x3fff, 0), "{addr}");
            allocations.insert(second);
        }
        assert!(allocations.len() > 3_500, "{}", allocations.len());
        // An address that differs in one bit is another host's, or nobody's.
        let IpAddr::V6(ip) = plan.v6(7).ip() else { unreachable!() };
        for bit in 0..128 {
            let other = Ipv6Addr::from(u128::from(ip) ^ 1 << bit);
            let is_its_own = |number| plan.v6(number).ip() == IpAddr::V6(other);
            assert!(plan.number_of_ip(other.into()).is_none_or(is_its_own), "{other}");
        }
        // The first are left to others, as those of the IPv4 network are.
        for ip in ["3fff::1", "3fff:1:6120:1:c::1", "3fff:2:6120:2:c::1"] {
            assert_eq!(plan.number_of_ip(ip.parse().unwrap()), None, "{ip}");
        }
    }

    #[test]
    fn the_internet_is_public_and_spread_out() {
        let plan = Plan::new(Range::Internet, 0, 77);
        let mut subnets = BTreeSet::new();
        for number in 0..10_000 {
            for addr in [plan.v4(number), plan.v6(number)] {
                assert_eq!(scope(addr), Some(Scope::Global), "{addr}");
            }
            if let IpAddr::V4(ip) = plan.v4(number).ip() {
                subnets.insert(u32::from(ip) >> 8);
            }
        }
        assert!(subnets.len() > 9_900, "{}", subnets.len());
        assert_eq!(plan.number("10.0.0.1:6881".parse().unwrap()), None);
    }
}
