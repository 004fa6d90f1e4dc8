//! [`EventLoop`]: the node itself, as a future.

use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::{fmt, mem};
use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, Weak};
use std::thread;

use async_channel as channel;
use async_io::{Async, Timer};
use blocking::{Task, unblock};
use dht_driver::{Driver, Rejected, Sender, Wait};
use dht_net::{
    Error, ErrorKind, Node, Notices, Resolver, Runtime, SaveTimes, Saver, Sockets, Watch,
};
use dht_proto::addr::Family;
use dht_proto::snapshot::Snapshot;
use dht_proto::time::Instant;
use futures_lite::FutureExt;
use futures_lite::future::Boxed;

use crate::handle::Dht;
use crate::inner::{Asked, Inner, Shared};

/// Passes of the loop before other tasks get their turn.
const PASSES: usize = 4;

/// The node itself: a future that runs it. Ends with [`Dht::shutdown`], or when the last handle is
/// dropped, after saving the state.
///
/// Spawn it on any executor. Dropping it stops the node without saving: whoever waits for a lookup
/// gets an error of kind [`ErrorKind::Stopped`].
///
/// ```
/// use futures_lite::future;
///
/// let builder = dht_smol::Builder::new().bind("127.0.0.1:0".parse()?).no_bootstrap();
/// let (dht, node) = builder.build()?;
/// let work = async {
///     assert_eq!(dht.stats().await?.node.contacts, 0);
///     dht.shutdown().await
/// };
/// // An executor for two.
/// let (worked, ran) = future::block_on(future::zip(work, node));
/// worked.and(ran)?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// Its output is an error if the last save fails, or the system fails to wait for sockets.
#[must_use = "the node runs only while this is polled"]
pub struct EventLoop {
    /// `None` once the node has stopped; then the sockets are closed.
    driver: Option<Driver<Sockets<Watcher>, Sender>>,
    timer: Timer,
    /// What the timer is set to.
    armed: Option<Instant>,
    shared: Arc<Shared>,
    notices: Notices,
    keeper: Keeper,
    save_times: SaveTimes,
    resolving: Option<Boxed<()>>,
    /// Set once the node has been shut down.
    ending: Option<Boxed<Result<(), Error>>>,
    /// Closes when it is dropped.
    ended: Option<channel::Sender<Infallible>>,
}

/// Who keeps the state on disk.
#[derive(Debug)]
enum Keeper {
    /// Nobody: there is no state file.
    Nobody,
    Idle(Saver),
    /// The disk is at work, and these wait for it.
    Busy(Task<(Saver, Result<(), Error>)>, Vec<Asked>),
}

impl EventLoop {
    fn new(node: Node<Watcher>) -> (Dht, Self) {
        let Node { dht, sockets, saver, save_times, commands, queue, resolver, notices } = node;
        let (ended, ends) = channel::bounded(1);
        let shared = Arc::new(Shared::default());
        let addrs = sockets.local_addrs();
        let inner =
            Arc::new(Inner::new(commands, Arc::clone(&shared), addrs, notices.clone(), ends));
        let to = Arc::downgrade(&inner);
        let event_loop = Self {
            driver: Some(Driver::new(dht, sockets, queue)),
            timer: Timer::never(),
            armed: None,
            shared,
            notices,
            keeper: saver.map_or(Keeper::Nobody, Keeper::Idle),
            save_times,
            resolving: resolver.map(|resolver| resolve(resolver, to).boxed()),
            ending: None,
            ended: Some(ended),
        };
        (Dht::new(inner), event_loop)
    }

    /// Does what there is to do, at most [`PASSES`] times.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Commands that come from here on wake the task; those before are seen by the pass.
        self.shared.register(cx.waker());
        if let Some(resolving) = &mut self.resolving
            && resolving.poll(cx).is_ready()
        {
            self.resolving = None;
        }
        for _ in 0..PASSES {
            let Some(driver) = self.driver.as_mut().filter(|driver| !driver.is_shut_down()) else {
                return self.end(cx);
            };
            let wait = driver.pass();
            while let Some(event) = driver.poll_notice() {
                self.notices.tell_event(&event);
            }
            if driver.is_shut_down() {
                return self.end(cx);
            }
            let due = [wait.deadline, self.keep(cx)].into_iter().flatten().min();
            let ready = self.is_ready(cx, wait)?;
            // Not `||`: both have to be asked, so that both wake the task.
            if !(ready | self.is_late(cx, due)) {
                return Poll::Pending;
            }
        }
        // There may be more to do, but others want their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether a socket is ready for what the driver waits for.
    fn is_ready(&mut self, cx: &mut Context<'_>, wait: Wait) -> Result<bool, Error> {
        let Some(driver) = &mut self.driver else { return Ok(false) };
        let waiting = |error| Error::system("wait for sockets", error);
        let (mut readable, mut writable) = (false, [None; 2]);
        for (socket, writable) in driver.io_mut().watched().zip(&mut writable) {
            if wait.readable
                && let Poll::Ready(result) = socket.watch.0.poll_readable(cx)
            {
                result.map_err(waiting)?;
                *socket.readable = true;
                readable = true;
            }
            // A socket with room would always be ready, and the loop would spin.
            let wanted = match socket.family {
                Family::V4 => wait.writable_v4,
                Family::V6 => wait.writable_v6,
            };
            if wanted
                && !socket.writable
                && let Poll::Ready(result) = socket.watch.0.poll_writable(cx)
            {
                result.map_err(waiting)?;
                *writable = Some(socket.family);
            }
        }
        if readable {
            driver.set_readable();
        }
        for family in writable.into_iter().flatten() {
            driver.set_writable(family);
        }
        Ok(readable || writable != [None; 2])
    }

