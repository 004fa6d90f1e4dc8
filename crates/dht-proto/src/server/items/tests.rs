use alloc::collections::BTreeSet;
use core::net::SocketAddrV4;
use core::time::Duration;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::seed::{Domain, Seed};

const OWN_ID: NodeId = NodeId::from_bytes([0; 20]);

fn store() -> ItemStore<SocketAddrV4> {
    ItemStore::new(Seed::from_bytes([1; 32]).key(Domain::Announcers))
}

/// Hosts in allocations of their own.
fn host(n: u16) -> SocketAddrV4 {
    let [high, low] = n.to_be_bytes();
    SocketAddrV4::new([20 + high, low, 1, 1].into(), 6881)
}

fn octets(addr: SocketAddrV4) -> [u8; 4] {
    addr.compact()[..4].try_into().unwrap()
}

fn immutable(n: i64) -> Item {
    Item::immutable(alloc::format!("i{n}e").as_bytes()).unwrap()
}

fn mutable(n: u8) -> Item {
    Item::sign(&SigningKey::from_bytes(&[n; 32]), b"", 1, b"i1e").unwrap()
}

/// A put of an item as the server makes it, with all checks but the token.
fn put(
    store: &mut ItemStore<SocketAddrV4>,
    item: &Item,
    cas: Option<i64>,
    dice: u64,
    terms: Terms<'_, SocketAddrV4>,
) -> Result<(), i64> {
    let mutable = item.signed().map(|signed| PutMutable {
        public_key: &signed.public_key,
        salt: &signed.salt,
        seq: signed.seq,
        signature: &signed.signature,
        cas,
    });
    let put = Put { token: b"", v: item.value(), mutable };
    let result = store.admit(&put, item.id(), Dice::new(dice), terms).map(|admission| {
        if admission != Admission::Renewed {
            store.store(checked_item(&put, terms.config).unwrap(), admission, terms);
        }
    });
    store.check_invariants(terms.config);
    result.map_err(|refusal| refusal.code)
}

fn terms(config: &Config, n: u16) -> Terms<'_, SocketAddrV4> {
    Terms { now: Instant::from_secs(1), from: host(n), own_id: OWN_ID, config }
}

/// test_dht_storage `put_items` and `counters`.
#[test]
fn put_items() {
    let (mut store, config) = (store(), Config::default());
    for n in 0..10_u16 {
        assert_eq!(put(&mut store, &immutable(n.into()), None, 0, terms(&config, n)), Ok(()));
        assert_eq!(put(&mut store, &mutable(n as u8), None, 0, terms(&config, n)), Ok(()));
        assert_eq!(store.len(), 2 * usize::from(n + 1));
    }
    let now = Instant::from_secs(2);
    assert_eq!(store.get(now, immutable(3).id()), Some(&immutable(3)));
    assert_eq!(store.get(now, mutable(3).id()), Some(&mutable(3)));
    assert_eq!(store.get(now, immutable(99).id()), None);
    let expired = now + config.item_lifetime;
    assert_eq!(store.get(expired, immutable(3).id()), None);
}

/// test_dht_storage `immutable_item_limit`.
#[test]
fn immutable_item_limit() {
    let (mut store, config) = (store(), Config { max_items: 42, ..Config::default() });
    for n in 0..200 {
        let _ = put(&mut store, &immutable(n.into()), None, n.into(), terms(&config, n));
        assert!(store.len() <= 42);
    }
    assert_eq!(store.len(), 42);
}

/// test_dht_storage `mutable_item_limit`.
#[test]
fn mutable_item_limit() {
    let (mut store, config) = (store(), Config { max_items: 8, ..Config::default() });
    for n in 0..30 {
        let _ = put(&mut store, &mutable(n as u8), None, n.into(), terms(&config, n));
        assert!(store.len() <= 8);
    }
    assert_eq!(store.len(), 8);
}

