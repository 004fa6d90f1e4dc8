//! Blocks a thread on what is polled.

use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, Thread};
use std::time::Instant;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until there is a result; `None` if the deadline comes first.
pub(crate) fn until<T>(
    deadline: Instant,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = poll(&mut cx) {
            return Some(result);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use dht_driver::{Delivery, Next, Subscriber, channel};
    use dht_proto::request::{Event, StartError};

    use super::*;

    #[test]
    fn the_deadline_ends_the_wait() {
        let soon = Instant::now() + Duration::from_millis(10);
        assert!(until(soon, |_| Poll::<()>::Pending).is_none());
        assert!(Instant::now() >= soon);
    }

    #[test]
    fn a_waiting_thread_is_woken_by_events_and_by_the_end() {
        let (mut sender, mut receiver) = channel();
        let far = Instant::now() + Duration::from_secs(60);
        let reader = thread::spawn(move || {
            let first = until(far, |cx| receiver.poll_next(cx));
            assert!(matches!(first, Some(Next::Event(_))));
            let end = until(far, |cx| receiver.poll_next(cx));
            matches!(end, Some(Next::Finished(Err(StartError::BadPort))))
        });
        let event = Event::ExternalAddress([127, 0, 0, 1].into());
        assert_eq!(sender.deliver(event), Delivery::Accepted);
        sender.finish(Err(StartError::BadPort));
        assert!(reader.join().unwrap());
    }
}
