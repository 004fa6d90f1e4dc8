//! How large a simulated network fits, how fast it runs, and whether lookups in it behave as theory
//! says: `cargo bench -p dht-tests --bench scale -- NODES`, for example 1000000.
//!
//! Builds a network of settled nodes, a fifth of whose contacts are dead, lets it idle, runs lookups
//! for random targets, one node in a hundred at a time, and then has nodes come and go while lookups
//! go on. Every figure that is printed is measured in the run that prints it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a program that prints figures"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};
use dht_proto::id::NodeId;
use dht_proto::request::{Event, Lookup, LookupId};
use dht_sim::choices::{About, Choices, Ratio};
use dht_sim::churn::Churn;
use dht_sim::oracle::Oracle;
use dht_sim::population::{Census, Oracles, settle_in};
use dht_sim::profile::{Profile, Turnover};
use dht_sim::world::Traffic;
use dht_sim::{HostId, Setup, World};

/// Monte-Carlo of iterative Kademlia on ideal tables (k = 8, alpha = 4, 300 lookups each): nodes, per
/// cent of dead contacts, mean depth, mean queries, recall of the true 8.
const REFERENCE: &[(u32, u32, f64, f64, f64)] = &[
    (10_000, 0, 2.85, 14.7, 1.0),
    (100_000, 0, 3.41, 16.8, 1.0),
    (1_000_000, 0, 4.14, 19.6, 1.0),
    (1_000_000, 10, 4.27, 21.0, 0.992),
    (1_000_000, 20, 4.44, 22.6, 0.974),
    (1_000_000, 30, 4.60, 24.7, 0.946),
    (1_000_000, 50, 5.25, 33.2, 0.865),
];
/// Of how many lookups one is compared with the truth.
const COMPARED: u32 = 8;

struct Args {
    nodes: u32,
    dead: u32,
    lookups: u32,
    seed: u64,
    /// Of nodes that come and go.
    minutes: u32,
}

fn main() {
    let Some(args) = Args::parse() else {
        eprintln!(
            "usage: scale [NODES [PER CENT DEAD [LOOKUPS [SEED [MINUTES]]]]], for example: scale 1000000 \
             20 20000 1 2; at least 100 nodes and 1 lookup, less than 100 % dead, at most 1440 minutes \
             of churn"
        );
        std::process::exit(2);
    };
    let mut config = Config::default();
    // Reference tables have buckets of eight.
    (config.mode, config.extended_buckets) = (Mode::Server, false);
    let config = Arc::new(config);
    let setup = Setup::new(Profile::simple(
        (Duration::from_millis(20), Duration::from_millis(90)),
        Ratio::ZERO,
    ));
    let mut world = World::new(setup, Choices::seeded(args.seed));
    println!("nodes                 {}", args.nodes);
    println!("dead contacts         {} %", args.dead);
    let oracles = build(&mut world, &args, &config);

    let speed = Speed::start(&world);
    world.run_for(Duration::from_secs(10));
    speed.print("idle, 10 s", &world);

    let speed = Speed::start(&world);
    let mut figures = lookups(&mut world, &args);
    speed.print("lookups", &world);
    figures.compare(&oracles.v4);
    figures.print(&args);

    if args.minutes > 0 {
        churn(&mut world, oracles, &config, &args);
    }
    println!("memory at the end     {} MB", resident() >> 20);
    let trace = world.trace();
    println!("trace                 {:016x}, {} events", trace.hash(), trace.events());
}

impl Args {
    fn parse() -> Option<Self> {
        // `cargo bench` adds a flag of its own.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        let mut number = |default: u64| match words.next() {
            Some(word) => word.replace('_', "").parse().ok(),
            None => Some(default),
        };
        let nodes = u32::try_from(number(10_000)?).ok()?;
        let dead = u32::try_from(number(20)?).ok().filter(|dead| *dead < 100)?;
        let lookups = u32::try_from(number(20_000)?).ok().filter(|lookups| *lookups > 0)?;
        let seed = number(1)?;
        let minutes = u32::try_from(number(2)?).ok().filter(|minutes| *minutes <= 1_440)?;
        (nodes >= 100).then_some(Self { nodes, dead, lookups, seed, minutes })
    }
}

