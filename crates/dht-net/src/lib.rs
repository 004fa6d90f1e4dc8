//! What the DHT runtimes share besides the loop: everything that touches the system but does not
//! wait.
//!
//! [`Builder`] makes a [`Node`], which a [`Runtime`] then runs: [`Sockets`] that move batches of
//! datagrams (recvmmsg and sendmmsg on Linux), the clock, the [`Saver`] of the state file, the
//! [`Resolver`] of bootstrap hosts. The vocabulary of both runtimes, [`Error`], [`Notice`],
//! [`Health`], is here too.
//!
//! Waiting is the runtimes' business: for sockets ([`Watch`]), and for what blocks (`Saver::save`,
//! `Resolver::turn`), each of which they call where it harms nobody.

#[cfg(all(target_os = "linux", not(dht_portable)))]
mod batch;
mod clock;
mod error;
#[cfg(all(target_os = "linux", not(dht_portable)))]
mod errors;
mod health;
mod node;
mod notice;
mod options;
mod resolver;
mod single;
mod sockets;
mod state;
mod tally;
mod udp;

pub use clock::after;
pub use error::{Error, ErrorKind};
pub use health::{ExternalAddr, Health, Stats};
pub use node::Node;
pub use notice::{Notice, Notices};
pub use options::{Builder, DEFAULT_BOOTSTRAP, Runtime};
pub use resolver::{Post, Resolver};
pub use sockets::{Sockets, Watch, Watched};
pub use state::{SaveTimes, Saver};
pub use tally::{Sample, Tally};
pub use udp::{Calls, UdpSocket, listen};
