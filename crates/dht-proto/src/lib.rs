//! The BitTorrent Mainline DHT as a pure, sans-IO state machine.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod bloom;
pub mod config;
pub mod dual;
pub mod id;
pub mod item;
pub mod request;
pub mod seed;
pub mod server;
pub mod stats;
pub mod time;
pub mod wire;

/// Size of every datagram buffer, in bytes. No datagram that we send is longer.
pub const MAX_DATAGRAM: usize = 1_400;

pub use dual::{Dht, Networks, Transmit};
