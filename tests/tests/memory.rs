//! Rules 6 and 12: memory is bounded, and an idle node is small.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::request::{AnnouncePort, Lookup};
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Method, Query, decode};
use dht_proto::{Dht, MAX_DATAGRAM, Networks, Transmit};
use dht_tests::hand::{deliver, drain};
use dht_tests::populate::{
    announce_peer, announce_peers, full_table, full_table_after_work, put_item, put_items, query,
};
use dht_tests::script::Answer;
use dht_tests::world::World;

/// What an idle node may take up, allocator included, so that 10^6 of them fit in 6.5 GB.
const MOST: usize = 6_500;
/// What an allocator adds to an allocation, header and rounding, at most on average.
const PER_ALLOCATION: usize = 16;

/// Makes a node and measures what it takes up then.
fn measured(mode: Mode, what: &str, make: impl FnOnce(&Arc<Config>) -> (Dht, Instant)) -> usize {
    let mut config = Config::default();
    config.mode = mode;
    let config = Arc::new(config);
    let mut kept = None;
    let counted = allocation_counter::measure(|| kept = Some(make(&config)));
    let (dht, _) = kept.unwrap();
    let contacts = dht.stats().contacts;
    assert_eq!(contacts, 144);
    let heap = usize::try_from(counted.bytes_current).unwrap();
    let allocations = usize::try_from(counted.count_current).unwrap();
    let (own, overhead) = (size_of::<Dht>(), allocations * PER_ALLOCATION);
    assert_eq!(dht.memory(), heap + own, "what it says itself");
    println!(
        "{what}, {contacts} contacts: {heap} B in {allocations} allocations + {own} B = {} B, \
         {} B with the allocator's share",
        heap + own,
        heap + own + overhead
    );
    heap + own + overhead
}

