//! Replies: codes, EDNS, the record that says how long there is nothing, and what does not fit.

use dht_pkarr::dns::{Message, flag};
use dht_pkarr::record::{CLASS_IN, Rdata, Record};
use dht_pkarr::{Name, PublicKey, SignedPacket};

use super::{MAX_UDP_LEN, Query, Step};
use crate::front::Front;

/// The start of authority (RFC 1035, 3.3.13).
pub(super) const SOA: u16 = 6;
/// What extends the header (RFC 6891).
const OPT: u16 = 41;
/// Whoever asks understands DNSSEC records: a bit of the OPT record's TTL.
const DNSSEC_OK: u32 = 0x8000;

/// How it went (RFC 1035, 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError = 0,
    BadFormat = 1,
    Failed = 2,
    NoName = 3,
    NotImplemented = 4,
    Refused = 5,
}

impl Rcode {
    /// What another server said; what is rare counts as failure.
    pub(super) const fn of(flags: u16) -> Self {
        match flags & flag::RCODE {
            0 => Self::NoError,
            3 => Self::NoName,
            5 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// What a query says of its sender (RFC 6891).
#[derive(Clone, Debug)]
pub(super) struct Edns {
    /// The longest datagram that it takes.
    pub(super) size: u16,
    pub(super) version: u8,
    dnssec_ok: bool,
}

impl Edns {
    /// Of a query that has it; `Err` if it has it twice.
    pub(super) fn of(message: &Message) -> Result<Option<Self>, ()> {
        let mut records = message.additional.iter().filter(|record| record.data.kind() == OPT);
        let Some(record) = records.next() else { return Ok(None) };
        if records.next().is_some() || !record.name.is_root() {
            return Err(());
        }
        let [_, version, ..] = record.ttl.to_be_bytes();
        let dnssec_ok = record.ttl & DNSSEC_OK != 0;
        Ok(Some(Self { size: record.class, version, dnssec_ok }))
    }

    /// Our own, as a record; `extended` are the upper bits of the code.
    fn reply(&self, extended: u8) -> Record {
        let ttl = u32::from(extended) << 24 | if self.dnssec_ok { DNSSEC_OK } else { 0 };
        let data = Rdata::Other { kind: OPT, data: Vec::new() };
        let mut record = Record::new(Name::root(), ttl, data);
        record.class = MAX_UDP_LEN as u16;
        record
    }
}

/// Says in a query with EDNS how long a reply may be, if it does not ask for less.
pub(super) fn offer_size(message: &mut Message, limit: u16) {
    for record in message.additional.iter_mut().filter(|record| record.data.kind() == OPT) {
        record.class = record.class.min(limit);
    }
}

impl Front {
    /// Ends a query: the aliases that were followed, then `records`, or who says that there is none.
    pub(super) fn finish(
        &mut self,
        query: Query,
        rcode: Rcode,
        records: Vec<Record>,
        authority: Option<Record>,
    ) -> Step {
        self.count(rcode);
        let limit = query.limit();
        let mut reply = head(&query, rcode);
        reply.answers = query.chain;
        reply.answers.extend(records);
        reply.authorities.extend(authority);
        match reply.to_bytes() {
            Some(bytes) if bytes.len() <= limit => Step::Reply(bytes),
            _ => self.cut(reply),
        }
    }

    /// A reply without records, which says that there are some.
    pub(super) fn truncated(&mut self, query: &Query) -> Step {
        self.cut(head(query, Rcode::NoError))
    }

    fn cut(&mut self, mut reply: Message) -> Step {
        self.stats.dns_truncated += 1;
        reply.answers.clear();
        reply.authorities.clear();
        reply.flags |= flag::TRUNCATED;
        // A question and eleven bytes of EDNS fit whatever holds a query.
        reply.to_bytes().map_or(Step::Drop, Step::Reply)
    }

    pub(super) fn count(&mut self, rcode: Rcode) {
        *match rcode {
            Rcode::NoError => &mut self.stats.dns_no_error,
            Rcode::NoName => &mut self.stats.dns_no_name,
            Rcode::Refused => &mut self.stats.dns_refused,
            Rcode::Failed => &mut self.stats.dns_failed,
            Rcode::BadFormat | Rcode::NotImplemented => &mut self.stats.dns_bad,
        } += 1;
    }

    /// The record that stands for the zone of a key, with which clients know for how long there is
    /// nothing (RFC 2308, 5): for `left` seconds at most.
    pub(super) fn soa(&self, key: &PublicKey, packet: Option<&SignedPacket>, left: u32) -> Record {
        let apex = Name::of_key(key);
        let minimum = self.options.negative_ttl.min(left);
        let serial = packet.map_or(0, |packet| packet.timestamp().as_secs() as u32);
        let ttl = self.options.ttl;
        let mut data = apex.as_wire().to_vec();
        data.extend_from_slice(b"\x0ahostmaster");
        data.extend_from_slice(apex.as_wire());
        for number in [serial, ttl.min(), ttl.min(), ttl.max(), minimum] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        Record::new(apex, minimum, Rdata::Other { kind: SOA, data })
    }
}

/// A reply without records.
fn head(query: &Query, rcode: Rcode) -> Message {
    let kept = flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED;
    let flags = query.message.flags & kept | flag::REPLY | flag::RECURSION_AVAILABLE | rcode as u16;
    let mut reply = Message::new(query.message.id, flags);
    reply.questions.push(query.question.clone());
    reply.additional.extend(query.edns.as_ref().map(|edns| edns.reply(0)));
    reply
}

/// A reply to what has a header, at least, and no more that can be used.
pub(super) fn to_unreadable(bytes: &[u8], rcode: Rcode) -> Vec<u8> {
    let [id, flags] = [0, 2].map(|at| {
        let field = bytes.get(at..at + 2).and_then(|field| field.try_into().ok());
        field.map_or(0, u16::from_be_bytes)
    });
    let kept = flag::OPCODE | flag::RECURSION_DESIRED;
    let reply = Message::new(id, flags & kept | flag::REPLY | rcode as u16);
    reply.to_bytes().unwrap_or_default()
}

/// BADVERS (RFC 6891, 6.1.3).
pub(super) fn to_bad_version(query: &Message) -> Vec<u8> {
    let kept = query.flags & flag::RECURSION_DESIRED;
    let mut reply = Message::new(query.id, kept | flag::REPLY);
    reply.questions.clone_from(&query.questions);
    let own = Edns { size: 0, version: 0, dnssec_ok: false };
    reply.additional.push(own.reply(1));
    reply.to_bytes().unwrap_or_default()
}

/// The shortest TTL of a reply, for those that keep it whole; `None` if it has no records.
pub(crate) fn shortest_ttl(reply: &Message) -> Option<u32> {
    let records = reply.answers.iter().chain(&reply.authorities);
    records.filter(|record| record.class == CLASS_IN).map(kept_for).min()
}

/// For how long a record says something: an SOA also for how long there is nothing (RFC 2308, 5), in its
/// last four bytes.
fn kept_for(record: &Record) -> u32 {
    let Rdata::Other { kind: SOA, data } = &record.data else { return record.ttl };
    let minimum = data.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
    record.ttl.min(minimum)
}
