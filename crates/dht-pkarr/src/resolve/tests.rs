use alloc::vec::Vec;

use dht_proto::ed25519_dalek::SigningKey;

use super::*;
use crate::Keypair;

const NOW: u64 = 1_700_000_000;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn packet(version: u64) -> SignedPacket {
    let keypair = Keypair::from_secret(&[1; 32]);
    SignedPacket::builder().txt("@", "x", 1_000).sign(&keypair, at(version)).unwrap()
}

/// A packet, last seen so many seconds ago; they live for a thousand.
fn seen(version: u64, ago: u64) -> CachedPacket {
    CachedPacket::new(packet(version), at(NOW - ago))
}

fn resolve(policy: Policy, relays: usize, cached: Option<CachedPacket>) -> Resolve {
    let options = ResolveOptions { policy, relays, ..ResolveOptions::default() };
    Resolve::new(at(NOW), packet(1).public_key(), options, cached)
}

/// Everything there is to do now.
fn steps(resolve: &mut Resolve) -> Vec<Step> {
    core::iter::from_fn(|| resolve.poll()).collect()
}

fn ask(source: Source, version: Option<u64>) -> Step {
    Step::Ask { source, newer_than: version.map(at) }
}

/// The answer that `packet` is, had by `source`.
fn answer(packet: CachedPacket, source: Option<Source>) -> Step {
    Step::Answer(Ok(Answer { packet, source }))
}

const DHT: Source = Source::Dht;
const RELAY: Source = Source::Relay(0);

#[test]
fn cache_only_never_asks_the_dht() {
    let expired = seen(1, 9_999);
    let mut hit = resolve(Policy::CacheOnly, 1, Some(expired.clone()));
    assert_eq!(steps(&mut hit), [answer(expired, None)]);
    assert!(hit.is_done());

    let mut miss = resolve(Policy::CacheOnly, 1, None);
    assert_eq!(steps(&mut miss), [ask(RELAY, None)]);
    miss.handle_packet(at(NOW), RELAY, seen(1, 9_999));
    let found = seen(1, 9_999);
    assert_eq!(steps(&mut miss), [Step::Keep(found.clone()), answer(found, Some(RELAY))]);
    miss.handle_end(RELAY, End::Answered);
    assert_eq!(steps(&mut miss), []);
    assert!(miss.is_done());

    let mut alone = resolve(Policy::CacheOnly, 0, None);
    assert_eq!(steps(&mut alone), [Step::Answer(Err(ResolveError::NotFound))]);
}

#[test]
fn cache_first_answers_at_once_and_refreshes_in_the_background() {
    let mut young = resolve(Policy::CacheFirst, 1, Some(seen(1, 299)));
    assert_eq!(steps(&mut young), [answer(seen(1, 299), None)]);
    assert!(young.is_done());

    let mut older = resolve(Policy::CacheFirst, 1, Some(seen(2, 300)));
    let expected = [answer(seen(2, 300), None), ask(DHT, Some(2)), ask(RELAY, Some(2))];
    assert_eq!(steps(&mut older), expected);
    // An older one is no news, the same one is seen again, a newer one is kept.
    older.handle_packet(at(NOW), RELAY, seen(1, 0));
    assert_eq!(steps(&mut older), []);
    older.handle_packet(at(NOW), RELAY, seen(2, 10));
    assert_eq!(steps(&mut older), [Step::Keep(seen(2, 10))]);
    older.handle_item(at(NOW), &packet(3).to_item().unwrap());
    assert_eq!(steps(&mut older), [Step::Keep(seen(3, 0))]);
    older.handle_end(DHT, End::Answered);
    assert!(!older.is_done());
    older.handle_end(RELAY, End::Failed);
    assert_eq!(steps(&mut older), []);
    assert!(older.is_done());
}

#[test]
fn cache_first_takes_the_first_answer_that_is_fresh_and_not_older_than_the_cache() {
    let mut first = resolve(Policy::CacheFirst, 1, Some(seen(5, 1_000)));
    assert_eq!(steps(&mut first), [ask(DHT, Some(5)), ask(RELAY, Some(5))]);
    first.handle_packet(at(NOW), RELAY, seen(4, 0));
    assert_eq!(steps(&mut first), []);
    // Newer, but expired: the cache learns of it, the asker waits on.
    first.handle_packet(at(NOW), RELAY, seen(6, 2_000));
    assert_eq!(steps(&mut first), [Step::Keep(seen(6, 2_000))]);
    first.handle_packet(at(NOW), RELAY, seen(6, 1));
    assert_eq!(steps(&mut first), [Step::Keep(seen(6, 1)), answer(seen(6, 1), Some(RELAY))]);
    // The same version with an earlier sight takes nothing back.
    first.handle_packet(at(NOW), RELAY, seen(6, 500));
    assert_eq!(steps(&mut first), [Step::Keep(seen(6, 1))]);

    let mut same = resolve(Policy::CacheFirst, 0, Some(seen(5, 1_000)));
    let _ = steps(&mut same);
    same.handle_item(at(NOW), &packet(5).to_item().unwrap());
    assert_eq!(steps(&mut same), [Step::Keep(seen(5, 0)), answer(seen(5, 0), Some(DHT))]);
}

