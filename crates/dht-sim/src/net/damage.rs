//! What happens to single datagrams.

use crate::choices::{About, Choices};
use crate::profile::Profile;

/// What is wrong with a datagram when it arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// Nothing.
    #[default]
    None,
    /// This bit of it is wrong, counted from the start.
    Bit(u32),
    /// Only so many bytes of it are left.
    Cut(u32),
}

impl Damage {
    /// A number for each damage.
    pub(crate) const fn code(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bit(bit) => 1 << 32 | bit as u64,
            Self::Cut(len) => 2 << 32 | len as u64,
        }
    }

    /// Does the damage.
    pub fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Bit(bit) => {
                if let Some(byte) = bytes.get_mut(bit as usize / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Cut(len) => bytes.truncate(len as usize),
        }
    }
}

/// What becomes of a datagram, as far as chance alone decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Unharmed,
    Lost,
    Twice,
    HeldBack,
    Corrupted,
    Truncated,
}

/// One draw decides everything: the shares of all fates lie side by side.
#[derive(Debug)]
pub(super) struct Lottery {
    /// Numbers to draw from.
    tickets: u32,
    /// Those below this are unharmed; dry choices are 0, so they are.
    unharmed: u32,
    /// Where the others begin, from the last number down.
    fates: [(u32, Fate); 5],
}

impl Lottery {
    /// At most as many tickets as this, however odd the shares are.
    const MOST: u64 = 1 << 30;

    pub(super) fn new(profile: &Profile) -> Self {
        let shares = [
            (profile.loss, Fate::Lost),
            (profile.duplicated, Fate::Twice),
            (profile.reordered, Fate::HeldBack),
            (profile.corrupted, Fate::Corrupted),
            (profile.truncated, Fate::Truncated),
        ];
        // As few tickets as give exact shares, so that worlds whose choices are all tried stay small.
        let tickets = shares
            .iter()
            .filter(|(share, _)| !share.is_zero())
            .try_fold(1, |all, (share, _)| least_common_multiple(all, share.den))
            .unwrap_or(Self::MOST) as u32;
        let mut next = tickets;
        let fates = shares.map(|(share, fate)| {
            next = next.saturating_sub(share.of(tickets));
            (next, fate)
        });
        Self { tickets, unharmed: next, fates }
    }

    #[inline]
    pub(super) fn draw(&self, choices: &mut Choices) -> Fate {
        if self.unharmed == self.tickets {
            return Fate::Unharmed;
        }
        let ticket = choices.below(About::Damage, self.tickets);
        if ticket < self.unharmed {
            return Fate::Unharmed;
        }
        let fate = self.fates.iter().find(|(from, _)| ticket >= *from);
        fate.map_or(Fate::Unharmed, |(_, fate)| *fate)
    }
}

/// `None` if it is too large.
fn least_common_multiple(all: u64, den: u32) -> Option<u64> {
    let den = u64::from(den.max(1));
    let (mut a, mut b) = (all, den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Some(all / a * den).filter(|lcm| *lcm <= Lottery::MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Ratio;

    #[test]
    fn every_fate_comes_as_often_as_its_share_says() {
        let profile = Profile {
            loss: Ratio::percent(10),
            duplicated: Ratio { num: 1, den: 7 },
            reordered: Ratio::per_mille(50),
            corrupted: Ratio { num: 1, den: 3 },
            truncated: Ratio::percent(2),
            ..Profile::default()
        };
        let lottery = Lottery::new(&profile);
        let mut choices = Choices::seeded(2);
        let mut counts = [0_i32; 6];
        for _ in 0..100_000 {
            counts[lottery.draw(&mut choices) as usize] += 1;
        }
        for (count, share) in counts.into_iter().zip([35_381, 10_000, 14_286, 5_000, 33_333, 2_000])
        {
            assert!((count - share).abs() < 500, "{counts:?}");
        }
    }

    #[test]
    fn dry_choices_harm_nothing_and_certain_loss_is_certain() {
        let mut dry = Choices::from_gen(0, crate::choices::Bytes::new(Vec::new()));
        assert_eq!(Lottery::new(&Profile::lossy()).draw(&mut dry), Fate::Unharmed);
        let mut profile = Profile::lossy();
        profile.loss = Ratio { num: 1, den: 1 };
        let lottery = Lottery::new(&profile);
        let mut choices = Choices::seeded(1);
        assert!((0..1_000).all(|_| lottery.draw(&mut choices) == Fate::Lost));
    }

    #[test]
    fn damage_changes_one_bit_or_cuts() {
        let mut bytes = vec![0; 4];
        Damage::Bit(17).apply(&mut bytes);
        assert_eq!(bytes, [0, 0, 2, 0]);
        Damage::Cut(3).apply(&mut bytes);
        assert_eq!(bytes, [0, 0, 2]);
        Damage::Bit(99).apply(&mut bytes);
        assert_eq!(bytes, [0, 0, 2]);
    }
}
