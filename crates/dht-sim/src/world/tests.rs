use super::*;
use crate::Ratio;
use crate::population::{Census, settle};
use crate::profile::{Filtering, Mapping, Nat};
use dht_proto::addr::Family;
use dht_proto::config::Mode;

fn server() -> Arc<Config> {
    let mut config = Config::default();
    config.mode = Mode::Server;
    Arc::new(config)
}

/// A settled network of servers, and an adaptive node behind a NAT that joins through one of them.
fn with_newcomer(nat: &Nat, networks: Networks) -> (World, HostId, crate::oracle::Oracle) {
    let mut world = World::new(Setup::default(), Choices::seeded(21));
    let census = Census { nodes: 120, dead: Ratio::ZERO, config: server() };
    let oracle = settle(&mut world, &census);
    let mut config = Config::default();
    config.mode = Mode::Adaptive;
    config.bootstrap = world.addrs(HostId(7)).iter().collect();
    let addrs = world.next_addrs(networks);
    let host = world.add_nobody(addrs);
    world.put_behind(host, nat);
    world.restart(host, &Arc::new(config), networks, None, 0);
    (world, host, oracle)
}

/// Datagrams that arrived at a node and answered nothing that it had asked.
fn received(world: &World, host: HostId) -> u64 {
    let stats = world.node(host).unwrap().stats();
    stats.datagrams_in - stats.replies_in
}

#[test]
fn a_node_behind_a_port_restricted_nat_is_a_client() {
    let timeout = Duration::from_secs(60);
    let (mut world, host, oracle) = with_newcomer(&Nat { timeout, ..Nat::home() }, Networks::V4);
    world.run_for(Duration::from_secs(30));
    let health = world.node(host).unwrap().health(world.now()).v4.unwrap();
    assert!(health.contacts >= 20, "it joins: {health:?}");
    assert_eq!(health.external, world.external(host, Family::V4));
    // It looks up.
    for i in 0..10 {
        let (target, _) = oracle.nodes()[i * 12];
        let (_, outcome) = world.look_up(host, &Lookup::FindNode { target }).unwrap();
        assert!(outcome.closest.iter().any(|c| c.id == target), "{outcome:?}");
    }
    // Adaptive mode never takes it for a server, and in the end nobody lists it.
    for _ in 0..8 {
        world.run_for(Duration::from_secs(15 * 60));
        let health = world.node(host).unwrap().health(world.now()).v4.unwrap();
        assert!(!health.server, "{health:?}");
    }
    let own = world.node(host).unwrap().node_id(Family::V4).unwrap();
    let (_, outcome) = world.look_up(HostId(3), &Lookup::FindNode { target: own }).unwrap();
    assert!(outcome.closest.iter().all(|c| c.id != own));
}

#[test]
fn a_mapping_that_expires_lets_nobody_in() {
    let timeout = Duration::from_secs(60);
    for (filtering, stranger_gets_in) in
        [(Filtering::AddressAndPort, false), (Filtering::Open, true)]
    {
        let nat = Nat { filtering, timeout, ..Nat::home() };
        let (mut world, host, _) = with_newcomer(&nat, Networks::V4);
        world.run_for(Duration::from_secs(20));
        // A stranger on the simulated internet asks it.
        let me = world.addrs(host).v4.map(SocketAddr::V4).unwrap();
        let stranger = world.next_addrs(Networks::V4);
        world.add_nobody(stranger);
        let stranger = stranger.iter().next().unwrap();
        let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        let before = received(&world, host);
        world.suspend(host);
        world.resume(host);
        world.post(stranger, me, ping);
        world.run_for(Duration::from_millis(100));
        let got_in = received(&world, host) > before;
        assert_eq!(got_in, stranger_gets_in, "{filtering:?}");
        // Silent for longer than the NAT remembers: not even a full cone passes anything.
        world.crash(host);
        world.run_for(Duration::from_secs(120));
        world.restart(host, &server(), Networks::V4, None, 1);
        world.post(stranger, me, ping);
        world.run_for(Duration::from_millis(100));
        assert_eq!(received(&world, host), 0, "{filtering:?}");
    }
}

