use core::net::{SocketAddrV4, SocketAddrV6};

use super::*;

fn v4(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// A throttle that is asked by address.
struct ByAddress(Throttle);

impl ByAddress {
    fn level<A: Addr>(&mut self, now: Instant, from: A, config: &Config) -> Level {
        self.0.level(now, self.0.network(from), config)
    }

    fn charge<A: Addr>(&mut self, now: Instant, from: A, bytes: u32, config: &Config) {
        self.0.charge(now, self.0.network(from), bytes, config);
        self.0.check_invariants(config);
    }
}

fn throttle() -> ByAddress {
    ByAddress(Throttle::new(&Seed::from_bytes([3; 32])))
}

fn config(per_sec: u32, burst: u32, slots: usize) -> Config {
    Config {
        subnet_bytes_per_sec: per_sec,
        subnet_burst_bytes: burst,
        throttle_slots: slots,
        ..Config::default()
    }
}

/// libtorrent `rate_limit_non_positive`: a rate or a burst of zero admits nothing and divides by
/// nothing.
#[test]
fn rate_limit_non_positive() {
    for (config, name) in [
        (config(0, 1000, 8), "no rate"),
        (config(1000, 0, 8), "no burst"),
        (Config { total_bytes_per_sec: 0, ..Config::default() }, "no total"),
    ] {
        let mut throttle = throttle();
        let now = Instant::from_secs(1);
        assert_eq!(throttle.level(now, v4("1.2.3.4:5"), &config), Level::Silent, "{name}");
        throttle.charge(now, v4("1.2.3.4:5"), 100, &config);
        let later = Instant::FAR_FUTURE;
        assert_eq!(throttle.level(later, v4("1.2.3.4:5"), &config), Level::Silent, "{name}");
    }
    let none = Config { verifications_per_sec: 0, ..Config::default() };
    assert!(!throttle().0.take_verification(Instant::from_secs(9), &none));
}

/// libtorrent `rate_limit_int_max`.
#[test]
fn rate_limit_int_max() {
    let config =
        Config { total_bytes_per_sec: u32::MAX, ..config(u32::MAX, u32::MAX, usize::MAX >> 40) };
    let mut throttle = throttle();
    let from = v4("1.2.3.4:5");
    let now = Instant::ZERO;
    throttle.charge(now, from, u32::MAX, &config);
    assert_eq!(throttle.level(now, from, &config), Level::Silent);
    throttle.charge(now, from, u32::MAX, &config);
    assert_eq!(throttle.level(Instant::from_secs(1), from, &config), Level::Silent);
    assert_eq!(throttle.level(Instant::from_secs(2), from, &config), Level::Full);
    throttle.charge(Instant::FAR_FUTURE, from, u32::MAX, &config);
}

/// libtorrent `rate_limit_large_delta`: a long pause fills the budget, whatever its length.
#[test]
fn rate_limit_large_delta() {
    let config = config(1000, 1000, 8);
    for pause in [Instant::from_secs(3600), Instant::from_secs(1 << 33), Instant::FAR_FUTURE] {
        let mut throttle = throttle();
        throttle.charge(Instant::ZERO, v4("1.2.3.4:5"), 1000, &config);
        assert_eq!(throttle.level(Instant::ZERO, v4("1.2.3.4:5"), &config), Level::Silent);
        assert_eq!(throttle.level(pause, v4("1.2.3.4:5"), &config), Level::Full);
    }
}

/// libtorrent `rate_limit_accrue_limit`: no pause saves up more than one burst.
#[test]
fn rate_limit_accrue_limit() {
    let config = config(1000, 2000, 8);
    let mut throttle = throttle();
    let from = v4("1.2.3.4:5");
    let now = Instant::from_secs(1_000_000);
    throttle.charge(now, from, 1999, &config);
    assert_eq!(throttle.level(now, from, &config), Level::NodesOnly);
    throttle.charge(now, from, 1, &config);
    assert_eq!(throttle.level(now, from, &config), Level::Silent);
}

#[test]
fn replies_get_smaller_before_they_stop() {
    let config = config(1000, 4000, 8);
    let mut throttle = throttle();
    let (from, now) = (v4("1.2.3.4:5"), Instant::from_secs(5));
    let mut seen = std::vec![];
    for _ in 0..5 {
        seen.push(throttle.level(now, from, &config));
        throttle.charge(now, from, 1000, &config);
    }
    let expected = [Level::Full, Level::Full, Level::Reduced, Level::NodesOnly, Level::Silent];
    assert_eq!(seen, expected);
}

/// A slow trickle is never rounded away: 400 bytes a second is what is sent, to the byte.
#[test]
fn dht_rate_limit() {
    let config = config(400, 1200, 8);
    let mut throttle = throttle();
    let from = v4("1.2.3.4:5");
    let mut sent = 0_u32;
    for millis in 0..60_000 {
        let now = Instant::from_millis(millis);
        if throttle.level(now, from, &config) != Level::Silent {
            throttle.charge(now, from, 60, &config);
            sent += 60;
        }
    }
    assert!((1200 + 400 * 60..=1200 + 400 * 60 + 60).contains(&sent), "{sent}");
}

#[test]
fn a_network_shares_one_budget() {
    let config = config(1000, 1000, 1024);
    let mut throttle = throttle();
    // The first one over its budget makes the table grow, with debts copied; they are soon paid.
    throttle.charge(Instant::ZERO, v4("9.9.9.9:9"), 1000, &config);
    throttle.level(Instant::ZERO, v4("9.9.9.9:9"), &config);
    let now = Instant::from_secs(5);
    throttle.charge(now, v4("1.2.3.4:5"), 1000, &config);
    assert_eq!(throttle.level(now, v4("1.2.3.99:77"), &config), Level::Silent);
    assert_eq!(throttle.level(now, v4("1.2.4.4:5"), &config), Level::Full);
    let v6: [SocketAddrV6; 3] =
        ["[2600:1:2:3::1]:1", "[2600:1:2:3:ffff::9]:2", "[2600:1:2:4::1]:1"]
            .map(|text| text.parse().unwrap());
    throttle.charge(now, v6[0], 1000, &config);
    assert_eq!(throttle.level(now, v6[1], &config), Level::Silent);
    assert_eq!(throttle.level(now, v6[2], &config), Level::Full);
}

/// Literature 3.5, "hash flooding": a flood from many networks leaves the others served, because
/// nobody can tell which places they share.
#[test]
fn flooding_one_network_leaves_the_others_served() {
    let config = config(1000, 1000, 4096);
    let mut throttle = throttle();
    // The first one over its budget makes the table grow, with debts copied; they are soon paid.
    throttle.charge(Instant::ZERO, v4("9.9.9.9:9"), 1000, &config);
    throttle.level(Instant::ZERO, v4("9.9.9.9:9"), &config);
    let now = Instant::from_secs(5);
    for net in 0..=99 {
        let flooder = SocketAddrV4::new([66, 6, net, 1].into(), 1);
        throttle.level(now, flooder, &config);
        throttle.charge(now, flooder, 1000, &config);
        assert_eq!(throttle.level(now, flooder, &config), Level::Silent);
    }
    let served = (0..=255)
        .filter(|&net| {
            let other = SocketAddrV4::new([8, 8, net, 1].into(), 1);
            throttle.level(now, other, &config) == Level::Full
        })
        .count();
    // Two of 4096 places are both taken by 200 flooded ones once in 420 cases.
    assert!(served >= 252, "{served} of 256");
}

#[test]
fn the_table_grows_only_under_load_and_keeps_debts() {
    let config = config(1000, 1000, 300);
    let mut throttle = throttle();
    let now = Instant::from_secs(5);
    assert_eq!(throttle.0.bytes.slots.capacity(), 0, "an idle node has no table");
    throttle.charge(now, v4("1.2.3.4:5"), 100, &config);
    assert_eq!(throttle.0.bytes.slots.len(), FIRST_SLOTS);
    throttle.charge(now, v4("1.2.3.4:5"), 900, &config);
    assert_eq!(throttle.level(now, v4("1.2.3.4:5"), &config), Level::Silent);
    assert_eq!(throttle.0.bytes.slots.len(), 256, "the greatest power of two within 300");
}

#[test]
fn without_slots_only_the_total_counts() {
    let config = Config { total_bytes_per_sec: 1000, ..config(1, 1, 0) };
    let mut throttle = throttle();
    let (from, now) = (v4("1.2.3.4:5"), Instant::from_secs(5));
    assert_eq!(throttle.level(now, from, &config), Level::Full);
    throttle.charge(now, from, 1000, &config);
    assert_eq!(throttle.level(now, from, &config), Level::Silent);
}

#[test]
fn verifications_have_a_budget() {
    let config = Config { verifications_per_sec: 10, ..Config::default() };
    let mut throttle = throttle();
    let now = Instant::from_secs(5);
    let taken = (0..100).filter(|_| throttle.0.take_verification(now, &config)).count();
    assert_eq!(taken, 10);
    assert!(throttle.0.take_verification(Instant::from_millis(5_100), &config));
    assert!(!throttle.0.take_verification(Instant::from_millis(5_100), &config));
}

/// As many answers at once as the burst says, then one each interval; other networks have their own.
#[test]
fn queries_may_be_limited_by_number() {
    let config = Config {
        subnet_query_interval: core::time::Duration::from_millis(500),
        subnet_query_burst: 3,
        throttle_slots: 256,
        ..config(u32::MAX, u32::MAX, 256)
    };
    let mut throttle = throttle();
    let answered = |throttle: &mut ByAddress, from: &str, now: Instant| {
        let from = v4(from);
        let is_answered = throttle.level(now, from, &config) != Level::Silent;
        if is_answered {
            throttle.charge(now, from, 100, &config);
            throttle.0.charge_query(now, throttle.0.network(from), &config);
        }
        is_answered
    };
    let mut many =
        |from: &str, now: Instant| (0..50).filter(|_| answered(&mut throttle, from, now)).count();
    let now = Instant::from_secs(5);
    assert_eq!(many("1.2.3.4:5", now), 3);
    assert_eq!(many("1.2.3.99:7", now), 0, "of one network");
    assert_eq!(many("1.2.4.4:5", now), 3);
    assert_eq!(many("1.2.3.4:5", Instant::from_millis(5_499)), 0);
    assert_eq!(many("1.2.3.4:5", Instant::from_millis(5_500)), 1);
    assert_eq!(many("1.2.3.4:5", Instant::from_secs(60)), 3, "no pause saves up more");
    // The table that grew is given back once nobody is in debt.
    let due = throttle.0.poll_timeout().unwrap();
    throttle.0.handle_timeout(due);
    assert_eq!(throttle.0.poll_timeout(), None);
    assert!(throttle.0.heap_bytes() <= Throttle::memory_ceiling(&config));
    // The smallest burst is none, and what is not limited takes no memory.
    let none = Config { subnet_query_burst: 0, ..config.clone() };
    assert_eq!(throttle.level(now, v4("9.9.9.9:9"), &none), Level::Silent);
    let unlimited = Throttle::new(&Seed::from_bytes([3; 32]));
    assert!(unlimited.queries.is_none());
}
