//! What a client does unasked: refreshing its cache.

use core::fmt;
use core::future::Future;
use std::sync::{Arc, Mutex};

use async_channel::{Receiver, Sender, bounded};
use async_executor::Executor;
use dht_pkarr::PublicKey;
use futures_lite::future::block_on;

use crate::busy::{Busy, lock};

/// Keys that are looked up in the background at a time. More are not refreshed just now.
const MAX_KEYS: usize = 1_000;

/// A thread for what nobody waits for. It starts when there is something to do, and ends when this is
/// dropped; what it was doing is cancelled then.
pub(super) struct Background {
    executor: Arc<Executor<'static>>,
    keys: Busy,
    /// Closed when the thread is to end; `None` until it runs.
    running: Mutex<Option<Sender<()>>>,
}

impl Background {
    /// Runs a future, unless there is one for this key already, or too much to do.
    pub(super) fn spawn(&self, key: PublicKey, future: impl Future<Output = ()> + Send + 'static) {
        let Some(claim) = self.keys.claim(key) else { return };
        if !self.is_running() {
            return;
        }
        self.executor
            .spawn(async move {
                future.await;
                drop(claim);
            })
            .detach();
    }

    /// Starts the thread if there is none yet.
    fn is_running(&self) -> bool {
        let mut running = lock(&self.running);
        if running.is_some() {
            return true;
        }
        let (sender, receiver): (_, Receiver<()>) = bounded(1);
        let executor = Arc::clone(&self.executor);
        let thread = std::thread::Builder::new().name("pkarr-client".to_owned()).spawn(move || {
            // Nobody sends; the receiver fails when the sender is gone.
            let _ = block_on(executor.run(receiver.recv()));
        });
        if thread.is_ok() {
            *running = Some(sender);
        }
        thread.is_ok()
    }
}

impl Default for Background {
    fn default() -> Self {
        Self {
            executor: Arc::new(Executor::new()),
            keys: Busy::new(MAX_KEYS),
            running: Mutex::default(),
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("keys", &self.keys).finish_non_exhaustive()
    }
}
