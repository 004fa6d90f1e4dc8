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

fn one() -> KeepAlive {
    let mut keep_alive = keep_alive();
    keep_alive.insert(at(0), key(0), Status::default()).unwrap();
    assert_eq!(keep_alive.poll(at(0)), Some(Action::Publish(key(0))));
    keep_alive
}

/// Seconds until the next thing is due.
fn wait(keep_alive: &KeepAlive) -> u64 {
    keep_alive.poll_timeout().unwrap().as_secs() - START
}

#[test]
fn published_counted_published() {
    let mut keep_alive = one();
    assert_eq!((keep_alive.poll(at(1)), keep_alive.poll_timeout()), (None, None), "one at a time");
    keep_alive.handle_published(at(5), &key(0), 8);
    let counted = wait(&keep_alive);
    assert!((5 + 1_050..=5 + 1_200).contains(&counted), "{counted}");
    assert_eq!(keep_alive.poll(at(counted)), None, "not a microsecond too early");
    assert_eq!(keep_alive.poll(at(counted + 1)), Some(Action::Verify(key(0))));
    keep_alive.handle_verified(at(counted + 3), &key(0), 8);
    let next = wait(&keep_alive);
    assert!((5 + 3_150..=5 + 3_600).contains(&next), "{next}");
    assert_eq!(keep_alive.poll(at(next + 1)), Some(Action::Publish(key(0))));
    let expected = Status { published: Some(at(5)), stored: 8, verified: Some(8), failures: 0 };
    assert_eq!(keep_alive.status(&key(0)), Some(&expected));
}

#[test]
fn too_few_copies_are_topped_up_at_once() {
    let mut keep_alive = one();
    keep_alive.handle_published(at(5), &key(0), 9);
    let counted = wait(&keep_alive) + 1;
    assert_eq!(keep_alive.poll(at(counted)), Some(Action::Verify(key(0))));
    keep_alive.handle_verified(at(counted), &key(0), 5);
    assert_eq!(keep_alive.poll(at(counted)), Some(Action::Publish(key(0))));
}

#[test]
fn failures_are_retried_with_growing_pauses() {
    let mut keep_alive = one();
    let (mut now, mut pauses) = (0, Vec::new());
    for round in 0..10 {
        if round % 2 == 0 {
            keep_alive.handle_failed(at(now), &key(0));
        } else {
            keep_alive.handle_published(at(now), &key(0), 3);
        }
        let due = wait(&keep_alive) + 1;
        pauses.push(due - now);
        now = due;
        assert_eq!(keep_alive.poll(at(now)), Some(Action::Publish(key(0))));
    }
    for (pause, full) in pauses.iter().zip([30, 60, 120, 240, 480, 960, 1_200, 1_200]) {
        assert!((full * 7 / 8..=full + 1).contains(pause), "{pauses:?}");
    }
    assert_eq!(keep_alive.status(&key(0)).unwrap().failures, 10);
    keep_alive.handle_published(at(now), &key(0), 8);
    assert_eq!(keep_alive.status(&key(0)).unwrap().failures, 0);
}

#[test]
fn what_cannot_be_counted_is_published() {
    let mut keep_alive = one();
    keep_alive.handle_published(at(0), &key(0), 8);
    let now = wait(&keep_alive) + 1;
    assert_eq!(keep_alive.poll(at(now)), Some(Action::Verify(key(0))));
    keep_alive.handle_failed(at(now), &key(0));
    let due = wait(&keep_alive) + 1;
    assert!(due - now <= 31);
    assert_eq!(keep_alive.poll(at(due)), Some(Action::Publish(key(0))));
}

#[test]
fn stale_reports_change_nothing() {
    let mut keep_alive = one();
    keep_alive.handle_verified(at(0), &key(0), 0);
    keep_alive.handle_published(at(0), &key(1), 0);
    assert_eq!(keep_alive.in_flight(), 1);
    keep_alive.handle_published(at(0), &key(0), 8);
    let (status, due) = (*keep_alive.status(&key(0)).unwrap(), keep_alive.poll_timeout());
    keep_alive.handle_published(at(9), &key(0), 0);
    keep_alive.handle_failed(at(9), &key(0));
    assert_eq!((keep_alive.status(&key(0)), keep_alive.poll_timeout()), (Some(&status), due));
    assert_eq!(keep_alive.remove(&key(0)), Some(status));
    keep_alive.handle_published(at(9), &key(0), 8);
    assert_eq!((keep_alive.poll_timeout(), keep_alive.in_flight()), (None, 0));
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
    assert!(keep_alive.poll(at(0)).is_some() && keep_alive.poll(at(0)).is_some());
    assert_eq!((keep_alive.poll(at(0)), keep_alive.poll_timeout()), (None, None));
    let busy = (0..3).map(key).find(|key| keep_alive.keys[key].due.is_none()).unwrap();
    keep_alive.remove(&busy);
    assert!(keep_alive.poll(at(0)).is_some());
}

#[test]
fn a_clock_that_goes_back_delays_nothing_for_longer_than_an_interval() {
    let mut keep_alive = one();
    keep_alive.handle_published(at(500_000_000), &key(0), 8);
    assert!(wait(&keep_alive) > 499_000_000);
    assert_eq!(keep_alive.poll(at(0)), None);
    assert_eq!(keep_alive.poll_timeout(), Some(at(HOUR)));
    assert_eq!(keep_alive.poll(at(HOUR)), Some(Action::Verify(key(0))));
}

/// What publishing a key, or counting its copies, comes to in the network below.
fn report(keep_alive: &mut KeepAlive, now: Timestamp, action: Action, luck: u64) {
    match action {
        Action::Publish(key) if luck.is_multiple_of(10) => keep_alive.handle_failed(now, &key),
        Action::Publish(key) if luck % 10 == 1 => keep_alive.handle_published(now, &key, 4),
        Action::Publish(key) => keep_alive.handle_published(now, &key, 8 + luck as u32 % 5),
        Action::Verify(key) if luck.is_multiple_of(20) => keep_alive.handle_verified(now, &key, 6),
        Action::Verify(key) => keep_alive.handle_verified(now, &key, 8),
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
        for (step, number, secs) in steps {
            let (now, key) = (at(secs), key(number));
            match step {
                0 => keep_alive.insert(now, key, Status::default()).unwrap(),
                1 => keep_alive.handle_published(now, &key, u32::from(number) * 4),
                2 => keep_alive.handle_verified(now, &key, u32::from(number) * 4),
                3 => keep_alive.handle_failed(now, &key),
                4 => drop(keep_alive.remove(&key)),
                _ => {
                    if let Some(Action::Publish(key) | Action::Verify(key)) = keep_alive.poll(now) {
                        prop_assert!(keep_alive.status(&key).is_some());
                    }
                }
            }
            for (key, entry) in &keep_alive.keys {
                let waits = entry.due.is_some_and(|due| keep_alive.waiting.contains(&(due, *key)));
                prop_assert_eq!(waits, entry.due.is_some());
                let latest = plus(keep_alive.now, keep_alive.config.interval);
                prop_assert!(entry.due.is_none_or(|due| due <= latest));
            }
            let waiting = keep_alive.keys.values().filter(|entry| entry.due.is_some()).count();
            prop_assert_eq!(waiting, keep_alive.waiting.len());
        }
    }
}
