//! [`EventLoop`]: the node itself, run by its own thread or by the caller's.

use core::mem;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::thread;

use dht_driver::{Driver, Fault, Sender};
use dht_net::{Error, ErrorKind, Node, Notices, Runtime, SaveTimes, Sockets, Watch, after};
use dht_proto::addr::Family;
use dht_proto::time::Instant;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::background::{ResolverThread, SaverThread, answer};
use crate::handle::{Asked, Dht, Inner, Shared};

/// The events of a socket.
const TOKEN_V4: Token = Token(4);
const TOKEN_V6: Token = Token(6);
/// Wakes the loop when a command is waiting.
const TOKEN_WAKER: Token = Token(0);
/// Longest uninterrupted wait.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A node that the caller runs on a thread of their own choice.
///
/// Made by [`Builder::build`](crate::Builder::build). It runs while [`EventLoop::run`] or
/// [`EventLoop::turn`] does; calls of its [`Dht`] handles wait meanwhile. Dropping it stops the node
/// without saving; [`Dht::shutdown`] saves.
///
/// ```
/// use std::thread;
///
/// let builder = dht_mio::Builder::new().bind("127.0.0.1:0".parse()?).no_bootstrap();
/// let event_loop = builder.build()?;
/// let dht = event_loop.handle();
/// let runner = thread::spawn(move || event_loop.run());
/// assert_eq!(dht.stats()?.node.contacts, 0);
/// dht.shutdown()?;
/// runner.join().unwrap()?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventLoop {
    driver: Driver<Sockets<Watcher>, Sender>,
    poll: Poll,
    events: Events,
    /// When the next pass is due at the latest.
    deadline: Option<Instant>,
    notices: Notices,
    shared: Arc<Shared>,
    saver: Option<SaverThread>,
    save_times: SaveTimes,
    /// Who waits for a save that has not begun.
    asked: Vec<Asked>,
    /// Keeps the command queue open while the caller runs the loop; `None` once the handles alone
    /// decide.
    inner: Option<Arc<Inner>>,
    _resolver: Option<ResolverThread>,
}

impl EventLoop {
    fn new(node: Node<Watcher>) -> Result<Self, Error> {
        let Node { dht, mut sockets, saver, save_times, commands, queue, resolver, notices } = node;
        let waiting = |error| Error::system("wait for sockets", error);
        let poll = Poll::new().map_err(waiting)?;
        for socket in sockets.watched() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = if socket.family == Family::V4 { TOKEN_V4 } else { TOKEN_V6 };
            poll.registry().register(&mut socket.watch.0, token, interest).map_err(waiting)?;
        }
        let waker = Waker::new(poll.registry(), TOKEN_WAKER)
            .map_err(|error| Error::system("make a waker", error))?;
        let shared = Arc::new(Shared::default());
        let addrs = sockets.local_addrs();
        let inner =
            Arc::new(Inner::new(commands, waker, addrs, notices.clone(), Arc::clone(&shared)));
        let resolver = resolver
            .map(|resolver| ResolverThread::spawn(resolver, Arc::downgrade(&inner)))
            .transpose()?;
        let now = sockets.time();
        Ok(Self {
            driver: Driver::new(dht, sockets, queue),
            poll,
            events: Events::with_capacity(8),
            deadline: Some(now),
            notices,
            shared,
            saver: saver.map(SaverThread::spawn).transpose()?,
            save_times,
            asked: Vec::new(),
            inner: Some(inner),
            _resolver: resolver,
        })
    }

    /// A handle of this node.
    ///
    /// # Panics
    /// Never: a loop that has given its handles away is out of the caller's reach.
    #[must_use]
    pub fn handle(&self) -> Dht {
        let Some(inner) = &self.inner else {
            unreachable!("released only by spawn, which keeps it")
        };
        Dht::from_inner(Arc::clone(inner))
    }

    /// Runs until [`Dht::shutdown`].
    ///
    /// # Errors
    /// If the system fails to wait for sockets, or the last save fails.
    pub fn run(mut self) -> Result<(), Error> {
        while self.turn(MAX_WAIT)? {}
        Ok(())
    }

    /// Runs for this long, or until [`Dht::shutdown`]; returns whether the node still runs.
    ///
    /// # Errors
    /// See [`EventLoop::run`].
    pub fn run_for(&mut self, duration: Duration) -> Result<bool, Error> {
        let end = after(std::time::Instant::now(), duration);
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if !self.turn(left)? {
                return Ok(false);
            }
            if left.is_zero() {
                return Ok(true);
            }
        }
    }

    /// Waits until there is something to do, at most for `max_wait`, and does a bounded piece of it.
    /// Returns whether the node still runs.
    ///
    /// # Errors
    /// See [`EventLoop::run`]. The node has stopped then.
    pub fn turn(&mut self, max_wait: Duration) -> Result<bool, Error> {
        if self.driver.is_shut_down() {
            return Ok(false);
        }
        let result = self.step(max_wait);
        if let Err(error) = &result {
            self.shared.set_exit(Err(error.clone()));
        }
        result
    }

    #[cfg(test)]
    pub(crate) const fn take_saver(&mut self) -> Option<SaverThread> {
        self.saver.take()
    }

    /// Leaves it to the handles how long the node runs.
    pub(crate) fn release(&mut self) {
        self.inner = None;
    }

    fn step(&mut self, max_wait: Duration) -> Result<bool, Error> {
        self.wait_for_work(max_wait)?;
        self.deadline = self.driver.pass().deadline;
        while let Some(event) = self.driver.poll_notice() {
            self.notices.tell_event(&event);
        }
        if self.driver.is_shut_down() {
            let result = self.save_and_end();
            self.shared.set_exit(result.clone());
            return result.map(|()| false);
        }
        self.save_if_due();
        Ok(true)
    }

    fn wait_for_work(&mut self, max_wait: Duration) -> Result<(), Error> {
        let now = self.driver.io_mut().time();
        let due = self.deadline.map_or(MAX_WAIT, |deadline| deadline.since(now));
        let save = self.saver.as_ref().map_or(MAX_WAIT, |_| self.save_times.next().since(now));
        let timeout = due.min(save).min(max_wait).min(MAX_WAIT);
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Error::system("wait for sockets", error));
            }
            Ok(()) | Err(_) => {}
        }
        for event in &self.events {
            let family = match event.token() {
                TOKEN_V4 => Family::V4,
                TOKEN_V6 => Family::V6,
                _ => continue,
            };
            if event.is_readable() || event.is_error() {
                let sockets = self.driver.io_mut().watched();
                for socket in sockets.filter(|socket| socket.family == family) {
                    *socket.readable = true;
                }
                self.driver.set_readable();
            }
            if event.is_writable() {
                self.driver.set_writable(family);
            }
        }
        Ok(())
    }

    fn save_if_due(&mut self) {
        let newly_asked = self.shared.take_saves();
        let Some(saver) = &self.saver else {
            let error = "there is no state file; give the builder one";
            return answer(newly_asked, &Err(Error::new(ErrorKind::InvalidInput, error)));
        };
        let now = self.driver.io_mut().time();
        let items = self.driver.dht().stats().items_stored;
        if !self.save_times.is_due(now, items) && newly_asked.is_empty() {
            return;
        }
        self.asked.extend(newly_asked);
        let state = self.driver.dht().snapshot().to_bytes();
        match saver.offer(state, mem::take(&mut self.asked)) {
            Ok(()) => self.save_times.begun(now, items),
            Err(asked) => {
                self.asked = asked;
                self.save_times.busy(now);
            }
        }
    }

    fn save_and_end(&mut self) -> Result<(), Error> {
        self.asked.extend(self.shared.take_saves());
        match self.saver.take() {
            Some(saver) => {
                let state = self.driver.dht().snapshot().to_bytes();
                saver.finish(state, mem::take(&mut self.asked))
            }
            None => Ok(()),
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.shared.set_exit(Err(Error::new(
            ErrorKind::Stopped,
            "the loop was dropped before it was shut down; the state was not saved",
        )));
    }
}

