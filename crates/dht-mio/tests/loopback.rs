//! Whole nodes over real sockets, on loopback only.
//!
//! Nodes have addresses of their own in 127.0.0.0/8, because the DHT limits how many nodes of one
//! address it believes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::{Config, Mode};
use dht_mio::proto::id::{InfoHash, ItemId, NodeId};
use dht_mio::proto::item::bencode_bytes;
use dht_mio::proto::request::{AnnouncePort, Ended, Lookup};
use dht_mio::{Builder, Calls, Dht, ErrorKind, Notice};
use ed25519_dalek::SigningKey;

/// An address that no other node of this test run has.
fn fresh_ip() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0x7f01_0001);
    // Tests of other processes may run at the same time, so the ports stay free to choose.
    Ipv4Addr::from_bits(NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

fn builder() -> Builder {
    let mut config = Config::default();
    // Nobody here is behind a firewall, so nodes need not wait before they believe each other.
    config.verify_delay = Duration::ZERO;
    config.ping_interval = Duration::from_millis(10);
    Builder::new().config(config).bind((fresh_ip(), 0).into()).no_bootstrap().mode(Mode::Server)
}

fn knowing(nodes: &[&Dht]) -> Builder {
    nodes.iter().fold(builder(), |builder, node| builder.bootstrap(addr(node).to_string()))
}

fn addr(dht: &Dht) -> SocketAddr {
    dht.local_addrs()[0]
}

/// Waits for something that happens in the background. The limit is no figure: it only ends a test
/// that would hang.
fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < give_up, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn contacts(dht: &Dht) -> u64 {
    dht.stats().unwrap().node.contacts
}

/// Nodes that found each other through the first.
fn network(count: usize, calls: Calls) -> Vec<Dht> {
    let first = builder().calls(calls).spawn().unwrap();
    let mut nodes = vec![first];
    for _ in 1..count {
        nodes.push(knowing(&[&nodes[0]]).calls(calls).spawn().unwrap());
    }
    eventually("the first node knows all others", || contacts(&nodes[0]) == count as u64 - 1);
    for node in &nodes {
        eventually("every node has contacts", || contacts(node) >= 3.min(count as u64 - 1));
    }
    nodes
}

/// A socket that never answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((fresh_ip(), 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// A node whose queries only end when they are answered or cancelled.
fn patient() -> Builder {
    let mut config = Config::default();
    config.query_timeout = Duration::from_secs(3_600);
    config.lookup_timeout = Duration::from_secs(3_600);
    Builder::new().config(config).bind((fresh_ip(), 0).into()).no_bootstrap().mode(Mode::Server)
}

fn hash(text: &str) -> InfoHash {
    InfoHash::from_bytes(*ItemId::of_immutable(text.as_bytes()).as_bytes())
}

struct StateFile(PathBuf);

impl StateFile {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dht-mio-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        Self(dir.join("node.state"))
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(self.0.parent().unwrap()));
    }
}

fn twenty_nodes(calls: Calls) {
    let nodes = network(20, calls);
    let (a, b) = (&nodes[3], &nodes[17]);

    let info_hash = hash("announced");
    let outcome = a.announce(info_hash, AnnouncePort::Explicit(4_242), false).unwrap();
    assert!(outcome.stored >= 4, "{outcome:?}");
    let mut peers = b.get_peers(info_hash).unwrap();
    let found: Vec<_> = peers.by_ref().collect();
    assert_eq!(found, [SocketAddr::new(addr(a).ip(), 4_242)], "once, however many nodes told");
    let outcome = peers.outcome().unwrap();
    assert_eq!((outcome.ended, outcome.peers), (Ended::Completed, 1));

    let implied = hash("implied");
    assert!(a.announce(implied, AnnouncePort::Implied, false).unwrap().stored >= 4);
    assert_eq!(b.get_peers(implied).unwrap().next(), Some(addr(a)));

    let (id, outcome) = a.put_immutable(&bencode_bytes(b"hello")).unwrap();
    assert!(outcome.stored >= 4);
    assert_eq!(b.get_immutable(id).unwrap().unwrap().value(), bencode_bytes(b"hello"));

    let key = SigningKey::from_bytes(&[7; 32]);
    let public_key = key.verifying_key().to_bytes();
    for seq in [1, 2] {
        let value = bencode_bytes(b"mutable");
        let (_, outcome) = a.put_mutable(&key, b"salt", seq, &value, None).unwrap();
        assert!(outcome.stored >= 4);
    }
    let found = b.get_mutable(&public_key, b"salt").unwrap().unwrap();
    assert_eq!(found.signed().unwrap().seq, 2);
    assert_eq!(b.get_mutable(&public_key, b"other").unwrap(), None);
    let stale = bencode_bytes(b"stale");
    let (_, outcome) = a.put_mutable(&key, b"salt", 1, &stale, None).unwrap();
    // A node that was not among the nearest before may take it; whoever has a newer one refuses.
    assert!(outcome.refusals.iter().filter(|refusal| refusal.code == 302).count() >= 4);
    let found = b.get_mutable(&public_key, b"salt").unwrap().unwrap();
    assert_eq!(found.signed().unwrap().seq, 2);

    let own = b.node_id(Family::V4).unwrap().unwrap();
    let outcome = a.find_node(own).unwrap();
    assert_eq!(outcome.closest[0].id, own);
    assert_eq!(outcome.closest.len(), 8);

    let pong = a.ping(addr(b)).unwrap();
    assert_eq!((pong.closest[0].id, pong.closest[0].addr), (own, addr(b)));

    // The node nearest to a hash holds what was announced for it; nobody finds himself.
    let holder = a.find_node(info_hash.target().node_id()).unwrap().closest[0].addr;
    let sample = a.sample(holder, info_hash.target()).unwrap();
    assert!(sample.samples.contains(&info_hash), "{sample:?}");
}

