//! From [`Message`] to datagram, in canonical form.

use core::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use super::bencode::{Count, Sink, Slice, Writer};
use super::decode::whole_records;
use super::{Body, ErrorReply, Message, Method, Put, Query, Reply, Values, Want};
use crate::addr::Addr;
use crate::id::{ID_LEN, ItemId};

impl Message<'_> {
    /// Encodes into the start of `out` and returns the length; `None` if it does not fit, and then
    /// the content of `out` means nothing.
    ///
    /// Keys are sorted and lists of nodes and samples cut to whole records. A `v` is copied as it
    /// is: it must be exactly one bencoded value.
    ///
    /// To fill a datagram, encode with everything first; on `None` leave out as much as
    /// [`Message::encoded_len`] is too long by. A v4 peer in `values` takes 8 bytes, a v6 peer 21.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        self.head().encode(self.body.part(), out)
    }

    /// The length that [`Message::encode`] needs, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.head().encoded_len(self.body.part())
    }

    const fn head(&self) -> Head<'_> {
        let Self { tid, version, ip, read_only, .. } = *self;
        Head { tid, version, ip, read_only }
    }
}

impl Body<'_> {
    const fn part(&self) -> Part<'_> {
        match self {
            Self::Query(query) => Part::Query(query),
            Self::Reply(reply) => Part::Reply(reply),
            Self::Error(error) => Part::Error(error),
        }
    }
}

/// What a message holds beside its body, field by field as in [`Message`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) tid: &'a [u8],
    pub(crate) version: Option<&'a [u8]>,
    pub(crate) ip: Option<(IpAddr, Option<u16>)>,
    pub(crate) read_only: bool,
}

/// A [`Body`] by reference: a reply is large, and encoding it copies nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'m> {
    Query(&'m Query<'m>),
    Reply(&'m Reply<'m>),
    Error(&'m ErrorReply<'m>),
}

impl Head<'_> {
    /// See [`Message::encode`].
    #[inline]
    pub(crate) fn encode(&self, body: Part<'_>, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer(Slice::new(out));
        self.write(body, &mut writer)?;
        Some(writer.0.len())
    }

    /// See [`Message::encoded_len`].
    pub(crate) fn encoded_len(&self, body: Part<'_>) -> usize {
        let mut writer = Writer(Count::default());
        let Some(()) = self.write(body, &mut writer) else {
            unreachable!("slices in memory are shorter than usize::MAX together");
        };
        writer.0.0
    }

    #[inline]
    fn write<S: Sink>(&self, body: Part<'_>, w: &mut Writer<S>) -> Option<()> {
        w.raw(b"d")?;
        match body {
            Part::Query(query) => write_args(w, query)?,
            Part::Reply(_) => {}
            Part::Error(error) => write_error(w, error)?,
        }
        if let Some((ip, port)) = self.ip {
            write_ip(w, ip, port)?;
        }
        let end = match body {
            Part::Query(query) => {
                w.raw(b"1:q")?;
                w.bytes(query.method.name())?;
                b"1:y1:qe"
            }
            Part::Reply(reply) => {
                write_reply(w, reply)?;
                b"1:y1:re"
            }
            Part::Error(_) => b"1:y1:ee",
        };
        if self.read_only {
            w.raw(b"2:roi1e")?;
        }
        w.raw(b"1:t")?;
        w.bytes(self.tid)?;
        if let Some(version) = self.version {
            w.raw(b"1:v")?;
            w.bytes(version)?;
        }
        w.raw(end)
    }
}

impl<'a> Method<'a> {
    /// The value of `q`.
    #[must_use]
    pub const fn name(&self) -> &'a [u8] {
        match self {
            Self::Ping => b"ping",
            Self::FindNode { .. } => b"find_node",
            Self::GetPeers { .. } => b"get_peers",
            Self::AnnouncePeer { .. } => b"announce_peer",
            Self::Get { .. } => b"get",
            Self::Put(_) => b"put",
            Self::SampleInfohashes { .. } => b"sample_infohashes",
            Self::Unknown { name, .. } => name,
        }
    }
}

fn write_args<S: Sink>(w: &mut Writer<S>, query: &Query<'_>) -> Option<()> {
    w.raw(b"1:ad")?;
    if let Method::Put(Put { mutable: Some(item), .. }) = &query.method
        && let Some(cas) = item.cas
    {
        w.raw(b"3:cas")?;
        w.int(cas)?;
    }
    w.raw(b"2:id20:")?;
    w.raw(query.id.as_bytes())?;
    match &query.method {
        Method::Ping | Method::Unknown { target: None, .. } => {}
        Method::FindNode { target }
        | Method::SampleInfohashes { target }
        | Method::Unknown { target: Some(target), .. } => write_target(w, target.as_bytes())?,
        Method::GetPeers { info_hash, noseed, scrape } => {
            w.raw(b"9:info_hash20:")?;
            w.raw(info_hash.as_bytes())?;
            w.raw(if *noseed { b"6:noseedi1e" } else { b"" })?;
            w.raw(if *scrape { b"6:scrapei1e" } else { b"" })?;
        }
        Method::AnnouncePeer { info_hash, port, implied_port, seed, token } => {
            // Both keys whatever they say: librqbit drops an announce without the one, mldht,
            // jech/dht and bittorrent-dht one without the other.
            w.raw(b"12:implied_port")?;
            w.int(i64::from(*implied_port))?;
            w.raw(b"9:info_hash20:")?;
            w.raw(info_hash.as_bytes())?;
            w.raw(b"4:port")?;
            w.int(i64::from(*port))?;
            w.raw(if *seed { b"4:seedi1e" } else { b"" })?;
            w.raw(b"5:token")?;
            w.bytes(token)?;
        }
        Method::Get { target, seq } => {
            if let Some(seq) = seq {
                w.raw(b"3:seq")?;
                w.int(*seq)?;
            }
            write_target(w, target.as_bytes())?;
        }
        Method::Put(put) => write_put(w, put)?,
    }
    write_want(w, query.want)?;
    w.raw(b"e")
}

