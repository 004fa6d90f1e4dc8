//! What a routing table may look like, and what each step may make of it: said over plain lists,
//! without buckets, tries or orders that somebody keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dht_proto::addr::{Addr, Family, Scope};
use dht_proto::config::Config;
use dht_proto::id::{NodeId, Target};
use dht_proto::table::{Contact, Table, Verdict, bucket_capacity};
use dht_proto::time::Instant;

/// Pause before a silent contact is asked again: doubles with each failure, five times at most.
const BACKOFF: Duration = Duration::from_secs(60);
/// The least pause between two pings.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// Times of a table are whole tenths of a second.
const TICK: u64 = 100_000;

/// What the world knows and the table does not say.
#[derive(Debug)]
pub(super) struct Facts<A> {
    /// Under which id each address answered last.
    answered: BTreeMap<A, NodeId>,
    /// When each address last asked us something.
    asked_us: BTreeMap<A, Instant>,
    /// Contacts that asked us shortly before they answered.
    doubtful: BTreeSet<A>,
    /// Contacts that used up the one query that counts as a sign of life.
    extended: BTreeSet<A>,
    last_ping: Option<Instant>,
    /// When each bucket was refreshed last, unless the table was told to explore since.
    refreshed: BTreeMap<usize, Instant>,
}

impl<A> Default for Facts<A> {
    fn default() -> Self {
        Self {
            answered: BTreeMap::new(),
            asked_us: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            extended: BTreeSet::new(),
            last_ping: None,
            refreshed: BTreeMap::new(),
        }
    }
}

impl<A: Addr> Facts<A> {
    pub(super) fn answered(
        &mut self,
        now: Instant,
        (id, addr): (NodeId, A),
        own: NodeId,
        verdict: Verdict,
        config: &Config,
    ) {
        // What comes under our own id was sent back by a reflector: nobody answered.
        if id != own {
            self.answered.insert(addr, id);
        }
        self.extended.remove(&addr);
        let lately = |asked: &Instant| now.since(*asked) <= config.verify_delay;
        if verdict == Verdict::Added && self.asked_us.get(&addr).is_some_and(lately) {
            self.doubtful.insert(addr);
        }
    }

    /// A query came; whether it counts as a sign of life of a contact.
    pub(super) fn asked_us(&mut self, now: Instant, id: NodeId, addr: A, before: &View<A>) -> bool {
        self.asked_us.insert(addr, now);
        let asked = |contact: &Contact<A>| contact.last_asked() != contact.last_heard();
        let counts = before
            .at(addr)
            .is_some_and(|contact| contact.id() == id && contact.fails() == 0 && !asked(contact));
        counts && self.extended.insert(addr)
    }

    pub(super) fn may_be_doubtful(&self, addr: A) -> bool {
        self.doubtful.contains(&addr)
    }

    /// Forgets what is only known of contacts.
    pub(super) fn forget_strangers(&mut self, view: &View<A>) {
        self.doubtful.retain(|addr| view.at(*addr).is_some());
        self.extended.retain(|addr| view.at(*addr).is_some());
    }

    /// Pings keep their pauses.
    pub(super) fn pinged(&mut self, now: Instant, to_contact: bool, config: &Config) {
        let pause = if to_contact { config.ping_interval } else { LEAST_PAUSE };
        let least = pause.min(config.ping_interval);
        assert!(self.last_ping.is_none_or(|last| now >= last + least), "pings came in a burst");
        self.last_ping = Some(now);
    }

    pub(super) fn explored(&mut self) {
        self.refreshed.clear();
    }

    /// Refreshes keep theirs, which may be a quarter shorter than configured.
    pub(super) fn refreshed(&mut self, now: Instant, bucket: usize, config: &Config) {
        let before = self.refreshed.insert(bucket, now);
        let least = config.refresh_after * 3 / 4;
        let soon = |last: Instant| now.since(last) + Duration::from_millis(100) < least;
        assert!(!before.is_some_and(soon), "bucket {bucket} was refreshed already");
    }
}

