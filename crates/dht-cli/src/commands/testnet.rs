//! `dht testnet`: a simulated network on real sockets.

use crate::args::{Global, TestnetArgs};
use crate::commands::Ended;
use crate::output::Output;

#[cfg(all(target_os = "linux", not(dht_portable)))]
mod linux;

#[cfg(all(target_os = "linux", not(dht_portable)))]
pub(super) fn run(args: &TestnetArgs, global: &Global, out: &Output) -> Ended {
    linux::run(args, global, out)
}

#[cfg(any(not(target_os = "linux"), dht_portable))]
pub(super) fn run(_args: &TestnetArgs, _global: &Global, _out: &Output) -> Ended {
    Err(crate::failure::Failure::input(
        "dht testnet needs Linux, where one socket can stand for a whole range of addresses",
        "run it in a Linux container or virtual machine",
    ))
}
