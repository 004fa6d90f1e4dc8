//! Adversaries among honest nodes: what must hold whatever they do, and how far users get today.
//!
//! All checkers watch. Bounds on what users achieve are modest: they were measured, and stand here
//! so that they do not get worse unnoticed (docs/TESTING.md).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use ed25519_dalek::SigningKey;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dht_proto::Networks;
use dht_proto::addr::Family;
use dht_proto::config::{Config, Mode};
use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::item::{Item, bencode_bytes};
use dht_proto::request::{AnnouncePort, Event, Lookup, NodeInfo, Outcome};
use dht_proto::time::Instant;
use dht_sim::adversary::Pace;
use dht_sim::adversary::amplifier::Amplifier;
use dht_sim::adversary::flooder::Flooder;
use dht_sim::adversary::garbage::Garbage;
use dht_sim::adversary::liar::{Liar, Lie};
use dht_sim::adversary::poisoner::{Poison, Poisoner};
use dht_sim::adversary::replayer::Replayer;
use dht_sim::adversary::slow::Slow;
use dht_sim::adversary::spoofer::{Forgery, Spoofer};
use dht_sim::adversary::sybil::{self, Founding, Placement, Ring};
use dht_sim::check::{self, Checker, Happening};
use dht_sim::choices::{About, Choices, Ratio};
use dht_sim::oracle::Oracle;
use dht_sim::population::{self, Census};
use dht_sim::{HostId, Setup, World};

/// Honest nodes that know each other, and who is bad among the hosts.
struct Town {
    world: World,
    oracle: Oracle,
    nodes: u32,
    bad: Vec<HostId>,
    serial: u32,
}

impl Town {
    fn settled(seed: u64, nodes: u32, tune: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.mode = Mode::Server;
        tune(&mut config);
        let mut world = World::new(Setup::default(), Choices::seeded(seed));
        for checker in check::all() {
            world.watch(checker);
        }
        let census = Census { nodes, dead: Ratio::ZERO, config: Arc::new(config) };
        let oracle = population::settle(&mut world, &census);
        Self { world, oracle, nodes, bad: Vec::new(), serial: 0 }
    }

    /// Hosts that an attacker has taken over: this share, anywhere.
    fn take_over(&mut self, percent: u32) -> Vec<HostId> {
        while (self.bad.len() as u32) < self.nodes * percent / 100 {
            let host = HostId(self.world.choices().below(About::Adversary, self.nodes));
            if !self.bad.contains(&host) {
                self.bad.push(host);
            }
        }
        self.bad.clone()
    }

    fn is_honest(&self, host: HostId) -> bool {
        host.0 < self.nodes && !self.bad.contains(&host)
    }

    fn honest(&self) -> impl Iterator<Item = HostId> {
        (0..self.nodes).map(HostId).filter(|host| self.is_honest(*host))
    }

    fn somebody(&mut self) -> HostId {
        loop {
            let host = HostId(self.world.choices().below(About::Workload, self.nodes));
            if self.is_honest(host) {
                return host;
            }
        }
    }

    fn info(&self, host: HostId) -> NodeInfo {
        let id = self.world.node(host).unwrap().node_id(Family::V4).unwrap();
        NodeInfo { id, addr: self.world.addrs(host).v4.unwrap().into() }
    }

    fn addrs(&self) -> Arc<[SocketAddr]> {
        self.honest().map(|host| self.info(host).addr).collect()
    }

    fn add(&mut self, actor: impl dht_sim::host::Actor + 'static) -> HostId {
        let addrs = self.world.next_addrs(Networks::V4);
        self.world.add_actor(addrs, Box::new(actor))
    }

    /// Runs a lookup, which must end.
    fn look_up(&mut self, host: HostId, lookup: &Lookup) -> (Vec<Event>, Outcome) {
        let found = self.world.look_up(host, lookup);
        self.intact();
        found.expect("every lookup ends")
    }

    fn run(&mut self, secs: u64) {
        self.world.run_for(Duration::from_secs(secs));
        self.intact();
    }

    fn intact(&self) {
        if let Some(violation) = self.world.violation() {
            panic!("{violation}");
        }
    }

