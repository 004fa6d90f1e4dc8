//! A reproducible internet in memory.
//!
//! Shipped [`Dht`](dht_proto::Dht) nodes exchange encoded datagrams in virtual time: the code that
//! answers on the internet is the code that runs here, and every step follows from a seed, so what
//! went wrong once goes wrong again. [`World`] is the place to start.
//!
//! | module | what it does |
//! |---|---|
//! | [`choices`] | where every choice comes from: a seed, a fuzzer's bytes, or all of them in turn |
//! | [`world`] | hosts, virtual time, what users do |
//! | [`population`] | a network in equilibrium, to start from |
//! | [`churn`] | who comes and goes |
//! | [`faults`] | what can go wrong with a host or between hosts, and how it is mended |
//! | [`oracle`] | who is truly closest |
//! | [`profile`] | what an internet is like, under a name |
//! | [`net`] | what becomes of a datagram between two hosts |
//! | [`host`] | other makes, as ordinary hosts |
//! | [`hand`] | one node without a world |
//! | [`adversary`] | those who mean harm |
//! | [`check`] | the invariants that every simulated test is watched for |
//! | [`swarm`], [`options`] | runs in which each seed draws what goes wrong and what users do |
//! | [`shrink`] | the smallest run that still breaks the same invariant |
//! | [`trace`] | the hash over a run, and recordings of it |
//! | [`verify`] | signatures, each checked once |
//! | [`address`], [`queue`] | addresses without a hash map; a calendar queue |

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "in a test a panic is a failure that says where"
    )
)]

pub mod address;
pub mod adversary;
pub mod check;
pub mod choices;
pub mod churn;
mod curve;
pub mod faults;
pub mod hand;
pub mod host;
mod kinds;
pub mod net;
pub mod options;
pub mod oracle;
mod packets;
pub mod population;
pub mod profile;
pub mod queue;
pub mod shrink;
pub mod swarm;
pub mod trace;
pub mod verify;
pub mod world;

pub use address::Range;
pub use choices::{About, Choices, Ratio};
pub use profile::Profile;
pub use world::{Datagram, HostId, Setup, World};
