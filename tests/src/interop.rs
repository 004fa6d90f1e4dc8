//! Drives other implementations of the Mainline DHT, and ours, against each other on loopback.
//!
//! A [`Lab`] starts nodes of any [`Kind`] behind one trait, [`Peer`]. A [`scenario`] puts a swarm
//! of one kind between writers and readers of every kind and notes which pair got which
//! operation through. [`limits`] holds what cannot work because of a peer's own limits.

pub mod address;
pub mod krpc;
pub mod limits;
pub mod report;
pub mod scenario;

mod command;
mod lab;
mod mainline;
mod ours;
mod patience;
mod worker;

use core::fmt;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use dht_proto::id::{InfoHash, ItemId, Target};
use ed25519_dalek::SigningKey;

pub use lab::{Lab, NodeSpec, setup_is_complete};

/// An implementation of the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "tests match on every kind")]
pub enum Kind {
    /// libtorrent (arvidn) through its Python bindings.
    Libtorrent,
    /// `bittorrent-dht` (webtorrent) on Node.js.
    BittorrentDht,
    /// The `mainline` crate (pubky), in this process.
    Mainline,
    /// `dht-mio`, in this process.
    Ours,
    /// The command `dht`: a daemon as server, one process per operation as client.
    Command,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Libtorrent, Self::BittorrentDht, Self::Mainline, Self::Ours, Self::Command];

    /// Those that know IPv6 (BEP 32). `bittorrent-dht` opens only a `udp4` socket, and `mainline`
    /// has no type for an IPv6 address.
    pub const IPV6: [Self; 3] = [Self::Libtorrent, Self::Ours, Self::Command];

    /// The name used in tables and in `docs/INTEROP.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Libtorrent => "libtorrent",
            Self::BittorrentDht => "bittorrent-dht",
            Self::Mainline => "mainline",
            Self::Ours => "ours",
            Self::Command => "dht",
        }
    }

    /// Whether it is our own code.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Command)
    }

    /// Whether it runs in a process of its own, which `tests/interop/setup.sh` must have installed.
    #[must_use]
    pub const fn needs_setup(self) -> bool {
        matches!(self, Self::Libtorrent | Self::BittorrentDht)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a peer did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match on both cases")]
pub enum PeerError {
    /// The implementation cannot do this at all.
    Unsupported(String),
    /// It tried; this went wrong. Contains the peer's own words where there are any.
    Failed(String),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(why) => write!(f, "unsupported: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for PeerError {}

/// What every operation of a peer returns.
pub type Result<T> = core::result::Result<T, PeerError>;

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "peers construct it")]
pub struct Put {
    /// How many nodes acknowledged it, if the peer tells.
    pub stored: Option<usize>,
    /// The error code by which nodes refused it, if they did and the peer tells.
    pub refused: Option<i64>,
}

/// A mutable item to be put.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests construct it")]
pub struct Mutable {
    /// Signs it.
    pub key: SigningKey,
    /// Empty for none.
    pub salt: Vec<u8>,
    /// Version.
    pub seq: i64,
    /// Replace only this version.
    pub cas: Option<i64>,
    /// The content of the byte string that is the value.
    pub value: Vec<u8>,
}

impl Mutable {
    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Where it is stored.
    #[must_use]
    pub fn id(&self) -> ItemId {
        ItemId::of_mutable(&self.public_key(), &self.salt)
    }
}

/// A version of a mutable item that a peer found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "peers construct it")]
pub struct Version {
    /// Version.
    pub seq: i64,
    /// The content of the byte string that is the value.
    pub value: Vec<u8>,
}

/// What a node answered to `sample_infohashes` (BEP 51).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "peers construct it")]
pub struct Samples {
    /// The sample.
    pub samples: BTreeSet<InfoHash>,
    /// How many infohashes the node stores in all.
    pub num: i64,
}

/// A running node. Dropping it stops it.
///
/// Every call is bounded in time; a call that outlasts its bound fails.
pub trait Peer: fmt::Debug + Send + Sync {
    /// The implementation.
    fn kind(&self) -> Kind;

    /// Where it answers.
    fn addr(&self) -> SocketAddr;

    /// How many nodes its routing table holds.
    ///
    /// # Errors
    /// If the peer is gone.
    fn contacts(&self) -> Result<usize>;

    /// Tells it of another node.
    ///
    /// # Errors
    /// If the peer is gone, or takes contacts only at its start.
    fn add_node(&self, addr: SocketAddr) -> Result<()>;

    /// Announces that it shares a torrent, as a seed (BEP 33) or not. Some peers return before
    /// the announce has been stored anywhere.
    ///
    /// # Errors
    /// If nobody stored it.
    fn announce(&self, info_hash: InfoHash, port: u16, seed: bool) -> Result<()>;

    /// Finds peers.
    ///
    /// # Errors
    /// If the lookup failed; finding nobody is no error.
    fn get_peers(&self, info_hash: InfoHash) -> Result<BTreeSet<SocketAddr>>;

    /// Estimates how many seeds a torrent has (BEP 33).
    ///
    /// # Errors
    /// If the lookup failed.
    fn scrape_seeds(&self, info_hash: InfoHash) -> Result<f64>;

    /// Stores the byte string `value` and tells how many nodes took it.
    ///
    /// # Errors
    /// If nobody stored it.
    fn put_immutable(&self, value: &[u8]) -> Result<Put>;

    /// Finds an immutable byte string.
    ///
    /// # Errors
    /// If the lookup failed.
    fn get_immutable(&self, id: ItemId) -> Result<Option<Vec<u8>>>;

    /// Stores a mutable byte string. A refusal by code 301 or 302 is no error.
    ///
    /// # Errors
    /// If nobody answered, or refused for another reason.
    fn put_mutable(&self, item: &Mutable) -> Result<Put>;

    /// Finds the newest version of a mutable byte string.
    ///
    /// # Errors
    /// If the lookup failed.
    fn get_mutable(&self, public_key: &[u8; 32], salt: &[u8]) -> Result<Option<Version>>;

    /// Asks one node for a sample of its infohashes (BEP 51).
    ///
    /// # Errors
    /// If it does not answer.
    fn sample(&self, server: SocketAddr, target: Target) -> Result<Samples>;
}
