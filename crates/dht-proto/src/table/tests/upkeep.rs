//! Pings, failures, refreshes, and the clock.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: u32) -> Instant {
    T0 + MINUTE * minutes
}

/// Asks everybody who is due by `now`, as a runtime would that wakes only when told to.
fn pings(
    table: &mut Table<SocketAddrV4>,
    now: Instant,
    config: &Config,
) -> Vec<(Instant, SocketAddrV4)> {
    let mut sent = Vec::new();
    while let Some(due) = table.ping_due().filter(|due| *due <= now) {
        match table.next_ping(due, config) {
            Some((_, addr)) => sent.push((due, addr)),
            None => assert!(table.ping_due().is_none_or(|next| next > due), "no progress"),
        }
    }
    table.check_invariants(config);
    sent
}

#[test]
fn silent_contacts_are_pinged_one_at_a_time() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    for n in 0..3_u8 {
        let now = T0 + Duration::from_secs(n.into());
        let _ = table.replied(now, id(&[n + 1]), Nth::nth(n.into()), RTT, &config);
    }
    let (early, late) = (MINUTE * 15 / 2, MINUTE * 25 / 2 + Duration::from_secs(15));
    assert!(table.ping_due().unwrap() >= T0 + early);
    assert_eq!(table.next_ping(T0 + early - Duration::from_secs(1), &config), None);
    let sent = pings(&mut table, T0 + late, &config);
    assert!(sent.windows(2).all(|two| two[1].0 >= two[0].0 + Duration::from_secs(5)), "{sent:?}");
    for n in 0..3 {
        let to = |(_, addr): &&(Instant, SocketAddrV4)| *addr == SocketAddrV4::nth(n);
        let times: Vec<Instant> = sent.iter().filter(to).map(|(at, _)| *at).collect();
        assert!(times[0] >= T0 + early, "give or take a quarter: {times:?}");
        let apart = times.windows(2).all(|two| two[1] >= two[0] + MINUTE);
        assert!(apart, "asked once a minute at most: {times:?}");
    }
}

#[test]
fn an_answer_postpones_the_ping() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let addr = SocketAddrV4::nth(1);
    let _ = table.replied(T0, id(&[1]), addr, RTT, &config);
    let _ = table.replied(at(5), id(&[1]), addr, Duration::from_millis(400), &config);
    assert_eq!(table.contacts()[0].rtt(), Duration::from_millis(200), "two thirds old");
    assert_eq!(table.contacts()[0].last_heard(), at(5));
    let early = at(5) + MINUTE * 15 / 2;
    assert_eq!(table.next_ping(early - Duration::from_secs(1), &config), None);
    let due = table.ping_due().unwrap();
    assert!((early..=at(5) + MINUTE * 25 / 2).contains(&due), "{due:?}");
}

/// BEP 5: a query keeps a contact good; but it is forged easily, so only for one period.
#[test]
fn one_query_stands_in_for_one_ping() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    let addr = SocketAddrV4::nth(1);
    let _ = table.replied(T0, id(&[1]), addr, RTT, &config);
    for minute in 5..15 {
        table.heard_query(at(minute), id(&[1]), addr, &config);
    }
    assert_eq!(table.candidates_len(), 0);
    assert_eq!(table.next_ping(at(12), &config), None);
    assert!(table.next_ping(at(18), &config).is_some());
    table.heard_query(at(19), id(&[1]), addr, &config);
    assert_eq!(table.contacts()[0].last_heard(), at(5), "a query answers no ping");
}

/// Pauses differ, so that the next one may end sooner.
#[test]
fn a_query_may_bring_a_ping_forward() {
    let config = Config::default();
    let mut sooner = 0;
    for n in 0..50 {
        let mut table = Table::new(id(&[]));
        let addr = SocketAddrV4::nth(n.into());
        let _ = table.replied(T0, id(&[n + 1]), addr, RTT, &config);
        let due = table.ping_due();
        table.heard_query(T0 + Duration::from_secs(5), id(&[n + 1]), addr, &config);
        table.check_invariants(&config);
        sooner += u32::from(table.ping_due() < due);
    }
    assert!(sooner > 10, "{sooner}");
}