    /// Whether this time has come; otherwise the task is woken when it does.
    fn is_late(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> bool {
        let (Some(driver), Some(due)) = (&mut self.driver, due) else { return false };
        let now = driver.io_mut().time();
        if due <= now {
            return true;
        }
        if self.armed != Some(due) {
            self.armed = Some(due);
            self.timer.set_after(due.since(now));
        }
        let late = self.timer.poll(cx).is_ready();
        if late {
            self.armed = None;
        }
        late
    }

    /// Saves the state if it is time to, or somebody asks for it. Returns when to come back.
    fn keep(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let driver = self.driver.as_mut()?;
        if self.keeper.poll_busy(cx).is_pending() {
            return None;
        }
        let asked = self.shared.take_saves();
        let now = driver.io_mut().time();
        let items = driver.dht().stats().items_stored;
        let due = self.save_times.is_due(now, items) || !asked.is_empty();
        match mem::replace(&mut self.keeper, Keeper::Nobody) {
            Keeper::Idle(saver) if due => {
                self.save_times.begun(now, items);
                self.keeper = Keeper::start(saver, driver.dht().snapshot().to_bytes(), asked);
                // Usually the disk needs longer than this, and wakes the task when it is done.
                if self.keeper.poll_busy(cx).is_pending() {
                    return None;
                }
            }
            Keeper::Nobody => {
                let error = "there is no state file; give the builder one";
                answer(asked, &Err(Error::new(ErrorKind::InvalidInput, error)));
                return None;
            }
            keeper @ (Keeper::Idle(_) | Keeper::Busy(..)) => self.keeper = keeper,
        }
        Some(self.save_times.next())
    }

    /// Closes the sockets, and saves the state for the last time.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(driver) = self.driver.take() {
            let keeper = mem::replace(&mut self.keeper, Keeper::Nobody);
            self.ending = Some(save_last(keeper, driver.dht().snapshot()).boxed());
        }
        let Some(ending) = &mut self.ending else { return Poll::Ready(self.shared.exit()) };
        let result = ready!(ending.poll(cx));
        self.stop(&result);
        Poll::Ready(result)
    }

    /// Tells everybody who waits that it is over.
    fn stop(&mut self, result: &Result<(), Error>) {
        self.driver = None;
        self.ending = None;
        self.resolving = None;
        self.shared.set_exit(result.clone());
        self.ended = None;
    }
}

impl Future for EventLoop {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.run(cx);
        if let Poll::Ready(Err(error)) = &polled {
            self.stop(&Err(error.clone()));
        }
        polled
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.stop(&Err(Error::new(
            ErrorKind::Stopped,
            "the loop was dropped before it was shut down; the state was not saved",
        )));
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Saves this state where waiting for the disk harms nobody.
    fn start(mut saver: Saver, bytes: Vec<u8>, waiting: Vec<Asked>) -> Self {
        let save = move || {
            let result = saver.save(bytes);
            (saver, result)
        };
        Self::Busy(unblock(save), waiting)
    }

    /// Waits for the disk, if it is at work.
    fn poll_busy(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Busy(task, waiting) = self {
            let (saver, result) = ready!(task.poll(cx));
            answer(mem::take(waiting), &result);
            *self = Self::Idle(saver);
        }
        Poll::Ready(())
    }
}

/// Saves this state after what is under way. The file is free for another node then.
async fn save_last(keeper: Keeper, last: Snapshot) -> Result<(), Error> {
    let mut saver = match keeper {
        Keeper::Nobody => return Ok(()),
        Keeper::Idle(saver) => saver,
        Keeper::Busy(task, waiting) => {
            let (saver, result) = task.await;
            answer(waiting, &result);
            saver
        }
    };
    unblock(move || saver.save(last.to_bytes())).await
}

fn answer(waiting: Vec<Asked>, result: &Result<(), Error>) {
    for asked in waiting {
        // Whoever asked may have stopped waiting.
        drop(asked.try_send(result.clone()));
    }
}

/// Finds the addresses of bootstrap hosts, as long as there is a handle to use them.
async fn resolve(mut resolver: Resolver, to: Weak<Inner>) {
    while let Some(due) = resolver.due() {
        Timer::at(due).await;
        let to = Weak::clone(&to);
        let turn = move || {
            resolver.turn(&|command| match to.upgrade() {
                Some(inner) => inner.offer(command).map_err(|(why, _)| why),
                None => Err(Rejected::Closed),
            });
            resolver
        };
        resolver = unblock(turn).await;
    }
}

/// Nodes on `async-io`, as futures.
///
/// Only a name for [`Builder`](crate::Builder) to build on.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is no value of it")]
pub enum Smol {}

impl Runtime for Smol {
    type Watch = Watcher;
    type Built = (Dht, EventLoop);
    type Spawned = Dht;

    fn build(node: Node<Watcher>) -> Result<(Dht, EventLoop), Error> {
        Ok(EventLoop::new(node))
    }

    fn spawn(node: Node<Watcher>) -> Result<Dht, Error> {
        let (dht, event_loop) = EventLoop::new(node);
        thread::Builder::new()
            .name("dht".to_owned())
            .spawn(move || {
                // Whoever shuts the node down is told the result.
                drop(async_io::block_on(event_loop));
            })
            .map_err(|error| Error::system("start the thread of the node", error))?;
        Ok(dht)
    }
}

/// A socket that is registered with the reactor of `async-io`.
#[derive(Debug)]
pub struct Watcher(Async<UdpSocket>);

impl Watch for Watcher {
    fn watch(socket: UdpSocket) -> io::Result<Self> {
        Async::new_nonblocking(socket).map(Self)
    }
}
