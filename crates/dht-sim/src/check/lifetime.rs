//! I6, to the end: what is stored is found until its time is up, and told by nobody from then on.
//!
//! Worlds live for minutes and what is stored lives for hours, and what is past its time is swept away
//! soon after: hardly anybody would ask for it in between. So those who store something have their
//! clocks set ahead, first to shortly before the end and then to the end, and somebody asks both times.
//! That nobody tells what has expired is for [`storage`](super::storage) to say.

use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::id::InfoHash;
use dht_proto::request::{AnnouncePort, Lookup, Outcome};
use dht_proto::time::Instant;

use super::liveness::{Users, is_server, look_up, make_item};
use super::storage::PEER_ROUNDING;
use super::{Violation, demand};
use crate::choices::About;
use crate::world::{HostId, World};

/// The name of the invariant.
pub const NAME: &str = "I6 lifetime";

/// How long before the end somebody asks: lookups take seconds.
const BEFORE: Duration = Duration::from_secs(20);

/// Has users of a world without faults store something, and looks that its nodes forget it, and not
/// too soon.
///
/// # Errors
/// What was not found although its time was not up, or the invariant that the world broke.
pub fn demand_lifetimes(world: &mut World) -> Result<(), Box<Violation>> {
    let result = check(world);
    if let Some(violation) = world.violation() {
        return Err(Box::new(violation.clone()));
    }
    let (at, event) = (world.now(), world.trace().events());
    result.map_err(|what| Box::new(Violation { invariant: NAME, at, event, host: None, what }))
}

/// One thing in each world is enough: whose clock leaps refreshes all that it knows.
fn check(world: &mut World) -> Result<(), String> {
    let Some(users) = Users::pick(world)? else { return Ok(()) };
    let is_item = world.choices().below(About::Workload, 2) == 0;
    let thing = if is_item { Thing::item(world)? } else { Thing::peer(world)? };
    let stored = thing.store(world, users)?;
    thing.ask(world, users, &stored)
}

/// Something that can be stored.
#[derive(Debug)]
struct Thing {
    put: Lookup,
    get: Lookup,
    lifetime: fn(&Config) -> Duration,
    is_found: fn(&Outcome) -> bool,
}

/// What came of storing it.
#[derive(Debug)]
struct Stored {
    began: Instant,
    outcome: Outcome,
    lifetime: Duration,
}

impl Thing {
    fn peer(world: &mut World) -> Result<Self, String> {
        let info_hash = InfoHash::from_bytes(*make_item(world)?.id().as_bytes());
        let (port, seed) = (AnnouncePort::Explicit(7_778), false);
        Ok(Self {
            put: Lookup::Announce { info_hash, port, seed },
            get: Lookup::GetPeers { info_hash, scrape: false, noseed: false },
            lifetime: |config| config.peer_lifetime + PEER_ROUNDING,
            is_found: |got| got.peers > 0,
        })
    }

    fn item(world: &mut World) -> Result<Self, String> {
        let item = make_item(world)?;
        let target = item.id();
        Ok(Self {
            put: Lookup::PutItem { item: Box::new(item), cas: None },
            get: Lookup::GetItem { target, salt: Vec::new(), newer_than: None },
            lifetime: |config| config.item_lifetime,
            is_found: |got| got.item.is_some(),
        })
    }

    fn store(&self, world: &mut World, users: Users) -> Result<Stored, String> {
        let config = world.node(users.writer).and_then(|dht| dht.config());
        let lifetime = config.map(self.lifetime).unwrap_or_default();
        let began = world.now();
        let outcome = look_up(world, users.writer, &self.put)?;
        Ok(Stored { began, outcome, lifetime })
    }

    /// Asks for it shortly before its end, and at the end.
    fn ask(&self, world: &mut World, users: Users, stored: &Stored) -> Result<(), String> {
        // Whoever stored it first forgets it first, and last who stored it last.
        let spent = BEFORE + world.now().since(stored.began);
        stored.set_ahead(world, stored.lifetime.saturating_sub(spent));
        let must = stored.lifetime > spent && stored.is_there(world, users);
        let asked = world.now();
        let got = look_up(world, users.reader, &self.get)?;
        // Each whose clock leapt may be silent for seconds, and the last to be asked has forgotten it then.
        let in_time = world.now().since(asked) < BEFORE;
        demand((self.is_found)(&got) || !must || !in_time, || {
            let Users { writer, reader, .. } = users;
            format!("node {reader} does not find what node {writer} stored, and has yet to expire")
        })?;
        stored.set_ahead(world, spent);
        look_up(world, users.reader, &self.get).map(drop)
    }
}