#[test]
fn failing_contacts_are_asked_ever_less_often() {
    let config = Config { ping_interval: Duration::ZERO, ..Config::default() };
    let mut table = Table::new(id(&[]));
    let addr = SocketAddrV4::nth(1);
    let _ = table.replied(T0, id(&[1]), addr, RTT, &config);
    let mut asked = Vec::new();
    for _ in 0..config.max_fails {
        let due = table.ping_due().unwrap();
        assert!(table.next_ping(due, &config).is_some());
        assert!(table.next_ping(due, &config).is_none());
        asked.push(due.since(T0).as_secs() / 60);
        let evicted = table.failed(due, Some(id(&[1])), addr, false, &config);
        table.check_invariants(&config);
        assert_eq!(evicted, asked.len() == 5);
        // Drains spurious wake-ups.
        let _ = table.next_ping(table.ping_due().unwrap_or(due), &Config { ..config.clone() });
    }
    assert!(table.is_empty());
    assert!((7..=12).contains(&asked[0]), "{asked:?}");
    let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted() && gaps[3] >= 8 * gaps[0] / 2, "{asked:?}");
}

#[test]
fn questionable_contacts_are_not_handed_out() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(20, &config);
    let contact = table.contacts()[0];
    let target = contact.id().target();
    assert!(!table.failed(T0, Some(contact.id()), contact.addr(), false, &config));
    assert_eq!(closest_ids(&table, target, 1), [contact.id()]);
    assert!(!table.failed(T0, Some(contact.id()), contact.addr(), false, &config));
    assert_ne!(closest_ids(&table, target, 1), [contact.id()]);
    assert_eq!(closest_ids(&table, target, 20).len(), 19);
    let _ = table.replied(T0, contact.id(), contact.addr(), RTT, &config);
    assert_eq!(closest_ids(&table, target, 1), [contact.id()], "an answer makes good");
}

#[test]
fn offline_nobody_is_evicted() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(100, &config);
    table.offer(T0, None, v4("9.9.9.9:9"), &config);
    let before = ids(&table);
    for hour in 0..72 {
        let now = at(hour * 60);
        for (_, addr) in pings(&mut table, now, &config) {
            assert!(!table.failed(now, None, addr, true, &config));
        }
    }
    assert_eq!(ids(&table), before);
    assert!(table.contacts().iter().all(|contact| contact.fails() == 0));
    // Nobody was forgotten over it: each had its turn in the last hours.
    let mut last: Vec<_> = pings(&mut table, at(73 * 60), &config);
    last.sort_by_key(|&(_, addr)| addr);
    last.dedup_by_key(|&mut (_, addr)| addr);
    assert_eq!(last.len(), 100);
}

/// mldht `testReplacementPings`: those who wait for the place of a dead contact get it if they
/// answered lately, and are asked first if they did not.
#[test]
fn test_replacement_pings() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..8 {
        let _ = table.replied(T0, id(&[0x80 | n << 4]), Nth::nth(n.into()), RTT, &config);
    }
    let (waiting, addr) = (id(&[0x81]), SocketAddrV4::nth(8));
    assert_eq!(table.replied(T0, waiting, addr, RTT, &config), Verdict::Waiting);
    let later = at(12);
    for n in 0..8 {
        let _ = table.replied(later, id(&[0x80 | n << 4]), Nth::nth(n.into()), RTT, &config);
    }
    let dead = (id(&[0xf0]), SocketAddrV4::nth(7));
    assert!(!table.failed(later, Some(dead.0), dead.1, false, &config));
    assert!(table.ping_due().unwrap() <= later);
    assert_eq!(table.next_ping(later, &config), Some((Some(waiting), addr)));
    assert_eq!(table.replied(later, waiting, addr, RTT, &config), Verdict::Added);
    assert!(table.get(dead.0).is_none() && table.get(waiting).is_some());
    table.check_invariants(&config);
}

