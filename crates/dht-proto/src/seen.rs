//! Who is surely not among those seen: a Bloom filter that spares looks at all of them.

use core::net::IpAddr;

use crate::addr::Addr;
use crate::ahead::ReadAhead;

/// 1,024 bits, two for each number seen. Whoever makes addresses that meet in it makes us look, as if
/// there were no filter, and no more.
#[derive(Debug)]
pub(crate) struct Seen([u64; 16]);

impl Seen {
    pub(crate) const NOTHING: Self = Self([0; 16]);

    pub(crate) fn add(&mut self, number: u64) {
        for (word, bit) in Self::bits(number) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Certain if it is false.
    pub(crate) fn may_have(&self, number: u64) -> bool {
        let is_set =
            |(word, bit): (usize, u64)| self.0.get(word).is_some_and(|word| word & bit != 0);
        Self::bits(number).into_iter().all(is_set)
    }

    /// See `Dht::read_ahead`.
    pub(crate) fn read_ahead(&self, ahead: &mut impl ReadAhead) {
        ahead.line(&self.0[0]);
        ahead.line(&self.0[8]);
    }

    fn bits(number: u64) -> [(usize, u64); 2] {
        // The multiplier is 2^64 over the golden ratio: it spreads numbers that follow each other.
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [hash >> 54, hash >> 44 & 1023].map(|bit| ((bit >> 6) as usize, 1 << (bit & 63)))
    }
}

/// An IP address as a number.
fn ip_number<A: Addr>(addr: A) -> u64 {
    match addr.ip() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip) as u64 ^ addr.subnet(),
    }
}

/// An IP address and port as a number.
pub(crate) fn endpoint_number<A: Addr>(addr: A) -> u64 {
    ip_number(addr) ^ (u64::from(addr.port()) << 32)
}

#[cfg(test)]
mod tests {
    use core::net::{SocketAddrV4, SocketAddrV6};

    use super::*;

    #[test]
    fn who_was_seen_is_known_and_few_others_are() {
        let mut seen = Seen::NOTHING;
        (0..150).for_each(|number| seen.add(number * 7_919));
        assert!((0..150).all(|number| seen.may_have(number * 7_919)));
        let taken = (0..10_000).filter(|number| seen.may_have(number * 104_729 + 1)).count();
        assert!((1..1_500).contains(&taken), "{taken} of 10,000 strangers");
        assert!(!(0..10_000).any(|number| Seen::NOTHING.may_have(number)));
    }

    #[test]
    fn ports_and_addresses_count() {
        let v4 = |text: &str| text.parse::<SocketAddrV4>().unwrap();
        assert_eq!(ip_number(v4("1.2.3.4:5")), ip_number(v4("1.2.3.4:6")));
        assert_ne!(endpoint_number(v4("1.2.3.4:5")), endpoint_number(v4("1.2.3.4:6")));
        let v6 = |text: &str| text.parse::<SocketAddrV6>().unwrap();
        assert_ne!(ip_number(v6("[2001:db8::1]:5")), ip_number(v6("[2001:db8:1::1]:5")));
    }
}