/// Builds the network, and tells how long that takes and how much memory it has then.
fn build(world: &mut World, args: &Args, config: &Arc<Config>) -> Oracles {
    let dead = Ratio::percent(args.dead);
    let census = Census { nodes: args.nodes, dead, config: config.clone() };
    let (before, started, busy) = (resident(), Instant::now(), processor_time());
    let mut oracles = None;
    let heap = allocation_counter::measure(|| {
        oracles = Some(settle_in(world, &census, Networks::V4));
    });
    let (took, grown) = (started.elapsed().as_secs_f64(), resident() - before);
    let busy = processor_time() - busy;
    println!("built in              {took:.1} s, {busy:.1} s of the processor");
    let each = |bytes: u64| bytes / u64::from(args.nodes);
    println!("memory, resident      {} MB, {} bytes a node", grown >> 20, each(grown));
    let asked = u64::try_from(heap.bytes_current).unwrap_or_default();
    println!(
        "memory, allocated     {} MB, {} bytes a node in {:.1} pieces",
        asked >> 20,
        each(asked),
        heap.count_current as f64 / f64::from(args.nodes)
    );
    let simulator = world.memory() as u64 + oracles.as_ref().map_or(0, Oracles::memory) as u64;
    println!("of that the simulator {} bytes a node", each(simulator));
    let nodes = || (0..args.nodes).filter_map(|i| world.node(HostId(i)));
    let told: u64 = nodes().map(|dht| dht.memory() as u64).sum();
    println!(
        "the nodes say         {} bytes each, {:.3} of what was allocated for them",
        each(told),
        told as f64 / (asked - simulator) as f64
    );
    let contacts: u64 = nodes().map(|dht| dht.stats().contacts).sum();
    println!("contacts              {:.1} a node", contacts as f64 / f64::from(args.nodes));
    oracles.expect("it was measured")
}

/// Datagrams per second of this machine. On a busy one the time of the processor says more than
/// that of the clock.
struct Speed {
    since: Instant,
    busy: f64,
    from: dht_proto::time::Instant,
    before: Traffic,
}

impl Speed {
    fn start(world: &World) -> Self {
        Self {
            since: Instant::now(),
            busy: processor_time(),
            from: world.now(),
            before: world.traffic(),
        }
    }

    fn print(&self, what: &str, world: &World) {
        let took = self.since.elapsed().as_secs_f64();
        let busy = processor_time() - self.busy;
        let passed = world.now().since(self.from).as_secs_f64();
        let traffic = world.traffic();
        let delivered = traffic.delivered - self.before.delivered;
        let rate = |seconds: f64| delivered as f64 / seconds;
        println!(
            "{what:<22}{delivered} datagrams, {passed:.1} virtual s with {:.0} each",
            rate(passed)
        );
        println!(
            "                      {took:.1} s, {:.0} a second; {busy:.1} s of the processor, {:.0} a second",
            rate(took),
            rate(busy)
        );
        println!(
            "                      {} timers, {} of them put off, {} stale entries",
            traffic.timers - self.before.timers,
            traffic.put_off - self.before.put_off,
            traffic.stale - self.before.stale
        );
    }
}

/// Lookups that run, and what came of those that are done.
#[derive(Default)]
struct Figures {
    targets: BTreeMap<(HostId, LookupId), NodeId>,
    started: u32,
    done: u32,
    depths: Vec<u8>,
    queries: u64,
    durations: Vec<Duration>,
    /// Results that are to be compared with the truth: who looked, for what, and whom it found.
    results: Vec<(HostId, NodeId, Vec<NodeId>)>,
    compared: u32,
    found: usize,
    /// Lookups among those compared that found the closest of all.
    found_closest: u32,
}

impl Figures {
    /// Starts a lookup for a random target.
    fn start(&mut self, world: &mut World, host: HostId) {
        let mut bytes = [0; 20];
        for chunk in bytes.chunks_mut(4) {
            let drawn = world.choices().below(About::Workload, u32::MAX);
            chunk.copy_from_slice(&drawn.to_be_bytes());
        }
        let target = NodeId::from_bytes(bytes);
        self.started += 1;
        if let Some(Ok(id)) = world.start(host, &Lookup::FindNode { target }) {
            self.targets.insert((host, id), target);
        }
    }

    /// Takes what nodes told their users.
    fn listen(&mut self, world: &mut World) {
        while let Some((host, event)) = world.next_event() {
            let Event::Done { lookup, outcome } = event else { continue };
            let Some(target) = self.targets.remove(&(host, lookup)) else { continue };
            self.done += 1;
            self.depths.push(outcome.depth);
            self.queries += u64::from(outcome.queries);
            self.durations.push(outcome.duration);
            if self.done.is_multiple_of(COMPARED) {
                let found = outcome.closest.iter().map(|node| node.id).collect();
                self.results.push((host, target, found));
            }
        }
    }

