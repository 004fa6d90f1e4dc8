//! The reference implementation's relay, and our clients.

#[path = "../../../../../crates/dht-relay/benches/support/mod.rs"]
mod support;

use dht_pkarr::{CachedPacket, Keypair, SignedPacket, Timestamp};
use dht_pkarr_client::{PacketCache, Policy, mio};

use super::relays::ask;
use super::{Clients, PATIENCE, check, text};
use support::{INSTALL, PkarrRelay};

#[test]
#[ignore = "needs pkarr-relay: just interop-pkarr-relay"]
fn pkarr_and_we_resolve_each_other_through_pkarr_relay() {
    let relay = PkarrRelay::start(&["env"]).unwrap_or_else(|why| panic!("{why}; {INSTALL}"));
    let url = format!("http://{}", PkarrRelay::addr());
    check(&Clients::through(&url), None);

    // What it has that is older than our cache.
    let keypair = Keypair::from_secret(&[201; 32]);
    let (older, newer) = (text(&keypair, 1_700_000_000), text(&keypair, 1_700_000_100));
    let key = keypair.public_key();
    let put = |packet: &SignedPacket| {
        ask(PkarrRelay::addr(), &format!("PUT /{key}"), packet.relay_payload()).0
    };
    assert_eq!(put(&older), 204);
    let get = format!("GET /{key}\r\nif-modified-since: Tue, 14 Nov 2023 22:13:20 GMT");
    assert_eq!(ask(PkarrRelay::addr(), &get, b"").0, 304);
    let cache = PacketCache::default();
    cache.put(CachedPacket::new(newer.clone(), Timestamp::from_secs(1_700_000_200)));
    let client = mio::Client::builder().relay(&url).cache(cache).timeout(PATIENCE).build().unwrap();
    let error = client.resolve(&key, Policy::CacheFirst).unwrap_err();
    assert_eq!(error.troubles, [], "{error}");
    assert_eq!((put(&newer), put(&older)), (204, 409));
    drop(relay);
}
