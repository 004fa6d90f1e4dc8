//! Bounded waiting.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{PeerError, Result};

/// How long any single operation of a peer may take. Lookups among a handful of nodes on loopback
/// take milliseconds; libtorrent waits 15 s for each silent node, may meet several in turn, and needs
/// two lookups to put a mutable item.
pub(super) const OPERATION: Duration = Duration::from_secs(125);

/// Runs `work` on a thread of its own and waits for it, but not forever.
///
/// A thread that does not come back is left behind: there is no way to end it.
pub(super) fn bounded<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more if the limit has passed.
        let _ = done.send(work());
    });
    result
        .recv_timeout(limit)
        .map_err(|_| PeerError::Failed(format!("{what}: no result within {} s", limit.as_secs())))
}

/// Calls `ready` until it returns true; false if it has not within `limit`.
pub(super) fn wait_until(limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        if ready()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
