//! Lookups that are ended before their time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::time::Duration;

use dht_proto::item::Item;
use dht_proto::request::{Ended, Event};
use dht_proto::wire::Method;
use dht_tests::ask::{find_node, put};
use dht_tests::script::{Answer, Heard, refusal, signed};
use dht_tests::world::World;

/// Nodes of the scripted network.
const NODES: usize = 40;
/// Index of our own node's address, which no scripted node has.
const OURS: usize = 200;

fn item(seq: i64) -> Item {
    signed(1, b"", seq, b"1:x")
}

/// A put whose time is up says who has stored so far; it is not as if nobody had.
#[test]
fn a_lookup_that_is_ended_early_says_what_it_has_come_to() {
    let item = item(5);
    let willing = World::nearest(NODES, item.id().target(), 8)[..3].to_vec();
    let mut world = World::new(1);
    let script = move |i: usize, heard: &Heard<'_>, answer: Answer| match heard.query.method {
        Method::Put(_) if willing.contains(&i) => Some(answer.encode(heard.message.tid)),
        Method::Put(_) if i.is_multiple_of(2) => Some(refusal(heard.message.tid, 205)),
        Method::Put(_) => None,
        _ => Some(answer.encode(heard.message.tid)),
    };
    world.scripted(NODES, script);
    let ours = world.add(&[World::v4(OURS)], World::client_config(&[World::v4(0)]));
    let id = world.start(ours, &put(&item, None));
    // Those who are silent are waited for longer than this.
    world.run_for(Duration::from_millis(1_500));
    assert!(world.take_events(ours).iter().all(|event| !matches!(event, Event::Done { .. })));
    assert!(world.with(ours, |dht, now| dht.finish(now, id)));
    let done: Vec<_> = world
        .take_events(ours)
        .into_iter()
        .filter_map(|event| match event {
            Event::Done { lookup, outcome } if lookup == id => Some(outcome),
            _ => None,
        })
        .collect();
    let [outcome] = &done[..] else { panic!("exactly one end: {done:?}") };
    assert_eq!((outcome.ended, outcome.stored), (Ended::TimedOut, 3));
    assert!(!outcome.refusals.is_empty() && outcome.queries > outcome.replies, "{outcome:?}");
    assert_eq!(outcome.closest.len(), 8);
    // It has ended, once.
    assert!(!world.with(ours, |dht, now| dht.finish(now, id)));
    world.run_for(Duration::from_secs(60));
    assert!(world.take_events(ours).iter().all(|event| event.lookup() != Some(id)));
}

/// One that has found nobody yet ends just so, on both networks at once.
#[test]
fn a_lookup_may_be_ended_at_any_time() {
    let mut world = World::of_servers(1, 30);
    world.run_for(Duration::from_secs(600));
    for millis in [0, 50, 100, 150, 200, 300, 500] {
        let id = world.start(3, &find_node(9));
        world.run_for(Duration::from_millis(millis));
        let over = world.take_events(3).iter().any(|event| matches!(event, Event::Done { .. }));
        assert_eq!(world.with(3, |dht, now| dht.finish(now, id)), !over, "after {millis} ms");
        let ends = world.take_events(3).into_iter().filter(|event| event.lookup() == Some(id));
        assert_eq!(ends.count(), usize::from(!over));
    }
}
