//! Replies that fit into one datagram.

use core::marker::PhantomData;
use core::net::IpAddr;

use crate::MAX_DATAGRAM;
use crate::addr::{Addr, Family};
use crate::config::Config;
use crate::id::{ID_LEN, Target};
use crate::wire::{Body, ErrorReply, Message, Reply, Values, Want};

/// Nodes in one list, at most, whatever k is: jech/dht ignores lists of over sixteen only, but an
/// overlay may have a k of twenty.
const MAX_NODES: usize = 20;
const NODE_LEN_V4: usize = ID_LEN + 6;
const NODE_LEN_V6: usize = ID_LEN + 18;
/// BEP 32: a node "must not send UDP datagrams with a payload larger than 1024 octets". Only what
/// cannot be left out goes beyond: a stored item (BEP 44), and a transaction id as long as that.
const MAX_USUAL: usize = 1_024;
/// What `5:nodes` or `6:nodes6` and the length of the string take, at most.
const LIST_OVERHEAD: usize = 12;

/// The nodes closest to a target, of the families asked for, as compact records.
pub(super) struct Nodes {
    v4: [u8; MAX_NODES * NODE_LEN_V4],
    v4_len: Option<usize>,
    v6: [u8; MAX_NODES * NODE_LEN_V6],
    v6_len: Option<usize>,
}

impl Nodes {
    /// Asks `closest` for the families that `want` names.
    ///
    /// BEP 32: without `want`, the family of the transport.
    pub(super) fn closest<A: Addr>(
        closest: &mut dyn FnMut(Family, Target, &mut [u8]) -> usize,
        target: Target,
        want: Want,
        k: usize,
    ) -> Self {
        let neither = !want.n4 && !want.n6;
        let wanted = |asked, family| asked || (neither && A::FAMILY == family);
        let mut nodes = Self {
            v4: [0; MAX_NODES * NODE_LEN_V4],
            v4_len: None,
            v6: [0; MAX_NODES * NODE_LEN_V6],
            v6_len: None,
        };
        let k = k.min(MAX_NODES);
        if wanted(want.n4, Family::V4) {
            let room = nodes.v4.get_mut(..k * NODE_LEN_V4).unwrap_or_default();
            nodes.v4_len = Some(closest(Family::V4, target, room));
        }
        if wanted(want.n6, Family::V6) {
            let room = nodes.v6.get_mut(..k * NODE_LEN_V6).unwrap_or_default();
            nodes.v6_len = Some(closest(Family::V6, target, room));
        }
        nodes
    }

    pub(super) fn v4(&self) -> Option<&[u8]> {
        self.v4_len.and_then(|len| self.v4.get(..len))
    }

    pub(super) fn v6(&self) -> Option<&[u8]> {
        self.v6_len.and_then(|len| self.v6.get(..len))
    }
}

/// What every reply to one query carries, and how long it may be.
#[derive(Clone, Copy)]
pub(super) struct Envelope<'a, A> {
    tid: &'a [u8],
    version: &'a [u8],
    requester: (IpAddr, u16),
    family: PhantomData<A>,
}

/// A reply with its peers still as compact records, so that it can be made shorter.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) reply: Reply<'a>,
    /// Compact peers for `values`; the key is left out if there are none.
    pub(super) values: &'a [u8],
}

impl<'a, A: Addr> Envelope<'a, A> {
    pub(super) fn new(tid: &'a [u8], requester: A, config: &'a Config) -> Self {
        let requester = (requester.ip(), requester.port());
        Self { tid, version: &config.version, requester, family: PhantomData }
    }

