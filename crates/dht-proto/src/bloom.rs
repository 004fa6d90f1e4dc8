//! The bloom filter of BEP 33: how many distinct addresses seed or download a torrent.
//!
//! A filter has 2048 bits, and an address sets two of them. The union of the filters of several
//! nodes is their bitwise OR, from which the number of addresses is estimated.

use core::fmt;
use core::net::IpAddr;

use sha1_smol::Sha1;

/// Size of a filter, in bytes (BEP 33: "a 256 bytes bloom filter").
pub const FILTER_LEN: usize = 256;
/// Bits of a filter: `m`.
const BITS: u16 = 2048;
/// Bits that one address sets: `k`.
const HASHES: f64 = 2.0;

/// A set of IP addresses that can be merged and counted, but not listed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filter([u8; FILTER_LEN]);

impl Default for Filter {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({} of {BITS} bits)", u32::from(BITS) - self.zero_bits())
    }
}

impl Filter {
    /// The filter of no address.
    pub const EMPTY: Self = Self([0; FILTER_LEN]);

    /// A filter that came over the network.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; FILTER_LEN]) -> Self {
        Self(bytes)
    }

    /// The filter as it is sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; FILTER_LEN] {
        &self.0
    }

    /// Adds an address. The port does not count: BEP 33 hashes the packed IP only.
    pub fn insert(&mut self, ip: IpAddr) {
        self.insert_bits(FilterBits::of(ip));
    }

    /// Adds an address whose bits are known.
    pub fn insert_bits(&mut self, bits: FilterBits) {
        for bit in bits.0 {
            if let Some(byte) = self.0.get_mut(usize::from(bit / 8)) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    /// Makes this the filter of the union: BEP 33, "filters from multiple responses should be
    /// OR-ed".
    pub fn merge(&mut self, other: &Self) {
        for (byte, add) in self.0.iter_mut().zip(other.0) {
            *byte |= add;
        }
    }

    /// Whether the address may have been inserted. False positives exist, false negatives do not.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        FilterBits::of(ip).0.iter().all(|bit| {
            self.0.get(usize::from(bit / 8)).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
        })
    }

    /// The estimated number of addresses inserted: 0 to about 7,800, useful up to 6,000.
    ///
    /// BEP 33: `c = min(m - 1, zero bits)`, `ln(c / m) / (k * ln(1 - 1 / m))`. A filter without a
    /// zero bit counts as one with a single zero bit, so the result is always finite.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let zero_bits = self.zero_bits().clamp(1, u32::from(BITS) - 1);
        if self.0 == Self::EMPTY.0 {
            return 0.0;
        }
        let m = f64::from(BITS);
        ln(f64::from(zero_bits) / m) / (HASHES * ln(1.0 - 1.0 / m))
    }

    /// Bits that no address has set.
    #[must_use]
    pub fn zero_bits(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_zeros()).sum()
    }
}

/// The two bits that one address sets, kept so that the address is hashed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterBits([u16; 2]);

impl FilterBits {
    /// BEP 33: the SHA-1 of the packed address; its first two little-endian words, modulo 2048.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        let digest = match ip {
            IpAddr::V4(ip) => Sha1::from(ip.octets()),
            IpAddr::V6(ip) => Sha1::from(ip.octets()),
        };
        let [a, b, c, d, ..] = digest.digest().bytes();
        Self([u16::from_le_bytes([a, b]) % BITS, u16::from_le_bytes([c, d]) % BITS])
    }
}

