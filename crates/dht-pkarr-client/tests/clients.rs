//! Both clients do the same, over a network of our own nodes on loopback and with relays by script.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

mod support;

use dht_mio::proto::config::Mode;
use dht_mio::proto::request::Ended;
use dht_pkarr_client::pkarr::publish::{Place, PublishError as Reason};
use dht_pkarr_client::pkarr::resolve::ResolveError as Missing;
use dht_pkarr_client::pkarr::{Keypair, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::{
    Builder, DEFAULT_TIMEOUT, Origin, PacketCache, Policy, PublishError, Published, RelayError,
    ResolveError, Resolved, mio, now, smol,
};
use futures_lite::future::block_on;
use support::{Network, Relay, nobody, packet};

/// Either client, blocking.
enum Client {
    Mio(mio::Client),
    Smol(smol::Client),
}

/// How to set a client up.
#[derive(Default)]
struct Setup<'a> {
    network: Option<&'a Network>,
    relays: Vec<String>,
    cache: PacketCache,
    timeout: Option<core::time::Duration>,
}

impl Setup<'_> {
    fn both(&self) -> [Client; 2] {
        [self.mio(), self.smol()]
    }

    fn mio(&self) -> Client {
        let mut builder = self.common(mio::Client::builder());
        if let Some(network) = self.network {
            let dht = dht_mio::Dht::builder().mode(Mode::Client);
            let dht = dht.bind("127.0.99.1:0".parse().unwrap());
            builder = builder.dht(dht.bootstrap(network.entry()).spawn().unwrap());
        }
        Client::Mio(builder.build().unwrap())
    }

    fn smol(&self) -> Client {
        let mut builder = self.common(smol::Client::builder());
        if let Some(network) = self.network {
            let dht = dht_smol::Dht::builder().mode(Mode::Client);
            let dht = dht.bind("127.0.98.1:0".parse().unwrap());
            builder = builder.dht(dht.bootstrap(network.entry()).spawn().unwrap());
        }
        Client::Smol(builder.build().unwrap())
    }

    fn common<Dht>(&self, builder: Builder<Dht>) -> Builder<Dht> {
        let builder = builder.cache(self.cache.clone());
        let builder = builder.timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT));
        self.relays.iter().fold(builder, Builder::relay)
    }
}

impl Client {
    fn resolve(&self, key: &PublicKey, policy: Policy) -> Result<Resolved, ResolveError> {
        match self {
            Self::Mio(client) => client.resolve(key, policy),
            Self::Smol(client) => block_on(client.resolve(key, policy)),
        }
    }

    fn publish(&self, packet: &SignedPacket) -> Result<Published, PublishError> {
        match self {
            Self::Mio(client) => client.publish(packet),
            Self::Smol(client) => block_on(client.publish(packet)),
        }
    }

    fn publish_after(
        &self,
        packet: &SignedPacket,
        cas: Timestamp,
    ) -> Result<Published, PublishError> {
        match self {
            Self::Mio(client) => client.publish_after(packet, cas),
            Self::Smol(client) => block_on(client.publish_after(packet, cas)),
        }
    }
}

/// Two of each client: whatever one publishes, the others find.
#[test]
fn what_one_publishes_the_others_resolve() {
    let network = Network::new(9);
    let setup =
        || Setup { network: Some(&network), cache: PacketCache::new(0), ..Setup::default() };
    let clients = [setup().mio(), setup().smol()];
    for (number, publisher) in clients.iter().enumerate() {
        let keypair = Keypair::from_secret(&[number as u8; 32]);
        let packet = packet(&keypair, 1_700_000_000, "hello");
        let published = publisher.publish(&packet).unwrap();
        assert!(published.stored >= 8, "{published:?}");
        assert_eq!(published.copies(), published.stored);
        for resolver in &clients {
            for policy in [Policy::CacheFirst, Policy::NetworkOnly] {
                let found = resolver.resolve(&keypair.public_key(), policy).unwrap();
                assert_eq!(found.packet.packet, packet);
                assert_eq!(found.origin, Origin::Dht);
            }
            let unknown = Keypair::from_secret(&[99; 32]).public_key();
            let error = resolver.resolve(&unknown, Policy::NetworkOnly).unwrap_err();
            assert_eq!((error.reason, error.troubles), (Missing::NotFound, vec![]));
        }
    }
}

