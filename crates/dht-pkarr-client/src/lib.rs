//! Publishes and resolves PKARR's signed packets: in the DHT, at relays over HTTP, with a cache.
//!
//! The rules are those of [`dht_pkarr`], without I/O; this crate carries out what they ask for. There
//! are two clients of one shape: `smol::Client` has futures, for any executor, and
//! `mio::Client` blocks.
//!
//! Both ask the DHT and all relays at once. Packets are verified, whoever has them, so that a relay
//! can hide a packet but not forge one; the newest counts.

#[cfg(not(any(feature = "mio", feature = "smol")))]
compile_error!("a client needs the feature `mio` or `smol`");

mod build;
mod cache;
mod clock;
mod keep_alive;
mod publish;
mod relay;
mod resolve;

#[cfg(feature = "mio")]
pub mod mio;
#[cfg(feature = "smol")]
pub mod smol;

pub use dht_pkarr as pkarr;
pub use dht_pkarr::resolve::Policy;

pub use build::{BuildError, Builder, DEFAULT_TIMEOUT};
pub use cache::{DEFAULT_CAPACITY, PacketCache};
pub use clock::now;
pub use keep_alive::{Copies, KeepAliveError, KeepAliveOptions, Kept};
pub use publish::{PublishError, Published};
pub use relay::{RelayError, http_date, parse_http_date};
pub use resolve::{Origin, ResolveError, Resolved, Trouble};
