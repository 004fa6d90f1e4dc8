//! Real sockets against simulated nodes, on loopback.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};
use dht_testnet::sim::profile::{Mapping, Nat};
use dht_testnet::sim::{Choices, World};
use dht_testnet::{Cidr, Error, Gateway, Listen, Spec, Testnet};

/// Read-only (BEP 43), so that no node asks back.
const PING: &[u8] = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t2:aa1:y1:qe";

fn client(ip: [u8; 4]) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::from(ip), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// Asks a node until it answers: datagrams get lost. Returns what it said.
fn ping(socket: &UdpSocket, to: SocketAddr) -> Vec<u8> {
    let mut buffer = [0; 2_000];
    for _ in 0..5 {
        socket.send_to(PING, to).unwrap();
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            assert_eq!(from, to, "a node answers from the address that was asked");
            return buffer[..len].to_vec();
        }
    }
    panic!("{to} does not answer");
}

fn spec(nodes: u32, profile: &str) -> Spec {
    let mut spec = Spec::new(nodes);
    spec.set_profile(profile).unwrap();
    spec
}

#[test]
fn every_node_answers_from_its_own_address_with_its_own_id() {
    let testnet = Testnet::start(&spec(200, "lan")).unwrap();
    assert_eq!(testnet.bootstrap().len(), 8);
    let clients = [client([127, 0, 0, 1]), client([127, 0, 7, 9])];
    let mut ids = Vec::new();
    for node in testnet.bootstrap() {
        assert_eq!(node.port(), testnet.local_addrs()[0].port());
        for client in &clients {
            let reply = ping(client, *node);
            let text = String::from_utf8_lossy(&reply).into_owned();
            assert!(text.contains("1:t2:aa") && text.contains("1:y1:r"), "{text}");
            let at = reply.windows(6).position(|part| part == b"2:id20").unwrap();
            ids.push(reply[at + 7..at + 27].to_vec());
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 8, "one id per node, whoever asks");
    let stats = testnet.stop().unwrap();
    assert!(stats.datagrams_in >= 16 && stats.datagrams_out >= 16, "{stats:?}");
    assert_eq!((stats.hosts, stats.dropped), (200, 0));
}

#[test]
fn answers_take_as_long_as_the_profile_says() {
    let testnet = Testnet::start(&spec(50, "internet")).unwrap();
    let client = client([127, 0, 0, 1]);
    let sent = Instant::now();
    ping(&client, testnet.bootstrap()[0]);
    assert!(sent.elapsed() >= Duration::from_millis(40), "{:?}", sent.elapsed());
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let of = |seed| {
        let mut spec = spec(100, "lan");
        spec.seed = seed;
        let testnet = Testnet::start(&spec).unwrap();
        testnet.bootstrap().iter().map(SocketAddr::ip).collect::<Vec<_>>()
    };
    let first = of(5);
    assert_eq!(of(5), first);
    assert_ne!(of(6), first);
}

#[test]
fn addresses_of_nobody_stay_silent_and_others_are_not_let_in() {
    let testnet = Testnet::start(&spec(20, "lan")).unwrap();
    let port = testnet.local_addrs()[0].port();
    let client = client([127, 0, 0, 1]);
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // An address left to clients: no simulated node can have it.
    client.send_to(PING, (Ipv4Addr::new(127, 0, 0, 9), port)).unwrap();
    let too_long = [b'x'; 3_000];
    client.send_to(&too_long, testnet.bootstrap()[0]).unwrap();
    assert!(client.recv(&mut [0; 2_000]).is_err());
    let stats = testnet.stop().unwrap();
    assert_eq!((stats.datagrams_in, stats.datagrams_out, stats.dropped), (2, 0, 2));
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |change: fn(&mut Spec)| {
        let mut spec = spec(200, "internet");
        change(&mut spec);
        Testnet::start(&spec).unwrap_err()
    };
    // 250 hosts, a fifth of them dead, and 253 addresses.
    let mut fits = spec(200, "internet");
    fits.range = "127.9.0.0/24".parse::<Cidr>().unwrap();
    fits.check().unwrap();
    fits.nodes = 204;
    assert!(matches!(fits.check(), Err(Error::TooMany { hosts: 255, addresses: 253, .. })));
    assert!(matches!(refused(|spec| spec.nodes = 0), Error::NoNodes));
    let foreign = refused(|spec| spec.range = "192.0.2.0/24".parse().unwrap());
    assert!(matches!(foreign, Error::NotLocal { .. }), "{foreign}");
    assert!(foreign.hint().contains("ip address add 192.0.2.1/24 dev lo"), "{}", foreign.hint());
    // Seven terabytes.
    let large = refused(|spec| (spec.nodes, spec.range) = (1 << 30, "0.0.0.0/1".parse().unwrap()));
    assert!(matches!(large, Error::TooLarge { .. }), "{large}");
    let high = refused(|spec| spec.port = 65_500);
    assert!(matches!(high, Error::TooHigh { port: 65_500, ports: 64 }), "{high}");
    assert!(high.hint().contains("65472"), "{}", high.hint());
    let mut v6 = spec(20, "lan");
    v6.networks = Networks::V6;
    // Unless somebody has made the addresses local.
    if let Err(foreign) = Testnet::start(&v6) {
        assert!(matches!(foreign, Error::NotLocal { .. }), "{foreign}");
        assert!(foreign.hint().contains("ip -6 route add local 3fff::/20"), "{}", foreign.hint());
    }
    let unknown = Spec::new(1).set_profile("moon").unwrap_err().to_string();
    assert!(unknown.contains("moon") && unknown.contains("lan, internet"), "{unknown}");
}

#[test]
fn a_taken_port_is_named() {
    let holder = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let mut spec = spec(10, "lan");
    spec.port = port;
    let error = Testnet::start(&spec).unwrap_err();
    assert!(matches!(error, Error::Bind(..)), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[test]
fn a_symmetric_nat_shows_each_peer_another_port_and_lets_only_its_peers_in() {
    let peers = [client([127, 0, 0, 1]), client([127, 0, 0, 2]), client([127, 0, 0, 3])];
    let stranger = client([127, 0, 0, 4]);
    let addrs: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    let mut listen = Listen::new(Cidr::LOOPBACK);
    listen.ports = 8;
    let build = {
        let listen = listen.clone();
        move |port| {
            let mut world = World::new(listen.setup(port), Choices::seeded(1));
            let mut config = Config::default();
            (config.mode, config.bootstrap) = (Mode::Server, addrs);
            let place = world.next_addrs(Networks::V4);
            let host = world.add_nobody(place);
            let mapping = Some(Mapping::AddressAndPortDependent);
            world.put_behind(host, &Nat { mapping, sharing: 1, ..Nat::carrier() });
            world.restart(host, &Arc::new(config), Networks::V4, None, 1);
            (world, None, place)
        }
    };
    let (gateway, place) = Gateway::start(&listen, build).unwrap();
    let first = gateway.local_addrs()[0].port();
    // It asks those whom it knows.
    let mut query = [0; 2_000];
    let seen: Vec<_> = peers.iter().map(|peer| peer.recv_from(&mut query).unwrap().1).collect();
    let outside = SocketAddr::V4(place.v4.unwrap()).ip();
    assert!(seen.iter().all(|addr| addr.ip() == outside), "{seen:?}");
    let ports: BTreeSet<_> = seen.iter().map(SocketAddr::port).collect();
    assert_eq!(ports.len(), 3, "{seen:?}");
    assert!(ports.iter().all(|port| (first..first + 8).contains(port)), "{first}: {seen:?}");
    // At the port that it showed a peer it answers that one, and nobody else.
    for (peer, addr) in peers.iter().zip(&seen) {
        stranger.send_to(PING, addr).unwrap();
        peer.send_to(PING, addr).unwrap();
        let answer = loop {
            let (len, from) = peer.recv_from(&mut query).unwrap();
            if query[..len].windows(7).any(|part| part == b"1:t2:aa") {
                break from;
            }
        };
        assert_eq!(answer, *addr);
    }
    stranger.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(stranger.recv(&mut query).is_err());
}

#[test]
fn nodes_come_and_go_and_those_to_start_from_stay() {
    let mut spec = spec(200, "lan");
    // Sessions of about a second.
    spec.churn = 60_000.try_into().ok();
    let testnet = Testnet::start(&spec).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while testnet.stats().left < 300 || testnet.stats().came < 300 {
        assert!(Instant::now() < deadline, "{:?}", testnet.stats());
        std::thread::sleep(Duration::from_millis(50));
    }
    let client = client([127, 0, 0, 1]);
    for node in testnet.bootstrap() {
        ping(&client, *node);
    }
    assert!(testnet.is_running());
}
