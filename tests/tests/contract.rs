//! The twelve rules of `dht-proto`'s contract (docs/ARCHITECTURE.md, "The contract"), one test each
//! or more. The network in memory checks the drain and progress rules on every step as well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::{Config, Mode};
use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::request::{AnnouncePort, Ended, Event, Lookup, LookupId, StartError};
use dht_proto::seed::{Domain, Seed, Stream};
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Message, Method, Query, Reply, decode, write_node};
use dht_proto::{Dht, MAX_DATAGRAM, Networks};
use dht_tests::ask::find_node;
use dht_tests::hand::{drain, node};
use dht_tests::script::{self, encode};
use dht_tests::world::World;
use proptest::prelude::*;

fn server(bootstrap: &[SocketAddr]) -> Dht {
    let config = World::server_config(bootstrap);
    node(config, Networks::V4)
}

fn query(method: Method<'_>) -> Vec<u8> {
    script::query(NodeId::from_bytes([9; 20]), b"tid!", false, method)
}

/// The answer of an imaginary node to one of our queries.
fn answer(query: &[u8], id: NodeId, nodes: &[u8]) -> Vec<u8> {
    let message = decode(query).unwrap();
    let mut reply = Reply::new(id);
    reply.nodes = Some(nodes);
    reply.token = Some(b"token");
    encode(&Message { version: None, body: Body::Reply(reply), ..message })
}

// Rules 1 and 2: drain and progress, under arbitrary input.

#[derive(Clone, Debug)]
enum Input {
    Wait(u32),
    Bytes(Vec<u8>),
    Query(u8, u8),
    Answer(u8),
    Start(u8),
    Cancel(u8),
    Unreachable,
    Contact(u8),
    PollOneTransmit,
    PollOneEvent,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        (0_u32..20_000_000).prop_map(Input::Wait),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Input::Bytes),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Input::Query(a, b)),
        any::<u8>().prop_map(Input::Answer),
        any::<u8>().prop_map(Input::Start),
        any::<u8>().prop_map(Input::Cancel),
        Just(Input::Unreachable),
        any::<u8>().prop_map(Input::Contact),
        Just(Input::PollOneTransmit),
        Just(Input::PollOneEvent),
    ]
}

fn some_query(kind: u8, byte: u8) -> Vec<u8> {
    let target = Target::from_bytes([byte; 20]);
    let info_hash = target.info_hash();
    query(match kind % 8 {
        0 => Method::Ping,
        1 => Method::FindNode { target },
        2 => Method::GetPeers { info_hash, noseed: false, scrape: byte.is_multiple_of(2) },
        3 => Method::AnnouncePeer {
            info_hash,
            port: 1,
            implied_port: false,
            seed: false,
            token: b"guessed!",
        },
        4 => Method::Get { target: target.item_id(), seq: None },
        5 => Method::SampleInfohashes { target },
        6 => Method::Unknown { name: b"vote", target: None },
        _ => Method::Unknown { name: b"vote", target: Some(target) },
    })
}

fn some_lookup(byte: u8) -> Lookup {
    let info_hash = InfoHash::from_bytes([byte; 20]);
    match byte % 4 {
        0 => Lookup::GetPeers { info_hash, scrape: true, noseed: false },
        1 => Lookup::Announce { info_hash, port: AnnouncePort::Implied, seed: true },
        2 => Lookup::Ping { addr: World::v4(usize::from(byte)) },
        _ => find_node(byte),
    }
}

/// A node under arbitrary input, with the rules checked after each.
/// Rounds of a loop at one time. One more is needed if what was drained has ended something.
const MAX_ROUNDS: usize = 4;

struct Subject {
    dht: Dht,
    now: Instant,
    queries: Vec<(SocketAddr, Vec<u8>)>,
    running: Vec<LookupId>,
    over: Vec<LookupId>,
    /// Driven by `handle_due`, in rounds until it may sleep, as loops do.
    by_due: bool,
}

impl Subject {
    fn new(config: Config, by_due: bool) -> Self {
        let dht = node(config, Networks::V4);
        let (now, queries) = (Instant::from_secs(1), Vec::new());
        Self { dht, now, queries, running: Vec::new(), over: Vec::new(), by_due }
    }

