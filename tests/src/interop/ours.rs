//! Our own nodes, in this process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use dht_mio::proto::config::{Config, Mode};
use dht_mio::proto::request::{AnnouncePort, Lookup, Outcome};
use dht_mio::{Builder, Dht, LookupHandle};
use dht_proto::id::{InfoHash, ItemId, Target};
use dht_proto::item::{Item, bencode_bytes, byte_string};

use super::{Kind, Mutable, NodeSpec, Peer, PeerError, Put, Result, Samples, Version};

/// What everybody together may be sent where all have one address, in bytes at once and per second:
/// by default our nodes answer a network with less when it asks as much as the whole suite does.
pub(super) const SHARED_BUDGET: u32 = 100_000_000;
/// How long any call may take.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct OurPeer {
    dht: Dht,
    addr: SocketAddr,
}

impl OurPeer {
    /// With the default configuration, whatever the other kinds need, but for [`SHARED_BUDGET`].
    pub(super) fn start(spec: &NodeSpec) -> Result<Self> {
        if spec.defaults {
            return Self::spawn(spec, Dht::builder());
        }
        let mode = if spec.read_only { Mode::Client } else { Mode::Server };
        let mut config = Config::default();
        if spec.addr.is_ipv6() {
            (config.subnet_bytes_per_sec, config.subnet_burst_bytes) =
                (SHARED_BUDGET, SHARED_BUDGET);
        }
        Self::spawn(spec, Dht::builder().config(config).no_bootstrap().mode(mode).bind(spec.addr))
    }

    fn spawn(spec: &NodeSpec, mut builder: Builder) -> Result<Self> {
        for contact in &spec.bootstrap {
            builder = builder.bootstrap(contact.to_string());
        }
        let dht = builder.spawn().map_err(failed)?.with_timeout(TIMEOUT);
        Ok(Self { dht, addr: spec.addr })
    }

    fn put(&self, item: Item, cas: Option<i64>) -> Result<Put> {
        let outcome = self.dht.put_item(item, cas).map_err(failed)?;
        let codes: Vec<_> = outcome.refusals.iter().map(|refusal| refusal.code).collect();
        judge(outcome.stored as usize, &codes).ok_or_else(|| nobody(&outcome))
    }
}

/// What became of a put that so many nodes took and so many refused, by code; `None` if nothing did.
pub(super) fn judge(stored: usize, codes: &[i64]) -> Option<Put> {
    match codes.iter().max() {
        // Whoever took it had not heard of the newer version.
        Some(code @ (301 | 302)) if stored <= codes.len() => {
            Some(Put { stored: Some(stored), refused: Some(*code) })
        }
        _ => (stored > 0).then_some(Put { stored: Some(stored), refused: None }),
    }
}

impl Drop for OurPeer {
    fn drop(&mut self) {
        // It keeps no state that could fail to be saved.
        let _ = self.dht.shutdown();
    }
}

impl Peer for OurPeer {
    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn contacts(&self) -> Result<usize> {
        let stats = self.dht.stats().map_err(failed)?;
        Ok(usize::try_from(stats.node.contacts).unwrap_or(usize::MAX))
    }

    fn add_node(&self, addr: SocketAddr) -> Result<()> {
        self.dht.add_contact(addr, None).map_err(failed)
    }

    fn announce(&self, info_hash: InfoHash, port: u16, seed: bool) -> Result<()> {
        let port = AnnouncePort::Explicit(port);
        let outcome = self.dht.announce(info_hash, port, seed).map_err(failed)?;
        if outcome.stored == 0 { Err(nobody(&outcome)) } else { Ok(()) }
    }

    fn get_peers(&self, info_hash: InfoHash) -> Result<BTreeSet<SocketAddr>> {
        let peers = self.dht.get_peers(info_hash).map_err(failed)?;
        Ok(peers.collect())
    }

    fn scrape_seeds(&self, info_hash: InfoHash) -> Result<f64> {
        let lookup = Lookup::GetPeers { info_hash, scrape: true, noseed: false };
        let outcome = self.dht.start(lookup).and_then(LookupHandle::outcome).map_err(failed)?;
        let scrape = outcome.scrape.ok_or_else(|| failed("nobody sent filters"))?;
        Ok(scrape.seeds)
    }

    fn put_immutable(&self, value: &[u8]) -> Result<Put> {
        self.put(Item::immutable(&bencode_bytes(value)).map_err(failed)?, None)
    }

    fn get_immutable(&self, id: ItemId) -> Result<Option<Vec<u8>>> {
        let found = self.dht.get_immutable(id).map_err(failed)?;
        Ok(found.and_then(|item| byte_string(item.value()).map(<[u8]>::to_vec)))
    }

    fn put_mutable(&self, item: &Mutable) -> Result<Put> {
        let value = bencode_bytes(&item.value);
        let signed = Item::sign(&item.key, &item.salt, item.seq, &value).map_err(failed)?;
        self.put(signed, item.cas)
    }

    fn get_mutable(&self, public_key: &[u8; 32], salt: &[u8]) -> Result<Option<Version>> {
        let found = self.dht.get_mutable(public_key, salt).map_err(failed)?;
        Ok(found.and_then(|item| {
            let seq = item.signed()?.seq;
            Some(Version { seq, value: byte_string(item.value())?.to_vec() })
        }))
    }

    fn sample(&self, server: SocketAddr, target: Target) -> Result<Samples> {
        let sample = self.dht.sample(server, target).map_err(failed)?;
        let num =
            sample.total.ok_or_else(|| failed(format!("no samples: {:?}", sample.outcome)))?;
        Ok(Samples {
            samples: sample.samples.into_iter().collect(),
            num: i64::try_from(num).map_err(failed)?,
        })
    }
}

fn failed(error: impl core::fmt::Display) -> PeerError {
    PeerError::Failed(format!("our node: {error}"))
}

fn nobody(outcome: &Outcome) -> PeerError {
    failed(format!("nobody stored it: {outcome:?}"))
}
