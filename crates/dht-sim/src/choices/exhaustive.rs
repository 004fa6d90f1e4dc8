//! All choices, one run after the other.

use std::sync::{Arc, Mutex, PoisonError};

use super::Gen;

/// Enumerates every sequence of choices of a small world, like an odometer: the last choice turns
/// fastest. Run the world once per [`next_run`](Self::next_run) with a clone of it.
///
/// ```
/// use dht_sim::choices::{Exhaustive, Gen};
///
/// let mut seen = Vec::new();
/// let mut all = Exhaustive::new();
/// while all.next_run() {
///     let mut choices = all.clone();
///     seen.push((choices.below(2), choices.below(3)));
/// }
/// assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exhaustive(Arc<Mutex<Odometer>>);

#[derive(Debug, Default)]
struct Odometer {
    started: bool,
    /// The choice made at each step, and among how many.
    digits: Vec<(u32, u32)>,
    at: usize,
}

impl Exhaustive {
    /// Before the first run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves on to the next sequence of choices; `false` once all have been made.
    pub fn next_run(&mut self) -> bool {
        let mut odometer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        odometer.at = 0;
        if !odometer.started {
            odometer.started = true;
            return true;
        }
        while let Some((digit, bound)) = odometer.digits.pop() {
            if digit + 1 < bound {
                odometer.digits.push((digit + 1, bound));
                return true;
            }
        }
        false
    }
}

impl Gen for Exhaustive {
    fn below(&mut self, n: u32) -> u32 {
        if n <= 1 {
            return 0;
        }
        let mut odometer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = odometer.at;
        odometer.at += 1;
        if let Some((digit, bound)) = odometer.digits.get(at) {
            // Among other things than last time: then it would not be all of them.
            assert_eq!(*bound, n, "the world's choices do not follow from the earlier ones");
            return *digit;
        }
        odometer.digits.push((0, n));
        0
    }
}
