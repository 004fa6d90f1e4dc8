//! The `dht` command.
fn main() {}
