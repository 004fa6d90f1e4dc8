//! Randomness as the core sees it: one seed, one counter-mode keyed-PRF stream per purpose.
//!
//! Each stream hashes its own counter under its own key, so adding a draw in one place shifts no
//! other place, and the order in which the outputs are polled changes nothing.

use core::convert::Infallible;
use core::hash::Hasher;

use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use siphasher::sip::{self, SipHasher13};
use siphasher::sip128::{Hasher128, SipHasher24};

/// Thirty-two bytes of entropy from which every random choice of a node follows.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The seed predicts every transaction id and token, so it is never printed.
        f.write_str("Seed(..)")
    }
}

impl Seed {
    /// A seed from known bytes. Two nodes with the same seed make the same choices.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed from a cryptographically secure generator.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The stream for one purpose. `domain` must differ between purposes.
    #[must_use]
    pub fn stream(&self, domain: Domain) -> Stream {
        Stream { key: self.key(domain), counter: 0 }
    }

    /// Draws from the stream of a purpose that is needed so rarely that its key is not kept, but made
    /// anew each time: only how far it was drawn from is.
    pub(crate) fn draw<T>(
        &self,
        domain: Domain,
        drawn: &mut Drawn,
        draw: impl FnOnce(&mut Stream) -> T,
    ) -> T {
        let mut stream = Stream { key: self.key(domain), counter: drawn.0.into() };
        let value = draw(&mut stream);
        drawn.0 = stream.counter as u32;
        value
    }

    /// A hashing key for one purpose.
    #[must_use]
    pub fn key(&self, domain: Domain) -> PrfKey {
        // Both halves of the seed take part: the first half keys the hash, the second is hashed.
        let (k, rest) = self.0.split_at(16);
        let mut hasher = SipHasher24::new_with_key(&first_16(k));
        hasher.write(rest);
        hasher.write_u16(domain as u16);
        let mixed = hasher.finish128();
        PrfKey { k0: mixed.h1, k1: mixed.h2 }
    }

    /// An independent seed, for a part of the system with streams of its own.
    #[must_use]
    pub fn child(&self, domain: Domain) -> Self {
        let mut bytes = [0; 32];
        let mut stream = self.stream(domain);
        rand_core::Rng::fill_bytes(&mut stream, &mut bytes);
        Self(bytes)
    }
}

fn first_16(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(bytes);
    out
}

/// What a stream or key is for: one domain for each purpose, so that a draw more for one shifts no
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum Domain {
    /// The seed of the IPv4 node of a dual-stack DHT.
    NodeV4 = 1,
    /// The seed of the IPv6 node of a dual-stack DHT.
    NodeV6 = 2,
    /// Our own node id.
    NodeId = 3,
    /// Transaction ids.
    TransactionId = 4,
    /// Write-token secrets.
    Token = 5,
    /// Lookup targets of bucket refreshes.
    RefreshTarget = 6,
    /// Timer jitter.
    Jitter = 7,
    /// Which stored peers and infohashes a reply carries.
    Sample = 8,
    /// The memory of whom we sent to, by which strangers are told.
    Contacted = 9,
    /// The table of byte budgets.
    Throttle = 10,
    /// The sets of those who put an item.
    Announcers = 11,
    /// Which entries of a full store are compared when one has to go.
    Eviction = 12,
}

/// A key of a pseudo-random function over short messages.
#[derive(Clone, Copy)]
pub struct PrfKey {
    k0: u64,
    k1: u64,
}

impl core::fmt::Debug for PrfKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PrfKey(..)")
    }
}

impl PrfKey {
    /// Hashes a word to a place in a table (SipHash-1-3).
    ///
    /// What is hashed like this is never shown to anybody: fewer rounds are enough to keep others
    /// from choosing words that share a place, as Rust's own hash maps hold.
    #[must_use]
    #[inline]
    pub fn place(&self, word: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.k0, self.k1);
        hasher.write(&word.to_le_bytes());
        hasher.finish()
    }

    /// Hashes the concatenation of `parts` to 64 bits (SipHash-2-4).
    ///
    /// Parts are not delimited: callers use fixed-length parts, or put the variable one last.
    #[must_use]
    #[inline]
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = sip::SipHasher24::new_with_keys(self.k0, self.k1);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    }
}

/// A counter-mode stream of pseudo-random words, usable as any `rand_core` generator.
#[derive(Clone, Debug)]
pub struct Stream {
    key: PrfKey,
    counter: u64,
}

impl Stream {
    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        let word = self.key.hash(&[&self.counter.to_le_bytes()]);
        self.counter += 1;
        word
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The multiply-shift bias is below 2^-32 for every bound used here.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// How far a stream was drawn from, see [`Seed::draw`]. After 2^32 words it starts again.
#[derive(Debug, Default)]
pub(crate) struct Drawn(u32);

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Stream {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_of_each_other() {
        let seed = Seed::from_bytes([7; 32]);
        let mut a = seed.stream(Domain::TransactionId);
        let mut b = seed.stream(Domain::Jitter);
        let first = a.next();
        for _ in 0..100 {
            b.next();
        }
        let mut again = seed.stream(Domain::TransactionId);
        assert_eq!(again.next(), first);
        assert_eq!(again.next(), a.next());
        assert_ne!(seed.stream(Domain::Jitter).next(), first);
    }

    #[test]
    fn a_stream_whose_key_is_not_kept_is_the_same_stream() {
        let seed = Seed::from_bytes([7; 32]);
        let mut kept = seed.stream(Domain::Jitter);
        let mut drawn = Drawn::default();
        for words in [1, 3, 0, 2] {
            seed.draw(Domain::Jitter, &mut drawn, |stream| {
                (0..words).for_each(|_| assert_eq!(stream.next(), kept.next()));
            });
        }
    }

    #[test]
    fn every_seed_byte_matters() {
        let base = Seed::from_bytes([0; 32]).stream(Domain::NodeId).next();
        for i in 0..32 {
            let mut bytes = [0; 32];
            bytes[i] = 1;
            assert_ne!(Seed::from_bytes(bytes).stream(Domain::NodeId).next(), base, "byte {i}");
        }
    }

    #[test]
    fn below_stays_below() {
        let mut stream = Seed::from_bytes([1; 32]).stream(Domain::Jitter);
        assert_eq!(stream.below(0), 0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[stream.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn the_seed_is_not_printed() {
        assert_eq!(alloc::format!("{:?}", Seed::from_bytes([9; 32])), "Seed(..)");
    }
}
