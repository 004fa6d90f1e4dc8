//! How nodes enter the table, and how they leave it.

use core::time::Duration;

use super::bucket::{self, BUCKETS, Newcomer};
use super::candidates::{Candidate, Standing};
use super::contact::{Contact, Pauses, Ticks, instant, millis, period, same_ip, ticks};
use super::{Limits, Table, Verdict, is_local};
use crate::addr::Addr;
use crate::config::Config;
use crate::id::NodeId;
use crate::time::Instant;

/// Who stands in the way of a newcomer, whatever its bucket has room for.
enum Obstacle {
    Nobody,
    /// A contact that does not answer, and yields.
    Failing(usize),
    /// A contact that answers.
    Firm,
}

impl<A: Addr> Table<A> {
    /// A node answered a query of ours, `rtt` after it left.
    pub fn replied(
        &mut self,
        now: Instant,
        id: NodeId,
        addr: A,
        rtt: Duration,
        config: &Config,
    ) -> Verdict {
        let (now, rtt) = (ticks(now), millis(rtt));
        let compact = addr.compact();
        let newcomer = Newcomer { id, addr, rtt };
        if self.turns_away(now, &newcomer, config) {
            return Verdict::Refused;
        }
        let place = self.search(id).ok();
        let is_there = |i: &usize| self.contacts.get(*i).is_some_and(|c| *c.compact() == compact);
        // Most who answer a lookup are strangers: one look at all contacts has to do.
        let mut same_ip = None;
        let known = place.filter(is_there).or_else(|| {
            same_ip = self.contacts.same_ip(&compact);
            (same_ip?..self.contacts.len()).find(is_there)
        });
        if let Some(i) = known {
            return self.answered(now, i, id, rtt, config);
        }
        if id == self.own || !addr.is_possible() {
            // An echo of our own id comes from a reflector.
            return Verdict::Refused;
        }
        let candidate = self.candidates.remove(&compact, self.own);
        if let Some(i) = place {
            // One of the two is lying, or the node has moved; who answers is believed.
            if self.contacts.get(i).is_some_and(|contact| contact.fails() == 0) {
                return Verdict::Refused;
            }
            self.drop_at(i, config);
            same_ip = self.contacts.same_ip(&compact);
        }
        let asked_us = candidate.filter(|candidate| candidate.standing == Standing::Unsolicited);
        let doubtful = asked_us
            .is_some_and(|c| now < c.heard.saturating_add(period(config.verify_delay)))
            && !is_local(addr);
        self.enter(now, newcomer, doubtful, same_ip, config)
    }

    /// Whether it is plain that a node that answered finds no place, as most do who answer a lookup:
    /// nobody of its operator is a contact, nobody in its bucket yields, and enough others wait already.
    fn turns_away(&mut self, now: Ticks, newcomer: &Newcomer<A>, config: &Config) -> bool {
        let bucket = bucket::index(self.own, newcomer.id);
        self.candidates.has_enough(bucket, now)
            && self.is_full(bucket, config)
            && !self.contacts.may_fail(bucket)
            && !self.contacts.may_have(newcomer.addr)
            && bucket::victim(self.bucket(bucket), newcomer, self.own, bucket).is_none()
            && !self.candidates.has(&newcomer.addr.compact())
    }

    /// A node sent us a query, under this id. Nothing proves that it can be reached.
    pub fn heard_query(&mut self, now: Instant, id: NodeId, addr: A, config: &Config) {
        let now = ticks(now);
        let compact = addr.compact();
        let bucket = bucket::index(self.own, id);
        let full = self.is_full(bucket, config);
        // Most who ask are strangers for whom there is no place: those need no search.
        if full && !self.contacts.may_have(addr) {
            return;
        }
        let place = match self.search(id) {
            Ok(i) => {
                let Some(contact) = self.contacts.get_mut(i) else { return };
                if *contact.compact() == compact {
                    if contact.queried(now) {
                        // The next pause may be so much shorter that it ends sooner.
                        let due = self.contacts.due_again(i, self.own, Pauses::of(config));
                        self.ping_by(due);
                    }
                    return;
                }
                // It moved, or somebody else has taken its id: an answer will tell. Whose contacts have
                // all moved takes itself for offline, and would never find that out.
                i
            }
            Err(place) => place,
        };
        // Lookups for what we should store end among our k nearest, so they are found out at once.
        let is_near = place < config.k;
        if !is_near && self.candidates.is_full_for_strangers(config) {
            return;
        }
        if full {
            return;
        }
        // Its query left a hole in its own firewall through which our ping would come; a node
        // that can be reached still can when the hole has closed. No firewall stands between us and
        // a local network, and one of the nearest is asked now and once more.
        let delay = if is_local(addr) || is_near { 0 } else { period(config.verify_delay) };
        let due = now.saturating_add(delay);
        let stranger = Candidate::unverified(now, Some(id), addr, Standing::Unsolicited, due);
        self.suggest(stranger, config);
    }

