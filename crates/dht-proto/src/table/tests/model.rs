//! Random sequences of everything that can happen to a table.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Replied {
        id: u16,
        addr: u16,
        rtt: u16,
    },
    Queried {
        id: u16,
        addr: u16,
    },
    Offered {
        id: Option<u16>,
        addr: u16,
    },
    Failed {
        id: Option<u16>,
        addr: u16,
        offline: bool,
    },
    /// All contacts answer or fail, which random addresses seldom make happen.
    Contact {
        index: u8,
        answers: bool,
    },
    Pinged,
    Refreshed,
    Moved {
        id: u16,
    },
    Waited {
        secs: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (id, addr) = (any::<u16>(), 0..2_000_u16);
    prop_oneof![
        8 => (id, addr.clone(), 0..2_000_u16)
            .prop_map(|(id, addr, rtt)| Step::Replied { id, addr, rtt }),
        2 => (id, addr.clone()).prop_map(|(id, addr)| Step::Queried { id, addr }),
        2 => (proptest::option::of(id), addr.clone())
            .prop_map(|(id, addr)| Step::Offered { id, addr }),
        2 => (proptest::option::of(id), addr, any::<bool>())
            .prop_map(|(id, addr, offline)| Step::Failed { id, addr, offline }),
        6 => (any::<u8>(), any::<bool>())
            .prop_map(|(index, answers)| Step::Contact { index, answers }),
        2 => Just(Step::Pinged),
        1 => Just(Step::Refreshed),
        1 => id.prop_map(|id| Step::Moved { id }),
        2 => (0..1_000_u16).prop_map(|secs| Step::Waited { secs }),
    ]
}

/// Few enough ids that they repeat, at all depths.
fn model_id(n: u16) -> NodeId {
    let [a, b] = n.to_be_bytes();
    match a % 4 {
        0 => id(&[b]),
        1 => id(&[0, b]),
        2 => id(&[0, 0, 0, b]),
        _ => id(&[a, b, a, b, a]),
    }
}

/// Local, crowded and spread addresses.
fn model_addr_v4(n: u16) -> SocketAddrV4 {
    let [a, b] = n.to_be_bytes();
    let ip = match n % 4 {
        0 => Ipv4Addr::LOCALHOST,
        1 => Ipv4Addr::new(8, 8, a, b),
        2 => Ipv4Addr::new(9, b, a, 1),
        _ => Ipv4Addr::new(a.wrapping_mul(31), b, 7, 7),
    };
    SocketAddrV4::new(ip, n / 8)
}

fn model_addr_v6(n: u16) -> SocketAddrV6 {
    let ip = match n % 3 {
        0 => Ipv6Addr::LOCALHOST,
        1 => Ipv6Addr::new(0x2600, 1, n / 256, n, 0, 0, 0, 1),
        _ => Ipv6Addr::new(0x2600, n % 128, n / 128, 0, 0, 0, 0, 1),
    };
    SocketAddrV6::new(ip, n / 8, 0, 0)
}

/// A node answers; the verdict must say what became of it.
fn answer<A: Addr>(
    table: &mut Table<A>,
    now: Instant,
    (id, addr): (NodeId, A),
    rtt: u16,
    config: &Config,
) {
    let known = table.contacts().iter().find(|c| c.addr() == addr).map(Contact::id);
    let verdict = table.replied(now, id, addr, Duration::from_millis(rtt.into()), config);
    let listed = table.get(id).is_some_and(|contact| contact.addr() == addr);
    match verdict {
        Verdict::Added => assert!(known.is_none() && listed),
        Verdict::Updated => assert!(known == Some(id) && listed),
        Verdict::Waiting => assert!(!listed && table.unverified().any(|(_, c)| c == addr)),
        Verdict::Refused => assert!(!listed && known.is_none()),
        Verdict::IdChanged => assert!(!listed && known.is_some_and(|old| old != id)),
    }
}

