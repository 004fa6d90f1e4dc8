//! The clients of `dht-pkarr-client` and the `pkarr` crate, the reference implementation, over one DHT on
//! loopback: what one publishes the other resolves, whoever the servers are.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU8, Ordering};

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::Mode;
use dht_pkarr::publish::PublishError;
use dht_pkarr::record::{Rdata, Svcb};
use dht_pkarr::{Keypair, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::{Origin, PacketCache, Policy, mio, smol};
use futures_lite::future::block_on;

/// Servers of a network; each test has addresses of its own, one in each subnet.
struct Swarm {
    entry: SocketAddrV4,
    /// The second byte of all addresses.
    range: u8,
    /// They serve for as long as they are here.
    #[expect(dead_code, reason = "only held")]
    servers: Servers,
}

#[expect(dead_code, reason = "only held")]
enum Servers {
    Ours(Vec<dht_mio::Dht>),
    Mainline(Vec<mainline::Dht>),
}

const SERVERS: u8 = 12;

impl Swarm {
    fn new(servers: impl FnOnce(u8) -> (SocketAddrV4, Servers)) -> Self {
        static RANGES: AtomicU8 = AtomicU8::new(180);
        let range = RANGES.fetch_add(1, Ordering::Relaxed);
        let (entry, servers) = servers(range);
        Self { entry, range, servers }
    }

    fn ours() -> Self {
        Self::new(|range| {
            let mut servers: Vec<dht_mio::Dht> = Vec::new();
            for number in 1..=SERVERS {
                let bind = SocketAddr::from(([127, range, number, 1], 0));
                let builder = dht_mio::Dht::builder().mode(Mode::Server).bind(bind);
                servers.push(
                    match servers.first() {
                        Some(first) => builder.bootstrap(first.local_addrs()[0].to_string()),
                        None => builder.no_bootstrap(),
                    }
                    .spawn()
                    .unwrap(),
                );
            }
            for server in &servers {
                // Each looks for itself, and so is known.
                server.find_node(server.node_id(Family::V4).unwrap().unwrap()).unwrap();
            }
            let SocketAddr::V4(entry) = servers[0].local_addrs()[0] else { unreachable!() };
            (entry, Servers::Ours(servers))
        })
    }

    fn mainline() -> Self {
        Self::new(|range| {
            let mut entry = None;
            let mut servers = Vec::new();
            for number in 1..=SERVERS {
                let ip = Ipv4Addr::new(127, range, number, 1);
                let mut builder = mainline::Dht::builder();
                let bootstrap: Vec<SocketAddrV4> = entry.into_iter().collect();
                builder.bind_address(ip).port(6881).server_mode().bootstrap(&bootstrap);
                let server = builder.build().unwrap();
                entry = entry.or_else(|| Some(SocketAddrV4::new(ip, 6881)));
                servers.push(server);
            }
            for server in &servers {
                assert!(::smol::block_on(server.clone().as_async().bootstrapped()));
            }
            (entry.unwrap(), Servers::Mainline(servers))
        })
    }

    fn bind(&self, number: u8) -> SocketAddr {
        SocketAddr::from(([127, self.range, number, 1], 0))
    }

    /// Nobody's cache may answer in place of the DHT.
    fn mio(&self) -> mio::Client {
        let dht = dht_mio::Dht::builder().bind(self.bind(101)).bootstrap(self.entry.to_string());
        let client = mio::Client::builder().dht(dht.spawn().unwrap()).cache(PacketCache::new(0));
        client.build().unwrap()
    }

    fn smol(&self) -> smol::Client {
        let dht = dht_smol::Dht::builder().bind(self.bind(102)).bootstrap(self.entry.to_string());
        let client = smol::Client::builder().dht(dht.spawn().unwrap()).cache(PacketCache::new(0));
        client.build().unwrap()
    }

    fn theirs(&self) -> pkarr::Client {
        let mut builder = pkarr::Client::builder();
        builder.no_default_network().cache_size(0).dht(|config| {
            config.bootstrap = Some(vec![self.entry]);
            config.bind_address = Some(Ipv4Addr::new(127, self.range, 103, 1));
            config
        });
        builder.dht_report_policy(pkarr::dht::ReportPolicy::testnet());
        builder.build().unwrap()
    }
}

/// One of the three clients.
enum Client {
    Mio(mio::Client),
    Smol(smol::Client),
    Theirs(pkarr::Client),
}

impl Client {
    fn all(swarm: &Swarm) -> [Self; 3] {
        [Self::Mio(swarm.mio()), Self::Smol(swarm.smol()), Self::Theirs(swarm.theirs())]
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Mio(_) => "mio",
            Self::Smol(_) => "smol",
            Self::Theirs(_) => "pkarr",
        }
    }

    /// How many nodes stored it, or whether the reason is that they have a newer one.
    fn publish(&self, packet: &SignedPacket) -> Result<u32, bool> {
        let newer = |error: PublishError| {
            matches!(error, PublishError::Newer { .. } | PublishError::NotMostRecent)
        };
        match self {
            Self::Mio(client) => {
                client.publish(packet).map(|done| done.stored).map_err(|error| newer(error.reason))
            }
            Self::Smol(client) => block_on(client.publish(packet))
                .map(|done| done.stored)
                .map_err(|error| newer(error.reason)),
            Self::Theirs(client) => {
                let theirs = pkarr::SignedPacket::from_relay_payload(
                    &their_key(&packet.public_key()),
                    &packet.relay_payload().to_vec().into(),
                );
                block_on(client.publish(&theirs.unwrap()))
                    .map_err(|error| error == pkarr::errors::PublishError::NotMostRecent)
            }
        }
    }

    /// The packet of a key, as relays have it.
    fn resolve(&self, key: &PublicKey) -> Option<Vec<u8>> {
        let ours = |found: dht_pkarr_client::Resolved| {
            assert_eq!(found.origin, Origin::Dht);
            found.packet.packet.relay_payload().to_vec()
        };
        match self {
            Self::Mio(client) => client.resolve(key, Policy::NetworkOnly).ok().map(ours),
            Self::Smol(client) => block_on(client.resolve(key, Policy::NetworkOnly)).ok().map(ours),
            Self::Theirs(client) => {
                let policy = pkarr::ResolvePolicy::NetworkOnly;
                let found = block_on(client.resolve(&their_key(key), policy)).ok()?;
                Some(found.to_relay_payload().to_vec())
            }
        }
    }
}