    /// Somebody told us of a node: it is pinged as soon as pings are allowed.
    pub fn offer(&mut self, now: Instant, id: Option<NodeId>, addr: A, config: &Config) {
        let now = ticks(now);
        let offered = Candidate::unverified(now, id, addr, Standing::Offered, now);
        self.suggest(offered, config);
    }

    /// A query to a node was not answered in time, or cannot be delivered. Whether this evicted a
    /// contact.
    ///
    /// While we are `offline` silence says nothing about others: nobody is evicted or counted.
    pub fn failed(
        &mut self,
        now: Instant,
        id: Option<NodeId>,
        addr: A,
        offline: bool,
        config: &Config,
    ) -> bool {
        if offline {
            return false;
        }
        let now = ticks(now);
        let compact = addr.compact();
        let Some(i) = self.position(id, &compact) else {
            self.candidates.remove(&compact, self.own);
            return false;
        };
        let Some(contact) = self.contacts.get_mut(i) else { return false };
        contact.failed(now);
        let (id, fails, good) = (contact.id(), contact.fails(), contact.is_good());
        let due = self.contacts.due_again(i, self.own, Pauses::of(config));
        self.ping_by(due);
        let bucket = bucket::index(self.own, id);
        if fails >= config.max_fails {
            self.drop_at(i, config);
            self.fill(now, bucket, config);
            return true;
        }
        // Lost datagrams are common. After one, only a node that answers right now replaces the
        // contact; once the contact is not handed out any more, one that answered lately does.
        if !good && let Some(candidate) = self.best_waiting(now, bucket, i, config) {
            self.drop_at(i, config);
            self.promote(now, candidate, config);
            return true;
        }
        self.wake_candidates(now, bucket, config);
        false
    }

    /// Moves to another id, as BEP 42 demands when our address changes. Every contact is sorted
    /// anew; those that its new bucket has no room for become candidates.
    pub fn set_own_id(&mut self, now: Instant, id: NodeId, config: &Config) {
        if id == self.own {
            return;
        }
        let now = ticks(now);
        self.own = id;
        self.news = [now; BUCKETS];
        self.refresh_at = instant(now);
        self.candidates.retain(|candidate| candidate.id != Some(id));
        self.candidates.sort_anew();
        let mut contacts = self.contacts.take();
        // Who is entered first keeps its place.
        contacts.sort_by_key(|c| (c.fails(), !c.has_valid_id(), c.rtt_millis()));
        for contact in contacts {
            let bucket = self.bucket_of(&contact);
            let free = self.bucket(bucket).len() < bucket::capacity(bucket, config);
            if contact.id() == id {
                continue;
            }
            let same_ip = self.contacts.same_ip(contact.compact());
            if free
                && matches!(
                    self.obstacle(contact.addr(), bucket, same_ip, config),
                    Obstacle::Nobody
                )
            {
                self.contacts.insert(contact, id, Pauses::of(config));
            } else if contact.fails() == 0 {
                self.candidates.admit(Candidate::waiting(&contact), id, config);
            }
        }
        self.contacts.shrink();
    }

    /// The contact at `i` answered under this id.
    fn answered(&mut self, now: Ticks, i: usize, id: NodeId, rtt: u16, config: &Config) -> Verdict {
        match self.contacts.get_mut(i) {
            Some(contact) if contact.id() == id => {
                contact.replied(now, rtt, config);
                // A doubtful one that had failed is due sooner than if it had gone on failing.
                let due = self.contacts.due_again(i, self.own, Pauses::of(config));
                self.ping_by(due);
                Verdict::Updated
            }
            _ => {
                // A node has one id. Who changes it may be walking about the key space.
                if let Some(dropped) = self.drop_at(i, config) {
                    self.fill(now, bucket::index(self.own, dropped.id()), config);
                }
                Verdict::IdChanged
            }
        }
    }

