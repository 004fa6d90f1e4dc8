//! I6: what is stored. Nothing without a token that this node gave to that address within two
//! rotations; no item whose signature does not match or that is too large; no version older than
//! the one there is. What is served was stored, by somebody, and has not expired. Users are told of
//! no item that is not what they asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dht_proto::Dht;
use dht_proto::addr::Family;
use dht_proto::id::{InfoHash, ItemId, Target};
use dht_proto::item::Item;
use dht_proto::request::{Event, Lookup, LookupId};
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body, Method, Put, Query, Reply};

use super::authentic::{Authentic, Signed};
use super::{Checker, Happening, PerHost, demand};

/// Tokens remembered for each node. Past that the checker says nothing about tokens any more.
const MAX_TOKENS: usize = 1 << 16;
/// Peers are kept to the end of a whole second, so at most so much longer than their lifetime.
pub(super) const PEER_ROUNDING: Duration = Duration::from_secs(1);

/// An item that was put, of a family's node.
type ItemKey = (Family, ItemId);

#[derive(Debug)]
struct Kept {
    /// `seq` of a mutable item.
    seq: Option<i64>,
    value: Vec<u8>,
    /// Until then it is there.
    lives: Instant,
    /// From then on it is gone. The same but for what is not known of the node's clock.
    gone: Instant,
}

/// What the nodes of one host take the time for. Those of both families go by the same clock, but do
/// not look at it at the same time; one that is set back stands still for each of them.
#[derive(Debug, Default)]
struct Clocks {
    /// At least this, on IPv4 and IPv6.
    least: [Instant; 2],
    /// At most this.
    most: Instant,
}

impl Clocks {
    /// Somebody looks at the clock.
    fn show(&mut self, local: Instant) {
        self.most = self.most.max(local);
    }

    /// The node of a family looks at the clock.
    fn show_to(&mut self, family: Family, local: Instant) {
        self.show(local);
        let [v4, v6] = &mut self.least;
        let least = if family == Family::V4 { v4 } else { v6 };
        *least = local.max(*least);
    }