    /// A version of an item of its own; a later version if one is given.
    fn item(&mut self, before: Option<&Item>) -> Item {
        self.serial += 1;
        let serial = self.serial.to_be_bytes();
        let salt =
            before.and_then(Item::signed).map_or_else(|| serial.to_vec(), |old| old.salt.clone());
        let key = SigningKey::from_bytes(&[7; 32]);
        Item::sign(&key, &salt, i64::from(self.serial), &bencode_bytes(&serial)).unwrap()
    }

    fn put(&mut self, item: &Item) -> Outcome {
        let host = self.somebody();
        self.look_up(host, &Lookup::PutItem { item: Box::new(item.clone()), cas: None }).1
    }

    /// Whether somebody finds this version or a later one.
    fn gets(&mut self, item: &Item) -> bool {
        let host = self.somebody();
        let salt = item.signed().map(|signed| signed.salt.clone()).unwrap_or_default();
        let get = Lookup::GetItem { target: item.id(), salt, newer_than: None };
        self.look_up(host, &get).1.item.is_some_and(|found| !item.supersedes(&found))
    }

    /// How many of the honest nodes truly closest a lookup ended with.
    fn hits(&self, target: Target, outcome: &Outcome) -> usize {
        let truth = self.oracle.closest(target, 8, |host| self.is_honest(host));
        truth.iter().filter(|(id, _)| outcome.closest.iter().any(|node| node.id == *id)).count()
    }

    /// How many things out of a hundred users achieve: see [`Score`].
    fn score(&mut self, items: &[Item], rounds: usize) -> Score {
        let (mut reads, mut puts, mut again) = (0, 0, 0);
        for old in items.iter().cycle().take(rounds) {
            reads += usize::from(self.gets(old));
            let new = self.item(Some(old));
            let put = self.put(&new);
            puts += usize::from(self.hits(new.id().target(), &put) > 0);
            again += usize::from(self.gets(&new));
        }
        let percent = |hits: usize| (100 * hits / rounds) as u32;
        Score { reads: percent(reads), puts: percent(puts), again: percent(again) }
    }

    fn sum(&self, of: impl Fn(&dht_proto::stats::Stats) -> u64) -> u64 {
        self.honest().map(|host| of(&self.world.node(host).unwrap().stats())).sum()
    }

    fn contacts(&self) -> Vec<NodeInfo> {
        self.honest().flat_map(|host| self.world.node(host).unwrap().contacts(Family::V4)).collect()
    }
}

/// Percentages.
#[derive(Debug)]
struct Score {
    /// Gets that find what was put before the attack.
    reads: u32,
    /// Puts during the attack that reach an honest node which is truly among the closest.
    puts: u32,
    /// Gets that find the version put last, during the attack.
    again: u32,
}

fn id(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 20])
}

/// Tells the score, as a line of the table of docs/TESTING.md, and demands some of it.
fn at_least(what: &str, score: &Score, reads: u32, puts: u32, again: u32) {
    println!("| {what} | {} | {} | {} |", score.reads, score.puts, score.again);
    let reached = score.reads >= reads && score.puts >= puts && score.again >= again;
    assert!(reached, "{score:?}");
}

/// Items that are there before the attack.
fn items(town: &mut Town, count: usize) -> Vec<Item> {
    (0..count)
        .map(|_| {
            let item = town.item(None);
            assert!(town.put(&item).stored > 0);
            item
        })
        .collect()
}

fn liars(seed: u64, percent: u32, friends: bool) -> Score {
    let mut town = Town::settled(seed, 300, |_| {});
    let items = items(&mut town, 30);
    let hosts = town.take_over(percent);
    let infos: Vec<NodeInfo> = hosts.iter().map(|host| town.info(*host)).collect();
    for (host, info) in hosts.iter().zip(&infos) {
        let lie =
            if friends { Lie::Friends(infos.clone().into()) } else { Lie::Nobody { bits: 14 } };
        town.world.replace(*host, Box::new(Liar::new(info.id, lie)));
    }
    town.score(&items, 30)
}

