//! What an attacker can do to the table.

use super::*;

/// A /44 holds an address for every id, so on IPv6 the number of contacts must be limited by
/// allocation.
fn attacker_v6(n: u64, prefix: u32) -> SocketAddrV6 {
    // Every address in a /64 of its own; `prefix` bits are the attacker's allocation.
    let high = (0x2a00_1234_5670_0000_u64 >> (64 - prefix) << (64 - prefix)) | n;
    SocketAddrV6::new(Ipv6Addr::from(u128::from(high) << 64 | 1), 6881, 0, 0)
}

#[test]
fn a_v6_slash_44_gets_no_more_than_its_share() {
    let config = Config::default();
    let mut stream = stream(20);
    let mut table = Table::new(random_id(&mut stream));
    for n in 0..5_000 {
        // Ids are valid: the attacker computes them for its addresses.
        let addr = attacker_v6((n * 0x33) & 0xf_ffff, 44);
        let id = bep42::derive(Addr::ip(addr), &mut stream);
        let _ = table.replied(T0, id, addr, Duration::from_millis(1), &config);
    }
    table.check_invariants(&config);
    assert_eq!(table.len(), config.max_per_allocation);
    let in_48 = |c: &Contact<SocketAddrV6>| c.addr().subnet() >> 16;
    for contact in table.contacts() {
        let same = table.contacts().iter().filter(|c| in_48(c) == in_48(contact)).count();
        assert!(same <= config.max_per_allocation / 4);
    }
    assert!(table.candidates_len() <= config.max_per_allocation / 4);
    // There is room for the others.
    for n in 0..1_000 {
        let _ = table.replied(T0, random_id(&mut stream), Nth::nth(n), RTT, &config);
    }
    assert!(table.len() > 200, "{}", table.len());
}

#[test]
fn a_v4_slash_24_gets_one_contact_per_bucket() {
    let config = Config::default();
    let mut stream = stream(21);
    let mut table = Table::new(random_id(&mut stream));
    for n in 0..10_000_u32 {
        let addr = SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, n as u8), 1_000 + (n / 256) as u16);
        let _ = table.replied(T0, random_id(&mut stream), addr, RTT, &config);
        table.heard_query(T0, random_id(&mut stream), addr, &config);
        table.offer(T0, Some(random_id(&mut stream)), addr, &config);
    }
    table.check_invariants(&config);
    assert!(table.len() <= table.depth());
    assert!(table.candidates_len() <= 1);
}

/// literature: 10^6 spoofed queries from 10^5 addresses change nobody among the verified contacts
/// (a tenth of them here).
#[test]
fn table_poisoning() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(2_000, &config);
    let before = ids(&table);
    let addrs: Vec<_> = table.contacts().iter().map(Contact::addr).collect();
    let mut stream = stream(22);
    for n in 0..100_000_u32 {
        let now = T0 + Duration::from_millis(n.into());
        let addr = SocketAddrV4::nth(100_000 + stream.below(100_000) as u32);
        table.heard_query(now, random_id(&mut stream), addr, &config);
        // Contacts' own addresses and ids are forged too.
        let contact = table.contacts()[stream.below(before.len() as u64) as usize];
        table.heard_query(now, random_id(&mut stream), contact.addr(), &config);
        table.heard_query(now, contact.id(), addr, &config);
        assert!(table.candidates_len() <= config.max_candidates);
    }
    table.check_invariants(&config);
    assert_eq!(ids(&table), before);
    assert!(table.contacts().iter().map(Contact::addr).eq(addrs));
    assert!(table.memory() <= Table::<SocketAddrV4>::memory_ceiling(&config));
}

/// An attacker whose nodes all answer, fast and with invalid ids, meets a table of contacts that
/// answer too: it gets next to nothing.
#[test]
fn live_contacts_are_not_flushed_out() {
    let config = Config::default();
    let mut stream = stream(23);
    let mut table = Table::new(random_id(&mut stream));
    for n in 0..5_000 {
        let addr = SocketAddrV4::nth(n);
        let id = bep42::derive(Addr::ip(addr), &mut stream);
        let _ = table.replied(T0, id, addr, Duration::from_millis(90), &config);
    }
    let before = ids(&table);
    for n in 5_000..15_000 {
        let _ = table.replied(T0, random_id(&mut stream), Nth::nth(n), Duration::ZERO, &config);
    }
    table.check_invariants(&config);
    let kept = before.iter().filter(|id| table.get(**id).is_some()).count();
    assert_eq!(kept, before.len());
}

/// libtorrent issues 792 and 6992: entries of 0.0.0.0/8 and the like.
#[test]
fn bogus_addresses_never_enter() {
    let config = Config::default();
    let mut stream = stream(24);
    let mut table = Table::new(random_id(&mut stream));
    for n in 0..10_000 {
        let [_, b, c, d] = (n * 7919_u32).to_be_bytes();
        for a in [0, 224, 239, 240, 255] {
            let addr = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), 1 + n as u16);
            let id = random_id(&mut stream);
            table.offer(T0, Some(id), addr, &config);
            table.heard_query(T0, id, addr, &config);
            assert_eq!(table.replied(T0, id, addr, RTT, &config), Verdict::Refused);
        }
    }
    assert_eq!((table.len(), table.candidates_len()), (0, 0));
}

/// Strangers fill their half of the list and no more; those who were recommended by a user or
/// answered a query still find a place.
#[test]
fn strangers_do_not_keep_others_out() {
    let config = Config::default();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    let mut stream = stream(25);
    for n in 0..1_000 {
        table.heard_query(T0, random_id(&mut stream), Nth::nth(n), &config);
    }
    assert_eq!(table.candidates_len(), 32);
    for n in 1_000..2_000 {
        table.offer(T0, None, Nth::nth(n), &config);
    }
    assert_eq!(table.candidates_len(), 64);
    assert!(table.unverified().all(|(_, addr)| addr >= SocketAddrV4::nth(1_000)));
    table.check_invariants(&config);
}
