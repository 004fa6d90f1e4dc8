//! One run of the swarm: a world in which things go wrong, nodes come and go, some mean harm and users
//! want things, watched by all checkers; then everything heals, and must work again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dht_proto::Dht;
use dht_proto::config::{Config, Mode};
use dht_proto::time::Instant;

use crate::check::{self, Violation, lifetime, liveness};
use crate::choices::{About, Choices};
use crate::churn::Churn;
use crate::host::Addrs;
use crate::options::{Options, Stacks};
use crate::population::{Census, Oracles, settle_in};
use crate::trace::Recorder;
use crate::world::{HostId, Setup, World};

mod cast;
mod trouble;
mod workload;

use trouble::Trouble;
use workload::Workload;

/// Nodes that everybody starts from; whatever hosts are behind, these are not.
const INTRODUCERS: usize = 3;

/// The life that begins when a settled network is given its modes; those after faults come later.
const SECOND_LIFE: u32 = u32::MAX;

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
    let setup = Setup::new(options.profile());
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
    /// The nodes that are shipped ones and there at present.
    nodes: Vec<HostId>,
    introducers: Vec<HostId>,
    adversaries: Vec<HostId>,
    trouble: Trouble,
    churn: Option<Churn>,
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
            introducers: Vec::new(),
            adversaries: Vec::new(),
            trouble: Trouble::default(),
            churn: None,
            workload: Workload::default(),
            until,
            began: Instant::ZERO,
            places: watch.places,
            world,
            options,
        }
    }

    fn run(&mut self) -> Result<(), Box<Violation>> {
        if self.options.warm && self.options.networks != Stacks::Mixed {
            self.settle();
            self.began = self.world.now();
        } else {
            self.found();
        }
        self.cast();
        self.begin_churn();
        self.suffer()?;
        self.heal();
        let (trouble, comes_and_goes) = (&self.trouble, self.churn.is_some());
        let is_hurt = |host| comes_and_goes || trouble.has_hurt(host);
        liveness::demand_convergence(&mut self.world, is_hurt)?;
        lifetime::demand_lifetimes(&mut self.world)
    }

    /// Everybody is there already.
    fn settle(&mut self) {
        let dead = self.options.profile().dead;
        let config = Arc::new(self.options.config(0));
        let census = Census { nodes: self.options.nodes, dead, config };
        let first = self.world.len() as u32;
        settle_in(&mut self.world, &census, self.options.networks(0));
        self.nodes = (first..first + self.options.nodes).map(HostId).collect();
        if !self.nodes.iter().any(|host| self.world.net().is_reachable(*host)) {
            self.nodes.iter().for_each(|host| self.world.expose(*host));
        }
        let public = self.nodes.iter().filter(|host| self.world.net().is_reachable(**host));
        self.introducers = public.copied().take(INTRODUCERS).collect();
        self.assign_modes();
        self.tell_places();
    }

    /// A settled network is made of servers. Whoever is something else begins anew, with what it knew.
    fn assign_modes(&mut self) {
        for host in self.nodes.clone() {
            let config = self.config(host.0);
            if config.mode != Mode::Server {
                let snapshot = self.world.node(host).map(Dht::snapshot);
                let networks = self.world.networks(host);
                self.world.restart(host, &config, networks, snapshot.as_ref(), SECOND_LIFE);
            }
        }
    }

    /// Nodes join one by one, each knowing the first.
    fn found(&mut self) {
        let mix = self.options.profile().mix;
        self.world.net_mut().adjust(|profile| profile.mix.behind.clear());
        for index in 0..self.options.nodes {
            if index as usize == INTRODUCERS {
                self.world.net_mut().adjust(|profile| profile.mix = mix.clone());
            }
            let networks = self.options.networks(index);
            let addrs = self.world.next_addrs(networks);
            let config = self.config(index);
            self.tell_place(HostId(self.world.len() as u32), addrs);
            let host = self.world.add_node_at(addrs, &config, networks);
            self.nodes.push(host);
            if self.introducers.len() < INTRODUCERS {
                self.introducers.push(host);
            }
            let pause = self.world.choices().below(About::Topology, 200);
            self.world.run_for(Duration::from_millis(u64::from(pause)));
        }
    }

    /// What a node starts with.
    fn config(&self, index: u32) -> Arc<Config> {
        let mut config = self.options.config(index);
        // Somebody has to be a server for sure: in a network of a few nodes that know each other no
        // stranger ever proves anything.
        if self.introducers.first() == Some(&HostId(index)) {
            config.mode = Mode::Server;
        }
        config.bootstrap = self.bootstrap();
        Arc::new(config)
    }

    /// Where nodes start from: where the introducers are now, and others in a network in which there
    /// are too few of them.
    fn bootstrap(&self) -> Vec<std::net::SocketAddr> {
        let mut start: Vec<std::net::SocketAddr> = Vec::new();
        for host in self.introducers.iter().chain(&self.nodes) {
            if !self.world.net().is_reachable(*host) {
                continue;
            }
            for addr in self.world.addrs(*host).iter() {
                let others = start.iter().filter(|other| other.is_ipv4() == addr.is_ipv4());
                if others.count() < INTRODUCERS && !start.contains(&addr) {
                    start.push(addr);
                }
            }
        }
        start
    }

    fn begin_churn(&mut self) {
        let Some(turnover) = self.options.turnover() else { return };
        let oracles = Oracles::look(&self.world);
        let (config, networks) = (self.config(0), self.options.networks(0));
        let mut churn = Churn::new(&mut self.world, &turnover, &config, networks, oracles);
        if let Some(first) = self.introducers.first() {
            churn.spare(*first);
        }
        self.churn = Some(churn);
    }

    /// The first phase.
    fn suffer(&mut self) -> Result<(), Box<Violation>> {
        let end = self.world.now() + self.until;
        let fault_millis = self.options.fault_secs.saturating_mul(1_000);
        let mut next_fault = self.world.now() + self.pause(About::Fault, fault_millis);
        let mut next_op = self.world.now();
        loop {
            let mend = self.trouble.next_end().unwrap_or(end);
            let churn = self.churn.as_ref().map_or(end, Churn::next_at);
            let next = next_fault.min(next_op).min(mend).min(churn).min(end);
            self.world.run_until(next);
            if let Some(violation) = self.world.violation() {
                return Err(Box::new(violation.clone()));
            }
            if next >= end {
                return Ok(());
            }
            if next == mend {
                self.mend_due();
            } else if next == churn {
                self.come_and_go();
            } else if next == next_fault {
                self.inflict();
                next_fault = next + self.pause(About::Fault, fault_millis);
            } else {
                self.workload.act(&mut self.world, &self.nodes, &self.options);
                next_op = next + self.pause(About::Workload, self.options.op_millis);
            }
            self.tell_places();
        }
    }

    fn come_and_go(&mut self) {
        if let Some(churn) = &mut self.churn {
            churn.apply(&mut self.world);
            self.nodes = churn.living().to_vec();
        }
    }

    /// A pause of this many milliseconds on average. From when the source of choices has run dry
    /// nothing more happens: zeros would make pauses without length, thousands a second.
    fn pause(&mut self, about: About, millis: u32) -> Duration {
        if self.world.choices().exhausted() {
            return self.until;
        }
        let most = millis.saturating_mul(2);
        Duration::from_millis(1 + u64::from(self.world.choices().below(about, most)))
    }

    fn tell_place(&self, host: HostId, addrs: Addrs) {
        if let Some((watched, places)) = &self.places
            && *watched == host
        {
            let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
            if places.last() != Some(&addrs) {
                places.push(addrs);
            }
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
