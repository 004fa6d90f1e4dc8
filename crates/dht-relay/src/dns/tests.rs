#![expect(clippy::wildcard_enum_match_arm, reason = "any other step is a failure")]

use std::collections::BTreeMap;

use core::time::Duration;

use dht_pkarr::record::Txt;
use dht_pkarr::{Builder, CachedPacket, Keypair, Timestamp};

use super::*;
use crate::front::Options;
use crate::quota::Quota;
use dht_pkarr_client::Origin;

const BEGIN: u64 = 1_700_000_000;

/// A server with a cache, and what the DHT has.
struct Server {
    front: Front,
    cache: BTreeMap<PublicKey, CachedPacket>,
    dht: BTreeMap<PublicKey, SignedPacket>,
    secs: u64,
    looked_up: u32,
}

fn keypair(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn key(number: u8) -> String {
    keypair(number).public_key().to_string()
}

fn packet(number: u8, fill: impl FnOnce(Builder) -> Builder) -> SignedPacket {
    fill(SignedPacket::builder()).sign(&keypair(number), Timestamp::from_secs(BEGIN)).unwrap()
}

fn query(name: &str, kind: u16) -> Message {
    let mut message = Message::new(0xabcd, flag::RECURSION_DESIRED);
    let name = name.parse().unwrap();
    message.questions.push(Question { name, kind, class: CLASS_IN });
    message
}

fn edns(size: u16, ttl: u32) -> Record {
    let data = Rdata::Other { kind: 41, data: Vec::new() };
    let mut record = Record::new(Name::root(), ttl, data);
    record.class = size;
    record
}

fn user() -> User {
    core::net::IpAddr::from([192, 0, 2, 1]).into()
}

impl Server {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { work_quota: None, dns_quota: None, ..Options::default() };
        change(&mut options);
        Self {
            front: Front::new(options),
            cache: BTreeMap::new(),
            dht: BTreeMap::new(),
            secs: BEGIN,
            looked_up: 0,
        }
    }

    fn publish(mut self, number: u8, fill: impl FnOnce(Builder) -> Builder) -> Self {
        self.dht.insert(keypair(number).public_key(), packet(number, fill));
        self
    }

    fn now(&self) -> Now {
        let elapsed = Duration::from_secs(self.secs - BEGIN);
        Now { wall: Timestamp::from_secs(self.secs), elapsed }
    }

    fn step(&mut self, transport: Transport, bytes: &[u8]) -> Step {
        let (now, cache) = (self.now(), &self.cache);
        self.front.handle_dns(now, user(), transport, bytes, &|key| cache.get(key).cloned())
    }

    /// What the DHT has of a key.
    fn look_up(&mut self, key: &PublicKey) -> Result<Found, ResolveError> {
        self.looked_up += 1;
        let packet = self.dht.get(key).ok_or(ResolveError::NotFound)?;
        let packet = CachedPacket::new(packet.clone(), self.now().wall);
        self.cache.insert(*key, packet.clone());
        Ok(Found { packet, origin: Origin::Dht })
    }

    /// Looks up what is wanted.
    fn resolve(&mut self) -> Vec<(Ticket, Result<Found, ResolveError>)> {
        let mut resolved = Vec::new();
        while let Some(resolution) = self.front.poll_resolution() {
            let result = self.look_up(&resolution.key());
            let told = result.as_ref().map_err(|error| *error);
            self.front.handle_resolved(self.now(), &resolution, told);
            resolved.push((resolution.ticket(), result));
        }
        resolved
    }

    fn found(&mut self, query: Box<Query>, result: Result<Found, ResolveError>) -> Step {
        let (now, cache) = (self.now(), &self.cache);
        self.front.handle_dns_found(now, query, result, &|key| cache.get(key).cloned())
    }

    /// Goes on until there is something to send.
    fn settle(&mut self, mut step: Step) -> Step {
        while let Step::Resolve(query) = step {
            let resolved = self.resolve();
            let (ticket, result) = resolved.into_iter().last().unwrap();
            assert_eq!(query.ticket(), Some(ticket));
            step = self.found(query, result);
        }
        step
    }

    fn bytes(&mut self, transport: Transport, message: &Message) -> Vec<u8> {
        let step = self.step(transport, &message.to_bytes().unwrap());
        match self.settle(step) {
            Step::Reply(bytes) => bytes,
            step => panic!("{step:?}"),
        }
    }

    fn ask(&mut self, transport: Transport, message: &Message) -> Message {
        let bytes = self.bytes(transport, message);
        let reply = Message::from_bytes(&bytes).unwrap();
        assert_eq!(reply.id, message.id);
        assert!(reply.flags & flag::REPLY != 0);
        reply
    }

    fn look(&mut self, name: &str, kind: u16) -> Message {
        let reply = self.ask(Transport::Udp, &query(name, kind));
        assert_eq!(reply.questions, query(name, kind).questions);
        reply
    }
}

