//! What every reply looks like, and what happens when it does not fit.

use super::*;

/// libtorrent `ping`: `y` = `r`, the same `t`, our id, and the requester's address.
#[test]
fn ping() {
    let mut bench = Bench::new(Config::default());
    let datagram = bench.ask(v4("1.2.3.4:5"), Method::Ping).unwrap();
    let expected = b"d2:ip6:\x01\x02\x03\x04\x00\x051:rd2:id20:\
        \x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\
        e1:t2:aa1:v4:DR\x00\x011:y1:re";
    assert_eq!(datagram, expected);
    assert_eq!((bench.stats.ping_in, bench.stats.replies_out), (1, 1));
}

#[test]
fn transaction_ids_of_any_length_are_echoed() {
    let mut bench = Bench::new(Config::default());
    for len in [0, 1, 2, 4, 20, 200, 1000] {
        bench.tid = std::vec![b't'; len];
        assert!(bench.ask(v4("1.2.3.4:5"), Method::Ping).is_some(), "{len}");
    }
    bench.tid = std::vec![b't'; 1400];
    assert_eq!(bench.ask(v4("1.2.3.4:5"), Method::Ping), None);
    assert_eq!(bench.stats.oversized_tids, 1);
    let unknown = Method::Unknown { name: b"x", target: None };
    assert_eq!(bench.ask(v4("1.2.3.4:5"), unknown), None, "an error does not fit either");
    assert_eq!(bench.stats.oversized_tids, 2);
}

/// libtorrent `invalid_message`, and table 3b: like find_node with a target, 204 without.
#[test]
fn unknown_methods_are_answered() {
    let mut bench = Bench::new(Config::default());
    let from = v4("1.2.3.4:5");
    let unknown = Method::Unknown { name: b"bogus_query", target: None };
    let datagram = bench.ask(from, unknown).unwrap();
    assert_eq!(error(&datagram).code, 204);
    assert!(datagram.starts_with(b"d1:eli204e"), "an error is a list of a number and a text");
    let target = Target::from_bytes([9; 20]);
    let unknown = Method::Unknown { name: b"get_signed_peers", target: Some(target) };
    let datagram = bench.ask(from, unknown).unwrap();
    let find_node = bench.ask(from, Method::FindNode { target }).unwrap();
    assert_eq!(datagram, find_node);
    assert_eq!((bench.stats.unknown_in, bench.stats.errors_out), (2, 1));
}

#[test]
fn queries_that_cannot_be_read_are_refused_with_203() {
    let mut bench = Bench::<SocketAddrV4>::new(Config::default());
    let mut out = [0; MAX_DATAGRAM];
    let len = bench
        .server
        .refuse(
            bench.now,
            v4("1.2.3.4:5"),
            b"abc",
            203,
            "id is missing",
            &bench.config,
            &mut bench.stats,
            &mut out,
        )
        .unwrap();
    assert_eq!(error(&out[..len]), ErrorReply { code: 203, message: b"id is missing" });
    assert_eq!((bench.stats.bad_queries, bench.stats.errors_out), (1, 1));
}

/// BEP 32: `want` decides; without it the family of the transport.
#[test]
fn want_chooses_the_families_of_nodes() {
    fn check<A: Addr>(from: A, neither: (bool, bool)) {
        let mut bench = Bench::new(Config::default());
        let target = Target::from_bytes([9; 20]);
        for (n4, n6, expected) in [
            (false, false, neither),
            (true, false, (true, false)),
            (false, true, (false, true)),
            (true, true, (true, true)),
        ] {
            bench.want = Want { n4, n6 };
            for method in [
                Method::FindNode { target },
                get_peers(target.info_hash()),
                Method::Get { target: target.item_id(), seq: None },
                Method::SampleInfohashes { target },
            ] {
                let datagram = bench.ask(from, method).unwrap();
                let reply = reply(&datagram);
                assert_eq!((reply.nodes.is_some(), reply.nodes6.is_some()), expected);
                let v4 = reply.nodes.map(|nodes| wire::nodes::<SocketAddrV4>(nodes).count());
                let v6 = reply.nodes6.map(|nodes| wire::nodes::<SocketAddrV6>(nodes).count());
                assert_eq!(v4.unwrap_or(8) + v6.unwrap_or(8), 16, "eight of each");
            }
        }
    }
    check(v4("1.2.3.4:5"), (true, false));
    check(host_v6(1), (false, true));
}