    /// Finds a place for a node that just answered; somebody else at its IP address may be a contact. If
    /// it is `doubtful`, it may be reachable for us only.
    fn enter(
        &mut self,
        now: Ticks,
        newcomer: Newcomer<A>,
        doubtful: bool,
        mut same_ip: Option<usize>,
        config: &Config,
    ) -> Verdict {
        let bucket = bucket::index(self.own, newcomer.id);
        // Whoever yields may not be alone in the way: its host may have another id now, in a bucket
        // where its network has all that it may have.
        loop {
            match self.obstacle(newcomer.addr, bucket, same_ip, config) {
                Obstacle::Nobody => break,
                Obstacle::Failing(i) => drop(self.drop_at(i, config)),
                Obstacle::Firm => return Verdict::Refused,
            }
            same_ip = self.contacts.same_ip(&newcomer.addr.compact());
        }
        let mut contact = Contact::new(now, newcomer.id, newcomer.addr, newcomer.rtt);
        if doubtful {
            contact.doubt();
        }
        if self.is_full(bucket, config) {
            let Some(victim) = self.victim(&newcomer, bucket) else {
                let waits = Candidate::waiting(&contact);
                let listed = self.candidates.admit(waits, self.own, config);
                return if listed { Verdict::Waiting } else { Verdict::Refused };
            };
            if let Some(displaced) = self.drop_at(victim, config)
                && displaced.fails() == 0
            {
                self.candidates.admit(Candidate::waiting(&displaced), self.own, config);
            }
        }
        self.add(now, contact, config);
        Verdict::Added
    }

    /// Who yields to a newcomer in a full bucket: first who failed to answer.
    fn victim(&mut self, newcomer: &Newcomer<A>, bucket: usize) -> Option<usize> {
        self.contacts.most_failing(bucket).or_else(|| {
            let range = self.contacts.bucket_range(bucket);
            let victim = bucket::victim(self.bucket(bucket), newcomer, self.own, bucket);
            victim.map(|i| range.start + i)
        })
    }

    /// Lists a node that has yet to answer, if the table could use it.
    fn suggest(&mut self, candidate: Candidate<A>, config: &Config) {
        let addr = candidate.addr();
        let wanted = candidate.id.is_none_or(|id| id != self.own && self.has_room(id, config));
        if !wanted || !addr.is_possible() {
            return;
        }
        let local = is_local(addr);
        let first = self.contacts.same_ip(&candidate.compact);
        let rest = first.and_then(|first| self.contacts.get(first..)).unwrap_or_default();
        let known = rest.iter().any(|contact| {
            // A contact that fails may have moved to another port.
            let taken = !local && contact.fails() == 0;
            let compact = contact.compact();
            *compact == candidate.compact || (taken && same_ip::<A>(compact, &candidate.compact))
        });
        if !known && self.candidates.admit(candidate, self.own, config) {
            self.ping_by(candidate.due);
        }
    }

    /// Whether a node with this id would enter if it answered: its bucket has room, or somebody
    /// in it who would yield.
    pub(super) fn has_room(&self, id: NodeId, config: &Config) -> bool {
        let bucket = bucket::index(self.own, id);
        let contacts = self.bucket(bucket);
        contacts.len() < bucket::capacity(bucket, config)
            || (self.contacts.may_fail(bucket)
                && contacts.iter().any(|contact| contact.fails() > 0))
    }

