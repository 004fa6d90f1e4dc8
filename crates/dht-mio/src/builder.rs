//! [`Builder`]: everything that is decided before a node runs.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use dht_proto::config::{Config, Mode};
use dht_proto::seed::Seed;

use crate::error::{Error, ErrorKind};
use crate::event_loop::EventLoop;
use crate::handle::Dht;
use crate::notice::{Notice, Notices};
use crate::resolver::Host;
use crate::socket::Sockets;
use crate::state::{MIN_SAVE_INTERVAL, SAVE_INTERVAL};

/// Bootstrap hosts used unless others, or none, are asked for.
pub const DEFAULT_BOOTSTRAP: [&str; 3] =
    ["dht.libtorrent.org:25401", "dht.transmissionbt.com:6881", "router.bt.ouinet.work:6881"];

/// Sets a node up: sockets, bootstrap hosts, state file, and the [`Config`] of the protocol.
#[derive(Clone)]
pub struct Builder {
    config: Config,
    bind: Vec<SocketAddr>,
    /// `None`: the defaults.
    bootstrap: Option<Vec<String>>,
    state_file: Option<PathBuf>,
    save_interval: Duration,
    batch_io: bool,
    seed: Option<Seed>,
    on_notice: Option<Arc<dyn Fn(Notice) + Send + Sync>>,
}

impl Builder {
    /// A node with the defaults: any free port on every address of both families, the
    /// [`DEFAULT_BOOTSTRAP`] hosts, no state file.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config::default(),
            bind: Vec::new(),
            bootstrap: None,
            state_file: None,
            save_interval: SAVE_INTERVAL,
            batch_io: true,
            seed: None,
            on_notice: None,
        }
    }

    /// Replaces the protocol's configuration. Addresses in its `bootstrap` are kept beside the
    /// hosts given here.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Whether the node answers queries. Default: adaptive.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.config.mode = mode;
        self
    }

    /// An external address that is known, so that it need not be voted on.
    #[must_use]
    pub fn public_ip(mut self, ip: IpAddr) -> Self {
        self.config.public_ips.push(ip);
        self
    }

    /// Binds this address, at most one per family; port 0 picks a free port.
    ///
    /// The first call replaces the default, `0.0.0.0:0` and `[::]:0`. Of the default, IPv6 may
    /// fail; an address that was asked for may not. IPv6 sockets never carry IPv4.
    #[must_use]
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.bind.push(addr);
        self
    }

    /// Asks this host, `HOST:PORT` or `[V6]:PORT`, when no contacts are known.
    ///
    /// The first call replaces the [`DEFAULT_BOOTSTRAP`] hosts. Names are resolved in the
    /// background, and again until it works.
    #[must_use]
    pub fn bootstrap(mut self, host: impl Into<String>) -> Self {
        self.bootstrap.get_or_insert_default().push(host.into());
        self
    }

    /// Drops every bootstrap host, the defaults included.
    #[must_use]
    pub fn no_bootstrap(mut self) -> Self {
        self.bootstrap = Some(Vec::new());
        self.config.bootstrap.clear();
        self
    }

    /// Keeps ids, contacts and stored items in this file: loaded at the start, saved at intervals
    /// and at the end. Its directory must exist and be writable.
    #[must_use]
    pub fn state_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_file = Some(path.into());
        self
    }

    /// How often the state file is saved: what a crash can lose. Default: a minute.
    #[must_use]
    pub fn save_interval(mut self, interval: Duration) -> Self {
        self.save_interval = interval.max(MIN_SAVE_INTERVAL);
        self
    }

    /// Whether to send and receive many datagrams per system call, where the system can
    /// (recvmmsg and sendmmsg on Linux). Default: true.
    #[must_use]
    pub fn batch_io(mut self, batch_io: bool) -> Self {
        self.batch_io = batch_io;
        self
    }

    /// Fixes the randomness, for tests. Default: from the system.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls this with everything worth a line in a log, from the node's own threads. It must not
    /// block, and must not call a [`Dht`] of the same node.
    #[must_use]
    pub fn on_notice(mut self, callback: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.on_notice = Some(Arc::new(callback));
        self
    }

    /// Starts the node on a thread of its own.
    ///
    /// # Errors
    /// See [`Builder::build`].
    pub fn spawn(self) -> Result<Dht, Error> {
        let mut event_loop = self.build()?;
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

    /// Binds the sockets and loads the state, and leaves running the loop to the caller.
    ///
    /// # Errors
    /// If an address cannot be bound, a bootstrap host is not `HOST:PORT`, or the state file
    /// cannot be read or replaced. A state file that can be read but is damaged is no error: it is
    /// renamed and reported as [`Notice::StateDamaged`].
    pub fn build(self) -> Result<EventLoop, Error> {
        self.config.check().map_err(|error| {
            let message = format!("{error}; choose a value in that range");
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        let hosts = self.hosts()?;
        let notices = Notices::new(self.on_notice);
        let sockets = bind(&self.bind, self.batch_io, &notices)?;
        let seed = match self.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        let mut config = self.config;
        config.bootstrap.extend(hosts.iter().filter_map(|host| match host {
            Host::Addr(addr) => Some(*addr),
            Host::Name { .. } => None,
        }));
        EventLoop::new(
            config,
            &seed,
            sockets,
            hosts,
            self.state_file.as_deref(),
            self.save_interval,
            notices,
        )
    }

    fn hosts(&self) -> Result<Vec<Host>, Error> {
        match &self.bootstrap {
            Some(hosts) => hosts.iter().map(|host| Host::parse(host)).collect(),
            None => DEFAULT_BOOTSTRAP.iter().map(|host| Host::parse(host)).collect(),
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("bind", &self.bind)
            .field("bootstrap", &self.bootstrap)
            .field("state_file", &self.state_file)
            .field("batch_io", &self.batch_io)
            .finish_non_exhaustive()
    }
}

fn bind(addrs: &[SocketAddr], batch_io: bool, notices: &Notices) -> Result<Sockets, Error> {
    if !addrs.is_empty() {
        return Sockets::bind(addrs, batch_io);
    }
    let mut sockets = Sockets::bind(&[(Ipv4Addr::UNSPECIFIED, 0).into()], batch_io)?;
    // One port for both networks, if it is free: an announce can name only one.
    let port = sockets.local_addrs().first().map_or(0, SocketAddr::port);
    let v6 = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    if let Err(error) = sockets.add(v6(port)).or_else(|_| sockets.add(v6(0))) {
        notices.tell(Notice::NoIpv6 { error: error.to_string() });
    }
    Ok(sockets)
}

fn random_seed() -> Result<Seed, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::System, "cannot get random bytes from the system")
            .because(error.to_string())
    })?;
    Ok(Seed::from_bytes(bytes))
}
