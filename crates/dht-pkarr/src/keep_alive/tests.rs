use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::Keypair;

const START: u64 = 1_700_000_000;
const HOUR: u64 = 3_600;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

fn key(number: u16) -> PublicKey {
    let mut secret = [0; 32];
    secret[..2].copy_from_slice(&number.to_be_bytes());
    Keypair::from_secret(&secret).public_key()
}

fn keep_alive() -> KeepAlive {
    KeepAlive::new(KeepAliveConfig::default(), &Seed::from_bytes([3; 32]))
}

/// One key, whose packet is being published.
fn one() -> (KeepAlive, Handed) {
    let mut keep_alive = keep_alive();
    keep_alive.insert(at(0), key(0), Status::default()).unwrap();
    let handed = publishes(&mut keep_alive, 0);
    (keep_alive, handed)
}

/// The packet of the one key is to be published.
fn publishes(keep_alive: &mut KeepAlive, secs: u64) -> Handed {
    match keep_alive.poll(at(secs)) {
        Some(Action::Publish(handed)) if handed.key() == key(0) => handed,
        other => panic!("{other:?}"),
    }
}

/// Its copies are to be counted.
fn verifies(keep_alive: &mut KeepAlive, secs: u64) -> Handed {
    match keep_alive.poll(at(secs)) {
        Some(Action::Verify(handed)) if handed.key() == key(0) => handed,
        other => panic!("{other:?}"),
    }
}

/// Seconds until the next thing is due.
fn wait(keep_alive: &KeepAlive) -> u64 {
    keep_alive.poll_timeout().unwrap().as_secs() - START
}

#[test]
fn published_counted_published() {
    let (mut keep_alive, handed) = one();
    assert_eq!((keep_alive.poll(at(1)), keep_alive.poll_timeout()), (None, None), "one at a time");
    keep_alive.handle_published(at(5), handed, 8);
    let counted = wait(&keep_alive);
    assert!((5 + 1_050..=5 + 1_200).contains(&counted), "{counted}");
    assert_eq!(keep_alive.poll(at(counted)), None, "not a microsecond too early");
    let handed = verifies(&mut keep_alive, counted + 1);
    keep_alive.handle_verified(at(counted + 3), handed, 8);
    let next = wait(&keep_alive);
    assert!((5 + 3_150..=5 + 3_600).contains(&next), "{next}");
    publishes(&mut keep_alive, next + 1);
    let expected = Status { published: Some(at(5)), stored: 8, verified: Some(8), failures: 0 };
    assert_eq!(keep_alive.status(&key(0)), Some(&expected));
}

#[test]
fn too_few_copies_are_topped_up_at_once() {
    let (mut keep_alive, handed) = one();
    keep_alive.handle_published(at(5), handed, 9);
    let counted = wait(&keep_alive) + 1;
    let handed = verifies(&mut keep_alive, counted);
    keep_alive.handle_verified(at(counted), handed, 5);
    publishes(&mut keep_alive, counted);
}

#[test]
fn failures_are_retried_with_growing_pauses() {
    let (mut keep_alive, mut handed) = one();
    let (mut now, mut pauses) = (0, Vec::new());
    for round in 0..10 {
        if round % 2 == 0 {
            keep_alive.handle_failed(at(now), handed);
        } else {
            keep_alive.handle_published(at(now), handed, 3);
        }
        let due = wait(&keep_alive) + 1;
        pauses.push(due - now);
        now = due;
        handed = publishes(&mut keep_alive, now);
    }
    for (pause, full) in pauses.iter().zip([30, 60, 120, 240, 480, 960, 1_200, 1_200]) {
        assert!((full * 7 / 8..=full + 1).contains(pause), "{pauses:?}");
    }
    assert_eq!(keep_alive.status(&key(0)).unwrap().failures, 10);
    keep_alive.handle_published(at(now), handed, 8);
    assert_eq!(keep_alive.status(&key(0)).unwrap().failures, 0);
}

#[test]
fn what_cannot_be_counted_is_published() {
    let (mut keep_alive, handed) = one();
    keep_alive.handle_published(at(0), handed, 8);
    let now = wait(&keep_alive) + 1;
    let handed = verifies(&mut keep_alive, now);
    keep_alive.handle_failed(at(now), handed);
    let due = wait(&keep_alive) + 1;
    assert!(due - now <= 31);
    publishes(&mut keep_alive, due);
}