#[test]
fn rule_12_an_idle_node_is_small() {
    let total = measured(Mode::Server, "idle", |config| full_table(config, &[8; 18]));
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn rule_12_a_node_gives_memory_back_after_work() {
    let work = |config: &_| full_table_after_work(config, &[8; 18]);
    let total = measured(Mode::Server, "idle again", work);
    assert!(total <= MOST, "{total} bytes");
}

/// Whom it sent to is remembered only until strangers have proven that it can be reached.
#[test]
fn rule_12_an_adaptive_node_is_small_once_it_is_proven_reachable() {
    let work = |config: &_| full_table_after_work(config, &[8; 18]);
    let total = measured(Mode::Adaptive, "adaptive, idle again", work);
    assert!(total <= MOST, "{total} bytes");
}

#[test]
fn a_default_node_fits_a_small_machine() {
    let config = Config::default();
    let ceiling = config.memory_ceiling();
    println!("{} MB", ceiling >> 20);
    assert!(ceiling > config.max_torrents * config.max_peers_per_torrent * 6, "stores count");
    assert!(ceiling < 700 << 20, "a default node fits a small machine: {} MB", ceiling >> 20);
}

/// Makes up hosts, peers and ids, each other than all before.
struct Liar {
    made: u32,
}

impl Liar {
    fn addr(&mut self, is_v4: bool) -> SocketAddr {
        self.made += 1;
        let [a, b, c, d] = self.made.to_be_bytes();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if is_v4 {
            SocketAddr::from(([32 + b, c, d, 1], 6881))
        } else {
            SocketAddr::from(([0x2a00, high, low, 0, 0, 0, 0, 1], 6881))
        }
    }

    /// Nearer to the target than all before, so that no walk comes to its end.
    fn node(&mut self, target: Target, is_v4: bool) -> (NodeId, SocketAddr) {
        let addr = self.addr(is_v4);
        let mut id = *target.as_bytes();
        let distance = (u32::MAX - self.made).to_be_bytes();
        id.iter_mut().skip(8).zip(distance).for_each(|(byte, distance)| *byte ^= distance);
        (NodeId::from_bytes(id), addr)
    }

    /// As much as an answer can hold.
    fn answer(&mut self, from: (NodeId, SocketAddr), target: Target) -> Answer {
        let is_v4 = from.1.is_ipv4();
        let mut answer = Answer::new(from.0);
        answer.token = Some(vec![7; 40]);
        answer.nodes = (0..16).map(|_| self.node(target, is_v4)).collect();
        answer.values = (0..128).map(|_| self.addr(is_v4)).collect();
        answer
    }
}

/// Answers all queries that leave until `replies` are reached; reads events only if told to.
fn feed(dht: &mut Dht, liar: &mut Liar, now: Instant, replies: usize, read: bool) -> usize {
    let (mut answered, mut ids) = (0, BTreeMap::new());
    let mut buf = [0; MAX_DATAGRAM];
    while answered < replies {
        while read && dht.poll_event().is_some() {}
        let Some(sent) = dht.poll_transmit(now, &mut buf) else { break };
        let message = decode(&buf[..sent.len]).unwrap();
        let Body::Query(Query { method, .. }) = message.body else { panic!("our own query") };
        let target = match method {
            Method::GetPeers { info_hash, .. } => info_hash.target(),
            Method::FindNode { target } => target,
            _ => continue,
        };
        let id = *ids.entry(sent.to).or_insert_with(|| liar.node(target, true).0);
        let answer = liar.answer((id, sent.to), target);
        for (id, addr) in &answer.nodes {
            ids.insert(*addr, *id);
        }
        let bytes = answer.encode(message.tid);
        let _ = dht.handle_datagram(now, sent.to, &bytes, &mut [0; MAX_DATAGRAM]);
        answered += 1;
    }
    answered
}

/// Stores, lookups, finds, tokens, events and queries in flight, on both networks at once.
#[test]
fn everything_at_its_maximum_stays_below_the_ceiling() {
    let mut config = World::generous_config(&[World::v4(0), World::v6(0)]);
    config.max_torrents = 60;
    config.max_peers_per_torrent = 60;
    config.max_items = 200;
    config.max_lookups = 9;
    config.max_transactions = 128;
    config.max_events = 64;
    let config = Arc::new(config);
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let now = Instant::from_secs(1);
        let seed = Seed::from_bytes([1; 32]);
        let mut dht = Dht::new(config.clone(), Networks::Both, &seed, now);
        let mut liar = Liar { made: 0 };
        for byte in 0..60 {
            announce_peers(&mut dht, now, InfoHash::from_bytes([byte; 20]), 60);
        }
        put_items(&mut dht, now, 200);
        for byte in 0..8 {
            let info_hash = InfoHash::from_bytes([byte; 20]);
            let lookup = Lookup::GetPeers { info_hash, scrape: true, noseed: false };
            dht.start(now, &lookup).unwrap();
        }
        let answered = feed(&mut dht, &mut liar, now, 8 * 2 * 60, true);
        println!("{answered} answers read");
        let unread = feed(&mut dht, &mut liar, now, usize::MAX, false);
        println!("{unread} answers unread");
        // Nobody answers the rest.
        dht.check_invariants();
        kept = Some(dht);
    });
    let dht = kept.unwrap();
    // What it says itself, B-trees estimated.
    let heap = usize::try_from(counted.bytes_current).unwrap();
    let (said, is) = (dht.memory(), heap + size_of::<Dht>());
    println!("{said} B by its own account, {is} B in truth");
    assert!(said.abs_diff(is) <= is * 15 / 100, "{said} B by its own account, {is} B in truth");
    let stats = dht.stats();
    assert_eq!((stats.torrents, stats.peers, stats.items), (60, 60 * 60, 200), "{stats:?}");
    let (peak, ceiling) = (counted.bytes_max as usize, config.memory_ceiling());
    println!("{peak} B of {ceiling} B, {} %", peak * 100 / ceiling);
    assert!(peak <= ceiling, "{peak} > {ceiling}");
    assert!(peak > ceiling / 8, "{peak} of {ceiling}: hardly anything was filled");
}

/// A walk of one network, by what it is for.
type WalkOf = (Target, bool);

/// A query that left, and whose answer may still come.
struct Waiting {
    to: SocketAddr,
    tid: Vec<u8>,
    /// The walk that it is a step of; none for a ping.
    walk: Option<WalkOf>,
}

/// A node whom hardly anybody answers.
struct InVain {
    dht: Dht,
    now: Instant,
    liar: Liar,
    ids: BTreeMap<SocketAddr, NodeId>,
    waiting: Vec<Waiting>,
    /// How many answers each walk has got.
    answers: BTreeMap<WalkOf, usize>,
}

