//! Whole nodes over real sockets, on loopback only.
//!
//! Nodes have addresses of their own in 127.0.0.0/8, because the DHT limits how many nodes of one
//! address it believes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::{Arc, mpsc};
use std::task::Wake;

use async_io::{Async, Timer};
use dht_smol::proto::addr::Family;
use dht_smol::proto::config::{Config, Mode};
use dht_smol::proto::id::NodeId;
use dht_smol::proto::item::{Item, bencode_bytes};
use dht_smol::proto::request::{AnnouncePort, Ended, Lookup};
use dht_smol::{Builder, Calls, Dht, ErrorKind, Notice};
use ed25519_dalek::SigningKey;
use futures_lite::future::{self, block_on, poll_once};
use futures_lite::{FutureExt, StreamExt};
use support::*;

async fn twenty_nodes(calls: Calls) {
    let nodes = network(20, calls).await;
    let (a, b) = (&nodes[3], &nodes[17]);

    let info_hash = hash("announced");
    let outcome = a.announce(info_hash, AnnouncePort::Explicit(4_242), false).await.unwrap();
    assert!(outcome.stored >= 4, "{outcome:?}");
    let mut peers = b.get_peers(info_hash);
    let mut found = Vec::new();
    while let Some(peer) = peers.next().await {
        found.push(peer);
    }
    assert_eq!(found, [SocketAddr::new(addr(a).ip(), 4_242)], "once, however many nodes told");
    let outcome = peers.outcome().await.unwrap();
    assert_eq!((outcome.ended, outcome.peers), (Ended::Completed, 1));

    let implied = hash("implied");
    assert!(a.announce(implied, AnnouncePort::Implied, false).await.unwrap().stored >= 4);
    assert_eq!(b.get_peers(implied).next().await, Some(addr(a)));

    let (id, outcome) = a.put_immutable(&bencode_bytes(b"hello")).await.unwrap();
    assert!(outcome.stored >= 4);
    let found = b.get_immutable(id).await.unwrap().unwrap();
    assert_eq!(found.value(), bencode_bytes(b"hello"));

    let key = SigningKey::from_bytes(&[7; 32]);
    let public_key = key.verifying_key().to_bytes();
    let value = bencode_bytes(b"mutable");
    let mut target = None;
    for seq in [1, 2] {
        let (id, outcome) = a.put_mutable(&key, b"salt", seq, &value, None).await.unwrap();
        assert!(outcome.stored >= 4);
        target = Some(id);
    }
    let found = b.get_mutable(&public_key, b"salt").await.unwrap().unwrap();
    assert_eq!(found.signed().unwrap().seq, 2);
    assert_eq!(b.get_mutable(&public_key, b"other").await.unwrap(), None);
    let mut items = b.get_item(target.unwrap(), b"salt");
    let mut newest = None;
    while let Some(item) = items.next().await {
        let seq = Some(item.signed().unwrap().seq);
        assert!(newest < seq, "each is newer than the last");
        newest = seq;
    }
    assert_eq!(newest, Some(2));
    assert_eq!(*items.outcome().await.unwrap().item.unwrap(), found);
    let stale = Item::sign(&key, b"salt", 1, &bencode_bytes(b"stale")).unwrap();
    let outcome = a.put_item(stale, None).await.unwrap();
    // A node that was not among the nearest before may take it; whoever has a newer one refuses.
    assert!(outcome.refusals.iter().filter(|refusal| refusal.code == 302).count() >= 4);
    let found = b.get_mutable(&public_key, b"salt").await.unwrap().unwrap();
    assert_eq!(found.signed().unwrap().seq, 2);

    let own = b.node_id(Family::V4).await.unwrap().unwrap();
    let outcome = a.find_node(own).await.unwrap();
    assert_eq!((outcome.closest[0].id, outcome.closest.len()), (own, 8));
    let pong = a.ping(addr(b)).await.unwrap();
    assert_eq!((pong.closest[0].id, pong.closest[0].addr), (own, addr(b)));

    // The node nearest to a hash holds what was announced for it; nobody finds himself.
    let holder = a.find_node(info_hash.target().node_id()).await.unwrap().closest[0].addr;
    let sample = a.sample(holder, info_hash.target()).await.unwrap();
    assert!(sample.samples.contains(&info_hash), "{sample:?}");
}

#[test]
fn twenty_nodes_serve_each_other_in_batches() {
    block_on(twenty_nodes(Calls::Best));
}

