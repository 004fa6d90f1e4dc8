//! Adversaries: hosts like any other that speak the protocol and mean harm.
//!
//! Each is an [`Actor`](crate::host::Actor) with knobs, takes every choice from
//! [`About::Adversary`](crate::choices::About), and acts at a bounded [`Pace`]. Some join with
//! [`World::add_actor`](crate::World::add_actor); others were honest nodes that everybody knows,
//! until [`World::replace`](crate::World::replace) turned them.
//!
//! | module | what it does |
//! |---|---|
//! | [`liar`] | answers with nodes that do not exist, or with its friends |
//! | [`sybil`] | a ring of ids, spread or around a target, that name each other and deny values |
//! | [`poisoner`] | queries everybody under an id near theirs |
//! | [`spoofer`] | replies from where it is not, under guessed transaction ids |
//! | [`replayer`] | uses tokens from elsewhere, for something else, elsewhere, or too late |
//! | [`amplifier`] | asks for the largest replies in the name of a victim |
//! | [`flooder`] | stores as much as it can, with tokens that are valid, and what is not to be stored |
//! | [`slow`] | answers just before the asker gives up |
//! | [`stray`] | answers from where it was not asked, or twice |
//! | [`garbage`] | sends what is no message, or almost one |

pub mod amplifier;
pub(crate) mod craft;
pub mod flooder;
pub mod garbage;
pub mod liar;
pub mod poisoner;
pub mod replayer;
pub mod slow;
pub mod spoofer;
pub mod stray;
pub mod sybil;

use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::request::NodeInfo;

use crate::host::Stage;
use crate::kinds::kinds;
use crate::world::{HostId, World};

kinds! {
    /// The sorts of adversaries, as runs of the swarm draw them.
    pub enum Kind {
        /// See [`liar`].
        Liar = "liar",
        /// See [`sybil`].
        Sybil = "sybil",
        /// See [`poisoner`].
        Poisoner = "poisoner",
        /// See [`spoofer`].
        Spoofer = "spoofer",
        /// See [`replayer`].
        Replayer = "replayer",
        /// See [`amplifier`].
        Amplifier = "amplifier",
        /// See [`flooder`].
        Flooder = "flooder",
        /// See [`slow`].
        Slow = "slow",
        /// See [`stray`].
        Stray = "stray",
        /// See [`garbage`].
        Garbage = "garbage",
    }
}

/// A host's node as others name it, if it is in that network.
#[must_use]
pub fn contact(world: &World, host: HostId, family: Family) -> Option<NodeInfo> {
    let id = world.node(host)?.node_id(family)?;
    let addrs = world.addrs(host);
    let addr = match family {
        Family::V4 => SocketAddr::V4(addrs.v4?),
        Family::V6 => SocketAddr::V6(addrs.v6?),
    };
    Some(NodeInfo { id, addr })
}

/// Most that anybody does at one time.
const MAX_BURST: u32 = 256;
/// Shortest time between.
const MIN_EVERY: Duration = Duration::from_millis(1);

/// How often an adversary acts, and how much it sends each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a rate has nothing else")]
pub struct Pace {
    /// Time from one burst to the next; at least a millisecond.
    pub every: Duration,
    /// Datagrams in a burst; at most 256.
    pub burst: u32,
}

impl Pace {
    /// So many datagrams a second, one at a time.
    #[must_use]
    pub fn per_second(datagrams: u32) -> Self {
        Self { every: Duration::from_secs(1) / datagrams.max(1), burst: 1 }
    }

    /// What to send now; asks to be woken for the next burst.
    fn turns(self, stage: &mut Stage<'_>) -> core::ops::Range<u32> {
        stage.wake_at(stage.now + self.every.max(MIN_EVERY));
        0..self.burst.min(MAX_BURST)
    }
}