#[test]
fn conflicts_name_the_newer_version() {
    let network = Network::new(9);
    let cas_of = Timestamp::from_secs;
    for (secret, client) in
        (Setup { network: Some(&network), ..Setup::default() }).both().into_iter().enumerate()
    {
        let keypair = Keypair::from_secret(&[secret as u8 + 10; 32]);
        client.publish(&packet(&keypair, 10, "new")).unwrap();
        // The cache knows it ...
        let error = client.publish(&packet(&keypair, 9, "old")).unwrap_err();
        assert_eq!(error.reason, Reason::Newer { seq: 10_000_000, place: Place::Cache });
        assert_eq!(error.report.stored, 0);
        // ... and so does the DHT, if the cache has forgotten. Nodes refuse with 302.
        match &client {
            Client::Mio(client) => client.cache().remove(&keypair.public_key()),
            Client::Smol(client) => client.cache().remove(&keypair.public_key()),
        }
        let error = client.publish(&packet(&keypair, 9, "old")).unwrap_err();
        assert_eq!(error.reason, Reason::Newer { seq: 10_000_000, place: Place::Dht });
        assert!(error.report.refused[&302] >= 8, "{error:?}");
        assert!(error.to_string().contains("10000000"), "{error}");
        // What is there is not what is to be replaced: 301.
        let newer = packet(&keypair, 12, "newer");
        let error = client.publish_after(&newer, cas_of(11)).unwrap_err();
        assert_eq!(error.reason, Reason::CasMismatch { found: Some(10_000_000) });
        assert!(error.report.refused[&301] >= 8, "{error:?}");
        let published = client.publish_after(&newer, cas_of(10)).unwrap();
        assert!(published.stored >= 8);
    }
}

#[test]
fn relays_are_asked_as_the_specification_says() {
    let keypair = Keypair::from_secret(&[3; 32]);
    let key = keypair.public_key();
    let packet = packet(&keypair, 1_700_000_000, "relayed");
    let ok = "200 OK\r\nMemento-Datetime: Tue, 14 Nov 2023 22:13:20 GMT";
    for (number, policy) in [Policy::CacheFirst, Policy::NetworkOnly, Policy::CacheOnly]
        .into_iter()
        .flat_map(|policy| [(0, policy), (1, policy)])
    {
        let relay = Relay::new([(ok, packet.relay_payload().to_vec())]);
        let setup = Setup { relays: vec![relay.url() + "/"], ..Setup::default() };
        let [mio, smol] = setup.both();
        let found = if number == 0 { mio } else { smol }.resolve(&key, policy);
        let [request] = &relay.requests()[..] else { panic!("{:?}", relay.requests()) };
        assert_eq!(request.line, format!("GET /{key}?policy={policy:?} HTTP/1.1"));
        let no_cache = request.header("cache-control");
        let expected =
            (policy == Policy::NetworkOnly).then_some("no-cache, no-store, must-revalidate");
        assert_eq!(no_cache, expected);
        assert_eq!(request.header("if-modified-since"), None);
        if policy == Policy::CacheFirst {
            // The relay saw it years ago, so it is not fresh.
            assert_eq!(found.unwrap_err().reason, Missing::NotFound);
        } else {
            let found = found.unwrap();
            assert_eq!(found.packet.packet, packet);
            assert_eq!(found.packet.last_seen, Timestamp::from_secs(1_700_000_000));
            assert_eq!(found.origin, Origin::Relay(relay.url()));
        }
    }
}

