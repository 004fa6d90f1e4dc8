//! Where every choice of a simulated world comes from.
//!
//! One trait, [`Gen`], with three sources behind it: a seeded generator for runs that look for the
//! unexpected, a fuzzer's bytes for runs that are steered, and the enumeration of all
//! choices for worlds so small that they can be searched whole. Integers only: no result depends
//! on how a machine rounds.

use core::fmt;

use dht_proto::seed::Seed;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

mod bytes;
mod exhaustive;

pub use bytes::Bytes;
pub use exhaustive::Exhaustive;

/// A source of choices.
pub trait Gen: fmt::Debug {
    /// A number below `n`; 0 if `n` is 0 or 1, without using up anything.
    fn below(&mut self, n: u32) -> u32;

    /// Whether the source has run dry. What it still gives is 0, which by convention is the
    /// quietest choice: no fault, no loss, the shortest delay.
    fn exhausted(&self) -> bool {
        false
    }
}

impl Gen for Xoshiro256PlusPlus {
    fn below(&mut self, n: u32) -> u32 {
        if n <= 1 {
            return 0;
        }
        // Multiply and shift: the bias is below 2^-32.
        ((u64::from(self.next_u32()) * u64::from(n)) >> 32) as u32
    }
}

/// A probability or any other share, as two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a fraction has nothing else")]
pub struct Ratio {
    /// How many.
    pub num: u32,
    /// Out of how many.
    pub den: u32,
}

impl Ratio {
    /// Never.
    pub const ZERO: Self = Self { num: 0, den: 1 };

    /// `num` out of 1000.
    #[must_use]
    pub const fn per_mille(num: u32) -> Self {
        Self { num, den: 1_000 }
    }

    /// `num` out of 100.
    #[must_use]
    pub const fn percent(num: u32) -> Self {
        Self { num, den: 100 }
    }

