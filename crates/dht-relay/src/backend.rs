//! What a relay stands on: something that resolves and publishes.

use core::future::Future;

use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::Origin;

mod client;

/// Resolves keys and publishes packets, and remembers what it saw.
pub trait Backend: Send + Sync + 'static {
    /// The packet that is in the cache, expired or not, without asking anybody or waiting for the disk.
    fn cached(&self, key: &PublicKey) -> Option<CachedPacket>;

    /// Whether [`read`](Self::read) may find what [`cached`](Self::cached) has not.
    fn has_disk(&self) -> bool {
        false
    }

    /// The packet that is in the cache, even if that has to be read from the disk first.
    fn read(&self, key: PublicKey) -> impl Future<Output = Option<CachedPacket>> + Send {
        async move { self.cached(&key) }
    }

    /// Resolves a key by a policy.
    fn resolve(
        &self,
        key: PublicKey,
        policy: Policy,
    ) -> impl Future<Output = Result<Found, ResolveError>> + Send;

    /// Publishes a packet: with `cas`, only where the version is that one. Returns how many nodes
    /// stored it.
    fn publish(
        &self,
        packet: SignedPacket,
        cas: Option<Timestamp>,
    ) -> impl Future<Output = Result<u32, PublishError>> + Send;

    /// What it has to say to Prometheus, in its text format.
    fn metrics(&self) -> impl Future<Output = String> + Send {
        async { String::new() }
    }
}

/// A packet, and who had it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "backends make it")]
pub struct Found {
    /// The packet, and when it was seen.
    pub packet: CachedPacket,
    /// Who had it.
    pub origin: Origin,
}

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// Those who answered have none that is fresh.
    NotFound,
    /// What the key's owner stored last is no packet.
    NotAPacket {
        /// Its version.
        seq: i64,
    },
    /// Nobody answered, or there is nobody to ask.
    NoAnswer,
}

/// Why a packet was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// There is a newer packet of the key.
    NotMostRecent,
    /// The version that is stored is not the one that was expected.
    CasFailed,
    /// It is none that nodes store, and this is why.
    Unfit(String),
    /// No node stored it, and this is why.
    Failed(String),
}