#[test]
fn an_ipv6_firewall_filters_what_ipv4_may_pass() {
    let (mut world, host, _) = with_newcomer(&Nat::firewall(), Networks::Both);
    let own = world.addrs(host).v6.map(SocketAddr::V6).unwrap();
    let peer = world.next_addrs(Networks::V6);
    let friend = world.add_node_at(peer, &server(), Networks::V6);
    let from = peer.iter().next().unwrap();
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    world.run_for(Duration::from_secs(5));
    world.crash(friend);
    let nobody = world.traffic().nobody;
    world.post(from, own, ping);
    world.run_for(Duration::from_secs(1));
    assert!(world.traffic().nobody > nobody);
    world.with(host, |dht, now| dht.add_bootstrap(now, from));
    world.run_for(Duration::from_secs(1));
    let before = received(&world, host);
    world.post(from, own, ping);
    world.run_for(Duration::from_millis(100));
    assert!(received(&world, host) > before);
}

#[test]
fn hosts_behind_one_address_are_told_apart() {
    let mut setup = Setup::default();
    let nat = Nat { mapping: Some(Mapping::AddressAndPortDependent), sharing: 4, ..Nat::carrier() };
    setup.outside = 100;
    let mut world = World::new(setup, Choices::seeded(5));
    let mut config = Config::default();
    let outside: SocketAddr = "8.8.4.4:6881".parse().unwrap();
    config.bootstrap = vec![outside];
    let config = Arc::new(config);
    let hosts: Vec<_> = (0..6)
        .map(|life| {
            let addrs = world.next_addrs(Networks::V4);
            let host = world.add_nobody(addrs);
            world.put_behind(host, &nat);
            world.restart(host, &config, Networks::V4, None, life);
            host
        })
        .collect();
    let shared: Vec<_> = hosts.iter().map(|host| world.external(*host, Family::V4)).collect();
    assert!(shared[..4].iter().all(|ip| *ip == shared[0]) && shared[4] != shared[0]);
    world.run_for(Duration::from_millis(500));
    // What each sends comes from the shared address, and an answer to it reaches that host alone.
    let mut seen = std::collections::BTreeSet::new();
    while let Some(datagram) = world.take_outside() {
        assert!(shared.contains(&Some(datagram.from.ip())));
        let before: Vec<_> = hosts.iter().map(|host| received(&world, *host)).collect();
        world.post(outside, datagram.from, b"d1:y1:re");
        world.run_for(Duration::from_millis(100));
        let reached: Vec<_> = hosts
            .iter()
            .zip(before)
            .filter(|(host, before)| received(&world, **host) > *before)
            .map(|(host, _)| *host)
            .collect();
        assert_eq!(reached.len(), 1, "{}", datagram.from);
        seen.extend(reached);
    }
    assert_eq!(seen.len(), 6);
}

#[test]
fn a_host_that_moves_is_reached_at_its_new_address_alone() {
    let mut world = World::new(Setup::default(), Choices::seeded(9));
    let host = world.add_public_node(&server(), Networks::V4);
    let old = world.addrs(host).iter().next().unwrap();
    let addrs = world.next_addrs(Networks::V4);
    world.relocate(host, addrs);
    let new = addrs.iter().next().unwrap();
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    let stranger = "8.8.8.8:53".parse().unwrap();
    for (to, arrives) in [(old, 0), (new, 1)] {
        world.post(stranger, to, ping);
        world.run_for(Duration::from_secs(1));
        assert_eq!(received(&world, host), arrives);
    }
    assert_eq!((world.host_at(old), world.host_at(new)), (None, Some(host)));
}

