//! I4: the routing table. Our own id is absent, every contact is in its bucket and there once,
//! buckets and networks stay within their limits, and nobody is at an address that cannot be.
//!
//! Told from outside, from ids and addresses alone, and then by the node's own
//! [`check_invariants`](Dht::check_invariants), which also looks at candidates, lookups and stores.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dht_proto::Dht;
use dht_proto::addr::{Addr, Family, Scope};
use dht_proto::id::NodeId;
use dht_proto::request::NodeInfo;
use dht_proto::table::bucket_capacity;
use dht_proto::time::Instant;

use super::{Checker, Happening, PerHost, demand};

/// A node is looked at after this much work, sooner if the number of its contacts changed: looking
/// takes time that grows with the square of a table. What is wrong with a table stays wrong long
/// enough for that.
const EVERY: u32 = 512;
const EVERY_CHANGE: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Tables {
    seen: PerHost<(u64, u32)>,
}

impl Checker for Tables {
    fn name(&self) -> &'static str {
        "I4 table"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Happening::Drained { host, dht, .. } = what else { return Ok(()) };
        let (contacts, since) = self.seen.of(*host);
        *since += 1;
        if !since.is_multiple_of(EVERY_CHANGE) {
            return Ok(());
        }
        let now = dht.stats().contacts;
        let pause = if now == *contacts { EVERY } else { EVERY_CHANGE };
        if *since < pause {
            return Ok(());
        }
        (*contacts, *since) = (now, 0);
        check(dht)
    }
}

/// Looks at one node.
///
/// # Errors
/// What is wrong with its table.
pub fn check(dht: &Dht) -> Result<(), String> {
    for family in [Family::V4, Family::V6] {
        if let Some(own) = dht.node_id(family) {
            check_contacts(dht, own, &dht.contacts(family))?;
        }
    }
    catch_unwind(AssertUnwindSafe(|| dht.check_invariants())).map_err(|cause| words(&*cause))
}

/// What a panic said.
pub(crate) fn words(cause: &(dyn core::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}

fn check_contacts(dht: &Dht, own: NodeId, contacts: &[NodeInfo]) -> Result<(), String> {
    let Some(config) = dht.config() else { return Ok(()) };
    let mut buckets: BTreeMap<usize, usize> = BTreeMap::new();
    let mut networks: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    let mut ids: Vec<NodeId> = Vec::with_capacity(contacts.len());
    let mut ips: Vec<IpAddr> = Vec::with_capacity(contacts.len());
    for contact in contacts {
        let addr = contact.addr;
        demand(contact.id != own, || format!("our own id is a contact, at {addr}"))?;
        let shared = own.distance(contact.id.target()).leading_zeros() as usize;
        // The last bucket is for all that share as much or more.
        let bucket = shared.min(31);
        *buckets.entry(bucket).or_default() += 1;
        ids.push(contact.id);
        let (scope, subnet) = place(addr);
        demand(scope != Scope::Invalid && addr.port() != 0, || format!("nobody can be at {addr}"))?;
        if scope == Scope::Global {
            ips.push(addr.ip());
            *networks.entry((bucket, subnet)).or_default() += 1;
        }
    }
    for (bucket, n) in buckets {
        let room = bucket_capacity(bucket, config);
        demand(n <= room, || format!("{n} contacts in bucket {bucket}, room for {room}"))?;
    }
    let limit = config.max_per_subnet_in_bucket.max(1);
    for ((bucket, _), n) in networks {
        demand(n <= limit, || format!("{n} contacts of one network in bucket {bucket}"))?;
    }
    demand(all_differ(&mut ids), || "two contacts with one id".to_owned())?;
    demand(all_differ(&mut ips), || "two contacts with one address".to_owned())
}

fn place(addr: SocketAddr) -> (Scope, u64) {
    match addr {
        SocketAddr::V4(addr) => (addr.scope(), addr.subnet()),
        SocketAddr::V6(addr) => (addr.scope(), addr.subnet()),
    }
}

fn all_differ<T: Ord>(list: &mut [T]) -> bool {
    list.sort_unstable();
    list.windows(2).all(|pair| pair.first() != pair.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::server;

    fn contact(first: u8, addr: &str) -> NodeInfo {
        let mut id = [0; 20];
        id[0] = first;
        NodeInfo { id: NodeId::from_bytes(id), addr: addr.parse().unwrap() }
    }

    #[test]
    fn each_kind_of_wrong_contact_is_caught() {
        let dht = server();
        let own = contact(0, "9.9.9.9:9").id;
        let check = |contacts: &[NodeInfo]| check_contacts(&dht, own, contacts);
        let good = contact(1, "1.1.1.1:1");
        assert_eq!(check(&[good, contact(2, "2.2.2.2:2")]), Ok(()));
        assert!(check(&[contact(0, "1.1.1.1:1")]).is_err(), "own id");
        assert!(check(&[good, contact(1, "2.2.2.2:2")]).is_err(), "one id twice");
        assert!(check(&[good, contact(9, "1.1.1.1:2")]).is_err(), "one address twice");
        assert!(check(&[contact(0x80, "1.1.1.1:1"), contact(0x90, "1.1.1.2:1")]).is_err(), "/24");
        assert!(check(&[contact(1, "224.0.0.1:1")]).is_err(), "multicast");
        assert!(check(&[contact(1, "1.1.1.1:0")]).is_err(), "port 0");
        let crowd: Vec<_> = (0..9).map(|i| contact(8 + i % 8, &format!("3.3.{i}.3:1"))).collect();
        let mut crowd = crowd;
        crowd[8].id = {
            let mut id = *crowd[8].id.as_bytes();
            id[1] = 1;
            NodeId::from_bytes(id)
        };
        let words = check(&crowd).unwrap_err();
        assert!(words.contains("bucket 4"), "{words}");
    }

    #[test]
    fn what_a_panic_said_is_kept() {
        let cause = catch_unwind(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(words(&*cause), "number 7");
    }
}
