//! A table that starts full.

use alloc::vec::Vec;
use core::time::Duration;

use super::Table;
use super::bucket::{self, BUCKETS};
use super::contact::{Contact, NEVER, Pauses, instant, millis, ticks};
use super::contacts::Contacts;
use crate::addr::Addr;
use crate::config::Config;
use crate::id::NodeId;
use crate::time::Instant;

impl<A: Addr> Table<A> {
    /// Replaces everything by these contacts, as if each had answered at its time, and counts their
    /// buckets as refreshed then, those without contacts at `refreshed`. What does not fit its bucket
    /// is left out; limits per network are not looked at.
    pub fn settle(
        &mut self,
        own: NodeId,
        known: impl Iterator<Item = (NodeId, A, Duration, Instant)>,
        refreshed: Instant,
        config: &Config,
    ) {
        // A million tables may stand in one process: no byte more than it takes.
        let mut contacts = Vec::with_capacity(known.size_hint().1.unwrap_or(0));
        contacts.extend(
            known
                .filter(|(id, ..)| *id != own)
                .map(|(id, addr, rtt, heard)| Contact::new(ticks(heard), id, addr, millis(rtt))),
        );
        contacts.sort_by_cached_key(|contact| contact.distance(own.target()));
        let (mut last, mut in_bucket) = (usize::MAX, 0);
        let mut news = [0; BUCKETS];
        let mut previous = None;
        contacts.retain(|contact| {
            let bucket = bucket::index(own, contact.id());
            in_bucket = if bucket == last { in_bucket + 1 } else { 1 };
            last = bucket;
            let fits = in_bucket <= bucket::capacity(bucket, config)
                && previous.replace(contact.id()) != Some(contact.id());
            if let (true, Some(news)) = (fits, news.get_mut(bucket)) {
                *news = contact.heard().max(*news);
            }
            fits
        });
        contacts.shrink_to_fit();
        for news in news.iter_mut().filter(|news| **news == 0) {
            *news = ticks(refreshed);
        }
        *self = Self::new(own);
        self.contacts = Contacts::settled(contacts, own, Pauses::of(config));
        self.news = news;
        self.ping_at = instant(self.contacts.earliest());
        let stale = self.buckets_to_refresh(config).map(|(due, _)| due).min();
        self.refresh_at = instant(stale.unwrap_or(NEVER));
    }
}
