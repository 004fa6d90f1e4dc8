//! Peers: announce_peer, get_peers, scrapes and samples.

use super::*;
use crate::bloom::Filter;

fn peers_of(datagram: &[u8]) -> Vec<core::net::SocketAddr> {
    let mut peers: Vec<_> = reply(datagram).values.map(|v| v.iter().collect()).unwrap_or_default();
    peers.sort_unstable();
    peers
}

/// libtorrent `get_peers_announce`, test_dht_storage `announce_peer`.
#[test]
fn get_peers_announce() {
    let mut bench = Bench::new(Config::default());
    let datagram = bench.ask(host_v4(1), get_peers(info_hash(1))).unwrap();
    assert_eq!(reply(&datagram).values, None, "without an entry there are no values");
    assert_eq!(reply(&datagram).nodes.map(<[u8]>::len), Some(8 * 26));
    assert_eq!(reply(&datagram).token.map(<[u8]>::len), Some(8));
    assert_eq!(bench.announce(host_v4(1), info_hash(1), false), Ok(()));
    assert_eq!(bench.announce(host_v4(2), info_hash(1), true), Ok(()));

    let datagram = bench.ask(host_v4(3), get_peers(info_hash(1))).unwrap();
    assert_eq!(peers_of(&datagram), [host_v4(1).into(), host_v4(2).into()]);
    assert!(reply(&datagram).nodes.is_some(), "nodes and values both");
    let noseed = Method::GetPeers { info_hash: info_hash(1), noseed: true, scrape: false };
    let datagram = bench.ask(host_v4(3), noseed).unwrap();
    assert_eq!(peers_of(&datagram), [host_v4(1).into()], "BEP 33: noseed");
    let datagram = bench.ask(host_v4(3), get_peers(info_hash(2))).unwrap();
    assert_eq!(peers_of(&datagram), []);
    assert_eq!((bench.stats.announce_peer_in, bench.gauges().peers), (2, 2));
}

#[test]
fn a_peer_that_becomes_a_seed_is_counted_once() {
    let mut bench = Bench::new(Config::default());
    bench.announce(host_v4(1), info_hash(1), false).unwrap();
    bench.announce(host_v4(1), info_hash(1), true).unwrap();
    let noseed = Method::GetPeers { info_hash: info_hash(1), noseed: true, scrape: false };
    assert_eq!(peers_of(&bench.ask(host_v4(3), noseed).unwrap()), []);
    assert_eq!((bench.gauges().peers, bench.gauges().torrents), (1, 1));
}

/// BEP 33: an infohash and an IP make one entry, whose port and seed status may change. Hosts of a
/// local network are exempt: many peers may run on one.
#[test]
fn one_ip_is_one_peer_of_a_torrent() {
    let mut bench = Bench::new(Config::default());
    let from = |ip: [u8; 4], port| SocketAddrV4::new(ip.into(), port);
    for (port, seed) in [(1000, false), (2000, true), (3000, false), (4000, true)] {
        bench.announce(from([1, 2, 3, 4], port), info_hash(1), seed).unwrap();
    }
    assert_eq!(bench.gauges().peers, 1);
    let datagram = bench.ask(host_v4(3), get_peers(info_hash(1))).unwrap();
    assert_eq!(peers_of(&datagram), [from([1, 2, 3, 4], 4000).into()]);
    for port in [1000, 2000] {
        bench.announce(from([127, 0, 0, 1], port), info_hash(2), false).unwrap();
    }
    let datagram = bench.ask(from([127, 0, 0, 1], 9), get_peers(info_hash(2))).unwrap();
    assert_eq!(peers_of(&datagram).len(), 2);
}