    fn apply(&mut self, input: Input) {
        let mut buf = [0; MAX_DATAGRAM];
        match input {
            Input::Wait(micros) => self.now = self.now + Duration::from_micros(micros.into()),
            Input::Bytes(bytes) => self.receive(World::v4(1), &bytes),
            Input::Query(kind, byte) => {
                self.receive(World::v4(usize::from(byte)), &some_query(kind, byte));
            }
            Input::Answer(byte) => {
                if let Some((to, query)) = self.queries.pop() {
                    let id = NodeId::from_bytes([byte; 20]);
                    let mut nodes = [0; 26];
                    let SocketAddr::V4(other) = World::v4(usize::from(byte) + 256) else { return };
                    write_node(NodeId::from_bytes([!byte; 20]), other, &mut nodes).unwrap();
                    self.receive(to, &answer(&query, id, &nodes));
                }
            }
            Input::Start(byte) => {
                if let Ok(id) = self.dht.start(self.now, &some_lookup(byte)) {
                    self.running.push(id);
                }
            }
            Input::Cancel(byte) => {
                if !self.running.is_empty() {
                    let id = self.running.swap_remove(usize::from(byte) % self.running.len());
                    assert!(self.dht.cancel(id), "it was running");
                    assert!(!self.dht.cancel(id), "it is not any more");
                    self.over.push(id);
                }
            }
            Input::Unreachable => {
                if let Some((to, _)) = self.queries.pop() {
                    self.dht.handle_unreachable(self.now, to);
                }
            }
            Input::Contact(byte) => {
                self.dht.add_contact(self.now, World::v4(usize::from(byte)), None);
            }
            Input::PollOneTransmit => {
                if let Some(sent) = self.dht.poll_transmit(self.now, &mut buf) {
                    self.queries.push((sent.to, buf[..sent.len].to_vec()));
                }
            }
            Input::PollOneEvent => {
                self.take_event();
            }
        }
        self.check();
    }

    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        let mut reply = [0; MAX_DATAGRAM];
        if let Some(sent) = self.dht.handle_datagram(self.now, from, bytes, &mut reply) {
            assert_eq!(sent.to, from, "rule 3: to the source");
            assert!(sent.len <= MAX_DATAGRAM);
            assert!(decode(&reply[..sent.len]).is_ok(), "we send only valid messages");
        }
    }

    fn take_event(&mut self) -> bool {
        let Some(event) = self.dht.poll_event() else { return false };
        if let Some(id) = event.lookup() {
            assert!(!self.over.contains(&id), "rule 7: nothing after Done or cancel");
            if let Event::Done { .. } = event {
                self.running.retain(|running| *running != id);
                self.over.push(id);
            }
        }
        true
    }

    fn check(&mut self) {
        self.dht.check_invariants();
        if self.dht.poll_timeout().is_some_and(|due| due <= self.now) {
            return;
        }
        let mut buf = [0; MAX_DATAGRAM];
        assert!(self.dht.poll_transmit(self.now, &mut buf).is_none(), "rule 1: a query was hidden");
        assert!(self.dht.poll_event().is_none(), "rule 1: an event was hidden");
    }

    fn progress(&mut self) {
        let is_done = |dht: &Dht, now| dht.poll_timeout().is_none_or(|due| due > now);
        if !self.by_due {
            self.dht.handle_timeout(self.now);
            self.drain();
        }
        for _ in 0..MAX_ROUNDS {
            if !self.by_due || is_done(&self.dht, self.now) {
                break;
            }
            self.dht.handle_due(self.now);
            self.drain();
        }
        assert!(is_done(&self.dht, self.now), "rule 2: something was left undone");
    }

    fn drain(&mut self) {
        loop {
            let mut buf = [0; MAX_DATAGRAM];
            let event = self.take_event();
            if !event && self.dht.poll_transmit(self.now, &mut buf).is_none() {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rules_1_2_3_and_7_hold_under_arbitrary_input(
        by_due in any::<bool>(),
        inputs in proptest::collection::vec(input(), 1..120)
    ) {
        let mut subject = Subject::new(World::server_config(&[World::v4(0)]), by_due);
        for input in inputs {
            subject.apply(input);
            subject.progress();
        }
        // Every lookup ends: exactly one Done each.
        for _ in 0..400 {
            subject.now = subject.now + Duration::from_secs(1);
            subject.progress();
        }
        prop_assert!(subject.running.is_empty(), "{:?} never ended", subject.running);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However absurd the configuration: nothing overflows, everything stays bounded, and every
    /// lookup ends.
    #[test]
    fn rules_1_2_3_6_and_7_hold_under_any_configuration(
        by_due in any::<bool>(),
        numbers in proptest::collection::vec(any::<u8>(), 36),
        inputs in proptest::collection::vec(input(), 1..60)
    ) {
        let mut config = World::server_config(&[World::v4(0)]);
        dht_fuzz::distort(&mut config, &numbers);
        prop_assert!(config.memory_ceiling() > 0);
        let mut subject = Subject::new(config, by_due);
        for input in inputs {
            subject.apply(input);
            subject.progress();
        }
        // No period is longer than a year.
        for _ in 0..3 {
            subject.now = subject.now + Duration::from_secs(366 * 24 * 60 * 60);
            subject.progress();
        }
        prop_assert!(subject.running.is_empty(), "{:?} never ended", subject.running);
    }
}

/// Output that waits only has to be taken. The end of the last lookup is due at once: its memory goes.
#[test]
fn rule_2_what_is_due_is_a_deadline_or_the_end_of_the_last_lookup() {
    let mut config = World::server_config(&[]);
    config.lookup_timeout = Duration::from_secs(60);
    let mut now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    // It has nobody to join, and goes to sleep.
    while dht.handle_due(now) {
        drain(&mut dht, now);
    }
    now = now + Duration::from_millis(1);
    let addr = World::v4(1);
    dht.start(now, &Lookup::Ping { addr }).unwrap();
    assert!(dht.poll_timeout().is_some_and(|due| due <= now), "a query waits");
    assert!(!dht.handle_due(now), "and no deadline has come");
    let (queries, _) = drain(&mut dht, now);
    let reply = answer(&queries[0].1, NodeId::from_bytes([7; 20]), &[]);
    let _ = dht.handle_datagram(now, addr, &reply, &mut [0; MAX_DATAGRAM]);
    let busy = dht.memory();
    assert!(dht.handle_due(now), "the only lookup has ended");
    assert!(dht.memory() < busy, "what lookups share is given back");
    assert_eq!(drain(&mut dht, now).1.len(), 1, "and its user hears of that");
}

/// A loop that asks nobody, or never sleeps, is what these values used to make.
#[test]
fn rule_2_values_that_make_no_sense_are_taken_as_the_nearest_that_do() {
    let mut config = World::server_config(&[World::v4(0)]);
    config.alpha = 0;
    config.bootstrap_backoff_min = Duration::ZERO;
    config.bootstrap_backoff_max = Duration::ZERO;
    config.k = usize::MAX;
    let mut now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    let mut asked = 0;
    for _ in 0..100 {
        dht.handle_timeout(now);
        asked += drain(&mut dht, now).0.len();
        let due = dht.poll_timeout().unwrap();
        assert!(due > now, "progress");
        now = due;
    }
    assert!(asked > 0);
}

/// Found by fuzzing: a self-lookup that is due while users' lookups take every place waits its turn,
/// and does not make the loop spin.
#[test]
fn rule_2_maintenance_that_finds_no_room_comes_back_later() {
    let mut config = World::server_config(&[World::v4(0)]);
    config.max_lookups = 4;
    let mut now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    for i in 0..4 {
        dht.start(now, &find_node(i)).unwrap();
    }
    for _ in 0..30 {
        dht.handle_timeout(now);
        drain(&mut dht, now);
        assert!(dht.poll_timeout().unwrap() > now, "progress");
        now = now + Duration::from_millis(500);
    }
}

// Rule 3.

#[test]
fn rule_3_replies_fit_and_go_to_the_source() {
    let mut dht = server(&[]);
    let now = Instant::from_secs(1);
    let from = World::v4(7);
    for kind in 0..8 {
        let mut reply = [0; MAX_DATAGRAM];
        let sent = dht.handle_datagram(now, from, &some_query(kind, 1), &mut reply).unwrap();
        assert_eq!(sent.to, from);
        let message = decode(&reply[..sent.len]).unwrap();
        assert_eq!(message.tid, b"tid!");
        assert!(matches!(message.body, Body::Reply(_) | Body::Error(_)));
    }
}

// Rule 4.

#[test]
fn rule_4_a_querys_clock_starts_when_it_leaves() {
    let mut dht = server(&[World::v4(0)]);
    let mut now = Instant::from_secs(1);
    dht.start(now, &find_node(1)).unwrap();
    // The socket is full for a minute: nobody asks for datagrams.
    for _ in 0..60 {
        now = now + Duration::from_secs(1);
        dht.handle_timeout(now);
    }
    assert_eq!(dht.stats().timeouts, 0);
    let (sent, _) = drain(&mut dht, now);
    assert!(!sent.is_empty());
    now = now + Duration::from_secs(5);
    dht.handle_timeout(now);
    assert_eq!(dht.stats().timeouts, 0, "not before its own ten seconds");
    now = now + Duration::from_secs(5);
    dht.handle_timeout(now);
    assert!(dht.stats().timeouts > 0);
}

/// While one socket is full, the caller asks for the other network alone: its queries leave, the
/// others wait without a clock, and there is a time to sleep until.
#[test]
fn rule_4_one_full_socket_is_left_out() {
    let now = Instant::from_secs(1);
    let config = World::server_config(&[World::v4(0), World::v6(0)]);
    let mut dht = node(config, Networks::Both);
    dht.start(now, &find_node(1)).unwrap();
    dht.handle_timeout(now);
    let mut buf = [0; MAX_DATAGRAM];
    let mut drain = |dht: &mut Dht, family| {
        let mut sent = Vec::new();
        while let Some(transmit) = dht.poll_transmit_on(now, family, &mut buf) {
            assert_eq!(Family::of(&transmit.to), family);
            sent.push(transmit);
        }
        sent.len()
    };
    assert_eq!(drain(&mut dht, Family::V6), 2, "the join and the lookup");
    assert!(dht.poll_timeout_on(Family::V6).is_some_and(|at| at > now), "progress");
    assert!(dht.poll_timeout_on(Family::V4).is_some_and(|at| at <= now), "drain");
    assert_eq!(dht.poll_timeout(), dht.poll_timeout_on(Family::V4));
    assert_eq!(dht.stats().queries_out, 2);
    assert_eq!(drain(&mut dht, Family::V4), 2);
    assert!(dht.poll_timeout().is_some_and(|at| at > now));
}

// Rule 5.

#[test]
fn rule_5_lookups_take_turns() {
    let bootstrap: Vec<_> = (0..8).map(World::v4).collect();
    let mut dht = server(&bootstrap);
    let now = Instant::from_secs(1);
    let lookups: Vec<_> = (1..=20).map(|i| dht.start(now, &find_node(i)).unwrap()).collect();
    let mut first_round = Vec::new();
    let mut buf = [0; MAX_DATAGRAM];
    for _ in 0..lookups.len() {
        let sent = dht.poll_transmit(now, &mut buf).unwrap();
        let message = decode(&buf[..sent.len]).unwrap();
        if let Body::Query(Query { method: Method::FindNode { target }, .. }) = message.body {
            first_round.push(target);
        }
    }
    first_round.sort_unstable();
    first_round.dedup();
    assert_eq!(first_round.len(), 20, "twenty sends serve twenty lookups");
}

/// A bootstrap address that does not answer is asked again when all others have had their turn.
#[test]
fn rule_5_bootstrap_addresses_take_turns() {
    for alpha in [1, 2] {
        let mut config = World::server_config(&(0..6).map(World::v4).collect::<Vec<_>>());
        config.alpha = alpha;
        let mut now = Instant::from_secs(1);
        let mut dht = node(config, Networks::V4);
        let mut asked = Vec::new();
        while asked.len() < 12 {
            dht.handle_timeout(now);
            asked.extend(drain(&mut dht, now).0.into_iter().map(|(to, _)| to));
            now = dht.poll_timeout().unwrap();
        }
        let turns: Vec<_> = (0..12).map(|i| World::v4(i % 6)).collect();
        assert_eq!(asked, turns, "alpha {alpha}");
    }
}

// Rule 6.

#[test]
fn rule_6_lookups_are_bounded() {
    let mut config = World::server_config(&[World::v4(0)]);
    config.max_lookups = 4;
    let now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    let started: Vec<_> = (0..10).map(|i| dht.start(now, &find_node(i))).collect();
    assert_eq!(started.iter().filter(|result| result.is_ok()).count(), 4);
    assert_eq!(started[9], Err(StartError::AtCapacity));
    assert!(dht.cancel(started[0].unwrap()));
    assert!(dht.start(now, &find_node(1)).is_ok(), "cancelling makes room");
    dht.check_invariants();
}

#[test]
fn rule_6_queries_in_flight_are_bounded() {
    let bootstrap: Vec<_> = (0..30).map(World::v4).collect();
    let mut config = World::server_config(&bootstrap);
    config.max_transactions = 10;
    let now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    for i in 0..50 {
        dht.start(now, &find_node(i)).unwrap();
    }
    dht.handle_timeout(now);
    let (sent, _) = drain(&mut dht, now);
    assert_eq!(sent.len(), 10);
    assert!(dht.poll_timeout().unwrap() > now, "blocked, not spinning");
    dht.check_invariants();
}

/// The user hears of our latest role and address, however seldom he listens.
#[test]
fn rule_6_changes_of_role_and_address_do_not_pile_up() {
    let mut config = World::server_config(&[World::v4(0)]);
    config.mode = Mode::Adaptive;
    let mut now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    let mut buf = [0; MAX_DATAGRAM];
    let mut changes = 0;
    for step in 0..3_000_usize {
        now = now + Duration::from_secs(60);
        dht.handle_timeout(now);
        while let Some(sent) = dht.poll_transmit(now, &mut buf) {
            // Everybody sees us at an address that changes once a day.
            let ip = SocketAddr::from(([90, 1, 1, (step / 1440) as u8], 1)).ip();
            let message = decode(&buf[..sent.len]).unwrap();
            let body = Body::Reply(Reply::new(NodeId::from_bytes([4; 20])));
            let bytes = encode(&Message { ip: Some((ip, None)), version: None, body, ..message });
            let _ = dht.handle_datagram(now, sent.to, &bytes, &mut [0; MAX_DATAGRAM]);
        }
        // Strangers come by for two hours, and stay away for three.
        if step % 300 < 120 {
            for i in 0..4 {
                let from = World::v4(1000 + step * 4 + i);
                let ping = query(Method::Ping);
                let _ = dht.handle_datagram(now, from, &ping, &mut [0; MAX_DATAGRAM]);
            }
        }
        let server = dht.health(now).v4.unwrap().server;
        changes += usize::from(server != (changes % 2 == 1));
    }
    assert!(changes > 10, "the role changed {changes} times");
    let (_, events) = drain(&mut dht, now);
    let told = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert!(told(|event| matches!(event, Event::Serving { .. })) <= 1, "{events:?}");
    assert!(told(|event| matches!(event, Event::ExternalAddress(_))) <= 1, "{events:?}");
}

#[test]
fn rule_6_bootstrap_addresses_are_bounded_and_possible() {
    let mut bootstrap = vec![
        SocketAddr::from(([0, 0, 0, 0], 6881)),
        SocketAddr::from(([255, 255, 255, 255], 6881)),
        SocketAddr::from(([1, 2, 3, 4], 0)),
    ];
    bootstrap.extend((0..300).map(|i| World::v4(i / 2)));
    let mut config = World::server_config(&bootstrap);
    config.alpha = 64;
    let now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    dht.handle_timeout(now);
    let (sent, _) = drain(&mut dht, now);
    let asked: Vec<_> = sent.into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, (0..32).map(World::v4).collect::<Vec<_>>());
    dht.check_invariants();
}

// Rule 7.

#[test]
fn rule_7_bad_requests_are_refused_at_once() {
    let mut dht = server(&[]);
    let now = Instant::from_secs(1);
    let info_hash = InfoHash::from_bytes([1; 20]);
    let zero = Lookup::Announce { info_hash, port: AnnouncePort::Explicit(0), seed: false };
    assert_eq!(dht.start(now, &zero), Err(StartError::BadPort));
    let v6 = Lookup::Ping { addr: World::v6(1) };
    assert!(matches!(dht.start(now, &v6), Err(StartError::NoSuchFamily(_))));
    let port = Lookup::Ping { addr: SocketAddr::from(([1, 2, 3, 4], 0)) };
    assert_eq!(dht.start(now, &port), Err(StartError::BadPort));
}

#[test]
fn rule_7_a_lookup_without_anybody_to_ask_ends_at_once() {
    let mut dht = server(&[]);
    let now = Instant::from_secs(1);
    let id = dht.start(now, &find_node(1)).unwrap();
    let (sent, events) = drain(&mut dht, now);
    assert!(sent.is_empty());
    let [Event::Done { lookup, outcome }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*lookup, outcome.ended), (id, Ended::NoContacts));
}

// Rule 8.

#[test]
fn rule_8_same_seed_same_run() {
    let run = |seed| {
        let mut world = World::of_servers(seed, 12);
        world.lose(50);
        world.run_for(Duration::from_secs(60));
        world.look_up(3, &find_node(200));
        world.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Events read late or early, queries taken one by one or all at once: the same datagrams leave.
#[test]
fn rule_8_polling_order_does_not_matter() {
    let run = |events_first: bool| {
        let mut dht = server(&[World::v4(0), World::v4(1)]);
        let mut log = Vec::new();
        let mut now = Instant::from_secs(1);
        for i in 0..40_u8 {
            now = now + Duration::from_millis(300);
            dht.start(now, &find_node(i)).unwrap();
            dht.handle_timeout(now);
            if events_first {
                while dht.poll_event().is_some() {}
            }
            let mut buf = [0; MAX_DATAGRAM];
            while let Some(sent) = dht.poll_transmit(now, &mut buf) {
                log.push((sent.to, buf[..sent.len].to_vec()));
            }
            while dht.poll_event().is_some() {}
        }
        log
    };
    assert_eq!(run(true), run(false));
}

/// One purpose, one domain: then a draw more for one purpose shifts no other.
#[test]
fn rule_8_every_purpose_has_a_domain_of_its_own() {
    let mut sources = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/dht-proto/src")];
    let mut code = String::new();
    while let Some(path) = sources.pop() {
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            sources.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let text = fs::read_to_string(path).unwrap();
            code.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
    let declared = code.split("pub enum Domain {").nth(1).unwrap().split('}').next().unwrap();
    let domains = declared.lines().filter_map(|line| line.trim().split_once(" = "));
    let names: Vec<_> = domains.map(|(name, _)| name).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let uses = code
            .match_indices("Domain::")
            .filter(|(at, _)| {
                let rest = &code[at + "Domain::".len()..];
                rest.split(|c: char| !c.is_alphanumeric()).next() == Some(name)
            })
            .count();
        assert_eq!(uses, 1, "Domain::{name}");
    }
}

// Rule 9.

#[test]
fn rule_9_garbage_becomes_a_counter() {
    let mut dht = server(&[]);
    let (now, from) = (Instant::from_secs(1), World::v4(1));
    let mut reply = [0; MAX_DATAGRAM];
    for garbage in [&b""[..], b"d", b"de", b"le", b"i1e", b"\xff\xff\xff", b"d1:y1:qe", b"d1:t1:xe"]
    {
        assert!(dht.handle_datagram(now, from, garbage, &mut reply).is_none(), "{garbage:?}");
    }
    assert_eq!(dht.stats().malformed, 8);
    let unsolicited = answer(&query(Method::Ping), NodeId::from_bytes([1; 20]), &[]);
    assert!(dht.handle_datagram(now, from, &unsolicited, &mut reply).is_none());
    assert_eq!(dht.stats().unsolicited, 1);
    let port_0 = SocketAddr::from(([1, 2, 3, 4], 0));
    assert!(dht.handle_datagram(now, port_0, &query(Method::Ping), &mut reply).is_none());
    assert_eq!(dht.stats().bad_source, 1);
}

/// A query with bad arguments is answered with 203, and changes nothing.
#[test]
fn rule_9_bad_queries_are_refused_and_counted() {
    let mut dht = server(&[]);
    let (now, from) = (Instant::from_secs(1), World::v4(1));
    let mut reply = [0; MAX_DATAGRAM];
    let before = dht.snapshot();
    let sent =
        dht.handle_datagram(now, from, b"d1:ade1:q4:ping1:t2:xy1:y1:qe", &mut reply).unwrap();
    let message = decode(&reply[..sent.len]).unwrap();
    assert!(matches!(message.body, Body::Error(error) if error.code == 203), "{message:?}");
    assert_eq!(message.tid, b"xy");
    assert_eq!((dht.stats().bad_queries, dht.snapshot()), (1, before));
}

// Rule 10.

proptest! {
    #[test]
    fn rule_10_no_input_panics(
        datagrams in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..300), any::<u32>(), any::<u64>()),
            1..30,
        )
    ) {
        let mut dht = server(&[World::v4(0)]);
        let mut reply = [0; MAX_DATAGRAM];
        for (bytes, from, at) in datagrams {
            let from = SocketAddr::from((from.to_be_bytes(), at as u16));
            let _ = dht.handle_datagram(Instant::from_micros(at), from, &bytes, &mut reply);
            dht.handle_timeout(Instant::from_micros(at));
            dht.check_invariants();
        }
    }

    /// Mutations of real queries reach deeper than noise.
    #[test]
    fn rule_10_no_mutated_query_panics(
        kind in any::<u8>(), at in any::<u16>(), byte in any::<u8>(), cut in any::<u16>()
    ) {
        let mut dht = server(&[]);
        let mut reply = [0; MAX_DATAGRAM];
        let mut bytes = some_query(kind, byte);
        let len = bytes.len();
        bytes[usize::from(at) % len] = byte;
        bytes.truncate(usize::from(cut) % (len + 1));
        let _ = dht.handle_datagram(Instant::from_secs(1), World::v4(1), &bytes, &mut reply);
        dht.check_invariants();
    }
}