#[test]
fn k_decides_how_many_nodes() {
    let mut bench = Bench::new(Config { k: 3, ..Config::default() });
    let target = Target::from_bytes([9; 20]);
    let datagram = bench.ask(v4("1.2.3.4:5"), Method::FindNode { target }).unwrap();
    let nodes: Vec<_> = wire::nodes::<SocketAddrV4>(reply(&datagram).nodes.unwrap()).collect();
    assert_eq!(nodes.len(), 3);
    assert_eq!(nodes[0].1, v4("8.8.8.1:53"), "nearest first");
    assert_eq!(nodes[0].0.as_bytes()[0], 9, "for the target asked");
}

/// Nodes go first, the far ones; then values; the token only when there is nothing else.
#[test]
fn a_reply_is_cut_to_fit_nodes_first() {
    let config = Config { subnet_burst_bytes: u32::MAX, ..Config::default() };
    let mut bench = Bench::new(config);
    for n in 0..50 {
        bench.announce(host_v4(n), info_hash(1), false).unwrap();
    }
    bench.want = Want { n4: true, n6: true };
    let (mut fewer_nodes, mut fewer_values, mut no_token) = (false, false, false);
    let mut last = (usize::MAX, usize::MAX, usize::MAX);
    for len in 0..1400 {
        bench.tid = std::vec![b't'; len];
        let Some(datagram) = bench.ask(v4("9.9.9.9:5"), get_peers(info_hash(1))) else {
            assert!(fewer_nodes && fewer_values && no_token && len > 1300);
            return;
        };
        let reply = reply(&datagram);
        let v4 = reply.nodes.map_or(0, |nodes| wire::nodes::<SocketAddrV4>(nodes).count());
        let v6 = reply.nodes6.map_or(0, |nodes| wire::nodes::<SocketAddrV6>(nodes).count());
        let values = reply.values.map_or(0, |values| values.iter().count());
        let now = (v4 + v6, values, usize::from(reply.token.is_some()));
        // Halved values can leave room for nodes again.
        assert!(now.1 <= last.1 && now.2 <= last.2 && (now.0 <= last.0 || now.1 < last.1));
        assert!(v4.abs_diff(v6) <= 2, "both families get their share");
        assert!(now.1 == 50 || last.1 < 50 || last.0 == 0, "values go when all nodes are gone");
        fewer_nodes |= (1..16).contains(&now.0);
        fewer_values |= (1..50).contains(&now.1);
        no_token |= now.2 == 0;
        if now.2 == 0 {
            assert_eq!(now.1, 0);
        }
        last = now;
    }
    panic!("a transaction id of 1,400 bytes leaves no room for a reply");
}

/// The largest mutable item travels over v6, where a datagram has 1,232 bytes.
#[test]
fn the_largest_item_fits_without_nodes() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let value = crate::item::bencode_bytes(&[b'x'; 996]);
    let item = Item::sign(&key, &[b's'; 64], 1_700_000_000, &value).unwrap();
    let mut bench = Bench::new(Config::default());
    bench.put(host_v6(1), &item, None).unwrap();
    bench.tid = std::vec![b't'; 4];
    bench.want = Want { n4: true, n6: true };
    let datagram = bench.ask(host_v6(2), Method::Get { target: item.id(), seq: None }).unwrap();
    let reply = reply(&datagram);
    assert_eq!(reply.v, Some(item.value()));
    assert!(reply.signature.is_some() && reply.public_key.is_some());
    assert_eq!(reply.nodes.unwrap_or_default().len(), 0);
}
