//! One node moved by hand: what a test must say itself when no network does it.

use std::sync::Arc;

use dht_proto::config::Config;
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::wire::decode;
use dht_proto::{Dht, Networks};
pub use dht_sim::hand::{deliver, drain};

/// A node that exists since the first second.
#[must_use]
pub fn node(config: Config, networks: Networks) -> Dht {
    Dht::new(Arc::new(config), networks, &Seed::from_bytes([1; 32]), Instant::from_secs(1))
}

/// The transaction id of a message.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn tid(bytes: &[u8]) -> Vec<u8> {
    decode(bytes).expect("a message").tid.to_vec()
}
