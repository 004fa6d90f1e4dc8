//! Ranges of addresses.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use dht_sim::Range;
use dht_sim::address::NETWORK_V6;

/// An IPv4 network such as 127.0.0.0/8: a multiple of its size, with 2 to 2^31 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// 127.0.0.0/8: every address of it can be used on Linux, without privileges.
    pub const LOOPBACK: Self = Self { base: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };

    /// 198.18.0.0/15, set aside for benchmarks of networks (RFC 2544) and in use nowhere else. DHT
    /// programs take its addresses for public ones.
    pub const BENCHMARK: Self = Self { base: Ipv4Addr::new(198, 18, 0, 0), prefix: 15 };

    /// The network of the first `prefix` bits of an address. `None` unless `prefix` is 1 to 30.
    #[must_use]
    pub fn new(addr: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = mask(prefix)?;
        Some(Self { base: Ipv4Addr::from(u32::from(addr) & mask), prefix })
    }

    /// How many bits all addresses share.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address lies within.
    #[must_use]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        mask(self.prefix).is_some_and(|mask| u32::from(ip) & mask == u32::from(self.base))
    }

    /// How many addresses at the start are left to real programs: one in 256.
    #[must_use]
    pub const fn reserved(&self) -> u32 {
        (1 << (32 - self.prefix as u32)) / 256
    }

    /// The first address of a real program: the first but one of the range.
    #[must_use]
    pub fn first_client(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + 1)
    }

    /// The network of the addresses that are left to real programs, as far as it is one.
    pub(crate) fn clients(self) -> String {
        format!("{}/{}", self.base, (self.prefix + 8).min(32))
    }

    /// The same for the simulator.
    #[must_use]
    pub const fn range(&self) -> Range {
        Range::Network { base: self.base, prefix: self.prefix }
    }
}

/// The IPv6 addresses of all nodes, whatever their IPv4 range: 3fff::/20.
#[must_use]
pub fn network_v6() -> String {
    let (base, prefix) = NETWORK_V6;
    format!("{base}/{prefix}")
}

/// The IPv6 address of a real program.
#[must_use]
pub fn first_client_v6() -> Ipv6Addr {
    Ipv6Addr::from(u128::from(NETWORK_V6.0) + 1)
}

pub(crate) fn is_network_v6(ip: Ipv6Addr) -> bool {
    let (base, prefix) = NETWORK_V6;
    (u128::from(ip) ^ u128::from(base)).leading_zeros() >= u32::from(prefix)
}

pub(crate) fn middle_of_network_v6() -> Ipv6Addr {
    let (base, prefix) = NETWORK_V6;
    Ipv6Addr::from(u128::from(base) | 1 << (127 - prefix))
}

/// The bits that all addresses of a network share.
const fn mask(prefix: u8) -> Option<u32> {
    if prefix >= 1 && prefix <= 30 { Some(!0 << (32 - prefix as u32)) } else { None }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseCidrError;

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected an IPv4 network with 1 to 30 bits, for example 127.0.0.0/8 or 198.18.0.0/15",
        )
    }
}

impl core::error::Error for ParseCidrError {}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    /// Reads `127.0.0.0/8`. Bits behind the prefix must be 0: they would be a typing error.
    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (addr, prefix) = text.split_once('/').ok_or(ParseCidrError)?;
        let addr: Ipv4Addr = addr.parse().map_err(|_| ParseCidrError)?;
        let prefix: u8 = prefix.parse().map_err(|_| ParseCidrError)?;
        Self::new(addr, prefix).filter(|cidr| cidr.base == addr).ok_or(ParseCidrError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for text in ["127.0.0.0/8", "198.18.0.0/15", "10.1.2.4/30", "128.0.0.0/1"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["", "127.0.0.0", "127.0.0.0/0", "127.0.0.0/31", "127.0.0.1/8", "::1/8", "a/8"]
        {
            assert_eq!(text.parse::<Cidr>(), Err(ParseCidrError), "{text}");
        }
        assert_eq!("198.18.0.0/15".parse(), Ok(Cidr::BENCHMARK));
    }

    #[test]
    fn a_network_knows_its_addresses() {
        let net = Cidr::BENCHMARK;
        assert!(net.contains(Ipv4Addr::new(198, 19, 255, 255)));
        assert!(!net.contains(Ipv4Addr::new(198, 20, 0, 0)));
        assert_eq!((net.reserved(), net.first_client()), (512, Ipv4Addr::new(198, 18, 0, 1)));
    }

    #[test]
    fn the_ipv6_network_knows_its_addresses() {
        assert_eq!(network_v6(), "3fff::/20");
        assert_eq!(first_client_v6().to_string(), "3fff::1");
        assert_eq!(middle_of_network_v6().to_string(), "3fff:800::");
        for (ip, is_in) in
            [("3fff::1", true), ("3fff:fff::", true), ("3fff:1000::", false), ("3ffe::", false)]
        {
            assert_eq!(is_network_v6(ip.parse().unwrap()), is_in, "{ip}");
        }
    }
}