#[test]
fn stale_reports_change_nothing() {
    let (mut keep_alive, handed) = one();
    keep_alive.handle_verified(at(0), handed, 0);
    assert_eq!(keep_alive.in_flight(), 1);
    keep_alive.handle_published(at(0), handed, 8);
    let (status, due) = (*keep_alive.status(&key(0)).unwrap(), keep_alive.poll_timeout());
    keep_alive.handle_published(at(9), handed, 0);
    keep_alive.handle_failed(at(9), handed);
    assert_eq!((keep_alive.status(&key(0)), keep_alive.poll_timeout()), (Some(&status), due));
    assert_eq!(keep_alive.remove(&key(0)), Some(status));
    keep_alive.handle_published(at(9), handed, 8);
    assert_eq!((keep_alive.poll_timeout(), keep_alive.in_flight()), (None, 0));
}

#[test]
fn new_packets_of_a_key_take_turns_and_are_not_taken_for_each_other() {
    let (mut keep_alive, former) = one();
    let mut begun = Vec::new();
    for _ in 0..1_000 {
        keep_alive.insert(at(0), key(0), Status::default()).unwrap();
        begun.extend(keep_alive.poll(at(0)));
    }
    assert_eq!((begun.len(), keep_alive.in_flight()), (15, 16));
    assert_eq!((keep_alive.poll(at(0)), keep_alive.poll_timeout()), (None, None));
    // The former packet is published: that makes room, and says nothing of the last one.
    keep_alive.handle_published(at(5), former, 8);
    assert_eq!(keep_alive.status(&key(0)), Some(&Status::default()));
    let last = publishes(&mut keep_alive, 5);
    for action in begun {
        let Action::Publish(handed) = action else { panic!("{action:?}") };
        assert!(!keep_alive.is_current(handed));
        keep_alive.handle_published(at(6), handed, 8);
        assert_eq!(keep_alive.status(&key(0)).unwrap().published, None);
    }
    assert!(keep_alive.is_current(last) && keep_alive.in_flight() == 1);
    keep_alive.handle_published(at(7), last, 8);
    assert_eq!(keep_alive.status(&key(0)).unwrap().published, Some(at(7)));
    assert_eq!(keep_alive.in_flight(), 0);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut keep_alive = keep_alive();
    let known = |published, failures| Status { published, failures, ..Status::default() };
    let cases = [
        (known(Some(at(0)), 0), 3_150..=3_600),
        (known(Some(at(3_000)), 0), 6_150..=6_600),
        // Overdue, never published, in trouble, or published by another clock: at once.
        (known(Some(Timestamp::UNIX_EPOCH), 0), 3_100..=3_100),
        (known(None, 0), 3_100..=3_100),
        (known(Some(at(3_000)), 2), 3_100..=3_100),
        (known(Some(at(9_000)), 0), 3_100..=3_100),
    ];
    for (status, expected) in cases {
        keep_alive.insert(at(3_100), key(0), status).unwrap();
        let due = wait(&keep_alive);
        assert!(expected.contains(&due), "{status:?}: {due}");
    }
    assert_eq!(keep_alive.statuses().count(), 1);
}

#[test]
fn keys_and_work_are_bounded() {
    let mut config = KeepAliveConfig::default();
    (config.max_keys, config.max_in_flight) = (3, 2);
    let mut keep_alive = KeepAlive::new(config, &Seed::from_bytes([3; 32]));
    for number in 0..3 {
        keep_alive.insert(at(0), key(number), Status::default()).unwrap();
    }
    assert_eq!(keep_alive.insert(at(0), key(3), Status::default()), Err(TooManyKeys));
    keep_alive.insert(at(0), key(2), Status::default()).unwrap();
    let busy = keep_alive.poll(at(0)).unwrap();
    assert!(keep_alive.poll(at(0)).is_some());
    assert_eq!((keep_alive.poll(at(0)), keep_alive.poll_timeout()), (None, None));
    // Whoever is let die while that goes on takes up a place until it ends.
    let Action::Publish(handed) = busy else { panic!("{busy:?}") };
    keep_alive.remove(&handed.key());
    assert_eq!(keep_alive.poll(at(0)), None);
    keep_alive.handle_failed(at(0), handed);
    assert!(keep_alive.poll(at(0)).is_some());
}

#[test]
fn a_clock_that_goes_back_delays_nothing_for_longer_than_an_interval() {
    let (mut keep_alive, handed) = one();
    keep_alive.handle_published(at(500_000_000), handed, 8);
    assert!(wait(&keep_alive) > 499_000_000);
    assert_eq!(keep_alive.poll(at(0)), None);
    assert_eq!(keep_alive.poll_timeout(), Some(at(HOUR)));
    verifies(&mut keep_alive, HOUR);
}

/// What publishing a key, or counting its copies, comes to in the network below.
fn report(keep_alive: &mut KeepAlive, now: Timestamp, action: Action, luck: u64) {
    match action {
        Action::Publish(it) if luck.is_multiple_of(10) => keep_alive.handle_failed(now, it),
        Action::Publish(it) if luck % 10 == 1 => keep_alive.handle_published(now, it, 4),
        Action::Publish(it) => keep_alive.handle_published(now, it, 8 + luck as u32 % 5),
        Action::Verify(it) if luck.is_multiple_of(20) => keep_alive.handle_verified(now, it, 6),
        Action::Verify(it) => keep_alive.handle_verified(now, it, 8),
    }
}

