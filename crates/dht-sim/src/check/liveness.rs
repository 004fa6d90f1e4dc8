//! I10: liveness. Once faults have ended, a network mends itself in bounded time: lookups return the
//! k closest nodes that there truly are, what was put is got, who announced is found, everybody can
//! be reached from everybody over contacts, and nobody takes itself for a server whom no stranger
//! reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dht_proto::Dht;
use dht_proto::addr::Family;
use dht_proto::config::Mode;
use dht_proto::id::{InfoHash, NodeId};
use dht_proto::item::{Item, bencode_bytes};
use dht_proto::request::{AnnouncePort, Event, Lookup, Outcome};

use super::{Violation, demand};
use crate::choices::About;
use crate::oracle::Oracle;
use crate::population::FAMILIES;
use crate::profile::Filtering;
use crate::world::{HostId, World};

/// The name of the invariant.
pub const NAME: &str = "I10 liveness";

/// Seconds after the end of faults at which a network is looked at; the last one decides.
const LOOKS: [u64; 8] = [60, 120, 240, 480, 960, 1_920, 3_840, 7_680];
/// Nodes of each network that a reply has room for if both are asked for (BEP 32): of a greater k
/// the last ones need not be heard of.
const NAMED_ON_BOTH: usize = 12;
/// What a host's access link may add to a round trip, compared with the best one, to be demanded
/// anything of: lookups pass over those that answer much later than others.
const ACCESS: Duration = Duration::from_millis(250);
/// Lookups made at each look.
const SAMPLE: usize = 6;
/// How often one is made where datagrams get lost: lookups ask nobody twice, so that each misses who
/// was asked in vain. Nobody is missed every time: of mobile hosts one in six questions is in vain.
const TRIES_WITH_LOSS: u32 = 6;

/// Lets a healed world run until it has mended itself. Nodes of which `is_hurt` forgot whom they had
/// sent to when their clock leapt or they began anew: for an hour they may mistake for strangers those
/// who come through holes that they made before.
///
/// # Errors
/// What is still wrong after two hours.
pub fn demand_convergence(
    world: &mut World,
    is_hurt: impl Fn(HostId) -> bool,
) -> Result<(), Box<Violation>> {
    let healed = world.now();
    let mut last = String::new();
    for secs in LOOKS {
        world.run_until(healed + Duration::from_secs(secs));
        match check_roles(world, &is_hurt).and_then(|()| check(world)) {
            Ok(()) => return Ok(()),
            Err(words) => last = words,
        }
        if let Some(violation) = world.violation() {
            return Err(Box::new(violation.clone()));
        }
    }
    let (at, event) = (world.now(), world.trace().events());
    let words = format!("{} s after all faults ended: {last}", world.now().since(healed).as_secs());
    Err(Box::new(Violation { invariant: NAME, at, event, host: None, what: words }))
}

/// Looks whether a world without faults works.
///
/// # Errors
/// What does not.
pub fn check(world: &mut World) -> Result<(), String> {
    let mut anybody = false;
    for family in FAMILIES {
        let census = Census::of(world, family);
        if census.users.is_empty() {
            continue;
        }
        demand(census.is_answered, || format!("nobody answers on {family}"))?;
        anybody = true;
        check_connected(world, family, &census)?;
        for _ in 0..SAMPLE {
            check_lookup(world, family, &census)?;
        }
    }
    demand(anybody, || "no node is left".to_owned())?;
    check_values(world)
}

/// Who is there.
struct Census {
    /// Every node, with its id.
    all: BTreeMap<HostId, NodeId>,
    /// Those that are attached well enough to be demanded anything of.
    users: Vec<(HostId, NodeId)>,
    /// Those that answer for good, whoever asks.
    servers: Oracle,
    /// Somebody answers, however badly attached.
    is_answered: bool,
    /// There are others that answer some and not all: tables name them, and not those behind them.
    is_crowded: bool,
}

impl Census {
    fn of(world: &World, family: Family) -> Self {
        let (mut all, mut users, mut servers) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (mut is_answered, mut is_crowded) = (false, false);
        let hosts = (0..world.len() as u32).map(HostId).filter(|host| world.node(*host).is_some());
        let own = |host: HostId| world.net().round_trip(host, host);
        let best = hosts.clone().map(own).min().unwrap_or_default();
        for host in hosts {
            let Some(id) = world.node(host).and_then(|dht| dht.node_id(family)) else { continue };
            all.insert(host, id);
            let (is_reachable, answers) =
                (world.net().is_reachable(host), is_server(world, host, family));
            is_answered |= is_reachable && answers;
            is_crowded |= !is_reachable && answers;
            if own(host) > best + 2 * ACCESS {
                continue;
            }
            users.push((host, id));
            if is_reachable && answers {
                servers.push((id, host));
            }
        }
        Self { all, users, servers: Oracle::new(servers), is_answered, is_crowded }
    }

