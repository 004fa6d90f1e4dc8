//! The rows of the attack table that end at a server.

use super::*;

/// Index poisoning: a token is good for one target, one IP and ten minutes, and only the source IP
/// is ever stored.
#[test]
fn index_poisoning() {
    let mut bench = Bench::new(Config::default());
    let mut accepted = 0;
    let token = bench.token(host_v4(1), info_hash(0)).unwrap();
    let mut attempt = |bench: &mut Bench<_>, from, info_hash| {
        let announce = Method::AnnouncePeer {
            info_hash,
            port: 80,
            implied_port: false,
            seed: false,
            token: &token,
        };
        accepted += u32::from(result(&bench.ask(from, announce).unwrap()).is_ok());
    };
    (1..=255).for_each(|n| attempt(&mut bench, host_v4(1), info_hash(n)));
    (2..=255).for_each(|n| attempt(&mut bench, host_v4(n), info_hash(0)));
    bench.later(Duration::from_secs(600));
    attempt(&mut bench, host_v4(1), info_hash(0));
    assert_eq!((accepted, bench.gauges().peers), (0, 0));
}

/// Reflection: however queries are mixed, one victim network is not sent more than the burst and
/// the rate, and the reply gets smaller before it stops.
#[test]
fn amplification_cap() {
    let config =
        Config { subnet_bytes_per_sec: 2_000, subnet_burst_bytes: 10_000, ..Config::default() };
    let mut bench = Bench::new(config);
    (0..50).for_each(|n| bench.announce(host_v4(n), info_hash(1), false).unwrap());
    let item = Item::immutable(&crate::item::bencode_bytes(&[b'x'; 996])).unwrap();
    bench.put(host_v4(1), &item, None).unwrap();
    // What the table still owes from its smallest size is paid back first.
    bench.later(Duration::from_secs(10));
    let (mut sent, mut silent, mut sizes) = (0, 0, Vec::new());
    for step in 0..10_000_u32 {
        bench.later(Duration::from_millis(1));
        let victim = SocketAddrV4::new([66, 7, 8, step as u8].into(), 1 + step as u16);
        let method = match step % 3 {
            0 => get_peers(info_hash(1)),
            1 => Method::Get { target: item.id(), seq: None },
            _ => Method::SampleInfohashes { target: item.id().target() },
        };
        match bench.ask(victim, method) {
            Some(datagram) => {
                sent += datagram.len();
                sizes.push(datagram.len());
            }
            None => silent += 1,
        }
    }
    assert!(sent <= 10_000 + 10 * 2_000 + MAX_DATAGRAM, "{sent}");
    assert!(sent >= 10_000 + 9 * 2_000, "the budget is used: {sent}");
    assert_eq!(bench.stats.throttled, silent);
    assert!(bench.stats.degraded > 0);
    let (first, last) = (&sizes[..3], &sizes[sizes.len() - 3..]);
    assert!(first.iter().sum::<usize>() > 2 * last.iter().sum::<usize>(), "{first:?} {last:?}");
    // Others are served in full meanwhile.
    let datagram = bench.ask(v4("99.1.1.1:1"), get_peers(info_hash(1))).unwrap();
    assert_eq!(reply(&datagram).values.unwrap().iter().count(), 50);
}

/// libtorrent test_dos_blocker `dos_blocker`: blocked after so much, served again after a pause.
#[test]
fn dos_blocker() {
    let config =
        Config { subnet_bytes_per_sec: 100, subnet_burst_bytes: 1_000, ..Config::default() };
    let mut bench = Bench::new(config);
    let from = v4("1.2.3.4:5");
    let served = (0..50).filter(|_| bench.ask(from, Method::Ping).is_some()).count();
    assert!((10..30).contains(&served), "{served}");
    assert_eq!(bench.stats.throttled, 50 - served as u64);
    bench.later(Duration::from_secs(12));
    assert!(bench.ask(from, Method::Ping).is_some());
}

/// Over budget nothing is stored: silence is decided before any work.
#[test]
fn silence_stores_nothing() {
    let mut bench = Bench::new(Config::default());
    let token = bench.token(host_v4(1), info_hash(1)).unwrap();
    bench.config.total_bytes_per_sec = 0;
    let announce = Method::AnnouncePeer {
        info_hash: info_hash(1),
        port: 1,
        implied_port: false,
        seed: false,
        token: &token,
    };
    assert_eq!(bench.ask(host_v4(1), announce), None);
    assert_eq!(bench.gauges().peers, 0);
    assert_eq!(bench.stats.throttled, 1);
    assert_eq!(bench.stats.announce_peer_in, 0);
}

