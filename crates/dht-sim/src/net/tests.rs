use super::*;
use crate::choices::Choices;

fn network(profile: Profile, hosts: u32) -> (Network, Choices) {
    let mut choices = Choices::seeded(11);
    let mut net = Network::new(profile, Ports::ALL);
    for _ in 0..hosts {
        net.attach(&mut choices);
    }
    (net, choices)
}

/// Milliseconds that shares of `values` stay below.
fn quantiles<const N: usize>(mut values: Vec<Duration>, shares: [usize; N]) -> [u128; N] {
    values.sort_unstable();
    shares.map(|per_mille| values[values.len() * per_mille / 1_000].as_millis())
}

#[test]
fn round_trips_are_as_long_as_measurements_say() {
    for (name, expected) in [("internet", [110, 350, 800]), ("mobile", [180, 600, 1_500])] {
        let mut profile = Profile::named(name).unwrap();
        profile.bandwidth = None;
        let (mut net, mut choices) = network(profile, 40_000);
        let now = Instant::from_secs(5);
        let (mut model, mut measured) = (Vec::new(), Vec::new());
        for i in (0..40_000).step_by(2) {
            let (a, b) = (HostId(i), HostId(i + 1));
            model.push(net.round_trip(a, b));
            let mut one_way = |x, y| net.carry(now, Some(x), Some(y), 100, &mut choices)[0];
            if let (Some(there), Some(back)) = (one_way(a, b), one_way(b, a)) {
                measured.push(there.after() + back.after());
            }
        }
        for times in [model, measured] {
            let found = quantiles(times, [500, 950, 990]);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(found.abs_diff(expected) * 10 <= expected, "{name}: {found} {expected}");
            }
        }
    }
}

#[test]
fn the_same_way_takes_nearly_the_same_time() {
    let (mut net, mut choices) = network(Profile::internet(), 2);
    let times: Vec<_> = (0..2_000)
        .filter_map(|_| {
            let now = Instant::from_secs(5);
            net.carry(now, Some(HostId(0)), Some(HostId(1)), 100, &mut choices)[0]
        })
        .map(|delivery| delivery.after() * 1_000)
        .collect();
    let [low, middle, high] = quantiles(times, [50, 500, 950]);
    // 5 % log-normal: 90 % lie within 8.2 % of the median.
    assert!((middle * 90 / 100..middle * 94 / 100).contains(&low), "{low} {middle}");
    assert!((middle * 107 / 100..middle * 115 / 100).contains(&high), "{middle} {high}");
}

#[test]
fn bad_links_lose_in_bursts_and_others_do_not() {
    let mut profile = Profile::ideal();
    profile.loss = Ratio::ZERO;
    let (mut net, mut choices) = network(profile, 3);
    net.set_bursty(HostId(1), true);
    let now = Instant::from_secs(5);
    let (mut lost, mut in_a_row) = (0, 0);
    let mut before = false;
    for _ in 0..40_000 {
        let to = Some(HostId(1));
        let is_lost = net.carry(now, Some(HostId(0)), to, 100, &mut choices)[0].is_none();
        lost += u32::from(is_lost);
        in_a_row += u32::from(is_lost && before);
        before = is_lost;
        assert!(net.carry(now, Some(HostId(0)), Some(HostId(2)), 9, &mut choices)[0].is_some());
    }
    assert!((7_000..9_000).contains(&lost), "{lost}");
    // Each by itself, a fifth of the lost ones would follow another.
    assert!(in_a_row * 2 > lost, "{in_a_row} of {lost}");
}

#[test]
fn cuts_have_a_direction_and_heal() {
    let (mut net, mut choices) = network(Profile::ideal(), 4);
    net.set_group(HostId(0), 1);
    net.set_group(HostId(1), 2);
    net.cut(1, 2);
    let now = Instant::from_secs(5);
    let mut passes = |net: &mut Network, a, b| {
        net.carry(now, Some(HostId(a)), Some(HostId(b)), 9, &mut choices)[0].is_some()
    };
    assert!(!passes(&mut net, 0, 1));
    for (a, b) in [(1, 0), (0, 2), (2, 1), (2, 3)] {
        assert!(passes(&mut net, a, b), "{a} {b}");
    }
    net.cut(2, 1);
    net.mend(1, 2);
    assert!(passes(&mut net, 0, 1) && !passes(&mut net, 1, 0));
    net.heal();
    assert!(passes(&mut net, 1, 0) && !net.is_cut);
}

#[test]
fn a_clogged_host_is_late() {
    let (mut net, mut choices) = network(Profile::ideal(), 3);
    let (now, until) = (Instant::from_secs(5), Instant::from_secs(9));
    net.clog(HostId(1), until);
    let mut after = |net: &mut Network, now, a, b| {
        net.carry(now, Some(HostId(a)), Some(HostId(b)), 9, &mut choices)[0].map(|d| d.after())
    };
    let delay = Duration::from_millis(50);
    let late = Some(Duration::from_secs(4) + delay);
    assert_eq!(after(&mut net, now, 0, 1), late);
    assert_eq!(after(&mut net, now, 1, 0), late);
    assert_eq!(after(&mut net, now, 0, 2), Some(delay));
    assert_eq!(after(&mut net, until, 0, 1), Some(delay));
    assert!(net.clogs.is_empty());
}

#[test]
fn full_links_delay_and_then_lose() {
    let mut profile = Profile::ideal();
    let queue = Duration::from_millis(100);
    profile.bandwidth = Some(Bandwidth { bytes_per_sec: 10_000, queue });
    let (mut net, mut choices) = network(profile, 3);
    let now = Instant::from_secs(5);
    let mut arrivals = Vec::new();
    for _ in 0..10 {
        let fates = net.carry(now, Some(HostId(0)), Some(HostId(1)), 500, &mut choices);
        arrivals.extend(fates[0].map(|delivery| delivery.after().as_millis()));
    }
    // 50 ms each way of access link, 50 ms between; the fourth would wait 150 ms.
    assert_eq!(arrivals, [150, 200, 250]);
    assert!(net.carry(now, Some(HostId(2)), Some(HostId(0)), 500, &mut choices)[0].is_some());
}

#[test]
fn what_is_too_long_is_lost() {
    let (mut net, mut choices) = network(Profile::internet(), 2);
    let now = Instant::from_secs(5);
    let mut passes = |len| {
        (0..50).any(|_| {
            net.carry(now, Some(HostId(0)), Some(HostId(1)), len, &mut choices)[0].is_some()
        })
    };
    assert!(passes(1_472) && !passes(1_473));
}

#[test]
fn the_mix_is_that_of_the_profile() {
    let (net, mut choices) = network(Profile::internet(), 0);
    let (mut public, mut carriers, mut read_only) = (0, 0, 0);
    for _ in 0..20_000 {
        let (nat, is_read_only) = net.draw_nat(&mut choices);
        public += u32::from(nat.is_none());
        carriers += u32::from(nat.is_some_and(|nat| nat.sharing > 1));
        read_only += u32::from(is_read_only);
    }
    assert!((8_700..9_300).contains(&public), "{public}");
    assert!((850..1_150).contains(&carriers), "{carriers}");
    assert!((1_350..1_650).contains(&read_only), "{read_only}");
}
