//! Keys being resolved, and those who wait for them.

use core::convert::Infallible;
use core::future::Future;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_channel as channel;

use crate::backend::{Found, ResolveError};
use crate::lookups::Ticket;

type Outcome = Result<Found, ResolveError>;

/// All that is being resolved. It is bounded by the places for such work.
#[derive(Debug, Default)]
pub(super) struct Resolving(Mutex<BTreeMap<Ticket, (channel::Sender<Infallible>, Waiting)>>);

/// Waits for one of them.
#[derive(Clone, Debug)]
struct Waiting {
    /// Closed at the end.
    ended: channel::Receiver<Infallible>,
    outcome: Arc<OnceLock<Outcome>>,
}

impl Resolving {
    pub(super) fn begin(&self, ticket: Ticket) {
        let (sender, ended) = channel::bounded(1);
        let waiting = Waiting { ended, outcome: Arc::default() };
        self.lock().insert(ticket, (sender, waiting));
    }

    pub(super) fn end(&self, ticket: Ticket, outcome: Outcome) {
        let ended = self.lock().remove(&ticket);
        if let Some((_sender, waiting)) = ended {
            // It ends once.
            drop(waiting.outcome.set(outcome));
        }
    }

    /// What becomes of one that has not ended at the time of the call. What there was no place for is
    /// not known here.
    pub(super) fn wait(
        &self,
        ticket: Option<Ticket>,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let waiting = ticket.and_then(|ticket| Some(self.lock().get(&ticket)?.1.clone()));
        async move {
            let Some(waiting) = waiting else { return Err(ResolveError::NoAnswer) };
            // Nobody sends.
            let _closed = waiting.ended.recv().await;
            waiting.outcome.get().cloned().unwrap_or(Err(ResolveError::NoAnswer))
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ticket, (channel::Sender<Infallible>, Waiting)>> {
        // No code panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
