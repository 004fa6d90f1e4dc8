//! A whole small world: the input draws its options, and then every choice in it.

use dht_sim::choices::{Bytes, Choices};
use dht_sim::options::{Options, Stacks};
use dht_sim::swarm::{Watch, run_with};

/// Nodes at most: a run must be short, or few are tried.
const MAX_NODES: u32 = 6;
/// Seconds of the phase in which things go wrong, at most.
const MAX_SECS: u32 = 60;
/// Longer inputs decide nothing more.
const MAX_INPUT: usize = 4_096;

/// Runs a world with all checkers. When the input ends, everything is quiet.
///
/// # Panics
/// If an invariant is broken.
pub fn world(data: &[u8]) {
    let data = data.get(..MAX_INPUT).unwrap_or(data);
    let mut choices = Choices::from_gen(0, Bytes::new(data.to_vec()));
    let mut options = Options::draw(&mut choices);
    options.nodes = options.nodes.min(MAX_NODES);
    options.secs = options.secs.min(MAX_SECS);
    options.op_millis = options.op_millis.max(1_000);
    // Tables that are full from the start would cost most of the time and of the input.
    options.warm = false;
    if options.networks == Stacks::Both {
        options.networks = Stacks::V4;
    }
    let report = run_with(&options, choices, Watch::default());
    if let Some(violation) = report.violation {
        panic!("{violation}\n  {options}");
    }
}
