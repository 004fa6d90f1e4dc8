//! Who yields to whom.

use super::*;

type C = Contact<SocketAddrV4>;

/// A contact with an id that its address allows or forbids.
fn contact(n: u32, prefix: &[u8], valid: bool, rtt: u16) -> C {
    let addr = SocketAddrV4::nth(n);
    if !valid {
        let contact = C::new(10_000, id(prefix), addr, rtt);
        assert!(!contact.has_valid_id(), "pick another n");
        return contact;
    }
    // Local addresses may have any id.
    let local = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n as u8), 1);
    C::new(10_000, id(prefix), local, rtt)
}

/// A bucket 0 of eight contacts, one in each slot, whose ids are all invalid.
fn spread_bucket(rtt: u16) -> Vec<C> {
    (0..8).map(|n| contact(n, &[0x80 | ((n as u8) << 4)], false, rtt)).collect()
}

/// Who yields in a bucket of a table with id 0.
fn victim(contacts: &[C], newcomer: &C, bucket: usize) -> Option<usize> {
    let (id, addr, rtt) = (newcomer.id(), newcomer.addr(), newcomer.rtt_millis());
    let newcomer = bucket::Newcomer { id, addr, rtt };
    let failing = bucket::most_failing(contacts);
    failing.or_else(|| bucket::victim(contacts, &newcomer, super::id(&[]), bucket))
}

#[test]
fn classify_prefix() {
    // Bucket 0 of a table with id 0: ids are 1xxx.., and the three bits xxx are the slot.
    for n in 0..8 {
        assert_eq!(bucket::slot(id(&[0x80 | (n << 4) | 0xf]), 0, 8), u32::from(n));
    }
    assert_eq!(bucket::slot(id(&[0b0000_0001, 0b0110_0000]), 7, 8), 0b011);
    assert_eq!(bucket::slot(id(&[0b0000_0011, 0b0110_0000]), 6, 8), 0b101);
    // Larger buckets have more slots, and odd sizes are rounded up.
    assert_eq!(bucket::slot(id(&[0b1010_1010, 0b1000_0000]), 0, 128), 0b010_1010);
    assert_eq!(bucket::slot(id(&[0b1101_0111]), 0, 16), 0b1010);
    assert_eq!(bucket::slot(id(&[0b1101_0111]), 0, 20), 0b1_0101);
    assert_eq!(bucket::slot(id(&[0xff]), 0, 1), 0);
    // The last bucket has no bit of its own.
    let last = id(&[0, 0, 0, 0b0000_0001, 0b0100_0000]);
    assert_eq!(bucket::slot(last, BUCKETS - 1, 8), 0b101);
    assert_eq!(bucket::slot(last, BUCKETS - 2, 8), 0b101);
}

#[test]
fn replace_node_impl_failing_contacts_yield_first() {
    let mut contacts = spread_bucket(50);
    contacts[3].failed(10_010);
    contacts[5].failed(10_010);
    contacts[5].failed(10_020);
    let slow_and_invalid = contact(20, &[0xff], false, 5_000);
    assert_eq!(victim(&contacts, &slow_and_invalid, 0), Some(5));
}

#[test]
fn replace_node_impl_crowded_slots_yield_to_empty_ones() {
    let mut contacts = spread_bucket(50);
    // Slot 2 holds two, slot 3 nobody.
    contacts[3] = contact(30, &[0x80 | (2 << 4) | 1], false, 80);
    let newcomer = contact(31, &[0x80 | (3 << 4)], false, 5_000);
    assert_eq!(victim(&contacts, &newcomer, 0), Some(3), "the slower of the two");
    // Not if they have valid ids and the newcomer has not.
    contacts[2] = contact(2, &[0x80 | (2 << 4)], true, 50);
    contacts[3] = contact(3, &[0x80 | (2 << 4) | 1], true, 80);
    assert_eq!(victim(&contacts, &newcomer, 0), None);
    let newcomer = contact(31, &[0x80 | (3 << 4)], true, 5_000);
    assert_eq!(victim(&contacts, &newcomer, 0), Some(3));
}

#[test]
fn replace_node_impl_valid_ids_beat_invalid_ones() {
    let contacts = spread_bucket(50);
    let newcomer = contact(40, &[0x80 | (6 << 4) | 5], true, 5_000);
    assert_eq!(victim(&contacts, &newcomer, 0), Some(6), "in its own slot");
    let mut contacts = contacts;
    contacts[6] = contact(6, &[0x80 | (6 << 4)], true, 5_000);
    let newcomer = contact(40, &[0x80 | (6 << 4) | 5], false, 1);
    assert_eq!(victim(&contacts, &newcomer, 0), None);
}

