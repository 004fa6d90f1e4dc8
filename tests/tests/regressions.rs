//! Simulated runs that once broke an invariant, each on one line of `regressions/*.seed`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is a failure that says where"
)]

use std::fs;
use std::path::Path;

use dht_sim::check::order;
use dht_sim::options::Options;
use dht_sim::swarm::{Watch, run};

#[test]
fn what_broke_once_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut replayed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "seed") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let (invariant, options) = line.split_once(';').expect("INVARIANT; OPTIONS");
            let options: Options = options.trim().parse().unwrap();
            let report = run(&options, Watch::default());
            if let Some(violation) = report.violation {
                panic!("{}: once {invariant}, now\n{violation}\n{options}", path.display());
            }
            if invariant == order::NAME {
                order::check(&options).map_err(|v| v.to_string()).unwrap();
            }
            replayed += 1;
        }
    }
    assert!(replayed > 0, "there are runs to replay");
}

/// Tiny worlds in which everything goes wrong at once: what a change of the core breaks first.
#[test]
fn polling_order_and_repetition_change_nothing() {
    for seed in 0..3 {
        let options = Options::tiny(seed);
        dht_sim::check::replay::check(&options).map_err(|v| v.to_string()).unwrap();
        order::check(&options).map_err(|v| v.to_string()).unwrap();
    }
}
