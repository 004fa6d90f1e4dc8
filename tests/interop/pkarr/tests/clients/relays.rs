//! Our relay, and the clients of both.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use dht_pkarr::publish::PublishError as Reason;
use dht_pkarr::{CachedPacket, Keypair, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::{PacketCache, Policy, RelayError, mio, now, smol};
use dht_relay::server::{Listen, Server};
use dht_relay::{Backend, Found, Options, Origin, PublishError, ResolveError};
use futures_lite::future::block_on;
use pkarr::{Cache as _, CacheKey, InMemoryCache, ResolvePolicy};

use super::swarm::Swarm;
use super::{Clients, PATIENCE, check, text, their_client, their_key, their_packet};

/// A relay that runs until this is dropped.
pub(crate) struct Relay {
    http: SocketAddr,
    metrics: SocketAddr,
    stop: Option<async_channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(backend: impl Backend) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (mut listen, mut options) = (Listen::default(), Options::default());
        (listen.http, listen.metrics) = (vec![any], Some(any));
        (options.http_quota, options.work_quota) = (None, None);
        let server = Server::bind(&listen, options, backend).unwrap();
        let (http, metrics) = (server.http_addrs()[0], server.metrics_addr().unwrap());
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let until_stopped = async move {
            let _closed = stopped.recv().await;
        };
        let thread = thread::spawn(move || ::smol::block_on(server.run(until_stopped)));
        Self { http, metrics, stop: Some(stop), thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    fn metric(&self, name: &str) -> u64 {
        let (_, text) = ask(self.metrics, "GET /metrics", b"");
        let (_, rest) = text.split_once(&format!("\n{name} ")).unwrap();
        rest.lines().next().unwrap().parse().unwrap()
    }

    /// How many replies had status 304.
    fn not_modified(&self) -> u64 {
        self.metric("pkarr_http_not_modified_total")
    }

    fn put(&self, packet: &SignedPacket, headers: &str) -> u16 {
        let head = format!("PUT /{}{headers}", packet.public_key());
        ask(self.http, &head, packet.relay_payload()).0
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// One request, `METHOD PATH` and perhaps headers behind line ends: status, and the whole reply.
pub(crate) fn ask(server: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let end = if headers.is_empty() { "" } else { "\r\n" };
    let len = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}{end}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let text = String::from_utf8_lossy(&reply).into_owned();
    (text[9..12].parse().unwrap(), text)
}

/// The clients are built without the feature `https` here, and nowhere else that is tested.
#[test]
fn a_client_without_https_says_so() {
    let error = mio::Client::builder().relay("https://relay.example").build().unwrap_err();
    assert!(error.to_string().contains("without the feature `https`"), "{error}");
}

#[test]
#[ignore = "takes a minute: just interop"]
fn pkarr_and_we_resolve_each_other_through_our_relay() {
    let swarm = Swarm::ours();
    let relay = Relay::start(swarm.backend());
    // What goes through the relay is in the DHT, too.
    check(&Clients::through(&relay.url()), Some(&Clients::of(&swarm)));
}

/// Packets in memory. While somebody holds a sender, none is published.
#[derive(Clone, Default)]
struct Memory {
    packets: Arc<Mutex<BTreeMap<PublicKey, SignedPacket>>>,
    held: Option<async_channel::Receiver<()>>,
}

impl Backend for Memory {
    fn cached(&self, key: &PublicKey) -> Option<CachedPacket> {
        let packet = self.packets.lock().unwrap().get(key)?.clone();
        Some(CachedPacket::new(packet, now()))
    }

    async fn resolve(&self, key: PublicKey, _: Policy) -> Result<Found, ResolveError> {
        let packet = self.cached(&key).ok_or(ResolveError::NotFound)?;
        Ok(Found { packet, origin: Origin::Dht })
    }

    async fn publish(
        &self,
        packet: SignedPacket,
        _: Option<Timestamp>,
    ) -> Result<u32, PublishError> {
        if let Some(held) = &self.held {
            let _closed = held.recv().await;
        }
        self.packets.lock().unwrap().insert(packet.public_key(), packet);
        Ok(8)
    }
}

#[test]
fn what_a_relay_has_that_is_older_than_a_cache_comes_to_nobody() {
    let relay = Relay::start(Memory::default());
    let keypair = Keypair::from_secret(&[1; 32]);
    let (key, url) = (keypair.public_key(), relay.url());
    let (older, newer) = (text(&keypair, 1_700_000_000), text(&keypair, 1_700_000_100));
    assert_eq!(relay.put(&older, ""), 204);
    let get = format!("GET /{key}\r\nif-modified-since: Tue, 14 Nov 2023 22:13:20 GMT");
    assert_eq!((ask(relay.http, &get, b"").0, relay.not_modified()), (304, 1));

    // Both clients say what they have, long expired, and the relay that it has nothing newer.
    let cache = PacketCache::default();
    cache.put(CachedPacket::new(newer.clone(), Timestamp::from_secs(1_700_000_200)));
    let builder = mio::Client::builder().relay(&url).cache(cache.clone()).timeout(PATIENCE);
    let error = builder.build().unwrap().resolve(&key, Policy::CacheFirst).unwrap_err();
    assert_eq!(error.troubles, [], "{error}");
    assert_eq!(relay.not_modified(), 2);
    let builder = smol::Client::builder().relay(&url).cache(cache).timeout(PATIENCE);
    let client = builder.build().unwrap();
    assert!(block_on(client.resolve(&key, Policy::CacheFirst)).unwrap_err().troubles.is_empty());
    assert_eq!(relay.not_modified(), 3);
    let cache = InMemoryCache::new(core::num::NonZeroUsize::MIN);
    let mut packet = their_packet(&newer);
    packet.set_last_seen(&1_700_000_200_000_000.into());
    cache.put(&CacheKey::from(&their_key(&key)), &packet);
    let client = their_client(&url).cache(Arc::new(cache)).build().unwrap();
    let found = block_on(client.resolve(&their_key(&key), ResolvePolicy::CacheFirst));
    assert_eq!(found.unwrap_err(), pkarr::errors::ResolveError::NotFound);
    assert_eq!(relay.not_modified(), 4);
}

#[test]
fn both_clients_know_what_a_conflict_is() {
    let (held, receiver) = async_channel::bounded(1);
    let memory = Memory { held: Some(receiver), ..Memory::default() };
    let packets = Arc::clone(&memory.packets);
    let relay = Relay::start(memory);
    let keypair = Keypair::from_secret(&[2; 32]);
    let [older, first, newer] = [1, 2, 3].map(|secs| text(&keypair, 1_700_000_000 + secs));
    let theirs = their_client(&relay.url()).cache_size(0).build().unwrap();
    let ours = mio::Client::builder().relay(relay.url()).cache(PacketCache::new(0));
    let ours = ours.timeout(PATIENCE).build().unwrap();
    let conflict = |packet: &SignedPacket, cas: Option<Timestamp>| {
        let error = match cas {
            None => {
                let error = block_on(theirs.publish(&their_packet(packet))).unwrap_err();
                assert_eq!(error, pkarr::errors::PublishError::NotMostRecent);
                let error = ours.publish(packet).unwrap_err();
                assert_eq!(error.reason, Reason::NotMostRecent);
                error
            }
            Some(cas) => {
                let error = ours.publish_after(packet, cas).unwrap_err();
                assert_eq!(error.reason, Reason::CasMismatch { found: None });
                error
            }
        };
        assert_eq!(error.report.relays[0].1, Err(RelayError::Conflict));
    };
    thread::scope(|scope| {
        let publishing = scope.spawn(|| relay.put(&first, ""));
        while relay.metric("pkarr_work") == 0 {
            thread::yield_now();
        }
        assert_eq!(relay.put(&older, ""), 409);
        conflict(&older, None);
        assert_eq!(relay.put(&newer, ""), 428);
        conflict(&newer, None);
        assert_eq!(relay.put(&newer, "\r\nif-match: 1700000001000000"), 412);
        conflict(&newer, Some(older.timestamp()));
        drop(held);
        assert_eq!(publishing.join().unwrap(), 204);
    });
    // The same of what is in the relay's cache.
    conflict(&older, None);
    assert_eq!(relay.put(&newer, "\r\nif-match: 1700000001000000"), 412);
    conflict(&newer, Some(older.timestamp()));
    assert_eq!(ours.publish_after(&newer, first.timestamp()).unwrap().copies(), 8);
    assert_eq!(packets.lock().unwrap()[&keypair.public_key()], newer);
}
