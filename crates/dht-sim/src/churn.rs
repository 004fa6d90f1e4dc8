//! Who comes and goes.
//!
//! Sessions have Weibull lengths; a network starts in equilibrium, so those who are there at the
//! start stay for a *residual* lifetime; and as many arrive as leave, more by day than by night.
//! Nobody says goodbye.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::Networks;
use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::id::NodeId;
use dht_proto::snapshot::{FamilySnapshot, Snapshot};
use dht_proto::time::Instant;

use crate::choices::{About, Choices, Ratio};
use crate::curve::{Quantiles, ln, pow, round, sin_turns};
use crate::population::{FAMILIES, Oracles, public_id};
use crate::profile::Turnover;
use crate::world::{HostId, World};

/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// When, after its birth, a node's id and role are looked at: both change while it finds out where
/// it is. From the last on, as often again.
const LOOKS: [Duration; 4] = [
    Duration::from_secs(20),
    Duration::from_secs(2 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
];
/// Contacts that somebody who is away remembers.
const REMEMBERED: usize = 64;
/// Nodes that a newcomer is told of.
const INTRODUCERS: usize = 3;

/// Session lengths by their distribution.
#[derive(Debug)]
pub struct Sessions {
    /// One by the shape.
    power: f64,
    /// In microseconds.
    scale: f64,
    residual: Quantiles,
    mean: f64,
}

impl Sessions {
    /// Of what a profile says.
    #[must_use]
    pub fn new(turnover: &Turnover) -> Self {
        let shape = ratio(turnover.shape).clamp(0.2, 2.0);
        let scale = turnover.scale.as_secs_f64() * 1_000_000.0;
        // The residual lifetime in equilibrium has density S(x) / mean; substituted, (x / scale)^shape
        // follows a Gamma distribution.
        let (residual, gamma) = Quantiles::gamma(1.0 / shape);
        Self { power: 1.0 / shape, scale, residual, mean: scale * gamma / shape }
    }

    /// The mean length.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_micros(round(self.mean))
    }

    /// The length of a new session.
    pub fn whole(&self, choices: &mut Choices) -> Duration {
        Duration::from_micros(round(self.scale * pow(exponential(choices), self.power)))
    }

    /// What is left of a session that is under way.
    pub fn rest(&self, choices: &mut Choices) -> Duration {
        let draw = u16::MAX - choices.below(About::Churn, 1 << 16) as u16;
        let power = f64::from(self.residual.at(draw)) / f64::from(1_u32 << 20);
        Duration::from_micros(round(self.scale * pow(power, self.power)))
    }
}

fn ratio(ratio: Ratio) -> f64 {
    f64::from(ratio.num) / f64::from(ratio.den.max(1))
}

/// From the exponential distribution with mean 1. A source that has run dry, which gives zeros, makes
/// times long: else nothing would ever happen but comings and goings.
fn exponential(choices: &mut Choices) -> f64 {
    let draw = choices.below(About::Churn, u32::MAX);
    -ln((f64::from(draw) + 0.5) / (f64::from(u32::MAX) + 1.0))
}

/// What is to be done with a host.
#[derive(Clone, Copy, Debug)]
enum Due {
    Departure(HostId),
    Look { host: HostId, life: u32, times: usize },
}

/// Somebody who may come back.
#[derive(Debug)]
struct Absent {
    host: HostId,
    /// What it remembers.
    snapshot: Option<Snapshot>,
}

/// What is known of a host.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Where it is among the living, if it is.
    place: Option<u32>,
    /// How often a node began here.
    life: u32,
    /// Its ids, as the oracles have them.
    ids: [Option<NodeId>; 2],
    /// It stays.
    is_spared: bool,
}

const STRANGER: Record = Record { place: None, life: 0, ids: [None; 2], is_spared: false };

/// How many came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Nodes that left.
    pub left: u64,
    /// Nodes that came.
    pub came: u64,
    /// Those of them that had been here before.
    pub returned: u64,
    /// Those of them, in turn, that kept their ids.
    pub kept_id: u64,
}