fn rcode(reply: &Message) -> u16 {
    reply.flags & flag::RCODE
}

fn texts(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

fn www() -> Server {
    Server::new().publish(1, |builder| {
        builder.address("@", [192, 0, 2, 1].into(), 7_200).address("www", [192, 0, 2, 2].into(), 60)
    })
}

#[test]
fn names_under_a_key_are_answered_from_its_packet() {
    let mut server = www();
    let reply = server.look(&format!("www.{}", key(1)), kind::A);
    assert_eq!(texts(&reply), ["192.0.2.2"]);
    let expected = flag::REPLY | flag::RECURSION_DESIRED | flag::RECURSION_AVAILABLE;
    assert_eq!(reply.flags, expected);
    assert!(reply.authorities.is_empty() && reply.additional.is_empty());
    // Whoever mixes cases gets them back (RFC 4343), and the second time nobody is asked.
    let mixed = format!("WwW.{}", key(1).to_uppercase());
    let reply = server.look(&mixed, kind::A);
    assert_eq!(reply.answers[0].name.to_string(), mixed);
    assert_eq!(server.looked_up, 1);
}

#[test]
fn nobody_keeps_what_has_to_be_looked_up_again() {
    let mut server = www();
    server.look(&key(1), kind::A);
    server.secs += 50;
    // The packet is good for as long as its shortest record, but at least five minutes.
    assert_eq!(server.look(&key(1), kind::A).answers[0].ttl, 250);
    assert_eq!(server.look(&format!("www.{}", key(1)), kind::A).answers[0].ttl, 60);
    assert_eq!(server.looked_up, 1);
    server.secs += 250;
    assert_eq!(server.look(&key(1), kind::A).answers[0].ttl, 300);
    assert_eq!(server.looked_up, 2);
}

#[test]
fn what_is_not_there_is_told_with_its_authority() {
    let mut server = www();
    let reply = server.look(&format!("www.{}", key(1)), kind::AAAA);
    assert_eq!((rcode(&reply), reply.answers.len()), (0, 0));
    assert_eq!(reply.authorities[0].name.to_string(), key(1));
    assert_eq!((reply.authorities[0].data.kind(), reply.authorities[0].ttl), (6, 60));
    let reply = server.look(&format!("x.{}", key(1)), kind::A);
    assert_eq!((rcode(&reply), reply.authorities.len()), (3, 1));
    let reply = server.look(&key(1), 6);
    assert_eq!((rcode(&reply), reply.answers[0].data.kind()), (0, 6));
    // RFC 1035, 3.3.13: two names and five numbers, the last for how long there is nothing.
    let Rdata::Other { data, .. } = &reply.answers[0].data else { panic!("SOA has no other form") };
    assert_eq!(data.len(), 54 + 11 + 54 + 20);
    assert_eq!(data[data.len() - 4..], 60_u32.to_be_bytes());
    assert_eq!(data[119..123], (BEGIN as u32).to_be_bytes());
}

#[test]
fn a_key_without_a_packet_is_remembered_for_a_while() {
    let mut server = Server::new();
    let reply = server.look(&key(1), kind::A);
    assert_eq!((rcode(&reply), reply.authorities[0].ttl), (3, 60));
    server.secs += 59;
    let reply = server.look(&format!("www.{}", key(1)), kind::A);
    assert_eq!((rcode(&reply), reply.authorities[0].ttl), (3, 1));
    assert_eq!(server.looked_up, 1);
    server.secs += 1;
    server.look(&key(1), kind::A);
    assert_eq!(server.looked_up, 2);
}

#[test]
fn a_key_without_a_packet_is_remembered_although_there_was_one() {
    let mut server = www();
    server.look(&key(1), kind::A);
    server.dht.clear();
    server.secs += 300;
    assert_eq!(rcode(&server.look(&key(1), kind::A)), 3);
    assert_eq!(rcode(&server.look(&key(1), kind::A)), 3);
    assert_eq!(server.looked_up, 2);
}

#[test]
fn what_is_fresh_is_answered_at_once_and_refreshed_once_in_a_while() {
    let mut server = www().publish(2, |builder| builder.txt("@", "x", 3_600));
    server.look(&key(2), kind::TXT);
    server.dht.clear();
    server.secs += 300;
    let ask = query(&key(2), kind::TXT).to_bytes().unwrap();
    for _ in 0..3 {
        // Nobody waits for the refreshing, and whether it can be begun is nothing to whoever asks.
        assert!(matches!(server.step(Transport::Udp, &ask), Step::Reply(_)));
    }
    let resolution = server.front.poll_resolution().unwrap();
    assert_eq!(
        (resolution.policy(), resolution.transport()),
        (Policy::NetworkOnly, Transport::Udp)
    );
    let now = server.now();
    server.front.handle_resolved(now, &resolution, Err(ResolveError::NotFound));
    // It found nothing, and the next try is five minutes later.
    server.secs += 299;
    assert!(matches!(server.step(Transport::Udp, &ask), Step::Reply(_)));
    assert!(server.front.poll_resolution().is_none());
    server.secs += 1;
    assert!(matches!(server.step(Transport::Tcp, &ask), Step::Reply(_)));
    assert_eq!(server.front.poll_resolution().unwrap().transport(), Transport::Tcp);
    assert_eq!((server.front.stats().refreshes, server.front.stats().lookups), (2, 1));
}

#[test]
fn who_wants_a_key_that_is_being_looked_up_waits_for_that() {
    let mut server = Server::with(|options| options.work_quota = Some("1r/d".parse().unwrap()))
        .publish(1, |builder| builder.address("@", [192, 0, 2, 1].into(), 60));
    let ask = query(&key(1), kind::A).to_bytes().unwrap();
    let waiting: Vec<_> = [Transport::Udp, Transport::Udp, Transport::Tcp, Transport::Http]
        .into_iter()
        .map(|transport| match server.step(transport, &ask) {
            Step::Resolve(query) => query,
            step => panic!("{step:?}"),
        })
        .collect();
    let resolved = server.resolve();
    assert_eq!(resolved.len(), 1);
    for query in waiting {
        assert_eq!(query.ticket(), Some(resolved[0].0));
        assert!(matches!(server.found(query, resolved[0].1.clone()), Step::Reply(_)));
    }
    // One token was taken, of whoever was the first; who comes later begins another.
    assert_eq!((server.front.stats().lookups_shared, server.front.users()[3]), (3, 0));
    server.cache.clear();
    assert!(matches!(server.step(Transport::Tcp, &ask), Step::Resolve(_)));
    assert_eq!((server.resolve().len(), server.front.users()[3]), (1, 1));
}

#[test]
fn failures_are_no_answers() {
    for error in [ResolveError::NoAnswer, ResolveError::NotAPacket { seq: 1 }] {
        let mut server = www();
        let bytes = query(&key(1), kind::A).to_bytes().unwrap();
        let Step::Resolve(query) = server.step(Transport::Udp, &bytes) else { panic!("not known") };
        let (now, resolution) = (server.now(), server.front.poll_resolution().unwrap());
        server.front.handle_resolved(now, &resolution, Err(error));
        let step = server.found(query, Err(error));
        let Step::Reply(reply) = step else { panic!("{step:?}") };
        assert_eq!(reply[3] & 15, 2);
        // It is not remembered.
        assert_eq!(texts(&server.look(&key(1), kind::A)), ["192.0.2.1"]);
    }
}

#[test]
fn aliases_are_followed_inside_a_packet_and_to_other_keys() {
    let mut server = Server::new()
        .publish(1, |builder| {
            builder
                .cname("a", format!("b.{}", key(1)).parse().unwrap(), 60)
                .cname("b", format!("c.{}", key(2)).parse().unwrap(), 60)
                .cname("lost", format!("x.{}", key(2)).parse().unwrap(), 60)
                .cname("nowhere", key(3).parse().unwrap(), 60)
                .cname("out", "example.com".parse().unwrap(), 60)
        })
        .publish(2, |builder| builder.address("c", [192, 0, 2, 3].into(), 60));
    let reply = server.look(&format!("a.{}", key(1)), kind::A);
    let expected = [format!("b.{}.", key(1)), format!("c.{}.", key(2)), "192.0.2.3".to_owned()];
    assert_eq!((rcode(&reply), texts(&reply)), (0, expected.into()));
    assert_eq!(server.looked_up, 2);
    let reply = server.look(&format!("a.{}", key(1)), kind::CNAME);
    assert_eq!(reply.answers.len(), 1);
    // RFC 2308, 2.1: the code and the authority are those of the last name.
    for (name, authority) in [("lost", key(2)), ("nowhere", key(3))] {
        let reply = server.look(&format!("{name}.{}", key(1)), kind::A);
        assert_eq!((rcode(&reply), reply.answers.len()), (3, 1));
        assert_eq!(reply.authorities[0].name.to_string(), authority);
    }
    let reply = server.look(&format!("out.{}", key(1)), kind::A);
    assert_eq!((rcode(&reply), texts(&reply)), (0, vec!["example.com.".to_owned()]));
}

#[test]
fn circles_and_long_chains_of_aliases_end() {
    let mut server = Server::new()
        .publish(1, |builder| {
            builder
                .cname("self", format!("self.{}", key(1)).parse().unwrap(), 60)
                .cname("over", format!("over.{}", key(2)).parse().unwrap(), 60)
                .cname("*", format!("a.a.{}", key(1)).parse().unwrap(), 60)
        })
        .publish(2, |builder| {
            builder.cname("over", format!("over.{}", key(1)).parse().unwrap(), 60)
        });
    for name in ["self", "over", "x"] {
        let reply = server.look(&format!("{name}.{}", key(1)), kind::A);
        assert_eq!(rcode(&reply), 2, "{name}");
    }
    assert_eq!(server.looked_up, 2);
}

#[test]
fn what_does_not_fit_a_datagram_is_cut_and_comes_whole_over_tcp() {
    let long = Txt::new([b'x'; 700]);
    let mut server =
        Server::new().publish(1, |builder| builder.txt("@", long, 60).txt("short", "x", 60));
    let mut message = query(&key(1), kind::TXT);
    let reply = server.ask(Transport::Udp, &message);
    assert!(reply.flags & flag::TRUNCATED != 0 && reply.answers.is_empty());
    for transport in [Transport::Tcp, Transport::Http] {
        let reply = server.ask(transport, &message);
        assert!(reply.flags & flag::TRUNCATED == 0 && reply.answers.len() == 1);
    }
    // With EDNS it fits, if the client takes that much.
    for (size, fits) in [(0, false), (512, false), (1_232, true), (u16::MAX, true)] {
        message.additional = vec![edns(size, 0x8000)];
        let bytes = server.bytes(Transport::Udp, &message);
        assert!(bytes.len() <= usize::from(size).max(MIN_UDP_LEN));
        let reply = Message::from_bytes(&bytes).unwrap();
        assert_eq!(reply.flags & flag::TRUNCATED == 0, fits, "{size}");
        // RFC 6891, 6.1.1: who asks with it is answered with it; the bit comes back (RFC 3225).
        assert_eq!(reply.additional, [edns(MAX_UDP_LEN as u16, 0x8000)]);
    }
    let reply = server.look(&format!("short.{}", key(1)), kind::TXT);
    assert_eq!(reply.flags & flag::TRUNCATED, 0);
}

#[test]
fn any_gives_little_where_the_source_may_be_forged() {
    let mut server = www();
    let message = query(&key(1), kind::ANY);
    let reply = server.ask(Transport::Udp, &message);
    assert_eq!(reply.answers.len(), 1);
    assert_eq!((reply.answers[0].data.kind(), reply.answers[0].ttl), (13, 300));
    server.secs += 100;
    assert_eq!(
        server.ask(Transport::Udp, &message).answers[0].ttl,
        200,
        "no longer than the packet"
    );
    assert_eq!(texts(&server.ask(Transport::Tcp, &message)), ["192.0.2.1"]);
    let reply = server.ask(Transport::Udp, &query(&format!("x.{}", key(1)), kind::ANY));
    assert_eq!(rcode(&reply), 3);
}

#[test]
fn oddities_get_the_code_that_is_theirs() {
    let mut server = www();
    let good = query(&key(1), kind::A);
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message
    };
    for (message, code) in [
        (with(&|message| message.flags |= 0x2800), 4),
        (with(&|message| message.questions.clear()), 1),
        (with(&|message| message.questions.push(good.questions[0].clone())), 1),
        (with(&|message| message.additional = vec![edns(512, 0), edns(512, 0)]), 1),
        (with(&|message| message.questions[0].class = 3), 5),
        (with(&|message| message.questions[0].kind = 252), 5),
        (with(&|message| message.questions[0].name = "example.com".parse().unwrap()), 5),
        (with(&|message| message.questions[0].name = Name::root()), 5),
    ] {
        assert_eq!(rcode(&server.ask(Transport::Udp, &message)), code, "{message:?}");
    }
    // RFC 6891, 6.1.3: the upper bits of BADVERS, 16, are in the OPT record.
    let reply = server.ask(Transport::Udp, &with(&|m| m.additional = vec![edns(512, 1 << 16)]));
    assert_eq!((rcode(&reply), reply.additional[0].ttl >> 24), (0, 1));
    // Replies, and what is no message at all, are not answered.
    let bytes = with(&|message| message.flags |= flag::REPLY).to_bytes().unwrap();
    for bytes in [&*bytes, b"", &[0; 11]] {
        assert!(matches!(server.step(Transport::Udp, bytes), Step::Drop));
    }
    // The header is enough to see that it is no query of ours.
    let mut update = good.to_bytes().unwrap();
    (update[2], update[5]) = (0x28, 0);
    update.truncate(14);
    let Step::Reply(reply) = server.step(Transport::Udp, &update) else { panic!("it is answered") };
    assert_eq!((reply.len(), reply[3] & 15), (12, 4));
    // What has a header is told that it ends early.
    let cut = &good.to_bytes().unwrap()[..20];
    let Step::Reply(reply) = server.step(Transport::Udp, cut) else { panic!("it has a header") };
    assert_eq!((reply.len(), &reply[..2], reply[3] & 15), (12, &[0xab, 0xcd][..], 1));
}

