//! So many at a time, and no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::quota::{SITE_SHARES, Site, User};

/// Places for things that go on.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    per_user: usize,
}

/// How many places are taken: in all, and by whom.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    users: BTreeMap<User, usize>,
    sites: BTreeMap<Site, usize>,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    taken: Arc<Mutex<Taken>>,
    user: Option<User>,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max, per_user: max }
    }

    /// Of which a user may have so many.
    pub(super) fn per_user(self, per_user: usize) -> Self {
        Self { per_user, ..self }
    }

    /// A place for nobody in particular, if there is one.
    pub(super) fn take(&self) -> Option<Slot> {
        self.place(None)
    }

    /// A place for a user, if there is one, and he and his site have not too many.
    pub(super) fn take_for(&self, user: User) -> Option<Slot> {
        self.place(Some(user))
    }

    fn place(&self, user: Option<User>) -> Option<Slot> {
        let mut taken = lock(&self.taken);
        let site = user.and_then(User::site);
        let of_user = user.and_then(|user| taken.users.get(&user)).copied().unwrap_or(0);
        let of_site = site.and_then(|site| taken.sites.get(&site)).copied().unwrap_or(0);
        let per_site = self.per_user.saturating_mul(SITE_SHARES as usize);
        if taken.all >= self.max || of_user >= self.per_user || of_site >= per_site {
            return None;
        }
        taken.all += 1;
        if let Some(user) = user {
            taken.users.insert(user, of_user + 1);
        }
        if let Some(site) = site {
            taken.sites.insert(site, of_site + 1);
        }
        Some(Slot { taken: Arc::clone(&self.taken), user })
    }

    pub(super) fn taken(&self) -> u64 {
        lock(&self.taken).all as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        if let Some(user) = self.user {
            free(&mut taken.users, &user);
            if let Some(site) = user.site() {
                free(&mut taken.sites, &site);
            }
        }
        debug_assert!(taken.users.len() <= taken.all, "only those are counted who have one");
    }
}

fn free<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // No code panics while holding the lock.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let slots = Slots::new(2);
        let held = [slots.take(), slots.take()];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take().is_none());
        assert_eq!(slots.taken(), 2);
        drop(held);
        assert_eq!(slots.taken(), 0);
        assert!(slots.take().is_some());
    }

    #[test]
    fn nobody_has_more_than_his_share() {
        let slots = Slots::new(1_000).per_user(2);
        let v4 = |number: u8| User::from(IpAddr::from([192, 0, 2, number]));
        let v6 = |number: u16| User::from(IpAddr::from([0x2001, 0xdb8, 0, number, 0, 0, 0, 1]));
        let mut held = vec![slots.take_for(v4(1)).unwrap(), slots.take_for(v4(1)).unwrap()];
        assert!(slots.take_for(v4(1)).is_none());
        held.push(slots.take_for(v4(2)).unwrap());
        // Nor has a site, however many networks there are in it.
        let site: Vec<_> = (0..100).filter_map(|number| slots.take_for(v6(number))).collect();
        assert_eq!(site.len(), 2 * SITE_SHARES as usize);
        held.remove(0);
        assert!(slots.take_for(v4(1)).is_some());
        drop((held, site));
        assert_eq!(slots.taken(), 0);
        let taken = lock(&slots.taken);
        assert!(taken.users.is_empty() && taken.sites.is_empty(), "nobody is remembered");
    }
}
