use super::*;
use core::time::Duration;

fn at(secs: u64) -> Instant {
    Instant::from_secs(1_000 + secs)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const OWN: &str = "1.2.3.4:6881";
const PEER: &str = "5.6.7.8:1000";
const SAME_IP: &str = "5.6.7.8:2000";
const OTHER: &str = "9.9.9.9:1000";

fn middlebox(nat: Nat) -> Middlebox {
    with_ports(nat, Ports::ALL)
}

fn with_ports(nat: Nat, ports: Ports) -> Middlebox {
    Middlebox::new(nat, HostId(0), Addrs::of(&[addr(OWN), addr("[2600::1]:6881")]), ports)
}

/// Every mapping with every filter: which of three senders gets in at which of three external ports.
#[test]
fn mapping_and_filtering_are_those_of_rfc_4787() {
    use Filtering::{Address, AddressAndPort, Open};
    use Mapping::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    // Ports used towards PEER, SAME_IP and OTHER: equal letters are equal ports.
    let mappings =
        [(EndpointIndependent, "aaa"), (AddressDependent, "aab"), (AddressAndPortDependent, "abc")];
    for (mapping, ports) in mappings {
        for preserves_port in [false, true] {
            let nat = Nat { mapping: Some(mapping), preserves_port, ..Nat::home() };
            let mut middlebox = middlebox(nat);
            let mut out = |to| middlebox.outgoing(at(0), addr(OWN), addr(to)).unwrap();
            let used = [out(PEER), out(SAME_IP), out(OTHER)];
            assert!(used.iter().all(|a| a.ip() == addr(OWN).ip()));
            assert_eq!(used[0].port() == 6881, preserves_port, "{mapping:?}");
            let letters = ports.as_bytes();
            for (i, j) in [(0, 1), (0, 2), (1, 2)] {
                assert_eq!(used[i] == used[j], letters[i] == letters[j], "{mapping:?} {i} {j}");
            }
        }
        for (filtering, same_ip, other) in
            [(Open, true, true), (Address, true, false), (AddressAndPort, false, false)]
        {
            let mut middlebox = middlebox(Nat { mapping: Some(mapping), filtering, ..Nat::home() });
            let outside = middlebox.outgoing(at(0), addr(OWN), addr(PEER)).unwrap();
            for (from, gets_in) in [(PEER, true), (SAME_IP, same_ip), (OTHER, other)] {
                let inside = middlebox.incoming(at(1), addr(from), outside);
                assert_eq!(inside, gets_in.then(|| addr(OWN)), "{mapping:?} {filtering:?} {from}");
            }
            let mut elsewhere = outside;
            elsewhere.set_port(outside.port() ^ 1);
            assert_eq!(middlebox.incoming(at(1), addr(PEER), elsewhere), None);
        }
    }
}

/// What arrives every 40 s keeps state of 60 s alive exactly where inbound traffic counts.
#[test]
fn state_expires_unless_it_is_refreshed() {
    let mappings = [
        None,
        Some(Mapping::EndpointIndependent),
        Some(Mapping::AddressDependent),
        Some(Mapping::AddressAndPortDependent),
    ];
    for mapping in mappings {
        for inbound_refresh in [false, true] {
            let timeout = Duration::from_secs(60);
            let mut middlebox = middlebox(Nat { mapping, timeout, inbound_refresh, ..Nat::home() });
            let outside = middlebox.outgoing(at(0), addr(OWN), addr(PEER)).unwrap();
            let mut gets_in = |secs| middlebox.incoming(at(secs), addr(PEER), outside).is_some();
            assert!(gets_in(40), "{mapping:?}");
            assert_eq!(gets_in(80), inbound_refresh, "{mapping:?}");
            assert_eq!(gets_in(120), inbound_refresh, "{mapping:?}");
            assert!(!gets_in(190), "{mapping:?}");
            // What goes out always counts.
            middlebox.outgoing(at(200), addr(OWN), addr(PEER));
            middlebox.outgoing(at(250), addr(OWN), addr(PEER));
            let again = middlebox.outgoing(at(300), addr(OWN), addr(PEER)).unwrap();
            assert!(middlebox.incoming(at(350), addr(PEER), again).is_some());
        }
    }
}

#[test]
fn an_expired_mapping_comes_back_at_another_port_unless_that_is_preserved() {
    for preserves_port in [false, true] {
        let mut middlebox = middlebox(Nat { preserves_port, ..Nat::home() });
        let first = middlebox.outgoing(at(0), addr(OWN), addr(PEER)).unwrap();
        let later = middlebox.outgoing(at(1_000), addr(OWN), addr(PEER)).unwrap();
        assert_eq!(first == later, preserves_port);
    }
}

#[test]
fn firewalls_and_ipv6_are_filtered_but_not_translated() {
    let own = addr("[2600::1]:6881");
    let (peer, other) = (addr("[2600::2]:1"), addr("[2600::3]:1"));
    for nat in [Nat::home(), Nat::carrier(), Nat::firewall()] {
        let mut middlebox = middlebox(nat);
        assert_eq!(middlebox.incoming(at(0), peer, own), None);
        assert_eq!(middlebox.outgoing(at(0), own, peer), Some(own));
        assert_eq!(middlebox.incoming(at(1), peer, own), Some(own));
        assert_eq!(middlebox.incoming(at(1), other, own), None);
        assert_eq!(middlebox.incoming(at(1), peer, addr("[2600::1]:6882")), None);
        assert_eq!(middlebox.incoming(at(500), peer, own), None);
    }
    let mut middlebox = middlebox(Nat::firewall());
    assert_eq!(middlebox.outgoing(at(0), addr(OWN), addr(PEER)), Some(addr(OWN)));
    assert_eq!(middlebox.incoming(at(1), addr(PEER), addr(OWN)), Some(addr(OWN)));
    assert_eq!(middlebox.incoming(at(1), addr(OTHER), addr(OWN)), None);
}

#[test]
fn hosts_that_share_an_address_have_ports_of_their_own() {
    let nat = Nat { sharing: 3, ..Nat::carrier() };
    let mut site = Site::new(nat, Ipv4Addr::new(80, 1, 1, 1), Ports::ALL);
    let mut boxes: Vec<Middlebox> = Vec::new();
    while site.has_room(&nat) {
        let number = boxes.len() as u32;
        let inside = Addrs::of(&[SocketAddr::from(([7, 7, 7, number as u8], 6881))]);
        boxes.push(site.join(number, HostId(number), inside));
    }
    assert_eq!(boxes.len(), 3);
    for (number, middlebox) in boxes.iter_mut().enumerate() {
        let own = SocketAddr::from(([7, 7, 7, number as u8], 6881));
        for peer in 0..100 {
            let peer = SocketAddr::from(([9, 9, 9, peer], 5));
            let outside = middlebox.outgoing(at(0), own, peer).unwrap();
            assert_eq!(outside.ip(), IpAddr::from([80, 1, 1, 1]));
            assert_eq!(site.member(outside.port()), Some(number as u32));
            assert_eq!(middlebox.incoming(at(1), peer, outside), Some(own));
        }
    }
    assert_eq!(site.member(80), None);
}

#[test]
fn hairpins_pass_only_where_they_may() {
    for hairpin in [false, true] {
        let mut middlebox = middlebox(Nat { hairpin, filtering: Filtering::Open, ..Nat::home() });
        let outside = middlebox.outgoing(at(0), addr(OWN), addr(PEER)).unwrap();
        assert_eq!(middlebox.outgoing(at(0), addr(OWN), outside).is_some(), hairpin);
    }
}

#[test]
fn state_is_bounded() {
    let mut middlebox = middlebox(Nat { sharing: 1, ..Nat::carrier() });
    let mut ports = std::collections::BTreeSet::new();
    for i in 0..5_000_u16 {
        let peer = SocketAddr::from(([9, 9, (i >> 8) as u8, i as u8], 5));
        let now = at(0) + Duration::from_millis(u64::from(i));
        ports.insert(middlebox.outgoing(now, addr(OWN), peer).unwrap().port());
        assert!(middlebox.sessions.len() <= MAX_SESSIONS);
    }
    assert_eq!(ports.len(), 5_000);
}

#[test]
fn where_ports_are_few_each_serves_several_destinations() {
    let ports = Ports { first: 7_000, count: 4 };
    let nat = Nat { sharing: 1, ..Nat::carrier() };
    let mut middlebox = with_ports(nat, ports);
    let peers: Vec<_> = (1..=12_u8).map(|i| SocketAddr::from(([9, 9, 9, i], 5))).collect();
    let mut towards = |peer| middlebox.outgoing(at(0), addr(OWN), peer).unwrap();
    let used: Vec<_> = peers.iter().map(|peer| towards(*peer)).collect();
    // All of them before any a second time, and the same one for a destination as long as it lives.
    let mut first: Vec<_> = used[..4].iter().map(SocketAddr::port).collect();
    first.sort_unstable();
    assert_eq!(first, [7_000, 7_001, 7_002, 7_003]);
    assert!(used.iter().all(|addr| (7_000..7_004).contains(&addr.port())), "{used:?}");
    assert_eq!(used, peers.iter().map(|peer| towards(*peer)).collect::<Vec<_>>());
    for port in 7_000..7_004 {
        assert_eq!(used.iter().filter(|addr| addr.port() == port).count(), 3, "{used:?}");
    }
    for (peer, outside) in peers.iter().zip(used) {
        assert_eq!(middlebox.incoming(at(1), *peer, outside), Some(addr(OWN)));
        assert_eq!(middlebox.incoming(at(1), addr(OTHER), outside), None);
    }
    // Hosts that share them have one each, and no more hosts share than there are ports.
    let nat = Nat { sharing: 16, ..Nat::carrier() };
    let mut site = Site::new(nat, Ipv4Addr::new(80, 1, 1, 1), ports);
    for number in 0..4 {
        assert!(site.has_room(&nat));
        let mut member = site.join(number, HostId(number), Addrs::of(&[addr(OWN)]));
        for peer in &peers {
            let outside = member.outgoing(at(0), addr(OWN), *peer).unwrap();
            assert_eq!(outside.port(), 7_000 + number as u16);
            assert_eq!(site.member(outside.port()), Some(number));
        }
    }
    assert!(!site.has_room(&nat));
}
