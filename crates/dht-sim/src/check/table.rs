//! I4: the routing table. Our own id is absent, every contact is in its bucket and there once,
//! buckets and networks stay within their limits, nobody is at an address that cannot be, and nobody
//! is listed who never answered a query of ours from that address under that id.
//!
//! Told from outside, from ids and addresses alone, and then by the node's own
//! [`check_invariants`](Dht::check_invariants), which also looks at candidates, lookups and stores.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dht_proto::Dht;
use dht_proto::addr::{Addr, Scope};
use dht_proto::id::NodeId;
use dht_proto::request::NodeInfo;
use dht_proto::table::bucket_capacity;
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body};

use super::{Checker, Happening, PerHost, demand};
use crate::population::FAMILIES;

/// A node is looked at after this much work, sooner if the number of its contacts changed: looking
/// takes time that grows with the square of a table. What is wrong with a table stays wrong long
/// enough for that.
const EVERY: u32 = 512;
const EVERY_CHANGE: u32 = 64;

/// The bucket nearest to our own id.
const LAST_BUCKET: usize = 31;

/// Of more nodes than this it is not remembered that they answered; then nothing is said of it.
const MAX_ANSWERED: usize = 1 << 16;

#[derive(Debug, Default)]
struct Node {
    /// What it had when it was looked at last, and how often it worked since.
    contacts: u64,
    worked: u32,
    /// Replies that counted so far.
    replies: u64,
    /// Who answered, or was there when the node began.
    answered: BTreeSet<(SocketAddr, NodeId)>,
    forgot: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tables {
    nodes: PerHost<Node>,
}

impl Checker for Tables {
    fn name(&self) -> &'static str {
        "I4 table"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.at(what) else { return Ok(()) };
        match what {
            Happening::Born { dht, .. } => {
                let first = FAMILIES.into_iter().flat_map(|family| dht.contacts(family));
                node.answered = first.map(|contact| (contact.addr, contact.id)).collect();
                check_all_contacts(dht)
            }
            Happening::Handled { from, bytes, reply: None, dht, .. } => {
                node.handled(*from, bytes, dht);
                Ok(())
            }
            Happening::Drained { dht, .. } if node.is_due(dht) => {
                check(dht)?;
                node.check_answered(dht)
            }
            _ => Ok(()),
        }
    }
}

impl Node {
    fn handled(&mut self, from: SocketAddr, bytes: &[u8], dht: &Dht) {
        let replies = dht.stats().replies_in;
        if core::mem::replace(&mut self.replies, replies) == replies {
            return;
        }
        if let Ok(message) = wire::decode(bytes)
            && let Body::Reply(reply) = message.body
        {
            if self.answered.len() >= MAX_ANSWERED {
                self.answered.clear();
                self.forgot = true;
            }
            self.answered.insert((from, reply.id));
        }
    }

    fn is_due(&mut self, dht: &Dht) -> bool {
        self.worked += 1;
        if !self.worked.is_multiple_of(EVERY_CHANGE) {
            return false;
        }
        let now = dht.stats().contacts;
        let pause = if now == self.contacts { EVERY } else { EVERY_CHANGE };
        if self.worked < pause {
            return false;
        }
        (self.contacts, self.worked) = (now, 0);
        true
    }

    fn check_answered(&self, dht: &Dht) -> Result<(), String> {
        if self.forgot {
            return Ok(());
        }
        let all = FAMILIES.into_iter().flat_map(|family| dht.contacts(family));
        let unheard = all.into_iter().find(|c| !self.answered.contains(&(c.addr, c.id)));
        unheard.map_or(Ok(()), |contact| {
            Err(format!("{} is listed as {} and never answered", contact.addr, contact.id))
        })
    }
}

/// Looks at one node.
///
/// # Errors
/// What is wrong with its table.
pub fn check(dht: &Dht) -> Result<(), String> {
    check_all_contacts(dht)?;
    catch_unwind(AssertUnwindSafe(|| dht.check_invariants())).map_err(|cause| words(&*cause))
}