    /// Encodes a reply; whatever does not fit is left out, far nodes first, then values.
    ///
    /// `None` if not even the id fits, which takes a transaction id of over a thousand bytes.
    pub(super) fn reply(&self, mut draft: Draft<'_>, out: &mut [u8]) -> Option<usize> {
        let longest = if draft.reply.v.is_some() { A::MAX_DATAGRAM } else { MAX_USUAL };
        let longest = longest.min(room::<A>(out).len());
        let usual = out.get_mut(..longest).unwrap_or_default();
        if let Some(len) = self.message(draft.body::<A>()).encode(usual) {
            return Some(len);
        }
        let limit = usual.len();
        let (nodes, nodes6) = (draft.reply.nodes.take(), draft.reply.nodes6.take());
        let left = loop {
            match limit.checked_sub(self.message(draft.body::<A>()).encoded_len()) {
                Some(left) => break left,
                // Everything in a draft is halved or dropped, so this ends after a few turns.
                None if shorten::<A>(&mut draft).is_none() => break 0,
                None => {}
            }
        };
        (draft.reply.nodes, draft.reply.nodes6) = fill(left, nodes, nodes6);
        self.message(draft.body::<A>()).encode(room::<A>(out))
    }

    /// Encodes an error; `None` if it does not fit.
    pub(super) fn error(&self, code: i64, text: &str, out: &mut [u8]) -> Option<usize> {
        let body = Body::Error(ErrorReply { code, message: text.as_bytes() });
        self.message(body).encode(room::<A>(out))
    }

    fn message<'m>(&self, body: Body<'m>) -> Message<'m>
    where
        'a: 'm,
    {
        let (ip, port) = self.requester;
        Message {
            tid: self.tid,
            version: Some(self.version),
            // BEP 42: replies carry the requester's address, with the port, at the top level.
            ip: Some((ip, Some(port))),
            read_only: false,
            unsorted: false,
            body,
        }
    }
}

impl<'a> Draft<'a> {
    fn body<A: Addr>(&self) -> Body<'a> {
        let values = (!self.values.is_empty()).then(|| Values::of::<A>(self.values));
        Body::Reply(Reply { values, ..self.reply })
    }
}

/// The part of `out` that one datagram may take.
fn room<A: Addr>(out: &mut [u8]) -> &mut [u8] {
    let limit = out.len().min(A::MAX_DATAGRAM).min(MAX_DATAGRAM);
    out.get_mut(..limit).unwrap_or_default()
}

/// Makes a reply without nodes shorter; `None` if there is nothing left to take away.
fn shorten<A: Addr>(draft: &mut Draft<'_>) -> Option<()> {
    let reply = &mut draft.reply;
    if let Some(shorter) = half(draft.values, A::COMPACT_LEN) {
        draft.values = shorter;
    } else if let Some(shorter) = reply.samples.and_then(|samples| half(samples, ID_LEN)) {
        reply.samples = Some(shorter);
    } else if reply.seeds_filter.take().is_some() {
        reply.peers_filter = None;
    } else {
        reply.token.take()?;
    }
    Some(())
}

/// The first half of the records, rounded down; `None` if there are none.
fn half(records: &[u8], len: usize) -> Option<&[u8]> {
    if records.is_empty() { None } else { records.get(..records.len() / len / 2 * len) }
}

/// As many nodes of both lists as fit into `room`, nearest first, in turns.
fn fill<'n>(
    room: usize,
    nodes: Option<&'n [u8]>,
    nodes6: Option<&'n [u8]>,
) -> (Option<&'n [u8]>, Option<&'n [u8]>) {
    let lists = [(nodes, NODE_LEN_V4), (nodes6, NODE_LEN_V6)];
    let asked = lists.iter().filter(|(list, _)| list.is_some()).count();
    let Some(mut room) = room.checked_sub(asked * LIST_OVERHEAD) else { return (None, None) };
    let mut taken = [0, 0];
    for _ in 0..MAX_NODES {
        for ((list, record), taken) in lists.iter().zip(&mut taken) {
            let more = list.is_some_and(|list| *taken + record <= list.len());
            if more && *record <= room {
                *taken += record;
                room -= record;
            }
        }
    }
    let [v4, v6] = taken;
    (nodes.and_then(|list| list.get(..v4)), nodes6.and_then(|list| list.get(..v6)))
}