#[test]
fn the_profile_damages_what_nodes_send_and_they_live_with_it() {
    let setup = Setup::new(Profile::lossy());
    let mut world = World::new(setup, Choices::seeded(12));
    let census = Census { nodes: 300, dead: Ratio::percent(20), config: server() };
    let oracle = settle(&mut world, &census);
    world.run_for(Duration::from_secs(120));
    let malformed: u64 =
        (0..300).filter_map(|i| Some(world.node(HostId(i))?.stats().malformed)).sum();
    assert!(malformed > 0 && world.traffic().lost > world.traffic().sent / 20);
    let mut found = 0;
    for i in 0..60 {
        let (target, host) = oracle.nodes()[i * 2];
        let from = HostId(if host.0 == i as u32 { 299 } else { i as u32 });
        if let Some((_, outcome)) = world.look_up(from, &Lookup::FindNode { target }) {
            found += u32::from(outcome.closest.iter().any(|c| c.id == target));
        }
    }
    assert!(found >= 30, "{found} of 60");
}

#[test]
fn equal_seeds_give_equal_traces_whatever_the_profile() {
    for name in Profile::NAMES {
        let run = |seed| {
            let setup = Setup::new(Profile::named(name).unwrap());
            let mut world = World::new(setup, Choices::seeded(seed));
            let census = Census { nodes: 40, dead: Ratio::percent(10), config: server() };
            settle(&mut world, &census);
            world.run_for(Duration::from_secs(60));
            world.trace().hash()
        };
        assert_eq!(run(1), run(1), "{name}");
        assert_ne!(run(1), run(2), "{name}");
    }
}

/// Sees everything and says nothing.
#[derive(Debug)]
struct Onlooker;

impl Checker for Onlooker {
    fn name(&self) -> &'static str {
        "none"
    }

    fn happened(&mut self, _: Instant, _: &Happening<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// Unwatched nodes are asked for output only when they say that there is some, and timers are put
/// off without asking them: nothing else may come of that.
#[test]
fn whoever_watches_changes_nothing() {
    let profile = Profile::lossy();
    for networks in [Networks::V4, Networks::V6, Networks::Both] {
        let run = |is_watched: bool| {
            let mut world = World::new(Setup::new(profile.clone()), Choices::seeded(8));
            if is_watched {
                world.watch(Box::new(Onlooker));
            }
            let census = Census { nodes: 60, dead: Ratio::percent(10), config: server() };
            crate::population::settle_in(&mut world, &census, networks);
            world.set_clock(HostId(5), Clock { offset: 7_000_000, ppm: 300 });
            let target = dht_proto::id::NodeId::from_bytes([7; 20]);
            for host in (0..40).map(HostId) {
                world.start(host, &Lookup::FindNode { target });
                world.run_for(Duration::from_millis(700));
            }
            world.suspend(HostId(2));
            world.run_for(Duration::from_secs(600));
            world.resume(HostId(2));
            world.run_for(Duration::from_secs(600));
            assert!(world.traffic().put_off > 0);
            (world.trace().events(), world.trace().hash(), world.traffic())
        };
        assert_eq!(run(false), run(true), "{networks:?}");
    }
}

#[test]
fn a_crash_takes_along_only_what_its_own_node_had_to_tell() {
    let mut world = World::new(Setup::default(), Choices::seeded(4));
    settle(&mut world, &Census { nodes: 50, dead: Ratio::ZERO, config: server() });
    let target = dht_proto::id::NodeId::from_bytes([7; 20]);
    for host in [3, 4, 5].map(HostId) {
        world.start(host, &Lookup::FindNode { target }).unwrap().unwrap();
    }
    world.run_for(Duration::from_secs(10));
    let told = |world: &World, host| world.events.iter().filter(|(at, _)| *at == host).count();
    assert!([3, 4, 5].into_iter().all(|host| told(&world, HostId(host)) > 0));
    let of_five = told(&world, HostId(5));
    world.crash(HostId(3));
    assert_eq!((told(&world, HostId(3)), told(&world, HostId(5))), (0, of_five));
    assert_eq!(world.take_events(HostId(5)).len(), of_five);
    while world.next_event().is_some() {}
    // Counts are back at none, so that a crash looks no further.
    assert!((0..50).all(|host| !world.hosts.get(HostId(host)).unwrap().has_events()));
}
