//! A whole small world: the input draws its options, and then what goes wrong in it, what users and
//! adversaries do, and when.

use dht_sim::choices::{Bytes, Choices};
use dht_sim::options::{Options, Stacks};
use dht_sim::swarm::{Watch, run_with};

/// Nodes at most: a run must be short, or few are tried.
const MAX_NODES: u32 = 6;
/// Seconds of the phase in which things go wrong, at most.
const MAX_SECS: u32 = 60;
/// Longer inputs decide nothing more: some hundred operations and faults.
const MAX_INPUT: usize = 4_096;

/// Runs a world with all checkers. The first four bytes are a seed, which noise follows from: ids,
/// addresses, what becomes of each datagram. When the input ends, nothing more is begun; what goes on,
/// and what users do in the healed world, follows from the seed, too.
///
/// # Panics
/// If an invariant is broken.
pub fn world(data: &[u8]) {
    let (options, choices) = read(data);
    let report = run_with(&options, choices, Watch::default());
    if let Some(violation) = report.violation {
        panic!("{violation}\n  {options}");
    }
}

/// The world that an input describes.
fn read(data: &[u8]) -> (Options, Choices) {
    let data = data.get(..MAX_INPUT).unwrap_or(data);
    let (seed, rest) = data.split_at(data.len().min(4));
    let seed = seed.iter().fold(0, |seed, byte| (seed << 8) | u64::from(*byte));
    let mut choices = Choices::steered(seed, Bytes::new(rest.to_vec()));
    let mut options = Options::draw(&mut choices);
    options.nodes = options.nodes.min(MAX_NODES);
    options.secs = options.secs.min(MAX_SECS);
    options.op_millis = options.op_millis.max(1_000);
    // Tables that are full from the start would cost most of the time and of the input.
    options.warm = false;
    if options.networks == Stacks::Both {
        options.networks = Stacks::V4;
    }
    (options, choices)
}
