//! The smallest run that still breaks the same invariant: fewer nodes, one kind of fault, adversary
//! or operation less, nobody who comes and goes, a plainer network, a shorter life.

use crate::options::{Options, SIMPLE, Stacks};
use crate::swarm::{self, Report, Watch};

/// Shrinks a failing run; the report is that of the smallest one found. `None` if the run passes.
///
/// `tried` is told of every smaller run that still fails.
#[must_use]
pub fn shrink(options: &Options, mut tried: impl FnMut(&Options)) -> Option<(Options, Report)> {
    shrink_by(options, |options| swarm::run(options, Watch::default()), &mut tried)
}

fn shrink_by(
    options: &Options,
    mut run: impl FnMut(&Options) -> Report,
    tried: &mut impl FnMut(&Options),
) -> Option<(Options, Report)> {
    let report = run(options);
    let invariant = report.violation.as_ref()?.invariant;
    let mut best = (options.clone(), report);
    loop {
        let smaller = candidates(&best.0).into_iter().find_map(|options| {
            let report = run(&options);
            let same = report.violation.as_ref().is_some_and(|v| v.invariant == invariant);
            same.then_some((options, report))
        });
        match smaller {
            // Every candidate is smaller in one way and larger in none, so this ends.
            Some(smaller) => {
                tried(&smaller.0);
                best = smaller;
            }
            None => return Some(best),
        }
    }
}

/// Runs that are one step smaller, the boldest first.
fn candidates(options: &Options) -> Vec<Options> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Options)| {
        let mut smaller = options.clone();
        change(&mut smaller);
        if smaller != *options {
            all.push(smaller);
        }
    };
    for (num, den) in [(1, 4), (1, 2), (3, 4), (9, 10)] {
        with(&|o| o.nodes = (o.nodes * num / den).max(2.min(o.nodes)));
    }
    for (num, den) in [(1, 4), (1, 2), (3, 4), (9, 10)] {
        with(&|o| o.secs = o.secs * num / den);
    }
    for at in 0..options.faults.len() {
        with(&|o| {
            o.faults.remove(at);
        });
    }
    for at in 0..options.adversaries.len() {
        with(&|o| {
            o.adversaries.remove(at);
        });
        with(&|o| {
            if let Some((_, count)) = o.adversaries.get_mut(at) {
                *count = (*count / 2).max(1);
            }
        });
    }
    if options.ops.len() > 1 {
        for at in 0..options.ops.len() {
            with(&|o| {
                o.ops.remove(at);
            });
        }
    }
    with(&|o| o.churn = 0);
    with(&|o| o.hidden = 0);
    with(&|o| o.profile = SIMPLE);
    with(&|o| o.networks = Stacks::V4);
    with(&|o| o.dead = 0);
    with(&|o| o.loss = 0);
    with(&|o| o.delay.1 = o.delay.0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Violation;
    use crate::faults::Kind;
    use crate::options::Operation;
    use dht_proto::time::Instant;

    /// Fails if there are nine nodes, crashes and puts, whatever else there is.
    fn run(options: &Options) -> Report {
        let crash = options.faults.iter().any(|(kind, _)| *kind == Kind::Crash);
        let put = options.ops.iter().any(|(op, _)| *op == Operation::PutMutable);
        let fails = options.nodes >= 9 && crash && put;
        let invariant = if fails { "the one" } else { "another" };
        let at = Instant::ZERO;
        let violation = Violation { invariant, at, event: 0, host: None, what: String::new() };
        Report {
            violation: Some(violation),
            hash: 0,
            events: 0,
            delivered: 0,
            began: at,
            ended: at,
        }
    }

    #[test]
    fn only_what_it_takes_is_left() {
        let mut options = Options::tiny(4);
        (options.nodes, options.secs) = (64, 300);
        (options.profile, options.networks) = ("mobile", Stacks::Mixed);
        (options.hidden, options.dead, options.loss) = (50, 30, 100);
        let (small, report) = shrink_by(&options, run, &mut |_| ()).unwrap();
        assert_eq!(report.violation.unwrap().invariant, "the one");
        assert_eq!((small.nodes, small.secs, small.churn, small.hidden), (9, 0, 0, 0));
        assert_eq!((small.profile, small.networks), (SIMPLE, Stacks::V4));
        assert_eq!((small.dead, small.loss, small.delay.1), (0, 0, small.delay.0));
        assert_eq!((small.faults.len(), small.adversaries.len(), small.ops.len()), (1, 0, 1));
    }
}
