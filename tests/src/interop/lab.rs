//! Starts nodes of any kind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::command::CommandPeer;
use super::mainline::MainlinePeer;
use super::ours::OurPeer;
use super::worker::{Worker, WorkerPeer};
use super::{Kind, Peer, PeerError, Result};

/// How to start a node.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests construct it")]
pub struct NodeSpec {
    /// Where it shall listen.
    pub addr: SocketAddr,
    /// All it knows of the world.
    pub bootstrap: Vec<SocketAddr>,
    /// Whether it shall answer no queries (BEP 43), if it can be told so.
    pub read_only: bool,
    /// Whether to leave everything to its own default but for the nodes to start from. Then `addr`
    /// is only where others see it, and its port means nothing.
    pub defaults: bool,
}

/// Starts nodes, and the processes that some of them live in. Those end with the lab.
#[derive(Debug, Default)]
pub struct Lab {
    libtorrent: OnceLock<Result<Arc<Worker>>>,
    bittorrent_dht: OnceLock<Result<Arc<Worker>>>,
}

impl Lab {
    /// Starts a node.
    ///
    /// # Errors
    /// If it does not run, with what it said about that.
    pub fn start(&self, kind: Kind, spec: &NodeSpec) -> Result<Box<dyn Peer>> {
        let worker = match kind {
            Kind::Mainline => return Ok(Box::new(MainlinePeer::start(spec)?)),
            Kind::Ours => return Ok(Box::new(OurPeer::start(spec)?)),
            Kind::Command => return Ok(Box::new(CommandPeer::start(spec)?)),
            Kind::Libtorrent => {
                self.libtorrent.get_or_init(|| spawn(kind, &python(), "libtorrent_peer.py"))
            }
            Kind::BittorrentDht => self
                .bittorrent_dht
                .get_or_init(|| spawn(kind, Path::new("node"), "bittorrent_dht_peer.js")),
        };
        let worker = worker.clone()?;
        Ok(Box::new(WorkerPeer::start(worker, spec)?))
    }
}

/// Whether `tests/interop/setup.sh` has installed the peers that live in other processes.
#[must_use]
pub fn setup_is_complete() -> bool {
    python().exists() && directory().join("node_modules/bittorrent-dht").exists()
}

fn spawn(kind: Kind, program: &Path, script: &str) -> Result<Arc<Worker>> {
    if !setup_is_complete() {
        let hint = "the interop peers are not installed: run tests/interop/setup.sh";
        return Err(PeerError::Failed(hint.into()));
    }
    Worker::spawn(kind, program, &directory().join(script)).map(Arc::new)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

fn python() -> PathBuf {
    directory().join(".venv/bin/python")
}
