//! I11 where it is meant: networks that were left alone for hours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};
use dht_proto::time::Instant;
use dht_sim::check::rhythm::Rhythm;
use dht_sim::check::traffic::Traffic;
use dht_sim::check::{Checker, Happening};
use dht_sim::choices::{Choices, Ratio};
use dht_sim::population::{Census, settle};
use dht_sim::{HostId, Setup, World};

const NODES: u32 = 60;

/// A checker that can be asked afterwards.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Rhythm>>);

impl Checker for Shared {
    fn name(&self) -> &'static str {
        self.0.lock().unwrap().name()
    }

    fn happened(&mut self, now: Instant, what: &Happening<'_>) -> Result<(), String> {
        self.0.lock().unwrap().happened(now, what)
    }
}

fn settled(seed: u64) -> (World, Shared, Arc<Config>) {
    let mut config = Config::default();
    config.mode = Mode::Server;
    let config = Arc::new(config);
    let mut world = World::new(Setup::default(), Choices::seeded(seed));
    let rhythm = Shared::default();
    world.watch(Box::new(rhythm.clone()));
    world.watch(Box::new(Traffic::default()));
    settle(&mut world, &Census { nodes: NODES, dead: Ratio::percent(10), config: config.clone() });
    (world, rhythm, config)
}

fn two_calm_hours(world: &mut World, rhythm: &Shared) {
    world.run_for(Duration::from_secs(2 * 60 * 60 + 45 * 60));
    assert_eq!(world.violation(), None);
    let [short, long] = rhythm.0.lock().unwrap().windows();
    assert!(short >= 2 && long >= 1, "it was looked at {short} and {long} times");
}

#[test]
fn a_network_left_alone_stays_out_of_step() {
    let (mut world, rhythm, _) = settled(1);
    two_calm_hours(&mut world, &rhythm);
}

/// All begin at the same moment, and do not go on like that.
#[test]
fn a_network_falls_out_of_step_after_a_power_cut() {
    let (mut world, rhythm, config) = settled(2);
    let hosts = (0..world.len() as u32).map(HostId).filter(|host| world.node(*host).is_some());
    let hosts: Vec<HostId> = hosts.collect();
    let saved: Vec<_> = hosts.iter().map(|host| world.crash(*host).unwrap().snapshot()).collect();
    world.run_for(Duration::from_secs(600));
    for (host, snapshot) in hosts.iter().zip(&saved) {
        world.restart(*host, &config, Networks::V4, Some(snapshot), 1);
    }
    two_calm_hours(&mut world, &rhythm);
}