/// The comings and goings of a world's nodes.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use dht_proto::{Networks, config::Config};
/// # use dht_sim::{Choices, Profile, Ratio, Setup, World, churn::Churn};
/// # use dht_sim::population::{Census, settle_in};
/// let mut world = World::new(Setup::default(), Choices::seeded(1));
/// let config = Arc::new(Config::default());
/// let census = Census { nodes: 100, dead: Ratio::ZERO, config: config.clone() };
/// let oracles = settle_in(&mut world, &census, Networks::V4);
/// let turnover = Profile::internet().turnover;
/// let mut churn = Churn::new(&mut world, &turnover, &config, Networks::V4, oracles);
/// let end = world.now() + Duration::from_secs(3600);
/// churn.run_until(&mut world, end);
/// assert!(churn.tally().left > 0);
/// ```
#[derive(Debug)]
pub struct Churn {
    turnover: Turnover,
    sessions: Sessions,
    config: Arc<Config>,
    networks: Networks,
    agenda: BTreeMap<(Instant, u64), Due>,
    seq: u64,
    next_arrival: Instant,
    /// Mean time between arrivals when most arrive, in microseconds.
    gap: f64,
    living: Vec<HostId>,
    records: Vec<Record>,
    absent: VecDeque<Absent>,
    max_absent: usize,
    /// Hosts whose owners will not come back, the longest gone first.
    forgotten: VecDeque<HostId>,
    max_hosts: usize,
    oracles: Oracles,
    tally: Tally,
}

impl Churn {
    /// Takes over the nodes of a world in equilibrium. `oracles` tell who is there for everybody and
    /// are kept up to date.
    #[must_use]
    pub fn new(
        world: &mut World,
        turnover: &Turnover,
        config: &Arc<Config>,
        networks: Networks,
        oracles: Oracles,
    ) -> Self {
        let hosts = (0..world.len() as u32).map(HostId);
        let living: Vec<_> = hosts.filter(|host| world.node(*host).is_some()).collect();
        let sessions = Sessions::new(turnover);
        let swing = 1.0 + ratio(turnover.swing);
        let mut new = Self {
            turnover: *turnover,
            gap: sessions.mean / (f64::from(living.len().max(1) as u32) * swing),
            sessions,
            config: config.clone(),
            networks,
            agenda: BTreeMap::new(),
            seq: 0,
            next_arrival: world.now(),
            records: Vec::new(),
            absent: VecDeque::new(),
            max_absent: living.len() / 16 + 16,
            forgotten: VecDeque::new(),
            max_hosts: world.len() + living.len() / 4 + 64,
            living: Vec::new(),
            oracles,
            tally: Tally::default(),
        };
        for (index, family) in FAMILIES.into_iter().enumerate() {
            let known: Vec<_> = new.oracles.of(family).nodes();
            for (id, host) in known {
                if let Some(known) = new.record(host).ids.get_mut(index) {
                    *known = Some(id);
                }
            }
        }
        for host in living {
            let rest = new.sessions.rest(world.choices());
            new.enlist(host);
            new.schedule(world.now() + rest, Due::Departure(host));
        }
        new.next_arrival = new.arrival_after(world.now(), world.choices());
        new
    }

    /// Has a host stay whatever happens: somebody who is watched.
    pub fn spare(&mut self, host: HostId) {
        self.record(host).is_spared = true;
    }

    /// Who is there for everybody.
    #[must_use]
    pub const fn oracles(&self) -> &Oracles {
        &self.oracles
    }

    /// Hosts with a node, in no order.
    #[must_use]
    pub fn living(&self) -> &[HostId] {
        &self.living
    }

    /// Whether the owner of a host has it run a node.
    #[must_use]
    pub fn is_living(&self, host: HostId) -> bool {
        self.records.get(host.index()).is_some_and(|record| record.place.is_some())
    }

