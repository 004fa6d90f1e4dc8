//! A blocking node of the BitTorrent Mainline DHT.
//!
//! [`Builder`] sets a node up; [`Dht`] is the handle of a running one, for any thread, with one
//! blocking call per thing the DHT can do. The node runs on a thread of its own
//! ([`Builder::spawn`]), or on yours ([`Builder::build`], [`EventLoop`]).
//!
//! The protocol itself is `dht_proto`, re-exported as [`proto`]; this crate adds sockets, waiting,
//! the names of bootstrap hosts and the state file.

mod background;
mod event_loop;
mod handle;
mod lookup;
mod park;

pub use dht_driver::IoStats;
pub use dht_net::{
    Calls, DEFAULT_BOOTSTRAP, Error, ErrorKind, ExternalAddr, Health, Notice, Sample, Stats,
};
pub use dht_proto as proto;

pub use event_loop::{EventLoop, Mio, Watcher};
pub use handle::{DEFAULT_TIMEOUT, Dht};
pub use lookup::{LookupHandle, Peers};

/// Sets a node up: sockets, bootstrap hosts, state file, and the configuration of the protocol.
///
/// `spawn` starts the node on a thread of its own and returns its [`Dht`] handle; `build` returns
/// an [`EventLoop`], for a thread of yours.
pub type Builder = dht_net::Builder<Mio>;
