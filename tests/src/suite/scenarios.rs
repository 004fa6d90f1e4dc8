//! The scenarios: each is written once, and holds in every setting.

use dht_proto::health::Problem;
use dht_proto::id::{InfoHash, NodeId};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Ended, Event, Lookup, Outcome};
use dht_proto::wire::code;
use ed25519_dalek::SigningKey;

use super::{Recipe, Setting, Subject, Terrain};

/// Contacts after which a node knows its way about.
const ENOUGH: u64 = 16;

/// Looks up until a node knows its neighbourhood: each lookup teaches it more.
pub fn settle_in(subject: &impl Subject) {
    let own = subject.node_id();
    for round in 0..64 {
        let mut target = *own.as_bytes();
        target[0] ^= round << 2;
        subject.find_node(NodeId::from_bytes(target));
        if subject.stats().contacts >= ENOUGH {
            return;
        }
    }
    panic!("it met {} contacts in 64 lookups: {}", subject.stats().contacts, subject.health());
}

fn info_hash(byte: u8) -> InfoHash {
    InfoHash::from_bytes([byte; 20])
}

fn signed(seq: i64, value: &[u8]) -> Item {
    let key = SigningKey::from_bytes(&[7; 32]);
    Item::sign(&key, b"salt", seq, value).expect("a small value")
}

fn codes(outcome: &Outcome) -> Vec<i64> {
    outcome.refusals.iter().map(|refusal| refusal.code).collect()
}

/// Joining, pings and lookups: what is found is what is there.
pub fn a_newcomer_finds_the_closest<S: Setting>() {
    let network = S::open(&Terrain::calm(1));
    let subject = network.join(1);
    assert!(subject.health().is_connected(), "{}", subject.health());
    let (id, addr) = network.places().nodes[42];
    let pinged = subject.ping(addr);
    assert_eq!(pinged.closest.first().map(|node| (node.id, node.addr)), Some((id, addr)));
    for place in [3, 33, 66, 99] {
        let (target, _) = network.places().nodes[place];
        let outcome = subject.find_node(target);
        assert_eq!(outcome.ended, Ended::Completed, "{outcome:?}");
        let found: Vec<_> = outcome.closest.iter().map(|node| node.id).collect();
        assert_eq!(found.first(), Some(&target), "nothing is closer to an id than its node");
        let truth = network.places().closest(target, 8);
        let hits = truth.iter().filter(|(id, _)| found.contains(id)).count();
        assert!(hits >= 6, "{hits} of the 8 closest: {outcome:?}");
    }
    network.close();
}

/// BEP 5 and BEP 51: peers are found by others, each told once by the verb, and are sampled.
pub fn what_is_announced_is_found<S: Setting>() {
    let network = S::open(&Terrain::calm(2));
    let (first, second) = (network.join(1), network.join(2));
    let stored = first.announce(info_hash(1), AnnouncePort::Explicit(4_242));
    assert!((4..=8).contains(&stored.stored), "{stored:?}");
    second.announce(info_hash(1), AnnouncePort::Implied);
    let mut explicit = first.addr();
    explicit.set_port(4_242);
    let mut expected = [explicit, second.addr()];
    expected.sort_unstable();
    assert_eq!(second.get_peers(info_hash(1)), expected);
    assert_eq!(first.get_peers(info_hash(1)), expected);
    assert_eq!(first.get_peers(info_hash(2)), [], "nobody announced it");
    let holder = stored.closest.first().expect("somebody stored it").addr;
    assert!(second.sample(holder, info_hash(1).target()).contains(&info_hash(1)));
    network.close();
}

