//! The channel of one lookup: a bounded queue of events, and an end that is never lost.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dht_driver::{Delivery, Subscriber};
use dht_proto::request::{Event, Outcome, StartError};

/// Events that wait for a slow reader, at most. What does not fit is counted and lost.
pub(crate) const MAX_WAITING: usize = 1_024;

/// A channel for one lookup.
pub(crate) fn channel() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    end: Option<End>,
    /// The receiver is gone.
    closed: bool,
}

#[derive(Debug)]
enum End {
    Finished(Result<Box<Outcome>, StartError>),
    /// The sender was dropped.
    Dropped,
}

/// What [`Receiver::next`] found.
#[derive(Debug)]
pub(crate) enum Next {
    Event(Event),
    Finished(Result<Box<Outcome>, StartError>),
    /// The loop is gone.
    Stopped,
    TimedOut,
}

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Receiver {
    shared: Arc<Shared>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while holding the lock, so the state is whole even if a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Sender {
    fn deliver(&mut self, event: Event) -> Delivery {
        let mut state = self.shared.lock();
        if state.closed {
            return Delivery::Gone;
        }
        if state.events.len() >= MAX_WAITING {
            return Delivery::Full;
        }
        state.events.push_back(event);
        drop(state);
        self.shared.news.notify_one();
        Delivery::Accepted
    }

    fn finish(self, end: Result<Box<Outcome>, StartError>) {
        self.shared.lock().end = Some(End::Finished(end));
        // Dropping `self` wakes the receiver.
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.lock().end.get_or_insert(End::Dropped);
        self.shared.news.notify_one();
    }
}

impl Receiver {
    /// Waits for the next event, the end, or the deadline. Events come before the end.
    pub(crate) fn next(&self, deadline: Instant) -> Next {
        let mut state = self.shared.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Next::Event(event);
            }
            match state.end.take() {
                Some(End::Finished(end)) => return Next::Finished(end),
                Some(End::Dropped) => return Next::Stopped,
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::TimedOut;
            }
            let waited = self.shared.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;
    use core::time::Duration;

    use super::*;

    fn event(n: u8) -> Event {
        Event::ExternalAddress(IpAddr::from([127, 0, 0, n]))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    #[test]
    fn a_full_channel_loses_values_but_never_the_end() {
        let (mut sender, receiver) = channel();
        for _ in 0..MAX_WAITING {
            assert_eq!(sender.deliver(event(1)), Delivery::Accepted);
        }
        assert_eq!(sender.deliver(event(2)), Delivery::Full);
        sender.finish(Ok(Box::default()));
        for _ in 0..MAX_WAITING {
            assert!(matches!(receiver.next(soon()), Next::Event(e) if e == event(1)));
        }
        assert!(matches!(receiver.next(soon()), Next::Finished(Ok(_))));
    }

    #[test]
    fn the_deadline_ends_the_wait() {
        let (_sender, receiver) = channel();
        assert!(matches!(receiver.next(soon()), Next::TimedOut));
    }

    #[test]
    fn a_dead_loop_is_told_and_so_is_a_dead_reader() {
        let (sender, receiver) = channel();
        drop(sender);
        assert!(matches!(receiver.next(soon()), Next::Stopped));
        let (mut sender, receiver) = channel();
        drop(receiver);
        assert_eq!(sender.deliver(event(1)), Delivery::Gone);
    }

    #[test]
    fn a_waiting_reader_is_woken_by_events_and_by_the_end() {
        let (mut sender, receiver) = channel();
        let far = Instant::now() + Duration::from_secs(60);
        let reader = std::thread::spawn(move || {
            let first = matches!(receiver.next(far), Next::Event(_));
            first && matches!(receiver.next(far), Next::Finished(Err(StartError::BadPort)))
        });
        assert_eq!(sender.deliver(event(1)), Delivery::Accepted);
        sender.finish(Err(StartError::BadPort));
        assert!(reader.join().unwrap());
    }
}
