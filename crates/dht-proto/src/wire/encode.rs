//! From [`Message`] to datagram, in canonical form.

use core::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use super::bencode::{Count, Sink, Slice, Writer};
use super::decode::whole_records;
use super::{Body, ErrorReply, Message, Method, Put, Query, Reply, Values, Want};
use crate::addr::Addr;
use crate::id::{ID_LEN, InfoHash, ItemId};

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
        match body {
            Part::Query(query) => {
                write_args(w, query)?;
                self.write_method(w, &query.method)?;
                self.write_end(w, b'q')
            }
            Part::Reply(reply) => {
                self.write_reply_start(w, reply)?;
                write_reply(w, reply)?;
                self.write_end(w, b'r')
            }
            Part::Error(error) => {
                w.raw(b"d")?;
                write_error(w, error)?;
                self.write_ip(w)?;
                self.write_end(w, b'e')
            }
        }
    }

    #[inline]
    fn write_ip<S: Sink>(&self, w: &mut Writer<S>) -> Option<()> {
        self.ip.map_or(Some(()), |(ip, port)| write_ip(w, ip, port))
    }

    /// The end of the arguments, and the name of the method.
    #[inline]
    fn write_method<S: Sink>(&self, w: &mut Writer<S>, method: &Method<'_>) -> Option<()> {
        if self.ip.is_none() {
            if let Method::FindNode { .. } = method {
                return w.raw(b"e1:q9:find_node");
            }
            if let Method::GetPeers { .. } = method {
                return w.raw(b"e1:q9:get_peers");
            }
        }
        w.raw(b"e")?;
        self.write_ip(w)?;
        w.raw(b"1:q")?;
        w.bytes(method.name())
    }

    /// All up to the id of whoever replies. Without filters, to IPv4, it is written at once.
    #[inline]
    fn write_reply_start<S: Sink>(&self, w: &mut Writer<S>, reply: &Reply<'_>) -> Option<()> {
        if let Some((IpAddr::V4(ip), Some(port))) = self.ip
            && reply.peers_filter.is_none()
            && reply.seeds_filter.is_none()
        {
            let mut start = *b"d2:ip6:......1:rd2:id20:....................";
            put(&mut start, 7, &SocketAddrV4::new(ip, port).compact());
            put(&mut start, 24, reply.id.as_bytes());
            return w.raw(&start);
        }
        w.raw(b"d")?;
        self.write_ip(w)?;
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
        w.raw(reply.id.as_bytes())
    }

    /// All that follows the body. Transaction id and version have four bytes each in nearly every
    /// message, and are written at once then.
    #[inline]
    fn write_end<S: Sink>(&self, w: &mut Writer<S>, kind: u8) -> Option<()> {
        if self.read_only {
            w.raw(b"2:roi1e")?;
        }
        if let Ok(tid) = self.tid.try_into()
            && let Some(Ok(version)) = self.version.map(TryInto::try_into)
        {
            let mut end = *b"1:t4:....1:v4:....1:y1:.e";
            put::<4>(&mut end, 5, tid);
            put::<4>(&mut end, 14, version);
            put(&mut end, 23, &[kind]);
            return w.raw(&end);
        }
        w.raw(b"1:t")?;
        w.bytes(self.tid)?;
        if let Some(version) = self.version {
            w.raw(b"1:v")?;
            w.bytes(version)?;
        }
        w.raw(&[b'1', b':', b'y', b'1', b':', kind, b'e'])
    }
}

/// Puts a value in its place in a text in which all else is fixed.
#[inline]
fn put<const N: usize>(text: &mut [u8], at: usize, value: &[u8; N]) {
    if let Some(place) = text.get_mut(at..at + N) {
        place.copy_from_slice(value);
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

/// The start of a query, and its arguments.
#[inline]
fn write_args<S: Sink>(w: &mut Writer<S>, query: &Query<'_>) -> Option<()> {
    if let Method::Put(Put { mutable: Some(item), .. }) = &query.method
        && let Some(cas) = item.cas
    {
        w.raw(b"d1:ad3:cas")?;
        w.int(cas)?;
        w.raw(b"2:id20:")?;
        w.raw(query.id.as_bytes())?;
    } else {
        let mut start = *b"d1:ad2:id20:....................";
        put(&mut start, 12, query.id.as_bytes());
        w.raw(&start)?;
    }
    match &query.method {
        Method::Ping | Method::Unknown { target: None, .. } => {}
        Method::FindNode { target }
        | Method::SampleInfohashes { target }
        | Method::Unknown { target: Some(target), .. } => write_target(w, target.as_bytes())?,
        Method::GetPeers { info_hash, noseed, scrape } => {
            write_info_hash(w, info_hash)?;
            write_if(w, *noseed, b"6:noseedi1e")?;
            write_if(w, *scrape, b"6:scrapei1e")?;
        }
        Method::AnnouncePeer { info_hash, port, implied_port, seed, token } => {
            // Both keys whatever they say: librqbit drops an announce without the one, mldht,
            // jech/dht and bittorrent-dht one without the other.
            w.raw(b"12:implied_port")?;
            w.int(i64::from(*implied_port))?;
            write_info_hash(w, info_hash)?;
            w.raw(b"4:port")?;
            w.int(i64::from(*port))?;
            write_if(w, *seed, b"4:seedi1e")?;
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
    write_want(w, query.want)
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

#[inline]
fn write_target<S: Sink>(w: &mut Writer<S>, target: &[u8; ID_LEN]) -> Option<()> {
    let mut field = *b"6:target20:....................";
    put(&mut field, 11, target);
    w.raw(&field)
}

#[inline]
fn write_info_hash<S: Sink>(w: &mut Writer<S>, info_hash: &InfoHash) -> Option<()> {
    let mut field = *b"9:info_hash20:....................";
    put(&mut field, 14, info_hash.as_bytes());
    w.raw(&field)
}

/// Writes a text of known length, or nothing.
#[inline]
fn write_if<S: Sink, const N: usize>(w: &mut Writer<S>, on: bool, text: &[u8; N]) -> Option<()> {
    if on { w.raw(text) } else { Some(()) }
}

fn write_want<S: Sink>(w: &mut Writer<S>, want: Want) -> Option<()> {
    match (want.n4, want.n6) {
        (false, false) => Some(()),
        (true, false) => w.raw(b"4:wantl2:n4e"),
        (false, true) => w.raw(b"4:wantl2:n6e"),
        (true, true) => w.raw(b"4:wantl2:n42:n6e"),
    }
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

/// The fields of a reply after `id`.
///
/// Never a tail in a list of records: mldht and librqbit refuse the whole message for one, jech/dht
/// blacklists us.
#[inline]
fn write_reply<S: Sink>(w: &mut Writer<S>, reply: &Reply<'_>) -> Option<()> {
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
    match reply.token.map(TryInto::try_into) {
        None => {}
        Some(Ok(token)) => {
            let mut field = *b"5:token8:........";
            put::<8>(&mut field, 9, token);
            w.raw(&field)?;
        }
        Some(Err(_)) => {
            w.raw(b"5:token")?;
            w.bytes(reply.token.unwrap_or_default())?;
        }
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
