//! DNS for programs that know nothing of PKARR: from the bytes of a query to those of a reply.
//!
//! Names under keys are answered from the keys' packets. CNAMEs are followed inside a packet, to other
//! keys, and, where forwarding is on, to ordinary names.

use dht_pkarr::dns::{Answer, Message, Question, flag};
use dht_pkarr::record::{CLASS_IN, Rdata, Record, kind};
use dht_pkarr::resolve::Policy;
use dht_pkarr::{Name, PublicKey, SignedPacket};

use crate::backend::{Found, ResolveError};
use crate::front::{Cached, Front, Now};
use crate::lookups::Ticket;
use crate::quota::User;

mod reply;
#[cfg(test)]
mod tests;

pub(crate) use reply::shortest_ttl;
use reply::{Edns, Rcode};

/// Names in a row that are followed from one CNAME to the next.
pub const MAX_ALIASES: usize = 8;
/// The longest message that is sent over UDP, whatever the other side takes: no usual path fragments
/// it.
pub const MAX_UDP_LEN: usize = 1_232;
/// What every client takes over UDP (RFC 1035, 4.2.1).
const MIN_UDP_LEN: usize = 512;
/// The longest message over TCP and HTTP.
pub const MAX_STREAM_LEN: usize = 65_535;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// In a datagram, whose source may be forged, and into whose reply not everything fits.
    Udp,
    /// Over TCP.
    Tcp,
    /// Over HTTP, whose quota is another.
    Http,
}

/// What to do for a query.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Nothing: it was no query.
    Drop,
    /// Send this.
    Reply(Vec<u8>),
    /// Wait for the resolution of [`Query::ticket`], and give its result to
    /// [`Front::handle_dns_found`].
    Resolve(Box<Query>),
    /// Send this message to a server that knows ordinary names, over the transport by which the query
    /// came, and give its reply to [`Front::handle_dns_forwarded`]. It has the id 0.
    Forward(Box<Query>, Vec<u8>),
}

/// A query being answered.
#[derive(Clone, Debug)]
pub struct Query {
    user: User,
    transport: Transport,
    message: Message,
    question: Question,
    edns: Option<Edns>,
    /// The name that is looked for now, at the end of the aliases.
    name: Name,
    /// The aliases so far.
    chain: Vec<Record>,
    /// What it waits for.
    ticket: Option<Ticket>,
}

impl Query {
    /// The key under which the name that is looked for now stands, if there is one.
    #[must_use]
    pub fn wants(&self) -> Option<PublicKey> {
        self.name.key()
    }

    /// The resolution of the key that it waits for.
    #[must_use]
    pub const fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// How it came.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether a message is a reply to what was forwarded (RFC 5452, 9.1); whoever knows its id has still
    /// to see that it comes from the server that was asked. Anything else is not to be handed in.
    #[must_use]
    pub fn is_answered_by(&self, message: &[u8]) -> bool {
        Message::from_bytes(message).is_ok_and(|message| self.accepts(&message))
    }

    fn accepts(&self, reply: &Message) -> bool {
        reply.flags & flag::REPLY != 0 && reply.questions == [self.forwarded()]
    }

    /// What is asked of a server that knows ordinary names.
    fn forwarded(&self) -> Question {
        Question { name: self.name.clone(), ..self.question.clone() }
    }

    /// The longest reply.
    fn limit(&self) -> usize {
        match (self.transport, &self.edns) {
            (Transport::Udp, Some(edns)) => usize::from(edns.size).clamp(MIN_UDP_LEN, MAX_UDP_LEN),
            (Transport::Udp, None) => MIN_UDP_LEN,
            (Transport::Tcp | Transport::Http, _) => MAX_STREAM_LEN,
        }
    }
}

