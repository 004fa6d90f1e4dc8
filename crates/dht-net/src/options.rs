//! [`Builder`]: everything that is decided before a node runs.

use core::fmt;
use core::marker::PhantomData;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use dht_proto::config::{Config, Mode};
use dht_proto::seed::Seed;

use crate::error::{Error, ErrorKind};
use crate::node::Node;
use crate::notice::{Notice, Notices};
use crate::resolver::Host;
use crate::sockets::{Sockets, Watch};
use crate::state::{MIN_SAVE_INTERVAL, SAVE_INTERVAL};
use crate::udp::Calls;

/// Bootstrap hosts used unless others, or none, are asked for.
pub const DEFAULT_BOOTSTRAP: [&str; 3] =
    ["dht.libtorrent.org:25401", "dht.transmissionbt.com:6881", "router.bt.ouinet.work:6881"];

/// A way to run a node: what a runtime adds to a [`Builder`].
pub trait Runtime {
    /// What waits for its sockets.
    type Watch: Watch;
    /// A node that the caller has to run.
    type Built;
    /// The handle of a node that runs.
    type Spawned;

    /// Makes a node that the caller runs.
    ///
    /// # Errors
    /// If the system refuses what the runtime needs.
    fn build(node: Node<Self::Watch>) -> Result<Self::Built, Error>;

    /// Runs a node on a thread of its own.
    ///
    /// # Errors
    /// If the system refuses what the runtime needs.
    fn spawn(node: Node<Self::Watch>) -> Result<Self::Spawned, Error>;
}

/// Sets a node up: sockets, bootstrap hosts, state file, and the [`Config`] of the protocol.
///
/// The runtimes, `R`, offer it under its own name.
pub struct Builder<R> {
    config: Config,
    bind: Vec<SocketAddr>,
    /// Preferred when nothing is bound explicitly; 0 for any.
    port: u16,
    /// `None`: the defaults.
    bootstrap: Option<Vec<String>>,
    state_file: Option<PathBuf>,
    save_interval: Duration,
    calls: Calls,
    seed: Option<Seed>,
    on_notice: Option<Arc<dyn Fn(Notice) + Send + Sync>>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Builder<R> {
    /// A node with the defaults: any free port on every address of both families, the
    /// [`DEFAULT_BOOTSTRAP`] hosts, no state file.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config::default(),
            bind: Vec::new(),
            port: 0,
            bootstrap: None,
            state_file: None,
            save_interval: SAVE_INTERVAL,
            calls: Calls::Best,
            seed: None,
            on_notice: None,
            runtime: PhantomData,
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

    /// Prefers this port when no address is bound explicitly; if it is in use, any free one is
    /// taken. The handle's `local_addrs` tells which. Default: any.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Asks this host, `HOST:PORT` or `[V6]:PORT`, when no contacts are known.
    ///
    /// The first call replaces the [`DEFAULT_BOOTSTRAP`] hosts. Names are resolved in the
    /// background, and again until it works. A lookup that starts before the first of them has an
    /// address waits for it, within its deadline, if nobody else is known to ask.
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

    /// Keeps ids, contacts and stored items in this file: loaded at the start, saved at the end,
    /// at intervals, and two seconds after an item was stored or replaced. Its directory must exist
    /// and be writable.
    ///
    /// What has been saved survives kill -9 and, where the disk keeps its promises, a loss of power:
    /// the file is replaced atomically. An answer to a put promises nothing of the kind.
    #[must_use]
    pub fn state_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_file = Some(path.into());
        self
    }

    /// How often the state file is saved, beside the saves that stored items cause: what a crash can
    /// lose of contacts. A young node saves more often. Default: a minute.
    #[must_use]
    pub fn save_interval(mut self, interval: Duration) -> Self {
        self.save_interval = interval.max(MIN_SAVE_INTERVAL);
        self
    }

    /// How the sockets talk to the system. Default: [`Calls::Best`].
    #[must_use]
    pub fn calls(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    /// Fixes the randomness, for tests. Default: from the system.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls this with everything worth a line in a log, from the node's own threads. It must not
    /// block, and must not call a handle of the same node.
    #[must_use]
    pub fn on_notice(mut self, callback: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.on_notice = Some(Arc::new(callback));
        self
    }

    /// Starts the node on a thread of its own.
    ///
    /// # Errors
    /// See [`Builder::build`].
    pub fn spawn(self) -> Result<R::Spawned, Error> {
        R::spawn(self.prepare()?)
    }

    /// Binds the sockets and loads the state, and leaves running the node to the caller.
    ///
    /// This reads and writes the state file, if there is to be one, and waits for the disk.
    ///
    /// # Errors
    /// If an address cannot be bound, a bootstrap host is not `HOST:PORT`, or the state file
    /// cannot be read or replaced. A state file that can be read but is damaged is no error: it is
    /// renamed and reported as [`Notice::StateDamaged`].
    pub fn build(self) -> Result<R::Built, Error> {
        R::build(self.prepare()?)
    }

    fn prepare(self) -> Result<Node<R::Watch>, Error> {
        self.config.check().map_err(|error| {
            let message = format!("{error}; choose a value in that range");
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        let hosts = self.hosts()?;
        let notices = Notices::new(self.on_notice);
        let sockets = bind(&self.bind, self.port, self.calls, &notices)?;
        let seed = match self.seed {
            Some(seed) => seed,
            None => random_seed()?,
        };
        let mut config = self.config;
        config.bootstrap.extend(hosts.iter().filter_map(|host| match host {
            Host::Addr(addr) => Some(*addr),
            Host::Name { .. } => None,
        }));
        let state_file = self.state_file.as_deref();
        Node::new(config, &seed, sockets, hosts, state_file, self.save_interval, notices)
    }

    fn hosts(&self) -> Result<Vec<Host>, Error> {
        match &self.bootstrap {
            Some(hosts) => hosts.iter().map(|host| Host::parse(host)).collect(),
            None => DEFAULT_BOOTSTRAP.iter().map(|host| Host::parse(host)).collect(),
        }
    }
}

impl<R: Runtime> Default for Builder<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Clone for Builder<R> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            bind: self.bind.clone(),
            bootstrap: self.bootstrap.clone(),
            state_file: self.state_file.clone(),
            save_interval: self.save_interval,
            calls: self.calls,
            port: self.port,
            seed: self.seed.clone(),
            on_notice: self.on_notice.clone(),
            runtime: PhantomData,
        }
    }
}

impl<R> fmt::Debug for Builder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("bind", &self.bind)
            .field("bootstrap", &self.bootstrap)
            .field("state_file", &self.state_file)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

fn bind<W: Watch>(
    addrs: &[SocketAddr],
    port: u16,
    calls: Calls,
    notices: &Notices,
) -> Result<Sockets<W>, Error> {
    if !addrs.is_empty() {
        return Sockets::bind(addrs, calls);
    }
    let v4 = |port| Sockets::bind(&[(Ipv4Addr::UNSPECIFIED, port).into()], calls);
    let mut sockets = v4(port).or_else(|_| v4(0))?;
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
