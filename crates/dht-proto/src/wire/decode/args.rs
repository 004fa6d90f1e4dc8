//! The arguments `a` of a query.

use super::super::bencode::{Order, Reader, SyntaxError};
use super::super::{Method, Put, PutMutable, Query, Want};
use super::Field;
use crate::id::{ID_LEN, InfoHash, ItemId, NodeId, Target};

/// Every argument of every method: `a` precedes `q`, so the method is not known while reading.
#[derive(Debug, Default)]
pub(super) struct Args<'a> {
    cas: Field<i64>,
    id: Field<&'a [u8; ID_LEN]>,
    implied_port: Field<i64>,
    info_hash: Field<&'a [u8; ID_LEN]>,
    k: Field<&'a [u8; 32]>,
    noseed: Field<i64>,
    port: Field<i64>,
    read_only: Field<i64>,
    salt: Field<&'a [u8]>,
    scrape: Field<i64>,
    seed: Field<i64>,
    seq: Field<i64>,
    sig: Field<&'a [u8; 64]>,
    target: Field<&'a [u8; ID_LEN]>,
    token: Field<&'a [u8]>,
    v: Field<&'a [u8]>,
    want: Field<Want>,
}

impl<'a> Args<'a> {
    /// Reads the rest of `a`, of which the reader has entered the dictionary.
    pub(super) fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), SyntaxError> {
        let mut order = Order::default();
        while let Some(key) = reader.key(&mut order)? {
            match key {
                b"cas" => self.cas.fill(reader.int()?),
                b"id" => self.id.fill(reader.array()?),
                b"implied_port" => self.implied_port.fill(reader.int()?),
                b"info_hash" => self.info_hash.fill(reader.array()?),
                b"k" => self.k.fill(reader.array()?),
                b"noseed" => self.noseed.fill(reader.int()?),
                b"port" => self.port.fill(reader.int()?),
                b"ro" => self.read_only.fill(reader.int()?),
                b"salt" => self.salt.fill(reader.bytes()?),
                b"scrape" => self.scrape.fill(reader.int()?),
                b"seed" => self.seed.fill(reader.int()?),
                b"seq" => self.seq.fill(reader.int()?),
                b"sig" => self.sig.fill(reader.array()?),
                b"target" => self.target.fill(reader.array()?),
                b"token" => self.token.fill(reader.bytes()?),
                b"v" => self.v.fill(Some(reader.raw()?)),
                b"want" => self.want.fill(read_want(reader)?),
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    pub(super) fn read_only(&self) -> bool {
        self.read_only.get() == Some(1)
    }

    /// The query, if everything is there that the method needs; else what is wrong.
    pub(super) fn query(&self, name: &'a [u8]) -> Result<Query<'a>, &'static str> {
        let id = self.id.get().ok_or("id must be 20 bytes")?;
        let method = match name {
            b"ping" => Method::Ping,
            b"find_node" => Method::FindNode { target: Target::from_bytes(*self.target()?) },
            b"get_peers" => Method::GetPeers {
                info_hash: self.info_hash()?,
                noseed: self.noseed.get() == Some(1),
                scrape: self.scrape.get() == Some(1),
            },
            b"announce_peer" => self.announce_peer()?,
            b"get" => {
                Method::Get { target: ItemId::from_bytes(*self.target()?), seq: self.seq.get() }
            }
            b"put" => Method::Put(self.put()?),
            b"sample_infohashes" => {
                Method::SampleInfohashes { target: Target::from_bytes(*self.target()?) }
            }
            _ => {
                let target = self.target.get().or_else(|| self.info_hash.get());
                Method::Unknown { name, target: target.copied().map(Target::from_bytes) }
            }
        };
        let want = self.want.get().unwrap_or_default();
        Ok(Query { id: NodeId::from_bytes(*id), want, method })
    }

    fn announce_peer(&self) -> Result<Method<'a>, &'static str> {
        let info_hash = self.info_hash()?;
        // BEP 5: "If it is present and non-zero, the port argument should be ignored".
        let implied_port = self.implied_port.get().is_some_and(|flag| flag != 0);
        let port = self.port.get().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        if port == 0 && !implied_port {
            return Err("port must be 1 to 65535");
        }
        let token = self.token()?;
        // BEP 33: any other value of `seed` means a downloader.
        let seed = self.seed.get() == Some(1);
        Ok(Method::AnnouncePeer { info_hash, port, implied_port, seed, token })
    }

    fn put(&self) -> Result<Put<'a>, &'static str> {
        let token = self.token()?;
        let v = self.v.get().ok_or("missing v")?;
        // BEP 44: what makes an item mutable is its key.
        if self.k.is_absent() {
            return Ok(Put { token, v, mutable: None });
        }
        if self.salt.is_invalid() {
            return Err("salt must be a string");
        }
        if self.cas.is_invalid() {
            // Reading it as absent would store what the sender asked not to be stored.
            return Err("cas must be a 64-bit integer");
        }
        let mutable = PutMutable {
            public_key: self.k.get().ok_or("k must be 32 bytes")?,
            salt: self.salt.get().unwrap_or_default(),
            seq: self.seq.get().ok_or("seq must be a 64-bit integer")?,
            signature: self.sig.get().ok_or("sig must be 64 bytes")?,
            cas: self.cas.get(),
        };
        Ok(Put { token, v, mutable: Some(mutable) })
    }

    fn target(&self) -> Result<&'a [u8; ID_LEN], &'static str> {
        self.target.get().ok_or("target must be 20 bytes")
    }

    fn info_hash(&self) -> Result<InfoHash, &'static str> {
        let info_hash = self.info_hash.get().ok_or("info_hash must be 20 bytes")?;
        Ok(InfoHash::from_bytes(*info_hash))
    }

    fn token(&self) -> Result<&'a [u8], &'static str> {
        self.token.get().ok_or("token must be a string")
    }
}

/// BEP 32: a list of "n4" and "n6"; strings that mean nothing to us are for others.
fn read_want(reader: &mut Reader<'_>) -> Result<Option<Want>, SyntaxError> {
    if !reader.list()? {
        return Ok(None);
    }
    let mut want = Want::default();
    while !reader.end()? {
        match reader.bytes()? {
            Some(b"n4") => want.n4 = true,
            Some(b"n6") => want.n6 = true,
            Some(_) | None => {}
        }
    }
    Ok(Some(want))
}