impl Front {
    /// Takes a message of a user.
    pub fn handle_dns(
        &mut self,
        now: Now,
        user: User,
        transport: Transport,
        bytes: &[u8],
        cached: Cached<'_>,
    ) -> Step {
        // A reply to a reply could go round for ever.
        let is_query = bytes.get(2).is_some_and(|high| high & 0x80 == 0);
        if bytes.len() < 12 || !is_query {
            self.stats.dns_dropped += 1;
            return Step::Drop;
        }
        *match transport {
            Transport::Udp => &mut self.stats.dns_udp,
            Transport::Tcp => &mut self.stats.dns_tcp,
            Transport::Http => &mut self.stats.dns_https,
        } += 1;
        let granted =
            transport == Transport::Http || self.dns.of(transport).grants(now.elapsed, user);
        let query = match read(user, transport, bytes) {
            Ok(query) => query,
            Err(_) if !granted => return self.drop_limited(),
            Err(reply) => {
                self.stats.dns_bad += 1;
                return Step::Reply(reply);
            }
        };
        if !granted {
            return self.limited(query);
        }
        if query.question.class != CLASS_IN || is_transfer(query.question.kind) {
            return self.finish(query, Rcode::Refused, Vec::new(), None);
        }
        self.advance(now, Box::new(query), cached)
    }

    /// Takes what became of the key that was wanted.
    pub fn handle_dns_found(
        &mut self,
        now: Now,
        query: Box<Query>,
        result: Result<Found, ResolveError>,
        cached: Cached<'_>,
    ) -> Step {
        let key = query.wants();
        match (result, key) {
            (Ok(found), Some(key)) if found.packet.packet.public_key() == key => {
                let left = found.packet.expires_in(now.wall, self.options.ttl);
                self.answer(now, query, &found.packet.packet, left, cached)
            }
            (Err(ResolveError::NotFound), Some(key)) => {
                let authority = self.soa(&key, None, self.options.negative_ttl);
                self.finish(*query, Rcode::NoName, Vec::new(), Some(authority))
            }
            _ => self.finish(*query, Rcode::Failed, Vec::new(), None),
        }
    }

    /// Takes the reply of the server that a query was forwarded to, or the news that there is none.
    pub fn handle_dns_forwarded(&mut self, query: Box<Query>, reply: Option<&[u8]>) -> Step {
        let Some((bytes, reply)) = reply.and_then(|bytes| {
            let reply = Message::from_bytes(bytes).ok()?;
            query.accepts(&reply).then_some((bytes, reply))
        }) else {
            return self.finish(*query, Rcode::Failed, Vec::new(), None);
        };
        if query.chain.is_empty() && bytes.len() > query.limit() {
            return self.truncated(&query);
        }
        if query.chain.is_empty() {
            // As it is, but for the id: it may hold what only the client understands.
            let mut bytes = bytes.to_vec();
            if let Some(id) = bytes.get_mut(..2) {
                id.copy_from_slice(&query.message.id.to_be_bytes());
            }
            self.count(Rcode::of(reply.flags));
            return Step::Reply(bytes);
        }
        if reply.flags & flag::TRUNCATED != 0 {
            return self.truncated(&query);
        }
        let rcode = Rcode::of(reply.flags);
        self.finish(*query, rcode, reply.answers, reply.authorities.into_iter().next())
    }

    /// Looks for the name that the query has come to.
    fn advance(&mut self, now: Now, mut query: Box<Query>, cached: Cached<'_>) -> Step {
        let Some(key) = query.wants() else { return self.leave(query) };
        if let Some(packet) = cached(&key) {
            let left = packet.expires_in(now.wall, self.options.ttl);
            if left > 0 {
                self.stats.cache_hits += 1;
                self.refresh(now, query.user, query.transport, &packet);
                return self.answer(now, query, &packet.packet, left, cached);
            }
        }
        if let Some(left) = self.absent.left(now.elapsed, &key) {
            let authority = self.soa(&key, None, left);
            return self.finish(*query, Rcode::NoName, Vec::new(), Some(authority));
        }
        match self.look_up(now, query.user, query.transport, key, Policy::CacheFirst) {
            Ok(ticket) => {
                query.ticket = Some(ticket);
                Step::Resolve(query)
            }
            Err(_) => self.finish(*query, Rcode::Failed, Vec::new(), None),
        }
    }

    /// Goes on with a name that stands under no key.
    fn leave(&mut self, query: Box<Query>) -> Step {
        if !self.options.forward {
            let rcode = if query.chain.is_empty() { Rcode::Refused } else { Rcode::NoError };
            return self.finish(*query, rcode, Vec::new(), None);
        }
        let mut message = query.message.clone();
        message.id = 0;
        message.questions = vec![query.forwarded()];
        // What is longer than our own client is sent, nobody need send us.
        let limit = u16::try_from(query.limit()).unwrap_or(u16::MAX);
        reply::offer_size(&mut message, limit);
        let Some(bytes) = message.to_bytes() else {
            return self.finish(*query, Rcode::Failed, Vec::new(), None);
        };
        self.stats.dns_forwarded += 1;
        Step::Forward(query, bytes)
    }