/// A table as others see it.
#[derive(Debug)]
pub(super) struct View<A: Addr> {
    own: NodeId,
    contacts: Vec<Contact<A>>,
    listed: Vec<(Option<NodeId>, A)>,
}

impl<A: Addr> View<A> {
    pub(super) fn of(table: &Table<A>) -> Self {
        let (contacts, listed) = (table.contacts().to_vec(), table.unverified().collect());
        Self { own: table.own_id(), contacts, listed }
    }

    pub(super) fn at(&self, addr: A) -> Option<&Contact<A>> {
        self.contacts.iter().find(|contact| contact.addr() == addr)
    }

    fn has(&self, contact: &Contact<A>) -> bool {
        self.at(contact.addr()).is_some_and(|other| other.id() == contact.id())
    }

    fn lists(&self, addr: A) -> bool {
        self.listed.iter().any(|(_, listed)| *listed == addr)
    }

    /// Those of the contacts that `other` does not have.
    fn without<'v>(&'v self, other: &'v Self) -> impl Iterator<Item = &'v Contact<A>> {
        self.contacts.iter().filter(|contact| !other.has(contact))
    }

    pub(super) fn same_members(&self, other: &Self) -> bool {
        self.without(other).next().is_none() && other.without(self).next().is_none()
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        let facts = |c: &Contact<A>| (c.id(), c.addr(), c.fails(), c.last_heard(), c.last_asked());
        self.contacts.iter().map(facts).eq(other.contacts.iter().map(facts))
            && self.listed == other.listed
    }

    fn bucket(&self, id: NodeId) -> usize {
        (self.own.distance(id.target()).leading_zeros() as usize).min(31)
    }

    fn in_bucket(&self, bucket: usize) -> impl Iterator<Item = &Contact<A>> {
        self.contacts.iter().filter(move |contact| self.bucket(contact.id()) == bucket)
    }

    /// What must hold whatever happened.
    pub(super) fn check(&self, facts: &Facts<A>, config: &Config) {
        let own = self.own.target();
        let sorted = |a: &Contact<A>, b: &Contact<A>| a.id().distance(own) < b.id().distance(own);
        assert!(self.contacts.is_sorted_by(sorted), "contacts out of order, or one id twice");
        for contact in &self.contacts {
            let (id, addr) = (contact.id(), contact.addr());
            assert_eq!(facts.answered.get(&addr), Some(&id), "a contact that never answered");
            assert!(is_possible(addr) && id != self.own, "{id} at {addr} is no contact");
            assert!(contact.fails() < config.max_fails, "a dead contact stays");
            assert!(!self.lists(addr), "a contact waits to become one");
            let bucket = self.bucket(id);
            let places = bucket_capacity(bucket, config);
            assert!(self.in_bucket(bucket).count() <= places, "bucket {bucket} overflows");
            let same_ip = |other: &&Contact<A>| shares_host(addr, other.addr());
            assert_eq!(self.contacts.iter().filter(same_ip).count(), 1, "two of one host");
            if is_local(addr) {
                continue;
            }
            let near =
                self.in_bucket(bucket).filter(|other| other.addr().subnet() == addr.subnet());
            assert!(near.count() <= per_subnet(config), "a network crowds bucket {bucket}");
            for (shift, most) in allocations::<A>(config) {
                let of = |other: &&Contact<A>| shares_network(addr, other.addr(), shift);
                assert!(
                    self.contacts.iter().filter(of).count() <= most,
                    "too many of one provider"
                );
            }
        }
        assert!(self.listed.len() <= config.max_candidates, "too many candidates");
        for (i, (id, addr)) in self.listed.iter().enumerate() {
            assert!(is_possible(*addr) && *id != Some(self.own), "{addr} can be no candidate");
            let mut others = self.listed.iter().skip(i + 1);
            assert!(!others.any(|(_, other)| shares_host(*addr, *other)), "two of one host wait");
        }
    }

