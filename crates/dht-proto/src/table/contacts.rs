//! The contacts, sorted by distance from our own id, and what spares most looks at all of them: a
//! process may hold a million tables, and reading one whole costs more than all else that an answer does.

use alloc::vec::Vec;
use core::ops::{Deref, Range};

use super::bucket::{self, BUCKETS};
use super::contact::{Contact, NEVER, Pauses, Ticks, same_ip};
use crate::addr::Addr;
use crate::ahead::ReadAhead;
use crate::id::{Distance, NodeId};
use crate::seen::Seen;

/// Capacity is added in steps of this: no byte more than it takes.
pub(super) const GROWTH: usize = 2;

/// Buckets whose pings are planned together.
const PLANNED: usize = 2;

/// The filter is made anew after so many removals.
const REMOVALS: u8 = 16;

/// Lines of memory that a bucket of eight takes up.
const BUCKET_LINES: usize = 5;

/// All contacts of a table. In this order, so that what most calls read stands together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Contacts<A: Addr> {
    /// Sorted by distance, nearest first.
    list: Vec<Contact<A>>,
    /// Bit i: somebody in bucket i may have failed to answer. In the others surely nobody did.
    failing: u32,
    /// Contacts that the filter knows and that are no more.
    removed: u8,
    /// Where each bucket begins. Farther buckets come later, so the last bucket begins at 0.
    starts: [u16; BUCKETS],
    /// The [operators](Addr::operator) of all contacts, and of some who left: most who answer a lookup
    /// are strangers.
    operators: Seen,
    /// Nobody in these buckets is to be pinged before this. It may be too early, for most who are heard
    /// from are due later.
    due: [Ticks; BUCKETS / PLANNED],
}

/// Who is due first in a group of buckets.
pub(super) struct Due {
    group: usize,
    pub(super) index: usize,
    first: Ticks,
    /// When the next one is.
    second: Ticks,
}

impl<A: Addr> Deref for Contacts<A> {
    type Target = [Contact<A>];

    fn deref(&self) -> &[Contact<A>] {
        &self.list
    }
}

impl<A: Addr> Contacts<A> {
    pub(super) const fn new() -> Self {
        Self {
            starts: [0; BUCKETS],
            list: Vec::new(),
            operators: Seen::NOTHING,
            removed: 0,
            failing: 0,
            due: [NEVER; BUCKETS / PLANNED],
        }
    }

    /// Contacts that are sorted by distance from `own`.
    pub(super) fn settled(list: Vec<Contact<A>>, own: NodeId, pauses: Pauses) -> Self {
        let mut contacts = Self { list, ..Self::new() };
        for i in 0..contacts.len() {
            contacts.due_again(i, own, pauses);
            let bucket = contacts.list.get(i).map_or(0, |contact| bucket::index(own, contact.id()));
            contacts.moved(bucket, 1);
        }
        contacts.filter_again();
        contacts
    }

    /// Takes all out, and keeps room for as many.
    pub(super) fn take(&mut self) -> Vec<Contact<A>> {
        let list = core::mem::take(&mut self.list);
        *self = Self { list: Vec::with_capacity(list.len()), ..Self::new() };
        list
    }