#[test]
fn strangers_are_verified_after_ninety_seconds() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    for n in 0..config.k as u8 {
        let (contact, addr) = (id(&[0x40 + n]), SocketAddrV4::nth(100 + u32::from(n)));
        assert_eq!(table.replied(T0, contact, addr, RTT, &config), Verdict::Added);
    }
    let (stranger, addr) = (id(&[0x80]), SocketAddrV4::nth(1));
    table.heard_query(T0, stranger, addr, &config);
    table.heard_query(T0 + MINUTE, stranger, addr, &config);
    assert_eq!((table.len(), table.candidates_len()), (config.k, 1));
    assert!(!closest_ids(&table, stranger.target(), 8).contains(&stranger), "never handed out");
    let due = T0 + Duration::from_secs(90);
    assert_eq!(table.ping_due(), Some(due));
    assert_eq!(table.next_ping(T0 + Duration::from_secs(89), &config), None);
    assert_eq!(table.next_ping(due, &config), Some((Some(stranger), addr)));
    assert_eq!(table.next_ping(due, &config), None, "asked already");
    assert_eq!(table.replied(due, stranger, addr, RTT, &config), Verdict::Added);
    assert_eq!((table.len(), table.candidates_len()), (config.k + 1, 0));
}

/// A fresh network, or one on a single machine, must not wait for firewalls that are not there.
#[test]
fn strangers_are_verified_at_once_where_nobody_is_known_or_near() {
    let config = Config::default();
    let mut table = Table::new(id(&[]));
    table.heard_query(T0, id(&[0x80]), SocketAddrV4::nth(1), &config);
    assert_eq!(table.next_ping(T0, &config), Some((Some(id(&[0x80])), SocketAddrV4::nth(1))));
    for n in 0..config.k as u8 {
        let (contact, addr) = (id(&[0x40 + n]), SocketAddrV4::nth(100 + u32::from(n)));
        table.replied(T0, contact, addr, RTT, &config);
    }
    let neighbour = v4("127.0.0.9:6881");
    table.heard_query(T0, id(&[0x81]), neighbour, &config);
    assert_eq!(table.next_ping(T0, &config), None, "the first ping has just left");
    assert_eq!(table.ping_due(), Some(T0 + HURRIED_PING_INTERVAL));
}

#[test]
fn candidates_that_do_not_answer_are_forgotten() {
    let config = Config::default();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    table.offer(T0, None, Nth::nth(1), &config);
    assert_eq!(table.next_ping(T0, &config), Some((None, Nth::nth(1))));
    assert!(!table.failed(T0, None, Nth::nth(1), false, &config));
    assert_eq!(table.candidates_len(), 0);
    // Even if nobody reports the failure.
    table.offer(at(1), None, Nth::nth(2), &config);
    assert_eq!(pings(&mut table, at(60), &config).len(), 2);
    assert_eq!((table.candidates_len(), table.ping_due()), (0, None));
}

#[test]
fn nobody_is_invited_to_a_full_bucket() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..8 {
        let _ = table.replied(T0, id(&[0x80 | n << 4]), Nth::nth(n.into()), RTT, &config);
    }
    table.offer(T0, Some(id(&[0xff])), Nth::nth(9), &config);
    table.heard_query(T0, id(&[0xff]), Nth::nth(9), &config);
    assert_eq!(table.candidates_len(), 0);
    table.offer(T0, Some(id(&[0x40])), Nth::nth(9), &config);
    assert_eq!(table.candidates_len(), 1);
}

#[test]
fn stale_buckets_are_refreshed_once_per_period() {
    let config = Config::default();
    let mut table = filled::<SocketAddrV4>(150, &config);
    let mut stream = stream(8);
    assert!(table.stale_bucket(T0, &mut stream, &config).is_none(), "all have news");
    let last = (0..BUCKETS).rposition(|i| table.bucket(i).len() >= config.k).unwrap();
    let room = |i: &usize| table.bucket(*i).len() < bucket::capacity(*i, &config);
    let with_room: Vec<_> = (0..=last).filter(room).collect();
    // Within a quarter of the period, each at a moment of its own.
    let mut moments = Vec::new();
    let mut targets = Vec::new();
    while let Some(due) = table.refresh_due().filter(|due| *due < at(20)) {
        assert!((at(11)..=at(19)).contains(&due), "{due:?}");
        moments.push(due);
        let target = table.stale_bucket(due, &mut stream, &config).unwrap();
        targets.push(bucket::index(table.own_id(), target.node_id()));
    }
    // Those with room before the neighbourhood, each once, each hit by its target.
    targets.sort_unstable();
    assert_eq!(targets, with_room);
    assert!(targets.len() > 2, "{targets:?}");
    moments.dedup();
    assert_eq!(moments.len(), targets.len(), "{moments:?}");
}