// Rule 11 is in `alloc.rs`, rule 12 in `memory.rs`.

// BEP 43 and modes.

#[test]
fn read_only_nodes_answer_nothing_and_say_so() {
    let mut config = World::server_config(&[World::v4(0)]);
    config.mode = Mode::Client;
    let now = Instant::from_secs(1);
    let mut dht = node(config, Networks::V4);
    let mut reply = [0; MAX_DATAGRAM];
    let ping = query(Method::Ping);
    assert!(dht.handle_datagram(now, World::v4(1), &ping, &mut reply).is_none());
    assert_eq!(dht.stats().queries_unserved, 1);
    dht.handle_timeout(now);
    let (sent, _) = drain(&mut dht, now);
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|(_, bytes)| decode(bytes).unwrap().read_only));
    let mut serving = server(&[World::v4(0)]);
    serving.handle_timeout(now);
    let (sent, _) = drain(&mut serving, now);
    assert!(sent.iter().all(|(_, bytes)| !decode(bytes).unwrap().read_only));
}

/// A million wrong transaction ids would be needed for an even chance against 2^32.
#[test]
fn guessed_transaction_ids_do_not_count() {
    let mut dht = server(&[World::v4(0)]);
    let now = Instant::from_secs(1);
    dht.start(now, &find_node(1)).unwrap();
    let (sent, _) = drain(&mut dht, now);
    let (to, query) = &sent[0];
    let mut guesses: Stream = Seed::from_bytes([3; 32]).stream(Domain::Jitter);
    let mut reply = [0; MAX_DATAGRAM];
    for _ in 0..100_000 {
        let message = decode(query).unwrap();
        let tid = (guesses.next() as u32).to_be_bytes();
        let body = Body::Reply(Reply::new(NodeId::from_bytes([4; 20])));
        let forged = encode(&Message { tid: &tid, body, ..message });
        assert!(dht.handle_datagram(now, *to, &forged, &mut reply).is_none());
    }
    assert_eq!((dht.stats().unsolicited, dht.stats().contacts), (100_000, 0));
}
