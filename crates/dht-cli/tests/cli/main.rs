//! The `dht` command as users meet it: real processes, on loopback only.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bad_input;
mod daemon;
mod network;
mod offline;
mod pkarr;
mod serve;
mod support;
#[cfg(target_os = "linux")]
mod testnet;
mod tools;