#[test]
fn users_get_by_among_liars_who_name_nobody() {
    at_least("liars, 20 %, name nodes that do not exist", &liars(1, 20, false), 90, 90, 90);
}

#[test]
fn users_get_by_among_liars_who_name_friends() {
    at_least("liars, 20 %, name each other", &liars(2, 20, true), 90, 90, 90);
}

fn spread(seed: u64, percent: u32) -> Score {
    let mut town = Town::settled(seed, 1_000, |_| {});
    let items = items(&mut town, 50);
    let hosts = town.take_over(percent);
    assert_eq!(sybil::turn(&mut town.world, &hosts).members().len(), hosts.len());
    town.score(&items, 50)
}

#[test]
fn users_get_by_in_a_ring_that_is_a_fifth_of_the_network() {
    at_least("Sybils, spread, 20 %", &spread(3, 20), 90, 90, 90);
}

#[test]
fn users_get_by_in_a_ring_that_is_three_tenths_of_the_network() {
    at_least("Sybils, spread, 30 %", &spread(4, 30), 90, 90, 90);
}

/// A ring of new hosts around one item, which had this long to make itself known.
fn around(seed: u64, members: u32, addresses: u32, placed: impl Fn(Target) -> Placement) -> Score {
    let mut town = Town::settled(seed, 1_000, |config| config.extended_buckets = false);
    let items = items(&mut town, 1);
    let placement = placed(items[0].id().target());
    let founding = Founding {
        members,
        placement,
        addresses,
        pace: Pace { every: Duration::from_secs(2), burst: 1 },
    };
    let known = town.addrs();
    let ring = sybil::found(&mut town.world, &founding, &known);
    assert_eq!(ring.len() as u32, members);
    town.run(600);
    let listed = town
        .contacts()
        .iter()
        .filter(|c| town.world.host_at(c.addr).is_some_and(|h| ring.contains(&h)))
        .count();
    assert!(listed > 0, "the ring is in nobody's table");
    town.score(&items, 50)
}

#[test]
fn sixteen_packed_on_a_target() {
    let score = around(5, 16, 0, |target| Placement::Packed { target, bits: 24 });
    at_least("16 packed on the target (24 bits)", &score, 80, 0, 0);
}

#[test]
fn sixty_four_packed_on_a_target() {
    let score = around(6, 64, 0, |target| Placement::Packed { target, bits: 24 });
    at_least("64 packed on the target (24 bits)", &score, 80, 0, 0);
}

#[test]
fn sixty_four_packed_where_bep_42_allows() {
    let score = around(16, 64, 32, |target| Placement::Packed { target, bits: 160 });
    at_least("64 packed, ids by BEP 42, the best of 32 addresses each", &score, 90, 90, 90);
}

#[test]
fn sixteen_packed_where_bep_42_allows() {
    let score = around(7, 16, 32, |target| Placement::Packed { target, bits: 160 });
    at_least("16 packed, ids by BEP 42, the best of 32 addresses each", &score, 90, 90, 90);
}

#[test]
fn sixteen_that_look_like_the_closest_of_an_honest_network() {
    let score = around(8, 16, 0, |target| Placement::Matched { target, nodes: 1_000 });
    at_least("16 as far from the target as the closest of 1,000", &score, 90, 90, 90);
}

#[test]
fn forged_queries_list_nobody_and_poisoners_stay_few() {
    let mut town = Town::settled(9, 200, |_| {});
    let items = items(&mut town, 20);
    let victims = Ring::new(town.honest().map(|host| town.info(host)).collect());
    let places: Vec<_> = (0..8).map(|_| town.world.next_addrs(Networks::V4)).collect();
    let friends: Arc<[NodeInfo]> =
        places.iter().map(|addrs| NodeInfo { id: id(1), addr: addrs.v4.unwrap().into() }).collect();
    let poison = Poison {
        victims,
        friends,
        bit: 150,
        forged: Ratio::percent(30),
        pace: Pace::per_second(20),
    };
    for (bit, addrs) in (150..).zip(places) {
        let poison = Poison { bit, ..poison.clone() };
        town.world.add_actor(addrs, Box::new(Poisoner::new(poison)));
    }
    town.run(400);
    let contacts = town.contacts();
    let poisoned = contacts.iter().filter(|contact| {
        let host = town.world.host_at(contact.addr).expect("nobody is listed who is not there");
        host.0 >= town.nodes
    });
    let poisoned = poisoned.count();
    let share = 100 * poisoned / contacts.len();
    assert!(share <= 10, "{share} of 100 contacts");
    let score = town.score(&items, 20);
    at_least(
        "poisoners, 8, a third of their queries forged (200 nodes, 20 rounds)",
        &score,
        90,
        90,
        90,
    );
}

