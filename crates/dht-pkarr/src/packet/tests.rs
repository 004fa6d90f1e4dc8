use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::record::{Rdata, Svcb, Txt, kind};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn keypair() -> Keypair {
    Keypair::from_secret(&[0; 32])
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The vectors of the reference implementation: secret 32 times 0, one timestamp.
fn check_vector(builder: &Builder, dns: &str, signature: &str) {
    let timestamp = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    let packet = builder.clone().sign(&keypair(), timestamp).unwrap();
    assert_eq!(packet.dns(), hex(dns));
    assert_eq!(packet.signature()[..], hex(signature));
    assert_eq!(packet.bytes[TIMESTAMP_AT..DNS_AT], hex("00060a24181e4000"));
    assert_eq!(packet.relay_payload().len(), 72 + packet.dns().len());
    let key = keypair().public_key();
    for read in [
        SignedPacket::from_bytes(packet.as_bytes()).unwrap(),
        SignedPacket::from_relay_payload(&key, packet.relay_payload()).unwrap(),
        SignedPacket::from_item(&key, &packet.to_item().unwrap()).unwrap(),
    ] {
        assert_eq!(read, packet);
        // What is read, signed again, gives the same bytes.
        assert_eq!(SignedPacket::sign(&keypair(), timestamp, read.records()).unwrap(), packet);
    }
    assert_eq!(packet.timestamp(), timestamp);
    assert_eq!(packet.public_key(), key);
}

#[test]
fn vector_no_records() {
    check_vector(
        &SignedPacket::builder(),
        "000080000000000000000000",
        "131fcee8ae106362bdb35ddcec8cfbb2a6a2535cc65c378a764a5b778fcc6aba15db1cd5e68b763d3293f0abe1b8c4445ab821003b4c1e53d77109f965141e05",
    );
}

#[test]
fn vector_a_at_the_key() {
    check_vector(
        &SignedPacket::builder().a("@", [1, 1, 1, 1].into(), 30),
        "000080000000000100000000343870696e787867717334316e346169646964656e773561707170317572666d7a647a7472386a74346162726b646e34333565776f00000100010000001e000401010101",
        "559494e81e83935e7ac7dc1e40f7a3b06960f2e98d20a5cf3ca199d48ad71ede05ebea84221c2c71a577e7bc787f49ec3531e19b4dbd7a9bb412db35aaffa608",
    );
}

#[test]
fn vector_txt() {
    check_vector(
        &SignedPacket::builder().txt("_foo", "bar", 30),
        "000080000000000100000000045f666f6f343870696e787867717334316e346169646964656e773561707170317572666d7a647a7472386a74346162726b646e34333565776f00001000010000001e000403626172",
        "ee9a458403d6c1bb0788d4bfd1da1de4a335cd05aacb55a79f5b71b19656e629634929e6ea059cb8660465c513be5649394e957af58f25b963b2de9fd8897606",
    );
}

#[test]
fn vector_compressed_names() {
    check_vector(
        &SignedPacket::builder()
            .txt("_foo", "bar", 30)
            .a("foo", [1, 2, 3, 4].into(), 3_600)
            .address(".", "2001:db8::1".parse().unwrap(), 300)
            .cname("www", "example.com".parse().unwrap(), 60),
        "000080000000000400000000045f666f6f343870696e787867717334316e346169646964656e773561707170317572666d7a647a7472386a74346162726b646e34333565776f00001000010000001e00040362617203666f6fc0110001000100000e10000401020304c011001c00010000012c001020010db800000000000000000000000103777777c011000500010000003c000d076578616d706c6503636f6d00",
        "1e6629ba77f52b59a1e8b18723f354826ecea11995f92f21d07aaf997f1af75aba9c85d745383d4d3f99ea7635ba4ae663314f4732e71a8d0109b4d350ea320b",
    );
}

#[test]
fn vector_https() {
    check_vector(
        &SignedPacket::builder().https(".", Svcb::here(1).with_port(6_881), 3_600).a(
            ".",
            [209, 151, 148, 15].into(),
            3_600,
        ),
        "000080000000000200000000343870696e787867717334316e346169646964656e773561707170317572666d7a647a7472386a74346162726b646e34333565776f000041000100000e100009000100000300021ae1c00c0001000100000e100004d197940f",
        "2e762325056309e3da47e4dc15ad639839c128e89dc35d52d438677c9d5baa7891b38655a2a96095982f7f96c2c8dd4c2f657d563f9dbf86692b6c9b74262509",
    );
}

#[test]
fn names_of_records_are_looked_up_within_the_key() {
    let key = keypair().public_key();
    let packet = SignedPacket::builder()
        .txt("a.foo", "1", 60)
        .txt("b.foo", "2", 60)
        .txt("c.b.foo", "3", 60)
        .txt("@", "4", 60)
        .sign(&keypair(), NOW)
        .unwrap();
    let texts = |name: &str| -> Vec<_> {
        let records = packet.records_of(name).unwrap();
        records
            .iter()
            .map(|record| {
                let Rdata::Txt(txt) = &record.data else { unreachable!("all are texts") };
                txt.text()[0]
            })
            .collect()
    };
    assert_eq!(texts("a.foo"), b"1");
    assert_eq!(texts(&alloc::format!("A.foo.{key}.")), b"1");
    assert_eq!(texts("*.foo"), b"12");
    assert_eq!(texts("."), b"4");
    assert_eq!(texts("foo"), b"");
    assert!(packet.records_of("a..b").is_err());
}

#[test]
fn packets_that_other_nodes_refuse_are_not_made_but_read() {
    // Header 12, name 54, type to length 10, so 920 bytes of data make 996.
    let of_len = |len: usize| {
        let data = Rdata::Other { kind: 65_280, data: vec![7; len - 76] };
        let key = keypair().public_key();
        SignedPacket::builder().data(&key.to_string(), data, 60)
    };
    let largest = of_len(996).sign(&keypair(), NOW).unwrap();
    assert_eq!(largest.dns().len(), MAX_DNS_LEN);
    assert_eq!(largest.to_item().unwrap().value().len(), 1_000);
    let error = of_len(997).sign(&keypair(), NOW).unwrap_err();
    assert_eq!(error, BuildError::TooLarge { len: 997 });
    assert!(error.to_string().contains("997") && error.to_string().contains("996"));

    for (len, read) in [(1_000, Ok(())), (1_001, Err(PacketError::TooLong))] {
        let dns = message::write(&of_len(len).records_for_tests()).unwrap();
        assert_eq!(dns.len(), len);
        let signature = keypair().sign(&signable(NOW, &dns)).to_bytes();
        let key = keypair().public_key();
        let packet = SignedPacket::assemble(&key, &signature, NOW, &dns, None);
        assert_eq!(SignedPacket::from_bytes(packet.as_bytes()).map(|_| ()), read, "{len}");
        assert_eq!(packet.to_item(), Err(item::ItemError::ValueTooLong));
    }
    let huge = SignedPacket::builder().txt("@", Txt::new(vec![0; 70_000]), 60);
    assert_eq!(huge.sign(&keypair(), NOW), Err(BuildError::NoMessage));
    let many = (0..80_000)
        .fold(SignedPacket::builder(), |builder, _| builder.a("@", [1, 2, 3, 4].into(), 1));
    assert_eq!(many.sign(&keypair(), NOW), Err(BuildError::NoMessage));
}

#[test]
fn names_that_are_none_are_reported_when_signing() {
    let bad = SignedPacket::builder().txt("a..b", "x", 1).txt("fine", "x", 1);
    assert_eq!(bad.sign(&keypair(), NOW), Err(BuildError::Name(NameError::EmptyLabel)));
    let long = SignedPacket::builder().txt(&"a.".repeat(120), "x", 1);
    assert_eq!(long.sign(&keypair(), NOW), Err(BuildError::Name(NameError::NameTooLong)));
}

#[test]
fn what_is_no_packet_is_refused_with_a_reason() {
    let packet = SignedPacket::builder().txt("@", "x", 60).sign(&keypair(), NOW).unwrap();
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = packet.as_bytes().to_vec();
        change(&mut bytes);
        SignedPacket::from_bytes(&bytes).map(|_| ())
    };
    assert_eq!(read(&|_| {}), Ok(()));
    for len in [0, 31, 32, 95, 96, 103] {
        assert_eq!(read(&|bytes| bytes.truncate(len)), Err(PacketError::TooShort), "{len}");
    }
    for len in [104, 115] {
        let error = PacketError::Dns(DnsError::Truncated);
        assert_eq!(read(&|bytes| bytes.truncate(len)), Err(error), "{len}");
    }
    assert_eq!(read(&|bytes| bytes.resize(1_105, 0)), Err(PacketError::TooLong));
    assert_eq!(read(&|bytes| bytes[96] = 0x80), Err(PacketError::Timestamp));
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let error = PacketError::Key(KeyError::NotAPoint);
    assert_eq!(read(&|bytes| bytes[..32].copy_from_slice(&no_point)), Err(error));
    for place in [32, 95, 103, 200] {
        let at = place.min(packet.as_bytes().len() - 1);
        assert_eq!(read(&|bytes| bytes[at] ^= 1), Err(PacketError::Signature), "{place}");
    }
    // Another key's packet, offered for this one.
    let other = Keypair::from_secret(&[1; 32]).public_key();
    let offered = SignedPacket::from_relay_payload(&other, packet.relay_payload());
    assert_eq!(offered, Err(PacketError::Signature));
    // A weak key, under which this signature would hold for many messages.
    let mut weak = vec![0; 12 + DNS_AT];
    weak[0] = 1;
    weak[32] = 1;
    assert_eq!(SignedPacket::from_bytes(&weak), Err(PacketError::Signature));
}

