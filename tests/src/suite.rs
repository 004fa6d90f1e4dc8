//! One suite, several ways: the same scenarios and properties, run inside the simulator, through
//! each runtime over real sockets, and through the driver in virtual time with faults of the system.
//!
//! A [`Setting`] is a simulated network with a way to put a node of ours into it; a [`Subject`] is
//! that node, with the verbs that a user has. Every scenario is a function over any setting, and
//! [`suite!`](crate::suite!) makes the tests of one. Scenarios say what must hold, never how soon:
//! a machine that is slow makes them slow.

use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::config::{Config, Mode};
use dht_proto::health::Health;
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::Item;
use dht_proto::request::{AnnouncePort, Event, Lookup, Outcome};
use dht_proto::stats::Stats;

pub mod host;
pub mod inside;
pub mod io;
#[cfg(target_os = "linux")]
pub mod mio;
pub mod properties;
pub mod scenarios;
#[cfg(target_os = "linux")]
pub mod smol;
#[cfg(target_os = "linux")]
pub mod sockets;
pub mod terrain;

pub use terrain::{Places, Terrain};

/// What a lookup told.
#[derive(Clone, Debug)]
pub struct Found {
    /// On the way, in order.
    pub events: Vec<Event>,
    /// At the end.
    pub outcome: Outcome,
}

impl Found {
    /// The peers told, each as often as it was.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        let lists = self.events.iter().filter_map(|event| match event {
            Event::Peers { peers, .. } => Some(peers.clone()),
            _ => None,
        });
        lists.flatten().collect()
    }
}

/// A node to be put into a network.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Tells nodes of one network apart; each has an address of its own that follows from it.
    pub number: u8,
    /// Whom it asks first.
    pub bootstrap: Vec<SocketAddr>,
}

impl Recipe {
    /// What the node runs with.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.mode = Mode::Server;
        config.bootstrap.clone_from(&self.bootstrap);
        // The networks of the suite answer within milliseconds, and some of it waits on a real clock.
        // Longer than a seed needs to be asked as often as it may be.
        config.query_timeout = Duration::from_secs(5);
        config
    }
}

/// A simulated network, and a way to run nodes of ours in it.
pub trait Setting: Sized {
    /// A node of ours.
    type Subject: Subject;

    /// Builds the network.
    fn open(terrain: &Terrain) -> Self;

    /// Who can be asked there.
    fn places(&self) -> &Places;

    /// Starts a node.
    fn start(&self, recipe: &Recipe) -> Self::Subject;

    /// Stops a node as its user would, and starts it again from what it saved, with nobody to
    /// bootstrap from.
    fn restart(&self, subject: Self::Subject) -> Self::Subject;

    /// Lets everything in the network come to its end, as far as this setting can look into it, and
    /// panics if anything is wrong there.
    fn close(self) {}

    /// Starts a node that knows where to ask, and waits until it knows its neighbourhood.
    fn join(&self, number: u8) -> Self::Subject {
        let subject = self.start(&Recipe { number, bootstrap: self.places().bootstrap.clone() });
        scenarios::settle_in(&subject);
        subject
    }
}

/// A node of ours, with the verbs that its user has. Every call waits for its end.
pub trait Subject {
    /// A lookup that was started.
    type Running;

    /// Starts a lookup.
    fn begin(&self, lookup: Lookup) -> Self::Running;

    /// Waits for the end of a lookup. Implementations panic if they see an end twice.
    fn finish(&self, running: Self::Running) -> Found;

    /// Cancels a lookup.
    fn cancel(&self, running: Self::Running);

    /// Where others see it.
    fn addr(&self) -> SocketAddr;

    /// Its id.
    fn node_id(&self) -> NodeId;

    /// Its counters.
    fn stats(&self) -> Stats;

    /// How it is doing.
    fn health(&self) -> Health;

    /// Runs one lookup to its end.
    fn look_up(&self, lookup: Lookup) -> Found {
        let running = self.begin(lookup);
        self.finish(running)
    }

    /// BEP 5 `ping`.
    fn ping(&self, addr: SocketAddr) -> Outcome {
        self.look_up(Lookup::Ping { addr }).outcome
    }

    /// BEP 5 `find_node`.
    fn find_node(&self, target: NodeId) -> Outcome {
        self.look_up(Lookup::FindNode { target }).outcome
    }

    /// BEP 5 `get_peers`: each peer once, in no order.
    fn get_peers(&self, info_hash: InfoHash) -> Vec<SocketAddr> {
        let found = self.look_up(Lookup::GetPeers { info_hash, scrape: false, noseed: false });
        let mut peers = found.peers();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// BEP 5 `announce_peer`.
    fn announce(&self, info_hash: InfoHash, port: AnnouncePort) -> Outcome {
        self.look_up(Lookup::Announce { info_hash, port, seed: false }).outcome
    }

    /// BEP 44 `get`.
    fn get(&self, target: ItemId, salt: &[u8]) -> Outcome {
        self.look_up(Lookup::GetItem { target, salt: salt.to_vec(), newer_than: None }).outcome
    }

    /// BEP 44 `put`.
    fn put(&self, item: &Item, cas: Option<i64>) -> Outcome {
        self.look_up(Lookup::PutItem { item: Box::new(item.clone()), cas }).outcome
    }

    /// BEP 51 `sample_infohashes`.
    fn sample(&self, addr: SocketAddr, target: Target) -> Vec<InfoHash> {
        let found = self.look_up(Lookup::Sample { addr, target });
        let samples = found.events.into_iter().filter_map(|event| match event {
            Event::Samples { samples, .. } => Some(samples),
            _ => None,
        });
        samples.flatten().collect()
    }
}

/// The tests of one setting: `suite!(Inside)`.
#[macro_export]
macro_rules! suite {
    ($setting:ty, $($scenario:ident),+ $(,)?) => {
        $(
            #[test]
            fn $scenario() {
                $crate::suite::scenarios::$scenario::<$setting>();
            }
        )+
    };
    ($setting:ty) => {
        $crate::suite!(
            $setting,
            a_newcomer_finds_the_closest,
            what_is_announced_is_found,
            items_move_forward_only,
            rough_weather_loses_nothing,
            dead_contacts_do_not_block,
            a_cancelled_lookup_is_gone,
            many_lookups_at_once,
            a_restart_needs_nobody,
            silence_is_told_in_words,
        );

        #[test]
        fn whatever_is_put_is_got() {
            $crate::suite::properties::whatever_is_put_is_got::<$setting>();
        }

        #[test]
        fn stories_agree_with_a_model() {
            $crate::suite::properties::stories_agree_with_a_model::<$setting>();
        }
    };
}
