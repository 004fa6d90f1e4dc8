//! What one whole node does with single datagrams, where another implementation does something else
//! (docs/PROTOCOL.md, "Tolerance" and "Answers").

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::id::{NodeId, Target, bep42};
use dht_proto::item::Item;
use dht_proto::request::Lookup;
use dht_proto::stats::Stats;
use dht_proto::time::Instant;
use dht_proto::wire::{Body, Message, Method, Put, Reply, decode};
use dht_proto::{Dht, Networks};
use dht_tests::ask::info_hash;
use dht_tests::hand::{deliver, drain, node, tid};
use dht_tests::script::{Answer, query};
use dht_tests::world::World;

const STRANGER: NodeId = NodeId::from_bytes([9; 20]);

/// One node, driven by hand.
struct Lone {
    dht: Dht,
    now: Instant,
}

impl Lone {
    fn new(config: Config) -> Self {
        Self { dht: node(config, Networks::Both), now: Instant::from_secs(1) }
    }

    fn server(bootstrap: &[SocketAddr]) -> Self {
        Self::new(World::server_config(bootstrap))
    }

    /// The answer to a datagram.
    fn ask(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let answer = deliver(&mut self.dht, self.now, from, bytes);
        self.dht.check_invariants();
        answer
    }

    /// The queries that wait, after what is due.
    fn drain(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.dht.handle_timeout(self.now);
        drain(&mut self.dht, self.now).0
    }

    fn stats(&self) -> Stats {
        self.dht.stats()
    }
}

fn ping(id: NodeId) -> Vec<u8> {
    query(id, b"aa", false, Method::Ping)
}