#[test]
fn over_the_quota_datagrams_are_answered_with_no_more_than_they_brought() {
    let mut server = Server::with(|options| options.dns_quota = Some("1r/m".parse().unwrap()))
        .publish(1, |builder| builder.txt("@", Txt::new([b'x'; 400]), 60));
    let mut message = query(&key(1), kind::TXT);
    message.additional = vec![edns(1_232, 0)];
    let len = message.to_bytes().unwrap().len();
    assert!(server.bytes(Transport::Udp, &message).len() > 400);
    let bytes = server.bytes(Transport::Udp, &message);
    assert!(bytes.len() <= len);
    assert!(bytes[2] & 2 != 0, "truncated: come again over TCP");
    // Whoever is sent to TCP is answered there: its quota is another.
    assert_eq!(rcode(&server.ask(Transport::Tcp, &message)), 0);
    assert_eq!(rcode(&server.ask(Transport::Tcp, &message)), 5);
    assert_eq!(server.front.stats().dns_limited, 2);
    // HTTP has counted already.
    assert_eq!(rcode(&server.ask(Transport::Http, &message)), 0);
    // What would get an error else gets nothing.
    for junk in [&[0; 12][..], &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff]] {
        assert!(matches!(server.step(Transport::Udp, junk), Step::Drop));
    }
    server.secs += 60;
    assert_eq!(rcode(&server.ask(Transport::Tcp, &message)), 0);
}