#[test]
fn any_time_that_the_dht_can_store_is_a_version() {
    for timestamp in [NOW, Timestamp::from_secs(1), Timestamp::MAX] {
        let packet = SignedPacket::builder().sign(&keypair(), timestamp).unwrap();
        assert_eq!(SignedPacket::from_bytes(packet.as_bytes()).unwrap().timestamp(), timestamp);
        assert_eq!(packet.to_item().unwrap().signed().unwrap().seq, timestamp.as_seq());
    }
}

#[test]
fn unknown_types_are_kept_as_they_are() {
    let other = |kind, data: &[u8]| Rdata::Other { kind, data: data.to_vec() };
    // CAA, a private type, an empty one, and an address of five bytes.
    let kinds =
        [(257, &b"\0\x05issueca"[..]), (65_399, b"\xc0\x0c"), (65_400, b""), (kind::A, b"12345")];
    let packet = kinds
        .iter()
        .fold(SignedPacket::builder(), |builder, (kind, data)| {
            builder.data("@", other(*kind, data), 9)
        })
        .sign(&keypair(), NOW)
        .unwrap();
    let read = SignedPacket::from_bytes(packet.as_bytes()).unwrap().records();
    assert_eq!(read.len(), kinds.len());
    for (record, (kind, data)) in read.iter().zip(kinds) {
        assert_eq!(record.data, other(kind, data));
    }
    assert_eq!(SignedPacket::sign(&keypair(), NOW, read).unwrap(), packet);
}