fn reply_of(datagram: &[u8]) -> Reply<'_> {
    match decode(datagram).unwrap().body {
        Body::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn error_of(datagram: &[u8]) -> (i64, Vec<u8>) {
    match decode(datagram).unwrap().body {
        Body::Error(error) => (error.code, error.message.to_vec()),
        other => panic!("{other:?}"),
    }
}

// Tolerance, table 3a.

/// libtorrent refuses such a put with 203; here only `v` must be canonical.
#[test]
fn a_put_with_unsorted_keys_is_stored() {
    let mut node = Lone::server(&[]);
    let (from, v) = (World::v4(1), b"12:Hello World!");
    let id = Item::immutable(v).unwrap().id();
    let get = query(STRANGER, b"aa", false, Method::Get { target: id, seq: None });
    let token = reply_of(&node.ask(from, &get).unwrap()).token.unwrap().to_vec();
    let put = [
        &b"d1:y1:q1:q3:put1:t2:aa1:ad1:v12:Hello World!5:token8:"[..],
        &token,
        b"2:id20:99999999999999999999ee",
    ];
    assert!(reply_of(&node.ask(from, &put.concat()).unwrap()).token.is_none());
    assert_eq!((node.stats().items, node.stats().unsorted), (1, 1));
    assert_eq!(reply_of(&node.ask(from, &get).unwrap()).v, Some(&v[..]));
}

/// mldht answers 203 without `t`, and 202 to replies that it cannot match. Whatever cannot be an
/// answer to us gets none from us: two such nodes would never stop.
#[test]
fn what_is_no_query_is_never_answered() {
    let mut node = Lone::server(&[World::v4(0)]);
    let from = World::v4(1);
    let sent = node.drain();
    let real = tid(&sent[0].1);
    let answer = Answer::new(STRANGER);
    for tid in [&b""[..], b"a", b"abcd", b"abcdef", &[real.as_slice(), b"x"].concat(), &real[..3]] {
        assert_eq!(node.ask(from, &answer.encode(tid)), None);
        assert_eq!(node.ask(World::v4(0), &answer.encode(tid)), None);
        assert_eq!(node.ask(from, &dht_tests::script::refusal(tid, 203)), None);
    }
    assert_eq!(node.stats().unsolicited, 18);
    for broken in
        [&b"d1:t2:aae"[..], b"d1:t2:aa1:y1:xe", b"d1:t2:aa1:y1:re", b"d1:rde1:t2:aa1:y1:re"]
    {
        assert_eq!(node.ask(from, broken), None);
    }
    assert_eq!((node.stats().malformed, node.stats().replies_out), (4, 0));
    // The query is still open, and its own answer counts.
    assert_eq!(node.ask(World::v4(0), &answer.encode(&real)), None);
    assert_eq!((node.stats().replies_in, node.stats().contacts), (1, 1));
}

/// libtorrent `rpc_reply_ignores_wrong_port`; mldht `testPortMatching`. jech/dht believes them.
#[test]
fn a_reply_from_another_port_or_address_is_dropped() {
    let mut node = Lone::server(&[World::v4(0)]);
    let sent = node.drain();
    let answer = Answer::new(STRANGER).encode(&tid(&sent[0].1));
    let port = SocketAddr::new(World::v4(0).ip(), 6882);
    for other in [port, World::v4(1), World::v6(1)] {
        assert_eq!(node.ask(other, &answer), None);
    }
    assert_eq!((node.stats().unsolicited, node.stats().contacts), (3, 0));
    assert_eq!(node.stats().in_flight, 1);
}

/// libtorrent issue 6236: reflectors send our queries back, or answer with our id.
#[test]
fn our_own_id_is_a_reflector() {
    let mut node = Lone::server(&[World::v4(0)]);
    let own = node.dht.node_id(dht_proto::addr::Family::V4).unwrap();
    let sent = node.drain();
    assert_eq!(node.ask(World::v4(0), &sent[0].1), None, "an echo");
    assert_eq!(node.ask(World::v4(0), &Answer::new(own).encode(&tid(&sent[0].1))), None);
    assert_eq!(node.stats().id_mismatch, 2);
    assert_eq!((node.stats().contacts, node.stats().candidates), (0, 0));
}

/// libtorrent `invalid_error_msg`, `rpc_invalid_error_msg`: an error whose `e` is no list, or empty, or
/// nonsense ends the query that it answers, and does nothing if it answers none.
#[test]
fn malformed_errors_end_their_query() {
    for e in [&b"1:e5:words"[..], b"1:ei203e", b"1:ele", b"1:ede", b"1:el5:words3:abce", b""] {
        let mut node = Lone::server(&[World::v4(0)]);
        let sent = node.drain();
        let error = [b"d", e, b"1:t4:", &tid(&sent[0].1), b"1:y1:ee"].concat();
        assert_eq!(node.ask(World::v4(1), &error), None);
        assert_eq!((node.stats().unsolicited, node.stats().errors_in), (1, 0));
        assert_eq!(node.ask(World::v4(0), &error), None);
        assert_eq!((node.stats().errors_in, node.stats().in_flight), (1, 0));
    }
}

/// jech/dht drops it. It is an id, if an unlikely one.
#[test]
fn the_zero_id_is_an_id() {
    let mut node = Lone::server(&[]);
    assert!(node.ask(World::v4(1), &ping(NodeId::from_bytes([0; 20]))).is_some());
}

/// wire-and-peers 3d.13: rqbit sends each query twice.
#[test]
fn a_query_sent_twice_is_answered_twice() {
    let mut node = Lone::server(&[]);
    let get_peers = Method::GetPeers { info_hash: info_hash(1), noseed: false, scrape: false };
    for datagram in [ping(STRANGER), query(STRANGER, b"aa", false, get_peers)] {
        let first = node.ask(World::v4(1), &datagram).unwrap();
        assert_eq!(node.ask(World::v4(1), &datagram), Some(first));
    }
}

/// libtorrent reads nothing below 21 bytes. A query cannot be shorter than the id that it must carry;
/// answering such ones would only multiply bytes.
#[test]
fn datagrams_shorter_than_an_id_are_not_answered() {
    let mut node = Lone::server(&[]);
    for short in [&b"d1:t0:1:y1:qe"[..], b"d1:q0:1:t0:1:y1:qe"] {
        assert_eq!(node.ask(World::v4(1), short), None);
    }
    assert_eq!((node.stats().malformed, node.stats().bad_queries), (2, 0));
    let longer = b"d1:ade1:q4:ping1:t0:1:y1:qe";
    assert_eq!(error_of(&node.ask(World::v4(1), longer).unwrap()).0, 203);
}

/// A datagram from port 0 cannot be answered, one from an impossible address must not be.
#[test]
fn datagrams_from_impossible_sources_are_dropped() {
    let mut node = Lone::server(&[]);
    for from in ["1.2.3.4:0", "0.1.2.3:5", "224.0.0.1:5", "255.255.255.255:5", "[ff02::1]:5"] {
        assert_eq!(node.ask(from.parse().unwrap(), &ping(STRANGER)), None, "{from}");
    }
    assert_eq!((node.stats().bad_source, node.stats().candidates), (5, 0));
    // An IPv4 address in IPv6 clothes is an IPv4 address (mldht `testMappedBypass`).
    let mapped: SocketAddr = "[::ffff:1.2.3.4]:5".parse().unwrap();
    let datagram = node.ask(mapped, &ping(STRANGER)).unwrap();
    let own = node.dht.node_id(dht_proto::addr::Family::V4).unwrap();
    assert_eq!(reply_of(&datagram).id, own);
}

// Answers, table 3b.

/// libtorrent `id_enforcement_v4`/`_v6`: where it answers 203, we serve; BEP 42 ids are preferred as
/// contacts, never demanded of those who ask.
#[test]
fn an_id_that_does_not_fit_its_address_is_served() {
    let mut node = Lone::server(&[]);
    for from in [World::v4(1), World::v6(1)] {
        assert!(!bep42::is_valid(STRANGER, from.ip()));
        for method in [
            Method::Ping,
            Method::FindNode { target: Target::from_bytes([5; 20]) },
            Method::GetPeers { info_hash: info_hash(1), noseed: false, scrape: false },
        ] {
            reply_of(&node.ask(from, &query(STRANGER, b"aa", false, method)).unwrap());
        }
    }
}

/// libtorrent `ping`, through the whole node: one reply, counted once.
#[test]
fn every_reply_is_counted_once() {
    let mut node = Lone::server(&[]);
    let datagram = node.ask(World::v4(1), &ping(STRANGER)).unwrap();
    let message = decode(&datagram).unwrap();
    assert_eq!(message.ip, Some((World::v4(1).ip(), Some(6881))));
    assert_eq!(message.tid, b"aa");
    let error = node.ask(World::v4(1), b"d1:ade1:q4:ping1:t2:aa1:y1:qe").unwrap();
    let stats = node.stats();
    assert_eq!((stats.replies_out, stats.errors_out), (2, 1));
    assert_eq!(stats.bytes_out, (datagram.len() + error.len()) as u64);
}

/// wire-and-peers 7.4: silence costs others their time, so everything within budget is answered:
/// every method, known or not, complete or not.
#[test]
fn no_method_is_met_with_silence() {
    let mut node = Lone::server(&[]);
    let methods = [
        "ping",
        "find_node",
        "get_peers",
        "announce_peer",
        "get",
        "put",
        "sample_infohashes",
        "vote",
    ];
    for method in methods {
        for args in ["", "6:target20:mnopqrstuvwxyz123456", "9:info_hash20:mnopqrstuvwxyz123456"] {
            let datagram = format!(
                "d1:ad2:id20:99999999999999999999{args}e1:q{}:{method}1:t2:aa1:y1:qe",
                method.len()
            );
            let answer = node.ask(World::v4(1), datagram.as_bytes()).unwrap();
            match decode(&answer).unwrap().body {
                Body::Reply(_) => {}
                Body::Error(error) if method == "vote" => assert_eq!(error.code, 204),
                Body::Error(error) => assert_eq!(error.code, 203, "{datagram}"),
                Body::Query(_) => panic!("a query is no answer"),
            }
        }
    }
}

/// Table 3b "bad token on announce": 203, where anacrolix/dht is silent and rqbit acknowledges.
#[test]
fn a_bad_token_is_refused_with_203() {
    let mut node = Lone::server(&[]);
    let announce = Method::AnnouncePeer {
        info_hash: info_hash(1),
        port: 5,
        implied_port: false,
        seed: false,
        token: b"12345678",
    };
    let put = Method::Put(Put { token: b"12345678", v: b"i1e", mutable: None });
    for method in [announce, put] {
        let answer = node.ask(World::v4(1), &query(STRANGER, b"aa", false, method)).unwrap();
        assert_eq!(error_of(&answer), (203, b"invalid token".to_vec()));
    }
    assert_eq!((node.stats().peers, node.stats().items, node.stats().bad_tokens), (0, 0, 2));
}

// BEP 43.

/// BEP 43: a query with `ro` is answered, its announce is stored, and its sender is neither pinged nor
/// listed, not even after a valid token, where libtorrent slips (wire-and-peers 3e).
#[test]
fn read_only_nodes_are_served_and_never_listed() {
    let mut node = Lone::server(&[]);
    let from = World::v4(1);
    let get_peers = Method::GetPeers { info_hash: info_hash(1), noseed: false, scrape: false };
    let answer = node.ask(from, &query(STRANGER, b"aa", true, get_peers)).unwrap();
    let token = reply_of(&answer).token.unwrap();
    let announce = Method::AnnouncePeer {
        info_hash: info_hash(1),
        port: 5,
        implied_port: false,
        seed: false,
        token,
    };
    reply_of(&node.ask(from, &query(STRANGER, b"aa", true, announce)).unwrap());
    assert_eq!((node.stats().peers, node.stats().candidates), (1, 0));
    for _ in 0..300 {
        node.now = node.now + Duration::from_secs(1);
        assert!(node.drain().is_empty(), "nobody to talk to");
    }
    // The same without `ro` makes a candidate.
    assert!(node.ask(from, &ping(STRANGER)).is_some());
    assert_eq!(node.stats().candidates, 1);
    let sent = node.drain();
    assert_eq!(sent[0].0, from);
}

/// libtorrent `read_only_node`: silence to everything, errors included; yet replies count.
#[test]
fn a_read_only_node_answers_nothing() {
    let mut config = World::server_config(&[World::v4(0)]);
    config.mode = Mode::Client;
    let mut node = Lone::new(config);
    for datagram in [ping(STRANGER), b"d1:ade1:q4:ping1:t2:aa1:y1:qe".to_vec()] {
        assert_eq!(node.ask(World::v4(1), &datagram), None);
    }
    assert_eq!((node.stats().queries_unserved, node.stats().replies_out), (2, 0));
    let sent = node.drain();
    assert!(sent.iter().all(|(_, bytes)| decode(bytes).unwrap().read_only));
    let (to, bytes) = sent.iter().find(|(to, _)| *to == World::v4(0)).unwrap();
    node.ask(*to, &Answer::new(NodeId::from_bytes([8; 20])).encode(&tid(bytes)));
    assert_eq!(node.stats().contacts, 1);
}

// BEP 42.

/// BEP 42: `ip` of replies to our own queries votes, in replies nobody asked for and in queries it
/// does not.
#[test]
fn only_solicited_replies_vote_on_our_address() {
    let mut node = Lone::server(&[]);
    let own = node.dht.node_id(dht_proto::addr::Family::V4);
    let mut lie = Answer::new(STRANGER);
    lie.ip = Some(SocketAddr::from(([66, 6, 6, 6], 6)));
    for i in 1..200 {
        node.now = node.now + Duration::from_secs(10);
        node.ask(World::v4(i), &lie.encode(b"abcd"));
        let mut forged = ping(STRANGER);
        forged.splice(1..1, *b"2:ip6:\x42\x06\x06\x06\0\x06");
        node.ask(World::v4(i), &forged);
    }
    assert_eq!(node.dht.node_id(dht_proto::addr::Family::V4), own);
    assert_eq!(node.dht.health(node.now).v4.unwrap().external, None);
}

// BEP 5, nodes that go.

/// libtorrent issue 961, mldht `testImmediateEvictionOnIdMismatch`: a contact that answers under
/// another id is evicted at once, and counted.
#[test]
fn a_contact_that_changes_its_id_is_evicted() {
    let mut node = Lone::server(&[World::v4(0)]);
    let sent = node.drain();
    node.ask(World::v4(0), &Answer::new(STRANGER).encode(&tid(&sent[0].1)));
    node.drain();
    assert_eq!(node.dht.snapshot().v4.unwrap().contacts.len(), 1);
    let lookup = Lookup::Ping { addr: World::v4(0) };
    node.dht.start(node.now, &lookup).unwrap();
    let sent = node.drain();
    let changed = Answer::new(NodeId::from_bytes([8; 20]));
    for (to, bytes) in sent {
        node.ask(to, &changed.encode(&tid(&bytes)));
    }
    assert_eq!((node.stats().id_changes, node.stats().contacts), (1, 0));
}

/// BEP 5 "Routing Table": handed out is only who answered a query of ours.
#[test]
fn nobody_is_handed_out_before_answering() {
    let mut node = Lone::server(&[]);
    let find =
        |target: NodeId| query(STRANGER, b"aa", true, Method::FindNode { target: target.target() });
    for i in 1..50 {
        node.ask(World::v4(i), &ping(NodeId::from_bytes([i as u8; 20])));
        node.dht.add_contact(
            node.now,
            World::v4(100 + i),
            Some(NodeId::from_bytes([100 + i as u8; 20])),
        );
    }
    assert!(node.stats().candidates > 30);
    let answer = node.ask(World::v4(200), &find(STRANGER)).unwrap();
    assert_eq!(reply_of(&answer).nodes.unwrap_or_default(), b"");
    let sent = node.drain();
    let (to, bytes) = &sent[0];
    node.ask(*to, &Answer::new(STRANGER).encode(&tid(bytes)));
    let handed_out = node.ask(World::v4(200), &find(STRANGER)).unwrap();
    assert_eq!(reply_of(&handed_out).nodes.unwrap().len(), node.stats().contacts as usize * 26);
}

/// BEP 32: "must not send UDP datagrams with a payload larger than 1024 octets", and 8 nodes have room
/// beside the peers. Beside the filters of a scrape there are fewer (BEP 33).
#[test]
fn usual_replies_have_at_most_1024_bytes() {
    let mut node = Lone::server(&[]);
    let hash = info_hash(1);
    let get_peers = |scrape| Method::GetPeers { info_hash: hash, noseed: false, scrape };
    for i in 0..100 {
        for from in [World::v4(i), World::v6(i)] {
            let answer = node.ask(from, &query(STRANGER, b"aa", true, get_peers(false))).unwrap();
            let token = reply_of(&answer).token.unwrap().to_vec();
            let announce = Method::AnnouncePeer {
                info_hash: hash,
                port: 5,
                implied_port: false,
                seed: false,
                token: &token,
            };
            reply_of(&node.ask(from, &query(STRANGER, b"aa", true, announce)).unwrap());
            node.dht.add_contact(node.now, from, Some(NodeId::from_bytes([i as u8; 20])));
        }
        node.now = node.now + Duration::from_secs(6);
        for (to, bytes) in node.drain() {
            let i = (0..100).find(|i| [World::v4(*i), World::v6(*i)].contains(&to)).unwrap();
            let id = NodeId::from_bytes([i as u8; 20]);
            node.ask(to, &Answer::new(id).encode(&tid(&bytes)));
        }
    }
    for (from, values, scraped) in [(World::v4(900), 50, 20), (World::v6(900), 28, 8)] {
        for (scrape, values) in [(false, values), (true, scraped)] {
            let answer =
                node.ask(from, &query(STRANGER, b"abcd", true, get_peers(scrape))).unwrap();
            let reply = reply_of(&answer);
            let nodes = reply.nodes.map_or(0, |nodes| nodes.len() / 26);
            let nodes = nodes.max(reply.nodes6.map_or(0, |nodes| nodes.len() / 38));
            assert!(answer.len() <= 1024, "{}", answer.len());
            assert_eq!(
                (reply.values.unwrap().iter().count(), scrape),
                (values, reply.seeds_filter.is_some())
            );
            assert!(nodes == 8 || (scrape && nodes >= 4), "{from} {scrape}: {nodes} nodes");
        }
    }
}

/// A `Message` of the codec under test and the bytes of the harness agree, or the scripts test
/// nothing.
#[test]
fn scripts_speak_the_protocol() {
    let mut answer = Answer::new(STRANGER);
    answer.nodes = vec![(STRANGER, World::v4(1)), (STRANGER, World::v6(1))];
    answer.values = vec![World::v4(3), World::v6(3)];
    answer.ip = Some(World::v4(2));
    let bytes = answer.encode(b"abcd");
    let Message { ip, unsorted, .. } = decode(&bytes).unwrap();
    let reply = reply_of(&bytes);
    assert!(!unsorted);
    assert_eq!(ip, Some((World::v4(2).ip(), Some(6881))));
    assert_eq!((reply.nodes.unwrap().len(), reply.nodes6.unwrap().len()), (26, 38));
    assert!(reply.values.unwrap().iter().eq([World::v4(3), World::v6(3)]));
    assert_eq!(reply.token, Some(&b"tokn"[..]));
}