    /// Some node, by chance.
    fn pick(&self, world: &mut World) -> Option<(HostId, NodeId)> {
        world.choices().pick(About::Workload, &self.users).copied()
    }
}

pub(super) fn is_server(world: &World, host: HostId, family: Family) -> bool {
    let health = world.node(host).map(|dht| dht.health(world.local_time(host)));
    let health = health.and_then(|health| match family {
        Family::V4 => health.v4,
        Family::V6 => health.v6,
    });
    health.is_some_and(|health| health.server)
}

/// Whoever looked whether strangers reach it, and is behind something that keeps them out, found
/// that out.
fn check_roles(world: &World, is_hurt: impl Fn(HostId) -> bool) -> Result<(), String> {
    for host in (0..world.len() as u32).map(HostId).filter(|host| !is_hurt(*host)) {
        let config = world.node(host).and_then(Dht::config);
        let is_adaptive = config.is_some_and(|config| config.mode == Mode::Adaptive);
        let Some(nat) = world.net().nat(host) else { continue };
        let keeps_out = nat.filtering != Filtering::Open;
        for family in FAMILIES {
            demand(!(is_adaptive && keeps_out && is_server(world, host, family)), || {
                format!("node {host} takes itself for a server on {family}, behind a {nat}")
            })?;
        }
    }
    Ok(())
}

/// Everybody knows a server, and every server is reached from every other.
fn check_connected(world: &World, family: Family, census: &Census) -> Result<(), String> {
    let servers: BTreeSet<HostId> = census.servers.nodes().iter().map(|(_, host)| *host).collect();
    let (mut to, mut from) = (BTreeMap::new(), BTreeMap::new());
    for &(host, _) in &census.users {
        let contacts = world.node(host).map(|dht| dht.contacts(family)).unwrap_or_default();
        let known: Vec<HostId> = contacts
            .iter()
            .filter_map(|contact| world.host_at(contact.addr))
            .filter(|other| servers.contains(other) && *other != host)
            .collect();
        let alone = census.servers.nodes().iter().all(|(_, other)| *other == host);
        demand(alone || !known.is_empty(), || format!("node {host} knows nobody who answers"))?;
        for other in known.iter().filter(|_| servers.contains(&host)) {
            from.entry(*other).or_insert_with(Vec::new).push(host);
        }
        to.insert(host, known);
    }
    let Some(&first) = servers.first() else { return Ok(()) };
    for (edges, words) in [(&to, "is not reached from"), (&from, "does not reach")] {
        let mut seen = BTreeSet::from([first]);
        let mut next = vec![first];
        while let Some(host) = next.pop() {
            let near = edges.get(&host).into_iter().flatten();
            next.extend(near.copied().filter(|other| seen.insert(*other)));
        }
        if let Some(lost) = servers.difference(&seen).next() {
            return Err(format!("node {lost} {words} node {first} over {family} contacts"));
        }
    }
    Ok(())
}

fn check_lookup(world: &mut World, family: Family, census: &Census) -> Result<(), String> {
    let Some((asker, _)) = census.pick(world) else { return Ok(()) };
    let (Some((_, near)), Some(far)) = (census.pick(world), random_id(world)) else {
        return Ok(());
    };
    // Ids of nodes are where lookups must be exact; others lie anywhere between.
    let target = if world.choices().below(About::Workload, 2) == 0 { near } else { far };
    let Some(dht) = world.node(asker) else { return Ok(()) };
    let k = dht.config().map_or(0, |config| config.k);
    let on_both = [Family::V4, Family::V6].iter().all(|family| dht.node_id(*family).is_some());
    let k = if on_both { k.min(NAMED_ON_BOTH) } else { k };
    let tries = if world.net().profile().is_lossless() { 1 } else { TRIES_WITH_LOSS };
    let mut missed: Option<BTreeSet<HostId>> = None;
    for _ in 0..tries {
        let found = look_up(world, asker, &Lookup::FindNode { target })?;
        let mut now = missed_by(world, (asker, family), (target, k), census, &found)?;
        now.retain(|host| missed.as_ref().is_none_or(|missed| missed.contains(host)));
        if now.is_empty() {
            return Ok(());
        }
        missed = Some(now);
    }
    let host = missed.and_then(|missed| missed.first().copied()).unwrap_or(asker);
    let away = world.net().round_trip(asker, host);
    Err(format!("node {asker} does not find node {host} on {family}, {away:?} away, for {target}"))
}

