//! Running lookups, as streams.

use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::sync::Arc;

use async_io::Timer;
use dht_driver::{Command, Next, Receiver, Rejected, Sender, Ticket, channel};
use dht_net::{Error, Tally};
use dht_proto::item::Item;
use dht_proto::request::{Event, Lookup, Outcome};
use futures_lite::{FutureExt, Stream, StreamExt};

use crate::inner::{Inner, QUEUE_PAUSE};

/// The loop may take this long to say what a lookup has come to.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// A lookup: a stream of what it finds. It starts when it is polled first; dropping it cancels it.
///
/// The stream ends when the lookup has ended; then [`LookupHandle::outcome`] says how it went.
/// Whoever reads too slowly loses values, but never the end: at most a thousand events wait, and
/// neither the node nor the lookup waits for a reader.
#[derive(Debug)]
#[must_use = "a lookup starts when it is polled"]
pub struct LookupHandle {
    inner: Arc<Inner>,
    ticket: Ticket,
    /// `Some` until the loop has been told.
    unstarted: Option<(Lookup, Sender)>,
    /// Between two tries to tell the loop.
    pause: Timer,
    receiver: Receiver,
    end: Option<Result<Outcome, Error>>,
    tally: Tally,
}

impl LookupHandle {
    pub(crate) fn new(inner: Arc<Inner>, lookup: Lookup) -> Self {
        let (sender, receiver) = channel();
        Self {
            ticket: inner.ticket(),
            inner,
            unstarted: Some((lookup, sender)),
            pause: Timer::never(),
            receiver,
            end: None,
            tally: Tally::new(),
        }
    }

    /// Waits for the end, skipping what has not been read.
    ///
    /// # Errors
    /// If the lookup was not started, see [`ErrorKind`](crate::ErrorKind), or the node has stopped.
    pub async fn outcome(mut self) -> Result<Outcome, Error> {
        while self.next().await.is_some() {}
        self.end.take().unwrap_or_else(|| Err(Error::stopped()))
    }

    /// The same, but no longer than this. If the time is up first, the lookup is ended, and the outcome
    /// holds what it has come to by then, with [`Ended::TimedOut`](dht_proto::request::Ended::TimedOut): who has stored an item,
    /// too. Only if the loop is busier than that, there are but the newest item and the number of peers.
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub async fn outcome_within(mut self, timeout: Duration) -> Result<Outcome, Error> {
        self.end_within(timeout, |_| {}).await;
        self.end.take().unwrap_or_else(|| Err(Error::stopped()))
    }

    /// Reads to the end, which comes no later than this: then [`LookupHandle::outcome`] has it. See
    /// [`LookupHandle::outcome_within`].
    pub async fn end_within(&mut self, timeout: Duration, mut found: impl FnMut(Event)) {
        if self.read_within(timeout, &mut found).await {
            return;
        }
        if self.unstarted.take().is_none() {
            // If the queue is full, there is no more to be had than what was read.
            drop(self.inner.offer(Command::Finish(self.ticket)));
            if self.read_within(END_PATIENCE, &mut found).await {
                return;
            }
            drop(self.inner.offer(Command::Cancel(self.ticket)));
        }
        self.end = Some(Ok(self.tally.time_up()));
    }

    /// Returns whether the end has come.
    async fn read_within(&mut self, timeout: Duration, found: &mut impl FnMut(Event)) -> bool {
        let read = async {
            while let Some(event) = self.next().await {
                found(event);
            }
            true
        };
        let late = async {
            Timer::after(timeout).await;
            false
        };
        read.or(late).await
    }

    /// Streams only the peers, each once.
    pub fn peers(self) -> Peers {
        Peers { lookup: self }
    }

    /// Streams only the items.
    pub fn items(self) -> Items {
        Items { lookup: self }
    }

    /// Tells the loop, unless it has been told.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some((lookup, subscriber)) = self.unstarted.take() {
            let command = Command::Start { ticket: self.ticket, lookup, subscriber };
            match self.inner.offer(command) {
                Ok(()) => {}
                Err((Rejected::Full, Command::Start { lookup, subscriber, .. })) => {
                    self.unstarted = Some((lookup, subscriber));
                    self.pause.set_after(QUEUE_PAUSE);
                    ready!(self.pause.poll(cx));
                }
                Err(_) => return Poll::Ready(Err(Error::stopped())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for LookupHandle {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        let end = match ready!(self.poll_start(cx)) {
            Err(error) => Err(error),
            Ok(()) => match ready!(self.receiver.poll_next(cx)) {
                Next::Event(event) => {
                    self.tally.note(&event);
                    return Poll::Ready(Some(event));
                }
                Next::Finished(Ok(outcome)) => Ok(*outcome),
                Next::Finished(Err(error)) => Err(error.into()),
                Next::Stopped => Err(Error::stopped()),
            },
        };
        self.end = Some(end);
        Poll::Ready(None)
    }
}

impl Drop for LookupHandle {
    fn drop(&mut self) {
        if self.end.is_none() && self.unstarted.is_none() {
            // If the queue is full, the loop notices at the next event that nobody listens.
            drop(self.inner.offer(Command::Cancel(self.ticket)));
        }
    }
}

/// The peers of a torrent, each once, as they arrive. Dropping it cancels the lookup.
///
/// ```
/// use futures_lite::StreamExt;
///
/// # futures_lite::future::block_on(async {
/// # let dht = dht_smol::Builder::new().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
/// let mut peers = dht.get_peers("5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse()?);
/// while let Some(peer) = peers.next().await {
///     println!("{peer}");
/// }
/// let outcome = peers.outcome().await?;
/// # assert_eq!(outcome.peers, 0);
/// # dht.shutdown().await?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "a lookup starts when it is polled"]
pub struct Peers {
    lookup: LookupHandle,
}

impl Peers {
    /// Waits for the end, skipping peers that have not been read; see [`LookupHandle::outcome`].
    ///
    /// # Errors
    /// If the lookup was not started, or the node has stopped.
    pub async fn outcome(self) -> Result<Outcome, Error> {
        self.lookup.outcome().await
    }
}

impl Stream for Peers {
    type Item = SocketAddr;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SocketAddr>> {
        loop {
            if let Some(peer) = self.lookup.tally.fresh_peer() {
                return Poll::Ready(Some(peer));
            }
            if ready!(self.lookup.poll_next(cx)).is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

/// The versions of an item as they are found, each newer than those before it. Dropping it cancels
/// the lookup.
#[derive(Debug)]
#[must_use = "a lookup starts when it is polled"]
pub struct Items {
    lookup: LookupHandle,
}

impl Items {
    /// Waits for the end; `item` of the outcome is the newest version. See
    /// [`LookupHandle::outcome`].
    ///
    /// # Errors
    /// If the lookup was not started, or the node has stopped.
    pub async fn outcome(self) -> Result<Outcome, Error> {
        self.lookup.outcome().await
    }
}

impl Stream for Items {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            match ready!(self.lookup.poll_next(cx)) {
                Some(Event::Item { item, .. }) => return Poll::Ready(Some(*item)),
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}