#[test]
fn what_nobody_has_fresh_is_not_found_and_what_nobody_says_is_no_answer() {
    for (ends, error) in [
        ([End::Answered, End::Answered], ResolveError::NotFound),
        ([End::Failed, End::Answered], ResolveError::NotFound),
        ([End::Failed, End::Failed], ResolveError::NoAnswer),
    ] {
        for policy in [Policy::CacheFirst, Policy::NetworkOnly] {
            let mut none = resolve(policy, 1, None);
            assert_eq!(steps(&mut none), [ask(DHT, None), ask(RELAY, None)]);
            none.handle_end(DHT, ends[0]);
            assert_eq!(steps(&mut none), []);
            none.handle_end(RELAY, ends[1]);
            assert_eq!(steps(&mut none), [Step::Answer(Err(error))]);
        }
    }
    // Only expired ones, in the cache and elsewhere.
    let mut expired = resolve(Policy::CacheFirst, 0, Some(seen(1, 5_000)));
    let _ = steps(&mut expired);
    expired.handle_packet(at(NOW), RELAY, seen(1, 4_000));
    expired.handle_end(DHT, End::Answered);
    let expected = [Step::Keep(seen(1, 4_000)), Step::Answer(Err(ResolveError::NotFound))];
    assert_eq!(steps(&mut expired), expected);
    let options = ResolveOptions { dht: false, ..ResolveOptions::default() };
    let mut nobody = Resolve::new(at(NOW), packet(1).public_key(), options, None);
    assert_eq!(steps(&mut nobody), [Step::Answer(Err(ResolveError::NoSource))]);
}

#[test]
fn network_only_waits_for_all_and_takes_the_newest() {
    let mut all = resolve(Policy::NetworkOnly, 2, Some(seen(9, 0)));
    let relays = [RELAY, Source::Relay(1)];
    assert_eq!(steps(&mut all), [ask(DHT, None), ask(relays[0], None), ask(relays[1], None)]);
    all.handle_packet(at(NOW), relays[0], seen(2, 7));
    all.handle_end(relays[0], End::Answered);
    all.handle_packet(at(NOW), relays[1], seen(1, 0));
    all.handle_end(relays[1], End::Answered);
    assert_eq!(steps(&mut all), [Step::Keep(seen(2, 7))]);
    all.handle_item(at(NOW), &packet(2).to_item().unwrap());
    all.handle_end(DHT, End::Answered);
    assert_eq!(steps(&mut all), [Step::Keep(seen(2, 0)), answer(seen(2, 0), Some(RELAY))]);
}

#[test]
fn a_newer_item_that_is_no_packet_is_the_answer() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let garbage = Item::sign(&key, b"", at(5).as_seq(), b"3:abc").unwrap();
    for policy in [Policy::CacheFirst, Policy::NetworkOnly] {
        let mut resolve = resolve(policy, 1, None);
        let _ = steps(&mut resolve);
        resolve.handle_item(at(NOW), &garbage);
        resolve.handle_end(DHT, End::Answered);
        resolve.handle_packet(at(NOW), RELAY, seen(4, 0));
        assert_eq!(steps(&mut resolve), [], "older than what the owner stored last");
        resolve.handle_end(RELAY, End::Answered);
        let step = steps(&mut resolve).remove(0);
        let Step::Answer(Err(ResolveError::Item(ItemError::NotAPacket { seq, .. }))) = step else {
            panic!("{step:?}");
        };
        assert_eq!(seq, 5_000_000);
    }
    // Unless the cache knows better.
    let mut newer = resolve(Policy::CacheFirst, 0, Some(seen(6, 5_000)));
    let _ = steps(&mut newer);
    newer.handle_item(at(NOW), &garbage);
    newer.handle_end(DHT, End::Answered);
    assert_eq!(steps(&mut newer), [Step::Answer(Err(ResolveError::NotFound))]);
}

#[test]
fn strangers_stale_reports_and_clocks_ahead_do_no_harm() {
    let mut resolve = resolve(Policy::CacheFirst, 99, None);
    assert_eq!(steps(&mut resolve).len(), 1 + MAX_RELAYS);
    let other = Keypair::from_secret(&[2; 32]);
    let foreign = SignedPacket::builder().sign(&other, at(1)).unwrap();
    resolve.handle_item(at(NOW), &foreign.to_item().unwrap());
    resolve.handle_packet(at(NOW), RELAY, CachedPacket::new(foreign, at(NOW)));
    resolve.handle_end(Source::Relay(77), End::Answered);
    assert_eq!(steps(&mut resolve), []);
    let ahead = CachedPacket::new(packet(1), at(NOW + 100));
    resolve.handle_packet(at(NOW), RELAY, ahead);
    assert_eq!(steps(&mut resolve).pop(), Some(answer(seen(1, 0), Some(RELAY))));
}

#[test]
fn what_a_relay_says_of_an_item_counts_only_if_nobody_has_a_packet() {
    for found in [false, true] {
        let mut resolve = resolve(Policy::NetworkOnly, 1, None);
        let _ = steps(&mut resolve);
        resolve.handle_not_a_packet(9_000_000);
        resolve.handle_not_a_packet(8_000_000);
        resolve.handle_end(RELAY, End::Answered);
        if found {
            resolve.handle_item(at(NOW), &packet(2).to_item().unwrap());
        }
        resolve.handle_end(DHT, End::Answered);
        let error = Step::Answer(Err(ResolveError::NotAPacket { seq: 9_000_000 }));
        let expected = if found { answer(seen(2, 0), Some(DHT)) } else { error };
        assert_eq!(steps(&mut resolve).pop(), Some(expected));
    }
}
