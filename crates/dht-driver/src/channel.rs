//! The channel of one lookup: a bounded queue of events, and an end that is never lost.

use core::mem;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dht_proto::request::{Event, Outcome, StartError};

use crate::command::{Delivery, Subscriber};

/// Events that wait for a slow reader, at most. What does not fit is counted and lost.
pub const MAX_WAITING: usize = 1_024;

/// A channel for one lookup.
#[must_use]
pub fn channel() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    end: Option<End>,
    /// The receiver is gone.
    closed: bool,
    /// Who waits for news.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum End {
    Finished(Result<Box<Outcome>, StartError>),
    /// The sender was dropped.
    Dropped,
}

/// What [`Receiver::poll_next`] found.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "every case needs its own reaction")]
pub enum Next {
    /// Something was found.
    Event(Event),
    /// The lookup has ended, or did not start.
    Finished(Result<Box<Outcome>, StartError>),
    /// The loop is gone, or the end has been told already.
    Stopped,
}

/// The loop's end.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The caller's end. Dropping it tells the loop, at the next event, that nobody listens.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while holding the lock, so the state is whole even if a thread died.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes whoever waits: not while the lock is held, because a waker
    /// runs code of the executor's.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

impl Subscriber for Sender {
    fn deliver(&mut self, event: Event) -> Delivery {
        self.shared.change(|state| {
            if state.closed {
                return Delivery::Gone;
            }
            if state.events.len() >= MAX_WAITING {
                return Delivery::Full;
            }
            state.events.push_back(event);
            Delivery::Accepted
        })
    }

    fn finish(self, end: Result<Box<Outcome>, StartError>) {
        self.shared.lock().end = Some(End::Finished(end));
        // Dropping `self` wakes the receiver.
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.end.get_or_insert(End::Dropped);
        });
    }
}

impl Receiver {
    /// The next event, or the end. Events come before the end; the end comes once.
    ///
    /// If there is neither, the waker of the last call is woken when there is.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.shared.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Next::Event(event));
        }
        match state.end.take() {
            Some(End::Finished(end)) => {
                state.end = Some(End::Dropped);
                Poll::Ready(Next::Finished(end))
            }
            Some(End::Dropped) => {
                state.end = Some(End::Dropped);
                Poll::Ready(Next::Stopped)
            }
            None => {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let (events, waker) = (mem::take(&mut state.events), state.waker.take());
        drop(state);
        drop((events, waker));
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn event(n: u8) -> Event {
        Event::ExternalAddress(IpAddr::from([127, 0, 0, n]))
    }

    fn poll(receiver: &mut Receiver) -> Poll<Next> {
        receiver.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_channel_loses_values_but_never_the_end() {
        let (mut sender, mut receiver) = channel();
        for _ in 0..MAX_WAITING {
            assert_eq!(sender.deliver(event(1)), Delivery::Accepted);
        }
        assert_eq!(sender.deliver(event(2)), Delivery::Full);
        sender.finish(Ok(Box::default()));
        for _ in 0..MAX_WAITING {
            assert!(matches!(poll(&mut receiver), Poll::Ready(Next::Event(e)) if e == event(1)));
        }
        assert!(matches!(poll(&mut receiver), Poll::Ready(Next::Finished(Ok(_)))));
        assert!(matches!(poll(&mut receiver), Poll::Ready(Next::Stopped)), "the end comes once");
    }

    #[test]
    fn a_dead_loop_is_told_and_so_is_a_dead_reader() {
        let (sender, mut receiver) = channel();
        assert!(poll(&mut receiver).is_pending());
        drop(sender);
        assert!(matches!(poll(&mut receiver), Poll::Ready(Next::Stopped)));
        let (mut sender, receiver) = channel();
        drop(receiver);
        assert_eq!(sender.deliver(event(1)), Delivery::Gone);
    }

    #[test]
    fn the_last_reader_that_waits_is_woken_by_events_and_by_the_end() {
        let (mut sender, mut receiver) = channel();
        let (first, last) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let woken = || (first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed));
        for reader in [&first, &last] {
            let waker = Waker::from(Arc::clone(reader));
            assert!(receiver.poll_next(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(sender.deliver(event(1)), Delivery::Accepted);
        assert_eq!(woken(), (0, 1));
        assert_eq!(sender.deliver(event(2)), Delivery::Accepted);
        assert_eq!(woken(), (0, 1), "whoever does not wait is not woken");
        let waker = Waker::from(Arc::clone(&first));
        for n in [1, 2] {
            let next = receiver.poll_next(&mut Context::from_waker(&waker));
            assert!(matches!(next, Poll::Ready(Next::Event(e)) if e == event(n)));
        }
        assert!(receiver.poll_next(&mut Context::from_waker(&waker)).is_pending());
        sender.finish(Err(StartError::BadPort));
        assert_eq!(woken(), (1, 1));
        let end = poll(&mut receiver);
        assert!(matches!(end, Poll::Ready(Next::Finished(Err(StartError::BadPort)))));
    }
}
