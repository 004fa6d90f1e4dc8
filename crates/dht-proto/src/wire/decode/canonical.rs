//! A short cut for the queries that a node gets all day long, and for the replies to its own.
//!
//! Bencode has one form for each value, and all but the sloppiest nodes send it: then everything
//! between the values of a message is known beforehand, and is compared instead of being read.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::super::bencode::Reader;
use super::super::{Body, Message, Method, Query, Reply, Want};
use super::{DecodeError, whole_records};
use crate::addr::Addr;
use crate::id::{ID_LEN, InfoHash, NodeId, Target};

/// A ping, find_node or get_peers in canonical form without any rare key. `None` says nothing about
/// a datagram: then it has to be read key by key, which yields the same for those read here.
#[inline]
pub(super) fn query(datagram: &[u8]) -> Option<Message<'_>> {
    let mut reader = Reader::new(datagram);
    if !reader.literal(b"d1:ad2:id20:") {
        return None;
    }
    let id = NodeId::from_bytes(*reader.chunk()?);
    let (method, want) = if reader.literal(b"6:target20:") {
        let target = Target::from_bytes(*reader.chunk()?);
        let want = want(&mut reader);
        (reader.literal(b"e1:q9:find_node").then_some(Method::FindNode { target })?, want)
    } else if reader.literal(b"9:info_hash20:") {
        let info_hash = InfoHash::from_bytes(*reader.chunk()?);
        let want = want(&mut reader);
        let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
        (reader.literal(b"e1:q9:get_peers").then_some(method)?, want)
    } else {
        let want = want(&mut reader);
        (reader.literal(b"e1:q4:ping").then_some(Method::Ping)?, want)
    };
    let read_only = reader.literal(b"2:roi1e");
    let Tail { tid, version } = tail(reader, b'q')?;
    let body = Body::Query(Query { id, want, method });
    Some(Message { tid, version, ip: None, read_only, unsorted: false, body })
}

/// Who sent a datagram in canonical form, and of a query the target: read without a look at the rest, so
/// only a hint.
pub(crate) fn peek(datagram: &[u8]) -> Option<(NodeId, Option<Target>)> {
    let mut reader = Reader::new(datagram);
    if reader.literal(b"d1:ad2:id20:") {
        let id = NodeId::from_bytes(*reader.chunk()?);
        let has_target = reader.literal(b"6:target20:") || reader.literal(b"9:info_hash20:");
        let target = if has_target { Some(Target::from_bytes(*reader.chunk()?)) } else { None };
        return Some((id, target));
    }
    if !reader.literal(b"d") {
        return None;
    }
    ip(&mut reader)?;
    reader.literal(b"1:rd2:id20:").then_some(())?;
    Some((NodeId::from_bytes(*reader.chunk()?), None))
}

/// A reply in canonical form with nothing but nodes and a token, as most have that a lookup meets. Any
/// other message is read by `otherwise`. Inlined it would cost every query fifty instructions.
#[inline(never)]
pub(super) fn reply_or<'a>(
    datagram: &'a [u8],
    otherwise: Read<'a>,
) -> Result<Message<'a>, DecodeError<'a>> {
    // The message is made where it is returned: it is too large to be moved about.
    let Some(Plain { id, nodes, nodes6, token, ip, tail }) = plain(datagram) else {
        return otherwise(datagram);
    };
    let reply = Reply { nodes, nodes6, token, ..Reply::new(NodeId::from_bytes(*id)) };
    let Tail { tid, version } = tail;
    Ok(Message { tid, version, ip, read_only: false, unsorted: false, body: Body::Reply(reply) })
}

/// A function that reads a message.
type Read<'a> = fn(&'a [u8]) -> Result<Message<'a>, DecodeError<'a>>;

/// What there is in most replies.
struct Plain<'a> {
    id: &'a [u8; ID_LEN],
    nodes: Option<&'a [u8]>,
    nodes6: Option<&'a [u8]>,
    token: Option<&'a [u8]>,
    ip: Option<(IpAddr, Option<u16>)>,
    tail: Tail<'a>,
}

#[inline]
fn plain(datagram: &[u8]) -> Option<Plain<'_>> {
    let mut reader = Reader::new(datagram);
    reader.literal(b"d").then_some(())?;
    let ip = ip(&mut reader)?;
    reader.literal(b"1:rd2:id20:").then_some(())?;
    let id = reader.chunk()?;
    let (mut nodes, mut nodes6, mut token) = (None, None, None);
    if reader.literal(b"5:nodes") {
        nodes = Some(whole_records(reader.take_string()?, SocketAddrV4::NODE_LEN));
    }
    if reader.literal(b"6:nodes6") {
        nodes6 = Some(whole_records(reader.take_string()?, SocketAddrV6::NODE_LEN));
    }
    if reader.literal(b"5:token8:") {
        token = Some(reader.chunk::<8>()?.as_slice());
    } else if reader.literal(b"5:token") {
        token = Some(reader.take_string()?);
    }
    reader.literal(b"e").then_some(())?;
    let tail = tail(reader, b'r')?;
    Some(Plain { id, nodes, nodes6, token, ip, tail })
}

/// What ends most messages.
struct Tail<'a> {
    tid: &'a [u8],
    version: Option<&'a [u8]>,
}

/// Reads the rest of a message of a kind, in which nearly always all but eight bytes are known.
#[inline]
fn tail<'a>(reader: Reader<'a>, kind: u8) -> Option<Tail<'a>> {
    let mut fast = reader;
    if fast.literal(b"1:t4:")
        && let Some(tid) = fast.chunk::<4>()
        && fast.literal(b"1:v4:")
        && let Some(version) = fast.chunk::<4>()
        && fast.literal(&[b'1', b':', b'y', b'1', b':', kind, b'e'])
    {
        return Some(Tail { tid, version: Some(version) });
    }
    odd_tail(reader, kind)
}

/// The same, of any form.
#[inline(never)]
fn odd_tail(mut reader: Reader<'_>, kind: u8) -> Option<Tail<'_>> {
    let tid = if reader.literal(b"1:t") { reader.take_string()? } else { return None };
    let version = if reader.literal(b"1:v") { Some(reader.take_string()?) } else { None };
    let end = [b'1', b':', b'y', b'1', b':', kind, b'e'];
    reader.literal(&end).then_some(Tail { tid, version })
}

/// Our address as the sender sees it, in the form with a port; `None` if that cannot be read here.
#[inline]
#[expect(clippy::option_option, reason = "the address may be missing, and may be in another form")]
fn ip(reader: &mut Reader<'_>) -> Option<Option<(IpAddr, Option<u16>)>> {
    let ip: IpAddr = if reader.literal(b"2:ip6:") {
        Ipv4Addr::from(*reader.chunk::<4>()?).into()
    } else if reader.literal(b"2:ip18:") {
        Ipv6Addr::from(*reader.chunk::<16>()?).into()
    } else {
        return Some(None);
    };
    Some(Some((ip, Some(u16::from_be_bytes(*reader.chunk()?)))))
}

#[inline]
fn want(reader: &mut Reader<'_>) -> Want {
    if !reader.literal(b"4:wantl") {
        return Want::default();
    }
    // Any other list is not followed by the end of the arguments here, and read elsewhere.
    let (n4, n6) = (reader.literal(b"2:n4"), reader.literal(b"2:n6"));
    reader.literal(b"e");
    Want { n4, n6 }
}