#[test]
fn lookups_are_on_the_account_of_who_asks() {
    let mut server = Server::with(|options| options.work_quota = Some("1r/m".parse().unwrap()))
        .publish(1, |builder| builder.address("@", [192, 0, 2, 1].into(), 3_600));
    assert_eq!(rcode(&server.look(&key(1), kind::A)), 0);
    assert_eq!(rcode(&server.look(&key(2), kind::A)), 2);
    assert_eq!(server.looked_up, 1);
    // What is here costs nothing.
    assert_eq!(rcode(&server.look(&key(1), kind::A)), 0);
}

#[test]
fn whoever_forges_datagrams_uses_up_nothing_that_is_needed_elsewhere() {
    let one = |quota: &mut Option<Quota>| *quota = Some("1r/d".parse().unwrap());
    let mut server = Server::with(|options| {
        one(&mut options.dns_quota);
        one(&mut options.work_quota);
    });
    server.look(&key(1), kind::A);
    assert!(server.look(&key(2), kind::A).flags & flag::TRUNCATED != 0);
    assert_eq!((server.looked_up, server.front.users()), (1, [0, 0, 1, 0, 1]));
    // The one lookup of the work quota is still there, for TCP as for HTTP.
    assert_eq!(rcode(&server.ask(Transport::Tcp, &query(&key(3), kind::A))), 3);
    assert_eq!((server.looked_up, server.front.users()), (2, [0, 1, 1, 1, 1]));
    assert_eq!(rcode(&server.ask(Transport::Http, &query(&key(4), kind::A))), 2);
}

