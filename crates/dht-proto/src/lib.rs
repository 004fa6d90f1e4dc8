//! The BitTorrent Mainline DHT as a pure, sans-IO state machine.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
mod bloom;
pub mod config;
mod dual;
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
mod server;
pub mod snapshot;
pub mod stats;
mod table;
pub mod time;
mod transactions;
mod voter;
pub mod wire;

/// Size of every datagram buffer, in bytes. No datagram that we send is longer.
pub const MAX_DATAGRAM: usize = 1_400;

pub use dual::{Dht, Networks, Transmit};