/// BEP 5: `implied_port` stores the source port and ignores `port`; only the source IP is stored.
#[test]
fn implied_port() {
    let mut bench = Bench::new(Config::default());
    let from = v4("1.2.3.4:5000");
    for (port, implied_port, stored) in
        [(7, true, "1.2.3.4:5000"), (0, true, "1.2.3.4:5000"), (7, false, "1.2.3.4:7")]
    {
        let hash = info_hash(port as u8 + 10 * u8::from(implied_port));
        let token = bench.token(from, hash).unwrap();
        let announce = Method::AnnouncePeer {
            info_hash: hash,
            port,
            implied_port,
            seed: false,
            token: &token,
        };
        assert_eq!(result(&bench.ask(from, announce).unwrap()), Ok(()));
        let datagram = bench.ask(host_v4(1), get_peers(hash)).unwrap();
        assert_eq!(peers_of(&datagram), [v4(stored).into()]);
    }
}

/// bittorrent-dht "bad token" and "bad port": 203, and nothing is stored.
#[test]
fn bad_token_and_bad_port() {
    let mut bench = Bench::new(Config::default());
    let token = bench.token(host_v4(1), info_hash(1)).unwrap();
    let mut announce = |from: SocketAddrV4, info_hash, port, token: &[u8]| {
        let announce =
            Method::AnnouncePeer { info_hash, port, implied_port: false, seed: false, token };
        let datagram = bench.ask(from, announce).unwrap();
        let ErrorReply { code, message } = error(&datagram);
        assert_eq!(code, 203);
        message.to_vec()
    };
    assert_eq!(announce(host_v4(1), info_hash(1), 5, b""), b"invalid token");
    assert_eq!(announce(host_v4(1), info_hash(1), 5, b"12345678"), b"invalid token");
    assert_eq!(announce(host_v4(1), info_hash(2), 5, &token), b"invalid token");
    assert_eq!(announce(host_v4(2), info_hash(1), 5, &token), b"invalid token");
    assert_eq!(announce(host_v4(1), info_hash(1), 0, &token), b"invalid port");
    assert_eq!((bench.gauges().peers, bench.stats.bad_tokens, bench.stats.errors_out), (0, 4, 5));
}

/// A token from get_peers works until its secret has rotated twice.
#[test]
fn tokens_live_for_five_to_ten_minutes() {
    for (start, minutes, expected) in [(0, 5, Ok(())), (0, 9, Ok(())), (0, 10, Err(203))] {
        let mut bench = Bench::new(Config::default());
        bench.now = Instant::from_secs(start);
        let token = bench.token(host_v4(1), info_hash(1)).unwrap();
        bench.later(Duration::from_secs(60 * minutes));
        let announce = Method::AnnouncePeer {
            info_hash: info_hash(1),
            port: 1,
            implied_port: false,
            seed: false,
            token: &token,
        };
        assert_eq!(result(&bench.ask(host_v4(1), announce).unwrap()), expected, "{minutes} min");
    }
}

/// Seen from `mainline`, which announces with tokens that it got from `get`, and the reverse.
#[test]
fn tokens_of_get_and_get_peers_are_interchangeable() {
    let mut bench = Bench::new(Config::default());
    let item = Item::immutable(b"12:Hello World!").unwrap();
    let target = item.id().target();
    let datagram = bench.ask(host_v4(1), Method::Get { target: item.id(), seq: None }).unwrap();
    let from_get = reply(&datagram).token.unwrap();
    assert_eq!(bench.token(host_v4(1), target.info_hash()).unwrap(), from_get);
    let put = Method::Put(Put { token: from_get, v: item.value(), mutable: None });
    assert_eq!(result(&bench.ask(host_v4(1), put).unwrap()), Ok(()));
}

