//! The BitTorrent Mainline DHT as a pure, sans-IO state machine.
//!
//! [`Dht`] takes datagrams and time, and gives datagrams and events. It does no I/O, reads no clock,
//! starts no thread and asks nobody for randomness, so the same code runs on the internet, in a
//! simulator, under a fuzzer, and inside any event loop. The crate is `no_std` (with `alloc`), which
//! is what keeps it so: a clock or a socket cannot even be named.
//!
//! # Driving it
//!
//! **Feed every input with the present time, do what is due, then drain, then sleep until
//! `poll_timeout`.** This is the whole loop, here over a socket that is really two nodes in one process:
//!
//! ```
//! use std::sync::Arc;
//! use dht_proto::config::{Config, Mode};
//! use dht_proto::request::{Event, Lookup};
//! use dht_proto::seed::Seed;
//! use dht_proto::time::Instant;
//! use dht_proto::{Dht, MAX_DATAGRAM, Networks};
//!
//! let mut config = Config::default();
//! config.mode = Mode::Server;
//! let config = Arc::new(config);
//! let addrs = ["127.0.0.1:6881", "127.0.0.2:6881"].map(|addr| addr.parse().unwrap());
//! let mut now = Instant::from_secs(1);
//! let mut nodes = [1, 2].map(|seed| {
//!     Dht::new(config.clone(), Networks::V4, &Seed::from_bytes([seed; 32]), now)
//! });
//!
//! let lookup = nodes[0].start(now, &Lookup::Ping { addr: addrs[1] })?;
//! let outcome = 'done: loop {
//!     for i in 0..2 {
//!         // Time: what is due.
//!         nodes[i].handle_due(now);
//!         // Events: what the application wants to know.
//!         while let Some(event) = nodes[i].poll_event() {
//!             if let Event::Done { lookup: id, outcome } = event && id == lookup {
//!                 break 'done outcome;
//!             }
//!         }
//!         // Datagrams out, and, because this is a toy network, straight in on the other side.
//!         let mut buf = [0; MAX_DATAGRAM];
//!         while let Some(sent) = nodes[i].poll_transmit(now, &mut buf) {
//!             let mut reply = [0; MAX_DATAGRAM];
//!             let to = addrs.iter().position(|addr| *addr == sent.to).unwrap();
//!             let answer =
//!                 nodes[to].handle_datagram(now, addrs[i], &buf[..sent.len], &mut reply);
//!             if let Some(answer) = answer {
//!                 let _ = nodes[i].handle_datagram(
//!                     now, sent.to, &reply[..answer.len], &mut [0; MAX_DATAGRAM]);
//!             }
//!         }
//!     }
//!     now = now + std::time::Duration::from_millis(1);
//! };
//! assert_eq!(outcome.closest[0].addr, addrs[1]);
//! # Ok::<(), dht_proto::request::StartError>(())
//! ```
//!
//! `examples/blocking.rs` is the same over `std::net::UdpSocket`. The crates `dht-mio` and
//! `dht-driver` have loops with batches, back-pressure and threads.
//!
//! # Rules
//!
//! 1. **Drain.** [`Dht::poll_timeout`] is never later than the last `now` while
//!    [`Dht::poll_event`] or [`Dht::poll_transmit`] would yield.
//! 2. **Progress.** After [`Dht::handle_timeout`]`(now)` and a full drain, `poll_timeout` is `None`
//!    or later than `now`.
//! 3. **At most one reply per datagram**, to its source, never longer than [`MAX_DATAGRAM`].
//! 4. **A query's clock starts when it leaves**, in `poll_transmit`. If the socket is full, stop
//!    asking; if only one network's is, ask for the other with [`Dht::poll_transmit_on`] and sleep
//!    until [`Dht::poll_timeout_on`].
//! 5. **Bounds.** Every queue, map and loop has a maximum in [`config::Config`];
//!    [`config::Config::memory_ceiling`] adds them up.
//! 6. **One end.** [`request::Event::Done`] comes exactly once per lookup, never after
//!    [`Dht::cancel`].
//! 7. **Determinism.** Everything follows from the [`seed::Seed`], the inputs and their times.
//!
//! # Panics
//!
//! A panic is a bug and never depends on input. Garbage is normal input and becomes a counter in
//! [`stats::Stats`].
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
mod ahead;
pub mod bloom;
pub mod config;
mod dual;
mod footprint;
pub mod health;
pub mod id;
pub mod item;
mod lookup;
mod node;
mod outbox;
pub mod request;
mod role;
mod rtt;
pub mod seed;
mod seen;
pub mod server;
pub mod snapshot;
pub mod stats;
pub mod table;
pub mod time;
mod transactions;
pub mod voter;
pub mod wire;

/// Size of every datagram buffer, in bytes. No datagram that we send is longer.
pub const MAX_DATAGRAM: usize = 1_400;

pub use ahead::ReadAhead;
pub use dual::{Acquaintance, Dht, Networks, Transmit};
/// The crate whose keys [`item::Item::sign`] takes, so that others need no second copy of it.
pub use ed25519_dalek;