#[test]
fn nobody_believes_a_reply_from_who_was_not_asked() {
    let mut town = Town::settled(10, 200, |_| {});
    let planted = "66.6.6.6:6666".parse().unwrap();
    let victims: Vec<HostId> = vec![HostId(3), HostId(77)];
    let asked = (0..town.nodes).map(|host| town.info(HostId(host))).collect();
    let forgery = Forgery {
        victims: victims.iter().map(|host| town.info(*host).addr).collect(),
        asked,
        tid_len: 4,
        planted,
        pace: Pace { every: Duration::from_millis(5), burst: 20 },
    };
    town.add(Spoofer::new(forgery.clone()));
    town.add(Spoofer::new(Forgery { tid_len: 2, ..forgery }));
    for round in 0..40 {
        let info_hash = InfoHash::from_bytes([round; 20]);
        let get = Lookup::GetPeers { info_hash, scrape: false, noseed: false };
        let (events, outcome) = town.look_up(victims[usize::from(round) % 2], &get);
        assert!(!events.iter().any(|event| matches!(event, Event::Peers { .. })), "{events:?}");
        assert!(outcome.peers == 0 && town.hits(info_hash.target(), &outcome) >= 7);
    }
    town.run(60);
    assert!(town.sum(|stats| stats.unsolicited) > 10_000);
    assert!(town.contacts().iter().all(|contact| contact.addr != SocketAddr::V4(planted)));
}

#[test]
fn tokens_are_good_for_nothing_but_what_they_were_given_for() {
    let rotation = Duration::from_secs(20);
    let mut town = Town::settled(11, 40, |config| config.token_rotation = rotation);
    let (late, info_hash) = (3 * rotation, InfoHash::from_bytes([9; 20]));
    let pace = Pace::per_second(50);
    let known = town.addrs();
    town.add(Replayer::new(id(4), known, info_hash, late, pace));
    town.run(200);
    assert!(town.sum(|stats| stats.bad_tokens) > 1_000);
    assert_eq!(town.sum(|stats| stats.peers + stats.torrents + stats.items), 0);
}

/// What each node sends a victim stays within its budget for one network.
#[derive(Debug)]
struct Inflow {
    victim: IpAddr,
    burst: u64,
    rate: u64,
    nodes: std::collections::BTreeMap<SocketAddr, (Instant, u64)>,
}

impl Checker for Inflow {
    fn name(&self) -> &'static str {
        "inflow"
    }

    fn happened(&mut self, now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Happening::Carried { from, to, bytes } = what else { return Ok(()) };
        if to.ip() != self.victim {
            return Ok(());
        }
        let (since, sum) = self.nodes.entry(*from).or_insert((now, 0));
        *sum += bytes.len() as u64;
        let earned = self.rate * now.since(*since).as_millis() as u64 / 1_000;
        // The last reply may exceed what is left by all but a byte.
        if *sum > self.burst + earned + 1_400 {
            return Err(format!("{from} sent {sum} bytes in {:?}", now.since(*since)));
        }
        Ok(())
    }
}