/// The arguments of a put after `id`.
fn write_put<S: Sink>(w: &mut Writer<S>, put: &Put<'_>) -> Option<()> {
    let target = match &put.mutable {
        None => ItemId::of_immutable(put.v),
        Some(item) => {
            w.raw(b"1:k32:")?;
            w.raw(item.public_key)?;
            // BEP 44: an empty salt is no salt.
            if !item.salt.is_empty() {
                w.raw(b"4:salt")?;
                w.bytes(item.salt)?;
            }
            w.raw(b"3:seq")?;
            w.int(item.seq)?;
            w.raw(b"3:sig64:")?;
            w.raw(item.signature)?;
            ItemId::of_mutable(item.public_key, item.salt)
        }
    };
    // BEP 44 knows no `target` here, but the crate `mainline` stores nothing without it.
    write_target(w, target.as_bytes())?;
    w.raw(b"5:token")?;
    w.bytes(put.token)?;
    w.raw(b"1:v")?;
    w.raw(put.v)
}

fn write_target<S: Sink>(w: &mut Writer<S>, target: &[u8; ID_LEN]) -> Option<()> {
    w.raw(b"6:target20:")?;
    w.raw(target)
}

fn write_want<S: Sink>(w: &mut Writer<S>, want: Want) -> Option<()> {
    w.raw(match (want.n4, want.n6) {
        (false, false) => b"",
        (true, false) => b"4:wantl2:n4e",
        (false, true) => b"4:wantl2:n6e",
        (true, true) => b"4:wantl2:n42:n6e",
    })
}

/// BEP 5: "a list containing two elements ... an integer representing the error code ... a string".
fn write_error<S: Sink>(w: &mut Writer<S>, error: &ErrorReply<'_>) -> Option<()> {
    w.raw(b"1:el")?;
    w.int(error.code)?;
    w.bytes(error.message)?;
    w.raw(b"e")
}

#[inline]
fn write_ip<S: Sink>(w: &mut Writer<S>, ip: IpAddr, port: Option<u16>) -> Option<()> {
    match (ip, port) {
        (IpAddr::V4(ip), Some(port)) => {
            let mut entry = *b"2:ip6:......";
            let (_, compact) = entry.split_at_mut(6);
            compact.copy_from_slice(&SocketAddrV4::new(ip, port).compact());
            w.raw(&entry)
        }
        (IpAddr::V4(ip), None) => {
            w.raw(b"2:ip4:")?;
            w.raw(&ip.octets())
        }
        (IpAddr::V6(ip), port) => {
            w.raw(if port.is_some() { b"2:ip18:" } else { b"2:ip16:" })?;
            w.raw(&ip.octets())?;
            port.map_or(Some(()), |port| w.raw(&port.to_be_bytes()))
        }
    }
}

/// Never a tail in a list of records: mldht and librqbit refuse the whole message for one, jech/dht
/// blacklists us.
#[inline]
fn write_reply<S: Sink>(w: &mut Writer<S>, reply: &Reply<'_>) -> Option<()> {
    w.raw(b"1:rd")?;
    if let Some(filter) = reply.peers_filter {
        w.raw(b"4:BFpe256:")?;
        w.raw(filter)?;
    }
    if let Some(filter) = reply.seeds_filter {
        w.raw(b"4:BFsd256:")?;
        w.raw(filter)?;
    }
    w.raw(b"2:id20:")?;
    w.raw(reply.id.as_bytes())?;
    if let Some(interval) = reply.interval {
        w.raw(b"8:interval")?;
        w.int(interval)?;
    }
    if let Some(public_key) = reply.public_key {
        w.raw(b"1:k32:")?;
        w.raw(public_key)?;
    }
    if let Some(nodes) = reply.nodes {
        w.raw(b"5:nodes")?;
        w.bytes(whole_records(nodes, SocketAddrV4::NODE_LEN))?;
    }
    if let Some(nodes6) = reply.nodes6 {
        w.raw(b"6:nodes6")?;
        w.bytes(whole_records(nodes6, SocketAddrV6::NODE_LEN))?;
    }
    if let Some(num) = reply.num {
        w.raw(b"3:num")?;
        w.int(num)?;
    }
    if let Some(samples) = reply.samples {
        w.raw(b"7:samples")?;
        w.bytes(whole_records(samples, ID_LEN))?;
    }
    if let Some(seq) = reply.seq {
        w.raw(b"3:seq")?;
        w.int(seq)?;
    }
    if let Some(signature) = reply.signature {
        w.raw(b"3:sig64:")?;
        w.raw(signature)?;
    }
    if let Some(token) = reply.token {
        w.raw(b"5:token")?;
        w.bytes(token)?;
    }
    if let Some(v) = reply.v {
        w.raw(b"1:v")?;
        w.raw(v)?;
    }
    if let Some(values) = reply.values {
        write_values(w, values)?;
    }
    w.raw(b"e")
}

/// BEP 5: "a list of strings. Each string containing compact format peer information".
fn write_values<S: Sink>(w: &mut Writer<S>, values: Values<'_>) -> Option<()> {
    w.raw(b"6:valuesl")?;
    match values.bencoded() {
        Some(strings) => w.raw(strings)?,
        None => values.records().try_for_each(|peer| w.bytes(peer))?,
    }
    w.raw(b"e")
}

#[cfg(test)]
mod tests;
