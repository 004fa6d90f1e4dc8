use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use super::*;
use crate::{Builder, Keypair, Timestamp};

/// Packets by key, as a network without latency.
#[derive(Default)]
struct Zones(BTreeMap<PublicKey, SignedPacket>);

fn keypair(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn key(number: u8) -> String {
    keypair(number).public_key().to_string()
}

fn to(priority: u16, target: &str) -> Svcb {
    Svcb::new(priority, target.parse().unwrap())
}

impl Zones {
    fn with(mut self, number: u8, fill: impl FnOnce(Builder) -> Builder) -> Self {
        let keypair = keypair(number);
        let packet = fill(SignedPacket::builder()).sign(&keypair, Timestamp::from_secs(1)).unwrap();
        self.0.insert(keypair.public_key(), packet);
        self
    }

    /// All endpoints of a name, and how many packets it took.
    fn resolve_all(&self, query: &str, service: Service, seed: u8) -> (Vec<Endpoint>, usize) {
        let seed = Seed::from_bytes([seed; 32]);
        let mut resolution = Resolution::new(query, service, &seed).unwrap();
        let (mut endpoints, mut asked) = (Vec::new(), 0);
        for _ in 0..10_000 {
            match resolution.poll() {
                Step::Ask(key) => {
                    assert_eq!(resolution.poll(), Step::Ask(key), "asked until answered");
                    asked += 1;
                    resolution.handle_packet(self.0.get(&key));
                }
                Step::Endpoint(endpoint) => endpoints.push(endpoint),
                Step::Done => {
                    assert_eq!(resolution.poll(), Step::Done);
                    return (endpoints, asked);
                }
            }
        }
        panic!("a resolution does not end");
    }

    fn resolve(&self, query: &str) -> Vec<Endpoint> {
        self.resolve_all(query, Service::Https, 0).0
    }
}

fn hosts(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.host.as_ref().unwrap().to_string()).collect()
}

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

#[test]
fn here_means_the_addresses_of_the_name_then_of_the_key_then_hints() {
    let zones = Zones::default().with(1, |builder| {
        builder
            .https(".", Svcb::here(1).with_port(6881), 60)
            .https("www", Svcb::here(1), 60)
            .https("own", Svcb::here(1), 60)
            .address("own", ip(2), 60)
            .address(".", ip(1), 60)
    });
    let found = zones.resolve(&key(1));
    assert_eq!(found.len(), 1);
    assert!(found[0].socket_addrs(443).eq([SocketAddr::new(ip(1), 6881)]));
    assert_eq!(found[0].public_key.to_string(), key(1));
    assert_eq!(found[0].host, None);
    assert_eq!(zones.resolve(&format!("www.{}", key(1)))[0].addrs, [ip(1)]);
    assert_eq!(zones.resolve(&format!("own.{}", key(1)))[0].addrs, [ip(2)]);
    assert_eq!(zones.resolve(&format!("https://own.{}:99/path", key(1)))[0].addrs, [ip(2)]);
    assert!(zones.resolve(&format!("none.{}", key(1))).is_empty());
    let hinted = Zones::default()
        .with(1, |builder| builder.https(".", Svcb::here(1).with_ip_hints([ip(7)]), 60));
    assert_eq!(hinted.resolve(&key(1))[0].addrs, [ip(7)]);
    // A record that points to its own name means the same.
    let own = Zones::default()
        .with(1, |builder| builder.https(".", to(1, &key(1)), 60).address(".", ip(1), 60));
    assert_eq!(own.resolve(&key(1))[0].addrs, [ip(1)]);
}

#[test]
fn lower_priorities_come_first_and_equals_in_any_order() {
    let zones = Zones::default().with(1, |builder| {
        builder
            .https(".", to(3, "c.example"), 60)
            .https(".", to(1, "a.example"), 60)
            .https(".", to(2, "b1.example"), 60)
            .https(".", to(2, "b2.example"), 60)
            .svcb(".", to(0, "no.example"), 60)
    });
    let mut orders = BTreeMap::<_, usize>::new();
    for seed in 0..40 {
        let (found, asked) = zones.resolve_all(&key(1), Service::Https, seed);
        assert_eq!(asked, 1);
        let hosts = hosts(&found);
        assert_eq!([&*hosts[0], &*hosts[3]], ["a.example", "c.example"]);
        *orders.entry(hosts[1].clone()).or_default() += 1;
    }
    assert_eq!(orders.len(), 2, "{orders:?}");
    let (found, _) = zones.resolve_all(&key(1), Service::Svcb, 0);
    assert_eq!(hosts(&found), ["no.example"]);
}