#[test]
fn ordinary_names_are_forwarded_where_that_is_on() {
    let mut server = Server::with(|options| options.forward = true)
        .publish(1, |builder| builder.cname("out", "example.com".parse().unwrap(), 60));
    let mut message = query("www.example.com", kind::A);
    message.additional = vec![edns(4_096, 0)];
    let step = server.step(Transport::Udp, &message.to_bytes().unwrap());
    let Step::Forward(asked, bytes) = step else { panic!("{step:?}") };
    let forwarded = Message::from_bytes(&bytes).unwrap();
    assert_eq!((forwarded.id, &forwarded.questions), (0, &message.questions));
    // No more is wanted of the other server than the client is sent.
    assert_eq!(forwarded.additional, [edns(MAX_UDP_LEN as u16, 0)]);
    let mut answer = forwarded;
    answer.flags |= flag::REPLY | flag::RECURSION_AVAILABLE;
    let data = Rdata::from(core::net::IpAddr::from([192, 0, 2, 9]));
    answer.answers.push(Record::new("www.example.com".parse().unwrap(), 5, data));
    let reply = server.front.handle_dns_forwarded(asked, answer.to_bytes().as_deref());
    let Step::Reply(bytes) = reply else { panic!("{reply:?}") };
    answer.id = 0xabcd;
    assert_eq!(Message::from_bytes(&bytes).as_ref(), Ok(&answer));

    // An alias out of a packet: its target's records stand behind it.
    let name = format!("out.{}", key(1));
    let step = server.step(Transport::Udp, &query(&name, kind::A).to_bytes().unwrap());
    let step = server.settle(step);
    let Step::Forward(asked, bytes) = step else { panic!("{step:?}") };
    let forwarded = Message::from_bytes(&bytes).unwrap();
    assert_eq!(forwarded.questions[0].name.to_string(), "example.com");
    answer.questions = forwarded.questions;
    let reply = server.front.handle_dns_forwarded(asked, answer.to_bytes().as_deref());
    let Step::Reply(bytes) = reply else { panic!("{reply:?}") };
    let reply = Message::from_bytes(&bytes).unwrap();
    assert_eq!(texts(&reply), ["example.com.", "192.0.2.9"]);
    assert_eq!(reply.questions[0].name.to_string(), name);
}