/// Who should be among the closest nodes that were found, and is not.
fn missed_by(
    world: &World,
    (asker, family): (HostId, Family),
    (target, k): (NodeId, usize),
    census: &Census,
    found: &Outcome,
) -> Result<BTreeSet<HostId>, String> {
    let found: Vec<_> =
        found.closest.iter().filter(|node| Family::of(&node.addr) == family).collect();
    for node in &found {
        // Its port may be one that a NAT chose.
        let real = census.all.iter().any(|(host, id)| {
            *id == node.id && world.external(*host, family) == Some(node.addr.ip())
        });
        demand(real, || format!("node {asker} finds {:?}, who is not there", node.addr))?;
    }
    if census.is_crowded {
        let alone = census.servers.iter().all(|(_, host)| *host == asker);
        demand(alone || !found.is_empty(), || format!("node {asker} finds nobody"))?;
        return Ok(BTreeSet::new());
    }
    // Somebody who answers only on probation may take a place, and need not.
    let farthest = k.checked_sub(1).and_then(|last| found.get(last)).map(|node| node.id);
    let within = |id: NodeId| {
        farthest.is_none_or(|last| id.distance(target.target()) < last.distance(target.target()))
    };
    let truth = census.servers.closest(target.target(), k, |host| host != asker);
    let missed = truth.iter().filter(|(id, _)| within(*id) && found.iter().all(|n| n.id != *id));
    Ok(missed.map(|(_, host)| *host).collect())
}

/// A put is got and an announce is found, each by another node of a network in which there is
/// somebody else to store them.
fn check_values(world: &mut World) -> Result<(), String> {
    let Some(Users { writer, reader, .. }) = Users::pick(world)? else { return Ok(()) };
    let item = make_item(world)?;
    let (target, value) = (item.id(), item.value().to_vec());
    let put = look_up(world, writer, &Lookup::PutItem { item: Box::new(item), cas: None })?;
    demand(put.stored > 0, || format!("nobody stores what node {writer} puts: {put:?}"))?;
    let get = Lookup::GetItem { target, salt: Vec::new(), newer_than: None };
    let got = look_up(world, reader, &get)?;
    let same = got.item.as_ref().is_some_and(|item| item.value() == value);
    // Whoever stores it alone does not ask itself.
    let alone = put.closest.iter().all(|node| world.host_at(node.addr) == Some(reader));
    demand(same || alone, || format!("node {reader} does not get what node {writer} put"))?;
    let info_hash = InfoHash::from_bytes(*target.as_bytes());
    let (port, seed) = (AnnouncePort::Explicit(7_777), false);
    let told = look_up(world, writer, &Lookup::Announce { info_hash, port, seed })?;
    demand(told.stored > 0, || format!("nobody stores what node {writer} announces"))?;
    let get = Lookup::GetPeers { info_hash, scrape: false, noseed: false };
    let got = look_up(world, reader, &get)?;
    let alone = told.closest.iter().all(|node| world.host_at(node.addr) == Some(reader));
    demand(got.peers > 0 || alone, || format!("node {reader} does not find node {writer}"))
}

/// Who stores something, and who asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Users {
    pub(super) writer: HostId,
    pub(super) reader: HostId,
    /// A network that both are in.
    pub(super) family: Family,
}

impl Users {
    /// Two nodes of a network; `None` if nobody but the first can store anything.
    pub(super) fn pick(world: &mut World) -> Result<Option<Self>, String> {
        let mut family = *world.choices().pick(About::Workload, &FAMILIES).unwrap_or(&Family::V4);
        let mut census = Census::of(world, family);
        if census.users.is_empty() {
            family = other(family);
            census = Census::of(world, family);
        }
        let (Some((writer, _)), Some((reader, _))) = (census.pick(world), census.pick(world))
        else {
            return Err("no node is left".to_owned());
        };
        let alone = census.servers.iter().all(|(_, host)| *host == writer);
        Ok((!alone).then_some(Self { writer, reader, family }))
    }
}

