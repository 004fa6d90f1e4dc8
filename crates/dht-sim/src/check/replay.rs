//! I9: one seed, one run: everything follows from the seed, whoever runs it and how often.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use dht_proto::time::Instant;

use crate::check::Violation;
use crate::options::Options;
use crate::swarm::{self, Watch};
use crate::trace::{Record, Recorder, Verb};

/// The name of the invariant.
pub const NAME: &str = "I9 replay";

/// Runs a world twice.
///
/// # Errors
/// The first event that differs.
pub fn check(options: &Options) -> Result<(), Box<Violation>> {
    compare((options, false), (options, false), NAME)
}

/// One event, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    at: Instant,
    verb: Verb,
    from: SocketAddr,
    to: SocketAddr,
    hash: u64,
}

/// Every event of the first run, and where the second one left it.
#[derive(Debug, Default)]
struct Comparison {
    steps: Vec<Step>,
    /// Events of the second run so far; `None` in the first.
    at: Option<usize>,
    differs: Option<(usize, Option<Step>, Step)>,
}

#[derive(Debug)]
struct Compared(Arc<Mutex<Comparison>>);

impl Recorder for Compared {
    fn record(&mut self, record: &Record<'_>) {
        let mut comparison = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Record { at, verb, from, to, bytes } = *record;
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let step = Step { at, verb, from, to, hash };
        match comparison.at {
            None => comparison.steps.push(step),
            Some(index) => {
                let expected = comparison.steps.get(index).copied();
                if expected != Some(step) && comparison.differs.is_none() {
                    comparison.differs = Some((index, expected, step));
                }
                comparison.at = Some(index + 1);
            }
        }
    }
}

/// Runs two worlds, each polled in order or at random (`true`), and compares event by event.
pub(super) fn compare(
    first: (&Options, bool),
    second: (&Options, bool),
    invariant: &'static str,
) -> Result<(), Box<Violation>> {
    let comparison = Arc::new(Mutex::new(Comparison::default()));
    let run = |(options, shuffled)| {
        let recorder = Some(Box::new(Compared(comparison.clone())) as Box<dyn Recorder>);
        swarm::run(options, Watch { recorder, shuffled, ..Watch::default() })
    };
    let one = run(first);
    comparison.lock().unwrap_or_else(PoisonError::into_inner).at = Some(0);
    let other = run(second);
    if let Some(violation) = one.violation {
        return Err(Box::new(violation));
    }
    let comparison = comparison.lock().unwrap_or_else(PoisonError::into_inner);
    let what = match comparison.differs {
        Some((index, expected, step)) => {
            format!("event {index} was {expected:?}\n  and is now {step:?}")
        }
        None if comparison.at != Some(comparison.steps.len()) => {
            format!(
                "the second run ends after {:?} of {} events",
                comparison.at,
                comparison.steps.len()
            )
        }
        None if one.hash != other.hash => "the trace hashes differ".to_owned(),
        None => return Ok(()),
    };
    let event = comparison.differs.map_or(0, |(index, _, _)| index as u64);
    let at = comparison.differs.map_or(one.ended, |(_, _, step)| step.at);
    Err(Box::new(Violation { invariant, at, event, host: None, what }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_run() {
        check(&Options::tiny(5)).unwrap();
    }

    #[test]
    fn another_run_is_caught() {
        let (one, other) = (Options::tiny(5), Options { loss: 500, ..Options::tiny(5) });
        let violation = compare((&one, false), (&other, false), NAME).unwrap_err();
        assert_eq!(violation.invariant, NAME);
        assert!(violation.what.contains("event"), "{violation}");
        let shorter = Options { secs: 30, ..one.clone() };
        assert!(compare((&one, false), (&shorter, false), NAME).is_err());
    }

    #[test]
    fn the_first_difference_is_named() {
        let comparison = Arc::new(Mutex::new(Comparison::default()));
        let mut recorder = Compared(comparison.clone());
        let record = |recorder: &mut Compared, micros, bytes: &[u8]| {
            let (from, to) = ("1.2.3.4:5".parse().unwrap(), "1.2.3.4:6".parse().unwrap());
            let at = Instant::from_micros(micros);
            recorder.record(&Record { at, verb: Verb::Sent, from, to, bytes });
        };
        for micros in 0..5 {
            record(&mut recorder, micros, b"same");
        }
        comparison.lock().unwrap().at = Some(0);
        for micros in 0..5 {
            record(&mut recorder, micros, if micros < 3 { b"same" } else { b"else" });
        }
        assert_eq!(comparison.lock().unwrap().differs.unwrap().0, 3);
    }
}
