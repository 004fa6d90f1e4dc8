//! The command line of `dht-sim`: what it says about bad input, and how a run is seen again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::process::{Command, Output};

fn dht_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dht-sim")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn bad_input_is_named_and_ends_with_2() {
    let no_folder = std::env::temp_dir().join("dht-sim-no-such-folder/trace");
    let no_folder = no_folder.to_str().unwrap();
    for (args, words) in [
        (&["run", "--seed", "x"][..], "invalid value 'x'"),
        (&["run", "--seed", "-1"], "-1"),
        (&["run"], "--seed"),
        (&["run", "--options", "seed=1 colour=red"], "there is no option colour"),
        (&["run", "--options", "nodes=3"], "there is no seed=NUMBER"),
        (&["run", "--seed", "1", "--with", "profile=moon"], "profile knows no moon, but simple"),
        (&["run", "--seed", "1", "--with", "faults=fire"], "faults knows no fire, but crash"),
        (&["run", "--seed", "1", "--with", "adversaries=saint:1"], "no saint, but liar"),
        (&["run", "--seed", "1", "--with", "loss"], "has no '='"),
        (&["run", "--seed", "1", "--nodes", "5000000000"], "5000000000"),
        (&["run", "--seed", "1", "--with", "nodes=100001"], "no number from 1 to 100000"),
        (&["swarm", "--seeds", "many"], "invalid value 'many'"),
        (&["swarm", "--nodes", "0"], "1..=100000"),
        (&["run", "--seed", "1", "--trace", "text", no_folder], "cannot write"),
        (&["run", "--seed", "1", "--trace", "gif", "x"], "--trace knows text and pcap, not gif"),
        (&["fly"], "fly"),
    ] {
        let out = dht_sim(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

/// What a run prints replays it: the options of a seed, and those that were given.
#[test]
fn a_run_is_seen_again_by_what_it_prints() {
    let args = ["run", "--seed", "11", "--nodes", "6", "--with", "secs=40", "--with", "loss=20"];
    let (first, second) = (dht_sim(&args), dht_sim(&args));
    assert_eq!(first.stdout, second.stdout);
    let said = text(&first.stdout);
    assert!(first.status.success(), "{said}");
    let options = said.lines().next().unwrap().strip_prefix("commit=unknown ").unwrap();
    assert!(options.starts_with("seed=11 nodes=6 secs=40 ") && options.contains(" loss=20 "));
    let again = dht_sim(&["run", "--options", options]);
    assert_eq!(text(&again.stdout), said);
    let other = dht_sim(&["run", "--options", options, "--with", "op-millis=777"]);
    assert_ne!(text(&other.stdout).lines().nth(2), said.lines().nth(2));
}

/// A network in which nobody ever answers breaks I10 at once: an invariant that is broken on purpose.
#[test]
fn a_broken_invariant_is_told_in_one_block() {
    let broken = [
        "--with",
        "nodes=4",
        "--with",
        "secs=20",
        "--with",
        "warm=0",
        "--with",
        "networks=v4",
        "--with",
        "profile=simple",
        "--with",
        "delay=20000",
        "--with",
        "churn=0",
        "--with",
        "faults=none",
        "--with",
        "adversaries=none",
    ];
    let out = dht_sim(&[&["run", "--seed", "3"], &broken[..]].concat());
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    let block: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(block[0], "invariant I10 liveness");
    assert!(block[1].contains("at ") && block[1].contains("event "), "{said}");
    assert!(block[2].contains("after all faults ended: node "), "{said}");
    assert_eq!(block[3], "  seed 3, commit unknown");
    let replay = block[4].strip_prefix("  replay: dht-sim run --options '").unwrap();
    let again = dht_sim(&["run", "--options", replay.strip_suffix('\'').unwrap()]);
    assert_eq!(text(&again.stdout), said);
    let many = dht_sim(&[&["swarm", "--seeds", "1", "--first", "3"], &broken[..]].concat());
    assert_eq!((many.status.code(), text(&many.stdout)), (Some(1), said));
}
