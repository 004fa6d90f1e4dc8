//! A swarm of one kind, in which writers and readers of every kind meet as strangers.
//!
//! The writers have left before the first reader comes, so whatever a reader finds was stored at
//! the swarm's nodes and handed out by them.

mod plan;
mod reading;
mod writing;

use core::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::address::Network;
use super::krpc::Probe;
use super::patience::wait_until;
use super::{Kind, Lab, NodeSpec, Peer, PeerError, Result, address};

pub use plan::Plan;
use reading::Reader;
pub use writing::Writings;

/// Nodes in a swarm.
pub const SERVERS: usize = 6;
/// How long a server may take to meet the others.
const MEET: Duration = Duration::from_secs(10);
/// How long a client may take to meet any server.
const JOIN: Duration = Duration::from_secs(5);

/// What a writer does and a reader checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "tests match on every operation")]
pub enum Operation {
    /// `announce_peer`, then `get_peers` (BEP 5).
    Peers,
    /// `put` and `get` of an immutable item (BEP 44).
    Immutable,
    /// `put` and `get` of a mutable item (BEP 44).
    Mutable,
    /// The same with a salt.
    Salted,
    /// A version is replaced by a newer one.
    Newer,
    /// An older version is then refused.
    Stale,
    /// A version is replaced only if it is the one that the writer names.
    Cas,
    /// An announce as seed is counted by a scrape (BEP 33).
    Scrape,
    /// An announced infohash is in the sample of a node (BEP 51).
    Sample,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 9] = [
        Self::Peers,
        Self::Immutable,
        Self::Mutable,
        Self::Salted,
        Self::Newer,
        Self::Stale,
        Self::Cas,
        Self::Scrape,
        Self::Sample,
    ];

    /// The heading of its column in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Immutable => "immutable",
            Self::Mutable => "mutable",
            Self::Salted => "salted",
            Self::Newer => "newer",
            Self::Stale => "stale",
            Self::Cas => "cas",
            Self::Scrape => "scrape",
            Self::Sample => "sample",
        }
    }

    /// Whether nodes of a kind serve it at all.
    #[must_use]
    pub const fn is_served_by(self, swarm: Kind) -> bool {
        match self {
            Self::Peers
            | Self::Immutable
            | Self::Mutable
            | Self::Salted
            | Self::Newer
            | Self::Stale
            | Self::Cas => true,
            Self::Scrape | Self::Sample => matches!(swarm, Kind::Libtorrent) || swarm.is_ours(),
        }
    }
}

/// How an operation between a writer and a reader went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match on every outcome")]
pub enum Outcome {
    /// The reader found exactly what the writer had stored.
    Works,
    /// The writer or the reader has no such operation.
    Unsupported(String),
    /// It was tried and failed.
    Failed(String),
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        match result {
            Ok(()) => Self::Works,
            Err(PeerError::Unsupported(why)) => Self::Unsupported(why),
            Err(PeerError::Failed(why)) => Self::Failed(why),
        }
    }
}

/// One operation between one writer and one reader in one swarm.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct Cell {
    /// Over what.
    pub network: Network,
    /// Who stores.
    pub swarm: Kind,
    /// Who announces or puts.
    pub writer: Kind,
    /// Who finds.
    pub reader: Kind,
    /// What.
    pub operation: Operation,
    /// And?
    pub outcome: Outcome,
}

/// A number of nodes of one kind that know each other.
pub struct Swarm {
    network: Network,
    kind: Kind,
    servers: Vec<Box<dyn Peer>>,
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Swarm({} x {})", self.servers.len(), self.kind)
    }
}

