//! How many nodes hold an item, as a lookup counts them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use dht_proto::id::ItemId;
use dht_proto::item::Item;
use dht_proto::request::Outcome;
use dht_proto::wire::Method;
use dht_tests::ask::get;
use dht_tests::script::{Stored, signed};
use dht_tests::world::World;

/// Nodes of the scripted network.
const NODES: usize = 40;
/// Index of our own node's address, which no scripted node has.
const OURS: usize = 200;

/// Looks for an item among nodes of which the eight nearest return these, nearest first.
fn look_up(target: ItemId, stored: Vec<Option<Stored>>, bootstrap: &[usize]) -> Outcome {
    let nearest = World::nearest(NODES, target.target(), stored.len());
    let mut world = World::new(1);
    world.scripted(NODES, move |i, heard, mut answer| {
        if matches!(heard.query.method, Method::Get { target: asked, .. } if asked == target) {
            let place = nearest.iter().position(|near| *near == i);
            answer.item = place.and_then(|place| stored[place].clone());
        }
        Some(answer.encode(heard.message.tid))
    });
    let bootstrap: Vec<_> = bootstrap.iter().map(|i| World::v4(*i)).collect();
    let ours = world.add(&[World::v4(OURS)], World::client_config(&bootstrap));
    world.look_up(ours, &get(target, b"")).1
}

/// `count` copies of what each of these items is stored as.
fn copies(items: &[(Stored, usize)]) -> Vec<Option<Stored>> {
    items.iter().flat_map(|(stored, count)| vec![Some(stored.clone()); *count]).collect()
}

fn item(seq: i64) -> Item {
    signed(1, b"", seq, b"1:x")
}

#[test]
fn every_node_that_returns_the_newest_version_is_counted() {
    let (old, new) = (Stored::of(&item(4)), Stored::of(&item(5)));
    for count in 1..=8 {
        let mut stored = copies(&[(new.clone(), count)]);
        stored.resize(8, None);
        assert_eq!(look_up(item(5).id(), stored, &[0]).holders, count as u32);
    }
    // Wherever they stand, those of older versions are not.
    for stored in [copies(&[(new.clone(), 3), (old.clone(), 5)]), copies(&[(old, 5), (new, 3)])] {
        let done = look_up(item(5).id(), stored, &[0]);
        assert_eq!((done.item.as_deref(), done.holders), (Some(&item(5)), 3));
    }
    assert_eq!(look_up(item(5).id(), vec![None; 8], &[0]).holders, 0);
}

/// A node is asked by its address first, and again under the id that others tell.
#[test]
fn nobody_is_counted_twice() {
    let target = item(5).id();
    let near = World::nearest(NODES, target.target(), 8);
    let stored = copies(&[(Stored::of(&item(5)), 8)]);
    for bootstrap in [&near[..1], &near[..4], &near[..]] {
        let done = look_up(target, stored.clone(), bootstrap);
        assert_eq!(done.holders, 8, "from {bootstrap:?}");
    }
}

/// Whoever has the value but not the signature has nothing that he could give to others.
#[test]
fn who_cannot_prove_what_he_has_is_not_counted() {
    let true_one = Stored::of(&item(5));
    let (key, signature) = true_one.signed.unwrap();
    let mut wrong = signature;
    wrong[0] ^= 1;
    let other_key = Stored::of(&signed(2, b"", 5, b"1:x"));
    for fake in [
        Stored { signed: Some((key, wrong)), ..true_one.clone() },
        Stored { signed: None, ..true_one.clone() },
        Stored { seq: None, ..true_one.clone() },
        Stored { seq: Some(6), ..true_one.clone() },
        other_key,
    ] {
        let done = look_up(item(5).id(), copies(&[(true_one.clone(), 3), (fake, 5)]), &[0]);
        assert_eq!((done.item.as_deref(), done.holders), (Some(&item(5)), 3));
    }
    // An immutable value is its own proof, and one is enough.
    let immutable = Item::immutable(b"1:x").unwrap();
    let done = look_up(immutable.id(), copies(&[(Stored::of(&immutable), 8)]), &[0]);
    assert!(done.holders >= 1, "{done:?}");
}