#[test]
fn twenty_nodes_serve_each_other_datagram_by_datagram() {
    block_on(twenty_nodes(Calls::Single));
}

#[test]
fn both_families_work_side_by_side() {
    block_on(async {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let a = builder().bind(v6).spawn().unwrap();
        let b = knowing(&[&a]).bootstrap(a.local_addrs()[1].to_string()).bind(v6).spawn().unwrap();
        let info_hash = hash("dual");
        eventually("both are met", async || contacts(&b).await == 2).await;
        let outcome = b.announce(info_hash, AnnouncePort::Explicit(77), false).await.unwrap();
        assert_eq!(outcome.stored, 2, "{outcome:?}");
        let mut found: Vec<_> = b.get_peers(info_hash).collect().await;
        found.sort();
        let expected: Vec<_> =
            b.local_addrs().iter().map(|addr| SocketAddr::new(addr.ip(), 77)).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn bootstrap_hosts_are_resolved_in_the_background() {
    block_on(async {
        let first = Builder::new().bind((Ipv4Addr::LOCALHOST, 0).into()).no_bootstrap();
        let first = first.mode(Mode::Server).spawn().unwrap();
        let (told, hears) = mpsc::channel();
        let dht = builder()
            .bootstrap(format!("localhost:{}", addr(&first).port()))
            .on_notice(move |notice| drop(told.send(notice)))
            .spawn()
            .unwrap();
        eventually("localhost is resolved", async || {
            matches!(hears.try_recv(), Ok(Notice::Resolved { host, .. }) if host.starts_with("localhost:"))
        })
        .await;
        eventually("the first node is met", async || contacts(&dht).await == 1).await;
    });
}

#[test]
fn a_host_that_does_not_resolve_is_named_in_the_health_report() {
    block_on(async {
        // A name that is too long for DNS fails without asking anybody.
        let label = "x".repeat(64);
        let dht = builder().bootstrap(format!("{label}.invalid:1")).spawn().unwrap();
        eventually("the failure shows", async || {
            let health = dht.health().await.unwrap();
            health.problems.iter().any(|line| line.contains(&label))
                && health.to_string().contains("no bootstrap host name could be resolved")
        })
        .await;
    });
}

async fn running(dht: &Dht) -> u64 {
    dht.stats().await.unwrap().node.lookups_running
}

#[test]
fn dropping_a_future_or_a_stream_cancels_the_lookup_and_silences_it() {
    block_on(async {
        let (socket, nobody) = silent();
        socket.set_nonblocking(true).unwrap();
        let dht = patient().spawn().unwrap();
        let before = running(&dht).await;
        for cancelled in 1..=2 {
            let mut ping = Box::pin(dht.ping(nobody));
            let mut stream = dht.start(Lookup::Ping { addr: nobody });
            assert_eq!(running(&dht).await, before, "nothing happens before the first poll");
            if cancelled == 1 {
                assert!(poll_once(&mut ping).await.is_none());
            } else {
                assert!(poll_once(stream.next()).await.is_none());
            }
            eventually("the lookup asks", async || {
                running(&dht).await == before + 1 && socket.recv_from(&mut [0; 2_000]).is_ok()
            })
            .await;
            drop((ping, stream));
            eventually("the lookup is gone", async || running(&dht).await == before).await;
        }
        assert!(socket.recv_from(&mut [0; 2_000]).is_err(), "one query each");
    });
}

#[test]
fn a_cancelled_lookup_of_many_steps_sends_no_further_query() {
    block_on(async {
        // Every address is one that never answers, so that the lookup always has more to ask.
        let silent: Vec<_> = (0..40).map(|_| silent()).collect();
        let mut config = Config::default();
        config.bootstrap = silent.iter().map(|(_, addr)| *addr).collect();
        (config.query_timeout, config.lookup_timeout) =
            (Duration::from_secs(3_600), Duration::from_secs(3_600));
        let dht = Builder::new().config(config).bind((fresh_ip(), 0).into()).mode(Mode::Server);
        let dht = dht.bootstrap(silent[0].1.to_string()).spawn().unwrap();
        let lookup = dht.get_peers(hash("cancelled"));
        let mut lookup = Box::pin(lookup);
        assert!(poll_once(lookup.next()).await.is_none());
        eventually("queries leave", async || dht.stats().await.unwrap().io.sent > 0).await;
        drop(lookup);
        // The join of the node itself is a lookup, too; it may go on.
        let asks = || {
            let mut counts = [0, 0];
            let mut buffer = [0; 2_000];
            for (socket, _) in &silent {
                while let Ok((len, _)) = socket.recv_from(&mut buffer) {
                    for (count, name) in counts.iter_mut().zip(["cancelled", "next"]) {
                        let (name, mut text) = (hash(name), buffer[..len].windows(20));
                        *count += usize::from(text.any(|window| window == name.as_bytes()));
                    }
                }
            }
            counts
        };
        // The cancellation comes before this question in the queue.
        dht.stats().await.unwrap();
        for (socket, _) in &silent {
            socket.set_nonblocking(true).unwrap();
        }
        asks();
        // Another lookup goes the same way, later. Once its first queries have stalled and others
        // have taken their places, those of the cancelled one would have, too.
        let mut next = Box::pin(dht.get_peers(hash("next")));
        assert!(poll_once(next.next()).await.is_none());
        let (mut cancelled, mut others) = (0, 0);
        eventually("the other lookup goes on", async || {
            let [late, more] = asks();
            (cancelled, others) = (cancelled + late, others + more);
            others > 2 * Config::default().alpha
        })
        .await;
        assert_eq!(cancelled, 0);
    });
}

#[test]
fn a_timer_limits_any_future() {
    block_on(async {
        let (_socket, nobody) = silent();
        let dht = patient().spawn().unwrap();
        let limit = async {
            Timer::after(Duration::from_millis(20)).await;
            None
        };
        let answer = future::or(async { Some(dht.ping(nobody).await) }, limit).await;
        assert!(answer.is_none());
        eventually("the lookup is cancelled", async || running(&dht).await == 0).await;
    });
}

#[test]
fn a_reader_that_does_not_read_stops_neither_the_lookup_nor_the_node() {
    block_on(async {
        let nodes = network(6, Calls::Best).await;
        let info_hash = hash("unread");
        nodes[1].announce(info_hash, AnnouncePort::Explicit(9), false).await.unwrap();
        let mut lazy = nodes[2].get_peers(info_hash);
        let mut first = Box::pin(nodes[2].get_peers(hash("other")));
        assert!(poll_once(lazy.next()).await.is_none());
        assert!(poll_once(first.next()).await.is_none());
        eventually("both have ended in the core", async || running(&nodes[2]).await == 0).await;
        assert_eq!(nodes[2].ping(addr(&nodes[3])).await.unwrap().ended, Ended::Completed);
        assert_eq!(lazy.next().await.unwrap().port(), 9, "what was found has waited");
        assert_eq!(lazy.outcome().await.unwrap().ended, Ended::Completed);
    });
}

#[test]
fn more_requests_than_the_queue_holds_wait_for_room() {
    block_on(async {
        let (dht, node) = builder().build().unwrap();
        // Nobody polls the node yet, so the queue fills.
        let mut asked: Vec<_> = (0..3_000).map(|_| Box::pin(dht.stats())).collect();
        for future in &mut asked {
            assert!(poll_once(future).await.is_none());
        }
        let mut late = dht.start(Lookup::FindNode { target: NodeId::from_bytes([1; 20]) });
        assert!(poll_once(late.next()).await.is_none());
        let work = async {
            for future in asked {
                future.await.unwrap();
            }
            assert_eq!(late.outcome().await.unwrap().ended, Ended::NoContacts);
            dht.shutdown().await
        };
        let (worked, ran) = future::zip(work, node).await;
        worked.and(ran).unwrap();
    });
}

#[test]
fn a_port_where_nobody_listens_ends_the_lookup_without_result() {
    block_on(async {
        let (socket, nobody) = silent();
        drop(socket);
        let mut config = Config::default();
        config.query_timeout = Duration::from_millis(100);
        let dht = Builder::new().config(config).bind((fresh_ip(), 0).into()).no_bootstrap();
        let dht = dht.mode(Mode::Server).calls(Calls::Single).spawn().unwrap();
        let outcome = dht.ping(nobody).await.unwrap();
        assert_eq!(outcome.ended, Ended::NoAnswer);
        assert!(outcome.closest.is_empty());
    });
}

#[test]
fn nobody_to_ask_is_said_in_words() {
    block_on(async {
        let dht = builder().spawn().unwrap();
        let outcome = dht.get_peers(hash("lonely")).outcome().await.unwrap();
        assert_eq!(outcome.ended, Ended::NoContacts);
        assert!(dht.health().await.unwrap().to_string().contains("nobody to ask"));
        assert_eq!(dht.external_addr().await.unwrap().v4, None);
    });
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    block_on(async {
        let dht = builder().spawn().unwrap();
        let error = dht.ping(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = dht.ping(SocketAddr::from((Ipv6Addr::LOCALHOST, 1))).await.unwrap_err();
        assert!(error.to_string().contains("bind an address of that family"), "{error}");
        let error = dht.announce(hash("x"), AnnouncePort::Explicit(0), false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = dht.put_immutable(b"not bencode").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("bencode"), "{error}");
        let error = dht.save().await.unwrap_err();
        assert!(error.to_string().contains("no state file"), "{error}");
    });
}

#[test]
fn an_added_contact_is_asked() {
    block_on(async {
        let (a, b) = (builder().spawn().unwrap(), builder().spawn().unwrap());
        a.add_contact(addr(&b), None).await.unwrap();
        eventually("they have met", async || contacts(&a).await == 1).await;
        assert!(a.snapshot().await.unwrap().v4.is_some());
    });
}

#[test]
fn shutdown_saves_and_a_restart_is_warm() {
    block_on(async {
        let file = StateFile::new("warm");
        let nodes = network(4, Calls::Best).await;
        let dht = knowing(&[&nodes[0]]).state_file(&file.0).spawn().unwrap();
        eventually("the network is met", async || contacts(&dht).await >= 3).await;
        let id = dht.node_id(Family::V4).await.unwrap();
        nodes[1].put_immutable(&bencode_bytes(b"kept")).await.unwrap();
        eventually("the item is stored", async || dht.stats().await.unwrap().node.items == 1).await;
        let place = addr(&dht);
        dht.shutdown().await.unwrap();

        // No bootstrap: what it knows comes from the file. The old handle keeps nothing open.
        let again = Builder::new().bind(place).no_bootstrap().mode(Mode::Server);
        let again = again.state_file(&file.0).spawn().unwrap();
        assert_eq!(again.node_id(Family::V4).await.unwrap(), id);
        assert_eq!(again.stats().await.unwrap().node.items, 1);
        eventually("old contacts answer", async || contacts(&again).await >= 3).await;
        drop(dht);
    });
}

#[test]
fn the_state_is_saved_when_asked_and_at_intervals() {
    block_on(async {
        let file = StateFile::new("asked");
        let dht = builder().state_file(&file.0).spawn().unwrap();
        // A state that is saved already is not written again, so the restart is what is watched.
        dht.shutdown().await.unwrap();
        let interval = Duration::from_secs(3_600);
        let dht = builder().state_file(&file.0).save_interval(interval).spawn().unwrap();
        std::fs::remove_file(&file.0).unwrap();
        let (one, two) = future::zip(dht.save(), dht.save()).await;
        one.and(two).unwrap();
        assert!(file.0.exists());
        dht.shutdown().await.unwrap();
        assert_eq!(dht.save().await.unwrap_err().kind(), ErrorKind::Stopped);

        let interval = Duration::from_millis(100);
        let dht = builder().state_file(&file.0).save_interval(interval).spawn().unwrap();
        std::fs::remove_file(&file.0).unwrap();
        eventually("the state is saved", async || file.0.exists()).await;
        dht.shutdown().await.unwrap();
    });
}

#[test]
fn a_save_that_fails_is_an_error_of_whoever_waits_for_it() {
    block_on(async {
        let file = StateFile::new("failing");
        drop(builder().state_file(&file.0).build().unwrap());
        let dht = builder().state_file(&file.0).spawn().unwrap();
        std::fs::remove_file(&file.0).unwrap();
        // Nothing can be renamed onto a directory that is not empty.
        std::fs::create_dir_all(file.0.join("occupied")).unwrap();
        assert_eq!(dht.save().await.unwrap_err().kind(), ErrorKind::State);
        let health = dht.health().await.unwrap();
        assert!(health.to_string().contains("the state cannot be saved"), "{health}");
        assert_eq!(dht.shutdown().await.unwrap_err().kind(), ErrorKind::State);
    });
}

#[test]
fn the_last_handle_stops_the_node_and_saves() {
    block_on(async {
        let file = StateFile::new("dropped");
        let (dht, node) = builder().state_file(&file.0).build().unwrap();
        let node = smol::spawn(node);
        let place = addr(&dht);
        let clone = dht.clone();
        drop(dht);
        assert!(clone.stats().await.is_ok(), "a clone keeps the node alive");
        let future = clone.stats();
        drop(clone);
        assert!(future.await.is_ok(), "and so does a future");
        node.await.unwrap();
        assert!(file.0.exists());
        UdpSocket::bind(place).unwrap();
    });
}

#[test]
fn a_damaged_state_file_is_set_aside_and_the_node_starts_afresh() {
    block_on(async {
        let file = StateFile::new("damaged");
        std::fs::write(&file.0, b"this is not a snapshot").unwrap();
        let (told, hears) = mpsc::channel();
        let on_notice = move |notice| drop(told.send(notice));
        let dht = builder().state_file(&file.0).on_notice(on_notice).spawn().unwrap();
        let Ok(Notice::StateDamaged { kept_as, .. }) = hears.recv() else {
            panic!("nobody was told")
        };
        assert_eq!(std::fs::read(kept_as).unwrap(), b"this is not a snapshot");
        dht.shutdown().await.unwrap();
        assert_ne!(std::fs::read(&file.0).unwrap(), b"this is not a snapshot");
    });
}

#[test]
fn after_shutdown_everything_says_that_the_node_has_stopped() {
    block_on(async {
        let (_socket, nobody) = silent();
        let dht = patient().spawn().unwrap();
        let mut waiting = pin!(dht.ping(nobody));
        assert!(poll_once(&mut waiting).await.is_none());
        dht.shutdown().await.unwrap();
        assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(dht.ping(nobody).await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(dht.stats().await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(dht.get_peers(hash("late")).next().await, None);
        dht.shutdown().await.unwrap();
    });
}

#[test]
fn dropping_the_loop_stops_the_node_and_wakes_whoever_waits() {
    block_on(async {
        let (_socket, nobody) = silent();
        let (dht, mut node) = patient().build().unwrap();
        let mut ping = pin!(dht.ping(nobody));
        assert!(poll_once(&mut ping).await.is_none());
        assert!(poll_once(&mut node).await.is_none());
        drop(node);
        assert_eq!(ping.await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(dht.shutdown().await.unwrap_err().kind(), ErrorKind::Stopped);
    });
}

#[test]
fn handles_work_from_many_tasks() {
    let nodes = block_on(network(5, Calls::Best));
    let executor = async_executor::Executor::new();
    let tasks: Vec<_> = (0..16_u16)
        .map(|n| {
            let dht = nodes[usize::from(n % 5)].clone();
            let info_hash = hash(&format!("task {n}"));
            executor.spawn(async move {
                let port = AnnouncePort::Explicit(1_000 + n);
                assert!(dht.announce(info_hash, port, false).await.unwrap().stored > 0);
                let peers: Vec<_> = dht.get_peers(info_hash).collect().await;
                assert_eq!(peers.len(), 1);
            })
        })
        .collect();
    block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
}

#[test]
fn garbage_from_the_network_is_counted_and_does_no_harm() {
    block_on(async {
        let a = builder().spawn().unwrap();
        let (socket, _) = silent();
        socket.send_to(&[0xff; 3_000], addr(&a)).unwrap();
        for len in 0..200 {
            socket.send_to(&vec![b'd'; len], addr(&a)).unwrap();
        }
        eventually("garbage is counted", async || {
            let stats = a.stats().await.unwrap();
            stats.io.truncated == 1 && stats.node.malformed == 200
        })
        .await;
        let b = knowing(&[&a]).spawn().unwrap();
        assert_eq!(b.ping(addr(&a)).await.unwrap().closest.len(), 1);
    });
}

/// Whether a task was woken since it was last polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Another socket makes the reactor turn a thousand times: a node that waits for what is always the
/// case, as room in a socket, would be woken in each turn.
#[test]
fn a_node_that_waits_is_not_polled() {
    const TURNS: usize = 1_000;
    block_on(async {
        let (_dht, mut node) = builder().build().unwrap();
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let other = Async::<UdpSocket>::bind((fresh_ip(), 0)).unwrap();
        let addr = other.get_ref().local_addr().unwrap();
        let mut polls = 0;
        for _ in 0..TURNS {
            if woken.0.swap(false, Ordering::SeqCst) {
                polls += 1;
                assert!(node.poll(&mut Context::from_waker(&waker)).is_pending());
            }
            other.get_ref().send_to(b"turn", addr).unwrap();
            other.readable().await.unwrap();
            other.get_ref().recv(&mut [0; 4]).unwrap();
        }
        assert!((1..50).contains(&polls), "{polls} polls in {TURNS} turns");
    });
}