    /// The closest are those that sorting everybody finds.
    pub(super) fn check_closest(&self, table: &Table<A>, target: Target, n: usize) {
        let mut sorted: Vec<_> = self.contacts.iter().filter(|c| c.fails() < 2).collect();
        sorted.sort_by_key(|contact| contact.id().distance(target));
        sorted.truncate(n);
        let mut found = Vec::new();
        if n > 0 {
            table.closest(target, |contact| {
                found.push((contact.id(), contact.addr()));
                found.len() < n
            });
        }
        assert!(
            found.iter().copied().eq(sorted.iter().map(|c| (c.id(), c.addr()))),
            "not the closest"
        );
        let mut out = [0; 1_000];
        let len = table.closest_compact(target, n, &mut out);
        let told = dht_proto::wire::nodes::<A>(out.get(..len).unwrap_or_default());
        let mut told: Vec<_> = told.collect();
        // Others are told the same, in whatever order.
        told.sort_by_key(|(id, _)| id.distance(target));
        assert!(
            told.into_iter().eq(found.into_iter().take(out.len() / A::NODE_LEN)),
            "not the same"
        );
    }

    /// What an answer of this node must do; `None` if its bucket is full, where it depends.
    pub(super) fn verdict(&self, id: NodeId, addr: A, config: &Config) -> Option<Verdict> {
        if let Some(contact) = self.at(addr) {
            return Some(if contact.id() == id { Verdict::Updated } else { Verdict::IdChanged });
        }
        if id == self.own || !is_possible(addr) {
            return Some(Verdict::Refused);
        }
        // Whoever has its id or its host and fails makes room.
        let mut rest: Vec<_> = self.contacts.iter().collect();
        let rival = |c: &&Contact<A>| c.id() == id || shares_host(addr, c.addr());
        if rest.iter().any(|contact| rival(contact) && contact.fails() == 0) {
            return Some(Verdict::Refused);
        }
        rest.retain(|contact| !rival(contact));
        let bucket = self.bucket(id);
        if !is_local(addr) {
            for (shift, most) in allocations::<A>(config) {
                let of = |other: &&&Contact<A>| shares_network(addr, other.addr(), shift);
                if rest.iter().filter(of).count() >= most {
                    return Some(Verdict::Refused);
                }
            }
            let near = |c: &Contact<A>| {
                self.bucket(c.id()) == bucket && c.addr().subnet() == addr.subnet()
            };
            let crowd = rest.iter().filter(|contact| near(contact));
            if crowd.clone().count() >= per_subnet(config) {
                if crowd.clone().all(|contact| contact.fails() == 0) {
                    return Some(Verdict::Refused);
                }
                // One of them yields, and then there is room.
                return Some(Verdict::Added);
            }
        }
        let filled = rest.iter().filter(|contact| self.bucket(contact.id()) == bucket).count();
        (filled < bucket_capacity(bucket, config)).then_some(Verdict::Added)
    }

