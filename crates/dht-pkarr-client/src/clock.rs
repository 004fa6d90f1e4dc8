//! What time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use dht_pkarr::Timestamp;

/// The time by the system's clock: what packets are signed with, and what counts as seen now.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).ok().and_then(Timestamp::from_micros).unwrap_or_default()
}