fn run<A: Addr>(steps: &[Step], addr_of: fn(u16) -> A, config: &Config) {
    let mut table = Table::new(id(&[]));
    let mut now = T0;
    let mut stream = stream(30);
    // The oracle: who has ever answered, where, and under which id last.
    let mut answered: BTreeMap<A, NodeId> = BTreeMap::new();
    // And who has ever asked us: it may have opened a way for our queries alone.
    let mut strangers: BTreeSet<A> = BTreeSet::new();
    for &step in steps {
        let before = table.len();
        match step {
            Step::Replied { id, addr, rtt } => {
                let (id, addr) = (model_id(id), addr_of(addr));
                answer(&mut table, now, (id, addr), rtt, config);
                answered.insert(addr, id);
            }
            Step::Queried { id, addr } => {
                strangers.insert(addr_of(addr));
                table.heard_query(now, model_id(id), addr_of(addr), config);
                assert_eq!(table.len(), before);
            }
            Step::Offered { id, addr } => {
                table.offer(now, id.map(model_id), addr_of(addr), config);
                assert_eq!(table.len(), before);
            }
            Step::Failed { id, addr, offline } => {
                let evicted = table.failed(now, id.map(model_id), addr_of(addr), offline, config);
                assert!(!(evicted && offline));
                assert!(table.len() == before || (evicted && table.len() + 1 == before));
            }
            Step::Contact { index, answers } => {
                if let Some(&contact) = table.contacts().get(usize::from(index) % before.max(1)) {
                    let (id, addr) = (contact.id(), contact.addr());
                    if answers {
                        answer(&mut table, now, (id, addr), 50, config);
                    } else if table.failed(now, Some(id), addr, false, config) {
                        assert!(table.get(id).is_none());
                    } else {
                        let fails = table.get(id).unwrap().fails();
                        // The first silence of a doubtful one counts as two.
                        let doubted = contact.fails() == 0 && strangers.contains(&addr);
                        assert!(fails == contact.fails() + 1 || (doubted && fails == 2));
                    }
                }
            }
            Step::Pinged => {
                while table.next_ping(now, config).is_some() {}
                assert!(table.ping_due().is_none_or(|due| due > now));
            }
            Step::Refreshed => {
                while let Some(target) = table.stale_bucket(now, &mut stream, config) {
                    assert_ne!(target.node_id(), table.own_id());
                }
                assert!(table.refresh_due().is_none_or(|due| due > now));
            }
            Step::Moved { id } => table.set_own_id(now, model_id(id), config),
            Step::Waited { secs } => now = now + Duration::from_secs(secs.into()),
        }
        table.check_invariants(config);
        for contact in table.contacts() {
            assert_eq!(answered.get(&contact.addr()), Some(&contact.id()), "only who answered");
        }
    }
    for n in 0..32 {
        let target = model_id(n * 2_048 + n).target();
        assert_eq!(closest_ids(&table, target, 8), closest_by_sorting(&table, target, 8));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_invariants_v4(
        steps in proptest::collection::vec(step(), 1..200),
        k in 1..10_usize,
        extended_buckets: bool,
    ) {
        run(&steps, model_addr_v4, &Config { k, extended_buckets, max_candidates: 12, ..Config::default() });
    }

    #[test]
    fn any_sequence_keeps_the_invariants_v6(
        steps in proptest::collection::vec(step(), 1..200),
        max_per_allocation in 1..10_usize,
    ) {
        run(&steps, model_addr_v6, &Config { max_per_allocation, max_candidates: 12, ..Config::default() });
    }

    #[test]
    fn closest_equals_sorting_everything(
        ids in proptest::collection::vec((any::<[u8; 2]>(), 0..18_usize), 0..300),
        own: [u8; 2],
        target: [u8; 2],
        shift in 0..18_usize,
        n in 0..40_usize,
    ) {
        // Bytes at any depth, so that contacts share prefixes of any length.
        let spread = |bytes: [u8; 2], at: usize| {
            let mut id = [0; ID_LEN];
            id[at..at + 2].copy_from_slice(&bytes);
            NodeId::from_bytes(id)
        };
        let config = Config { k: 300, ..Config::default() };
        let mut table = Table::<SocketAddrV4>::new(spread(own, 0));
        for (i, (bytes, at)) in (0_u32..).zip(ids) {
            let _ = table.replied(T0, spread(bytes, at), Nth::nth(i), RTT, &config);
            if i % 7 == 0 {
                table.failed(T0, None, Nth::nth(i), false, &config);
                table.failed(T0, None, Nth::nth(i), false, &config);
            }
        }
        let target = spread(target, shift).target();
        prop_assert_eq!(closest_ids(&table, target, n), closest_by_sorting(&table, target, n));
    }
}