    /// A node answered, and this is what came of it.
    pub(super) fn check_replied(
        &self,
        after: &Self,
        (id, addr): (NodeId, A),
        (expected, verdict): (Option<Verdict>, Verdict),
        now: Instant,
    ) {
        let open = [Verdict::Added, Verdict::Waiting, Verdict::Refused];
        assert!(
            expected.map_or_else(|| open.contains(&verdict), |expected| verdict == expected),
            "{id} at {addr}: {verdict:?} instead of {expected:?}"
        );
        let entered = after.at(addr).filter(|contact| contact.id() == id);
        if matches!(verdict, Verdict::Added | Verdict::Updated) {
            let fresh = |c: &Contact<A>| c.fails() == 0 && c.last_heard() == tick(now);
            assert!(entered.is_some_and(fresh), "an answer was not noted");
        } else {
            assert!(after.at(addr).is_none(), "{verdict:?} is no contact");
        }
        assert!(verdict != Verdict::Waiting || after.lists(addr), "it waits nowhere");
        let bucket = self.bucket(id);
        let mut displaced = 0;
        for lost in self.without(after).filter(|lost| lost.addr() != addr && lost.fails() == 0) {
            displaced += 1;
            assert!(
                verdict == Verdict::Added && self.bucket(lost.id()) == bucket,
                "{} vanished",
                lost.id()
            );
            assert!(expected.is_none(), "a live contact went though there was room");
            assert!(self.in_bucket(bucket).all(|other| other.fails() == 0), "who fails goes first");
            let valid = entered.is_some_and(Contact::has_valid_id);
            assert!(valid || !lost.has_valid_id(), "an invalid id drove out a valid one");
        }
        assert!(displaced <= 1, "one newcomer, {displaced} victims");
        let promoted = after.without(self).filter(|gained| gained.addr() != addr);
        let most = usize::from(verdict == Verdict::IdChanged);
        assert!(self.all_waited(promoted) <= most, "somebody entered who did not answer");
    }

