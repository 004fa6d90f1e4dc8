//! The reference implementation's relay, and our client: `just interop-pkarr-relay`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use dht_pkarr::publish::PublishError;
use dht_pkarr::record::{Rdata, Svcb};
use dht_pkarr::{CachedPacket, Keypair, MAX_DNS_LEN, SignedPacket, Timestamp};
use dht_pkarr_client::smol::Client;
use dht_pkarr_client::{Origin, PacketCache, Policy, RelayError};
use futures_lite::future::block_on;
use support::{INSTALL, PkarrRelay};

/// Longer than anything takes, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(cache: PacketCache) -> Client {
    let url = format!("http://{}", PkarrRelay::addr());
    Client::builder().relay(url).cache(cache).timeout(PATIENCE).build().unwrap()
}

/// Packets that differ in what may go wrong: no record, many, names that are compressed, a type that nobody
/// knows, and the longest there is.
fn packets() -> Vec<SignedPacket> {
    let at = Timestamp::from_secs(1_700_000_000);
    let builder = SignedPacket::builder;
    let longest = (0..4).fold(builder(), |builder, number| {
        builder.txt("@", "x".repeat(if number == 3 { 190 } else { 230 }).as_str(), 60)
    });
    let many = builder()
        .a("@", [192, 0, 2, 1].into(), 30)
        .cname("www", "example.com".parse().unwrap(), 60)
        .https("@", Svcb::here(1).with_port(8443).with_alpn(["h2"]), 3_600)
        .txt("a.b.c._note", "deep", 1);
    let unknown = builder().data("@", Rdata::Other { kind: 65_400, data: vec![1, 2, 3] }, 60);
    let packets = [builder(), many, unknown, longest].into_iter().zip(1..);
    let packets: Vec<_> = packets
        .map(|(builder, number)| builder.sign(&Keypair::from_secret(&[number; 32]), at).unwrap())
        .collect();
    assert_eq!(packets[3].dns().len(), MAX_DNS_LEN);
    packets
}

/// A packet of a time.
fn text(keypair: &Keypair, secs: u64) -> SignedPacket {
    SignedPacket::builder().txt("@", "any", 60).sign(keypair, Timestamp::from_secs(secs)).unwrap()
}

/// The status of a reply.
fn status(head: &str) -> String {
    let mut stream = TcpStream::connect(PkarrRelay::addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{head}\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8(status[9..].to_vec()).unwrap()
}

#[test]
#[ignore = "needs pkarr-relay: just interop-pkarr-relay"]
fn what_we_publish_through_pkarr_relay_comes_back() {
    let relay = PkarrRelay::start(&["env"]).unwrap_or_else(|why| panic!("{why}; {INSTALL}"));
    let (writer, reader) = (client(PacketCache::new(0)), client(PacketCache::new(0)));
    for packet in packets() {
        let stored = block_on(writer.publish(&packet)).unwrap().copies();
        assert!(stored >= 8, "{stored}");
        let key = packet.public_key();
        for policy in [Policy::CacheOnly, Policy::CacheFirst, Policy::NetworkOnly] {
            let found = block_on(reader.resolve(&key, policy)).unwrap();
            assert_eq!(found.packet.packet, packet);
            assert!(matches!(found.origin, Origin::Relay(_)));
        }
    }

    // What is newer replaces it; what is older is refused (409).
    let keypair = Keypair::from_secret(&[100; 32]);
    let [older, newer, newest] = [0, 100, 200].map(|secs| text(&keypair, 1_700_000_000 + secs));
    let key = keypair.public_key();
    for packet in [&older, &newer] {
        block_on(writer.publish(packet)).unwrap();
        assert_eq!(
            block_on(reader.resolve(&key, Policy::CacheFirst)).unwrap().packet.packet,
            *packet
        );
    }
    let error = block_on(writer.publish(&older)).unwrap_err();
    assert_eq!(error.reason, PublishError::NotMostRecent);
    assert_eq!(error.report.relays[0].1, Err(RelayError::Conflict));

    // What it has that is older than our own cache, it does not send (304).
    let known = "if-modified-since: Wed, 15 Nov 2023 22:13:20 GMT";
    assert_eq!(status(&format!("GET /{key} HTTP/1.1\r\n{known}")), "304");
    let cache = PacketCache::default();
    cache.put(CachedPacket::new(newest, Timestamp::from_secs(1_700_000_300)));
    let error = block_on(client(cache).resolve(&key, Policy::CacheFirst)).unwrap_err();
    assert_eq!(error.troubles, [], "{error}");

    let nobody = Keypair::from_secret(&[101; 32]).public_key();
    let error = block_on(reader.resolve(&nobody, Policy::NetworkOnly)).unwrap_err();
    assert_eq!(error.troubles, [], "{error}");
    drop(relay);
}
