//! A blocking node of the BitTorrent Mainline DHT.
//!
//! [`Builder`] sets a node up; [`Dht`] is the handle of a running one, for any thread, with one
//! blocking call per thing the DHT can do. The node runs on a thread of its own
//! ([`Builder::spawn`]), or on yours ([`Builder::build`], [`EventLoop`]).
//!
//! The protocol itself is `dht_proto`, re-exported as [`proto`]; this crate adds sockets, waiting,
//! the names of bootstrap hosts and the state file.

mod builder;
mod channel;
mod clock;
mod error;
mod event_loop;
mod handle;
mod health;
mod lookup;
mod notice;
mod resolver;
mod socket;
mod state;

pub use dht_driver::IoStats;
pub use dht_net::Calls;
pub use dht_proto as proto;

pub use builder::{Builder, DEFAULT_BOOTSTRAP};
pub use error::{Error, ErrorKind};
pub use event_loop::EventLoop;
pub use handle::{DEFAULT_TIMEOUT, Dht, Sample};
pub use health::{ExternalAddr, Health, Stats};
pub use lookup::{LookupHandle, Peers};
pub use notice::Notice;

/// The examples of the README run as doctests, so that they stay true.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
