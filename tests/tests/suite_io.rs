//! The suite through the driver in virtual time, with sockets and a clock that fail.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::panic::catch_unwind;

use dht_proto::item::Item;
use dht_proto::request::{Ended, Lookup};
use dht_sim::{About, Choices};
use dht_tests::suite::host::Hosted;
use dht_tests::suite::io::{Faults, Injected};
use dht_tests::suite::{Setting as _, Subject as _, Terrain};

dht_tests::suite!(Hosted);

/// Worlds per run.
const SEEDS: u64 = 24;

/// All of them, or the one that is to be run again.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    }
}

/// Lookups among some faults of every kind, leaps of the clock included: all of them end. Then the
/// faults end: everything works, and nothing is missing that was not counted.
fn storm(seed: u64) -> (u64, Injected) {
    catch_unwind(|| weather(seed)).unwrap_or_else(|_| {
        panic!("again: SEED={seed} cargo test -p dht-tests --test suite_io storm")
    })
}

fn weather(seed: u64) -> (u64, Injected) {
    let mut choices = Choices::seeded(seed);
    let terrain = Terrain { nodes: 40, ..Terrain::calm(seed) };
    let faults = Faults::some(&mut choices);
    let network = Hosted::with_faults(&terrain, faults);
    let start = |number| {
        let bootstrap = network.places().bootstrap.clone();
        network.start(&dht_tests::suite::Recipe { number, bootstrap })
    };
    let subjects = [start(1), start(2)];
    for _ in 0..4 {
        let mut running = Vec::new();
        for (i, subject) in (0..).zip(&subjects) {
            for _ in 0..choices.between(About::Workload, 1, 8) {
                let pick = choices.pick(About::Workload, &network.places().nodes);
                let target = pick.map(|(id, _)| *id).expect("there are nodes");
                running.push((i, subject.begin(Lookup::FindNode { target })));
            }
        }
        let dropped = choices.below(About::Workload, running.len() as u32);
        let (i, lookup) = running.swap_remove(dropped as usize);
        let subject: &dht_tests::suite::host::Guest = &subjects[i];
        subject.cancel(lookup);
        for (i, lookup) in running {
            // How it ended depends on the faults; that it did does not.
            subjects[i].finish(lookup);
        }
    }
    network.heal();
    let item = Item::immutable(b"5:after").expect("a small value");
    let put = subjects[0].put(&item, None);
    assert_eq!(put.ended, Ended::Completed, "seed {seed}, {faults:?}: {put:?}");
    let got = subjects[1].get(item.id(), b"");
    assert_eq!(got.item.as_deref(), Some(&item), "seed {seed}, {faults:?}: {got:?}");
    for subject in &subjects {
        assert!(subject.health().is_connected(), "seed {seed}: {}", subject.health());
    }
    network.trace()
}

#[test]
fn lookups_end_in_any_storm_and_all_works_after_it() {
    let mut all = Injected::default();
    for seed in seeds() {
        let (_, some) = storm(seed);
        all.send += some.send;
        all.recv += some.recv;
        all.cut += some.cut;
        all.leaps += some.leaps;
    }
    if std::env::var_os("SEED").is_some() {
        return;
    }
    assert!(all.send > 1_000 && all.recv > 1_000 && all.cut > 100 && all.leaps > 10, "{all:?}");
}

#[test]
fn the_same_seed_is_the_same_storm() {
    for seed in [1, 2] {
        assert_eq!(storm(seed), storm(seed));
    }
    assert_ne!(storm(1).0, storm(2).0);
}
