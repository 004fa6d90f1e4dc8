use alloc::vec;
use alloc::vec::Vec;

use dht_proto::ed25519_dalek::SigningKey;
use dht_proto::id::NodeId;
use dht_proto::request::{NodeInfo, Refusal};

use super::*;
use crate::Keypair;

fn packet(version: u64) -> SignedPacket {
    let keypair = Keypair::from_secret(&[1; 32]);
    SignedPacket::builder().txt("@", "x", 60).sign(&keypair, Timestamp::from_secs(version)).unwrap()
}

fn publish(relays: usize, cas: Option<u64>) -> Publish {
    let cas = cas.map(Timestamp::from_secs);
    let options = PublishOptions { relays, cas, ..PublishOptions::default() };
    Publish::new(&packet(5), options, None)
}

fn steps(publish: &mut Publish) -> Vec<Step> {
    core::iter::from_fn(|| publish.poll()).collect()
}

/// A put that so many nodes took, and others refused.
fn outcome(stored: u32, refused: &[i64]) -> Outcome {
    let addr = "127.0.0.1:1".parse().unwrap();
    let node = NodeInfo { id: NodeId::from_bytes([0; 20]), addr };
    let mut outcome = Outcome::default();
    outcome.replies = 8;
    outcome.stored = stored;
    outcome.refusals = refused.iter().map(|code| Refusal::new(node, *code)).collect();
    outcome
}

/// A put alone, and how it ended.
fn put(cas: Option<u64>, outcome: &Outcome) -> Result<u32, PublishError> {
    let mut publish = publish(0, cas);
    assert_eq!(steps(&mut publish).len(), 1);
    assert!(!publish.is_done());
    publish.handle_outcome(outcome);
    assert!(publish.is_done());
    publish.result().map(Stored::copies)
}

#[test]
fn dht_and_relays_get_the_packet_and_are_counted() {
    let mut publish = publish(2, None);
    let item = Box::new(packet(5).to_item().unwrap());
    let expected = [Step::Put { item, cas: None }, Step::Relay(0), Step::Relay(1)];
    assert_eq!(steps(&mut publish), expected);
    publish.handle_relay(1, RelayAnswer::Stored(11));
    publish.handle_relay(1, RelayAnswer::Conflict); // said once already
    publish.handle_failed(Source::Relay(0));
    assert!(!publish.is_done());
    publish.handle_outcome(&outcome(6, &[203, 203, 205]));
    assert!(publish.is_done());
    let stored = publish.result().unwrap();
    assert_eq!((stored.nodes, stored.copies()), (6, 11));
    assert_eq!(stored.refused, BTreeMap::from([(203, 2), (205, 1)]));
    assert_eq!(stored.relays, BTreeMap::from([(0, None), (1, Some(RelayAnswer::Stored(11)))]));
    assert!(stored.relays_that_took_it().eq([1]));
}

#[test]
fn what_cannot_be_published_is_refused_before_anybody_is_asked() {
    let newer = packet(6);
    for (packet, options, cached, error) in [
        (
            packet(5),
            PublishOptions { relays: 1, ..PublishOptions::default() },
            Some(&newer),
            PublishError::Newer { seq: 6_000_000, place: Place::Cache },
        ),
        (
            packet(5),
            PublishOptions { dht: false, ..PublishOptions::default() },
            None,
            PublishError::NoTarget,
        ),
        (too_large(), PublishOptions::default(), None, PublishError::TooLarge { len: 1_000 }),
    ] {
        let mut publish = Publish::new(&packet, options, cached);
        assert_eq!(steps(&mut publish), []);
        assert!(publish.is_done());
        assert_eq!(publish.result(), Err(error));
    }
    // The same packet again is no conflict.
    let mut again = Publish::new(&newer, PublishOptions::default(), Some(&newer));
    assert_eq!(steps(&mut again).len(), 1);
}