    /// How many these are, who have waited for a place.
    fn all_waited<'v>(&self, gained: impl Iterator<Item = &'v Contact<A>>) -> usize
    where
        A: 'v,
    {
        gained.inspect(|c| assert!(self.lists(c.addr()), "{} came from nowhere", c.id())).count()
    }

    /// A query came from `addr`: nothing but perhaps one sign of life follows from it.
    pub(super) fn check_heard(&self, after: &Self, addr: A, counts: bool, now: Instant) {
        assert!(self.same_members(after), "a query changed who is a contact");
        for (old, new) in self.contacts.iter().zip(&after.contacts) {
            let heard = if counts && old.addr() == addr { tick(now) } else { old.last_heard() };
            assert_eq!((new.last_heard(), new.fails()), (heard, old.fails()), "{}", old.id());
        }
    }

    /// Somebody told of a node: it is listed if nothing at all speaks against it.
    pub(super) fn check_offered(&self, after: &Self, id: Option<NodeId>, addr: A, config: &Config) {
        assert!(self.same_members(after), "hearsay changed who is a contact");
        let has_room = |id: NodeId| {
            let bucket = self.bucket(id);
            self.in_bucket(bucket).count() < bucket_capacity(bucket, config)
                || self.in_bucket(bucket).any(|contact| contact.fails() > 0)
        };
        let known = self.contacts.iter().any(|contact| {
            contact.addr() == addr || (shares_host(addr, contact.addr()) && contact.fails() == 0)
        });
        let wanted =
            is_possible(addr) && !known && id.is_none_or(|id| id != self.own && has_room(id));
        assert!(wanted || !after.lists(addr) || self.lists(addr), "{addr} is of no use");
        let limits = [(0, per_subnet(config))]
            .into_iter()
            .chain(allocations::<A>(config).map(|(shift, most)| (shift, (most / 4).max(1))));
        let crowded = limits.into_iter().any(|(shift, most)| {
            let of = |(_, other): &&(_, A)| shares_network(addr, *other, shift);
            !is_local(addr) && self.listed.iter().filter(of).count() >= most
        });
        let clashes = self.listed.iter().any(|(_, other)| shares_host(addr, *other));
        let full = self.listed.len() >= config.max_candidates;
        assert!(
            !wanted || crowded || clashes || full || after.lists(addr),
            "{addr} was passed over"
        );
    }

    /// A query to `addr` was not answered.
    pub(super) fn check_failed(
        &self,
        after: &Self,
        addr: A,
        evicted: bool,
        doubtful: bool,
        config: &Config,
    ) {
        let Some(contact) = self.at(addr) else {
            assert!(!evicted && self.same_members(after), "a stranger's silence counted");
            assert!(!after.lists(addr), "a silent candidate stays");
            return;
        };
        let fails = contact.fails() + 1;
        let counted = if doubtful { [fails, fails.max(2)] } else { [fails; 2] };
        if let Some(after) = after.at(addr).filter(|after| after.id() == contact.id()) {
            assert!(!evicted && counted.contains(&after.fails()), "a failure was not counted");
        } else {
            let [_, most] = counted;
            assert!(evicted && (most >= 2 || most >= config.max_fails), "one silence is no death");
        }
        let others = self.without(after).filter(|lost| lost.addr() != addr);
        assert_eq!(others.count(), 0, "others paid for it");
        assert!(self.all_waited(after.without(self)) <= usize::from(evicted), "nobody made room");
    }

    /// Whoever is pinged was due, or is a candidate. Whether it is a contact.
    pub(super) fn check_ping(
        &self,
        id: Option<NodeId>,
        addr: A,
        now: Instant,
        config: &Config,
    ) -> bool {
        let Some(contact) = self.at(addr) else {
            assert!(self.listed.contains(&(id, addr)), "nobody knows whom we ping");
            return false;
        };
        assert_eq!(id, Some(contact.id()));
        let due = if contact.last_asked() == contact.last_heard() {
            let soonest = config.ping_after / 4 * 3;
            contact.last_heard() + soonest.min(config.verify_delay)
        } else {
            contact.last_asked() + BACKOFF * (1 << contact.fails().min(5))
        };
        assert!(now >= due, "{} was pinged too early", contact.id());
        true
    }

    /// The bucket that a refresh is for.
    pub(super) fn check_refresh(&self, target: Target) -> usize {
        assert_ne!(target.node_id(), self.own, "the neighbourhood is no bucket to refresh");
        self.bucket(target.node_id())
    }

    /// We took another id.
    pub(super) fn check_moved(&self, after: &Self, id: NodeId, config: &Config) {
        assert_eq!(after.own, id);
        assert_eq!(after.without(self).count(), 0, "somebody entered who did not answer");
        for lost in self.without(after).filter(|lost| lost.id() != id) {
            let bucket = after.bucket(lost.id());
            let full = after.in_bucket(bucket).count() >= bucket_capacity(bucket, config);
            let near = |c: &&Contact<A>| c.addr().subnet() == lost.addr().subnet();
            let crowd = after.in_bucket(bucket).filter(near).count();
            let crowded = !is_local(lost.addr()) && crowd >= per_subnet(config);
            assert!(full || crowded, "{} was lost on the way", lost.id());
        }
    }
}

/// The tenth of a second that `now` is in.
fn tick(now: Instant) -> Instant {
    Instant::from_micros(now.as_micros() / TICK * TICK)
}

fn is_possible<A: Addr>(addr: A) -> bool {
    addr.port() != 0 && addr.scope() != Scope::Invalid
}

fn is_local<A: Addr>(addr: A) -> bool {
    addr.scope() != Scope::Global
}

/// Whether only one of the two may be known: hosts of the internet count by IP address, those of
/// local networks by endpoint.
fn shares_host<A: Addr>(a: A, b: A) -> bool {
    a == b || (a.ip() == b.ip() && !is_local(a))
}

fn shares_network<A: Addr>(a: A, b: A, shift: u32) -> bool {
    !is_local(b) && a.subnet() >> shift == b.subnet() >> shift
}

fn per_subnet(config: &Config) -> usize {
    config.max_per_subnet_in_bucket
}

/// The wider networks that are limited, by the bits that they are shorter than a subnet: v6 /48 and
/// /32.
fn allocations<A: Addr>(config: &Config) -> impl Iterator<Item = (u32, usize)> {
    let most = config.max_per_allocation;
    [(16, (most / 4).max(1)), (32, most)].into_iter().filter(|_| A::FAMILY == Family::V6)
}
