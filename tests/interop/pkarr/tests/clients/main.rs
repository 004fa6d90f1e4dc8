//! The clients of `dht-pkarr-client` and the `pkarr` crate, the reference implementation: what one
//! publishes the other resolves, over one DHT on loopback, whoever the servers are, and through relays.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

mod pkarr_relay;
mod relays;
mod swarm;

use std::time::Duration;

use dht_pkarr::publish::PublishError;
use dht_pkarr::record::{Rdata, Svcb};
use dht_pkarr::{Keypair, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::{Origin, PacketCache, Policy, mio, smol};
use futures_lite::future::block_on;
use swarm::Swarm;

/// Longer than anything takes, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of each client, all of which know the same.
struct Clients {
    all: [Client; 3],
    /// Who has what they find.
    origin: Origin,
}

impl Clients {
    /// Of a DHT.
    fn of(swarm: &Swarm) -> Self {
        let all =
            [Client::Mio(swarm.mio()), Client::Smol(swarm.smol()), Client::Theirs(swarm.theirs())];
        Self { all, origin: Origin::Dht }
    }

    /// Of a relay, without a DHT.
    fn through(url: &str) -> Self {
        let mio = mio::Client::builder().relay(url).cache(PacketCache::new(0)).timeout(PATIENCE);
        let smol = smol::Client::builder().relay(url).cache(PacketCache::new(0)).timeout(PATIENCE);
        let mut theirs = their_client(url);
        let all = [
            Client::Mio(mio.build().unwrap()),
            Client::Smol(smol.build().unwrap()),
            Client::Theirs(theirs.cache_size(0).build().unwrap()),
        ];
        Self { all, origin: Origin::Relay(url.to_owned()) }
    }
}

/// The reference implementation's client, with nobody but a relay.
fn their_client(url: &str) -> pkarr::ClientBuilder {
    let mut builder = pkarr::Client::builder();
    builder.no_default_network().relays(&[url]).unwrap().relay_request_timeout(PATIENCE);
    builder
}

enum Client {
    Mio(mio::Client),
    Smol(smol::Client),
    Theirs(pkarr::Client),
}

impl Client {
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
                client.publish(packet).map(|it| it.copies()).map_err(|error| newer(error.reason))
            }
            Self::Smol(client) => block_on(client.publish(packet))
                .map(|done| done.copies())
                .map_err(|error| newer(error.reason)),
            Self::Theirs(client) => block_on(client.publish(&their_packet(packet)))
                .map_err(|error| error == pkarr::errors::PublishError::NotMostRecent),
        }
    }

    /// The packet of a key, as relays have it; `origin` has it.
    fn resolve(&self, key: &PublicKey, origin: &Origin) -> Option<Vec<u8>> {
        let ours = |found: dht_pkarr_client::Resolved| {
            assert_eq!(found.origin, *origin);
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

fn their_packet(packet: &SignedPacket) -> pkarr::SignedPacket {
    let key = their_key(&packet.public_key());
    pkarr::SignedPacket::from_relay_payload(&key, &packet.relay_payload().to_vec().into()).unwrap()
}

/// A packet that the reference implementation writes, with names that it compresses.
fn packet_of_theirs(secret: [u8; 32], at: Timestamp) -> SignedPacket {
    let keypair = pkarr::Keypair::from_secret_key(&secret);
    let name = |name: &'static str| name.try_into().unwrap();
    let theirs = pkarr::SignedPacket::builder()
        .a(name("www"), [192, 0, 2, 2].into(), 60)
        .cname(name("deep.www"), name("www.example.com"), 60)
        .txt(name("_note.deep.www"), "any".try_into().unwrap(), 60)
        .timestamp(at.as_micros().into())
        .sign(&keypair)
        .unwrap();
    let key = Keypair::from_secret(&secret).public_key();
    let packet = SignedPacket::from_relay_payload(&key, &theirs.to_relay_payload()).unwrap();
    assert_eq!(packet.timestamp(), at);
    assert_eq!(packet.records_of("_note.deep.www").unwrap().len(), 1);
    packet
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
        packet_of_theirs([publisher as u8 * 16 + 4; 32], at),
    ];
    assert_eq!(packets[3].dns().len(), dht_pkarr::MAX_DNS_LEN);
    packets
}

/// Everybody publishes, and everybody resolves what the others published, as do these others.
fn check(clients: &Clients, others: Option<&Clients>) {
    let readers: Vec<_> = [clients].into_iter().chain(others).collect();
    let found = |key: &PublicKey, expected: Option<&[u8]>, from: &str| {
        for of in &readers {
            for reader in &of.all {
                let found = reader.resolve(key, &of.origin);
                let (to, who) = (reader.name(), &of.origin);
                assert_eq!(found.as_deref(), expected, "{from} -> {to}, {who}");
            }
        }
    };
    for (publisher, client) in clients.all.iter().enumerate() {
        for packet in packets(publisher) {
            let stored = client.publish(&packet).unwrap();
            assert!(stored >= 8, "{}: {stored}", client.name());
            found(&packet.public_key(), Some(packet.relay_payload()), client.name());
        }
        // What is newer replaces it everywhere, whoever publishes it; what is older is refused.
        let keypair = Keypair::from_secret(&[publisher as u8 * 16; 32]);
        let newer = text(&keypair, 1_800_000_000);
        let next = &clients.all[(publisher + 1) % clients.all.len()];
        next.publish(&newer).unwrap();
        found(&keypair.public_key(), Some(newer.relay_payload()), next.name());
        for other in &clients.all {
            let older = text(&keypair, 1_750_000_000);
            assert_eq!(other.publish(&older), Err(true), "{}", other.name());
        }
    }
    found(&Keypair::from_secret(&[200; 32]).public_key(), None, "nobody");
}

/// A packet of a time.
fn text(keypair: &Keypair, secs: u64) -> SignedPacket {
    let text = format!("by {secs}");
    let builder = SignedPacket::builder().txt("@", text.as_str(), 60);
    builder.sign(keypair, Timestamp::from_secs(secs)).unwrap()
}

#[test]
#[ignore = "takes a minute: just interop"]
fn pkarr_and_we_resolve_each_other_among_our_nodes() {
    check(&Clients::of(&Swarm::ours()), None);
}

#[test]
#[ignore = "takes a minute: just interop"]
fn pkarr_and_we_resolve_each_other_among_mainline_nodes() {
    check(&Clients::of(&Swarm::mainline()), None);
}
