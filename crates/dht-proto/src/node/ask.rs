//! Queries that we send: pings, and the next step of a lookup.

use crate::MAX_DATAGRAM;
use crate::addr::Addr;
use crate::config::Config;
use crate::id::{NodeId, Target};
use crate::lookup::{Ctx, Goal, Walk, WalkRef};
use crate::request::{Lookup, LookupId};
use crate::time::Instant;
use crate::wire::{Body, Message, Method, Query, Want};

use super::{MAX_BOOTSTRAP, Node, Purpose};

/// With fewer contacts than this a lookup also asks the bootstrap addresses.
const FEW_CONTACTS: usize = 3;

impl<A: Addr> Node<A> {
    #[inline(never)]
    pub(super) fn send_ping(
        &mut self,
        now: Instant,
        id: Option<NodeId>,
        addr: A,
        buf: &mut [u8; MAX_DATAGRAM],
    ) -> Option<(A, usize)> {
        let tid = self.transactions.begin(now, addr, id, Purpose::Ping);
        let want = Want::default();
        let (own_id, read_only) = (self.table.own_id(), !self.role.answers());
        let len = encode_query(buf, own_id, &tid, &self.config, read_only, want, Method::Ping)?;
        Some((addr, len))
    }

    #[inline(never)]
    pub(super) fn send_next(
        &mut self,
        now: Instant,
        slot: u32,
        sibling_is_hungry: bool,
        buf: &mut [u8; MAX_DATAGRAM],
    ) -> Option<(A, usize)> {
        let (own_id, read_only) = (self.table.own_id(), !self.role.answers());
        let (ask, walk) = self.lookups.next_ask(slot, &self.config)?;
        // A seed address may be a contact's, which is then blamed under its own name.
        let blames = ask.expected.is_some() && blames_silence(&ask.method);
        let to = ask.to;
        let purpose = Purpose::Walk { walk, blames };
        let tid = self.transactions.begin(now, to, ask.expected, purpose);
        let want = Want { n4: sibling_is_hungry, n6: sibling_is_hungry };
        let len = encode_query(buf, own_id, &tid, &self.config, read_only, want, ask.method);
        let (lookups, mut ctx) = self.lookups(now);
        lookups.after_ask(walk, &mut ctx);
        if self.lookups.has_ended() || self.refresh_due().is_some_and(|due| due <= now) {
            self.maintain(now);
        }
        // Whatever does not fit a datagram is never answered, and ends like a lost one.
        len.map(|len| (to, len))
    }

    /// Ends a walk as if its time were up.
    pub(crate) fn expire(&mut self, now: Instant, walk: WalkRef) {
        let now = self.tick(now);
        let (lookups, mut ctx) = self.lookups(now);
        lookups.expire(walk, &mut ctx);
        // A refresh may have waited for its place.
        self.maintain(now);
    }

    pub(super) fn start_walk(
        &mut self,
        now: Instant,
        goal: Goal,
        tag: Option<LookupId>,
        target: Target,
        direct: Option<A>,
    ) -> WalkRef {
        let stall = self.transactions.stall_timeout(&self.config);
        let own_id = self.table.own_id();
        let (config, outbox) = (&*self.config, &mut self.outbox);
        let mut ctx = Ctx { now, own_id, config, stall, outbox };
        let mut walk = Walk::new(goal, tag, target, &ctx);
        if let Some(addr) = direct {
            walk.add_seed(addr);
            return self.lookups.start(walk, &mut ctx);
        }
        walk.reserve(2 * config.k, config);
        let mut known = 0;
        self.table.closest(target, |contact| {
            walk.add_contact(contact.id(), contact.addr(), config);
            known += 1;
            known < 2 * config.k
        });
        if known < FEW_CONTACTS {
            for &(id, addr) in self.restored.iter().take(MAX_BOOTSTRAP) {
                walk.add_contact(id, addr, config);
            }
            for (id, addr) in self.table.unverified().take(MAX_BOOTSTRAP) {
                match id {
                    Some(id) => walk.add_contact(id, addr, config),
                    None => walk.add_seed(addr),
                }
            }
            // Routers are spared while there is anybody else to ask.
            self.bootstrap.iter().for_each(|addr| walk.add_seed(*addr));
        } else {
            walk.set_fallback(self.bootstrap.iter().copied());
        }
        self.lookups.start(walk, &mut ctx)
    }
}

fn encode_query(
    buf: &mut [u8; MAX_DATAGRAM],
    id: NodeId,
    tid: &[u8],
    config: &Config,
    read_only: bool,
    want: Want,
    method: Method<'_>,
) -> Option<usize> {
    let message = Message {
        tid,
        version: Some(&config.version),
        ip: None,
        read_only,
        unsorted: false,
        body: Body::Query(Query { id, want, method }),
    };
    message.encode(buf)
}

const fn blames_silence(method: &Method<'_>) -> bool {
    matches!(method, Method::Ping | Method::FindNode { .. } | Method::GetPeers { .. })
}

pub(super) fn direct_addr<A: Addr>(lookup: &Lookup) -> Option<A> {
    match lookup {
        Lookup::Ping { addr } | Lookup::Sample { addr, .. } => A::from_socket_addr(*addr),
        Lookup::FindNode { .. }
        | Lookup::GetPeers { .. }
        | Lookup::Announce { .. }
        | Lookup::GetItem { .. }
        | Lookup::PutItem { .. } => None,
    }
}

pub(super) fn goal_of(lookup: &Lookup) -> (Goal, Target) {
    match lookup {
        Lookup::Ping { .. } => (Goal::Ping, Target::from_bytes([0; 20])),
        Lookup::FindNode { target } => (Goal::FindNode, target.target()),
        Lookup::GetPeers { info_hash, scrape, noseed } => {
            (Goal::GetPeers { scrape: *scrape, noseed: *noseed }, info_hash.target())
        }
        Lookup::Announce { info_hash, port, seed } => {
            (Goal::Announce { port: *port, seed: *seed }, info_hash.target())
        }
        Lookup::GetItem { target, salt, newer_than } => {
            (Goal::GetItem { salt: salt.clone(), newer_than: *newer_than }, target.target())
        }
        Lookup::PutItem { item, cas } => {
            (Goal::PutItem { item: item.clone(), cas: *cas }, item.id().target())
        }
        Lookup::Sample { target, .. } => (Goal::Sample, *target),
    }
}
