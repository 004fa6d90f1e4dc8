//! A simulated DHT on real UDP sockets.
//!
//! A [`Gateway`] owns a simulated world and a few UDP sockets on the wildcard. Every simulated node has
//! an address of its own: a datagram that a real program sends to it enters the world, takes as long
//! and gets lost as often as the world's network has it, and what nodes send to anybody outside the
//! simulation leaves through a socket, with the node's address as its source. Virtual time follows
//! the clock.
//!
//! [`Testnet`] is a whole network behind a gateway: thousands of nodes with full tables.
//! [`namespace`] makes a network in which it looks like the internet.
//!
//! Linux only: it takes `IP_PKTINFO`, and ranges whose addresses are all local.
//!
//! ```no_run
//! use dht_testnet::{Spec, Testnet};
//!
//! let testnet = Testnet::start(&Spec::new(1_000))?;
//! println!("give your client {} to start from", testnet.bootstrap()[0]);
//! # Ok::<(), dht_testnet::Error>(())
//! ```
#![cfg(target_os = "linux")]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "in a test a panic is a failure that says where"
    )
)]

pub mod cidr;
mod error;
mod gateway;
pub mod namespace;
mod pump;
mod sockets;
mod testnet;

pub use cidr::{Cidr, ParseCidrError};
pub use error::Error;
pub use gateway::{Gateway, Listen, Stats};
pub use namespace::Namespace;
pub use testnet::{Spec, Testnet};

pub use dht_sim as sim;
