//! [`Gateway`]: a world that real programs can talk to.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use dht_net::{Calls, UdpSocket};
use dht_sim::World;

use crate::pump::Pump;
use crate::{Cidr, Error};

/// What a gateway has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Hosts of the world.
    pub hosts: u64,
    /// Datagrams from real programs.
    pub datagrams_in: u64,
    /// Datagrams to real programs.
    pub datagrams_out: u64,
    /// Datagrams that were not let in or out: from or to an address outside the range, too long, or
    /// not taken by the system.
    pub dropped: u64,
    /// Datagrams that set out within the world, those from outside included.
    pub simulated: u64,
    /// How long after its time the last thing happened in the world, in the last second at worst.
    pub lateness: Duration,
    /// The same since the start.
    pub max_lateness: Duration,
}

/// What the thread of a gateway and its owner share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) hosts: AtomicU64,
    pub(crate) datagrams_in: AtomicU64,
    pub(crate) datagrams_out: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) simulated: AtomicU64,
    /// In microseconds.
    pub(crate) lateness: AtomicU64,
    /// In microseconds.
    pub(crate) max_lateness: AtomicU64,
}

/// A simulated world on a real UDP socket, run in real time by a thread of its own.
///
/// Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Binds the wildcard at `bind` (port 0 picks a free one), has `build` make the world, and runs
    /// it. Returns when the world is there, with what else `build` returned.
    ///
    /// `build` is told the port. The world must give that port to all its hosts, addresses of
    /// `range` to those that are to be reached, and keep datagrams for
    /// [`World::take_outside`]: see `dht_sim::Setup`.
    ///
    /// Nothing is sent but to addresses of `range` and of 127.0.0.0/8, whatever nodes are told.
    ///
    /// # Errors
    /// If the port is in use, or the addresses of `range` are not this machine's.
    pub fn start<T: Send + 'static>(
        bind: SocketAddrV4,
        range: Cidr,
        build: impl FnOnce(u16) -> (World, T) + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let bind = SocketAddr::V4(bind);
        if !bind.ip().is_unspecified() {
            return Err(Error::NotWildcard(bind));
        }
        check_local(range)?;
        let socket = UdpSocket::bind(bind, Calls::Best).map_err(|e| Error::Bind(bind, e))?;
        let addr = socket.local_addr().map_err(Error::System)?;
        let shared = Arc::new(Shared::default());
        let (ready, world_built) = mpsc::channel();
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                let (world, rest) = build(addr.port());
                shared.hosts.store(world.len() as u64, Relaxed);
                // Whoever waits for it may have gone.
                if ready.send(rest).is_ok() {
                    Pump::new(socket, addr.port(), range, world, shared).run();
                }
            }
        };
        let thread = thread::Builder::new().name("gateway".to_owned()).spawn(work);
        let thread = Some(thread.map_err(Error::System)?);
        let gateway = Self { addr, shared, thread };
        let rest = world_built.recv().map_err(|_| Error::Ended)?;
        Ok((gateway, rest))
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let micros = |value: &AtomicU64| Duration::from_micros(value.load(Relaxed));
        Stats {
            hosts: shared.hosts.load(Relaxed),
            datagrams_in: shared.datagrams_in.load(Relaxed),
            datagrams_out: shared.datagrams_out.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
            simulated: shared.simulated.load(Relaxed),
            lateness: micros(&shared.lateness),
            max_lateness: micros(&shared.max_lateness),
        }
    }

    /// Whether it is still running: it ends only by a panic, or if an invariant of the world is
    /// broken.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// If its thread has panicked.
    pub fn stop(mut self) -> Result<Stats, Error> {
        self.end()?;
        Ok(self.stats())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.shared.stop.store(true, Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| Error::Ended),
            None => Ok(()),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Its thread has said already why it panicked.
        drop(self.end());
    }
}

/// Whether the addresses of a range are this machine's: one from its middle stands for all.
fn check_local(range: Cidr) -> Result<(), Error> {
    let middle = u32::from(range.first_client()) - 1 + (1 << (31 - u32::from(range.prefix())));
    std::net::UdpSocket::bind((Ipv4Addr::from(middle), 0))
        .map(drop)
        .map_err(|error| Error::NotLocal(range, error))
}