/// BEP 44: immutable items are found; mutable ones are replaced by newer ones only, as `cas` says.
pub fn items_move_forward_only<S: Setting>() {
    let network = S::open(&Terrain::calm(3));
    let (writer, reader) = (network.join(1), network.join(2));
    let fixed = Item::immutable(b"12:Hello World!").expect("a small value");
    assert!(writer.put(&fixed, None).stored >= 4);
    assert_eq!(reader.get(fixed.id(), b"").item.as_deref(), Some(&fixed));

    let (first, second, third) = (signed(1, b"3:one"), signed(2, b"3:two"), signed(3, b"5:three"));
    let newest = || reader.get(first.id(), b"salt").item.map(|item| *item);
    assert_eq!(newest(), None, "nobody has put it");
    assert!(writer.put(&first, None).stored >= 4);
    assert_eq!(newest().as_ref(), Some(&first));
    let replaced = writer.put(&second, None);
    assert_eq!(replaced.item.as_deref(), Some(&first), "what was there before");
    assert_eq!(newest().as_ref(), Some(&second));

    let stale = writer.put(&first, None);
    assert!(codes(&stale).contains(&code::SEQ_TOO_OLD), "{stale:?}");
    assert_eq!(newest().as_ref(), Some(&second), "an old version replaces nothing");
    let mismatch = writer.put(&third, Some(1));
    assert!(codes(&mismatch).contains(&code::CAS_MISMATCH), "{mismatch:?}");
    // Among faults one of the nearest may have missed the second version, and compared rightly.
    assert!(mismatch.stored <= 1, "{mismatch:?}");
    if mismatch.stored == 0 {
        assert_eq!(newest().as_ref(), Some(&second), "nor does one that compared wrongly");
    }
    assert!(writer.put(&third, Some(2)).stored >= 4);
    assert_eq!(newest().as_ref(), Some(&third));
    assert_eq!(reader.get(first.id(), b"pepper").item, None, "the salt is part of the id");
    network.close();
}

/// Loss, duplication, reordering and dead contacts: slower, but nothing is lost that was stored.
pub fn rough_weather_loses_nothing<S: Setting>() {
    let network = S::open(&Terrain::rough(4));
    let (writer, reader) = (network.join(1), network.join(2));
    let fixed = Item::immutable(b"5:storm").expect("a small value");
    let moving = signed(1, b"4:rain");
    let announced = writer.announce(info_hash(4), AnnouncePort::Implied);
    for stored in [announced, writer.put(&fixed, None), writer.put(&moving, None)] {
        assert_eq!(stored.ended, Ended::Completed, "{stored:?}");
        assert!(stored.stored >= 2, "{stored:?}");
    }
    assert_eq!(reader.get_peers(info_hash(4)), [writer.addr()]);
    assert_eq!(reader.get(fixed.id(), b"").item.as_deref(), Some(&fixed));
    assert_eq!(reader.get(moving.id(), b"salt").item.as_deref(), Some(&moving));
    network.close();
}

/// A fifth of all contacts is dead: lookups ask some of them, and still find who is alive.
pub fn dead_contacts_do_not_block<S: Setting>() {
    let network = S::open(&Terrain::haunted(5));
    let subject = network.join(1);
    let silent = subject.ping(network.places().nobody);
    assert_eq!(silent.ended, Ended::NoAnswer, "{silent:?}");
    assert!(silent.timeouts >= 1 && silent.closest.is_empty(), "{silent:?}");
    for place in [10, 50, 90] {
        let (target, addr) = network.places().nodes[place];
        let outcome = subject.find_node(target);
        assert_eq!(outcome.ended, Ended::Completed, "{outcome:?}");
        assert_eq!(outcome.closest.first().map(|node| node.addr), Some(addr));
    }
    network.close();
}

/// A lookup that is cancelled tells nothing more and leaves nothing behind.
pub fn a_cancelled_lookup_is_gone<S: Setting>() {
    let network = S::open(&Terrain::rough(6));
    let subject = network.join(1);
    let before = subject.stats().lookups_running;
    // It cannot end by itself before it is cancelled: nobody answers, and that takes seconds.
    let ping = || Lookup::Ping { addr: network.places().nobody };
    let (kept, dropped) = (subject.begin(ping()), subject.begin(ping()));
    assert!(subject.stats().lookups_running >= before + 2);
    subject.cancel(dropped);
    let end = subject.finish(kept);
    assert_eq!(end.outcome.ended, Ended::NoAnswer, "the other one goes on");
    assert_eq!(subject.find_node(network.places().nodes[0].0).ended, Ended::Completed);
    assert!(subject.stats().lookups_running <= before, "nothing runs that nobody waits for");
    network.close();
}