/// A packet of the longest length that is read, as the reference implementation makes them.
fn too_large() -> SignedPacket {
    let key = SigningKey::from_bytes(&[1; 32]);
    let mut dns = vec![0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    dns.extend([0, 0, 16, 0, 1, 0, 0, 0, 60]);
    let rest = 1_000 - dns.len() - 2;
    dns.extend(u16::try_from(rest).unwrap().to_be_bytes());
    for string in vec![b'x'; rest].chunks(256) {
        dns.push(u8::try_from(string.len() - 1).unwrap());
        dns.extend(&string[1..]);
    }
    let text = alloc::format!("3:seqi5e1:v{}:", dns.len());
    let signed = [text.as_bytes(), &dns].concat();
    let signature = dht_proto::ed25519_dalek::Signer::sign(&key, &signed);
    let mut bytes = key.verifying_key().to_bytes().to_vec();
    bytes.extend(signature.to_bytes());
    bytes.extend(5_u64.to_be_bytes());
    bytes.extend(dns);
    SignedPacket::from_bytes(&bytes).unwrap()
}

#[test]
fn conflicts_say_what_is_there_instead() {
    let before = |seq| {
        let mut outcome = outcome(8, &[]);
        let key = SigningKey::from_bytes(&[1; 32]);
        outcome.item = Some(Box::new(Item::sign(&key, b"", seq, b"1:x").unwrap()));
        outcome
    };
    assert_eq!(put(None, &before(4_999_999)), Ok(8));
    let newer = PublishError::Newer { seq: 5_000_001, place: Place::Dht };
    assert_eq!(put(None, &before(5_000_001)), Err(newer));
    // Nodes that are behind refuse, too.
    assert_eq!(put(Some(4), &outcome(5, &[301, 301])), Ok(5));
    assert_eq!(put(None, &outcome(2, &[302, 302])), Err(PublishError::NotMostRecent));
    let mut other = before(3_000_000);
    (other.stored, other.refusals) = (1, outcome(0, &[301, 301]).refusals);
    let found = Some(3_000_000);
    assert_eq!(put(Some(4), &other), Err(PublishError::CasMismatch { found }));
    let unseen = put(Some(4), &outcome(0, &[301]));
    assert_eq!(unseen, Err(PublishError::CasMismatch { found: None }));
}

#[test]
fn relays_that_know_better_outweigh_what_is_not_more() {
    for (relays, error) in [(1, None), (2, Some(PublishError::NotMostRecent))] {
        let mut publish = publish(3, None);
        let _ = steps(&mut publish);
        publish.handle_outcome(&outcome(8, &[]));
        for relay in 0..3 {
            let answer =
                if relay < relays { RelayAnswer::Conflict } else { RelayAnswer::Stored(1) };
            publish.handle_relay(relay, answer);
        }
        assert_eq!(publish.result().err(), error, "{relays}");
    }
}

#[test]
fn who_refused_did_answer() {
    assert_eq!(put(None, &outcome(0, &[203])), Err(PublishError::Refused));
    let mut silent = Outcome::default();
    silent.ended = Ended::NoAnswer;
    assert_eq!(put(None, &silent), Err(PublishError::NoAnswer));
    for refused in [false, true] {
        let mut publish = publish(1, None);
        let _ = steps(&mut publish);
        publish.handle_failed(Source::Dht);
        let error = if refused {
            publish.handle_relay(0, RelayAnswer::Refused);
            PublishError::Refused
        } else {
            publish.handle_failed(Source::Relay(0));
            PublishError::NoAnswer
        };
        assert!(publish.is_done());
        assert_eq!(publish.result(), Err(error));
    }
}

#[test]
fn other_keys_are_no_concern() {
    let mut outcome = outcome(8, &[]);
    let key = SigningKey::from_bytes(&[2; 32]);
    outcome.item = Some(Box::new(Item::sign(&key, b"", i64::MAX, b"1:x").unwrap()));
    assert_eq!(put(None, &outcome), Ok(8));
}