    /// How many came and went.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// When somebody comes or goes next, or an oracle is to be corrected.
    #[must_use]
    pub fn next_at(&self) -> Instant {
        match self.agenda.first_key_value() {
            Some(((at, _), _)) => self.next_arrival.min(*at),
            None => self.next_arrival,
        }
    }

    /// Does what is due at the world's present time.
    pub fn apply(&mut self, world: &mut World) {
        let now = world.now();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Due::Departure(host) => self.depart(world, host),
                Due::Look { host, life, times } => self.look(world, host, life, times),
            }
        }
        while self.next_arrival <= now {
            self.arrive(world);
            self.next_arrival = self.arrival_after(self.next_arrival, world.choices());
        }
    }

    /// Runs a world until `end` or until an invariant is broken, with comings and goings.
    pub fn run_until(&mut self, world: &mut World, end: Instant) {
        while world.violation().is_none() && world.now() < end {
            world.run_until(self.next_at().min(end));
            self.apply(world);
        }
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.agenda.insert((at, self.seq), due);
        self.seq += 1;
    }

    fn record(&mut self, host: HostId) -> &mut Record {
        if self.records.len() <= host.index() {
            self.records.resize(host.index() + 1, STRANGER);
        }
        #[expect(clippy::indexing_slicing, reason = "made long enough above")]
        &mut self.records[host.index()]
    }

    fn enlist(&mut self, host: HostId) {
        let place = self.living.len() as u32;
        self.record(host).place = Some(place);
        self.living.push(host);
    }

    /// Poisson arrivals whose rate follows the hour: those of the highest rate, thinned out.
    fn arrival_after(&self, after: Instant, choices: &mut Choices) -> Instant {
        const PARTS: u32 = 1 << 20;
        let swing = ratio(self.turnover.swing);
        let mut at = after;
        loop {
            at = at + Duration::from_micros(round(self.gap * exponential(choices)).max(1));
            let in_day = at.as_micros() % DAY.as_micros() as u64;
            let turns = (in_day / 1_000_000) as u32;
            let wave = sin_turns(f64::from(turns) / DAY.as_secs_f64());
            let share = (1.0 + swing * wave) / (1.0 + swing);
            if f64::from(choices.below(About::Churn, PARTS)) < share * f64::from(PARTS) {
                return at;
            }
        }
    }

    fn depart(&mut self, world: &mut World, host: HostId) {
        let record = self.record(host);
        if record.is_spared {
            return;
        }
        let Some(place) = record.place.take() else { return };
        self.living.swap_remove(place as usize);
        if let Some(moved) = self.living.get(place as usize).copied() {
            self.record(moved).place = Some(place);
        }
        self.set_ids(host, [None; 2]);
        let Some(dht) = world.crash(host) else { return };
        self.tally.left += 1;
        let keeps_id = world.choices().chance(About::Churn, self.turnover.keeps_id);
        let keeps_table = world.choices().chance(About::Churn, self.turnover.keeps_table);
        let snapshot = keeps_id.then(|| what_is_kept(dht.snapshot(), keeps_table));
        self.absent.push_back(Absent { host, snapshot });
        if self.absent.len() > self.max_absent
            && let Some(gone) = self.absent.pop_front()
        {
            self.forgotten.push_back(gone.host);
        }
    }

    fn arrive(&mut self, world: &mut World) {
        let returns = world.choices().chance(About::Churn, self.turnover.returning);
        let (host, snapshot) = match self.pick_absent(returns, world.choices()) {
            Some(absent) => (absent.host, absent.snapshot),
            None => match self.new_host(world) {
                Some(host) => (host, None),
                // Not a single place is left.
                None => return,
            },
        };
        self.tally.returned += u64::from(returns);
        self.tally.kept_id += u64::from(snapshot.is_some());
        self.tally.came += 1;
        self.begin(world, host, snapshot.as_ref());
        let length = self.sessions.whole(world.choices());
        self.schedule(world.now() + length, Due::Departure(host));
    }

    /// Somebody who comes back, if anybody is away.
    fn pick_absent(&mut self, returns: bool, choices: &mut Choices) -> Option<Absent> {
        if !returns || self.absent.is_empty() {
            return None;
        }
        let pick = choices.below(About::Churn, self.absent.len() as u32) as usize;
        // The order of the others matters little: the first is somebody long gone all the same.
        self.absent.swap_remove_back(pick)
    }

    /// A host for a newcomer: a new one while there is room, or one whose owner is long gone.
    fn new_host(&mut self, world: &mut World) -> Option<HostId> {
        if world.addresses_left() > 1 && world.len() < self.max_hosts {
            let addrs = world.next_addrs(self.networks);
            let host = world.add_nobody(addrs);
            world.draw_access(host);
            return Some(host);
        }
        self.forgotten.pop_front().or_else(|| Some(self.absent.pop_front()?.host))
    }

    /// Starts a node at a host and tells it of somebody.
    fn begin(&mut self, world: &mut World, host: HostId, snapshot: Option<&Snapshot>) {
        let record = self.record(host);
        record.life += 1;
        let life = record.life;
        let introducers = self.introducers(world);
        self.enlist(host);
        world.restart(host, &self.config, world.networks(host), snapshot, life);
        world.with(host, |dht, local| {
            for addr in introducers {
                dht.add_bootstrap(local, addr);
            }
        });
        self.look(world, host, life, 0);
    }

    /// A few of the living whom everybody reaches.
    fn introducers(&self, world: &mut World) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for _ in 0..8 * INTRODUCERS {
            let Some(host) = world.choices().pick(About::Churn, &self.living).copied() else {
                break;
            };
            if found.len() < 2 * INTRODUCERS && world.net().is_reachable(host) {
                found.extend(world.addrs(host).iter());
            }
        }
        found
    }

    /// Corrects the oracles on one node.
    fn look(&mut self, world: &World, host: HostId, life: u32, times: usize) {
        let record = self.record(host);
        if record.life != life || record.place.is_none() {
            return;
        }
        self.set_ids(host, FAMILIES.map(|family| public_id(world, host, family)));
        if let Some(pause) = LOOKS.get(times).or_else(|| LOOKS.last()) {
            self.schedule(world.now() + *pause, Due::Look { host, life, times: times + 1 });
        }
    }

    fn set_ids(&mut self, host: HostId, ids: [Option<NodeId>; 2]) {
        let before = core::mem::replace(&mut self.record(host).ids, ids);
        for (family, (before, now)) in FAMILIES.into_iter().zip(before.into_iter().zip(ids)) {
            if before == now {
                continue;
            }
            let oracle = self.oracles.of_mut(family);
            if let Some(id) = before {
                oracle.remove(id, host);
            }
            if let Some(id) = now {
                oracle.insert(id, host);
            }
        }
    }

    /// Corrects the oracles on everybody: ids move by themselves, too.
    pub fn look_at_all(&mut self, world: &World) {
        for host in self.living.clone() {
            self.set_ids(host, FAMILIES.map(|family: Family| public_id(world, host, family)));
        }
    }
}

/// What somebody who is away keeps: the ids, and perhaps contacts.
fn what_is_kept(snapshot: Snapshot, keeps_table: bool) -> Snapshot {
    let mut kept = Snapshot::default();
    let most = if keeps_table { REMEMBERED } else { 0 };
    kept.v4 = snapshot.v4.map(|family| part_of(family, most));
    kept.v6 = snapshot.v6.map(|family| part_of(family, most));
    kept
}

fn part_of<A: Copy>(family: FamilySnapshot<A>, most: usize) -> FamilySnapshot<A> {
    let mut part = FamilySnapshot::new(family.id);
    part.contacts = family.contacts.into_iter().take(most).collect();
    part.contacts.shrink_to_fit();
    part
}

#[cfg(test)]
mod tests;