    /// Bytes of memory beside the structure itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Contact<A>>()
    }

    /// See `Dht::read_ahead`: the structure itself.
    pub(super) fn read_ahead(&self, ahead: &mut impl ReadAhead) {
        ahead.line(&self.list);
        ahead.line(&self.starts);
        ahead.line(&self.due);
        self.operators.read_ahead(ahead);
    }

    /// The same of the contacts of a bucket.
    pub(super) fn read_around(&self, bucket: usize, ahead: &mut impl ReadAhead) {
        let start = self.starts.get(bucket).map_or(0, |start| usize::from(*start));
        ahead.lines::<_, BUCKET_LINES>(self.list.get(start..).unwrap_or_default());
    }

    /// The same, at most, with so many contacts.
    pub(super) fn ceiling(len: usize) -> usize {
        (len + 2 * GROWTH) * size_of::<Contact<A>>()
    }

    /// Inserts a contact that is not there yet.
    pub(super) fn insert(&mut self, contact: Contact<A>, own: NodeId, pauses: Pauses) {
        let Err(place) = self.search(contact.id(), own) else {
            unreachable!("an id that is present is updated, not inserted")
        };
        if self.list.len() == self.list.capacity() {
            self.list.reserve_exact(GROWTH);
        }
        self.operators.add(contact.addr().operator());
        self.list.insert(place, contact);
        self.moved(bucket::index(own, contact.id()), 1);
        self.due_again(place, own, pauses);
    }

    pub(super) fn remove(&mut self, i: usize, own: NodeId) -> Option<Contact<A>> {
        if i >= self.list.len() {
            return None;
        }
        let removed = self.list.remove(i);
        self.moved(bucket::index(own, removed.id()), -1);
        self.shrink();
        self.removed += 1;
        if self.removed == REMOVALS {
            self.filter_again();
        }
        Some(removed)
    }

    pub(super) fn shrink(&mut self) {
        if self.list.capacity() - self.list.len() > 2 * GROWTH {
            self.list.shrink_to(self.list.len() + GROWTH);
        }
    }

    fn filter_again(&mut self) {
        (self.operators, self.removed) = (Seen::NOTHING, 0);
        for contact in &self.list {
            self.operators.add(contact.addr().operator());
        }
    }

    /// A contact, to be changed. Whoever makes it due earlier, or fail, says so with
    /// [`due_again`](Self::due_again).
    pub(super) fn get_mut(&mut self, i: usize) -> Option<&mut Contact<A>> {
        self.list.get_mut(i)
    }

    /// Where a contact with this id is, or would be.
    pub(super) fn search(&self, id: NodeId, own: NodeId) -> Result<usize, usize> {
        let place = id.distance(own.target());
        let start = self.place_of(&place, own);
        let rest = self.list.get(start..).unwrap_or_default();
        for (i, contact) in (start..).zip(rest) {
            let distance = contact.distance(own.target());
            if distance.high() != place.high() || distance > place {
                return Err(i);
            }
            if distance == place {
                return Ok(i);
            }
        }
        Err(self.list.len())
    }

    /// How many contacts are nearer than this, as far as the first 64 bits tell: enough for all but
    /// forged neighbours.
    pub(super) fn place_of(&self, distance: &Distance, own: NodeId) -> usize {
        let range = self.bucket_range(bucket::at(distance));
        let contacts = self.list.get(range.clone()).unwrap_or_default();
        let high = distance.high();
        let nearer = |contact: &Contact<A>| contact.distance(own.target()).high() < high;
        range.start + contacts.partition_point(nearer)
    }

    /// The range of a bucket.
    pub(super) fn bucket_range(&self, bucket: usize) -> Range<usize> {
        self.range(bucket, bucket)
    }

    /// The contacts of a bucket.
    pub(super) fn of_bucket(&self, bucket: usize) -> &[Contact<A>] {
        self.list.get(self.bucket_range(bucket)).unwrap_or_default()
    }

    /// The contacts of all buckets that are nearer to us than this one.
    pub(super) fn deeper(&self, bucket: usize) -> &[Contact<A>] {
        self.list.get(..self.bucket_range(bucket).start).unwrap_or_default()
    }

    /// The range of some buckets, the farthest first.
    fn range(&self, farthest: usize, nearest: usize) -> Range<usize> {
        let start = |bucket: usize| self.starts.get(bucket).map(|start| usize::from(*start));
        let end = farthest.checked_sub(1).and_then(start).unwrap_or(self.list.len());
        start(nearest).unwrap_or(0)..end
    }

    /// Everything beyond a bucket moves by one place.
    fn moved(&mut self, bucket: usize, by: i16) {
        for start in self.starts.iter_mut().take(bucket) {
            *start = start.wrapping_add_signed(by);
        }
    }

    /// Whether a bucket may hold somebody who failed to answer; certain if it is false.
    pub(super) fn may_fail(&self, bucket: usize) -> bool {
        self.failing >> bucket & 1 != 0
    }

    /// The first contact of a bucket to yield to whoever answers, because it did not.
    pub(super) fn most_failing(&mut self, bucket: usize) -> Option<usize> {
        if !self.may_fail(bucket) {
            return None;
        }
        let range = self.bucket_range(bucket);
        let failing = bucket::most_failing(self.list.get(range.clone()).unwrap_or_default());
        if failing.is_none() {
            self.failing &= !(1 << bucket);
        }
        failing.map(|i| range.start + i)
    }

    /// Whether somebody may be of the same operator, or at the same IP address; certain if it is false.
    pub(super) fn may_have(&self, addr: A) -> bool {
        self.operators.may_have(addr.operator())
    }

    /// The first contact at an IP address.
    pub(super) fn same_ip(&self, compact: &A::Compact) -> Option<usize> {
        if !self.may_have(A::from_compact(*compact)) {
            return None;
        }
        self.list.iter().position(|contact| same_ip::<A>(contact.compact(), compact))
    }

    /// The contact at an address.
    pub(super) fn at(&self, compact: &A::Compact) -> Option<usize> {
        let same_ip = self.same_ip(compact)?;
        let is_there = |i: &usize| self.list.get(*i).is_some_and(|c| c.compact() == compact);
        (same_ip..self.list.len()).find(is_there)
    }

    /// The contact at `i` may be due earlier than it was, and may fail.
    pub(super) fn due_again(&mut self, i: usize, own: NodeId, pauses: Pauses) -> Ticks {
        let Some(contact) = self.list.get(i) else { return NEVER };
        let due = contact.due_after(pauses);
        let bucket = bucket::index(own, contact.id());
        self.failing |= u32::from(contact.fails() > 0) << bucket;
        if let Some(planned) = self.due.get_mut(bucket / PLANNED) {
            *planned = due.min(*planned);
        }
        due
    }

    /// Whoever is due for longest, if anybody is now; and when somebody is, at the earliest.
    pub(super) fn next_due(&mut self, now: Ticks, pauses: Pauses) -> (Option<Due>, Ticks) {
        loop {
            let planned = self.due.iter().copied().zip(0..).min();
            let Some((planned, group)) = planned.filter(|(planned, _)| *planned <= now) else {
                return (None, planned.map_or(NEVER, |(planned, _)| planned));
            };
            // Plans are never too late, so who is due as planned is due before everybody else. And
            // each look makes a plan exact, so no group is looked at more than twice.
            let due = self.first_of(group, pauses);
            if due.first == planned {
                return (Some(due), planned);
            }
            self.plan(group, due.first);
        }
    }

    /// Whoever is due is asked now. When the next one is due, at the earliest.
    pub(super) fn asked(&mut self, due: &Due, now: Ticks, pauses: Pauses) -> Ticks {
        if let Some(contact) = self.list.get_mut(due.index) {
            contact.asked(now);
            let again = contact.due_after(pauses);
            self.plan(due.group, again.min(due.second));
        }
        self.earliest()
    }

    /// When somebody is due, at the earliest.
    pub(super) fn earliest(&self) -> Ticks {
        self.due.iter().copied().min().unwrap_or(NEVER)
    }

    fn first_of(&self, group: usize, pauses: Pauses) -> Due {
        let range = self.range(group * PLANNED, group * PLANNED + PLANNED - 1);
        let mut due = Due { group, index: usize::MAX, first: NEVER, second: NEVER };
        let contacts = self.list.get(range.clone()).unwrap_or_default();
        for (i, contact) in range.zip(contacts) {
            let when = contact.due_after(pauses);
            if when < due.first {
                (due.index, due.second, due.first) = (i, due.first, when);
            } else {
                due.second = due.second.min(when);
            }
        }
        due
    }

    fn plan(&mut self, group: usize, due: Ticks) {
        if let Some(planned) = self.due.get_mut(group) {
            *planned = due;
        }
    }
}

impl<A: Addr> Contacts<A> {
    /// Checks bounds and orderings, for tests.
    pub(super) fn check_invariants(&self, own: NodeId, pauses: Pauses) {
        let distance = |contact: &Contact<A>| contact.distance(own.target());
        assert!(self.list.is_sorted_by(|a, b| distance(a) < distance(b)));
        assert!(self.list.capacity() <= self.list.len() + 2 * GROWTH);
        for (i, contact) in self.list.iter().enumerate() {
            assert_eq!(self.search(contact.id(), own), Ok(i));
            assert!(self.bucket_range(bucket::index(own, contact.id())).contains(&i));
            assert!(
                self.operators.may_have(contact.addr().operator()),
                "the filter forgets nobody"
            );
            let bucket = bucket::index(own, contact.id());
            assert!(contact.fails() == 0 || self.may_fail(bucket), "failures are noticed");
            let group = bucket / PLANNED;
            assert!(self.due.get(group).is_some_and(|due| *due <= contact.due_after(pauses)));
        }
    }
}
