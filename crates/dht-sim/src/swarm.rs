//! One run of the swarm: a world in which things go wrong and users want things, watched by all
//! checkers; then everything heals, and must work again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dht_proto::time::Instant;

use crate::check::{self, Violation, liveness};
use crate::choices::{About, Choices, Ratio};
use crate::host::Addrs;
use crate::options::Options;
use crate::population::{Census, settle};
use crate::trace::Recorder;
use crate::world::{HostId, Setup, World};

mod faults;
mod meddler;
mod workload;

use faults::Faults;
use meddler::Meddler;
use workload::Workload;

/// What a panic inside a node is reported as.
pub const PANIC: &str = "no panic";

/// Addresses of one host, as it gets them: for a recorder that looks at one host only.
pub type Places = Arc<Mutex<Vec<Addrs>>>;

/// How a run is looked at.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Watch {
    /// Takes every event.
    pub recorder: Option<Box<dyn Recorder>>,
    /// Outputs are polled in random order and amounts.
    pub shuffled: bool,
    /// The first phase is over after this long, whatever the options say.
    pub until: Option<Duration>,
    /// Told where a host is, now and whenever that changes.
    pub places: Option<(HostId, Places)>,
}

/// How a run ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The first invariant that was broken.
    pub violation: Option<Violation>,
    /// The hash of the trace.
    pub hash: u64,
    /// Events of the trace.
    pub events: u64,
    /// Datagrams delivered.
    pub delivered: u64,
    /// Virtual time at which the network stood, whether settled or still to be founded.
    pub began: Instant,
    /// Virtual time at the end.
    pub ended: Instant,
}

/// Runs a world; every choice follows from the seed of the options.
#[must_use]
pub fn run(options: &Options, watch: Watch) -> Report {
    run_with(options, Choices::seeded(options.seed), watch)
}

/// Runs a world with choices from elsewhere.
#[must_use]
pub fn run_with(options: &Options, choices: Choices, watch: Watch) -> Report {
    let setup = Setup { profile: options.profile(), ..Setup::default() };
    let mut swarm = Swarm::new(World::new(setup, choices), options.clone(), watch);
    let result = catch_unwind(AssertUnwindSafe(|| swarm.run()));
    let world = &swarm.world;
    let (at, event) = (world.now(), world.trace().events());
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(*violation),
        Err(cause) => {
            let what = check::table::words(&*cause);
            Some(Violation { invariant: PANIC, at, event, host: None, what })
        }
    };
    Report {
        violation,
        hash: world.trace().hash(),
        events: event,
        delivered: world.traffic().delivered,
        began: swarm.began,
        ended: at,
    }
}

/// A world under way.
struct Swarm {
    world: World,
    options: Options,
    /// The nodes that are shipped ones; meddlers are not among them.
    nodes: Vec<HostId>,
    meddlers: Vec<HostId>,
    faults: Faults,
    workload: Workload,
    until: Duration,
    began: Instant,
    places: Option<(HostId, Places)>,
}

impl Swarm {
    fn new(mut world: World, options: Options, watch: Watch) -> Self {
        for checker in check::all() {
            world.watch(checker);
        }
        if watch.shuffled {
            world.shuffle_polls();
        }
        world.trace_mut().set_recorder(watch.recorder);
        let until = watch.until.unwrap_or_else(|| Duration::from_secs(u64::from(options.secs)));
        Self {
            nodes: Vec::new(),
            meddlers: Vec::new(),
            faults: Faults::default(),
            workload: Workload::default(),
            until,
            began: Instant::ZERO,
            places: watch.places,
            world,
            options,
        }
    }

    fn run(&mut self) -> Result<(), Box<Violation>> {
        if self.options.warm {
            self.settle();
            self.began = self.world.now();
        } else {
            self.found();
        }
        self.meddle();
        self.suffer()?;
        self.heal();
        liveness::demand_convergence(&mut self.world)
    }

