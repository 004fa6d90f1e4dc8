//! A short cut for the queries that a node gets all day long, and for the replies to its own.
//!
//! Bencode has one form for each value, and all but the sloppiest nodes send it: then everything
//! between the values of a message is known beforehand, and is compared instead of being read.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::super::bencode::{Form, Reader, hole};
use super::super::{Body, Message, Method, Query, Reply, Want};
use super::{DecodeError, whole_records};
use crate::addr::Addr;
use crate::id::{ID_LEN, InfoHash, NodeId, Target};

/// What queries begin with that ask for the nodes of their own network.
const FIND_NODE: Form<78> =
    Form::new(b"d1:ad2:id20:....................6:target20:....................e1:q9:find_node");
const GET_PEERS: Form<81> =
    Form::new(b"d1:ad2:id20:....................9:info_hash20:....................e1:q9:get_peers");
/// What replies to IPv4 begin with.
const REPLY: Form<44> = Form::new(b"d2:ip6:......1:rd2:id20:....................");
/// The token of a node like us.
const TOKEN: Form<17> = Form::new(b"5:token8:........");
/// What most queries and replies end with.
const QUERY_END: Form<25> = Form::new(b"1:t4:....1:v4:....1:y1:qe");
const REPLY_END: Form<25> = Form::new(b"1:t4:....1:v4:....1:y1:re");

/// A ping, find_node or get_peers in canonical form without any rare key. `None` says nothing about
/// a datagram: then it has to be read key by key, which yields the same for those read here.
#[inline]
pub(super) fn query(datagram: &[u8]) -> Option<Message<'_>> {
    let mut reader = Reader::new(datagram);
    let query = if let Some(text) = reader.form(&FIND_NODE) {
        let method = Method::FindNode { target: Target::from_bytes(*hole(text, 43)) };
        Query { id: NodeId::from_bytes(*hole(text, 12)), want: Want::default(), method }
    } else if let Some(text) = reader.form(&GET_PEERS) {
        let info_hash = InfoHash::from_bytes(*hole(text, 46));
        let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
        Query { id: NodeId::from_bytes(*hole(text, 12)), want: Want::default(), method }
    } else {
        other_query(&mut reader)?
    };
    let Tail { read_only, tid, version } = tail(reader, &QUERY_END, b'q')?;
    Some(Message { tid, version, ip: None, read_only, unsorted: false, body: Body::Query(query) })
}

/// A ping, or another that says which nodes it wants, up to its method.
#[inline(never)]
fn other_query<'a>(reader: &mut Reader<'a>) -> Option<Query<'a>> {
    reader.literal(b"d1:ad2:id20:").then_some(())?;
    let id = NodeId::from_bytes(*reader.chunk()?);
    let (method, want) = if reader.literal(b"6:target20:") {
        let target = Target::from_bytes(*reader.chunk()?);
        (Method::FindNode { target }, want(reader, b"e1:q9:find_node")?)
    } else if reader.literal(b"9:info_hash20:") {
        let info_hash = InfoHash::from_bytes(*reader.chunk()?);
        let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
        (method, want(reader, b"e1:q9:get_peers")?)
    } else {
        (Method::Ping, want(reader, b"e1:q4:ping")?)
    };
    Some(Query { id, want, method })
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
    let Tail { read_only, tid, version } = tail;
    Ok(Message { tid, version, ip, read_only, unsorted: false, body: Body::Reply(reply) })
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
    let (ip, id) = if let Some(text) = reader.form(&REPLY) {
        let ip = Ipv4Addr::from(*hole::<4>(text, 7)).into();
        (Some((ip, Some(u16::from_be_bytes(*hole(text, 11))))), hole(text, 24))
    } else {
        reader.literal(b"d").then_some(())?;
        let ip = ip(&mut reader)?;
        reader.literal(b"1:rd2:id20:").then_some(())?;
        (ip, reader.chunk()?)
    };
    let (mut nodes, mut nodes6, mut token) = (None, None, None);
    if reader.literal(b"5:nodes") {
        nodes = Some(whole_records(reader.take_string()?, SocketAddrV4::NODE_LEN));
    }
    if reader.literal(b"6:nodes6") {
        nodes6 = Some(whole_records(reader.take_string()?, SocketAddrV6::NODE_LEN));
    }
    if let Some(text) = reader.form(&TOKEN) {
        token = Some(hole::<8>(text, 9).as_slice());
    } else if reader.literal(b"5:token") {
        token = Some(reader.take_string()?);
    }
    reader.literal(b"e").then_some(())?;
    let tail = tail(reader, &REPLY_END, b'r')?;
    Some(Plain { id, nodes, nodes6, token, ip, tail })
}

/// What ends most messages.
struct Tail<'a> {
    read_only: bool,
    tid: &'a [u8],
    version: Option<&'a [u8]>,
}

/// Reads the rest of a message of a kind, in which nearly always all but eight bytes are known.
#[inline]
fn tail<'a>(mut reader: Reader<'a>, usual: &Form<25>, kind: u8) -> Option<Tail<'a>> {
    let Some(text) = reader.form(usual) else { return odd_tail(reader, kind) };
    let (tid, version) = (hole::<4>(text, 5), hole::<4>(text, 14));
    Some(Tail { read_only: false, tid, version: Some(version) })
}

/// The same, of any form.
#[inline(never)]
fn odd_tail(mut reader: Reader<'_>, kind: u8) -> Option<Tail<'_>> {
    let read_only = reader.literal(b"2:roi1e");
    let tid = if reader.literal(b"1:t") { reader.take_string()? } else { return None };
    let version = if reader.literal(b"1:v") { Some(reader.take_string()?) } else { None };
    let end = [b'1', b':', b'y', b'1', b':', kind, b'e'];
    reader.literal(&end).then_some(Tail { read_only, tid, version })
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

/// Which nodes are asked for, if that is asked for, and then the end of the arguments and the method.
#[inline]
fn want<const N: usize>(reader: &mut Reader<'_>, method: &[u8; N]) -> Option<Want> {
    if reader.literal(method) {
        return Some(Want::default());
    }
    reader.literal(b"4:wantl").then_some(())?;
    // Any other list is not followed by the end of the arguments here, and read elsewhere.
    let (n4, n6) = (reader.literal(b"2:n4"), reader.literal(b"2:n6"));
    reader.literal(b"e");
    reader.literal(method).then_some(Want { n4, n6 })
}
