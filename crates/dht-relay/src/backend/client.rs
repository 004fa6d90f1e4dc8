//! The client of `dht-pkarr-client`: the DHT, other relays, and a cache.

use dht_pkarr::publish::PublishError as NotPublished;
use dht_pkarr::resolve::{Policy, ResolveError as NotResolved};
use dht_pkarr::{CachedPacket, ItemError, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::smol::Client;

use crate::stats;

use super::{Backend, Found, PublishError, ResolveError};

impl Backend for Client {
    fn cached(&self, key: &PublicKey) -> Option<CachedPacket> {
        self.cache().recent(key)
    }

    fn has_disk(&self) -> bool {
        self.cache().has_file()
    }

    async fn read(&self, key: PublicKey) -> Option<CachedPacket> {
        Self::cached(self, &key).await
    }

    async fn metrics(&self) -> String {
        let cache = self.cache();
        let counters = [(
            "pkarr_cache_failures_total",
            "How often the file of the cache could not be read or written.",
            cache.failures(),
        )];
        let packets = (
            "pkarr_cache_packets",
            "Packets in the cache; of a file, those written.",
            cache.len() as u64,
        );
        stats::format(&counters, &[packets])
    }

    async fn resolve(&self, key: PublicKey, policy: Policy) -> Result<Found, ResolveError> {
        match Self::resolve(self, &key, policy).await {
            Ok(found) => Ok(Found { packet: found.packet, origin: found.origin }),
            Err(error) => Err(match error.reason {
                NotResolved::NotFound => ResolveError::NotFound,
                NotResolved::Item(ItemError::NotAPacket { seq, .. })
                | NotResolved::NotAPacket { seq } => ResolveError::NotAPacket { seq },
                NotResolved::NoAnswer | NotResolved::NoSource | NotResolved::Item(_) | _ => {
                    ResolveError::NoAnswer
                }
            }),
        }
    }

    async fn publish(
        &self,
        packet: SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<u32, PublishError> {
        let published = match cas {
            Some(cas) => self.publish_after(&packet, cas).await,
            None => Self::publish(self, &packet).await,
        };
        match published {
            Ok(published) => Ok(published.copies()),
            Err(error) => Err(match error.reason {
                NotPublished::Newer { .. } | NotPublished::NotMostRecent => {
                    PublishError::NotMostRecent
                }
                NotPublished::CasMismatch { .. } => PublishError::CasFailed,
                NotPublished::TooLarge { .. } => PublishError::Unfit(error.to_string()),
                NotPublished::NoTarget | NotPublished::Refused | NotPublished::NoAnswer | _ => {
                    PublishError::Failed(error.to_string())
                }
            }),
        }
    }
}