fn their_key(key: &PublicKey) -> pkarr::PublicKey {
    pkarr::PublicKey::try_from(key.as_bytes()).unwrap()
}

/// Packets that differ in what may go wrong: none, one and many records, names that are compressed, types
/// that nobody knows, and the longest there is.
fn packets(publisher: usize) -> Vec<SignedPacket> {
    let at = Timestamp::from_secs(1_700_000_000);
    let keypair = |number: u8| Keypair::from_secret(&[publisher as u8 * 16 + number; 32]);
    let builder = SignedPacket::builder;
    let longest = (0..4).fold(builder(), |builder, number| {
        builder.txt("@", "x".repeat(if number == 3 { 190 } else { 230 }).as_str(), 60)
    });
    let packets = vec![
        builder().sign(&keypair(0), at).unwrap(),
        builder()
            .a("@", [192, 0, 2, 1].into(), 30)
            .cname("www", "example.com".parse().unwrap(), 60)
            .https("@", Svcb::here(1).with_port(8443).with_alpn(["h2"]), 3_600)
            .txt("a.b.c._note", "deep", 1)
            .sign(&keypair(1), at)
            .unwrap(),
        builder()
            .data("@", Rdata::Other { kind: 65_400, data: vec![1, 2, 3] }, 60)
            .sign(&keypair(2), at)
            .unwrap(),
        longest.sign(&keypair(3), at).unwrap(),
    ];
    assert_eq!(packets[3].dns().len(), dht_pkarr::MAX_DNS_LEN);
    packets
}

/// Everybody publishes, and everybody resolves what the others published.
fn check(swarm: &Swarm) {
    let clients = Client::all(swarm);
    for (publisher, client) in clients.iter().enumerate() {
        for packet in packets(publisher) {
            let key = packet.public_key();
            let stored = client.publish(&packet).unwrap();
            assert!(stored >= 8, "{}: {stored}", client.name());
            for resolver in &clients {
                let found = resolver.resolve(&key);
                let (from, to) = (client.name(), resolver.name());
                assert_eq!(found.as_deref(), Some(packet.relay_payload()), "{from} -> {to}");
            }
        }
        // What is newer replaces it everywhere, whoever publishes it; what is older is refused.
        let keypair = Keypair::from_secret(&[publisher as u8 * 16; 32]);
        let sign = |secs| {
            let text = format!("by {secs}");
            SignedPacket::builder()
                .txt("@", text.as_str(), 60)
                .sign(&keypair, Timestamp::from_secs(secs))
        };
        let newer = sign(1_800_000_000).unwrap();
        clients[(publisher + 1) % clients.len()].publish(&newer).unwrap();
        for other in &clients {
            assert_eq!(other.resolve(&keypair.public_key()).unwrap(), newer.relay_payload());
            let older = sign(1_750_000_000).unwrap();
            assert_eq!(other.publish(&older), Err(true), "{}", other.name());
        }
    }
    let unknown = Keypair::from_secret(&[200; 32]).public_key();
    for client in &clients {
        assert_eq!(client.resolve(&unknown), None, "{}", client.name());
    }
}

#[test]
#[ignore = "takes a minute: just interop"]
fn pkarr_and_we_resolve_each_other_among_our_nodes() {
    check(&Swarm::ours());
}

#[test]
#[ignore = "takes a minute: just interop"]
fn pkarr_and_we_resolve_each_other_among_mainline_nodes() {
    check(&Swarm::mainline());
}