/// mldht `testRTTPreference`.
#[test]
fn test_rtt_preference() {
    let contacts = spread_bucket(100);
    let newcomer = |rtt| contact(50, &[0x80 | (4 << 4) | 2], false, rtt);
    assert_eq!(victim(&contacts, &newcomer(50), 0), None, "2 times is not enough");
    assert_eq!(victim(&contacts, &newcomer(40), 0), None, "2.5 times is not more");
    assert_eq!(victim(&contacts, &newcomer(39), 0), Some(4));
    let contacts = spread_bucket(40);
    assert_eq!(victim(&contacts, &newcomer(0), 0), None, "both are fast");
}

/// libtorrent `node_entry_comparison`: validity counts before round-trip time.
#[test]
fn node_entry_comparison() {
    let crowd = |valid, rtt| {
        let mut contacts = spread_bucket(50);
        contacts[1] = contact(1, &[0x80], valid, rtt);
        contacts[0] = contact(0, &[0x81], false, 10);
        contacts
    };
    let newcomer = contact(60, &[0x80 | (1 << 4)], true, 10);
    assert_eq!(victim(&crowd(true, 900), &newcomer, 0), Some(0));
    assert_eq!(victim(&crowd(false, 900), &newcomer, 0), Some(1));
}

#[test]
fn replace_node_impl_odd_buckets_compare_with_everybody() {
    // Five contacts in five of eight slots: nobody is crowded.
    let contacts: Vec<_> =
        (0..5).map(|n| contact(n, &[0x80 | ((n as u8) << 4)], false, 100 + n as u16)).collect();
    let newcomer = |rtt| contact(70, &[0xf0], false, rtt);
    assert_eq!(victim(&contacts, &newcomer(90), 0), None);
    assert_eq!(victim(&contacts, &newcomer(30), 0), Some(4));
    assert_eq!(victim(&[], &newcomer(1), 0), None);
}

#[test]
fn a_displaced_contact_waits() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..8 {
        let _ = table.replied(T0, id(&[0x80 | n]), Nth::nth(n.into()), RTT, &config);
    }
    assert_eq!(table.replied(T0, id(&[0xf0]), Nth::nth(9), RTT, &config), Verdict::Added);
    assert_eq!((table.len(), table.candidates_len()), (8, 1));
    table.check_invariants(&config);
}

/// Bucket 0 full of live contacts, one in each slot, so that nobody yields to the next.
fn full_bucket(config: &Config) -> Table<SocketAddrV4> {
    let mut table = Table::new(id(&[]));
    for n in 0..8 {
        let far = id(&[0x80 | (n << 4)]);
        assert_eq!(table.replied(T0, far, Nth::nth(n.into()), RTT, config), Verdict::Added);
    }
    table
}

#[test]
fn no_more_than_two_begin_to_wait_for_a_bucket_within_a_minute() {
    let config = plain();
    let mut table = full_bucket(&config);
    let mut replied = |secs, n: u8| {
        let now = T0 + Duration::from_secs(secs);
        let verdict = table.replied(now, id(&[0x80, n]), Nth::nth(n.into()), RTT, &config);
        table.check_invariants(&config);
        (verdict, table.unverified().any(|(_, addr)| addr == Nth::nth(n.into())))
    };
    for minute in 0..3 {
        let (secs, n) = (60 * minute, 10 + 10 * minute as u8);
        assert_eq!(replied(secs, n), (Verdict::Waiting, true));
        assert_eq!(replied(secs + 1, n + 1), (Verdict::Waiting, true));
        assert_eq!(replied(secs + 2, n + 2), (Verdict::Refused, false), "others are as good");
        assert_eq!(replied(secs + 3, n), (Verdict::Waiting, true), "who waits goes on waiting");
        assert_eq!(replied(secs + 4, n + 3), (Verdict::Refused, false));
    }
    assert_eq!(table.candidates_len(), 4, "the latest");
}