#[test]
fn twenty_nodes_serve_each_other_in_batches() {
    twenty_nodes(Calls::Best);
}

#[test]
fn twenty_nodes_serve_each_other_datagram_by_datagram() {
    twenty_nodes(Calls::Single);
}

#[test]
fn both_families_work_side_by_side() {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let a = builder().bind(v6).spawn().unwrap();
    let b = knowing(&[&a]).bootstrap(a.local_addrs()[1].to_string()).bind(v6).spawn().unwrap();
    let info_hash = hash("dual");
    eventually("both are met", || contacts(&b) == 2);
    let outcome = b.announce(info_hash, AnnouncePort::Explicit(77), false).unwrap();
    assert_eq!(outcome.stored, 2, "{outcome:?}");
    let mut found: Vec<_> = b.get_peers(info_hash).unwrap().collect();
    found.sort();
    let expected: Vec<_> =
        b.local_addrs().iter().map(|addr| SocketAddr::new(addr.ip(), 77)).collect();
    assert_eq!(found, expected);
}

#[test]
fn bootstrap_hosts_are_resolved_in_the_background() {
    let first = Builder::new()
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .no_bootstrap()
        .mode(Mode::Server)
        .spawn()
        .unwrap();
    let (told, hears) = mpsc::channel();
    let dht = builder()
        .bootstrap(format!("localhost:{}", addr(&first).port()))
        .on_notice(move |notice| drop(told.send(notice)))
        .spawn()
        .unwrap();
    eventually(
        "localhost is resolved",
        || matches!(hears.try_recv(), Ok(Notice::Resolved { host, .. }) if host.starts_with("localhost:")),
    );
    eventually("the first node is met", || contacts(&dht) == 1);
}

#[test]
fn a_host_that_does_not_resolve_is_named_in_the_health_report() {
    // A name that is too long for DNS fails without asking anybody.
    let label = "x".repeat(64);
    let dht = builder().bootstrap(format!("{label}.invalid:1")).spawn().unwrap();
    eventually("the failure shows", || {
        let health = dht.health().unwrap();
        health.problems.iter().any(|line| line.contains(&label))
            && health.to_string().contains("no bootstrap host name could be resolved")
    });
}

#[test]
fn dropping_a_lookup_cancels_it() {
    let (_socket, nobody) = silent();
    let dht = patient().spawn().unwrap();
    let lookups = || dht.stats().unwrap().node.lookups_running;
    let before = lookups();
    let lookup = dht.start(Lookup::Ping { addr: nobody }).unwrap();
    eventually("the lookup runs", || lookups() > before);
    drop(lookup);
    eventually("the lookup is gone", || lookups() == before);
    dht.start(Lookup::Ping { addr: nobody }).unwrap().cancel();
    eventually("the lookup is gone", || lookups() == before);
}