#[test]
fn a_victim_gets_no_more_from_a_node_than_its_budget() {
    let (rate, burst) = (4_096, 16_384);
    let mut town = Town::settled(12, 60, |config| {
        config.subnet_bytes_per_sec = rate;
        config.subnet_burst_bytes = burst;
    });
    let info_hash = InfoHash::from_bytes([1; 20]);
    for host in 0..30 {
        let (port, seed) = (AnnouncePort::Explicit(9_000), false);
        town.look_up(HostId(host), &Lookup::Announce { info_hash, port, seed });
    }
    let item = Item::immutable(&bencode_bytes(&[b'v'; 900])).unwrap();
    town.put(&item);
    let victim = town.world.next_addrs(Networks::V4);
    town.world.add_nobody(victim);
    let victim = SocketAddr::V4(victim.v4.unwrap());
    let nodes = std::collections::BTreeMap::new();
    let (rate, burst) = (u64::from(rate), u64::from(burst));
    town.world.watch(Box::new(Inflow { victim: victim.ip(), burst, rate, nodes }));
    let near = town.oracle.closest(info_hash.target(), 6, |_| true);
    let reflectors = near.iter().map(|(_, host)| town.info(*host).addr).collect();
    let rich = Arc::new([info_hash.target(), item.id().target()]);
    let pace = Pace { every: Duration::from_millis(10), burst: 10 };
    town.add(Amplifier::new(id(5), victim, reflectors, rich, pace));
    town.run(40);
    assert!(town.sum(|stats| stats.throttled) > 10_000);
    assert!(near.iter().all(|(_, host)| town.world.node(*host).unwrap().stats().bytes_out > burst));
}

#[test]
fn stores_fill_up_to_their_bounds_and_users_still_store() {
    let mut town = Town::settled(13, 60, |config| {
        (config.max_torrents, config.max_peers_per_torrent, config.max_items) = (30, 20, 30);
    });
    let known = town.addrs();
    for n in 0..8 {
        town.add(Flooder::new(id(n), known.clone(), 900, 40, Pace::per_second(40)));
    }
    town.run(120);
    let mut full = 0;
    for host in town.honest() {
        let stats = town.world.node(host).unwrap().stats();
        assert!(stats.torrents <= 30 && stats.peers <= 600 && stats.items <= 30, "{stats:?}");
        full += usize::from(stats.torrents == 30 || stats.items == 30);
    }
    assert!(full >= 30, "{full}");
    let stored = (0..20).filter(|_| {
        let item = town.item(None);
        town.put(&item).stored > 0 && town.gets(&item)
    });
    let stored = stored.count();
    assert!(stored >= 10, "{stored}");
}

#[test]
fn who_answers_slowly_does_not_keep_lookups_from_ending() {
    let mut town = Town::settled(14, 300, |_| {});
    let items = items(&mut town, 20);
    let everybody = Ring::new(town.honest().map(|host| town.info(host)).collect());
    for host in town.take_over(30) {
        let slow = Slow::new(town.info(host).id, Duration::from_millis(9_700), everybody.clone());
        town.world.replace(host, Box::new(slow));
    }
    for round in 0..20 {
        let host = town.somebody();
        let start = town.world.now();
        let target = NodeId::from_bytes([round * 12; 20]);
        let (_, outcome) = town.look_up(host, &Lookup::FindNode { target });
        assert!(town.world.now().since(start) <= Duration::from_secs(120), "{outcome:?}");
    }
    let score = town.score(&items, 20);
    at_least("slow, 30 %, answer after 9.7 s (300 nodes, 20 rounds)", &score, 90, 90, 90);
}

#[test]
fn garbage_changes_nothing() {
    let mut town = Town::settled(15, 120, |_| {});
    let items = items(&mut town, 20);
    let known = town.addrs();
    let pace = Pace { every: Duration::from_millis(10), burst: 5 };
    for n in 0..3 {
        town.add(Garbage::new(id(n), known.clone(), pace));
    }
    town.run(60);
    let score = town.score(&items, 20);
    assert!(town.sum(|stats| stats.malformed) > 10_000);
    let nodes = town.nodes;
    let is_honest = |addr| town.world.host_at(addr).is_some_and(|host| host.0 < nodes);
    // A reply that is spoilt in its id alone is a reply, under another id each time.
    let contacts = town.contacts();
    let others = contacts.iter().filter(|contact| !is_honest(contact.addr)).count();
    assert!(others * 1_000 < contacts.len(), "{others} of {}", contacts.len());
    at_least("garbage, 3 (120 nodes, 20 rounds)", &score, 100, 100, 100);
}
