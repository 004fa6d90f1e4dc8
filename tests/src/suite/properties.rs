//! The properties: what holds for any values, and for any order of operations.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dht_proto::id::InfoHash;
use dht_proto::item::{Item, bencode_bytes};
use dht_proto::request::AnnouncePort;
use dht_sim::{About, Choices};
use ed25519_dalek::SigningKey;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{Setting, Subject, Terrain};

/// Values that a property is tried with.
const CASES: u32 = 12;
/// Steps of a story.
const STEPS: u32 = 30;

/// Whatever is put, under whatever salt and seq, is what others get.
pub fn whatever_is_put_is_got<S: Setting>() {
    let network = S::open(&Terrain::calm(21));
    let (writer, reader) = (network.join(1), network.join(2));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    // Every case has a key of its own, so that no version of an earlier one is in its way.
    let number = Cell::new(0_u8);
    let given = (vec(any::<u8>(), 0..=900), vec(any::<u8>(), 0..=64), 0..=i64::MAX);
    let result = runner.run(&given, |(value, salt, seq)| {
        number.set(number.get().wrapping_add(1));
        let key = SigningKey::from_bytes(&[number.get(); 32]);
        let value = bencode_bytes(&value);
        let fixed = Item::immutable(&value).expect("a value that is short enough");
        let moving = Item::sign(&key, &salt, seq, &value).expect("a salt that is short enough");
        for (item, salt) in [(&fixed, &[][..]), (&moving, &salt)] {
            assert!(writer.put(item, None).stored >= 1);
            assert_eq!(reader.get(item.id(), salt).item.as_deref(), Some(item));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    network.close();
}

/// Whatever users do, in any order and from any node, what they get is what was stored last.
///
/// What they do follows from a seed; a failure names the step.
pub fn stories_agree_with_a_model<S: Setting>() {
    let network = S::open(&Terrain::calm(22));
    let subjects = [network.join(1), network.join(2), network.join(3)];
    let mut choices = Choices::seeded(22);
    let mut peers: BTreeMap<u32, BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut versions: BTreeMap<u32, Item> = BTreeMap::new();
    for step in 0..STEPS {
        let mut below = |n| choices.below(About::Workload, n);
        let (subject, what) = (&subjects[below(3) as usize], below(3));
        match below(4) {
            0 => {
                let done = subject.announce(info_hash(what), AnnouncePort::Implied);
                assert!(done.stored >= 1, "step {step}: {done:?}");
                peers.entry(what).or_default().insert(subject.addr());
            }
            1 => {
                let found = subject.get_peers(info_hash(what));
                let known: Vec<_> = peers.entry(what).or_default().iter().copied().collect();
                assert_eq!(found, known, "step {step}");
            }
            2 => {
                let item = version(what, below(4), step);
                let done = subject.put(&item, None);
                let newest = versions.get(&what).filter(|newest| !item.supersedes(newest));
                if newest.is_none() {
                    assert!(done.stored >= 1, "step {step}: {done:?}");
                    versions.insert(what, item);
                } else {
                    assert!(!done.refusals.is_empty(), "step {step}: {done:?}");
                }
            }
            _ => {
                let id = version(what, 0, 0).id();
                let found = subject.get(id, b"story").item.map(|item| *item);
                assert_eq!(found.as_ref(), versions.get(&what), "step {step}");
            }
        }
    }
    network.close();
}

fn info_hash(what: u32) -> InfoHash {
    InfoHash::from_bytes([what as u8 + 1; 20])
}

fn version(what: u32, seq: u32, step: u32) -> Item {
    let key = SigningKey::from_bytes(&[what as u8 + 1; 32]);
    // Different values of one version never meet: the seq has the step in it.
    let seq = i64::from(seq) * 1_000 + i64::from(step);
    let value = bencode_bytes(format!("version {seq}").as_bytes());
    Item::sign(&key, b"story", seq, &value).expect("a small value")
}
