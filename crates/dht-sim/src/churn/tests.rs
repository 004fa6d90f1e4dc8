use super::*;
use crate::Range;
use crate::population::{Census, settle_in};
use crate::profile::Profile;
use crate::world::Setup;
use dht_proto::config::Mode;
use dht_proto::request::Lookup;

fn shares_above(lengths: &[Duration], limits: [u64; 3]) -> [f64; 3] {
    limits.map(|minutes| {
        let limit = Duration::from_secs(minutes * 60);
        let above = lengths.iter().filter(|length| **length > limit).count();
        f64::from(above as u32) / f64::from(lengths.len() as u32)
    })
}

#[test]
fn sessions_last_as_long_as_measured() {
    let sessions = Sessions::new(&Profile::internet().turnover);
    let hours = sessions.mean().as_secs_f64() / 3_600.0;
    assert!((21.0..23.0).contains(&hours), "{hours}");
    let mut choices = Choices::seeded(3);
    let whole: Vec<_> = (0..50_000).map(|_| sessions.whole(&mut choices)).collect();
    let [half, _, few] = shares_above(&whole, [200, 1_000, 9_000]);
    assert!((half - 0.5).abs() < 0.01 && (few - 0.03).abs() < 0.003, "{half} {few}");
    let mean = whole.iter().map(Duration::as_secs_f64).sum::<f64>() / 50_000.0 / 3_600.0;
    assert!((mean / hours - 1.0).abs() < 0.05, "{mean} {hours}");
}

/// A plain simulation of one long line of sessions is the oracle.
#[test]
fn residual_lifetimes_are_those_of_an_equilibrium() {
    let sessions = Sessions::new(&Profile::internet().turnover);
    let mut choices = Choices::seeded(4);
    let (mut seen, mut drawn) = (Vec::new(), Vec::new());
    // Whoever looks at fixed times meets a session in proportion to its length.
    let pace = Duration::from_secs(40_000);
    let mut until_look = pace;
    while seen.len() < 40_000 {
        let mut length = sessions.whole(&mut choices);
        while length > until_look {
            length -= until_look;
            until_look = pace;
            seen.push(length);
        }
        until_look -= length;
    }
    drawn.extend((0..40_000).map(|_| sessions.rest(&mut choices)));
    let limits = [600, 3_000, 12_000];
    let (seen, drawn) = (shares_above(&seen, limits), shares_above(&drawn, limits));
    for (seen, drawn) in seen.into_iter().zip(drawn) {
        assert!((seen - drawn).abs() < 0.02, "{seen} {drawn}");
    }
}

fn quick() -> Turnover {
    Turnover {
        shape: Ratio::percent(50),
        scale: Duration::from_secs(1_000),
        swing: Ratio::ZERO,
        ..Profile::internet().turnover
    }
}

fn churning(setup: Setup, nodes: u32, turnover: &Turnover) -> (World, Churn) {
    let mut config = Config::default();
    config.mode = Mode::Server;
    let config = Arc::new(config);
    let mut world = World::new(setup, Choices::seeded(8));
    let census = Census { nodes, dead: Ratio::ZERO, config: config.clone() };
    let oracles = settle_in(&mut world, &census, Networks::V4);
    let churn = Churn::new(&mut world, turnover, &config, Networks::V4, oracles);
    (world, churn)
}

#[test]
fn as_many_come_as_go_and_the_oracle_knows_them() {
    let (mut world, mut churn) = churning(Setup::default(), 300, &quick());
    churn.spare(HostId(0));
    let end = world.now() + Duration::from_secs(1_800);
    churn.run_until(&mut world, end);
    assert_eq!(world.now(), end);
    let tally = churn.tally();
    // A mean of 2,000 s: 0.15 a second.
    assert!((210..340).contains(&tally.came), "{tally:?}");
    assert!((210..340).contains(&tally.left), "{tally:?}");
    assert!(tally.returned * 10 > tally.came * 6 && tally.kept_id * 10 > tally.returned * 6);
    assert!((240..360).contains(&churn.living().len()));
    assert!(world.node(HostId(0)).is_some());
    for host in churn.living() {
        assert!(world.node(*host).is_some());
    }
    churn.look_at_all(&world);
    let truth = Oracles::look(&world);
    assert_eq!(churn.oracles().v4.nodes(), truth.v4.nodes());
    // Lookups cope.
    let mut found = 0;
    for i in 0..20 {
        let (target, holder) = truth.v4.nodes()[i * 9];
        let Some((_, outcome)) = world.look_up(HostId(0), &Lookup::FindNode { target }) else {
            continue;
        };
        let is_old = outcome.closest.iter().any(|c| c.id == target);
        found += u32::from(is_old || holder == HostId(0));
    }
    assert!(found >= 16, "{found} of 20");
}

#[test]
fn more_come_by_day() {
    let mut turnover = quick();
    turnover.swing = Ratio::percent(50);
    let (mut world, churn) = churning(Setup::default(), 20, &turnover);
    let mut counts = [0_u32; 4];
    let mut at = world.now();
    for _ in 0..20_000 {
        at = churn.arrival_after(at, world.choices());
        counts[(at.as_secs() % 86_400 / 21_600) as usize] += 1;
    }
    let (day, night) = (counts[0] + counts[1], counts[2] + counts[3]);
    // The mean of a half wave is 2 / pi: 1.318 to 0.682.
    let ratio = f64::from(day) / f64::from(night);
    assert!((1.75..2.12).contains(&ratio), "{counts:?}");
}

#[test]
fn addresses_are_given_out_again_when_there_are_no_others() {
    let range = Range::Network { base: [127, 0, 0, 0].into(), prefix: 26 };
    let setup = Setup { range, ..Setup::default() };
    let (returning, scale) = (Ratio::percent(10), Duration::from_secs(200));
    let turnover = Turnover { scale, returning, ..quick() };
    let (mut world, mut churn) = churning(setup, 40, &turnover);
    let end = world.now() + Duration::from_secs(3_600);
    churn.run_until(&mut world, end);
    assert!(churn.tally().came > 200, "{:?}", churn.tally());
    assert!(world.len() <= 62);
    assert!((20..62).contains(&churn.living().len()), "{}", churn.living().len());
}
