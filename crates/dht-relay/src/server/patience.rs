//! How long hyper waits for the head of a request, without a timer of the system's for every request.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_io::Timer;
use hyper::rt;

/// When something must have happened on a connection, as hyper last said. It says so for every request
/// anew, most of which are there long before: a timer each would be a message to the reactor each. So its
/// sleeps only look at the clock, and [`Patience::watch`] has them looked at when it is time.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// The longest sleep there is.
    longest: Duration,
    deadline: Arc<Mutex<Instant>>,
}

impl Patience {
    /// For sleeps of no more than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, deadline: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Wakes whoever polls it, and so all that he polls, at the end of each sleep that was not replaced
    /// by another; never ends.
    pub(super) async fn watch(&self) {
        loop {
            let now = Instant::now();
            // A sleep that begins later ends later than this.
            let next = Some(self.deadline()).filter(|deadline| *deadline > now);
            Timer::at(next.unwrap_or(now + self.longest)).await;
        }
    }

    fn deadline(&self) -> Instant {
        // Nothing panics while holding the lock.
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl rt::Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        debug_assert!(deadline <= Instant::now() + self.longest, "no sleep is longer");
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        Box::pin(Sleep { deadline })
    }
}

/// Something that may not take longer.
struct Sleep {
    deadline: Instant,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() < self.deadline { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl rt::Sleep for Sleep {}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::FutureExt as _;
    use futures_lite::future::{block_on, poll_fn};
    use hyper::rt::Timer as _;

    /// Waits for a sleep that begins when it is first polled.
    async fn sleep(patience: &Patience, duration: Duration) -> Instant {
        let mut sleep = patience.sleep(duration);
        let deadline = patience.deadline();
        poll_fn(|cx| sleep.as_mut().poll(cx)).await;
        deadline
    }

    #[test]
    fn sleeps_end_in_time_whatever_was_slept_before() {
        let patience = Patience::new(Duration::from_millis(40));
        let sleeper = async {
            for millis in [5, 40, 0, 20] {
                // One that was given up.
                drop(patience.sleep(Duration::from_millis(10)));
                let deadline = sleep(&patience, Duration::from_millis(millis)).await;
                assert!(Instant::now() >= deadline);
            }
        };
        // Nobody but the watch wakes it, so that this ends only if that does.
        block_on(sleeper.or(patience.watch()));
    }
}