/// An item that nobody has.
pub(super) fn make_item(world: &mut World) -> Result<Item, String> {
    let serial = world.choices().below(About::Workload, u32::MAX);
    Item::immutable(&bencode_bytes(&serial.to_be_bytes())).map_err(|e| format!("{e:?}"))
}

const fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

pub(super) fn look_up(world: &mut World, host: HostId, lookup: &Lookup) -> Result<Outcome, String> {
    let (events, outcome): (Vec<Event>, Outcome) = world
        .look_up(host, lookup)
        .ok_or_else(|| format!("a lookup of node {host} could not start or never ended"))?;
    drop(events);
    Ok(outcome)
}

fn random_id(world: &mut World) -> Option<NodeId> {
    let mut bytes = [0; 20];
    for byte in &mut bytes {
        *byte = world.choices().below(About::Workload, 256) as u8;
    }
    NodeId::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::{Choices, Ratio};
    use crate::population::{self, Census as People};
    use crate::world::Setup;
    use dht_proto::config::{Config, Mode};
    use std::sync::Arc;

    fn settled(nodes: u32) -> World {
        settled_with(nodes, |config| config.mode = Mode::Server)
    }

    fn settled_with(nodes: u32, tune: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::default();
        tune(&mut config);
        let mut world = World::new(Setup::default(), Choices::seeded(9));
        let config = Arc::new(config);
        population::settle(&mut world, &People { nodes, dead: Ratio::ZERO, config });
        world
    }

    #[test]
    fn a_settled_network_is_alive() {
        assert_eq!(check(&mut settled(30)), Ok(()));
    }

    #[test]
    fn a_network_in_two_halves_is_caught() {
        let mut world = settled(10);
        let mut config = Config::default();
        config.mode = Mode::Server;
        // Somebody whom nobody knows, and who knows nobody.
        world.add_node(&Arc::new(config), dht_proto::Networks::V4);
        let words = check(&mut world).unwrap_err();
        assert!(words.contains("knows nobody"), "{words}");
    }

    #[test]
    fn a_lookup_that_misses_a_node_or_makes_one_up_is_caught() {
        let mut world = settled(30);
        let census = Census::of(&world, Family::V4);
        let (target, asker) = (census.servers.nodes()[7].0, HostId(3));
        let (_, outcome) = world.look_up(asker, &Lookup::FindNode { target }).unwrap();
        let check =
            |found: &Outcome| missed_by(&world, (asker, Family::V4), (target, 8), &census, found);
        assert_eq!(check(&outcome), Ok(BTreeSet::new()));
        let mut missed = outcome.clone();
        let first = world.host_at(missed.closest.remove(0).addr).unwrap();
        assert_eq!(check(&missed), Ok(BTreeSet::from([first])));
        let mut invented = outcome;
        invented.closest[0].addr = "9.9.9.9:9".parse().unwrap();
        assert!(check(&invented).is_err());
    }

    #[test]
    fn a_network_that_stores_nothing_is_caught() {
        let tune = |config: &mut Config| (config.mode, config.max_items) = (Mode::Server, 0);
        let words = check(&mut settled_with(30, tune)).unwrap_err();
        assert!(words.contains("nobody stores what") && words.contains("puts"), "{words}");
        let tune = |config: &mut Config| (config.mode, config.max_torrents) = (Mode::Server, 0);
        let words = check(&mut settled_with(30, tune)).unwrap_err();
        assert!(words.contains("nobody stores what") && words.contains("announces"), "{words}");
    }

    #[test]
    fn a_network_in_which_nobody_answers_is_caught() {
        let words = check(&mut settled_with(5, |config| config.mode = Mode::Client)).unwrap_err();
        assert!(words.contains("nobody answers"), "{words}");
        assert!(check(&mut World::new(Setup::default(), Choices::seeded(9))).is_err());
    }

    #[test]
    fn a_server_whom_no_stranger_reaches_is_caught() {
        let mut world = settled_with(40, |_| ());
        world.run_for(Duration::from_secs(2 * 60 * 60));
        let proven = (0..40).map(HostId).find(|host| is_server(&world, *host, Family::V4));
        let host = proven.expect("somebody was reached by strangers");
        assert_eq!(check_roles(&world, |_| false), Ok(()));
        world.put_behind(host, &crate::profile::Nat::home());
        assert!(check_roles(&world, |_| false).unwrap_err().contains("takes itself for a server"));
    }
}