    /// Whether it is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.num == 0
    }

    /// This share of `n`, rounded down.
    #[must_use]
    pub fn of(self, n: u32) -> u32 {
        (u64::from(n) * u64::from(self.num) / u64::from(self.den.max(1))) as u32
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// What a choice is about. With a seed each has a stream of its own, so that a draw more in one
/// place shifts no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[non_exhaustive]
pub enum About {
    /// Where nodes are, and how they are attached.
    Topology,
    /// Delays of single datagrams.
    Delay,
    /// Loss, duplication, corruption of single datagrams.
    Damage,
    /// Who comes and goes.
    Churn,
    /// Faults of machines and networks.
    Fault,
    /// What users do.
    Workload,
    /// What adversaries do.
    Adversary,
    /// In which order outputs are polled.
    Order,
    /// Options of a run, before anything happens.
    Options,
}

const STREAMS: usize = About::Options as usize + 1;

impl About {
    /// Whether this is where somebody is, or what happens to each datagram and at each poll. A world
    /// makes thousands of such choices for every one that is worth steering; and only by chance is the
    /// internet as its profile has it, and not one in which every link takes longer than queries last.
    const fn is_noise(self) -> bool {
        matches!(self, Self::Topology | Self::Delay | Self::Damage | Self::Order)
    }
}

/// All choices of one world.
#[derive(Debug)]
pub struct Choices {
    seed: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Seeded(Streams),
    Given(Box<dyn Gen + Send>),
    Steered(Streams, Box<dyn Gen + Send>),
}

/// A generator for each purpose.
#[derive(Debug)]
struct Streams(Box<[Xoshiro256PlusPlus; STREAMS]>);

impl Streams {
    fn new(seed: u64) -> Self {
        let stream = |i: usize| {
            // Streams of neighbouring seeds must not overlap: spread the index over the word.
            let apart = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Xoshiro256PlusPlus::seed_from_u64(seed ^ apart.rotate_left(17))
        };
        Self(Box::new(core::array::from_fn(stream)))
    }

    #[inline]
    fn below(&mut self, about: About, n: u32) -> u32 {
        self.0.get_mut(about as usize).map_or(0, |stream| stream.below(n))
    }
}

impl Choices {
    /// Every choice follows from one number.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seed, source: Source::Seeded(Streams::new(seed)) }
    }

    /// Choices from any source, which all purposes share. `seed` is what node seeds follow from.
    #[must_use]
    pub fn from_gen(seed: u64, source: impl Gen + Send + 'static) -> Self {
        Self { seed, source: Source::Given(Box::new(source)) }
    }

    /// Choices from any source but for what follows from the seed: noise, which would use a fuzzer's
    /// bytes up before anything happened, and everything from when the source has run dry.
    #[must_use]
    pub fn steered(seed: u64, source: impl Gen + Send + 'static) -> Self {
        Self { seed, source: Source::Steered(Streams::new(seed), Box::new(source)) }
    }

    /// The number that node seeds follow from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `n`.
    #[inline]
    pub fn below(&mut self, about: About, n: u32) -> u32 {
        match &mut self.source {
            Source::Seeded(streams) => streams.below(about, n),
            Source::Given(source) => source.below(n),
            Source::Steered(streams, source) => {
                let by_chance = about.is_noise() || source.exhausted();
                if by_chance { streams.below(about, n) } else { source.below(n) }
            }
        }
    }

    /// A number from `low` to `high`, both included; `low` if they are the wrong way round.
    pub fn between(&mut self, about: About, low: u32, high: u32) -> u32 {
        low.saturating_add(self.below(about, high.saturating_sub(low).saturating_add(1)))
    }

    /// Whether something of this probability happens. Uses up nothing if it cannot.
    #[inline]
    pub fn chance(&mut self, about: About, ratio: Ratio) -> bool {
        // The last numbers count, so that a source that has run dry chooses "no".
        !ratio.is_zero() && self.below(about, ratio.den) >= ratio.den.saturating_sub(ratio.num)
    }

    /// One of the entries; `None` of an empty slice.
    pub fn pick<'a, T>(&mut self, about: About, from: &'a [T]) -> Option<&'a T> {
        let len = u32::try_from(from.len()).unwrap_or(u32::MAX);
        from.get(self.below(about, len) as usize)
    }

    /// Whether the source has run dry.
    #[must_use]
    pub fn exhausted(&self) -> bool {
        match &self.source {
            Source::Seeded(_) => false,
            Source::Given(source) | Source::Steered(_, source) => source.exhausted(),
        }
    }

    /// The seed of a node: follows from the number of the world and of the node alone.
    #[must_use]
    pub fn node_seed(&self, node: u64) -> Seed {
        let mut bytes = [0; 32];
        let apart = node.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(31);
        Xoshiro256PlusPlus::seed_from_u64(self.seed ^ apart).fill_bytes(&mut bytes);
        Seed::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_do_not_disturb_each_other() {
        let (mut a, mut b) = (Choices::seeded(7), Choices::seeded(7));
        for _ in 0..100 {
            a.below(About::Delay, 1_000);
        }
        let of = |c: &mut Choices| -> Vec<u32> {
            (0..20).map(|_| c.below(About::Damage, 1_000)).collect()
        };
        assert_eq!(of(&mut a), of(&mut b));
        assert_ne!(of(&mut a), of(&mut Choices::seeded(8)));
    }

    #[test]
    fn a_chance_comes_as_often_as_it_says() {
        let mut choices = Choices::seeded(1);
        let hits =
            (0..10_000).filter(|_| choices.chance(About::Damage, Ratio::percent(20))).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert!(!choices.chance(About::Damage, Ratio::ZERO));
        assert!(choices.chance(About::Damage, Ratio { num: 1, den: 1 }));
    }

    #[test]
    fn no_two_nodes_share_a_seed() {
        let choices = Choices::seeded(3);
        let first = |seed: &Seed| seed.stream(dht_proto::seed::Domain::NodeId).next();
        let mut words: Vec<u64> = (0..1_000).map(|i| first(&choices.node_seed(i))).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 1_000);
        assert_eq!(first(&choices.node_seed(5)), first(&Choices::seeded(3).node_seed(5)));
    }

    #[test]
    fn who_steers_is_not_asked_about_noise_and_chance_goes_on_after_him() {
        let mut steered = Choices::steered(7, Bytes::new(vec![1, 2, 3]));
        let mut seeded = Choices::seeded(7);
        let abouts = [About::Fault, About::Delay, About::Workload, About::Topology, About::Churn];
        let draws = abouts.map(|about| steered.below(about, 200));
        let noise = [About::Delay, About::Topology].map(|about| seeded.below(about, 200));
        assert_eq!(draws, [1, noise[0], 2, noise[1], 3]);
        assert!(steered.exhausted());
        let next = |choices: &mut Choices| abouts.map(|about| choices.below(about, 200));
        assert_eq!(next(&mut steered), next(&mut seeded));
    }

    #[test]
    fn dry_choices_are_the_quiet_ones() {
        let mut choices = Choices::from_gen(0, Bytes::new(Vec::new()));
        assert!(!choices.chance(About::Damage, Ratio::percent(99)));
        assert_eq!(choices.between(About::Delay, 20, 80), 20);
        assert!(choices.exhausted());
    }
}