/// Storage exhaustion: a flood of puts from one /16 keeps to its quota, and at least 95 % of the
/// honest items stay.
#[test]
fn storage_exhaustion_by_items() {
    let config = Config {
        max_items: 200,
        max_items_per_subnet: 10,
        total_bytes_per_sec: u32::MAX,
        subnet_bytes_per_sec: u32::MAX,
        subnet_burst_bytes: u32::MAX,
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    let honest: Vec<Item> =
        (0..190).map(|n| Item::immutable(std::format!("i{n}e").as_bytes()).unwrap()).collect();
    for (n, item) in honest.iter().enumerate() {
        bench.put(host_v4(n as u16), item, None).unwrap();
    }
    for n in 0..2_560_u32 {
        let from = SocketAddrV4::new([66, 66, n as u8, (n >> 8) as u8].into(), 9);
        let item = Item::immutable(std::format!("i-{}e", n + 1).as_bytes()).unwrap();
        let _ = bench.put(from, &item, None);
    }
    assert!(bench.gauges().items <= 200);
    let kept = honest
        .iter()
        .filter(|item| {
            let get = Method::Get { target: item.id(), seq: None };
            reply(&bench.ask(host_v4(999), get).unwrap()).v.is_some()
        })
        .count();
    assert!(kept * 100 >= honest.len() * 95, "{kept} of {}", honest.len());
}

/// The same for announces, of many infohashes and into one torrent.
#[test]
fn storage_exhaustion_by_announces() {
    let config = Config {
        max_torrents: 80,
        max_peers_per_torrent: 80,
        max_announces_per_subnet: 20,
        total_bytes_per_sec: u32::MAX,
        subnet_bytes_per_sec: u32::MAX,
        subnet_burst_bytes: u32::MAX,
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    (0..60).for_each(|n| bench.announce(host_v4(n), info_hash(1), false).unwrap());
    (0..70).for_each(|n| bench.announce(host_v4(n), info_hash(n as u8 + 100), false).unwrap());
    for n in 0..2_000_u32 {
        let from = SocketAddrV4::new([66, 66, n as u8, 1].into(), 9);
        let mut bytes = [0x11; 20];
        bytes[16..].copy_from_slice(&n.to_be_bytes());
        // Minted next to our own id, where distance counts most.
        let _ = bench.announce(from, InfoHash::from_bytes(bytes), false);
        let from = SocketAddrV4::new([66, 66, 6, n as u8].into(), n as u16 + 1);
        if bench.token(from, info_hash(1)).is_some() {
            let _ = bench.announce(from, info_hash(1), false);
        }
    }
    assert!(bench.gauges().torrents <= 80 && bench.gauges().peers <= 130 + 45);
    let kept = (0..70_u8).filter(|n| {
        let datagram = bench.ask(host_v4(999), get_peers(info_hash(n + 100))).unwrap();
        reply(&datagram).values.is_some()
    });
    let kept = kept.count();
    assert!(kept * 100 >= 70 * 95, "{kept} of 70");
    let torrent = bench.server.peers.as_mut().unwrap().get(bench.now, info_hash(1)).unwrap();
    assert!(torrent.len() <= 60 + 10, "a network has its share of a torrent and no more");
}

/// CPU exhaustion: forged signatures use up the forger's own budget, not that of others.
#[test]
fn forged_signatures_silence_their_sender() {
    let mut bench = Bench::new(Config { verifications_per_sec: 1_000, ..Config::default() });
    let forger = v4("66.6.6.6:6");
    let public_key = [5; 32];
    let id = ItemId::of_mutable(&public_key, b"");
    let get = Method::Get { target: id, seq: None };
    let datagram = bench.ask(forger, get).unwrap();
    let token = reply(&datagram).token.unwrap();
    let mutable = wire::PutMutable {
        public_key: &public_key,
        salt: b"",
        seq: 1,
        signature: &[0; 64],
        cas: None,
    };
    for _ in 0..1_000 {
        let _ = bench.ask(forger, Method::Put(Put { token, v: b"i1e", mutable: Some(mutable) }));
    }
    assert!(bench.stats.verifications < 50, "{}", bench.stats.verifications);
    assert!(bench.stats.throttled > 900);
}