#[test]
fn a_lost_contact_makes_its_bucket_stale() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..16_u8 {
        let first = if n < 8 { 0x80 | n << 4 } else { 0x40 | (n - 8) << 3 };
        let _ = table.replied(T0, id(&[first]), Nth::nth(n.into()), RTT, &config);
    }
    let mut stream = stream(9);
    assert!(table.stale_bucket(at(20), &mut stream, &config).is_none());
    assert_eq!(table.refresh_due(), None, "both buckets are full");
    for _ in 0..config.max_fails {
        table.failed(at(20), None, Nth::nth(0), false, &config);
    }
    assert_eq!(table.len(), 15);
    assert!(table.refresh_due().unwrap() <= at(20));
    let target = table.stale_bucket(at(20), &mut stream, &config).unwrap();
    assert_eq!(bucket::index(table.own_id(), target.node_id()), 0);
}

/// Found by the swarm: in a network of forty nodes, Sybils with them, 29 buckets were refreshed again and
/// again, most of which could hold nobody.
#[test]
fn liars_near_us_make_no_buckets_worth_a_refresh() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..12_u8 {
        let far = id(&[if n < 6 { 0x80 | n << 4 } else { 0x40 | n }]);
        let _ = table.replied(T0, far, Nth::nth(n.into()), RTT, &config);
    }
    let refreshed = |table: &mut Table<SocketAddrV4>| {
        let (mut stream, own) = (stream(12), table.own_id());
        table.explore(T0, &config);
        let targets = core::iter::from_fn(|| table.stale_bucket(T0, &mut stream, &config));
        targets.map(|target| bucket::index(own, target.node_id())).collect::<Vec<_>>()
    };
    assert_eq!(refreshed(&mut table), [0]);
    let liars = [id(&[0, 0, 0, 0x10]), id(&[0, 0, 0, 0x20])];
    for (n, liar) in (20..).zip(liars) {
        let _ = table.replied(T0, liar, Nth::nth(n), RTT, &config);
    }
    assert_eq!(table.len(), 14);
    assert_eq!(refreshed(&mut table), [0, 1]);
    // Found by the fuzzer: the same where there are fewer than k, liars with them.
    for n in 2..12 {
        for _ in 0..config.max_fails {
            table.failed(T0, None, Nth::nth(n), false, &config);
        }
    }
    assert_eq!(table.len(), 4);
    assert_eq!(refreshed(&mut table), [0]);
}

#[test]
fn random_targets_fall_in_their_bucket() {
    let mut stream = stream(10);
    for bucket in 0..BUCKETS {
        for _ in 0..50 {
            let own = random_id(&mut stream);
            let target = bucket::random_target(own, bucket, &mut stream);
            assert_eq!(bucket::index(own, target.node_id()), bucket);
        }
    }
}

#[test]
fn no_instant_overflows() {
    let config = Config {
        ping_after: Duration::MAX,
        verify_delay: Duration::MAX,
        refresh_after: Duration::MAX,
        ..Config::default()
    };
    for config in [config, Config::default()] {
        for now in [Instant::ZERO, T0, Instant::from_secs(1 << 29), Instant::FAR_FUTURE] {
            let mut table = filled::<SocketAddrV4>(200, &config);
            let mut stream = stream(11);
            let contact = table.contacts()[0];
            for later in [now, T0, now] {
                let _ = table.replied(later, contact.id(), contact.addr(), Duration::MAX, &config);
                table.heard_query(later, id(&[1]), Nth::nth(9_999), &config);
                table.failed(later, None, table.contacts()[1].addr(), false, &config);
                // Both end, whatever the time is.
                for _ in 0..10_000 {
                    if table.next_ping(later, &config).is_none() {
                        break;
                    }
                }
                assert!(table.next_ping(later, &config).is_none());
                assert!(table.ping_due().is_none_or(|due| due > later));
                while table.stale_bucket(later, &mut stream, &config).is_some() {}
                assert!(table.refresh_due().is_none_or(|due| due > later));
            }
        }
    }
}