/// A day of a thousand keys: each operation takes five seconds, some fail, and the program restarts.
#[test]
fn a_thousand_keys_live_through_a_day_and_a_restart() {
    const KEYS: u16 = 1_000;
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let mut keep_alive = keep_alive();
    for key in &keys {
        keep_alive.insert(at(0), *key, Status::default()).unwrap();
    }
    let mut luck = Seed::from_bytes([4; 32]).stream(Domain::Sample);
    let mut running = Vec::<(Timestamp, Action)>::new();
    let (mut now, mut actions, mut busiest_minute) = (at(0), 0_usize, 0);
    let (mut minute, mut in_minute, mut restarted) = (0, 0, false);
    while now < at(24 * HOUR) {
        while let Some(action) = keep_alive.poll(now) {
            running.push((plus(now, Duration::from_secs(5)), action));
            actions += 1;
            in_minute += 1;
        }
        assert!(running.len() <= 16);
        let ends = running.iter().map(|(end, _)| *end).min();
        now = ends.into_iter().chain(keep_alive.poll_timeout()).min().unwrap().max(now);
        if now.as_secs() / 60 != minute {
            // The first hours wear off the common start.
            let settled = now > at(12 * HOUR);
            busiest_minute = busiest_minute.max(if settled { in_minute } else { 0 });
            (minute, in_minute) = (now.as_secs() / 60, 0);
        }
        let (done, rest): (Vec<_>, Vec<_>) = running.into_iter().partition(|(end, _)| *end <= now);
        running = rest;
        for (_, action) in done {
            report(&mut keep_alive, now, action, luck.next());
        }
        if now > at(6 * HOUR) && !core::mem::replace(&mut restarted, true) {
            let kept: Vec<_> = keep_alive.statuses().map(|(key, status)| (*key, *status)).collect();
            keep_alive = self::keep_alive();
            running.clear();
            for (key, status) in kept {
                keep_alive.insert(now, key, status).unwrap();
            }
        }
        if now > at(HOUR) {
            // Nodes forget after two hours.
            let oldest = keep_alive.statuses().map(|(_, status)| status.published).min().unwrap();
            assert!(now.secs_since(oldest.unwrap()) < 2 * HOUR, "a key died");
        }
    }
    assert!(restarted);
    // Published and counted once an hour or little more often, and spread out: of 33 a minute on
    // average, no minute has all.
    assert!((40_000..70_000).contains(&actions), "{actions}");
    assert!(busiest_minute < 150, "{busiest_minute}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_leaves_every_key_waiting_or_in_work(
        steps in prop::collection::vec((0..7_u8, 0..4_u16, 0..8_000_u64), 0..60),
    ) {
        let mut keep_alive = keep_alive();
        let mut begun: Vec<Handed> = Vec::new();
        for (step, number, secs) in steps {
            let now = at(secs);
            // Reports come in any order, some twice.
            let one = begun.get(usize::from(number) % begun.len().max(1)).copied();
            match (step, one) {
                (0, _) => keep_alive.insert(now, key(number), Status::default()).unwrap(),
                (1, Some(it)) => keep_alive.handle_published(now, it, u32::from(number) * 4),
                (2, Some(it)) => keep_alive.handle_verified(now, it, u32::from(number) * 4),
                (3, Some(it)) => {
                    keep_alive.handle_failed(now, it);
                    prop_assert!(!keep_alive.in_flight.contains(&it) && !keep_alive.is_current(it));
                }
                (4, _) => drop(keep_alive.remove(&key(number))),
                _ => {
                    if let Some(Action::Publish(it) | Action::Verify(it)) = keep_alive.poll(now) {
                        prop_assert!(keep_alive.is_current(it) && !begun.contains(&it));
                        begun.push(it);
                    }
                }
            }
            for (key, entry) in &keep_alive.keys {
                match entry.state {
                    State::Due(due) => {
                        prop_assert!(keep_alive.waiting.contains(&(due, *key)));
                        prop_assert!(due <= plus(keep_alive.now, keep_alive.config.interval));
                    }
                    State::Begun(it) => prop_assert!(keep_alive.in_flight.contains(&it)),
                }
            }
            let due = |entry: &&Entry| matches!(entry.state, State::Due(_));
            let waiting = keep_alive.keys.values().filter(due).count();
            prop_assert_eq!(waiting, keep_alive.waiting.len());
            prop_assert!(keep_alive.in_flight() <= keep_alive.config.max_in_flight);
        }
    }
}
