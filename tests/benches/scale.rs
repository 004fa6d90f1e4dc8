//! How large a simulated network fits, how fast it runs, and whether lookups in it behave as theory
//! says: `cargo bench -p dht-tests --bench scale -- NODES`, for example 1000000.
//!
//! Builds a network of settled nodes, a fifth of whose contacts are dead, lets it idle, and runs lookups
//! for random targets, one node in a hundred at a time.

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

use dht_proto::config::{Config, Mode};
use dht_proto::id::NodeId;
use dht_proto::request::{Event, Lookup, LookupId};
use dht_sim::choices::{About, Choices, Ratio};
use dht_sim::oracle::Oracle;
use dht_sim::population::{Census, settle};
use dht_sim::profile::Profile;
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
}

fn main() {
    let Some(args) = Args::parse() else {
        eprintln!(
            "usage: scale [NODES [PER CENT DEAD [LOOKUPS [SEED]]]], for example: scale 1000000 20 20000 1"
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
    let census = Census { nodes: args.nodes, dead: Ratio::percent(args.dead), config };
    let (before, started) = (resident(), Instant::now());
    let oracle = settle(&mut world, &census);
    let grown = resident() - before;
    println!("nodes                 {}", args.nodes);
    println!("dead contacts         {} %", args.dead);
    println!("built in              {:.1} s", started.elapsed().as_secs_f64());
    println!(
        "memory                {} MB, {} bytes a node",
        grown >> 20,
        grown / u64::from(args.nodes)
    );
    let contacts: usize = (0..100)
        .filter_map(|i| world.node(HostId(i * (args.nodes / 100).max(1))))
        .map(|dht| dht.stats().contacts as usize)
        .sum();
    println!("contacts              {:.1} a node", contacts as f64 / 100.0);

    let speed = Speed::start(&world);
    world.run_for(Duration::from_secs(10));
    speed.print("idle, 10 s", &world);

    let speed = Speed::start(&world);
    let figures = lookups(&mut world, &oracle, &args);
    speed.print("lookups", &world);
    figures.print(&args);
    println!("memory at the end     {} MB", resident() >> 20);
    println!(
        "trace                 {:016x}, {} events",
        world.trace().hash(),
        world.trace().events()
    );
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
        let lookups = u32::try_from(number(20_000)?).ok()?;
        let seed = number(1)?;
        (nodes >= 100).then_some(Self { nodes, dead, lookups, seed })
    }
}

/// Datagrams per second of this machine.
struct Speed {
    since: Instant,
    delivered: u64,
}

impl Speed {
    fn start(world: &World) -> Self {
        Self { since: Instant::now(), delivered: world.traffic().delivered }
    }

    fn print(&self, what: &str, world: &World) {
        let (took, delivered) =
            (self.since.elapsed().as_secs_f64(), world.traffic().delivered - self.delivered);
        println!(
            "{what:<22}{delivered} datagrams in {took:.1} s, {:.0} a second",
            delivered as f64 / took
        );
    }
}

#[derive(Default)]
struct Figures {
    done: u32,
    depths: Vec<u8>,
    queries: u64,
    durations: Vec<Duration>,
    compared: u32,
    found: usize,
}

impl Figures {
    fn print(mut self, args: &Args) {
        let done = f64::from(self.done.max(1));
        self.depths.sort_unstable();
        self.durations.sort_unstable();
        let depth = self.depths.iter().map(|depth| f64::from(*depth)).sum::<f64>() / done;
        let queries = self.queries as f64 / done;
        let recall = self.found as f64 / 8.0 / f64::from(self.compared.max(1));
        let rank = |share: usize| (self.depths.len() * share / 100).min(self.depths.len() - 1);
        println!("lookups done          {}", self.done);
        println!("                      depth  queries  recall of the true 8");
        println!("here                  {depth:5.2}  {queries:7.1}  {recall:.3}");
        for (nodes, dead, depth, queries, recall) in REFERENCE {
            if *nodes == args.nodes && *dead == args.dead {
                println!("reference             {depth:5.2}  {queries:7.1}  {recall:.3}");
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
fn lookups(world: &mut World, oracle: &Oracle, args: &Args) -> Figures {
    let mut targets: BTreeMap<(HostId, LookupId), NodeId> = BTreeMap::new();
    let mut started = 0;
    let mut figures = Figures::default();
    let at_once = (args.nodes / 100).clamp(1, args.lookups);
    while figures.done < args.lookups {
        while (targets.len() as u32) < at_once && started < args.lookups {
            let host = HostId(world.choices().below(About::Workload, args.nodes));
            let mut bytes = [0; 20];
            for chunk in bytes.chunks_mut(4) {
                let drawn = world.choices().below(About::Workload, u32::MAX);
                chunk.copy_from_slice(&drawn.to_be_bytes());
            }
            let target = NodeId::from_bytes(bytes);
            started += 1;
            if let Some(Ok(id)) = world.start(host, &Lookup::FindNode { target }) {
                targets.insert((host, id), target);
            }
        }
        if !world.step(dht_proto::time::Instant::FAR_FUTURE) {
            break;
        }
        while let Some((host, event)) = world.next_event() {
            let Event::Done { lookup, outcome } = event else { continue };
            let Some(target) = targets.remove(&(host, lookup)) else { continue };
            figures.done += 1;
            figures.depths.push(outcome.depth);
            figures.queries += u64::from(outcome.queries);
            figures.durations.push(outcome.duration);
            if figures.done.is_multiple_of(COMPARED) {
                let truth = oracle.closest(target.target(), 8, |other| other != host);
                let told = |id: NodeId| outcome.closest.iter().any(|node| node.id == id);
                figures.found += truth.iter().filter(|(id, _)| told(*id)).count();
                figures.compared += 1;
            }
        }
    }
    figures
}

/// Bytes of memory that this process has now.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
