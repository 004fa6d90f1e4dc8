//! Nodes of the `mainline` crate, in this process.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use dht_proto::id::{InfoHash, ItemId, Target};
use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use mainline::async_dht::AsyncDht;
use mainline::errors::{ConcurrencyError, PutMutableError};
use mainline::{Dht, Id, MutableItem};

use super::patience::{OPERATION, bounded};
use super::{Kind, Mutable, NodeSpec, Peer, PeerError, Put, Result, Samples, Version};

#[derive(Debug)]
pub(super) struct MainlinePeer {
    dht: AsyncDht,
    /// Operations take turns. The crate reads one datagram between two rounds over all its
    /// queries, so that with 20 lookups at once its socket's buffer overflows and answers are lost.
    turn: Mutex<()>,
    addr: SocketAddr,
}

impl MainlinePeer {
    pub(super) fn start(spec: &NodeSpec) -> Result<Self> {
        let mut builder = Dht::builder();
        let SocketAddr::V4(addr) = spec.addr else { return unsupported("mainline has no IPv6") };
        // Left unset, this would mean its built-in bootstrap hosts.
        builder.bootstrap(&spec.bootstrap);
        if !spec.defaults {
            builder.bind_address(*addr.ip()).port(addr.port());
            if !spec.read_only {
                builder.server_mode();
            }
        }
        let dht = builder.build().map_err(failed)?.as_async();
        Ok(Self { dht, turn: Mutex::new(()), addr: spec.addr })
    }

    /// Runs an operation of the crate to its end.
    fn run<T, F>(
        &self,
        what: &str,
        operation: impl FnOnce(AsyncDht) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let dht = self.dht.clone();
        bounded(&format!("mainline {what}"), OPERATION, move || block_on(operation(dht)))
    }
}

impl Peer for MainlinePeer {
    fn kind(&self) -> Kind {
        Kind::Mainline
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Looks for itself first: the crate refills a table that is not empty only after 15 minutes.
    fn contacts(&self) -> Result<usize> {
        self.run("contacts", |dht| async move {
            dht.bootstrapped().await;
            dht.to_bootstrap().await.len()
        })
    }

    fn add_node(&self, _addr: SocketAddr) -> Result<()> {
        unsupported("mainline takes contacts only at its start")
    }

    fn announce(&self, info_hash: InfoHash, port: u16, seed: bool) -> Result<()> {
        if seed {
            return unsupported("mainline knows no seed flag");
        }
        let id = Id::from(*info_hash.as_bytes());
        self.run("announce", move |dht| async move { dht.announce_peer(id, Some(port)).await })?
            .map_err(failed)
            .map(drop)
    }

    fn get_peers(&self, info_hash: InfoHash) -> Result<BTreeSet<SocketAddr>> {
        let id = Id::from(*info_hash.as_bytes());
        self.run("get_peers", move |dht| async move {
            let replies: Vec<Vec<SocketAddrV4>> = dht.get_peers(id).collect().await;
            replies.into_iter().flatten().map(SocketAddr::V4).collect()
        })
    }

    fn scrape_seeds(&self, _info_hash: InfoHash) -> Result<f64> {
        unsupported("mainline knows no scrape")
    }

    fn put_immutable(&self, value: &[u8]) -> Result<Put> {
        let value = value.to_vec();
        self.run("put_immutable", |dht| async move { dht.put_immutable(&value).await })?
            .map_err(failed)
            .map(|_| Put { stored: None, refused: None })
    }

    fn get_immutable(&self, id: ItemId) -> Result<Option<Vec<u8>>> {
        let id = Id::from(*id.as_bytes());
        let found =
            self.run("get_immutable", move |dht| async move { dht.get_immutable(id).await })?;
        Ok(found.map(<[u8]>::into_vec))
    }

    fn put_mutable(&self, item: &Mutable) -> Result<Put> {
        let salt = (!item.salt.is_empty()).then_some(item.salt.as_slice());
        let cas = item.cas;
        let item = MutableItem::new(item.key.clone(), &item.value, item.seq, salt);
        let done =
            self.run("put_mutable", move |dht| async move { dht.put_mutable(item, cas).await })?;
        let refused = match done {
            Ok(_) => None,
            Err(PutMutableError::Concurrency(ConcurrencyError::CasFailed)) => Some(301),
            Err(PutMutableError::Concurrency(ConcurrencyError::NotMostRecent)) => Some(302),
            Err(error) => return Err(failed(error)),
        };
        Ok(Put { stored: None, refused })
    }

    fn get_mutable(&self, public_key: &[u8; 32], salt: &[u8]) -> Result<Option<Version>> {
        let key = *public_key;
        let salt = (!salt.is_empty()).then(|| salt.to_vec());
        let found = self.run("get_mutable", move |dht| async move {
            dht.get_mutable_most_recent(&key, salt.as_deref()).await
        })?;
        Ok(found.map(|item| Version { seq: item.seq(), value: item.value().to_vec() }))
    }

    fn sample(&self, _server: SocketAddr, _target: Target) -> Result<Samples> {
        unsupported("mainline knows no sample_infohashes")
    }
}

fn unsupported<T>(why: &str) -> Result<T> {
    Err(PeerError::Unsupported(why.into()))
}

fn failed(error: impl core::fmt::Display) -> PeerError {
    PeerError::Failed(format!("mainline: {error}"))
}