fn check_all_contacts(dht: &Dht) -> Result<(), String> {
    for family in FAMILIES {
        if let Some(own) = dht.node_id(family) {
            let contacts = dht.contacts(family);
            check_contacts(dht, own, &contacts)?;
            check_buckets(own, &contacts, dht.bucket_sizes(family))?;
        }
    }
    Ok(())
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
        let bucket = bucket_of(own, contact);
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

/// The node itself has everybody in the bucket where he belongs.
fn check_buckets(
    own: NodeId,
    contacts: &[NodeInfo],
    mut sizes: impl Iterator<Item = usize>,
) -> Result<(), String> {
    let mut belong = [0; LAST_BUCKET + 1];
    for contact in contacts {
        if let Some(count) = belong.get_mut(bucket_of(own, contact)) {
            *count += 1;
        }
    }
    for (bucket, belong) in belong.into_iter().enumerate() {
        let size = sizes.next().unwrap_or_default();
        demand(size == belong, || {
            format!("bucket {bucket} has {size} contacts, and {belong} belong there")
        })?;
    }
    demand(sizes.all(|size| size == 0), || "there are contacts beyond the last bucket".to_owned())
}

/// The bucket where a contact belongs. The last one is for all that share as much with us or more.
fn bucket_of(own: NodeId, contact: &NodeInfo) -> usize {
    (own.distance(contact.id.target()).leading_zeros() as usize).min(LAST_BUCKET)
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
    use crate::check::testing::{pong, server};
    use crate::world::HostId;

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
    fn a_contact_in_another_bucket_is_caught() {
        let own = contact(0, "9.9.9.9:9").id;
        let contacts =
            [contact(0x80, "1.1.1.1:1"), contact(1, "2.2.2.2:2"), contact(0, "3.3.3.3:3")];
        let sizes = |wrong: Option<usize>| {
            (0..32).map(move |i| match i {
                _ if Some(i) == wrong => 2,
                0 | 7 | LAST_BUCKET => 1,
                _ => 0,
            })
        };
        assert_eq!(check_buckets(own, &contacts, sizes(None)), Ok(()));
        for bucket in 0..32 {
            assert!(check_buckets(own, &contacts, sizes(Some(bucket))).is_err(), "{bucket}");
        }
        assert!(check_buckets(own, &contacts, sizes(None).take(8)).is_err(), "one is not told");
        assert!(check_buckets(own, &contacts, sizes(None).chain([1])).is_err(), "one too many");
    }

    /// Somebody whom the node asks and who answers, and somebody whom only the node heard.
    #[test]
    fn a_contact_that_never_answered_is_caught() {
        for shown in [true, false] {
            let (mut checker, mut dht) = (Tables::default(), server());
            let (host, local) = (HostId(0), Instant::from_secs(2));
            checker.happened(local, &Happening::Born { host, local, dht: &dht }).unwrap();
            let from = "1.2.3.4:5".parse().unwrap();
            let mut buf = [0; dht_proto::MAX_DATAGRAM];
            dht.start(local, &dht_proto::request::Lookup::Ping { addr: from }).unwrap();
            let sent = dht.poll_transmit(local, &mut buf).unwrap();
            let reply = pong(wire::decode(&buf[..sent.len]).unwrap().tid);
            let _ = dht.handle_datagram(local, from, &reply, &mut buf);
            assert_eq!(dht.contacts(dht_proto::addr::Family::V4).len(), 1);
            if shown {
                let bytes = &reply;
                let what = Happening::Handled { host, local, from, bytes, reply: None, dht: &dht };
                checker.happened(local, &what).unwrap();
            }
            let drained = Happening::Drained { host, local, due: None, dht: &dht };
            let is_fine = (0..EVERY_CHANGE).all(|_| checker.happened(local, &drained).is_ok());
            assert_eq!(is_fine, shown);
        }
    }

    #[test]
    fn what_a_panic_said_is_kept() {
        let cause = catch_unwind(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(words(&*cause), "number 7");
    }
}
