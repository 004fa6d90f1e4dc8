//! Nodes on loopback, for the tests.

#![allow(dead_code, reason = "no test uses all of it")]

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Instant;

use async_io::Timer;
use dht_smol::proto::config::{Config, Mode};
use dht_smol::proto::id::{InfoHash, ItemId};
use dht_smol::{Builder, Calls, Dht};

/// An address that no other node of this test run has.
pub(crate) fn fresh_ip() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0x7f02_0001);
    // Tests of other processes may run at the same time, so the ports stay free to choose.
    Ipv4Addr::from_bits(NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

pub(crate) fn builder() -> Builder {
    let mut config = Config::default();
    // Nobody here is behind a firewall, so nodes need not wait before they believe each other.
    config.verify_delay = Duration::ZERO;
    config.ping_interval = Duration::from_millis(10);
    Builder::new().config(config).bind((fresh_ip(), 0).into()).no_bootstrap().mode(Mode::Server)
}

pub(crate) fn knowing(nodes: &[&Dht]) -> Builder {
    nodes.iter().fold(builder(), |builder, node| builder.bootstrap(addr(node).to_string()))
}

/// A node whose queries only end when they are answered or cancelled.
pub(crate) fn patient() -> Builder {
    let mut config = Config::default();
    config.query_timeout = Duration::from_secs(3_600);
    config.lookup_timeout = Duration::from_secs(3_600);
    Builder::new().config(config).bind((fresh_ip(), 0).into()).no_bootstrap().mode(Mode::Server)
}

pub(crate) fn addr(dht: &Dht) -> SocketAddr {
    dht.local_addrs()[0]
}

/// Waits for something that happens in the background. The limit is no figure: it only ends a test
/// that would hang.
pub(crate) async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !happened().await {
        assert!(Instant::now() < give_up, "never happened: {what}");
        Timer::after(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn contacts(dht: &Dht) -> u64 {
    dht.stats().await.unwrap().node.contacts
}

/// Nodes that found each other through the first.
pub(crate) async fn network(count: usize, calls: Calls) -> Vec<Dht> {
    let first = builder().calls(calls).spawn().unwrap();
    let mut nodes = vec![first];
    for _ in 1..count {
        nodes.push(knowing(&[&nodes[0]]).calls(calls).spawn().unwrap());
    }
    let others = count as u64 - 1;
    eventually("the first knows all others", async || contacts(&nodes[0]).await == others).await;
    for node in &nodes {
        eventually("all have contacts", async || contacts(node).await >= 3.min(others)).await;
    }
    nodes
}

/// A socket that never answers.
pub(crate) fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((fresh_ip(), 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

pub(crate) fn hash(text: &str) -> InfoHash {
    InfoHash::from_bytes(*ItemId::of_immutable(text.as_bytes()).as_bytes())
}

pub(crate) struct StateFile(pub(crate) PathBuf);

impl StateFile {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dht-smol-{}-{name}", std::process::id()));
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
