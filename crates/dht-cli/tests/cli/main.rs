//! The `dht` command as users meet it: real processes, on loopback only.

mod bad_input;
mod daemon;
mod network;
mod offline;
mod support;
