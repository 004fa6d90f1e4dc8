//! Random choices out of what is stored: peers for a reply, infohashes for a sample (BEP 51).

use alloc::vec::Vec;

use super::pool::Pool;
use crate::config::Config;
use crate::id::{ID_LEN, InfoHash};
use crate::time::Instant;

/// A cheap generator for one reply, started from one draw of the node's own stream.
///
/// A linear congruential generator (Knuth's MMIX constants), of which the high half is used. What
/// it chooses is shown to the requester anyway; only the start must not be predictable.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(start: u64) -> Self {
        Self(start)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(super) const fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // Stores hold far less than 2^32 entries; the bias is below 2^-32 per entry.
        (((self.0 >> 32) * (bound as u64 & 0xffff_ffff)) >> 32) as usize
    }
}

/// `count` different positions out of `len`, each position equally likely; all if `count >= len`.
///
/// The positions are cut into `count` runs of nearly equal length, starting at a random one, and
/// one is taken out of each run. In a sorted list that spreads the choice: neighbouring addresses
/// seldom come together.
pub(super) fn spread(mut dice: Dice, len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    let (run, longer) = (len.checked_div(count).unwrap_or(0), len.checked_rem(count).unwrap_or(0));
    let mut start = dice.below(len);
    let mut carry = 0;
    (0..count).map(move |_| {
        // `longer` of the runs are one longer, evenly distributed.
        carry += longer;
        let extra = usize::from(carry >= count);
        carry -= extra * count;
        let chosen = start + dice.below(run + extra);
        start += run + extra;
        start -= if start >= len { len } else { 0 };
        if chosen >= len { chosen - len } else { chosen }
    })
}

/// The sample of infohashes that everybody gets until it is renewed.
///
/// Being the same for all, repeated questions do not enumerate the store (BEP 51: "the sample
/// should stay the same for the interval"). A sample that could not be filled is the whole store,
/// hides nothing, and is renewed as soon as there is more.
#[derive(Debug, Default)]
pub(super) struct Samples {
    bytes: Vec<u8>,
    taken: Option<Instant>,
}

impl Samples {
    /// The bytes that the sample takes up now, itself included.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    /// The sample: whole infohashes, one after the other.
    pub(super) fn get<V>(
        &mut self,
        now: Instant,
        torrents: &Pool<InfoHash, V>,
        dice: Dice,
        config: &Config,
    ) -> &[u8] {
        let wanted = config.max_samples.min(torrents.len());
        let fresh = self.taken.is_some_and(|taken| now.since(taken) < config.sample_interval);
        if !fresh || self.bytes.len() < wanted * ID_LEN {
            self.bytes.clear();
            for index in spread(dice, torrents.len(), wanted) {
                if let Some(info_hash) = torrents.key_at(index) {
                    self.bytes.extend_from_slice(info_hash.as_bytes());
                }
            }
            self.taken = Some(now);
        }
        &self.bytes
    }

    pub(super) fn check_invariants(&self, config: &Config) {
        assert!(self.bytes.len() <= config.max_samples * ID_LEN, "the sample is bounded");
        assert!(self.bytes.len().is_multiple_of(ID_LEN), "infohashes are whole");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Domain, Seed};

    #[test]
    fn a_spread_is_a_set_of_valid_positions() {
        for len in [0, 1, 2, 7, 50, 51, 99, 100, 500] {
            for count in [0, 1, 3, 49, 50, 500, 1000] {
                let dice = Dice::new((len * 1001 + count) as u64);
                let mut chosen: Vec<_> = spread(dice, len, count).collect();
                assert_eq!(chosen.len(), count.min(len));
                chosen.sort_unstable();
                chosen.dedup();
                assert_eq!(chosen.len(), count.min(len), "{len} {count}: no position twice");
                assert!(chosen.iter().all(|&position| position < len));
            }
        }
    }

    /// At a length where the runs differ most: half of them have one position, half have two.
    #[test]
    fn every_position_is_equally_likely() {
        let (len, count, rounds) = (75, 50, 30_000);
        let mut hits = std::vec![0_u64; len];
        let mut random = Seed::from_bytes([5; 32]).stream(Domain::Sample);
        for _ in 0..rounds {
            let dice = Dice::new(random.next());
            spread(dice, len, count).for_each(|position| hits[position] += 1);
        }
        // 20,000 each; the standard deviation is 82.
        assert!(hits.iter().all(|hits| (19_500..20_500).contains(hits)), "{hits:?}");
    }
}