    /// Everybody is there already.
    fn settle(&mut self) {
        let config = Arc::new(self.options.config(0));
        let census = Census { nodes: self.options.nodes, dead: Ratio::percent(10), config };
        let first = self.world.len() as u32;
        settle(&mut self.world, &census);
        self.nodes = (first..first + self.options.nodes).map(HostId).collect();
        self.tell_places();
    }

    /// Nodes join one by one, each knowing the first.
    fn found(&mut self) {
        let networks = self.options.networks;
        for index in 0..self.options.nodes {
            let addrs = self.world.next_addrs(networks);
            let mut config = self.options.config(index);
            config.bootstrap = self.bootstrap();
            self.tell_place(HostId(self.world.len() as u32), addrs);
            let host = self.world.add_node_at(addrs, &Arc::new(config), networks);
            self.nodes.push(host);
            let pause = self.world.choices().below(About::Topology, 200);
            self.world.run_for(Duration::from_millis(u64::from(pause)));
        }
    }

    /// Where nodes start from: where the first nodes are now.
    fn bootstrap(&self) -> Vec<std::net::SocketAddr> {
        let first = self.nodes.iter().take(3).map(|host| self.world.addrs(*host));
        first.flat_map(|addrs| addrs.iter().collect::<Vec<_>>()).collect()
    }

    fn meddle(&mut self) {
        for _ in 0..self.options.meddlers {
            let addrs = self.world.next_addrs(self.options.networks);
            let known = self.bootstrap();
            let id = self.world.choices().below(About::Adversary, u32::MAX);
            let host = self.world.add_actor(addrs, Box::new(Meddler::new(known, id)));
            self.meddlers.push(host);
        }
    }

    /// The first phase.
    fn suffer(&mut self) -> Result<(), Box<Violation>> {
        let end = self.world.now() + self.until;
        let mut next_fault =
            self.world.now() + self.pause(About::Fault, self.options.fault_secs * 1_000);
        let mut next_op = self.world.now();
        loop {
            let undo = self.faults.next_undo().unwrap_or(end);
            let next = next_fault.min(next_op).min(undo).min(end);
            self.world.run_until(next);
            if let Some(violation) = self.world.violation() {
                return Err(Box::new(violation.clone()));
            }
            if next >= end {
                return Ok(());
            }
            if next == undo {
                self.undo_due();
            } else if next == next_fault {
                self.inflict();
                next_fault = next + self.pause(About::Fault, self.options.fault_secs * 1_000);
            } else {
                self.workload.act(&mut self.world, &self.nodes, &self.options);
                next_op = next + self.pause(About::Workload, self.options.op_millis);
            }
        }
    }

    /// A pause of this many milliseconds on average.
    fn pause(&mut self, about: About, millis: u32) -> Duration {
        Duration::from_millis(1 + u64::from(self.world.choices().below(about, 2 * millis)))
    }

    fn tell_place(&self, host: HostId, addrs: Addrs) {
        if let Some((watched, places)) = &self.places
            && *watched == host
        {
            places.lock().unwrap_or_else(PoisonError::into_inner).push(addrs);
        }
    }

    fn tell_places(&self) {
        if let Some((host, _)) = &self.places {
            self.tell_place(*host, self.world.addrs(*host));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CI runs with `cargo test`; a thousand seeds in release are `just swarm 1000`.
    #[test]
    fn a_few_seeds_pass() {
        for seed in 0..12 {
            let mut options = Options::of_seed(seed);
            (options.nodes, options.secs) = (options.nodes.min(16), options.secs.min(120));
            let report = run(&options, Watch::default());
            if let Some(violation) = report.violation {
                panic!("{violation}\n  replay: dht-sim run --options '{options}'");
            }
        }
    }

    #[test]
    fn everything_at_once_passes() {
        for seed in 0..4 {
            let options = Options::tiny(seed);
            assert_eq!(run(&options, Watch::default()).violation, None, "{options}");
        }
    }
}