impl InVain {
    /// With one announce for each of so many infohashes.
    fn new(config: &Arc<Config>, candidates: impl Iterator<Item = SocketAddr>, n: usize) -> Self {
        let seed = Seed::from_bytes([1; 32]);
        let mut dht = Dht::new(config.clone(), Networks::Both, &seed, NOW);
        candidates.for_each(|addr| dht.add_contact(NOW, addr, None));
        for i in 0..n {
            let (info_hash, port, seed) = (hash(i), AnnouncePort::Explicit(1), false);
            dht.start(NOW, &Lookup::Announce { info_hash, port, seed }).unwrap();
        }
        let (liar, ids) = (Liar { made: 0 }, BTreeMap::new());
        let (waiting, answers) = (Vec::new(), BTreeMap::new());
        Self { dht, now: NOW, liar, ids, waiting, answers }
    }

    /// Steps of walks that wait for an answer.
    fn asked(&self) -> usize {
        self.waiting.iter().filter(|query| query.walk.is_some()).count()
    }

    /// Does what is due. Of each walk the first so many queries are answered.
    fn step(&mut self, answers: usize) {
        self.dht.handle_timeout(self.now);
        let mut buf = [0; MAX_DATAGRAM];
        while let Some(Transmit { to, len }) = self.dht.poll_transmit(self.now, &mut buf) {
            let message = decode(&buf[..len]).unwrap();
            let Body::Query(Query { method, .. }) = message.body else { panic!("our own query") };
            let walk = match method {
                Method::GetPeers { info_hash, .. } => Some((info_hash.target(), to.is_ipv4())),
                _ => None,
            };
            let query = Waiting { to, tid: message.tid.to_vec(), walk };
            self.hear(query, answers);
        }
        self.dht.check_invariants();
        assert!(self.dht.memory() <= self.dht.config().unwrap().memory_ceiling());
    }

    /// Answers a query with sixteen names, unless its walk has had so many answers.
    fn hear(&mut self, query: Waiting, answers: usize) {
        let Some((target, is_v4)) = query.walk else { return self.waiting.push(query) };
        let had = self.answers.entry((target, is_v4)).or_default();
        if *had >= answers {
            return self.waiting.push(query);
        }
        *had += 1;
        let Self { dht, liar, ids, .. } = self;
        let id = *ids.entry(query.to).or_insert_with(|| liar.node(target, is_v4).0);
        let answer = liar.answer((id, query.to), target);
        ids.extend(answer.nodes.iter().map(|(id, addr)| (*addr, *id)));
        let bytes = answer.encode(&query.tid);
        let _ = dht.handle_datagram(self.now, query.to, &bytes, &mut [0; MAX_DATAGRAM]);
        // While events wait to be read, lookups wait.
        while dht.poll_event().is_some() {}
    }

    /// Goes on until so many steps of walks wait for an answer.
    fn run(&mut self, answers: usize, asked: usize) {
        for _ in 0..1_000 {
            self.step(answers);
            if self.asked() >= asked {
                break;
            }
            self.now = self.dht.poll_timeout().unwrap();
        }
        assert_eq!(self.asked(), asked);
        let stats = self.dht.stats();
        assert_eq!(stats.in_flight, self.waiting.len() as u64, "nobody was given up");
    }
}

/// A walk remembers everybody whom it asked in vain, because the answer may still come. At worst first
/// nobody answers whom it starts from, though each is asked again and again; then one does, late, and
/// just enough others for their names to fill its frontier with nodes that stall.
#[test]
fn walks_that_ask_everybody_in_vain_stay_below_the_ceiling() {
    /// Of users, and those of the node itself, on both networks.
    const WALKS: usize = 2 * (8 + 1);
    /// Addresses to start from, half of them configured, and how often each is asked.
    const STARTS: usize = 64;
    const TRIES: usize = 3;
    /// With sixteen names each, one less would not fill the frontier.
    const ANSWERS: usize = 7;
    let starts = |range: core::ops::Range<usize>| {
        PLACES.into_iter().flat_map(move |place| range.clone().map(place))
    };
    let mut config = World::generous_config(&starts(0..STARTS / 2).collect::<Vec<_>>());
    assert!((16 * (ANSWERS - 1)..16 * ANSWERS).contains(&config.max_frontier));
    let stalled = STARTS * TRIES - 1 + config.max_frontier - ANSWERS;
    (config.alpha, config.stall_initial) = (64, Duration::from_millis(1));
    (config.query_timeout, config.lookup_timeout) = (HOUR, HOUR);
    // A ping for each who may become a contact is in flight, too.
    (config.max_lookups, config.max_transactions) = (WALKS / 2, WALKS / 2 * stalled + STARTS);
    let mut node = InVain::new(&Arc::new(config), starts(STARTS / 2..STARTS), WALKS / 2 - 1);
    node.run(0, WALKS * STARTS * TRIES);
    for late in core::mem::take(&mut node.waiting).into_iter().rev() {
        node.hear(late, 1);
    }
    node.run(ANSWERS, WALKS * stalled);
    assert_eq!(node.answers.len(), WALKS);
    assert_eq!(node.dht.stats().lookups_running, WALKS as u64);
    let (said, ceiling) = (node.dht.memory(), node.dht.config().unwrap().memory_ceiling());
    println!("{said} B of {ceiling} B, {} queries in flight", node.waiting.len());
}