/// Nodes on [`mio`], with threads.
///
/// Only a name for [`Builder`](crate::Builder) to build on.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is no value of it")]
pub enum Mio {}

impl Runtime for Mio {
    type Watch = Watcher;
    type Built = EventLoop;
    type Spawned = Dht;

    fn build(node: Node<Watcher>) -> Result<EventLoop, Error> {
        EventLoop::new(node)
    }

    fn spawn(node: Node<Watcher>) -> Result<Dht, Error> {
        let mut event_loop = EventLoop::new(node)?;
        let dht = event_loop.handle();
        // The thread lives as long as the handles do.
        event_loop.release();
        let thread = thread::Builder::new()
            .name("dht".to_owned())
            .spawn(move || {
                // Whoever shuts the node down is told the result.
                drop(event_loop.run());
            })
            .map_err(|error| Error::system("start the thread of the node", error))?;
        dht.set_thread(thread);
        Ok(dht)
    }
}

/// A socket that is registered with the poll of its loop.
#[derive(Debug)]
pub struct Watcher(UdpSocket);

impl Watch for Watcher {
    fn watch(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self(UdpSocket::from_std(socket)))
    }

    fn call<T>(&self, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let tried = self.0.try_io(|| match call() {
            Err(Fault::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other),
        });
        tried.unwrap_or_else(|error| Err(Fault::of(&error)))
    }
}

#[cfg(test)]
mod tests {
    use dht_proto::config::Config;
    use dht_proto::snapshot::Snapshot;

    use crate::Builder;

    use super::*;

    #[test]
    fn the_state_is_saved_while_the_node_runs() {
        let dir = std::env::temp_dir().join(format!("dht-loop-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("state");
        let local = || Builder::new().bind("127.0.0.1:0".parse().unwrap()).no_bootstrap();
        drop(local().state_file(&file).build().unwrap());
        let mut event_loop = local().state_file(&file).build().unwrap();
        std::fs::remove_file(&file).unwrap();
        event_loop.save_times = SaveTimes::new(Instant::ZERO, Duration::ZERO);
        assert!(event_loop.turn(Duration::ZERO).unwrap());
        // Dropping the loop saves nothing more, but waits for what was under way.
        drop(event_loop);
        let bytes = std::fs::read(&file).unwrap();
        let snapshot = Snapshot::from_bytes(&bytes, Config::default().verify).unwrap();
        assert!(snapshot.v4.is_some());
        drop(std::fs::remove_dir_all(&dir));
    }

    #[test]
    fn a_node_that_waits_does_not_run_hot() {
        let builder = Builder::new().bind("127.0.0.1:0".parse().unwrap()).no_bootstrap();
        let mut event_loop = builder.build().unwrap();
        for _ in 0..10 {
            assert!(event_loop.turn(Duration::ZERO).unwrap());
        }
        let now = event_loop.driver.io_mut().time();
        assert!(event_loop.deadline.is_none_or(|deadline| deadline > now));
    }
}