    /// Compares results with the truth of now.
    fn compare(&mut self, oracle: &Oracle) {
        for (host, target, found) in self.results.drain(..) {
            let truth = oracle.closest(target.target(), 8, |other| other != host);
            self.found += truth.iter().filter(|(id, _)| found.contains(id)).count();
            self.found_closest +=
                u32::from(truth.first().is_some_and(|(id, _)| found.contains(id)));
            self.compared += 1;
        }
    }

    fn print(mut self, args: &Args) {
        println!("lookups done          {} of {}", self.done, self.started);
        if self.done == 0 {
            return;
        }
        let done = f64::from(self.done);
        self.depths.sort_unstable();
        self.durations.sort_unstable();
        let depth = self.depths.iter().map(|depth| f64::from(*depth)).sum::<f64>() / done;
        let queries = self.queries as f64 / done;
        let compared = f64::from(self.compared.max(1));
        let recall = self.found as f64 / 8.0 / compared;
        let rank = |share: usize| (self.depths.len() * share / 100).min(self.depths.len() - 1);
        println!("                      depth  queries  recall of the true 8  found the closest");
        let closest = f64::from(self.found_closest) / compared;
        println!("here                  {depth:5.2}  {queries:7.1}  {recall:20.3}  {closest:17.3}");
        for (nodes, dead, depth, queries, recall) in REFERENCE {
            if *nodes == args.nodes && *dead == args.dead {
                println!("reference, no churn   {depth:5.2}  {queries:7.1}  {recall:20.3}");
            }
        }
        println!("depth p50, p99        {}, {}", self.depths[rank(50)], self.depths[rank(99)]);
        println!(
            "duration p50, p99     {:.0} ms, {:.0} ms",
            self.durations[rank(50)].as_secs_f64() * 1e3,
            self.durations[rank(99)].as_secs_f64() * 1e3
        );
    }
}

/// Runs the lookups.
fn lookups(world: &mut World, args: &Args) -> Figures {
    let mut figures = Figures::default();
    let at_once = (args.nodes / 100).clamp(1, args.lookups);
    while figures.done < args.lookups {
        while (figures.targets.len() as u32) < at_once && figures.started < args.lookups {
            let host = HostId(world.choices().below(About::Workload, args.nodes));
            figures.start(world, host);
        }
        if !world.step(dht_proto::time::Instant::FAR_FUTURE) {
            break;
        }
        figures.listen(world);
    }
    figures
}

/// Has nodes come and go while lookups start at even intervals, as many as before; and waits for the
/// last ones. Sessions have the Weibull lengths that simulations of KAD use, 10,000 s on average.
fn churn(world: &mut World, oracles: Oracles, config: &Arc<Config>, args: &Args) {
    let (shape, scale) = (Ratio { num: 1, den: 2 }, Duration::from_secs(5_000));
    let turnover = Turnover { shape, scale, ..Profile::internet().turnover };
    let mut churn = Churn::new(world, &turnover, config, Networks::V4, oracles);
    let speed = Speed::start(world);
    let mut figures = Figures::default();
    let minutes = Duration::from_secs(60 * u64::from(args.minutes));
    let end = world.now() + minutes;
    let gap = (minutes / args.lookups).max(Duration::from_micros(1));
    while world.now() < end && figures.started < args.lookups {
        let living = churn.living();
        let host = world.choices().pick(About::Workload, living).copied();
        if let Some(host) = host {
            figures.start(world, host);
        }
        let next = world.now() + gap;
        churn.run_until(world, next);
        figures.listen(world);
        figures.compare(&churn.oracles().v4);
    }
    churn.run_until(world, end.max(world.now()));
    figures.listen(world);
    figures.compare(&churn.oracles().v4);
    // Lookups take seconds.
    churn.run_until(world, end + Duration::from_secs(30));
    figures.listen(world);
    figures.compare(&churn.oracles().v4);
    speed.print("churn", world);
    let tally = churn.tally();
    println!(
        "                      {} left, {} came, {} of them back; sessions Weibull {}, {:?}",
        tally.left, tally.came, tally.returned, turnover.shape, turnover.scale
    );
    println!("ended with their node {}", figures.targets.len());
    figures.print(args);
}

/// Bytes of memory that this process has now.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Seconds that this process has kept a processor busy.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: the 12th and 13th fields, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