#[test]
fn what_is_known_is_asked_for_only_if_it_changed() {
    let keypair = Keypair::from_secret(&[4; 32]);
    let key = keypair.public_key();
    let packet = packet(&keypair, 1_700_000_000, "old");
    for number in 0..2 {
        let relay = Relay::new([("304 Not Modified", vec![])]);
        let cache = PacketCache::new(10);
        let seen = Timestamp::from_secs(1_700_000_000);
        cache.put(dht_pkarr_client::pkarr::CachedPacket::new(packet.clone(), seen));
        let setup = Setup { relays: vec![relay.url()], cache, ..Setup::default() };
        let [mio, smol] = setup.both();
        let client = if number == 0 { mio } else { smol };
        let error = client.resolve(&key, Policy::CacheFirst).unwrap_err();
        assert_eq!((error.reason, error.troubles), (Missing::NotFound, vec![]));
        let request = &relay.requests()[0];
        // A second before, as dates have whole seconds.
        let date = "Tue, 14 Nov 2023 22:13:19 GMT";
        assert_eq!(request.header("if-modified-since"), Some(date));
    }
}

#[test]
fn caches_on_the_way_are_passed_by() {
    let keypair = Keypair::from_secret(&[5; 32]);
    let packet = packet(&keypair, 1_700_000_000, "fresh");
    for odd in ["304 Not Modified", "200 OK"] {
        for number in 0..2 {
            let payload = packet.relay_payload().to_vec();
            let relay = Relay::new([(odd, vec![]), ("200 OK", payload)]);
            let setup = Setup { relays: vec![relay.url()], ..Setup::default() };
            let [mio, smol] = setup.both();
            let client = if number == 0 { mio } else { smol };
            let found = client.resolve(&keypair.public_key(), Policy::CacheFirst).unwrap();
            assert_eq!(found.packet.packet, packet);
            assert!(found.packet.last_seen > Timestamp::from_secs(1_700_000_000), "seen now");
            let second = &relay.requests()[1];
            assert!(second.header("cache-control").unwrap().contains("no-store"));
        }
    }
}

#[test]
fn troubles_with_relays_are_told() {
    let keypair = Keypair::from_secret(&[6; 32]);
    let key = keypair.public_key();
    let forged = packet(&Keypair::from_secret(&[7; 32]), 1, "x").relay_payload().to_vec();
    for (answer, body, reason, word) in [
        ("404 Not Found", vec![], Missing::NotFound, ""),
        (
            "404 Not Found\r\nPkarr-Invalid-Signed-Packet-Seq: 77",
            vec![],
            Missing::NotAPacket { seq: 77 },
            "",
        ),
        ("429 Too Many Requests\r\nRetry-After: 7", vec![], Missing::NoAnswer, "7 s"),
        ("503 Service Unavailable", vec![], Missing::NoAnswer, "503"),
        ("500 Internal Server Error", b"on fire\nmore".to_vec(), Missing::NoAnswer, "500: on fire"),
        (
            "500 Internal Server Error",
            [&b"\xffon fire "[..], &[b'!'; 5_000]].concat(),
            Missing::NoAnswer,
            "on fire !!!",
        ),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", vec![], Missing::NoAnswer, "302"),
        ("200 OK", forged, Missing::NoAnswer, "signature"),
        ("200 OK", vec![0; 1_105], Missing::NoAnswer, "1000 bytes"),
        ("200 OK", vec![0; 71], Missing::NoAnswer, "too short"),
    ] {
        for number in 0..2 {
            let relay = Relay::new([(answer, body.clone())]);
            let setup = Setup { relays: vec![relay.url()], ..Setup::default() };
            let [mio, smol] = setup.both();
            let client = if number == 0 { mio } else { smol };
            let error = client.resolve(&key, Policy::NetworkOnly).unwrap_err();
            assert_eq!(error.reason, reason, "{answer}: {error}");
            assert_eq!(error.troubles.is_empty(), word.is_empty(), "{error}");
            assert!(error.to_string().contains(word), "{answer}: {error}");
        }
    }
    for client in (Setup { relays: vec![nobody()], ..Setup::default() }).both() {
        let error = client.resolve(&key, Policy::CacheFirst).unwrap_err();
        assert_eq!((error.reason, error.troubles.len()), (Missing::NoAnswer, 1));
    }
}