/// One limit of the configuration: how it is set, two values of it, and how a node gets there on
/// both networks.
struct Limit {
    name: &'static str,
    set: fn(&mut Config, usize),
    low: usize,
    high: usize,
    fill: fn(&mut Dht, usize),
}

const NOW: Instant = Instant::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// Hosts that share no quota, on either network.
const PLACES: [fn(usize) -> SocketAddr; 2] = [|i| World::v4(256 * i), World::v6];
const LIMITS: [Limit; 13] = [
    Limit {
        name: "max_candidates",
        set: |config, n| config.max_candidates = n,
        low: 10,
        high: 4_000,
        fill: |dht, n| {
            for place in PLACES {
                (0..n).for_each(|i| dht.add_contact(NOW, place(i), None));
            }
            assert_eq!(dht.stats().candidates, 2 * n as u64);
        },
    },
    Limit {
        name: "max_lookups",
        set: |config, n| config.max_lookups = n,
        low: 2,
        high: 10,
        fill: |dht, n| {
            start(dht, n);
            feed(dht, &mut Liar { made: 0 }, NOW, n * 2 * 60, true);
            assert_eq!(dht.stats().lookups_running, 2 * n as u64);
        },
    },
    Limit {
        name: "max_frontier",
        set: |config, n| config.max_frontier = n,
        low: 16,
        // Lists double, and just did.
        high: 1_050,
        fill: |dht, n| {
            let target = NodeId::from_bytes([1; 20]);
            dht.start(NOW, &Lookup::FindNode { target }).unwrap();
            // Whoever has answered, and left the longest token, keeps his place; the walk that has
            // no others left would end.
            let replies = 2 * (n - 10);
            assert_eq!(feed(dht, &mut Liar { made: 0 }, NOW, replies, true), replies);
            assert_eq!(dht.stats().lookups_running, 2);
        },
    },
    Limit {
        name: "max_transactions",
        set: |config, n| {
            (config.max_transactions, config.max_lookups, config.alpha) = (n, 40, 64);
        },
        low: 10,
        high: 1_000,
        fill: |dht, n| {
            start(dht, 40);
            drain(dht, NOW);
            assert_eq!(dht.stats().in_flight, 2 * n as u64);
        },
    },
    Limit {
        name: "max_events",
        set: |config, n| (config.max_events, config.max_lookups) = (n, 8),
        low: 2,
        high: 300,
        fill: |dht, n| {
            start(dht, 8);
            // The same answers either way, so that lookups remember the same.
            let is_low = n < 300;
            assert_eq!(feed(dht, &mut Liar { made: 0 }, NOW, 300, is_low), 300);
        },
    },
    Limit {
        name: "max_torrents",
        set: |config, n| (config.max_torrents, config.max_peers_per_torrent) = (n, 1),
        low: 10,
        high: 1_000,
        fill: |dht, n| {
            announce_torrents(dht, n);
            assert_eq!(dht.stats().torrents, 2 * n as u64);
        },
    },
    Limit {
        name: "max_peers_per_torrent",
        set: |config, n| (config.max_torrents, config.max_peers_per_torrent) = (1, n),
        low: 10,
        high: 1_000,
        fill: |dht, n| {
            for place in PLACES {
                (0..n).for_each(|i| announce_peer(dht, NOW, place(i), hash(0)));
            }
            assert_eq!(dht.stats().peers, 2 * n as u64);
        },
    },
    Limit {
        name: "max_items",
        set: |config, n| config.max_items = n,
        low: 10,
        high: 500,
        fill: |dht, n| {
            for place in PLACES {
                (0..n).for_each(|i| put_item(dht, NOW, place(i), i as u64));
            }
            assert_eq!(dht.stats().items, 2 * n as u64);
        },
    },
    Limit {
        name: "max_samples",
        set: |config, n| {
            (config.max_samples, config.max_torrents, config.max_peers_per_torrent) = (n, 64, 1);
        },
        low: 4,
        high: 64,
        fill: |dht, _| {
            announce_torrents(dht, 64);
            let ask = query(Method::SampleInfohashes { target: Target::from_bytes([1; 20]) });
            for place in PLACES {
                assert!(deliver(dht, NOW, place(0), &ask).is_some());
            }
        },
    },
    Limit {
        name: "throttle_slots",
        set: |config, n| {
            (config.throttle_slots, config.subnet_burst_bytes) = (n, 10_000);
            config.subnet_bytes_per_sec = 1_000;
        },
        low: 8,
        high: 1 << 16,
        fill: |dht, _| {
            for place in PLACES {
                (0..500).for_each(|_| drop(deliver(dht, NOW, place(0), &query(Method::Ping))));
            }
            assert!(dht.stats().throttled > 0);
        },
    },
    Limit {
        name: "throttle_slots, with queries limited",
        set: |config, n| {
            (config.throttle_slots, config.subnet_burst_bytes) = (n, 10_000);
            config.subnet_bytes_per_sec = 1_000;
            config.subnet_query_interval = Duration::from_secs(1);
        },
        low: 8,
        high: 1 << 16,
        fill: |dht, _| {
            for place in PLACES {
                (0..500).for_each(|_| drop(deliver(dht, NOW, place(0), &query(Method::Ping))));
            }
            assert!(dht.stats().throttled > 0);
        },
    },
    // A node has a copy of what had to be corrected.
    Limit {
        name: "bootstrap",
        set: |config, n| (config.bootstrap, config.k) = ((0..n).map(World::v4).collect(), 0),
        low: 100,
        high: 1_000,
        fill: |_, _| {},
    },
    Limit {
        name: "public_ips",
        set: |config, n| {
            (config.public_ips, config.k) = ((0..n).map(|i| World::v4(i).ip()).collect(), 0);
        },
        low: 10,
        high: 1_000,
        fill: |_, _| {},
    },
];

