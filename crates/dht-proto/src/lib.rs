//! The BitTorrent Mainline DHT as a pure, sans-IO state machine.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod config;
pub mod dual;
pub mod id;
pub mod item;
pub mod request;
pub mod seed;
pub mod stats;
pub mod table;
pub mod time;
pub mod voter;
pub mod wire;

/// Size of every datagram buffer, in bytes. No datagram that we send is longer.
pub const MAX_DATAGRAM: usize = 1_400;

pub use dual::{Dht, Networks, Transmit};
