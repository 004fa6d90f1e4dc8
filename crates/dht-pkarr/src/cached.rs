//! Packets as caches keep them: with the time when they were last seen.

use alloc::vec::Vec;

use crate::packet::{PacketError, SignedPacket};
use crate::time::Timestamp;
use crate::ttl::TtlRange;

/// A time of last sight this far in the future, in microseconds, is the fault of some clock.
const CLOCK_SKEW_MICROS: u64 = 60_000_000;

/// A packet, and when it was last seen in the DHT or at a relay.
///
/// Whether a packet is fresh depends on when it was seen, not on when it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedPacket {
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// The packet.
    pub packet: SignedPacket,
}

impl CachedPacket {
    /// A packet that is seen now.
    #[must_use]
    pub const fn new(packet: SignedPacket, now: Timestamp) -> Self {
        Self { last_seen: now, packet }
    }

    /// As the reference implementation keeps it: the time last seen, eight bytes, then the packet.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.packet.as_bytes().len());
        bytes.extend_from_slice(&self.last_seen.as_micros().to_be_bytes());
        bytes.extend_from_slice(self.packet.as_bytes());
        bytes
    }

    /// Reads back [`CachedPacket::to_bytes`] and verifies the packet.
    ///
    /// A time of last sight in the future is not believed: the packet is then taken as expired.
    ///
    /// # Errors
    /// If the bytes are no packet.
    pub fn from_bytes(bytes: &[u8], now: Timestamp) -> Result<Self, PacketError> {
        let (last_seen, rest) = bytes.split_first_chunk().ok_or(PacketError::TooShort)?;
        let last_seen = Timestamp::from_micros(u64::from_be_bytes(*last_seen))
            .filter(|seen| *seen <= now.plus_micros(CLOCK_SKEW_MICROS))
            .unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Self { last_seen, packet: SignedPacket::from_bytes(rest)? })
    }

    /// Takes the place of this packet, unless this one is newer. The same packet counts as seen when it
    /// was seen last. Returns whether it is `other` now.
    pub fn update(&mut self, other: Self) -> bool {
        if self.packet.more_recent_than(&other.packet) {
            return false;
        }
        let seen_before = (self.packet == other.packet).then_some(self.last_seen);
        *self = other;
        self.last_seen = seen_before.map_or(self.last_seen, |before| before.max(self.last_seen));
        true
    }

    /// For how many more seconds the packet may be used; 0 when it has expired.
    #[must_use]
    pub fn expires_in(&self, now: Timestamp, range: TtlRange) -> u32 {
        let age = u32::try_from(now.secs_since(self.last_seen)).unwrap_or(u32::MAX);
        self.packet.ttl(range).saturating_sub(age)
    }

    /// Whether the packet must be looked up again before it is used.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp, range: TtlRange) -> bool {
        self.expires_in(now, range) == 0
    }

    /// Whether it was seen so long ago that it is worth a look whether there is a newer one. What was
    /// seen a moment ago is not: a name in use is asked for often.
    #[must_use]
    pub fn wants_refresh(&self, now: Timestamp, range: TtlRange) -> bool {
        now.secs_since(self.last_seen) >= u64::from(range.min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    fn packet(ttls: &[u32]) -> SignedPacket {
        let builder = ttls.iter().fold(SignedPacket::builder(), |builder, ttl| {
            builder.a("@", [192, 0, 2, 1].into(), *ttl)
        });
        builder.sign(&Keypair::from_secret(&[1; 32]), Timestamp::from_secs(5)).unwrap()
    }

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn the_shortest_lived_record_decides_within_the_range() {
        let range = TtlRange::default();
        assert_eq!((range.min(), range.max()), (300, 86_400));
        for (ttls, kept) in [
            (&[][..], 300),
            (&[1], 300),
            (&[3_600], 3_600),
            (&[7_200, 3_600, 9_999], 3_600),
            (&[u32::MAX], 86_400),
        ] {
            assert_eq!(packet(ttls).ttl(range), kept, "{ttls:?}");
        }
        // A range the wrong way round is no panic.
        assert_eq!(packet(&[60]).ttl(TtlRange::new(100, 50)), 100);
    }

    #[test]
    fn a_packet_expires_by_when_it_was_seen() {
        let cached = CachedPacket::new(packet(&[3_600]), secs(1_000_000));
        let left = |now| cached.expires_in(secs(now), TtlRange::default());
        assert_eq!(left(1_000_000), 3_600);
        assert_eq!(left(1_003_599), 1);
        assert_eq!(left(1_003_600), 0);
        assert_eq!(left(u64::MAX), 0);
        assert_eq!(left(0), 3_600, "the clock went back");
        assert!(cached.is_expired(secs(1_003_600), TtlRange::default()));
    }

    #[test]
    fn bytes_read_back() {
        let now = secs(1_700_000_000);
        let cached = CachedPacket::new(packet(&[60]), now);
        let bytes = cached.to_bytes();
        assert_eq!(bytes[..8], 1_700_000_000_000_000_u64.to_be_bytes());
        assert_eq!(&bytes[8..], cached.packet.as_bytes());
        assert_eq!(CachedPacket::from_bytes(&bytes, now), Ok(cached));
        let skewed = CachedPacket::from_bytes(&bytes, secs(1_700_000_000 - 60)).unwrap();
        assert_eq!(skewed.last_seen, now);
        let ahead = CachedPacket::from_bytes(&bytes, secs(1_700_000_000 - 61)).unwrap();
        assert_eq!(ahead.last_seen, Timestamp::UNIX_EPOCH);
        let mut no_time = bytes.clone();
        no_time[..8].fill(0xff);
        assert!(
            CachedPacket::from_bytes(&no_time, now).unwrap().is_expired(now, TtlRange::default())
        );
        let mut forged = bytes;
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(CachedPacket::from_bytes(&forged, now), Err(PacketError::Signature));
        assert_eq!(CachedPacket::from_bytes(&[0; 7], now), Err(PacketError::TooShort));
    }
}