/// test_dht_storage `update_node_ids`: what is dropped is far from the id that we have now.
#[test]
fn update_node_ids() {
    let config = Config { max_items: 16, ..Config::default() };
    for own_id in [OWN_ID, NodeId::from_bytes([0xff; 20])] {
        let mut store = store();
        for n in 0..16 {
            put(&mut store, &immutable(n.into()), None, 0, terms(&config, n)).unwrap();
        }
        let ids = |store: &ItemStore<_>| -> BTreeSet<ItemId> {
            store.iter().map(|(item, _)| item.id()).collect()
        };
        let before = ids(&store);
        let near = |id: &ItemId| nearness(own_id, id.as_bytes());
        let mut new = (100..).map(immutable).filter(|item| near(&item.id()) >= 4);
        let terms = Terms { own_id, ..terms(&config, 99) };
        put(&mut store, &new.next().unwrap(), None, 0, terms).unwrap();
        let after = ids(&store);
        let dropped: Vec<_> = before.difference(&after).collect();
        assert_eq!(dropped.len(), 1);
        assert_eq!(near(dropped[0]), before.iter().map(near).min().unwrap());
    }
}

/// Items that many networks put outlast near ones that nobody else cares for.
#[test]
fn popular_items_stay() {
    let (mut store, config) = (store(), Config { max_items: 16, ..Config::default() });
    let popular = (0..99).map(immutable).find(|item| item.id().as_bytes()[0] >= 0x80).unwrap();
    for n in 0..100 {
        put(&mut store, &popular, None, 0, terms(&config, n)).unwrap();
    }
    for n in 0..1000 {
        let _ = put(&mut store, &immutable(i64::from(n) + 10), None, 0, terms(&config, n + 200));
    }
    assert!(store.get(Instant::from_secs(1), popular.id()).is_some());
    // One network alone makes nothing popular.
    let mut announcers = Announcers::default();
    for port in 0..1000 {
        announcers.insert(store.key, host(1).with_port(port));
    }
    assert_eq!(announcers.count(), 1);
}

// The model: a plain list, searched from end to end.

#[derive(Clone, Debug)]
enum Op {
    Put { host: (u8, u8), what: What, cas: Option<i64> },
    Restore(What),
    Advance(u64),
}

#[derive(Clone, Copy, Debug)]
enum What {
    Immutable(i64),
    Mutable { key: u8, seq: i64, value: u8 },
}

impl What {
    fn item(self) -> Item {
        match self {
            Self::Immutable(n) => immutable(n),
            Self::Mutable { key, seq, value } => {
                let value = alloc::format!("i{value}e");
                Item::sign(&SigningKey::from_bytes(&[key; 32]), b"s", seq, value.as_bytes())
                    .unwrap()
            }
        }
    }
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        (0..12_i64).prop_map(What::Immutable),
        (0..4_u8, 0..4_i64, 0..2_u8).prop_map(|(key, seq, value)| What::Mutable {
            key,
            seq,
            value
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => ((0..5_u8, 0..3_u8), what(), prop::option::weighted(0.3, 0..4_i64))
            .prop_map(|(host, what, cas)| Op::Put { host, what, cas }),
        1 => what().prop_map(Op::Restore),
        2 => (0..70_u64).prop_map(Op::Advance),
    ]
}

#[derive(Clone, Debug)]
struct Entry {
    item: Item,
    expires: u64,
    putter: Option<SocketAddrV4>,
    announcers: Announcers,
}

struct Model {
    entries: Vec<Entry>,
    key: PrfKey,
}

impl Model {
    fn held(&self, from: SocketAddrV4, len: usize) -> usize {
        let same =
            |entry: &&Entry| entry.putter.is_some_and(|p| octets(p)[..len] == octets(from)[..len]);
        self.entries.iter().filter(same).count()
    }

    fn worth(&self, item: &Item, putter: Option<SocketAddrV4>, announcers: i64) -> i64 {
        let crowd = putter.map_or(1, |putter| self.held(putter, 2).max(1));
        let [a, b, c, ..] = *item.id().as_bytes();
        let near = (u32::from_be_bytes([a, b, c, 0xff])).leading_zeros();
        announcers / 5 + i64::from(near) - 8 * i64::from(crowd.ilog2())
    }

