//! The suite inside the simulator: our nodes are hosts of the simulated world.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::Networks;
use dht_proto::addr::Family;
use dht_proto::health::Health;
use dht_proto::id::NodeId;
use dht_proto::request::{Event, Lookup, LookupId};
use dht_proto::stats::Stats;
use dht_sim::host::Addrs;
use dht_sim::{HostId, World};

use super::{Found, Places, Recipe, Setting, Subject, Terrain};

/// Virtual time after which a lookup counts as one that never ends.
const PATIENCE: Duration = Duration::from_secs(300);

/// A simulated world.
#[derive(Debug)]
pub struct Inside {
    world: Rc<RefCell<World>>,
    places: Places,
}

/// A host of it.
#[derive(Debug)]
pub struct Inhabitant {
    world: Rc<RefCell<World>>,
    host: HostId,
    number: u8,
    /// Events that were taken while another lookup was waited for.
    kept: RefCell<Vec<Event>>,
}

impl Setting for Inside {
    type Subject = Inhabitant;

    fn open(terrain: &Terrain) -> Self {
        let (world, places) = terrain.build_inside();
        Self { world: Rc::new(RefCell::new(world)), places }
    }

    fn places(&self) -> &Places {
        &self.places
    }

    fn start(&self, recipe: &Recipe) -> Inhabitant {
        let addrs = Addrs::of(&[Terrain::client_addr(recipe.number)]);
        let config = Arc::new(recipe.config());
        let host = self.world.borrow_mut().add_node_at(addrs, &config, Networks::V4);
        Inhabitant {
            world: Rc::clone(&self.world),
            host,
            number: recipe.number,
            kept: RefCell::default(),
        }
    }

    fn restart(&self, subject: Inhabitant) -> Inhabitant {
        let recipe = Recipe { number: subject.number, bootstrap: Vec::new() };
        let mut world = self.world.borrow_mut();
        let snapshot = world.crash(subject.host).expect("a node is there").snapshot();
        let config = Arc::new(recipe.config());
        world.restart(subject.host, &config, Networks::V4, Some(&snapshot), 1);
        Inhabitant { kept: RefCell::default(), ..subject }
    }

    fn close(self) {
        let mut world = self.world.borrow_mut();
        world.run_for(PATIENCE);
        assert!(world.violation().is_none(), "{:?}", world.violation());
        let ended = std::iter::from_fn(|| world.next_event())
            .filter(|(_, event)| matches!(event, Event::Done { .. }))
            .count();
        assert_eq!(ended, 0, "an end was told that nobody waited for");
    }
}

impl Inhabitant {
    fn with<T>(&self, look: impl FnOnce(&dht_proto::Dht, dht_proto::time::Instant) -> T) -> T {
        let world = self.world.borrow();
        look(world.node(self.host).expect("a node is there"), world.now())
    }
}

impl Subject for Inhabitant {
    type Running = LookupId;

    fn begin(&self, lookup: Lookup) -> LookupId {
        let started = self.world.borrow_mut().start(self.host, &lookup);
        started.expect("a node is there").expect("room for a lookup")
    }

    fn finish(&self, running: LookupId) -> Found {
        let mut world = self.world.borrow_mut();
        let mut kept = self.kept.borrow_mut();
        let end = world.now() + PATIENCE;
        loop {
            kept.extend(world.take_events(self.host));
            let is_end = |event: &Event| matches!(event, Event::Done { .. });
            let (mine, others): (Vec<_>, Vec<_>) =
                kept.drain(..).partition(|event| event.lookup() == Some(running));
            let ends = mine.iter().filter(|event| is_end(event)).count();
            *kept = others;
            if ends == 0 {
                kept.extend(mine);
                assert!(world.step(end), "the lookup never ended");
                continue;
            }
            assert_eq!(ends, 1, "an end is told once");
            let mut events = mine;
            let Some(Event::Done { outcome, .. }) = events.pop() else {
                panic!("something was told after the end: {events:?}")
            };
            return Found { events, outcome: *outcome };
        }
    }

    fn cancel(&self, running: LookupId) {
        assert!(self.world.borrow_mut().cancel(self.host, running), "it was running");
        self.kept.borrow_mut().retain(|event| event.lookup() != Some(running));
    }

    fn addr(&self) -> SocketAddr {
        Terrain::client_addr(self.number)
    }

    fn node_id(&self) -> NodeId {
        self.with(|dht, _| dht.node_id(Family::V4)).expect("it speaks IPv4")
    }

    fn stats(&self) -> Stats {
        self.with(|dht, _| dht.stats())
    }

    fn health(&self) -> Health {
        self.with(dht_proto::Dht::health)
    }
}
