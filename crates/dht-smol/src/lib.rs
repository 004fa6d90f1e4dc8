//! A node of the BitTorrent Mainline DHT for async programs, on any executor.
//!
//! [`Builder`] sets a node up; [`Dht`] is its handle, with a future or a [`Stream`] per thing the DHT
//! can do. The node itself is a future too, [`EventLoop`]: spawn it on your executor
//! ([`Builder::build`](dht_net::Builder::build)), or let it have a thread of its own
//! ([`Builder::spawn`](dht_net::Builder::spawn)).
//!
//! ```
//! use dht_smol::Builder;
//! use dht_smol::proto::config::Mode;
//! use dht_smol::proto::id::InfoHash;
//! use dht_smol::proto::request::AnnouncePort;
//! use futures_lite::StreamExt;
//!
//! # futures_lite::future::block_on(async {
//! // A network of two on this machine; leave `bind`, `bootstrap` and `mode` out on the internet.
//! let local = || Builder::new().mode(Mode::Server);
//! let (first, node) = local().bind("127.0.0.1:0".parse()?).no_bootstrap().build()?;
//! smol::spawn(node).detach();
//! let host = first.local_addrs()[0].to_string();
//! let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(host).spawn()?;
//!
//! let info_hash: InfoHash = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse()?;
//! let outcome = dht.announce(info_hash, AnnouncePort::Explicit(6881), false).await?;
//! assert_eq!(outcome.stored, 1);
//! let mut peers = dht.get_peers(info_hash);
//! while let Some(peer) = peers.next().await {
//!     assert_eq!(peer, "127.0.0.2:6881".parse()?);
//! }
//! assert_eq!(peers.outcome().await?.peers, 1);
//! dht.shutdown().await?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Like all futures, those of this crate do nothing until they are polled, and dropping one cancels
//! what it stands for: the node asks nobody any more on its behalf. So a limit in time is whatever
//! ends the waiting:
//!
//! ```
//! use core::time::Duration;
//! use futures_lite::{FutureExt, future};
//!
//! # future::block_on(async {
//! # let silent = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # let addr = silent.local_addr()?;
//! # let dht = dht_smol::Builder::new().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
//! let limit = async {
//!     async_io::Timer::after(Duration::from_millis(50)).await;
//!     None
//! };
//! let answer = async { Some(dht.ping(addr).await) }.or(limit).await;
//! assert!(answer.is_none(), "nobody answers there");
//! # dht.shutdown().await?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Sockets and timers are those of `async-io`, whose own thread does the waking, so every executor
//! will do: `smol`, `async-executor`, `tokio`, a plain `block_on`. What blocks, which is the disk and
//! the system's resolver, is done by the threads of `blocking`.
//!
//! [`Stream`]: futures_lite::Stream

mod event_loop;
mod handle;
mod inner;
mod lookup;

pub use dht_driver::IoStats;
pub use dht_net::{
    Calls, DEFAULT_BOOTSTRAP, Error, ErrorKind, ExternalAddr, Health, Notice, Sample, Stats,
};
pub use dht_proto as proto;

pub use event_loop::{EventLoop, Smol, Watcher};
pub use handle::Dht;
pub use lookup::{Items, LookupHandle, Peers};

/// Sets a node up: sockets, bootstrap hosts, state file, and the configuration of the protocol.
///
/// `build` returns a [`Dht`] handle and the [`EventLoop`] to spawn on an executor. `spawn` starts a
/// thread for it and returns only the handle; it needs no executor, and the node is never late
/// because other tasks are busy. Both read the state file, if there is one, before they return.
pub type Builder = dht_net::Builder<Smol>;