/// libtorrent `scrape_v4` and `scrape_v6`: fifty seeds and fifty downloaders, estimated within 3.
#[test]
fn scrape_v4_and_v6() {
    fn check<A: Addr>(host: fn(u16) -> A, max_values: usize) {
        let mut bench = Bench::new(Config::default());
        let scrape = Method::GetPeers { info_hash: info_hash(1), noseed: false, scrape: true };
        let datagram = bench.ask(host(999), scrape).unwrap();
        let nothing = reply(&datagram);
        assert_eq!((nothing.seeds_filter, nothing.peers_filter), (None, None), "no entry");

        bench.announce(host(0), info_hash(1), true).unwrap();
        let datagram = bench.ask(host(999), scrape).unwrap();
        let one_seed = reply(&datagram);
        assert_eq!(one_seed.peers_filter, Some(&[0; 256]), "both filters, even if one is empty");
        assert_ne!(one_seed.seeds_filter, Some(&[0; 256]));

        (1..50).for_each(|n| bench.announce(host(n), info_hash(1), true).unwrap());
        (50..100).for_each(|n| bench.announce(host(n), info_hash(1), false).unwrap());
        let datagram = bench.ask(host(999), scrape).unwrap();
        let reply = reply(&datagram);
        for filter in [reply.seeds_filter, reply.peers_filter] {
            let estimate = Filter::from_bytes(*filter.unwrap()).estimate();
            assert!((estimate - 50.0).abs() < 3.0, "{estimate}");
        }
        assert_eq!(peers_of(&datagram).len(), max_values, "values are not left out");
        let datagram = bench.ask(host(999), get_peers(info_hash(1))).unwrap();
        assert!(peers_of(&datagram).len() == A::MAX_VALUES);
    }
    check(host_v4, 20);
    check(host_v6, 8);
}

/// test_dht_storage `dual_stack`: each family has its own server, and one of them its own peers.
#[test]
fn values_are_of_the_transport_family() {
    let mut bench = Bench::new(Config::default());
    bench.announce(host_v6(1), info_hash(1), false).unwrap();
    bench.want = Want { n4: true, n6: true };
    let datagram = bench.ask(host_v6(2), get_peers(info_hash(1))).unwrap();
    assert_eq!(peers_of(&datagram), [host_v6(1).into()]);
}

/// libtorrent simulation `dht_storage_counters`: not yet at 30 minutes, gone at 80.
#[test]
fn dht_storage_counters() {
    let mut bench = Bench::new(Config::default());
    (0..20).for_each(|n| bench.announce(host_v4(n), info_hash(n as u8), false).unwrap());
    assert_eq!((bench.gauges().torrents, bench.gauges().peers), (20, 20));
    bench.later(Duration::from_secs(30 * 60));
    assert_eq!((bench.gauges().torrents, bench.gauges().peers), (20, 20));
    let datagram = bench.ask(host_v4(99), get_peers(info_hash(3))).unwrap();
    assert_eq!(peers_of(&datagram).len(), 1);
    bench.later(Duration::from_secs(15 * 60 + 1));
    let datagram = bench.ask(host_v4(99), get_peers(info_hash(3))).unwrap();
    assert_eq!(peers_of(&datagram).len(), 0, "expired peers are never returned");
    bench.later(Duration::from_secs(35 * 60));
    assert_eq!((bench.gauges().torrents, bench.gauges().peers), (0, 0));
    assert_eq!(bench.server.poll_timeout(), None, "nothing to sweep, nothing to wake for");
}

/// The token is withheld where a newcomer would have to replace somebody; who is stored may renew.
#[test]
fn token_is_withheld_when_full() {
    let mut bench = Bench::new(Config { max_peers_per_torrent: 3, ..Config::default() });
    (0..3).for_each(|n| bench.announce(host_v4(n), info_hash(1), false).unwrap());
    assert_eq!(bench.token(host_v4(9), info_hash(1)), None);
    assert!(bench.token(host_v4(2), info_hash(1)).is_some());
    assert!(bench.token(host_v4(9), info_hash(2)).is_some());
}