impl Swarm {
    /// Starts a swarm and waits until its nodes have met.
    ///
    /// # Errors
    /// If they do not.
    pub fn start(lab: &Lab, network: Network, kind: Kind) -> Result<Self> {
        let addrs = (0..SERVERS).map(|_| address::next(network)).collect::<Result<Vec<_>>>()?;
        let mut servers = Vec::new();
        for addr in &addrs {
            let others = addrs.iter().filter(|other| *other != addr).copied().collect();
            let spec =
                NodeSpec { addr: *addr, bootstrap: others, read_only: false, defaults: false };
            servers.push(lab.start(kind, &spec)?);
        }
        for server in &servers {
            introduce(server.as_ref(), &addrs)?;
        }
        let swarm = Self { network, kind, servers };
        for server in &swarm.servers {
            meet(server.as_ref(), SERVERS - 1, MEET)?;
        }
        Ok(swarm)
    }

    /// Over what its nodes talk.
    #[must_use]
    pub const fn network(&self) -> Network {
        self.network
    }

    /// What its nodes are.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where its nodes are.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.addr()).collect()
    }

    /// Starts a node that knows the swarm's nodes.
    ///
    /// # Errors
    /// If it does not start, or does not meet any node.
    pub fn join(&self, lab: &Lab, kind: Kind) -> Result<Box<dyn Peer>> {
        let addrs = self.addrs();
        // libtorrent takes even a read-only node into its table when that announces or puts, and
        // bittorrent-dht whoever asks. They hand it back to itself, and libtorrent and `mainline`
        // would wait for their own answer (15 s and 2 s). We do not ask ourselves.
        let read_only = kind.is_ours();
        let addr = address::next(self.network)?;
        let spec = NodeSpec { addr, bootstrap: addrs.clone(), read_only, defaults: false };
        let client = lab.start(kind, &spec)?;
        introduce(client.as_ref(), &addrs)?;
        meet(client.as_ref(), 1, JOIN)?;
        Ok(client)
    }
}

/// Runs every operation between every pair of `strangers` through a swarm.
///
/// # Errors
/// If the swarm does not come up; whatever happens later is in the cells.
pub fn run(lab: &Lab, network: Network, swarm: Kind, strangers: &[Kind]) -> Result<Vec<Cell>> {
    let swarm = Swarm::start(lab, network, swarm)?;
    let probe = Probe::new(network)?;
    // One stranger after the other, in the order of `Kind::ALL`. `mainline` answers only those who
    // ask with four-byte transaction ids, and our clients answer nobody: once these are there,
    // every lookup of libtorrent that meets them takes 15 s.
    let mut strangers = strangers.to_vec();
    strangers.sort_unstable();
    let writings: Vec<_> =
        strangers.iter().map(|writer| Writings::make(lab, &swarm, &probe, *writer)).collect();
    // Readers stay to the end: those that are done answer those that are not.
    let mut readers = Vec::new();
    let mut cells = Vec::new();
    for kind in &strangers {
        let reader = Reader { kind: *kind, client: swarm.join(lab, *kind) };
        cells.extend(reader.read_all(&swarm, &writings));
        readers.push(reader);
    }
    let expected = strangers.len() * strangers.len() * operations(swarm.kind).count();
    if cells.len() != expected {
        return Err(PeerError::Failed(format!("{} of {expected} cells", cells.len())));
    }
    Ok(cells)
}

/// What a swarm of a kind is tried with.
pub fn operations(swarm: Kind) -> impl Iterator<Item = Operation> {
    Operation::ALL.into_iter().filter(move |operation| operation.is_served_by(swarm))
}

/// Tells a node of others, one by one: libtorrent takes minutes to find them by itself.
fn introduce(peer: &dyn Peer, addrs: &[SocketAddr]) -> Result<()> {
    for addr in addrs.iter().filter(|addr| **addr != peer.addr()) {
        match peer.add_node(*addr) {
            // It was given them at its start.
            Ok(()) | Err(PeerError::Unsupported(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn meet(peer: &dyn Peer, contacts: usize, limit: Duration) -> Result<()> {
    if wait_until(limit, || Ok(peer.contacts()? >= contacts))? {
        return Ok(());
    }
    let kind = peer.kind();
    let met = peer.contacts()?;
    Err(PeerError::Failed(format!("{kind} has met {met} nodes of the swarm, {contacts} wanted")))
}