/// Many lookups at a time: each ends, and each with its own answer.
pub fn many_lookups_at_once<S: Setting>() {
    let network = S::open(&Terrain::calm(7));
    let (subject, other) = (network.join(1), network.join(2));
    let items: Vec<_> = (0..16_u8).map(|i| signed_by(i, i64::from(i) + 1)).collect();
    let put = |item: &Item| Lookup::PutItem { item: Box::new(item.clone()), cas: None };
    let puts: Vec<_> = items.iter().map(|item| subject.begin(put(item))).collect();
    let finds = network
        .places()
        .nodes
        .iter()
        .step_by(7)
        .map(|(target, _)| (*target, subject.begin(Lookup::FindNode { target: *target })));
    let finds: Vec<_> = finds.collect();
    for (target, running) in finds {
        let outcome = subject.finish(running).outcome;
        assert_eq!(outcome.closest.first().map(|node| node.id), Some(target), "{outcome:?}");
    }
    for running in puts {
        let outcome = subject.finish(running).outcome;
        assert!(outcome.stored >= 4, "{outcome:?}");
    }
    let get = |item: &Item| Lookup::GetItem {
        target: item.id(),
        salt: b"many".to_vec(),
        newer_than: None,
    };
    let gets: Vec<_> = items.iter().map(|item| other.begin(get(item))).collect();
    for (item, running) in items.iter().zip(gets) {
        let found = other.finish(running);
        assert_eq!(found.outcome.item.as_deref(), Some(item));
        let told = found.events.iter().filter(|event| matches!(event, Event::Item { .. }));
        assert_eq!(told.count(), 1, "one version is told once, however many nodes have it");
    }
    network.close();
}

fn signed_by(number: u8, seq: i64) -> Item {
    let key = SigningKey::from_bytes(&[number; 32]);
    Item::sign(&key, b"many", seq, b"4:item").expect("a small value")
}

/// A node that was stopped finds its way with what it saved, and is who it was.
pub fn a_restart_needs_nobody<S: Setting>() {
    let network = S::open(&Terrain::calm(8));
    let subject = network.join(1);
    let fixed = Item::immutable(b"6:before").expect("a small value");
    assert!(subject.put(&fixed, None).stored >= 4);
    let id = subject.node_id();
    let subject = network.restart(subject);
    assert_eq!(subject.node_id(), id, "the id lasts");
    assert_eq!(subject.get(fixed.id(), b"").item.as_deref(), Some(&fixed));
    settle_in(&subject);
    assert!(subject.health().is_connected(), "{}", subject.health());
    network.close();
}

/// Why nothing works is said in words: nobody answers, or there is nobody to ask.
pub fn silence_is_told_in_words<S: Setting>() {
    let network = S::open(&Terrain::calm(9));
    let hopeful = network.join(1);
    let nobody = network.places().nobody;
    let unheard = network.start(&Recipe { number: 2, bootstrap: vec![nobody] });
    let alone = network.start(&Recipe { number: 3, bootstrap: Vec::new() });
    let target = network.places().nodes[0].0;
    assert_eq!(unheard.find_node(target).ended, Ended::NoAnswer);
    assert_eq!(alone.find_node(target).ended, Ended::NoContacts);
    let problem = |subject: &S::Subject| {
        subject.health().v4.expect("it speaks IPv4").problem.expect("something is wrong")
    };
    assert!(matches!(problem(&unheard), Problem::NothingAnswered { queries: 1.. }));
    assert_eq!(problem(&alone), Problem::NobodyToAsk);
    for (subject, words) in [(&unheard, "nothing answered"), (&alone, "--bootstrap")] {
        let health = subject.health();
        assert!(!health.is_connected() && health.to_string().contains(words), "{health}");
    }
    assert!(hopeful.health().is_connected(), "{}", hopeful.health());
    network.close();
}