    const fn least(&self, family: Family) -> Instant {
        let [v4, v6] = self.least;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    rotation: Duration,
    peer_lifetime: Duration,
    item_lifetime: Duration,
    max_items: u64,
    clocks: Clocks,
    /// When each token was last given to an address for a target.
    tokens: BTreeMap<(IpAddr, Target, Vec<u8>), Instant>,
    forgot_tokens: bool,
    peers: BTreeMap<(InfoHash, SocketAddr), Instant>,
    items: BTreeMap<ItemKey, Kept>,
    /// What its users look for.
    wanted: BTreeMap<LookupId, ItemId>,
    /// It was full, so that items may have gone before their time.
    was_full: bool,
    /// Until then it may serve items of a snapshot.
    restored_until: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Storage {
    nodes: PerHost<Node>,
    authentic: Authentic,
}

impl Checker for Storage {
    fn name(&self) -> &'static str {
        "I6 storage"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.at(what) else { return Ok(()) };
        let authentic = &mut self.authentic;
        if let Some(local) = what.local() {
            node.clocks.show(local);
        }
        match what {
            Happening::Born { dht, .. } => {
                node.born(dht);
                Ok(())
            }
            Happening::Started { id, lookup, .. } => {
                if let Some(wanted) = wanted_by(lookup) {
                    node.wanted.insert(*id, wanted);
                }
                Ok(())
            }
            Happening::Cancelled { id, .. } => {
                node.wanted.remove(id);
                Ok(())
            }
            Happening::Told { event: Event::Item { lookup, item, .. }, .. } => {
                node.told(*lookup, item, authentic)
            }
            Happening::Told { event: Event::Done { lookup, outcome }, .. } => {
                let found = outcome.item.as_deref();
                found.map_or(Ok(()), |item| node.told(*lookup, item, authentic))?;
                node.wanted.remove(lookup);
                Ok(())
            }
            Happening::Handled { local, from, bytes, reply: Some((_, reply)), dht, .. } => {
                node.clocks.show_to(Family::of(from), *local);
                let (Ok(asked), Ok(answer)) = (wire::decode(bytes), wire::decode(reply)) else {
                    return Ok(());
                };
                match (asked.body, answer.body) {
                    (Body::Query(query), Body::Reply(reply)) => {
                        node.answered(*from, &query, &reply, (dht, authentic))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The item that a lookup is for.
fn wanted_by(lookup: &Lookup) -> Option<ItemId> {
    match lookup {
        Lookup::GetItem { target, .. } => Some(*target),
        Lookup::PutItem { item, .. } => Some(item.id()),
        _ => None,
    }
}

impl Node {
    fn born(&mut self, dht: &Dht) {
        let Some(config) = dht.config() else { return };
        self.rotation = config.token_rotation;
        self.peer_lifetime = config.peer_lifetime;
        self.item_lifetime = config.item_lifetime;
        self.max_items = config.max_items as u64;
        self.restored_until = (dht.stats().items > 0).then_some(Instant::FAR_FUTURE);
    }

    fn answered(
        &mut self,
        from: SocketAddr,
        query: &Query<'_>,
        reply: &Reply<'_>,
        (dht, authentic): (&Dht, &mut Authentic),
    ) -> Result<(), String> {
        match &query.method {
            Method::GetPeers { info_hash, .. } => {
                self.gave(from, info_hash.target(), reply);
                self.told_peers(Family::of(&from), *info_hash, reply)
            }
            Method::Get { target, .. } => {
                self.gave(from, target.target(), reply);
                self.told_item((Family::of(&from), *target), reply)
            }
            Method::AnnouncePeer { info_hash, port, implied_port, token, .. } => {
                self.check_token(from, info_hash.target(), token)?;
                let mut peer = from;
                peer.set_port(if *implied_port { from.port() } else { *port });
                let gone = self.clocks.most + self.peer_lifetime + PEER_ROUNDING;
                self.peers.insert((*info_hash, peer), gone);
                Ok(())
            }
            Method::Put(put) => {
                self.was_full |= dht.stats().items >= self.max_items;
                self.stored(from, put, authentic)
            }
            _ => Ok(()),
        }
    }

    fn gave(&mut self, to: SocketAddr, target: Target, reply: &Reply<'_>) {
        let Some(token) = reply.token else { return };
        if self.tokens.len() >= MAX_TOKENS {
            let (now, rotation) = (self.clocks.most, self.rotation);
            self.tokens.retain(|_, at| *at + 2 * rotation > now);
            if self.tokens.len() >= MAX_TOKENS {
                self.tokens.clear();
                self.forgot_tokens = true;
            }
        }
        self.tokens.insert((to.ip(), target, token.to_vec()), self.clocks.most);
    }

    fn check_token(&self, from: SocketAddr, target: Target, token: &[u8]) -> Result<(), String> {
        if self.forgot_tokens {
            return Ok(());
        }
        let given = self.tokens.get(&(from.ip(), target, token.to_vec()));
        let given = given.ok_or_else(|| format!("{from} stores with a token that it never got"))?;
        let age = self.clocks.least(Family::of(&from)).since(*given);
        demand(age <= 2 * self.rotation, || {
            format!("{from} stores with a token that is {} s old", age.as_secs())
        })
    }

    fn stored(
        &mut self,
        from: SocketAddr,
        put: &Put<'_>,
        authentic: &mut Authentic,
    ) -> Result<(), String> {
        let signed = put.mutable.as_ref().map(|mutable| Signed {
            public_key: mutable.public_key,
            salt: mutable.salt,
            seq: mutable.seq,
            signature: mutable.signature,
        });
        let id = authentic.id_of(put.v, signed);
        let id = id.map_err(|why| format!("an item of {from} is stored, and is none: {why}"))?;
        self.check_token(from, id.target(), put.token)?;
        let key = (Family::of(&from), id);
        let seq = put.mutable.as_ref().map(|mutable| mutable.seq);
        if let Some(known) = self.items.get(&key)
            && known.lives > self.clocks.most
            && !self.was_full
        {
            demand(seq >= known.seq, || format!("seq {seq:?} is stored after {:?}", known.seq))?;
            let same = seq != known.seq || put.v == known.value;
            demand(same, || format!("another value is stored under seq {seq:?}"))?;
            let cas = put.mutable.as_ref().and_then(|mutable| mutable.cas);
            demand(cas.is_none() || cas == known.seq, || {
                format!("cas {cas:?} is stored over {:?}", known.seq)
            })?;
        }
        let lives = self.clocks.least(key.0) + self.item_lifetime;
        let gone = self.clocks.most + self.item_lifetime;
        self.items.insert(key, Kept { seq, value: put.v.to_vec(), lives, gone });
        Ok(())
    }

    /// A lookup found an item, and its user hears of it.
    fn told(&self, lookup: LookupId, item: &Item, authentic: &mut Authentic) -> Result<(), String> {
        let signed = item.signed().map(|signed| Signed {
            public_key: &signed.public_key,
            salt: &signed.salt,
            seq: signed.seq,
            signature: &signed.signature,
        });
        let id = authentic.id_of(item.value(), signed);
        let id = id.map_err(|why| format!("{lookup:?} found an item that is none: {why}"))?;
        let wanted = self.wanted.get(&lookup);
        demand(wanted == Some(&id), || format!("{lookup:?} is for {wanted:?} and found {id:?}"))
    }

    fn told_peers(
        &self,
        family: Family,
        info_hash: InfoHash,
        reply: &Reply<'_>,
    ) -> Result<(), String> {
        let now = self.clocks.least(family);
        for peer in reply.values.iter().flat_map(|values| values.iter()) {
            let gone = self.peers.get(&(info_hash, peer));
            let gone = gone.ok_or_else(|| format!("{peer} never announced, and is told"))?;
            demand(now < *gone, || format!("{peer} expired, and is told"))?;
        }
        Ok(())
    }

    fn told_item(&self, key: ItemKey, reply: &Reply<'_>) -> Result<(), String> {
        if reply.v.is_none() && reply.seq.is_none() {
            return Ok(());
        }
        let Some(known) = self.items.get(&key) else {
            return demand(self.restored_until.is_some(), || {
                format!("{:?} was never put, and is told", key.1)
            });
        };
        let now = self.clocks.least(key.0);
        demand(now < known.gone, || format!("{:?} expired, and is told", key.1))?;
        demand(reply.v.is_none_or(|v| v == known.value) && reply.seq == known.seq, || {
            format!("{:?} is told as seq {:?}, and is seq {:?}", key.1, reply.seq, known.seq)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{encode, query, server};
    use crate::world::HostId;
    use dht_proto::id::NodeId;
    use dht_proto::request::Outcome;
    use dht_proto::wire::PutMutable;
    use ed25519_dalek::SigningKey;

    const TOKEN: &[u8] = b"12345678";

    struct Test {
        checker: Storage,
        dht: Dht,
    }

    impl Test {
        fn new() -> Self {
            let (mut checker, dht) = (Storage::default(), server());
            let what = Happening::Born { host: HostId(0), local: Instant::ZERO, dht: &dht };
            checker.happened(Instant::ZERO, &what).unwrap();
            Self { checker, dht }
        }

        /// A query of `from` at a second, that is answered so.
        fn at(
            &mut self,
            secs: u64,
            from: &str,
            method: Method<'_>,
            set: impl FnOnce(&mut Reply<'_>),
        ) -> Result<(), String> {
            let mut reply = Reply::new(NodeId::from_bytes([2; 20]));
            set(&mut reply);
            let (bytes, reply) = (query(b"aa", method), encode(b"aa", Body::Reply(reply)));
            let (local, from) = (Instant::from_secs(secs), from.parse().unwrap());
            let what = Happening::Handled {
                host: HostId(0),
                local,
                from,
                bytes: &bytes,
                reply: Some((from, &reply)),
                dht: &self.dht,
            };
            self.checker.happened(local, &what)
        }

        fn token(&mut self, secs: u64, from: &str, target: Target) {
            let method = Method::Get { target: target.item_id(), seq: None };
            self.at(secs, from, method, |reply| reply.token = Some(TOKEN)).unwrap();
        }
    }

    fn announce(info_hash: InfoHash) -> Method<'static> {
        let (port, implied_port, seed) = (7, false, false);
        Method::AnnouncePeer { info_hash, port, implied_port, seed, token: TOKEN }
    }

    #[test]
    fn stores_without_a_token_of_that_address_or_with_an_old_one_are_caught() {
        let hash = InfoHash::from_bytes([9; 20]);
        let mut test = Test::new();
        assert!(test.at(1, "1.2.3.4:5", announce(hash), |_| ()).is_err(), "no token");
        test.token(1, "1.2.3.4:5", hash.target());
        assert_eq!(test.at(2, "1.2.3.4:9", announce(hash), |_| ()), Ok(()));
        assert!(test.at(2, "1.2.3.5:5", announce(hash), |_| ()).is_err(), "another's");
        let other = InfoHash::from_bytes([8; 20]);
        assert!(test.at(2, "1.2.3.4:5", announce(other), |_| ()).is_err(), "elsewhere");
        assert_eq!(test.at(600, "1.2.3.4:5", announce(hash), |_| ()), Ok(()));
        assert_eq!(test.at(601, "1.2.3.4:5", announce(hash), |_| ()), Ok(()));
        assert!(test.at(602, "1.2.3.4:5", announce(hash), |_| ()).is_err(), "too old");
    }

    #[test]
    fn peers_that_never_came_or_are_gone_are_caught() {
        let info_hash = InfoHash::from_bytes([9; 20]);
        let mut test = Test::new();
        let told = |test: &mut Test, secs| {
            let values = b"6:\x01\x02\x03\x04\x00\x07";
            let list = [&b"l"[..], values, b"e"].concat();
            let full =
                [&b"d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa6:values"[..], &list, b"e1:t2:aa1:y1:re"];
            let full = full.concat();
            let Body::Reply(read) = wire::decode(&full).unwrap().body else { unreachable!() };
            let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
            let values = read.values;
            let node = test.checker.nodes.of(HostId(0));
            node.clocks.show_to(Family::V4, Instant::from_secs(secs));
            let mut reply = Reply::new(NodeId::from_bytes([2; 20]));
            reply.values = values;
            let query =
                Query { id: NodeId::from_bytes([1; 20]), want: wire::Want::default(), method };
            let beside = (&test.dht, &mut Authentic::default());
            node.answered("9.9.9.9:9".parse().unwrap(), &query, &reply, beside)
        };
        assert!(told(&mut test, 1).is_err(), "never announced");
        test.token(1, "1.2.3.4:5", info_hash.target());
        test.at(2, "1.2.3.4:5", announce(info_hash), |_| ()).unwrap();
        assert_eq!(told(&mut test, 2_702), Ok(()), "to the end of the second");
        assert!(told(&mut test, 2_703).is_err(), "expired");
    }

    fn put(test: &mut Test, secs: u64, seq: i64, v: &[u8], forge: bool) -> Result<(), String> {
        let key = SigningKey::from_bytes(&[5; 32]);
        let item = Item::sign(&key, b"", seq, v).unwrap();
        let signed = item.signed().unwrap();
        let mut signature = signed.signature;
        signature[0] ^= u8::from(forge);
        test.token(secs, "1.2.3.4:5", item.id().target());
        let mutable = PutMutable {
            public_key: &signed.public_key,
            salt: b"",
            seq,
            signature: &signature,
            cas: None,
        };
        let method = Method::Put(Put { token: TOKEN, v, mutable: Some(mutable) });
        test.at(secs, "1.2.3.4:5", method, |_| ())
    }

    #[test]
    fn older_versions_other_values_and_forgeries_are_caught() {
        let mut test = Test::new();
        assert_eq!(put(&mut test, 1, 5, b"1:a", false), Ok(()));
        assert_eq!(put(&mut test, 2, 5, b"1:a", false), Ok(()), "renewed");
        assert_eq!(put(&mut test, 3, 6, b"1:b", false), Ok(()));
        assert!(put(&mut test, 4, 6, b"1:c", false).is_err());
        assert!(put(&mut test, 4, 5, b"1:a", false).is_err());
        assert!(put(&mut test, 4, 7, b"1:a", true).is_err());
        assert_eq!(put(&mut test, 7_300, 1, b"1:a", false), Ok(()), "it had expired");
    }

    #[test]
    fn a_put_that_compares_with_another_version_is_caught() {
        for (cas, fine) in [(None, true), (Some(5), true), (Some(4), false)] {
            let mut test = Test::new();
            put(&mut test, 1, 5, b"1:a", false).unwrap();
            let item = Item::sign(&SigningKey::from_bytes(&[5; 32]), b"", 6, b"1:b").unwrap();
            let signed = item.signed().unwrap();
            let (public_key, signature) = (&signed.public_key, &signed.signature);
            let mutable = PutMutable { public_key, salt: b"", seq: 6, signature, cas };
            let method = Method::Put(Put { token: TOKEN, v: b"1:b", mutable: Some(mutable) });
            assert_eq!(test.at(2, "1.2.3.4:5", method, |_| ()).is_ok(), fine, "{cas:?}");
        }
    }

    #[test]
    fn an_item_told_with_another_value_or_version_is_caught() {
        let mut test = Test::new();
        put(&mut test, 1, 5, b"1:a", false).unwrap();
        let key = SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes();
        let target = ItemId::of_mutable(&key, b"");
        for (v, seq, fine) in
            [(b"1:a", Some(5), true), (b"1:b", Some(5), false), (b"1:a", Some(4), false)]
        {
            let told = |reply: &mut Reply<'_>| (reply.v, reply.seq) = (Some(&v[..]), seq);
            let get = Method::Get { target, seq: None };
            assert_eq!(test.at(2, "1.2.3.4:5", get, told).is_ok(), fine, "{v:?} {seq:?}");
        }
    }

    #[test]
    fn items_that_nobody_put_or_that_expired_are_caught() {
        let target = ItemId::of_immutable(b"1:a");
        let mut test = Test::new();
        let get = Method::Get { target, seq: None };
        let value = |reply: &mut Reply<'_>| reply.v = Some(b"1:a");
        assert!(test.at(1, "1.2.3.4:5", get, value).is_err(), "never put");
        test.token(1, "1.2.3.4:5", target.target());
        let put = Method::Put(Put { token: TOKEN, v: b"1:a", mutable: None });
        test.at(1, "1.2.3.4:5", put, |_| ()).unwrap();
        assert_eq!(test.at(7_200, "1.2.3.4:5", get, value), Ok(()));
        assert!(test.at(7_201, "1.2.3.4:5", get, value).is_err(), "expired");
    }

    #[test]
    fn an_item_that_nobody_signed_or_that_was_not_asked_for_is_caught_when_users_hear_of_it() {
        let item = Item::sign(&SigningKey::from_bytes(&[5; 32]), b"", 6, b"1:b").unwrap();
        let believing = |_: &[u8; 32], _: &[u8], _: &[u8; 64]| true;
        let signed = item.signed().unwrap();
        let forged = Item::verified(b"1:c", signed.clone(), believing).unwrap();
        let other = Item::sign(&SigningKey::from_bytes(&[6; 32]), b"", 6, b"1:b").unwrap();
        for (found, fine) in [(&item, true), (&forged, false), (&other, false)] {
            let mut test = Test::new();
            let get = Lookup::GetItem { target: item.id(), salt: Vec::new(), newer_than: None };
            let id = test.dht.start(Instant::from_secs(2), &get).unwrap();
            let (host, local) = (HostId(0), Instant::from_secs(2));
            let mut tell = |what: &Happening<'_>| test.checker.happened(local, what);
            tell(&Happening::Started { host, local, id, lookup: &get }).unwrap();
            let mut outcome = Outcome::default();
            outcome.item = Some(Box::new(found.clone()));
            let event = Event::Done { lookup: id, outcome: Box::new(outcome) };
            let told = tell(&Happening::Told { host, event: &event });
            assert_eq!(told.is_ok(), fine, "{told:?}");
        }
    }
}