impl Stored {
    /// Sets the clocks ahead of all where it is, and of some where it may not be.
    fn set_ahead(&self, world: &mut World, by: Duration) {
        let hosts = self.outcome.closest.iter().filter_map(|node| world.host_at(node.addr));
        let mut hosts: Vec<HostId> = hosts.collect();
        hosts.sort_unstable();
        hosts.dedup();
        for host in hosts {
            let clock = world.clock(host);
            world.set_clock(host, clock.changed(world.now(), clock.ppm, by));
        }
    }

    /// Whether somebody has it who answers the reader, and nothing gets lost on its way. Whose clock
    /// leapt may be no server any more until strangers have come again.
    fn is_there(&self, world: &World, Users { reader, family, .. }: Users) -> bool {
        let Outcome { closest, stored, refusals, .. } = &self.outcome;
        let answers = |host: HostId| host != reader && is_server(world, host, family);
        let near = closest.iter().filter(|node| Family::of(&node.addr) == family);
        let answering = near.filter(|node| world.host_at(node.addr).is_some_and(answers)).count();
        let all = closest.len();
        world.net().profile().is_lossless()
            && refusals.is_empty()
            && *stored as usize + answering > all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::choices::{Choices, Ratio};
    use crate::population::{Census, settle};
    use crate::world::Setup;
    use dht_proto::Networks;
    use dht_proto::config::Mode;
    use std::sync::Arc;

    fn settled(tune: impl FnOnce(&mut Config)) -> (World, Arc<Config>) {
        let mut config = Config::default();
        config.mode = Mode::Server;
        tune(&mut config);
        let mut world = World::new(Setup::default(), Choices::seeded(9));
        for checker in check::all() {
            world.watch(checker);
        }
        let config = Arc::new(config);
        settle(&mut world, &Census { nodes: 30, dead: Ratio::ZERO, config: config.clone() });
        (world, config)
    }

    #[test]
    fn what_is_stored_is_forgotten_in_time() {
        let hours = |_: &mut Config| ();
        let minutes = |config: &mut Config| {
            config.peer_lifetime = Duration::from_secs(60);
            config.item_lifetime = Duration::from_secs(60);
        };
        for mut world in [settled(hours).0, settled(minutes).0] {
            // Both things come up, as chance has it.
            (0..6).for_each(|_| demand_lifetimes(&mut world).unwrap());
        }
    }

    #[test]
    fn what_is_forgotten_too_soon_is_missed() {
        for make in [Thing::peer, Thing::item] {
            let (mut world, config) = settled(|_| ());
            let users = Users::pick(&mut world).unwrap().unwrap();
            let thing = make(&mut world).unwrap();
            let stored = thing.store(&mut world, users).unwrap();
            for node in &stored.outcome.closest {
                let host = world.host_at(node.addr).unwrap();
                world.restart(host, &config, Networks::V4, None, 1);
            }
            let words = thing.ask(&mut world, users, &stored).unwrap_err();
            assert!(words.contains("does not find"), "{words}");
        }
    }

    /// Somebody is asked at the end who has what is asked for: nothing less shows that he forgets it.
    #[test]
    fn those_who_store_something_are_asked_at_the_end() {
        let (mut world, _) = settled(|_| ());
        let users = Users::pick(&mut world).unwrap().unwrap();
        let thing = Thing::item(&mut world).unwrap();
        let stored = thing.store(&mut world, users).unwrap();
        thing.ask(&mut world, users, &stored).unwrap();
        let items = |world: &World| {
            let hosts = stored.outcome.closest.iter().filter_map(|node| world.host_at(node.addr));
            hosts.filter_map(|host| world.node(host)).map(|dht| dht.stats().items).sum::<u64>()
        };
        assert_eq!(items(&world), 8, "expired, and not swept away yet");
        for host in (0..30).map(HostId).filter_map(|host| world.node(host)) {
            let v4 = host.snapshot().v4.unwrap();
            assert!(v4.items.iter().all(|(_, left)| left.is_zero()));
        }
    }
}
