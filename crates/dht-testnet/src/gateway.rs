//! [`Gateway`]: a world that real programs can talk to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use dht_proto::Networks;
use dht_proto::addr::Family;
use dht_sim::churn::Churn;
use dht_sim::net::Ports;
use dht_sim::{Setup, World};
use socket2::{Domain, Socket, Type};

use crate::Error;
use crate::cidr::{self, Cidr};
use crate::namespace::Namespace;
use crate::pump::Pump;
use crate::sockets::Sockets;

/// Datagrams waiting to leave the world, at most.
const MAX_OUTSIDE: usize = 65_536;

/// Which addresses and ports a gateway stands for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listen {
    /// Where its hosts are. IPv6 ones are in [`cidr::network_v6`].
    pub networks: Networks,
    /// The addresses of its hosts. Real programs have the first of them: [`Cidr::reserved`].
    pub range: Cidr,
    /// The port of all hosts; 0 picks a free one.
    pub port: u16,
    /// How many ports it takes, from that one on: NATs map to them.
    pub ports: u16,
    /// The network namespace in which they are; `None` for that of whoever starts the gateway.
    pub namespace: Option<Namespace>,
}

impl Listen {
    /// IPv4, any one port.
    #[must_use]
    pub const fn new(range: Cidr) -> Self {
        Self { networks: Networks::V4, range, port: 0, ports: 1, namespace: None }
    }

    /// Whether hosts speak a family.
    #[must_use]
    pub const fn speaks(&self, family: Family) -> bool {
        match family {
            Family::V4 => matches!(self.networks, Networks::V4 | Networks::Both),
            Family::V6 => matches!(self.networks, Networks::V6 | Networks::Both),
        }
    }

    /// The ranges of addresses, in words.
    #[must_use]
    pub fn ranges(&self) -> String {
        match self.networks {
            Networks::V4 => self.range.to_string(),
            Networks::V6 => cidr::network_v6(),
            Networks::Both => format!("{} and {}", self.range, cidr::network_v6()),
        }
    }

    /// Whether an address lies in the range of its family.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.range.contains(ip),
            IpAddr::V6(ip) => cidr::is_network_v6(ip),
        }
    }

    /// Whether datagrams may be sent there.
    pub(crate) fn may_reach(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.contains(ip)
    }

    /// How a world has to be set up to be behind this gateway. `port` is that which the gateway got.
    #[must_use]
    pub fn setup(&self, port: u16) -> Setup {
        let mut setup = Setup::default();
        setup.range = self.range.range();
        setup.reserved = self.range.reserved();
        setup.port = port;
        setup.nat_ports = Ports { first: port, count: self.ports.max(1) };
        setup.outside = MAX_OUTSIDE;
        setup
    }
}

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
    /// Nodes that have left, if they come and go.
    pub left: u64,
    /// Nodes that have come since the start.
    pub came: u64,
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
    pub(crate) left: AtomicU64,
    pub(crate) came: AtomicU64,
}

/// A simulated world on real UDP sockets, run in real time by a thread of its own.
///
/// Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    addrs: Vec<SocketAddr>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Binds the wildcard, has `build` make the world, and runs it. Returns when the world is there,
    /// with what else `build` returned.
    ///
    /// `build` is told the port. It sets up the world with [`Listen::setup`], so that datagrams for
    /// the outside are kept for the gateway, and may return who comes and goes in it.
    ///
    /// Nothing is sent but to addresses of the ranges and of loopback, whatever nodes are told.
    ///
    /// # Errors
    /// If a port is in use, or the addresses are not this machine's.
    pub fn start<T: Send + 'static>(
        listen: &Listen,
        build: impl FnOnce(u16) -> (World, Option<Churn>, T) + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let bind = || check_local(listen).and_then(|()| Sockets::bind(listen));
        let sockets = match &listen.namespace {
            Some(namespace) => namespace.run(bind)?,
            None => bind()?,
        };
        let (addrs, port) = (sockets.local_addrs(), sockets.port());
        let shared = Arc::new(Shared::default());
        let (ready, world_built) = mpsc::channel();
        let work = {
            let (shared, listen) = (Arc::clone(&shared), listen.clone());
            move || {
                let (world, churn, rest) = build(port);
                shared.hosts.store(world.len() as u64, Relaxed);
                // Whoever waits for it may have gone.
                if ready.send(rest).is_ok() {
                    Pump::new(sockets, listen, world, churn, shared).run();
                }
            }
        };
        let thread = thread::Builder::new().name("gateway".to_owned()).spawn(work);
        let thread = Some(thread.map_err(Error::System)?);
        let gateway = Self { addrs, shared, thread };
        let rest = world_built.recv().map_err(|_| Error::Ended)?;
        Ok((gateway, rest))
    }

    /// The addresses that its sockets are bound to: one of each family, with the port of all hosts.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
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
            left: shared.left.load(Relaxed),
            came: shared.came.load(Relaxed),
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

/// Whether the addresses of the ranges are this machine's: one from the middle stands for all.
fn check_local(listen: &Listen) -> Result<(), Error> {
    let refused = |error| Error::NotLocal { listen: listen.clone(), error };
    if listen.speaks(Family::V4) {
        let range = listen.range;
        let middle = u32::from(range.first_client()) - 1 + (1 << (31 - u32::from(range.prefix())));
        let bind = std::net::UdpSocket::bind((Ipv4Addr::from(middle), 0));
        bind.map_err(refused)?;
    }
    if listen.speaks(Family::V6) {
        let middle = cidr::middle_of_network_v6();
        connect_through_loopback(middle).map_err(refused)?;
    }
    Ok(())
}

/// Asks the system whether an address is behind the loopback interface. Nothing is sent.
fn connect_through_loopback(ip: Ipv6Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    socket.bind_device(Some(b"lo"))?;
    socket.connect(&SocketAddr::from((ip, 1)).into())
}