#[test]
fn a_server_that_does_not_answer_well_is_a_failure() {
    let mut server = Server::with(|options| options.forward = true);
    let message = query("www.example.com", kind::A);
    let mut other = query("www.example.org", kind::A);
    other.flags |= flag::REPLY;
    let mut none = other.clone();
    none.questions.clear();
    let bytes = |message: &Message| message.to_bytes().unwrap();
    let (message, other, none) = (bytes(&message), bytes(&other), bytes(&none));
    for reply in [None, Some(&b"junk"[..]), Some(&message[..]), Some(&other), Some(&none)] {
        let step = server.step(Transport::Udp, &message);
        let Step::Forward(asked, _) = step else { panic!("{step:?}") };
        assert!(!reply.is_some_and(|reply| asked.is_answered_by(reply)));
        let step = server.front.handle_dns_forwarded(asked, reply);
        let Step::Reply(bytes) = step else { panic!("{step:?}") };
        assert_eq!(bytes[3] & 15, 2);
    }
}

#[test]
fn what_is_forwarded_is_no_longer_than_other_replies() {
    let mut server = Server::with(|options| options.forward = true);
    let long =
        Record::new("www.example.com".parse().unwrap(), 5, Rdata::Txt(Txt::new([b'x'; 1_300])));
    for (transport, size, offered, whole) in [
        (Transport::Udp, 4_096, 1_232, false),
        (Transport::Udp, 600, 600, false),
        (Transport::Udp, 100, 100, false),
        (Transport::Tcp, 4_096, 4_096, true),
    ] {
        let mut message = query("www.example.com", kind::TXT);
        message.additional = vec![edns(size, 0)];
        let step = server.step(transport, &message.to_bytes().unwrap());
        let Step::Forward(asked, bytes) = step else { panic!("{step:?}") };
        let mut answer = Message::from_bytes(&bytes).unwrap();
        assert_eq!(answer.additional, [edns(offered, 0)]);
        answer.flags |= flag::REPLY;
        answer.answers.push(long.clone());
        let reply = server.front.handle_dns_forwarded(asked, answer.to_bytes().as_deref());
        let Step::Reply(bytes) = reply else { panic!("{reply:?}") };
        let reply = Message::from_bytes(&bytes).unwrap();
        assert!(whole || bytes.len() <= usize::from(size).max(MIN_UDP_LEN));
        assert_eq!((reply.flags & flag::TRUNCATED == 0, reply.answers.len() == 1), (whole, whole));
        assert_eq!(reply.id, message.id);
    }
}
