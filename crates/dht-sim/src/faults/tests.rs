use super::*;
use crate::population::{Census, settle};
use crate::world::Setup;
use dht_proto::addr::Family;
use dht_proto::config::Mode;
use dht_proto::request::Lookup;

fn settled(seed: u64) -> (World, Arc<Config>, crate::oracle::Oracle) {
    let mut config = Config::default();
    config.mode = Mode::Server;
    let config = Arc::new(config);
    let mut world = World::new(Setup::default(), Choices::seeded(seed));
    let census = Census { nodes: 60, dead: Ratio::ZERO, config: config.clone() };
    let oracle = settle(&mut world, &census);
    (world, config, oracle)
}

/// Every kind, alone and long enough to hurt, then mended: afterwards everybody is found again.
#[test]
fn every_fault_can_be_lived_through() {
    for (seed, (kind, _)) in Kind::ALL.into_iter().enumerate() {
        let (mut world, config, oracle) = settled(seed as u64);
        let hosts: Vec<_> = (10..60).map(HostId).collect();
        let mut wounds = Vec::new();
        for _ in 0..5 {
            let fault = Fault::draw(kind, world.choices(), &hosts).unwrap();
            wounds.push(fault.apply(&mut world, &config));
        }
        world.run_for(Duration::from_secs(120));
        for (life, wound) in wounds.into_iter().enumerate() {
            wound.heal(&mut world, life as u32 + 1);
        }
        world.run_for(Duration::from_secs(60 * 60));
        let mut found = 0;
        for (i, (_, host)) in oracle.nodes().into_iter().enumerate().step_by(3) {
            // Somebody may have another id by now.
            let target = world.node(host).unwrap().node_id(Family::V4).unwrap();
            let from = HostId((i % 10) as u32);
            let (_, outcome) = world.look_up(from, &Lookup::FindNode { target }).unwrap();
            found += u32::from(from == host || outcome.closest.iter().any(|c| c.id == target));
        }
        assert!(found >= 18, "{kind}: {found} of 20");
        assert!(world.violation().is_none());
    }
}

#[test]
fn a_crash_is_forgotten_or_remembered() {
    for keeps_snapshot in [false, true] {
        let (mut world, config, _) = settled(3);
        let host = HostId(20);
        let id = world.node(host).unwrap().node_id(Family::V4);
        let wound = Fault::Crash { host, keeps_snapshot }.apply(&mut world, &config);
        assert!(world.node(host).is_none());
        wound.heal(&mut world, 1);
        let node = world.node(host).unwrap();
        assert_eq!(node.node_id(Family::V4) == id, keeps_snapshot);
    }
}

#[test]
fn a_partition_cuts_both_ways_or_one() {
    for is_heard in [false, true] {
        let (mut world, config, _) = settled(4);
        let cut = vec![HostId(5)];
        let wound = Fault::Partition { hosts: cut, is_heard }.apply(&mut world, &config);
        let target = world.node(HostId(30)).unwrap().node_id(Family::V4).unwrap();
        let delivered = |world: &World| world.node(HostId(5)).unwrap().stats().datagrams_in;
        let before = delivered(&world);
        let answered = world.traffic().delivered;
        let outcome = world.look_up(HostId(5), &Lookup::FindNode { target });
        assert!(outcome.is_none_or(|(_, outcome)| outcome.closest.is_empty()));
        assert_eq!(delivered(&world), before);
        assert!(world.traffic().delivered >= answered);
        wound.heal(&mut world, 0);
        world.run_for(Duration::from_secs(1_200));
        let (_, outcome) = world.look_up(HostId(5), &Lookup::FindNode { target }).unwrap();
        assert!(outcome.closest.iter().any(|c| c.id == target));
    }
}