    fn put(
        &mut self,
        item: Item,
        cas: Option<i64>,
        from: SocketAddrV4,
        now: u64,
        config: &Config,
    ) -> Result<(), i64> {
        let expires = now + config.item_lifetime.as_secs();
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.item.id() == item.id()) {
            if let (Some(old), Some(new)) = (entry.item.signed(), item.signed()) {
                if cas.is_some_and(|cas| cas != old.seq) {
                    return Err(301);
                }
                if new.seq < old.seq || (new.seq == old.seq && entry.item.value() != item.value()) {
                    return Err(302);
                }
            }
            (entry.item, entry.expires) = (item, expires);
            entry.announcers.insert(self.key, from);
            return Ok(());
        }
        if self.held(from, 3) >= config.max_items_per_subnet
            || self.held(from, 2) >= config.max_items_per_subnet.max(config.max_items / 4)
        {
            return Err(202);
        }
        if self.entries.len() >= config.max_items {
            let worth = |entry: &Entry| {
                let announcers = entry.announcers.count();
                (self.worth(&entry.item, entry.putter, announcers), entry.item.id())
            };
            let (lowest, id) = self.entries.iter().map(worth).min().unwrap();
            if lowest > self.worth(&item, Some(from), 1) {
                return Err(202);
            }
            self.entries.retain(|entry| entry.item.id() != id);
        }
        let mut announcers = Announcers::default();
        announcers.insert(self.key, from);
        self.entries.push(Entry { item, expires, putter: Some(from), announcers });
        Ok(())
    }

    fn restore(&mut self, item: Item, now: u64, config: &Config) {
        let expires = now + config.item_lifetime.as_secs();
        let full = self.entries.len() >= config.max_items;
        let known = self.entries.iter_mut().find(|entry| entry.item.id() == item.id());
        match known {
            Some(entry) if seq(&entry.item) < seq(&item) && !full => {
                (entry.item, entry.expires) = (item, expires);
                entry.announcers = Announcers::default();
            }
            None if !full => {
                let announcers = Announcers::default();
                self.entries.push(Entry { item, expires, putter: None, announcers });
            }
            Some(_) | None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_item_store_is_a_list(ops in prop::collection::vec(op(), 1..120)) {
        fn accept_all(_: &[u8; 32], _: &[u8], _: &[u8; 64]) -> bool {
            true
        }
        let config = Config {
            max_items: 8,
            max_items_per_subnet: 3,
            item_lifetime: Duration::from_secs(200),
            verify: accept_all,
            ..Config::default()
        };
        let (mut store, mut secs) = (store(), 0);
        let mut model = Model { entries: Vec::new(), key: store.key };
        for op in ops {
            let now = Instant::from_secs(secs);
            match op {
                Op::Advance(by) => {
                    secs += by;
                    let now = Instant::from_secs(secs);
                    model.entries.retain(|entry| entry.expires > secs);
                    let all: Vec<_> = store.items.iter().map(|(id, _)| *id).collect();
                    for id in all {
                        store.drop_expired(now, id);
                    }
                    store.sweep.finish(Instant::FAR_FUTURE, config.item_lifetime, store.items.len());
                }
                Op::Put { host: (allocation, network), what, cas } => {
                    let from = SocketAddrV4::new([66 + allocation, 1, network, 1].into(), 1);
                    let terms = Terms { now, from, own_id: OWN_ID, config: &config };
                    let done = put(&mut store, &what.item(), cas, secs, terms);
                    prop_assert_eq!(done, model.put(what.item(), cas, from, secs, &config));
                }
                Op::Restore(what) => {
                    store.restore(now, what.item(), config.item_lifetime, &config);
                    model.restore(what.item(), secs, &config);
                }
            }
            store.check_invariants(&config);
            model.entries.sort_unstable_by_key(|entry| entry.item.id());
            let expected: Vec<_> = model.entries.iter()
                .map(|entry| (&entry.item, Instant::from_secs(entry.expires)))
                .collect();
            prop_assert_eq!(store.iter().collect::<Vec<_>>(), expected);
        }
    }
}