#[test]
fn who_waits_long_enough_keeps_nobody_out_who_is_better() {
    let config = plain();
    let mut table = full_bucket(&config);
    for n in 10..14_u8 {
        let _ = table.replied(T0, id(&[0x80, n]), Nth::nth(n.into()), RTT, &config);
    }
    // Clearly faster than the one in its slot.
    let (fast, faster) = (id(&[0x90, 1]), Duration::from_millis(30));
    assert_eq!(table.replied(T0, fast, Nth::nth(20), faster, &config), Verdict::Added);
    // Or another in the bucket fails to answer.
    assert!(!table.failed(T0, Some(id(&[0xa0])), Nth::nth(2), false, &config));
    assert_eq!(table.replied(T0, id(&[0xb0, 1]), Nth::nth(21), RTT, &config), Verdict::Added);
    table.check_invariants(&config);
}

#[test]
fn neighbours_are_those_of_the_same_slot() {
    let mut stream = stream(7);
    for size in [1, 2, 7, 8, 16, 100, 128] {
        for bucket in [0, 1, 5, 8, 30, 31] {
            let own = random_id(&mut stream);
            let mut random = || bucket::random_target(own, bucket, &mut stream).node_id();
            let mut contacts: Vec<_> =
                (0..size).map(|n| C::new(0, random(), Nth::nth(n), 50)).collect();
            contacts.sort_by_key(|contact| contact.distance(own.target()));
            for newcomer in [random(), random(), contacts[0].id()] {
                let slot = |id| bucket::slot(id, bucket, contacts.len());
                let same: Vec<_> = (0..contacts.len())
                    .filter(|i| slot(contacts[*i].id()) == slot(newcomer))
                    .collect();
                let found: Vec<_> = bucket::neighbours(&contacts, newcomer, own, bucket).collect();
                assert_eq!(found, same, "{size} in bucket {bucket}");
            }
        }
    }
}

#[test]
fn one_contact_per_ip() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let mut reply = |first: u8, addr| table.replied(T0, id(&[first]), v4(addr), RTT, &config);
    assert_eq!(reply(0x80, "8.8.8.8:1"), Verdict::Added);
    assert_eq!(reply(0x40, "8.8.8.8:2"), Verdict::Refused);
    assert_eq!(reply(0x80, "8.8.8.8:1"), Verdict::Updated);
    // In a local network one host may run many nodes.
    for (n, addr) in ["127.0.0.1:1", "127.0.0.1:2", "10.0.0.1:1", "10.0.0.1:2"].iter().enumerate() {
        assert_eq!(reply(0x90 + n as u8, addr), Verdict::Added);
    }
    table.check_invariants(&config);
}

/// Found by the fuzzer: two nodes were left, one of which had moved. The other heard its queries, took
/// itself for offline, and never asked it.
#[test]
fn a_contact_that_moved_is_asked_where_it_asks_from() {
    let config = Config::default();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    let (moved, old, new) = (id(&[1]), Nth::nth(1), Nth::nth(2));
    let _ = table.replied(T0, moved, old, RTT, &config);
    let later = T0 + config.verify_delay;
    for (fails, verdict) in [(0, Verdict::Refused), (1, Verdict::Added)] {
        for _ in 0..fails {
            table.failed(T0, Some(moved), old, false, &config);
        }
        table.heard_query(T0, moved, new, &config);
        assert_eq!(table.candidates_len(), 1);
        assert_eq!(table.replied(later, moved, new, RTT, &config), verdict, "{fails} fails");
        table.check_invariants(&config);
    }
    assert_eq!(table.contacts()[0].addr(), new);
}

#[test]
fn a_node_that_moved_to_another_port_comes_back() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let node = id(&[0x80]);
    let (old, new) = (v4("8.8.8.8:1"), v4("8.8.8.8:2"));
    let _ = table.replied(T0, node, old, RTT, &config);
    assert_eq!(table.replied(T0, node, new, RTT, &config), Verdict::Refused, "id theft");
    assert!(!table.failed(T0, Some(node), old, false, &config));
    assert_eq!(table.replied(T0, node, new, RTT, &config), Verdict::Added);
    assert_eq!((table.len(), table.contacts()[0].addr()), (1, new));
    table.check_invariants(&config);
}

/// libtorrent `compare_ip_cidr`, and the near-IP restriction.
#[test]
fn compare_ip_cidr() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let mut reply = |first: u8, addr| table.replied(T0, id(&[first]), v4(addr), RTT, &config);
    assert_eq!(reply(0x80, "8.8.8.8:1"), Verdict::Added);
    assert_eq!(reply(0x90, "8.8.8.9:1"), Verdict::Refused, "same /24, same bucket");
    assert_eq!(reply(0x90, "8.8.9.8:1"), Verdict::Added, "another /24");
    assert_eq!(reply(0x40, "8.8.8.9:1"), Verdict::Added, "another bucket");
    table.check_invariants(&config);
}

