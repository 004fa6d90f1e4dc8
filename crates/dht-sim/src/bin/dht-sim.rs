//! Runs simulated networks: one seed, many, or the smallest that fails.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use dht_sim::HostId;
use dht_sim::check::{Violation, order, replay};
use dht_sim::options::{MAX_NODES, Options, ParseOptionsError};
use dht_sim::shrink::shrink;
use dht_sim::swarm::{self, Report, Watch};
use dht_sim::trace::{Only, Pcap, Recorder, Text};

/// Runs networks of shipped DHT nodes in virtual time. The same seed gives the same run.
///
/// Exit status: 0 if every invariant held, 1 if one was broken, 2 for a wrong command line or a
/// file that cannot be written.
#[derive(Parser, Debug)]
#[command(name = "dht-sim", version)]
struct Cli {
    /// The commit that is told beside the seed.
    #[arg(long, global = true, default_value = "unknown")]
    commit: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs one seed, and tells how it ended.
    Run(Run),
    /// Runs many seeds, and stops at the first that breaks an invariant.
    Swarm {
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        first: u64,
        #[command(flatten)]
        fixed: Fixed,
        /// Seeds that run at a time; by default as many as the machine has processors.
        #[arg(long)]
        jobs: Option<NonZeroUsize>,
    },
    /// Finds the smallest run that breaks the same invariant as a seed, and keeps it.
    Shrink {
        #[command(flatten)]
        which: Which,
        /// Where failing runs are kept.
        #[arg(long, default_value = "tests/regressions")]
        keep: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
struct Which {
    /// The seed; all options follow from it.
    #[arg(long, required_unless_present = "options")]
    seed: Option<u64>,
    /// Options as a run prints them, instead of a seed.
    #[arg(long, conflicts_with = "seed")]
    options: Option<Options>,
    #[command(flatten)]
    fixed: Fixed,
}

/// Options that have one value, whatever a seed draws.
#[derive(clap::Args, Debug)]
struct Fixed {
    /// Nodes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_NODES)))]
    nodes: Option<u32>,
    /// Any option as a run prints it, for example --with loss=0 --with adversaries=liar:2,slow:1
    #[arg(long = "with", value_name = "NAME=VALUE", value_parser = change)]
    with: Vec<String>,
}

/// An option that can be changed so.
fn change(word: &str) -> Result<String, ParseOptionsError> {
    Options::of_seed(0).change(word)?;
    Ok(word.to_owned())
}

impl Fixed {
    fn apply(&self, options: &mut Options) {
        options.nodes = self.nodes.unwrap_or(options.nodes);
        // Each was tried when the command line was read.
        self.with.iter().for_each(|word| drop(options.change(word)));
    }
}

#[derive(clap::Args, Debug)]
struct Run {
    #[command(flatten)]
    which: Which,
    /// Seconds of the phase in which things go wrong, instead of what the seed draws.
    #[arg(long)]
    until: Option<u32>,
    /// Records what happens: the format, and the file.
    #[arg(long, num_args = 2, value_names = ["text|pcap", "FILE"])]
    trace: Option<Vec<String>>,
    /// Records only what this node sends and is sent.
    #[arg(long, requires = "trace")]
    node: Option<u32>,
    /// Runs twice, and once more with outputs polled at random, and compares.
    #[arg(long, conflicts_with = "trace")]
    twice: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Pcap,
}

/// Why there was nothing to run, or nowhere to write.
struct Failure(String);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(run) => run_one(&cli.commit, run),
        Command::Swarm { seeds, first, fixed, jobs } => {
            let jobs = jobs.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
            run_many(&cli.commit, (*first, *seeds), fixed, jobs)
        }
        Command::Shrink { which, keep } => run_smaller(&cli.commit, which, keep),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure(words)) => {
            eprintln!("dht-sim: {words}");
            ExitCode::from(2)
        }
    }
}

fn options_of(which: &Which) -> Options {
    let drawn = || Options::of_seed(which.seed.unwrap_or_default());
    let mut options = which.options.clone().unwrap_or_else(drawn);
    which.fixed.apply(&mut options);
    options
}

fn run_one(commit: &str, run: &Run) -> Result<bool, Failure> {
    let mut options = options_of(&run.which);
    options.secs = run.until.unwrap_or(options.secs);
    say(format_args!("commit={commit} {options}"))?;
    if run.twice {
        return twice(commit, &options);
    }
    let mut watch = Watch::default();
    let mut close: Option<Box<dyn FnOnce() -> std::io::Result<()>>> = None;
    let mut file = None;
    if let Some([format, path]) = run.trace.as_deref() {
        let format = Format::from_str(format, true)
            .map_err(|_| Failure(format!("--trace knows text and pcap, not {format}")))?;
        let out = File::create(path)
            .map_err(|e| Failure(format!("cannot write {path}: {e}; name another file")))?;
        let out = BufWriter::new(out);
        file = Some(path);
        let recorder: Box<dyn Recorder> = match format {
            Format::Text => {
                let text = Text::new(out);
                let kept = text.clone();
                close = Some(Box::new(|| kept.close()));
                Box::new(text)
            }
            Format::Pcap => {
                let pcap = Pcap::new(out);
                let kept = pcap.clone();
                close = Some(Box::new(|| kept.close()));
                Box::new(pcap)
            }
        };
        watch.recorder = Some(match run.node {
            None => recorder,
            Some(node) => {
                let places = Arc::new(Mutex::new(Vec::new()));
                watch.places = Some((HostId(node), places.clone()));
                Box::new(Only::new(places, recorder))
            }
        });
    }
    let report = swarm::run(&options, watch);
    if let (Some(close), Some(path)) = (close, file) {
        close().map_err(|e| Failure(format!("cannot write {path}: {e}; is the disk full?")))?;
    }
    tell(commit, &options, &report)
}