#[test]
fn at_the_deadline_a_call_returns_what_is_known() {
    let (_socket, nobody) = silent();
    let dht = patient().spawn().unwrap();
    let hasty = dht.with_timeout(Duration::from_millis(20));
    let began = Instant::now();
    let outcome = hasty.ping(nobody).unwrap();
    assert_eq!(outcome.ended, Ended::TimedOut);
    // The lookup itself may have begun later.
    assert!(began.elapsed() >= Duration::from_millis(20));
    eventually("the lookup is cancelled", || dht.stats().unwrap().node.lookups_running == 0);
}

#[test]
fn peers_found_before_the_deadline_are_kept() {
    let (_socket, nobody) = silent();
    let a = builder().spawn().unwrap();
    let mut config = Config::default();
    (config.query_timeout, config.lookup_timeout) =
        (Duration::from_secs(3_600), Duration::from_secs(3_600));
    config.bootstrap = vec![addr(&a), nobody];
    let b = Builder::new().config(config).bind((fresh_ip(), 0).into()).mode(Mode::Server);
    let b = b.bootstrap(addr(&a).to_string()).spawn().unwrap();
    let info_hash = hash("early");
    knowing(&[&a]).spawn().unwrap().announce(info_hash, AnnouncePort::Explicit(5), false).unwrap();
    eventually("the node is met", || contacts(&b) >= 1);
    let mut peers = b.with_timeout(Duration::from_secs(2)).get_peers(info_hash).unwrap();
    assert_eq!(peers.next().unwrap().port(), 5);
    let outcome = peers.outcome().unwrap();
    assert_eq!(outcome.peers, 1);
    assert!(matches!(outcome.ended, Ended::Completed | Ended::TimedOut));
}

