//! [`EventLoop`]: the node itself, run by its own thread or by the caller's.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use dht_driver::{Driver, commands};
use dht_proto::Networks;
use dht_proto::config::Config;
use dht_proto::request::Event;
use dht_proto::seed::Seed;
use dht_proto::snapshot::Snapshot;
use dht_proto::time::Instant;
use mio::{Events, Poll, Token, Waker};

use crate::channel::Sender;
use crate::error::{Error, ErrorKind};
use crate::handle::{Dht, Exit, Inner};
use crate::notice::{Notice, Notices};
use crate::resolver::{self, Host, Resolver};
use crate::socket::{self, Sockets};
use crate::state::{Saver, StateFile};

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
    driver: Driver<Sockets, Sender>,
    poll: Poll,
    events: Events,
    /// When the next pass is due at the latest.
    deadline: Option<Instant>,
    notices: Notices,
    exit: Arc<Exit>,
    saver: Option<Saver>,
    save_interval: Duration,
    next_save: Instant,
    /// Keeps the command queue open while the caller runs the loop; `None` once the handles alone
    /// decide.
    inner: Option<Arc<Inner>>,
    _resolver: Option<Resolver>,
}

impl EventLoop {
    pub(crate) fn new(
        mut config: Config,
        seed: &Seed,
        mut sockets: Sockets,
        hosts: Vec<Host>,
        state_file: Option<&Path>,
        save_interval: Duration,
        notices: Notices,
    ) -> Result<Self, Error> {
        let poll = Poll::new().map_err(|error| Error::system("wait for sockets", error))?;
        sockets
            .register(poll.registry())
            .map_err(|error| Error::system("wait for sockets", error))?;
        let waker = Waker::new(poll.registry(), TOKEN_WAKER)
            .map_err(|error| Error::system("make a waker", error))?;
        let (sender, queue) = commands();
        let exit = Arc::new(Exit::default());
        let addrs = sockets.local_addrs();
        // An announce with `implied_port` also names a port, for nodes that ignore the flag.
        config.port = addrs.first().map_or(config.port, SocketAddr::port);
        let inner = Arc::new(Inner::new(sender, waker, addrs, notices.clone(), Arc::clone(&exit)));
        let now = sockets.time();
        let Some(networks) = sockets.networks() else {
            unreachable!("binding leaves at least one socket")
        };
        let (dht, saver) = start(config, networks, seed, now, state_file, &notices)?;
        let names = hosts.iter().any(|host| matches!(host, Host::Name { .. }));
        let resolver = if names {
            let to = Arc::downgrade(&inner);
            Some(Resolver::spawn(hosts, to, notices.clone(), Box::new(resolver::system))?)
        } else {
            None
        };
        Ok(Self {
            driver: Driver::new(dht, sockets, queue),
            poll,
            events: Events::with_capacity(8),
            deadline: Some(now),
            notices,
            exit,
            saver,
            save_interval,
            next_save: now + save_interval,
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
        let end = crate::clock::after(std::time::Instant::now(), duration);
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
            self.exit.set(Err(error.clone()));
        }
        result
    }

    /// Leaves it to the handles how long the node runs.
    pub(crate) fn release(&mut self) {
        self.inner = None;
    }

    fn step(&mut self, max_wait: Duration) -> Result<bool, Error> {
        self.wait_for_work(max_wait)?;
        self.deadline = self.driver.pass().deadline;
        while let Some(event) = self.driver.poll_notice() {
            self.tell(&event);
        }
        if self.driver.is_shut_down() {
            let result = self.save_and_end();
            self.exit.set(result.clone());
            return result.map(|()| false);
        }
        self.save_if_due();
        Ok(true)
    }

    fn wait_for_work(&mut self, max_wait: Duration) -> Result<(), Error> {
        let now = self.driver.io_mut().time();
        let due = self.deadline.map_or(MAX_WAIT, |deadline| deadline.since(now));
        let save = self.saver.as_ref().map_or(MAX_WAIT, |_| self.next_save.since(now));
        let timeout = due.min(save).min(max_wait).min(MAX_WAIT);
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(Error::system("wait for sockets", error));
            }
            Ok(()) | Err(_) => {}
        }
        for event in &self.events {
            if event.token() == TOKEN_WAKER {
                continue;
            }
            if event.is_readable() || event.is_error() {
                self.driver.io_mut().set_readable(event.token());
                self.driver.set_readable();
            }
            if event.is_writable() {
                self.driver.set_writable(socket::family(event.token()));
            }
        }
        Ok(())
    }

    fn tell(&self, event: &Event) {
        match *event {
            Event::ExternalAddress(ip) => self.notices.tell(Notice::ExternalAddress(ip)),
            Event::Serving { family, serving } => {
                self.notices.tell(Notice::Serving { family, serving });
            }
            Event::Peers { .. }
            | Event::Item { .. }
            | Event::Samples { .. }
            | Event::Done { .. }
            | _ => {}
        }
    }

    fn save_if_due(&mut self) {
        let Some(saver) = &self.saver else { return };
        let now = self.driver.io_mut().time();
        if now >= self.next_save {
            self.next_save = now + self.save_interval;
            saver.offer(self.driver.dht().snapshot().to_bytes());
        }
    }

    fn save_and_end(&mut self) -> Result<(), Error> {
        match self.saver.take() {
            Some(saver) => saver.finish(self.driver.dht().snapshot().to_bytes()),
            None => Ok(()),
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.exit.set(Err(Error::new(
            ErrorKind::Stopped,
            "the loop was dropped before it was shut down; the state was not saved",
        )));
    }
}

/// Makes the state machine, from the restored state if there is one.
fn start(
    config: Config,
    networks: Networks,
    seed: &Seed,
    now: Instant,
    state_file: Option<&Path>,
    notices: &Notices,
) -> Result<(dht_proto::Dht, Option<Saver>), Error> {
    let verify = config.verify;
    let config = Arc::new(config);
    let Some(path) = state_file else {
        return Ok((dht_proto::Dht::new(config, networks, seed, now), None));
    };
    let file = StateFile::open(path)?;
    let restored = match file.load()?.map(|bytes| Snapshot::from_bytes(&bytes, verify)) {
        Some(Ok(restored)) => Some(restored),
        Some(Err(error)) => {
            let kept_as = file.set_aside()?;
            notices.tell(Notice::StateDamaged { kept_as, error: error.to_string() });
            None
        }
        None => None,
    };
    let saver = Saver::spawn(file, notices.clone())?;
    let dht = if let Some(restored) = restored {
        dht_proto::Dht::restore(config, networks, seed, now, &restored)
    } else {
        let dht = dht_proto::Dht::new(config, networks, seed, now);
        // A new id lasts from the start, however soon the machine dies.
        saver.offer(dht.snapshot().to_bytes());
        dht
    };
    Ok((dht, Some(saver)))
}

#[cfg(test)]
mod tests {
    use crate::Builder;

    use super::*;

    #[test]
    fn the_state_is_saved_while_the_node_runs() {
        let dir = std::env::temp_dir().join(format!("dht-loop-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("state");
        let builder = Builder::new().bind("127.0.0.1:0".parse().unwrap()).no_bootstrap();
        let mut event_loop = builder.state_file(&file).build().unwrap();
        assert!(event_loop.turn(Duration::ZERO).unwrap());
        assert!(event_loop.next_save > event_loop.driver.io_mut().time());
        event_loop.next_save = Instant::ZERO;
        assert!(event_loop.turn(Duration::ZERO).unwrap());
        assert!(event_loop.next_save > Instant::ZERO, "the next save is a while away");
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