    fn obstacle(
        &self,
        addr: A,
        bucket: usize,
        same_ip: Option<usize>,
        config: &Config,
    ) -> Obstacle {
        if is_local(addr) {
            return Obstacle::Nobody;
        }
        let yielding = |i: usize| match self.contacts.get(i) {
            Some(contact) if contact.fails() > 0 => Obstacle::Failing(i),
            _ => Obstacle::Firm,
        };
        if let Some(i) = same_ip {
            return yielding(i);
        }
        let limits = Limits::of::<A>(config);
        let subnet = addr.subnet();
        for (shift, limit) in limits.allocations() {
            let same = |c: &&Contact<A>| c.addr().subnet() >> shift == subnet >> shift;
            if self.contacts.iter().filter(same).count() >= limit {
                return Obstacle::Firm;
            }
        }
        if !self.contacts.may_have(addr) {
            return Obstacle::Nobody;
        }
        let start = self.contacts.bucket_range(bucket).start;
        let contacts = self.bucket(bucket).iter().enumerate();
        let neighbours = contacts.filter(|(_, contact)| contact.addr().subnet() == subnet);
        if neighbours.clone().count() < limits.per_subnet {
            return Obstacle::Nobody;
        }
        let weakest = neighbours.max_by_key(|(_, contact)| contact.fails());
        weakest.map_or(Obstacle::Nobody, |(i, _)| yielding(start + i))
    }

    /// Inserts a contact.
    fn add(&mut self, now: Ticks, contact: Contact<A>, config: &Config) {
        self.contacts.insert(contact, self.own, Pauses::of(config));
        let bucket = self.bucket_of(&contact);
        if let Some(news) = self.news.get_mut(bucket) {
            *news = now;
        }
        if self.bucket(bucket).len() == config.k {
            // The buckets that are worth a refresh may be more now.
            self.refresh_at = self.refresh_at.min(instant(now));
        }
        self.ping_by(contact.due(config));
    }

    /// Removes a contact, without a successor.
    fn drop_at(&mut self, i: usize, config: &Config) -> Option<Contact<A>> {
        let dropped = self.contacts.remove(i, self.own)?;
        let bucket = self.bucket_of(&dropped);
        let news = self.news.get(bucket).copied().unwrap_or_default();
        let stale = instant(self.refresh_of(bucket, news, config));
        self.refresh_at = self.refresh_at.min(stale);
        Some(dropped)
    }

    /// Gives the free place of a bucket to a candidate that answered lately, or has the others
    /// pinged.
    fn fill(&mut self, now: Ticks, bucket: usize, config: &Config) {
        if let Some(candidate) = self.best_waiting(now, bucket, usize::MAX, config) {
            self.promote(now, candidate, config);
        } else {
            self.wake_candidates(now, bucket, config);
        }
    }

    /// The best candidate that answered lately and would fit if the contact at `without` left.
    fn best_waiting(
        &self,
        now: Ticks,
        bucket: usize,
        without: usize,
        config: &Config,
    ) -> Option<Contact<A>> {
        let since = now.saturating_sub(period(config.ping_after));
        self.candidates
            .iter()
            .filter(|c| c.standing == Standing::Waiting && c.heard >= since)
            .filter_map(|c| Some(Contact::new(c.heard, c.id?, c.addr(), c.rtt)))
            .filter(|c| self.bucket_of(c) == bucket && self.search(c.id()).is_err())
            .filter(|c| {
                match self.obstacle(c.addr(), bucket, self.contacts.same_ip(c.compact()), config) {
                    Obstacle::Nobody => true,
                    Obstacle::Failing(i) => i == without,
                    Obstacle::Firm => false,
                }
            })
            .min_by_key(|c| (!c.has_valid_id(), c.rtt_millis()))
    }

    /// Makes a waiting candidate a contact.
    fn promote(&mut self, now: Ticks, contact: Contact<A>, config: &Config) {
        self.candidates.remove(contact.compact(), self.own);
        self.add(now, contact, config);
    }

    /// Has those who waited for this bucket too long to be trusted prove that they are alive.
    fn wake_candidates(&mut self, now: Ticks, bucket: usize, config: &Config) {
        let own = self.own;
        let since = now.saturating_sub(period(config.ping_after));
        let mut woken = false;
        self.candidates.retain(|candidate| {
            if candidate.bucket(own) == Some(bucket) && candidate.heard < since {
                woken |= candidate.wake(now);
            }
            true
        });
        if woken {
            self.ping_by(now);
        }
    }

    /// Something is to be pinged at `due`.
    pub(super) fn ping_by(&mut self, due: Ticks) {
        self.ping_at = self.ping_at.min(instant(due));
    }
}