#[test]
fn relays_say_who_stored_or_why_not() {
    let keypair = Keypair::from_secret(&[8; 32]);
    let packet = packet(&keypair, 1_700_000_000, "out");
    let refused =
        |status: u16, reason: &str| Err(RelayError::Status { status, reason: reason.to_owned() });
    for (answer, body, put, reason) in [
        ("204 No Content\r\nPkarr-Dht-Stored-Nodes: 17", "", Ok(17), None),
        ("200 OK", "", Ok(1), None),
        ("409 Conflict", "", Err(RelayError::Conflict), Some(Reason::NotMostRecent)),
        ("412 Precondition Failed", "", Err(RelayError::Conflict), Some(Reason::NotMostRecent)),
        ("428 Precondition Required", "", Err(RelayError::Conflict), Some(Reason::NotMostRecent)),
        ("400 Bad Request", "no packet", refused(400, "no packet"), Some(Reason::Refused)),
        ("503 Service Unavailable", "", Err(RelayError::NoNodes), Some(Reason::NoAnswer)),
    ] {
        for number in 0..2 {
            let relay = Relay::new([(answer, body.as_bytes().to_vec())]);
            let setup = Setup { relays: vec![relay.url()], ..Setup::default() };
            let [mio, smol] = setup.both();
            let client = if number == 0 { mio } else { smol };
            let published = client.publish(&packet);
            assert_eq!(published.as_ref().err().map(|error| error.reason), reason, "{answer}");
            let report = published.unwrap_or_else(|error| *error.report);
            assert_eq!(report.relays, [(relay.url(), put.clone())]);
            assert_eq!(report.copies(), put.as_ref().copied().unwrap_or_default());
            let request = &relay.requests()[0];
            assert_eq!(request.line, format!("PUT /{} HTTP/1.1", keypair.public_key()));
            assert_eq!(request.body, packet.relay_payload());
            assert_eq!(request.header("if-match"), None);
        }
    }
}

#[test]
fn relays_that_heed_it_are_told_what_to_replace() {
    let packet = packet(&Keypair::from_secret(&[9; 32]), 1_700_000_000, "out");
    for number in 0..2 {
        let relay = Relay::new([("412 Precondition Failed", vec![])]);
        let setup = Setup { relays: vec![relay.url()], ..Setup::default() };
        let [mio, smol] = setup.both();
        let client = if number == 0 { mio } else { smol };
        let error = client.publish_after(&packet, Timestamp::from_secs(1_600_000_000));
        assert_eq!(error.unwrap_err().reason, Reason::CasMismatch { found: None });
        assert_eq!(relay.requests()[0].header("if-match"), Some("1600000000000000"));
    }
}

#[test]
fn dht_and_relays_work_side_by_side() {
    let network = Network::new(9);
    let keypair = Keypair::from_secret(&[20; 32]);
    for (number, secs) in [(0, 1_700_000_000), (1, 1_700_000_001)] {
        let (old, new) = (packet(&keypair, secs, "old"), packet(&keypair, secs + 9, "new"));
        let relay = Relay::new([
            ("204 No Content\r\nPkarr-Dht-Stored-Nodes: 3", vec![]),
            ("200 OK", new.relay_payload().to_vec()),
        ]);
        let cache = PacketCache::new(10);
        let relays = vec![relay.url(), nobody()];
        let setup =
            Setup { network: Some(&network), relays, cache: cache.clone(), ..Setup::default() };
        let client = if number == 0 { setup.mio() } else { setup.smol() };
        let published = client.publish(&old).unwrap();
        assert!(published.stored >= 8 && published.copies() == published.stored);
        assert_eq!(published.relays[0].1, Ok(3));
        let [trouble] = &published.troubles[..] else { panic!("{published:?}") };
        assert!(matches!(&trouble.origin, Origin::Relay(url) if url.contains("127.0.0.1")));
        // The newest counts, wherever it is, and stays in the cache.
        let found = client.resolve(&keypair.public_key(), Policy::NetworkOnly).unwrap();
        assert_eq!((found.packet.packet, found.origin), (new.clone(), Origin::Relay(relay.url())));
        assert_eq!(cache.get(&keypair.public_key()).unwrap().packet, new);
        let cached = client.resolve(&keypair.public_key(), Policy::CacheOnly).unwrap();
        assert_eq!((cached.packet.packet, cached.origin), (new, Origin::Cache));
    }
}

