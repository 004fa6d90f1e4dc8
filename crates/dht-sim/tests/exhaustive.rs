//! A world so small that every course it can take is taken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};
use dht_proto::id::InfoHash;
use dht_proto::request::{AnnouncePort, Lookup};
use dht_sim::choices::{About, Choices, Exhaustive};
use dht_sim::{HostId, Setup, World, check};

/// Three nodes, two of which start from the first. Three times in turn something may go wrong, or
/// nothing: a restart of any node without memory, or a freeze of ten seconds. In between one node
/// announces, another looks.
fn live(choices: Choices) -> World {
    let mut setup = Setup::default();
    setup.profile.delay = (Duration::from_millis(40), Duration::from_millis(40));
    let mut world = World::new(setup, choices);
    for checker in check::all() {
        world.watch(checker);
    }
    let mut config = Config::default();
    config.mode = Mode::Server;
    let mut start: Vec<SocketAddr> = Vec::new();
    let mut configs = Vec::new();
    for _ in 0..3 {
        config.bootstrap.clone_from(&start);
        configs.push(Arc::new(config.clone()));
        let host = world.add_node(configs.last().unwrap(), Networks::V4);
        start.extend(world.addrs(host).iter().take(1 - start.len().min(1)));
    }
    let info_hash = InfoHash::from_bytes([6; 20]);
    let mut frozen = None;
    for step in 0..3 {
        world.run_for(Duration::from_secs(10));
        if let Some(host) = frozen.take() {
            world.resume(host);
        }
        match world.choices().below(About::Fault, 5) {
            0 => {}
            fault @ 1..=3 => {
                let host = HostId(fault - 1);
                world.crash(host);
                world.restart(host, &configs[host.index()], Networks::V4, None, step + 1);
            }
            _ => {
                frozen = Some(HostId(1));
                world.suspend(HostId(1));
            }
        }
        let (port, seed) = (AnnouncePort::Implied, false);
        let lookup = match step % 2 {
            0 => Lookup::Announce { info_hash, port, seed },
            _ => Lookup::GetPeers { info_hash, scrape: false, noseed: false },
        };
        let _ = world.start(HostId(2 - step % 2), &lookup);
    }
    world.run_for(Duration::from_secs(10));
    if let Some(host) = frozen {
        world.resume(host);
    }
    world
}

#[test]
fn every_course_of_a_tiny_world_ends_well() {
    let mut all = Exhaustive::new();
    let mut runs = 0;
    let mut hashes = std::collections::BTreeSet::new();
    while all.next_run() {
        let mut choices = Choices::from_gen(1, Quiet(all.clone()));
        choices.below(About::Options, 1);
        let mut world = live(choices);
        world.run_for(Duration::from_secs(300));
        assert_eq!(world.violation(), None, "run {runs}");
        for host in (0..3).map(HostId) {
            let dht = world.node(host).unwrap();
            assert_eq!(dht.contacts(dht_proto::addr::Family::V4).len(), 2, "run {runs}, {host}");
        }
        hashes.insert(world.trace().hash());
        runs += 1;
    }
    assert_eq!(runs, 5_u32.pow(3));
    assert_eq!(hashes.len(), runs as usize, "no two courses are the same");
}

/// Only what may go wrong is enumerated: choices among two or three are left at the first.
#[derive(Debug)]
struct Quiet(Exhaustive);

impl dht_sim::choices::Gen for Quiet {
    fn below(&mut self, n: u32) -> u32 {
        if n == 5 { self.0.below(n) } else { 0 }
    }
}
