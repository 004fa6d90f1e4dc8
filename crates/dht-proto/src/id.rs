//! Points of the 160-bit key space: node ids, infohashes, item ids, and the XOR metric (BEP 5).

use core::fmt;
use core::str::FromStr;

use sha1_smol::Sha1;

pub mod bep42;

/// Length of every id and hash of the DHT, in bytes.
pub const ID_LEN: usize = 20;

/// The text is not forty hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected 40 hexadecimal digits")
    }
}

impl core::error::Error for ParseIdError {}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_LEN]);

        impl $name {
            /// Wraps twenty bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
                Self(bytes)
            }

            /// Wraps a slice of exactly twenty bytes.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The twenty bytes.
            #[must_use]
            #[inline]
            pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
                &self.0
            }

            /// The same point as a lookup target.
            #[must_use]
            #[inline]
            pub const fn target(self) -> Target {
                Target(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}..)"), a, b, c, d)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id_type! {
    /// The identity of a node (BEP 5, "Overview").
    NodeId
}
id_type! {
    /// The key under which peers are announced: a SHA-1, or a truncated SHA-256 (BEP 5, BEP 52).
    InfoHash
}
id_type! {
    /// The key under which an item is stored: the SHA-1 of its value, or of key and salt (BEP 44).
    ItemId
}
id_type! {
    /// A point of the key space that a lookup walks towards, whatever is looked for there.
    Target
}

impl NodeId {
    /// XOR distance to a target.
    #[must_use]
    #[inline]
    pub fn distance(self, target: Target) -> Distance {
        Distance::between(&self.0, &target.0)
    }
}

impl Target {
    /// The target as a node id, for ids that are made rather than met (refresh targets).
    #[must_use]
    pub const fn node_id(self) -> NodeId {
        NodeId(self.0)
    }

    /// The target as an infohash, for walks made with get_peers.
    #[must_use]
    pub const fn info_hash(self) -> InfoHash {
        InfoHash(self.0)
    }

    /// The target as an item id.
    #[must_use]
    pub const fn item_id(self) -> ItemId {
        ItemId(self.0)
    }
}

impl ItemId {
    /// The id of an immutable item: SHA-1 of the bencoded value (BEP 44, "Immutable items").
    #[must_use]
    pub fn of_immutable(bencoded_value: &[u8]) -> Self {
        Self(Sha1::from(bencoded_value).digest().bytes())
    }

    /// The id of a mutable item: SHA-1 of public key and salt (BEP 44, "Mutable items").
    #[must_use]
    pub fn of_mutable(public_key: &[u8; 32], salt: &[u8]) -> Self {
        let mut sha1 = Sha1::new();
        sha1.update(public_key);
        sha1.update(salt);
        Self(sha1.digest().bytes())
    }
}

/// XOR distance between two points, ordered as a 160-bit big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Distance {
    high: u64,
    mid: u64,
    low: u32,
}

impl Distance {
    /// Distance zero: the points are the same.
    pub const ZERO: Self = Self { high: 0, mid: 0, low: 0 };
    /// The greatest distance.
    pub const MAX: Self = Self { high: u64::MAX, mid: u64::MAX, low: u32::MAX };

    /// The distance between two points.
    #[must_use]
    #[inline]
    pub fn between(a: &[u8; ID_LEN], b: &[u8; ID_LEN]) -> Self {
        let (a, b) = (words(a), words(b));
        Self { high: a.0 ^ b.0, mid: a.1 ^ b.1, low: a.2 ^ b.2 }
    }

    /// The first 64 bits, which are enough to tell all but forged neighbours apart.
    #[inline]
    pub(crate) const fn high(self) -> u64 {
        self.high
    }

    /// The distance as a share of the key space, 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are plenty for a density")]
        let (high, mid) = (self.high as f64, self.mid as f64);
        (high + mid / TWO_64) / TWO_64
    }

    /// Number of leading bits that the two points share, 0 to 160.
    #[must_use]
    #[inline]
    pub const fn leading_zeros(self) -> u32 {
        if self.high != 0 {
            self.high.leading_zeros()
        } else if self.mid != 0 {
            64 + self.mid.leading_zeros()
        } else {
            128 + self.low.leading_zeros()
        }
    }
}

/// 2^64.
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// The id as big-endian words: comparing them compares the id as a number.
#[inline]
fn words(id: &[u8; ID_LEN]) -> (u64, u64, u32) {
    let (high, rest) = id.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let (mid, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let low = rest.first_chunk().unwrap_or(&[0; 4]);
    (u64::from_be_bytes(*high), u64::from_be_bytes(*mid), u32::from_be_bytes(*low))
}

fn parse_hex(text: &str) -> Result<[u8; ID_LEN], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * ID_LEN {
        return Err(ParseIdError);
    }
    let mut bytes = [0; ID_LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return Err(ParseIdError) };
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, ParseIdError> {
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(ParseIdError)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn id(first: u8, last: u8) -> [u8; ID_LEN] {
        let mut bytes = [0; ID_LEN];
        bytes[0] = first;
        bytes[19] = last;
        bytes
    }

    #[test]
    fn distance_orders_like_a_big_endian_number() {
        let zero = [0; ID_LEN];
        let near = Distance::between(&zero, &id(0, 1));
        let far = Distance::between(&zero, &id(0x80, 0));
        assert!(Distance::ZERO < near && near < far && far < Distance::MAX);
        assert_eq!(near.leading_zeros(), 159);
        assert_eq!(far.leading_zeros(), 0);
        assert_eq!(Distance::ZERO.leading_zeros(), 160);
        let mut mid = zero;
        mid[9] = 0x10;
        assert_eq!(Distance::between(&zero, &mid).leading_zeros(), 75);
    }

    #[test]
    fn hex_round_trips_and_refuses_the_rest() {
        let text = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401";
        assert_eq!(text.parse::<NodeId>().unwrap().to_string(), text);
        assert!(text.to_uppercase().parse::<NodeId>().is_ok());
        for bad in ["", "5f", &text[1..], &(text.to_string() + "0"), &text.replace('5', "g")] {
            assert_eq!(bad.parse::<NodeId>(), Err(ParseIdError), "{bad}");
        }
        assert!("é".repeat(20).parse::<NodeId>().is_err());
    }

    #[test]
    fn item_ids_follow_bep_44() {
        let hello = ItemId::of_immutable(b"12:Hello World!");
        assert_eq!(hello.to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }
}