#[test]
fn a_cache_that_is_asked_is_refreshed_meanwhile() {
    let network = Network::new(9);
    for number in 0..2_u8 {
        let keypair = Keypair::from_secret(&[30 + number; 32]);
        let key = keypair.public_key();
        let (old, new) =
            (packet(&keypair, 1_700_000_000, "old"), packet(&keypair, 1_700_000_009, "new"));
        let cache = PacketCache::new(10);
        let elsewhere = Setup { network: Some(&network), ..Setup::default() };
        let setup = Setup { network: Some(&network), cache: cache.clone(), ..Setup::default() };
        let (other, client) = if number == 0 {
            (elsewhere.smol(), setup.mio())
        } else {
            (elsewhere.mio(), setup.smol())
        };
        other.publish(&new).unwrap();
        // Seen ten minutes ago, and good for an hour.
        let seen = Timestamp::from_secs(now().as_secs() - 600);
        cache.put(dht_pkarr_client::pkarr::CachedPacket::new(old.clone(), seen));
        let found = client.resolve(&key, Policy::CacheFirst).unwrap();
        assert_eq!((found.packet.packet, found.origin), (old, Origin::Cache));
        support::wait_until("the cache is refreshed", || {
            cache.get(&key).is_some_and(|cached| cached.packet == new)
        });
    }
}

#[test]
fn there_must_be_somebody_to_ask() {
    let error = mio::Client::builder().build().unwrap_err();
    assert_eq!(error.to_string(), smol::Client::builder().build().unwrap_err().to_string());
    let many = (0..17).fold(smol::Client::builder(), |builder, number| {
        builder.relay(format!("http://127.0.0.1:{}", number + 1))
    });
    assert!(many.build().unwrap_err().to_string().contains("16"));
}

/// Some nodes never say whether they store. Whoever does not wait for them knows who has.
#[test]
fn a_put_whose_time_is_up_counts_those_who_have_stored() {
    let network = Network::new(6);
    (20..23).for_each(|number| support::deaf(number, &network.entry()));
    support::wait_until("all know each other", || {
        let contacts = |server: &dht_mio::Dht| server.stats().unwrap().node.contacts;
        contacts(&network.servers[0]) >= 8
    });
    for runtime in 0..2 {
        let keypair = Keypair::from_secret(&[40 + runtime; 32]);
        // Silence is waited out for seconds, storing takes milliseconds: some time lies between.
        let timeouts = (4..12).map(|exponent| core::time::Duration::from_millis(1 << exponent));
        let mut versions = 1..;
        let counted = timeouts.into_iter().any(|timeout| {
            let setup =
                Setup { network: Some(&network), timeout: Some(timeout), ..Setup::default() };
            let client = if runtime == 0 { setup.mio() } else { setup.smol() };
            let packet = packet(&keypair, versions.next().unwrap(), "x");
            let report = client.publish(&packet).unwrap_or_else(|error| *error.report);
            let late = report.outcome.is_some_and(|outcome| outcome.ended == Ended::TimedOut);
            late && report.stored > 0
        });
        assert!(counted, "runtime {runtime}");
    }
}