fn twice(commit: &str, options: &Options) -> Result<bool, Failure> {
    for compare in [replay::check, order::check] {
        if let Err(violation) = compare(options) {
            return blame(commit, options, &violation);
        }
    }
    say(format_args!("equal: twice in order, and polled at random"))?;
    Ok(true)
}

fn run_many(
    commit: &str,
    (first, seeds): (u64, u64),
    fixed: &Fixed,
    jobs: NonZeroUsize,
) -> Result<bool, Failure> {
    let sum = Mutex::new(Sum::default());
    let end = first.saturating_add(seeds);
    std::thread::scope(|scope| {
        for _ in 0..jobs.get() {
            scope.spawn(|| {
                while let Some(seed) = next_seed(&sum, first, end) {
                    let mut options = Options::of_seed(seed);
                    fixed.apply(&mut options);
                    let report = swarm::run(&options, Watch::default());
                    lock(&sum).add(options, report);
                }
            });
        }
    });
    let Sum { failed, delivered, virtual_time, .. } =
        sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((options, violation)) = failed {
        say(format_args!("commit={commit} {options}"))?;
        return blame(commit, &options, &violation);
    }
    let hours = virtual_time.as_secs() / 3_600;
    say(format_args!(
        "commit={commit} {seeds} seeds from {first}: every invariant held, {delivered} datagrams, \
         {hours} virtual hours"
    ))?;
    Ok(true)
}

/// What many seeds come to.
#[derive(Default)]
struct Sum {
    begun: u64,
    delivered: u64,
    virtual_time: Duration,
    /// The lowest seed that broke an invariant.
    failed: Option<(Options, Violation)>,
}

impl Sum {
    fn add(&mut self, options: Options, report: Report) {
        self.delivered += report.delivered;
        self.virtual_time += report.ended.since(report.began);
        let lowest = self.failed.as_ref().is_none_or(|(other, _)| options.seed < other.seed);
        if let Some(violation) = report.violation.filter(|_| lowest) {
            self.failed = Some((options, violation));
        }
    }
}

/// The next seed that nobody took. After a failure none: those before it have begun by then, so the
/// lowest that fails is the same however many run at a time.
fn next_seed(sum: &Mutex<Sum>, first: u64, end: u64) -> Option<u64> {
    let mut sum = lock(sum);
    let seed = first.saturating_add(sum.begun);
    if seed >= end || sum.failed.is_some() {
        return None;
    }
    if sum.begun.is_multiple_of(50) {
        eprintln!("{} of {} seeds, {} datagrams", sum.begun, end - first, sum.delivered);
    }
    sum.begun += 1;
    Some(seed)
}

fn lock(sum: &Mutex<Sum>) -> MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_smaller(commit: &str, which: &Which, keep: &Path) -> Result<bool, Failure> {
    let options = options_of(which);
    say(format_args!("commit={commit} {options}"))?;
    // A broken invariant of a node is a panic that is caught: once would do, not once a try.
    std::panic::set_hook(Box::new(|_| ()));
    let smaller = shrink(&options, |options| eprintln!("still fails: {options}"));
    let Some((options, report)) = smaller else {
        say(format_args!("every invariant holds: there is nothing to shrink"))?;
        return Ok(true);
    };
    let Some(violation) = &report.violation else { return Ok(true) };
    let name = violation.invariant.split(' ').next().unwrap_or("other").to_lowercase();
    let path = keep.join(format!("{name}.seed"));
    let line = format!("{}; {options}\n", violation.invariant);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|e| {
        Failure(format!("cannot append to {}: {e}; name a folder with --keep", path.display()))
    })?;
    eprintln!("kept in {}", path.display());
    blame(commit, &options, violation)
}

fn tell(commit: &str, options: &Options, report: &Report) -> Result<bool, Failure> {
    if let Some(violation) = &report.violation {
        return blame(commit, options, violation);
    }
    let Report { hash, events, delivered, began, ended, .. } = report;
    say(format_args!(
        "every invariant held\ntrace {hash:016x}, {events} events, {delivered} datagrams, {} s",
        ended.since(*began).as_secs()
    ))?;
    Ok(true)
}

/// Everything that it takes to see it again, in one block.
fn blame(commit: &str, options: &Options, violation: &Violation) -> Result<bool, Failure> {
    say(format_args!(
        "{violation}\n  seed {}, commit {commit}\n  replay: dht-sim run --options '{options}'\n  \
         shrink: dht-sim shrink --options '{options}'",
        options.seed
    ))?;
    Ok(false)
}

fn say(line: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|e| Failure(format!("cannot write to the standard output: {e}")))
}