fn any_name() -> impl Strategy<Value = Name> {
    let label = prop_oneof!["[a-z_*@-]{1,8}", "[a-z0-9]{63}", "\\PC{1,6}"];
    prop::collection::vec(label, 0..3)
        .prop_filter_map("a name", |labels| labels.join(".").replace('\\', "").parse().ok())
}

fn any_svcb() -> impl Strategy<Value = Svcb> {
    let params =
        prop::collection::btree_map(any::<u16>(), prop::collection::vec(any::<u8>(), 0..6), 0..4);
    (any::<u16>(), any_name(), params).prop_map(|(priority, target, params)| {
        params
            .into_iter()
            .fold(Svcb::new(priority, target), |svcb, (key, value)| svcb.with_param(key, value))
    })
}

fn any_data() -> impl Strategy<Value = Rdata> {
    let strings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..3);
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Rdata::A(ip.into())),
        any::<[u8; 16]>().prop_map(|ip| Rdata::Aaaa(ip.into())),
        any_name().prop_map(Rdata::Cname),
        any_name().prop_map(Rdata::Ns),
        strings.prop_map(|strings| Rdata::Txt(Txt::of_strings(strings).unwrap())),
        any_svcb().prop_map(Rdata::Https),
        any_svcb().prop_map(Rdata::Svcb),
        (256..65_535_u16, prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(kind, data)| Rdata::Other { kind, data }),
    ]
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let record = (any_name(), any::<u32>(), any_data())
        .prop_map(|(name, ttl, data)| Record::new(name, ttl, data));
    prop::collection::vec(record, 0..8)
}

fn packet_of(records: Vec<Record>, micros: u64) -> Option<SignedPacket> {
    SignedPacket::sign(&keypair(), Timestamp::from_micros(micros)?, records).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_round_trip(mut records in any_records(), micros in 0..u64::MAX / 2) {
        let Some(packet) = packet_of(records.clone(), micros) else { return Ok(()) };
        let key = keypair().public_key();
        for record in &mut records {
            record.name = record.name.rebased(&key).unwrap();
        }
        prop_assert_eq!(packet.records(), records.clone());
        prop_assert_eq!(SignedPacket::from_bytes(packet.as_bytes()), Ok(packet.clone()));
        prop_assert_eq!(SignedPacket::from_item(&key, &packet.to_item().unwrap()), Ok(packet.clone()));
        for record in &records {
            prop_assert!(packet.records_of(&record.name.to_string()).unwrap().contains(record));
        }
    }

    #[test]
    fn changed_bytes_are_no_packet(
        records in any_records(),
        at in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let Some(packet) = packet_of(records, 1) else { return Ok(()) };
        let mut bytes = packet.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(SignedPacket::from_bytes(&bytes).is_err());
        if let Ok(unverified) = SignedPacket::from_trusted_bytes(&bytes) {
            // Reading ends, and what was read can be written.
            prop_assert!(message::write(&unverified.records()).is_some());
        }
    }

    #[test]
    fn the_order_of_versions_is_total(
        texts in prop::array::uniform3("[a-c]{0,2}|[a-c]{60,90}"),
        micros in prop::array::uniform3(0..3_u64),
    ) {
        let packets: Vec<_> = texts.iter().zip(micros).map(|(text, micros)| {
            let timestamp = Timestamp::from_micros(micros).unwrap();
            SignedPacket::builder().txt("@", &**text, 1).sign(&keypair(), timestamp).unwrap()
        }).collect();
        let [a, b, c] = &packets[..] else { unreachable!("three") };
        let ways = [a == b, a.more_recent_than(b), b.more_recent_than(a)];
        prop_assert_eq!(ways.iter().filter(|way| **way).count(), 1);
        if a.more_recent_than(b) && b.more_recent_than(c) {
            prop_assert!(a.more_recent_than(c));
        }
        // The same order as that of the nodes that store it.
        let items = [a, b].map(|packet| packet.to_item().unwrap());
        prop_assert_eq!(a.more_recent_than(b), items[0].supersedes(&items[1]));
    }
}