/// Lookups for what we should store end at our nearest neighbours, so those are verified quickly
/// although the table knows enough others.
#[test]
fn neighbours_are_verified_before_others() {
    let config = Config { extended_buckets: true, ..Config::default() };
    let mut table = filled::<SocketAddrV4>(60, &config);
    let now = at(1);
    while table.next_ping(now, &config).is_some() {}
    let own = *table.own_id().as_bytes();
    for n in 0..5_u8 {
        let (mut far, mut near) = (own, own);
        far[0] ^= 0x80 | n;
        near[2] ^= n + 1;
        let addr = |first| SocketAddrV4::nth(first + u32::from(n));
        table.offer(now, Some(NodeId::from_bytes(far)), addr(500), &config);
        table.offer(now, Some(NodeId::from_bytes(near)), addr(600), &config);
    }
    let sent = pings(&mut table, now + Duration::from_secs(1), &config);
    let near: Vec<_> = sent.iter().map(|(_, addr)| *addr).collect();
    assert!((0..5).all(|n| near.contains(&SocketAddrV4::nth(600 + n))), "{near:?}");
    assert!(near.len() <= 6, "the others wait their turn: {near:?}");
}

/// A stranger that would be one of our k nearest is asked at once, not when the hole in its firewall
/// has closed; but then it is asked again after that, and one silence is enough.
#[test]
fn a_near_stranger_is_verified_at_once_and_doubted() {
    let config = plain();
    for silent in [false, true] {
        let mut table = Table::<SocketAddrV4>::new(id(&[]));
        for n in 0..8 {
            let _ = table.replied(T0, id(&[0x40, n as u8]), Nth::nth(n), RTT, &config);
        }
        let (far, near) = (id(&[0x80]), id(&[0x20]));
        let addr = SocketAddrV4::nth(50);
        table.heard_query(T0, far, Nth::nth(51), &config);
        assert_eq!(table.next_ping(T0, &config), None, "the far one waits");
        table.heard_query(T0, near, addr, &config);
        assert_eq!(table.next_ping(T0, &config), Some((Some(near), addr)));
        assert_eq!(table.replied(T0, near, addr, RTT, &config), Verdict::Added);
        table.check_invariants(&config);
        assert!(table.get(near).is_some_and(Contact::is_good), "handed out from now on");
        // Whatever it answers while its own query may have let us in proves nothing.
        let soon = T0 + Duration::from_secs(5);
        let _ = table.replied(soon, near, addr, RTT, &config);
        let later = soon + config.verify_delay;
        let mut pinged = Vec::new();
        let mut now = T0;
        while now <= later + Duration::from_secs(20) {
            pinged.extend(table.next_ping(now, &config).filter(|ping| ping.0 == Some(near)));
            now = now + Duration::from_secs(1);
        }
        assert_eq!(pinged, [(Some(near), addr)], "asked again, once");
        if silent {
            table.failed(now, Some(near), addr, false, &config);
            assert!(!table.get(near).is_some_and(Contact::is_good), "not handed out any more");
        } else {
            let _ = table.replied(now, near, addr, RTT, &config);
            table.failed(now, Some(near), addr, false, &config);
            assert!(table.get(near).is_some_and(Contact::is_good), "a contact like others now");
        }
        table.check_invariants(&config);
    }
}

/// However many strangers wait, one of our k nearest finds a place, and its turn comes first.
#[test]
fn near_strangers_take_the_places_of_far_ones() {
    let config = plain();
    let mut table = Table::<SocketAddrV4>::new(id(&[]));
    for n in 0..8 {
        let _ = table.replied(T0, id(&[0x40, n as u8]), Nth::nth(n), RTT, &config);
    }
    for n in 0..100 {
        table.heard_query(T0, id(&[0x80, n as u8]), Nth::nth(100 + n), &config);
    }
    assert_eq!(table.candidates_len(), config.max_candidates / 2);
    let near = id(&[0x20]);
    table.heard_query(T0, near, Nth::nth(50), &config);
    assert_eq!(table.candidates_len(), config.max_candidates / 2);
    table.check_invariants(&config);
    let later = T0 + config.verify_delay;
    assert_eq!(table.next_ping(later, &config).and_then(|ping| ping.0), Some(near));
    table.heard_query(T0, id(&[0x81]), Nth::nth(51), &config);
    let listed: Vec<_> = table.unverified().filter_map(|(id, _)| id).collect();
    assert!(listed.contains(&near) && !listed.contains(&id(&[0x81])), "far ones displace nobody");
}