fn hash(n: usize) -> InfoHash {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    InfoHash::from_bytes(bytes)
}

/// One peer each.
fn announce_torrents(dht: &mut Dht, n: usize) {
    for place in PLACES {
        (0..n).for_each(|i| announce_peer(dht, NOW, place(i), hash(i)));
    }
}

fn start(dht: &mut Dht, lookups: usize) {
    for i in 0..lookups {
        let lookup = Lookup::GetPeers { info_hash: hash(i), scrape: true, noseed: false };
        dht.start(NOW, &lookup).unwrap();
    }
}

/// What a node takes up that has reached a limit, and the ceiling. All other limits are low.
fn reached(limit: &Limit, value: usize) -> (usize, usize) {
    let bootstrap: Vec<_> = PLACES.iter().flat_map(|place| (0..30).map(place)).collect();
    let mut config = World::generous_config(&bootstrap);
    config.extended_buckets = false;
    (config.max_frontier, config.max_lookups, config.max_transactions) = (100, 1, 64);
    (config.max_candidates, config.max_events, config.throttle_slots) = (0, 8, 8);
    (config.max_torrents, config.max_items, config.max_samples) = (0, 0, 0);
    (limit.set)(&mut config, value);
    let (config, mut kept) = (Arc::new(config), None);
    let counted = allocation_counter::measure(|| {
        let mut dht = Dht::new(config.clone(), Networks::Both, &Seed::from_bytes([1; 32]), NOW);
        (limit.fill)(&mut dht, value);
        dht.check_invariants();
        kept = Some(dht);
    });
    (usize::try_from(counted.bytes_current).unwrap(), config.memory_ceiling())
}

/// What a higher limit lets a node take up more, the ceiling counts, and not much beyond that: so
/// nothing is missing in the ceiling that is small beside the rest.
#[test]
fn every_limit_counts_in_the_ceiling() {
    for limit in LIMITS {
        let (low, low_ceiling) = reached(&limit, limit.low);
        let (high, high_ceiling) = reached(&limit, limit.high);
        let (more, allowed) = (high - low, high_ceiling - low_ceiling);
        println!("{}: {more} B of {allowed} B, {} %", limit.name, more * 100 / allowed.max(1));
        assert!(more <= allowed, "{}: {more} B of {allowed} B", limit.name);
        // Each query in flight may bring an event, which is far larger than what is known of it.
        let slack = if limit.name == "max_transactions" { 128 } else { 8 };
        assert!(more > allowed / slack, "{}: {more} B of {allowed} B", limit.name);
    }
}