    /// Answers from a packet that is good for `left` more seconds.
    fn answer(
        &mut self,
        now: Now,
        mut query: Box<Query>,
        packet: &SignedPacket,
        left: u32,
        cached: Cached<'_>,
    ) -> Step {
        let left = left.max(1);
        let key = packet.public_key();
        // Nobody may keep what we have to look up again, and nobody is told more than the record says.
        let clip = |mut record: Record| {
            record.ttl = record.ttl.min(left);
            record
        };
        let soa = self.soa(&key, Some(packet), left);
        match packet.answer(&query.name, query.question.kind) {
            Answer::Records(records) => {
                let records = if query.question.kind == kind::ANY && query.limit() < MAX_STREAM_LEN
                {
                    vec![clip(any_over_udp(&query.name))]
                } else {
                    records.into_iter().map(clip).collect()
                };
                self.finish(*query, Rcode::NoError, records, None)
            }
            Answer::Alias(record, to) => {
                query.chain.push(clip(record));
                // Inside one packet and from one to another alike: a circle has an end.
                if query.chain.len() > MAX_ALIASES {
                    return self.finish(*query, Rcode::Failed, Vec::new(), None);
                }
                query.name = to;
                self.advance(now, query, cached)
            }
            Answer::NoData
                if query.question.kind == reply::SOA && query.name.is(&Name::of_key(&key)) =>
            {
                self.finish(*query, Rcode::NoError, vec![soa], None)
            }
            Answer::NoData => self.finish(*query, Rcode::NoError, Vec::new(), Some(soa)),
            Answer::NoName | _ => self.finish(*query, Rcode::NoName, Vec::new(), Some(soa)),
        }
    }

    /// Over the quota. Over UDP the source may be forged: an empty reply that sends the client to TCP
    /// is no longer than its query.
    fn limited(&mut self, query: Query) -> Step {
        self.stats.dns_limited += 1;
        match query.transport {
            Transport::Udp => self.truncated(&query),
            Transport::Tcp | Transport::Http => {
                self.finish(query, Rcode::Refused, Vec::new(), None)
            }
        }
    }

    fn drop_limited(&mut self) -> Step {
        self.stats.dns_limited += 1;
        Step::Drop
    }
}

/// Zone transfers.
const fn is_transfer(kind: u16) -> bool {
    matches!(kind, 251 | 252)
}

/// The one record that answers for all types in a datagram (RFC 8482, 4.2): whatever there is could
/// be aimed at somebody who did not ask.
fn any_over_udp(name: &Name) -> Record {
    let data = Rdata::Other { kind: 13, data: b"\x07RFC8482\x00".to_vec() };
    Record::new(name.clone(), 3_600, data)
}

/// Reads a query; `Err` is the reply to one that cannot be answered.
fn read(user: User, transport: Transport, bytes: &[u8]) -> Result<Query, Vec<u8>> {
    let unreadable = |rcode| reply::to_unreadable(bytes, rcode);
    // The header alone says what need not be read.
    match bytes {
        [_, _, high, ..] if u16::from(*high) << 8 & flag::OPCODE != 0 => {
            return Err(unreadable(Rcode::NotImplemented));
        }
        [_, _, _, _, 0, 1, ..] => {}
        _ => return Err(unreadable(Rcode::BadFormat)),
    }
    let message = Message::from_bytes(bytes).map_err(|_| unreadable(Rcode::BadFormat))?;
    let edns = Edns::of(&message).map_err(|()| unreadable(Rcode::BadFormat))?;
    let [question] = &*message.questions else {
        return Err(unreadable(Rcode::BadFormat));
    };
    let (question, name) = (question.clone(), question.name.clone());
    if edns.as_ref().is_some_and(|edns| edns.version > 0) {
        return Err(reply::to_bad_version(&message));
    }
    Ok(Query { user, transport, message, question, edns, name, chain: Vec::new(), ticket: None })
}