#[test]
fn a_failing_neighbour_yields_its_subnet() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let _ = table.replied(T0, id(&[0x80]), v4("8.8.8.8:1"), RTT, &config);
    table.failed(T0, None, v4("8.8.8.8:1"), false, &config);
    assert_eq!(table.replied(T0, id(&[0x90]), v4("8.8.8.9:1"), RTT, &config), Verdict::Added);
    assert_eq!(ids(&table), [id(&[0x90])]);
}

/// mldht `testImmediateEvictionOnIdMismatch`.
#[test]
fn test_immediate_eviction_on_id_mismatch() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let addr = v4("8.8.8.8:1");
    let _ = table.replied(T0, id(&[0x80]), addr, RTT, &config);
    assert_eq!(table.replied(T0, id(&[0x40]), addr, RTT, &config), Verdict::IdChanged);
    assert!(table.is_empty());
    // A restarted node has a new id too; it is let in at the next answer.
    assert_eq!(table.replied(T0, id(&[0x40]), addr, RTT, &config), Verdict::Added);
}

/// mldht `testTrustedNodes` has a list of trusted networks that pass the limits. Here the
/// networks that nobody else can send from are trusted.
#[test]
fn test_trusted_nodes() {
    let config = plain();
    let mut table = Table::new(id(&[]));
    for n in 0..8 {
        let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7_000 + u16::from(n));
        assert_eq!(table.replied(T0, id(&[0x80 | n << 4]), addr, RTT, &config), Verdict::Added);
    }
    // Their ids count as valid, so that no forged address on the internet replaces them.
    let invalid = contact(80, &[0xf1], false, 1);
    let verdict = table.replied(T0, invalid.id(), invalid.addr(), Duration::ZERO, &config);
    assert_eq!(verdict, Verdict::Waiting);
}

#[test]
fn impossible_nodes_are_refused() {
    let config = Config::default();
    let own = id(&[9]);
    let mut table = Table::new(own);
    assert_eq!(table.replied(T0, own, v4("8.8.8.8:1"), RTT, &config), Verdict::Refused);
    for addr in ["8.8.8.8:0", "0.1.2.3:4", "224.0.0.1:1", "255.255.255.255:1"] {
        assert_eq!(table.replied(T0, id(&[1]), v4(addr), RTT, &config), Verdict::Refused, "{addr}");
        table.offer(T0, None, v4(addr), &config);
        table.heard_query(T0, id(&[1]), v4(addr), &config);
    }
    table.offer(T0, Some(own), v4("8.8.8.8:1"), &config);
    assert_eq!((table.len(), table.candidates_len()), (0, 0));
}

#[test]
fn valid_ids_are_recognised() {
    let config = Config::default();
    let mut stream = stream(7);
    let mut table = Table::new(id(&[]));
    let addr = v4("8.8.8.8:1");
    let valid = bep42::derive(Addr::ip(addr), &mut stream);
    let _ = table.replied(T0, valid, addr, RTT, &config);
    let _ = table.replied(T0, id(&[0x11]), v4("9.9.9.9:1"), RTT, &config);
    assert!(table.get(valid).unwrap().has_valid_id());
    assert!(!table.get(id(&[0x11])).unwrap().has_valid_id());
}

/// Found by the fuzz target `table`: whoever yields may not be the only one in the way.
#[test]
fn a_host_with_a_new_id_does_not_crowd_another_bucket() {
    let config = plain();
    let mut table = Table::new(id(&[]));
    let (old, neighbour) = (v4("8.8.8.1:1"), v4("8.8.8.2:1"));
    assert_eq!(table.replied(T0, id(&[0x80]), old, RTT, &config), Verdict::Added);
    assert_eq!(table.replied(T0, id(&[0x40]), neighbour, RTT, &config), Verdict::Added);
    assert!(!table.failed(T0, None, old, false, &config));
    let new = old.with_port(2);
    assert_eq!(table.replied(T0, id(&[0x41]), new, RTT, &config), Verdict::Refused);
    table.check_invariants(&config);
    assert!(table.get(id(&[0x40])).is_some() && table.len() == 1);
}