/// The natural logarithm of a positive normal number, to the last few bits.
///
/// `core` has no `ln`. The number is split into a power of two and a fraction in [1, 2), whose
/// logarithm is `2 atanh((f - 1) / (f + 1))`; the argument is at most 1/3, so that twenty terms
/// of the series leave less than 1e-19.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let s = (fraction - 1.0) / (fraction + 1.0);
    let square = s * s;
    let series = (0..20).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    f64::from(exponent) * core::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4_part() -> Filter {
        let mut filter = Filter::EMPTY;
        (0..=255).for_each(|last| filter.insert(Ipv4Addr::new(192, 0, 2, last).into()));
        filter
    }

    fn v6_part() -> Filter {
        let mut filter = Filter::EMPTY;
        (0..1000).for_each(|last| {
            filter.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into());
        });
        filter
    }

    fn check(filter: &Filter, zero_bits: u32, estimate: f64, expected: &str) {
        assert_eq!(filter.zero_bits(), zero_bits);
        assert!((filter.estimate() - estimate).abs() < 1e-6, "{}", filter.estimate());
        for (byte, digits) in filter.as_bytes().iter().zip(expected.as_bytes().chunks(2)) {
            let digits = core::str::from_utf8(digits).unwrap();
            assert_eq!(u8::from_str_radix(digits, 16), Ok(*byte));
        }
        assert_eq!(expected.len(), 2 * FILTER_LEN);
    }

    /// BEP 33, "Test Vectors".
    #[test]
    fn bloom_filter_vectors_of_bep_33() {
        let mut both = v4_part();
        both.merge(&v6_part());
        check(&both, 619, 1_224.930_889_8, BOTH);
        check(&v4_part(), 1592, 257.854_589_3, V4_PART);
        check(&v6_part(), 788, 977.804_998_2, V6_PART);
    }

    #[test]
    fn one_address_sets_its_two_bits() {
        let ip = Ipv4Addr::new(192, 168, 1, 1).into();
        assert_eq!(FilterBits::of(ip), FilterBits([1711, 1831]));
        let mut filter = Filter::EMPTY;
        assert!(!filter.contains(ip));
        filter.insert(ip);
        assert!(filter.contains(ip));
        assert!((filter.estimate() - 1.0).abs() < 0.001);
    }

    #[test]
    fn merging_is_a_union() {
        let mut filter = v4_part();
        filter.merge(&v4_part());
        assert_eq!(filter, v4_part());
        filter.merge(&Filter::EMPTY);
        assert_eq!(filter, v4_part());
    }

    /// anacrolix/dht `TestEmptyScrapeBloomFilterEstimatedCount`, and the other end.
    #[test]
    fn empty_and_full_filters_have_finite_estimates() {
        assert!(Filter::EMPTY.estimate().abs() < f64::EPSILON);
        let full = Filter::from_bytes([0xff; FILTER_LEN]).estimate();
        assert!(full > 6_000.0 && full < 8_000.0, "{full}");
    }

    #[test]
    fn ln_agrees_with_the_standard_library() {
        for n in 1..=4096_u32 {
            let x = f64::from(n) / 2048.0;
            assert!((ln(x) - x.ln()).abs() < 1e-14, "{x}");
        }
    }

    const BOTH: &str = "\
        f6c3f5eaa07ffd91bde89f777f26fb2bff37bdb8fb2bbaa2fd3ddde7bacfff75\
        ee7ccbaefe5eedb1fbfaff67f6abff5e43ddbca3fd9b9ffdf4ffd3e9dff12d1b\
        df59db53dbe9fa5b7ff3b8fdfcde1afb8bedd7be2f3ee71ebbbfe93bcdeefe14\
        8246c2bc5dbff7e7efdcf24fd8dc7adffd8fffdfddfff7a4bbeedf5cb95ce81f\
        c7fcff1ff4ffffdfe5f7fdcbb7fd79b3fa1fc77bfe07fff905b7b7ffc7fefeff\
        e0b8370bb0cd3f5b7f2bd93feb4386cfdd6f7fd5bfaf2e9ebffffeecd67adbf7\
        c67f17efd5d75eba6ffeba7fff47a91eb1bfbb53e8abfb5762abe8ff237279bf\
        efbfeef5ffc5febfdfe5adffadfee1fb737ffffbfd9f6aeffeee76b6fd8f72ef";
    const V4_PART: &str = "\
        24c0004020043000102012743e00480037110820422110008000c0e302854835\
        a05401a4045021302a306c060001881002d8a0a3a8001901b40a800900310008\
        d2108110c2496a0028700010d804188b01415200082004088026411104a80404\
        8002002000080680828c400080cc40020c042c0494447280928041402104080d\
        4240040414a41f0205654800b0811830d2020042b002c5800004a71d0204804a\
        0028120a004c10017801490b834004044106005421000c86900a002050020351\
        0060144e900100924a1018141a028012913f0041802250042280481200002004\
        430804210101c08111c10801001080002038008211004266848606b035001048";
    const V6_PART: &str = "\
        f6c3f5eaa07fcd91bde89f776526fb2bc937b5b8b92baaa2fd3d5de5ba4abf54\
        6e6ccbaefe1ecda1fbfabb65f6abff5e435dbc22559b87fd44ffd3e0dff12d1b\
        df59da53d9a1ba5b7fd3b8ed24de1af08aac85be271ee31ebb9fe83bcdeefa14\
        8246c2bc5dbff7e76dd4f24f58dc7addf98fdbdbd9bfe7a43bee9f5cb85ce81e\
        c7fcff1ff4dffddfe4d7f5cb377c61836a1dc77bde07ba7905b7b7fbc7fa7eff\
        e0983503b0813f5b7f2b983feb4382cfdd6f7f959eaf269ebff7feecd678d9f7\
        c63f07ad45d75e3a2dfeba7fff47a91cb1a6bb13e8abfb5362abe8ef237259bb\
        ecbfeed4fec47ebecfa5a5ffadfe61fb5367ff7bed9f6aa9faea7286f98f72a7";
}