#[test]
fn a_port_where_nobody_listens_ends_the_lookup_without_result() {
    let (socket, nobody) = silent();
    drop(socket);
    let mut config = Config::default();
    config.query_timeout = Duration::from_millis(100);
    let dht = Builder::new().config(config).bind((fresh_ip(), 0).into()).no_bootstrap();
    let dht = dht.mode(Mode::Server).calls(Calls::Single).spawn().unwrap();
    let outcome = dht.ping(nobody).unwrap();
    assert_eq!(outcome.ended, Ended::NoAnswer);
    assert!(outcome.closest.is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_waits_for_a_port_that_icmp_says_is_closed() {
    // Queries time out after an hour.
    let dht = patient().bind((Ipv6Addr::LOCALHOST, 0).into()).spawn().unwrap();
    let closed = |ip: IpAddr| UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
    for nobody in [closed(fresh_ip()), closed(Ipv6Addr::LOCALHOST.into())] {
        let outcome = dht.ping(nobody).unwrap();
        assert_eq!(outcome.ended, Ended::NoAnswer);
    }
    let stats = dht.stats().unwrap();
    assert_eq!((stats.io.refused, stats.node.unreachable), (2, 2));
}

/// Sends a ping and returns where the answer comes from.
#[cfg(target_os = "linux")]
fn ask(socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(ping, to).unwrap();
    let mut buffer = [0; 1_500];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        // The node also asks whether we are there.
        if buffer[..len].ends_with(b"1:y1:re") {
            return from;
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_on_every_address_answers_from_the_one_that_was_asked() {
    let every = |ip: IpAddr| SocketAddr::new(ip, 0);
    let dht = Builder::new().no_bootstrap().mode(Mode::Server);
    let dht = dht.bind(every(Ipv4Addr::UNSPECIFIED.into()));
    let dht = dht.bind(every(Ipv6Addr::UNSPECIFIED.into())).spawn().unwrap();
    let [v4, v6] = *dht.local_addrs() else { panic!("two sockets") };
    let (client, _) = silent();
    for last in 2..6 {
        let asked = SocketAddr::from(([127, 0, 0, last], v4.port()));
        assert_eq!(ask(&client, asked), asked);
    }
    let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let asked = SocketAddr::from((Ipv6Addr::LOCALHOST, v6.port()));
    assert_eq!(ask(&client, asked), asked);
    // Its own queries leave from there, too.
    let other = builder().spawn().unwrap();
    assert_eq!(dht.ping(addr(&other)).unwrap().ended, Ended::Completed);
}

#[test]
fn an_address_that_the_system_refuses_is_unreachable_at_once() {
    let dht = patient().spawn().unwrap();
    // Broadcast needs a permission that the socket does not have.
    let outcome = dht.ping(SocketAddr::from((Ipv4Addr::BROADCAST, 9))).unwrap();
    assert_eq!(outcome.ended, Ended::NoAnswer);
    assert_eq!(dht.stats().unwrap().io.unreachable, 1);
}

#[test]
fn nobody_to_ask_is_said_in_words() {
    let dht = builder().spawn().unwrap();
    let outcome = dht.get_peers(hash("lonely")).unwrap().outcome().unwrap();
    assert_eq!(outcome.ended, Ended::NoContacts);
    assert!(dht.health().unwrap().to_string().contains("nobody to ask"));
}

#[test]
fn a_configuration_outside_its_ranges_is_refused_by_name() {
    let mut config = Config::default();
    config.alpha = 0;
    let error = builder().config(config).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("alpha is 0, and must be from 1 to 64"), "{error}");
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let dht = builder().spawn().unwrap();
    let error = dht.ping(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = dht.ping(SocketAddr::from((Ipv6Addr::LOCALHOST, 1))).unwrap_err();
    assert!(error.to_string().contains("bind an address of that family"), "{error}");
    let error = dht.announce(hash("x"), AnnouncePort::Explicit(0), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = dht.put_immutable(b"not bencode").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("bencode"), "{error}");
    let error = dht.save().unwrap_err();
    assert!(error.to_string().contains("no state file"), "{error}");
}

#[test]
fn shutdown_saves_and_a_restart_is_warm() {
    let file = StateFile::new("warm");
    let nodes = network(4, Calls::Best);
    let dht = knowing(&[&nodes[0]]).state_file(&file.0).spawn().unwrap();
    eventually("the network is met", || contacts(&dht) >= 3);
    let id = dht.node_id(Family::V4).unwrap();
    nodes[1].put_immutable(&bencode_bytes(b"kept")).unwrap();
    eventually("the item is stored", || dht.stats().unwrap().node.items == 1);
    let place = addr(&dht);
    dht.shutdown().unwrap();
    drop(dht);

    // No bootstrap: what it knows comes from the file.
    let again = Builder::new().bind(place).no_bootstrap().mode(Mode::Server).state_file(&file.0);
    let again = again.spawn().unwrap();
    assert_eq!(again.node_id(Family::V4).unwrap(), id);
    assert_eq!(again.stats().unwrap().node.items, 1);
    eventually("old contacts answer", || contacts(&again) >= 3);
}

#[test]
fn the_state_is_saved_when_asked() {
    let file = StateFile::new("asked");
    let interval = Duration::from_secs(3_600);
    let start = || builder().state_file(&file.0).save_interval(interval).spawn().unwrap();
    // A state that is saved already is not written again, so the restart is what is watched.
    start().shutdown().unwrap();
    let dht = start();
    std::fs::remove_file(&file.0).unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(|| dht.save());
        dht.save().unwrap();
        other.join().unwrap().unwrap();
    });
    assert!(file.0.exists());
    dht.shutdown().unwrap();
    assert_eq!(dht.save().unwrap_err().kind(), ErrorKind::Stopped);
}

#[test]
fn a_save_that_fails_is_an_error_of_whoever_waits_for_it() {
    let file = StateFile::new("failing");
    drop(builder().state_file(&file.0).build().unwrap());
    let dht = builder().state_file(&file.0).spawn().unwrap();
    std::fs::remove_file(&file.0).unwrap();
    // Nothing can be renamed onto a directory that is not empty.
    std::fs::create_dir_all(file.0.join("occupied")).unwrap();
    assert_eq!(dht.save().unwrap_err().kind(), ErrorKind::State);
    assert_eq!(dht.shutdown().unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn the_last_handle_stops_the_node_and_saves() {
    let file = StateFile::new("dropped");
    let dht = builder().state_file(&file.0).spawn().unwrap();
    let place = addr(&dht);
    let clone = dht.clone();
    drop(dht);
    assert!(clone.stats().is_ok(), "a clone keeps the node alive");
    drop(clone);
    assert!(file.0.exists());
    UdpSocket::bind(place).unwrap();
}

#[test]
fn a_damaged_state_file_is_set_aside_and_the_node_starts_afresh() {
    let file = StateFile::new("damaged");
    std::fs::write(&file.0, b"this is not a snapshot").unwrap();
    let (told, hears) = mpsc::channel();
    let on_notice = move |notice| drop(told.send(notice));
    let dht = builder().state_file(&file.0).on_notice(on_notice).spawn().unwrap();
    let Ok(Notice::StateDamaged { kept_as, .. }) = hears.recv() else { panic!("nobody was told") };
    assert_eq!(std::fs::read(kept_as).unwrap(), b"this is not a snapshot");
    dht.shutdown().unwrap();
    assert_ne!(std::fs::read(&file.0).unwrap(), b"this is not a snapshot");
}

#[test]
fn a_state_file_cut_anywhere_is_never_fatal() {
    let file = StateFile::new("cut");
    builder().state_file(&file.0).spawn().unwrap().shutdown().unwrap();
    let whole = std::fs::read(&file.0).unwrap();
    for len in (0..whole.len()).step_by(7) {
        std::fs::write(&file.0, &whole[..len]).unwrap();
        builder().state_file(&file.0).build().unwrap();
    }
}

#[test]
fn after_shutdown_calls_say_that_the_node_has_stopped() {
    let (_socket, nobody) = silent();
    let dht = patient().spawn().unwrap();
    let waiting = dht.start(Lookup::Ping { addr: nobody }).unwrap();
    dht.shutdown().unwrap();
    assert_eq!(waiting.outcome().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(dht.ping(nobody).unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(dht.stats().unwrap_err().kind(), ErrorKind::Stopped);
    dht.shutdown().unwrap();
}

#[test]
fn handles_work_from_many_threads() {
    let nodes = network(5, Calls::Best);
    thread::scope(|scope| {
        for n in 0..16 {
            let dht = nodes[n % 5].clone();
            let info_hash = hash(&format!("thread {n}"));
            scope.spawn(move || {
                let port = AnnouncePort::Explicit(1_000 + n as u16);
                assert!(dht.announce(info_hash, port, false).unwrap().stored > 0);
                let peers: Vec<_> = dht.get_peers(info_hash).unwrap().collect();
                assert_eq!(peers.len(), 1);
            });
        }
    });
}

#[test]
fn the_callers_own_thread_can_run_the_loop() {
    let first = builder().spawn().unwrap();
    let mut event_loop = knowing(&[&first]).build().unwrap();
    let dht = event_loop.handle();
    let target = NodeId::from_bytes([9; 20]);
    let mut lookup = dht.with_timeout(Duration::ZERO).start(Lookup::FindNode { target }).unwrap();
    assert!(lookup.next().is_none(), "nothing happens while the loop does not run");

    let lookup = dht.start(Lookup::FindNode { target }).unwrap();
    eventually("the loop meets the first node", || {
        assert!(event_loop.turn(Duration::from_millis(1)).unwrap());
        event_loop_stats(&dht, &mut event_loop) > 0
    });
    assert!(event_loop.run_for(Duration::from_millis(1)).unwrap());

    let runner = thread::spawn(move || event_loop.run());
    assert_eq!(lookup.outcome().unwrap().closest[0].addr, addr(&first));
    dht.shutdown().unwrap();
    runner.join().unwrap().unwrap();
}

/// Contacts, asked of a loop that this same thread runs.
fn event_loop_stats(dht: &Dht, event_loop: &mut dht_mio::EventLoop) -> u64 {
    thread::scope(|scope| {
        let asked = scope.spawn(|| contacts(dht));
        while !asked.is_finished() {
            event_loop.turn(Duration::from_millis(1)).unwrap();
        }
        asked.join().unwrap()
    })
}

#[test]
fn a_loop_that_is_not_run_is_an_error_not_a_hang() {
    let event_loop = builder().build().unwrap();
    let dht = event_loop.handle().with_timeout(Duration::from_millis(10));
    assert_eq!(dht.stats().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(dht.shutdown().unwrap_err().kind(), ErrorKind::TimedOut);
    drop(event_loop);
    assert_eq!(dht.stats().unwrap_err().kind(), ErrorKind::Stopped);
}

#[test]
fn garbage_from_the_network_is_counted_and_does_no_harm() {
    let a = builder().spawn().unwrap();
    let (socket, _) = silent();
    socket.send_to(&[0xff; 3_000], addr(&a)).unwrap();
    for len in 0..200 {
        socket.send_to(&vec![b'd'; len], addr(&a)).unwrap();
    }
    eventually("garbage is counted", || {
        let stats = a.stats().unwrap();
        stats.io.truncated == 1 && stats.node.malformed == 200
    });
    let b = knowing(&[&a]).spawn().unwrap();
    assert_eq!(b.ping(addr(&a)).unwrap().closest.len(), 1);
}