/// libtorrent `sample_infohashes`, anacrolix/dht `TestBep51EmptySampleField`: all fields are there,
/// even if nothing is stored.
#[test]
fn sample_infohashes() {
    let mut bench = Bench::new(Config::default());
    let sample = Method::SampleInfohashes { target: Target::from_bytes([5; 20]) };
    let datagram = bench.ask(host_v4(1), sample).unwrap();
    let empty = reply(&datagram);
    assert_eq!((empty.samples, empty.num, empty.interval), (Some(&[][..]), Some(0), Some(21_600)));
    assert_eq!(empty.nodes.map(<[u8]>::len), Some(8 * 26));
    assert_eq!(empty.token, None);

    bench.announce(host_v4(1), info_hash(7), false).unwrap();
    let datagram = bench.ask(host_v4(1), sample).unwrap();
    assert_eq!(reply(&datagram).samples, Some(&[7; 20][..]));
    assert_eq!(reply(&datagram).num, Some(1));
}

/// test_dht_storage `infohashes_sample`, simulation `dht_storage_infohashes_sample`: at most
/// twenty, the same ones for everybody until the interval is over.
#[test]
fn infohashes_sample() {
    let mut config = Config { sample_interval: Duration::from_secs(600), ..Config::default() };
    config.peer_lifetime = Duration::from_secs(86_400);
    let mut bench = Bench::new(config);
    (0..100).for_each(|n| bench.announce(host_v4(n), info_hash(n as u8), false).unwrap());
    let sample = Method::SampleInfohashes { target: Target::from_bytes([5; 20]) };
    let ask = |bench: &mut Bench<_>, n| {
        let datagram = bench.ask(host_v4(n), sample).unwrap();
        let reply = reply(&datagram);
        assert_eq!((reply.num, reply.interval), (Some(100), Some(600)));
        let mut samples: Vec<_> = reply.samples.unwrap().chunks(20).map(|hash| hash[0]).collect();
        samples.sort_unstable();
        samples.dedup();
        samples
    };
    let first = ask(&mut bench, 1);
    assert_eq!(first.len(), 20);
    bench.later(Duration::from_secs(599));
    assert_eq!(ask(&mut bench, 2), first);
    bench.later(Duration::from_secs(1));
    assert_ne!(ask(&mut bench, 2), first);
}

/// test_dht_storage `infohashes_sample_dist`: over time every infohash is shown.
#[test]
fn infohashes_sample_dist() {
    let mut config = Config { sample_interval: Duration::from_secs(10), ..Config::default() };
    config.peer_lifetime = Duration::from_secs(86_400);
    let mut bench = Bench::new(config);
    (0..200).for_each(|n| bench.announce(host_v4(n), info_hash(n as u8), false).unwrap());
    let mut seen = [0_u32; 200];
    for _ in 0..500 {
        bench.later(Duration::from_secs(10));
        let sample = Method::SampleInfohashes { target: Target::from_bytes([5; 20]) };
        let datagram = bench.ask(host_v4(1), sample).unwrap();
        reply(&datagram).samples.unwrap().chunks(20).for_each(|h| seen[usize::from(h[0])] += 1);
    }
    // 50 each; the standard deviation is 6.7.
    assert!(seen.iter().all(|times| (20..=85).contains(times)), "{seen:?}");
}

/// What BEP 5 calls an announce is acknowledged or refused, never lied about.
#[test]
fn a_network_over_its_announce_quota_is_told_so() {
    let config = Config { max_announces_per_subnet: 2, max_torrents: 2, ..Config::default() };
    let mut bench = Bench::new(config);
    let from = |port| SocketAddrV4::new([1, 2, 3, 4].into(), port);
    assert_eq!(bench.announce(from(1), info_hash(1), false), Ok(()));
    assert_eq!(bench.announce(from(1), info_hash(2), false), Ok(()));
    assert_eq!(bench.announce(from(1), info_hash(3), false), Err(202));
    assert_eq!(bench.announce(from(1), info_hash(2), true), Ok(()), "renewing is free");
    assert_eq!(bench.announce(host_v4(1), info_hash(3), false), Ok(()));
}