#[test]
fn keys_as_targets_are_followed_and_dead_ends_passed_over() {
    let zones = Zones::default()
        .with(1, |builder| {
            builder
                .https(".", to(1, &key(9)), 60) // nobody published it
                .https(".", to(2, &key(8)), 60) // has no such records
                .https(".", to(3, &format!("web.{}", key(2))), 60)
                .https(".", to(4, "last.example"), 60)
        })
        .with(8, |builder| builder.txt(".", "nothing here", 60))
        .with(2, |builder| builder.https("web", Svcb::here(1), 60).address("web", ip(2), 60));
    let (found, asked) = zones.resolve_all(&key(1), Service::Https, 0);
    assert_eq!(asked, 4);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].public_key.to_string(), &found[0].addrs[..]), (key(2), &[ip(2)][..]));
    assert_eq!(found[0].name.to_string(), format!("web.{}", key(2)));
    assert_eq!(found[1].host, Some("last.example".parse().unwrap()));
    assert_eq!(found[1].public_key.to_string(), key(1));
}

#[test]
fn seven_packets_in_a_row_and_no_more() {
    let chain = |len: u8| {
        (1..len)
            .fold(Zones::default(), |zones, number| {
                zones.with(number, |builder| builder.https(".", to(1, &key(number + 1)), 60))
            })
            .with(len, |builder| builder.https(".", to(1, "end.example"), 60))
    };
    assert_eq!(hosts(&chain(7).resolve(&key(1))), ["end.example"]);
    let (found, asked) = chain(8).resolve_all(&key(1), Service::Https, 0);
    assert_eq!((found.len(), asked), (0, MAX_DEPTH));
}

#[test]
fn circles_end_and_trees_are_not_walked() {
    let circle = Zones::default()
        .with(1, |builder| builder.https(".", to(1, &key(2)), 60))
        .with(2, |builder| {
            builder.https(".", to(1, &key(1)), 60).https(".", to(2, "out.example"), 60)
        });
    let (found, asked) = circle.resolve_all(&key(1), Service::Https, 0);
    assert_eq!((hosts(&found), asked), (["out.example".into()].into(), 2));

    // Each of a hundred keys points to the ten next.
    let tree = (1..=100).fold(Zones::default(), |zones, number| {
        zones.with(number, |builder| {
            (1..=10)
                .fold(builder, |builder, next| builder.https(".", to(1, &key(number + next)), 60))
        })
    });
    let (found, asked) = tree.resolve_all(&key(1), Service::Https, 0);
    assert_eq!((found.len(), asked), (0, MAX_PACKETS));
}

#[test]
fn wildcards_stand_in_where_nothing_stands() {
    let zones = Zones::default().with(1, |builder| {
        builder
            .https("*", to(1, "any.example"), 60)
            .https("*.foo", to(1, "foo.example"), 60)
            .https("a.foo", to(1, "a.example"), 60)
            .txt("text", "here is something", 60)
    });
    let host = |name: &str| hosts(&zones.resolve(&format!("{name}.{}", key(1))));
    assert_eq!(host("x"), ["any.example"]);
    assert_eq!(host("x.y.z"), ["any.example"]);
    assert_eq!(host("b.foo"), ["foo.example"]);
    assert_eq!(host("a.foo"), ["a.example"]);
    assert_eq!(host("A.Foo"), ["a.example"]);
    assert!(host("text").is_empty() && host("x.text").is_empty());
    assert!(host("foo").is_empty(), "something stands below it");
    assert!(host("x.a.foo").is_empty());
    assert!(zones.resolve(&key(1)).is_empty());
}

#[test]
fn another_keys_packet_is_no_answer() {
    let zones = Zones::default().with(2, |builder| builder.https(".", to(1, "a.example"), 60));
    let packet = zones.0.values().next();
    let seed = Seed::from_bytes([0; 32]);
    let mut resolution = Resolution::new(&key(1), Service::Https, &seed).unwrap();
    resolution.handle_packet(packet);
    assert_eq!(resolution.poll(), Step::Done);
    // Nothing was asked for.
    resolution.handle_packet(packet);
    assert_eq!(resolution.poll(), Step::Done);
}

#[test]
fn what_has_no_key_is_refused() {
    for (query, error) in [
        ("example.com", QueryError::Key(KeyError::Length)),
        (&format!("a..{}", key(1)), QueryError::Name(NameError::EmptyLabel)),
    ] {
        let seed = Seed::from_bytes([0; 32]);
        assert_eq!(Resolution::new(query, Service::Https, &seed).err(), Some(error));
    }
}
