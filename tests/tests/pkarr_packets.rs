//! Packets of `dht-pkarr` beside those of the `pkarr` crate, the reference implementation.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure that says where"
)]

use dht_pkarr::record::{Rdata, Record, Svcb, Txt, param};
use dht_pkarr::{
    CachedPacket, DnsError, Keypair, Name, PacketError, PublicKey, SignedPacket, Timestamp,
    TtlRange,
};
use pkarr::dns::rdata::{A, AAAA, CNAME, HTTPS, NS, NULL, RData, SVCB, SVCParam, TXT};
use pkarr::dns::{CLASS, CharacterString, Label, Packet, ResourceRecord};
use proptest::prelude::*;

fn their_name(name: &Name) -> pkarr::dns::Name<'static> {
    let labels: Vec<_> = name.labels().map(|label| Label::new_unchecked(label.to_vec())).collect();
    pkarr::dns::Name::new_with_labels(&labels)
}

fn their_svcb(svcb: &Svcb) -> SVCB<'static> {
    let mut theirs = SVCB::new(svcb.priority, their_name(&svcb.target));
    for (key, value) in &svcb.params {
        theirs.set_param(match *key {
            param::PORT => SVCParam::Port(svcb.port().unwrap()),
            param::ALPN => SVCParam::Alpn(
                svcb.alpn().map(|alpn| CharacterString::new(alpn).unwrap().into_owned()).collect(),
            ),
            key => SVCParam::Unknown(key, value.clone().into()),
        });
    }
    theirs
}

fn their_record(record: &Record) -> ResourceRecord<'static> {
    let data = match &record.data {
        Rdata::A(ip) => RData::A(A { address: (*ip).into() }),
        Rdata::Aaaa(ip) => RData::AAAA(AAAA { address: (*ip).into() }),
        Rdata::Cname(name) => RData::CNAME(CNAME(their_name(name))),
        Rdata::Ns(name) => RData::NS(NS(their_name(name))),
        Rdata::Txt(txt) => RData::TXT(txt.strings().fold(TXT::new(), |txt, string| {
            txt.with_char_string(CharacterString::new(string).unwrap().into_owned())
        })),
        Rdata::Https(svcb) => RData::HTTPS(HTTPS(their_svcb(svcb))),
        Rdata::Svcb(svcb) => RData::SVCB(their_svcb(svcb)),
        Rdata::Other { kind, data } => RData::NULL(*kind, NULL::new(data).unwrap().into_owned()),
        other => panic!("{other:?}"),
    };
    ResourceRecord::new(their_name(&record.name), CLASS::IN, record.ttl, data)
}

/// A record of ours, back from what they read.
fn our_record(theirs: &ResourceRecord<'_>) -> Record {
    let name = |name: &pkarr::dns::Name<'_>| name.to_string().parse::<Name>().unwrap();
    let data = match &theirs.rdata {
        RData::A(a) => Rdata::A(a.address.into()),
        RData::AAAA(aaaa) => Rdata::Aaaa(aaaa.address.into()),
        RData::CNAME(target) => Rdata::Cname(name(target)),
        RData::NS(target) => Rdata::Ns(name(target)),
        RData::TXT(_) | RData::HTTPS(_) | RData::SVCB(_) => {
            // Their contents are private or typed; their bytes say the same.
            let mut packet = Packet::new_reply(0);
            packet.answers.push(theirs.clone());
            let dns = packet.build_bytes_vec().unwrap();
            return read(&dns).unwrap().records().remove(0);
        }
        RData::NULL(kind, null) => Rdata::Other { kind: *kind, data: null.get_data().to_vec() },
        RData::Empty(kind) => Rdata::Other { kind: (*kind).into(), data: Vec::new() },
        other => panic!("{other:?}"),
    };
    Record::new(name(&theirs.name), theirs.ttl, data)
}

/// A DNS message as the content of a packet, its signature unchecked.
fn read(dns: &[u8]) -> Result<SignedPacket, PacketError> {
    SignedPacket::from_trusted_bytes(&[&[0; 104][..], dns].concat())
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::collection::vec("[a-z0-9_][a-z0-9_-]{0,9}", 0..4)
        .prop_map(|labels| labels.join(".").parse().unwrap())
}

fn any_svcb() -> impl Strategy<Value = Svcb> {
    let unknown =
        prop::collection::btree_map(7..65_535_u16, prop::collection::vec(any::<u8>(), 0..8), 0..3);
    let alpn = prop::collection::vec("[a-z0-9]{1,5}", 1..3);
    let known = (prop::option::of(any::<u16>()), prop::option::of(alpn));
    (any::<u16>(), any_name(), known, unknown).prop_map(|(priority, target, known, unknown)| {
        let (port, alpn) = known;
        let mut svcb = Svcb::new(priority, target);
        if let Some(port) = port {
            svcb = svcb.with_port(port);
        }
        if let Some(alpn) = alpn {
            svcb = svcb.with_alpn(alpn);
        }
        unknown.into_iter().fold(svcb, |svcb, (key, value)| svcb.with_param(key, value))
    })
}

fn any_data() -> impl Strategy<Value = Rdata> {
    let strings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..4);
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Rdata::A(ip.into())),
        any::<[u8; 16]>().prop_map(|ip| Rdata::Aaaa(ip.into())),
        any_name().prop_map(Rdata::Cname),
        any_name().prop_map(Rdata::Ns),
        strings.prop_map(|strings| Rdata::Txt(Txt::of_strings(strings).unwrap())),
        any_svcb().prop_map(Rdata::Https),
        any_svcb().prop_map(Rdata::Svcb),
        (60_000..65_000_u16, prop::collection::vec(any::<u8>(), 1..30))
            .prop_map(|(kind, data)| Rdata::Other { kind, data }),
    ]
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let record = (any_name(), any::<u32>(), any_data())
        .prop_map(|(name, ttl, data)| Record::new(name, ttl, data));
    prop::collection::vec(record, 0..10)
}

/// Both implementations sign the same records; theirs may refuse, as may ours.
fn sign_both(
    records: &[Record],
    secret: [u8; 32],
    micros: u64,
) -> Option<(SignedPacket, pkarr::SignedPacket)> {
    let ours = SignedPacket::sign(
        &Keypair::from_secret(&secret),
        Timestamp::from_micros(micros)?,
        records.to_vec(),
    );
    let theirs = records
        .iter()
        .fold(pkarr::SignedPacket::builder(), |builder, record| {
            builder.record(their_record(record))
        })
        .timestamp(micros.into())
        .sign(&pkarr::Keypair::from_secret_key(&secret));
    Some((ours.ok()?, theirs.unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_make_the_same_bytes_of_the_same_records(
        records in any_records(),
        secret: [u8; 32],
        micros in 0..u64::MAX / 2,
        seen in 0..1_700_000_000_000_000_u64,
    ) {
        let Some((ours, mut theirs)) = sign_both(&records, secret, micros) else { return Ok(()) };
        prop_assert_eq!(ours.as_bytes(), &theirs.as_bytes()[..]);
        prop_assert_eq!(ours.relay_payload(), &theirs.to_relay_payload()[..]);
        prop_assert_eq!(ours.public_key().to_string(), theirs.public_key().to_z32());
        prop_assert_eq!(ours.ttl(TtlRange::default()), theirs.ttl(300, 86_400));

        // What the one writes, the other reads.
        let payload = ours.relay_payload().to_vec().into();
        let read = pkarr::SignedPacket::from_relay_payload(&theirs.public_key(), &payload).unwrap();
        let of_theirs: Vec<_> = read.all_resource_records().map(our_record).collect();
        prop_assert_eq!(&of_theirs, &ours.records());
        let ours_again = SignedPacket::from_bytes(theirs.as_bytes()).unwrap();
        prop_assert_eq!(&ours_again, &ours);
        for record in &records {
            let name = record.name.to_string();
            let found = theirs.resource_records(&name).map(our_record).collect::<Vec<_>>();
            prop_assert_eq!(ours.records_of(&name).unwrap(), found);
        }

        // The form of caches.
        theirs.set_last_seen(&seen.into());
        let now = Timestamp::from_secs(1_800_000_000);
        let cached = CachedPacket::from_bytes(&theirs.serialize(), now).unwrap();
        prop_assert_eq!(cached.last_seen.as_micros(), seen);
        prop_assert_eq!(&cached.packet, &ours);
        prop_assert_eq!(cached.to_bytes(), theirs.serialize());
        let theirs_again = pkarr::SignedPacket::deserialize(&cached.to_bytes()).unwrap();
        prop_assert_eq!(theirs_again.last_seen().as_u64(), seen);
        prop_assert!(theirs_again.is_same_as(&theirs));
    }

    #[test]
    fn both_agree_which_packet_is_newer(
        texts in prop::array::uniform2("[a-c]{0,12}"),
        micros in prop::array::uniform2(0..2_u64),
    ) {
        let both: Vec<_> = texts
            .iter()
            .zip(micros)
            .map(|(text, micros)| {
                let record = Record::new(Name::root(), 1, Rdata::Txt(Txt::new(text)));
                sign_both(&[record], [7; 32], micros).unwrap()
            })
            .collect();
        prop_assert_eq!(
            both[0].0.more_recent_than(&both[1].0),
            both[0].1.more_recent_than(&both[1].1)
        );
    }

    #[test]
    fn every_key_that_they_read_from_a_canonical_text_we_read_too(
        secret: [u8; 32],
        front in prop::sample::select(vec![
            "", "pk:", "https://", "pubky://", "//", "https://foo.", "https://a@", "a.b.", "https://a@b.c.",
        ]),
        back in prop::sample::select(vec![
            "", ".", "/", "/a/b", "?q=v", "#h", ":80", ".:8888?q=v", "/a@b", ".#h", ":80/a",
        ]),
    ) {
        let key = Keypair::from_secret(&secret).public_key();
        let text = format!("{front}{key}{back}");
        prop_assert_eq!(text.parse::<PublicKey>(), Ok(key));
        if let Ok(theirs) = pkarr::PublicKey::try_from(text.as_str()) {
            prop_assert_eq!(theirs.as_bytes(), key.as_bytes());
        }
    }

    #[test]
    fn every_message_that_they_read_we_read_alike(
        records in any_records(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let Some((ours, _)) = sign_both(&records, [1; 32], 1) else { return Ok(()) };
        let mut dns = ours.dns().to_vec();
        for (at, byte) in edits {
            let at = at.index(dns.len());
            // Not in the counts: theirs reserves memory for as many records as a message claims.
            if !(4..12).contains(&at) {
                dns[at] = byte;
            }
        }
        let Ok(theirs) = Packet::parse(&dns) else { return Ok(()) };
        let ours = match read(&dns) {
            // They follow pointers into the very name that has them; we only back.
            Err(PacketError::Dns(DnsError::BadPointer)) => return Ok(()),
            read => read.unwrap().records(),
        };
        prop_assert_eq!(ours.len(), theirs.answers.len());
        for (ours, theirs) in ours.iter().zip(&theirs.answers) {
            prop_assert_eq!(ours.ttl, theirs.ttl);
            prop_assert_eq!(ours.data.kind(), u16::from(theirs.rdata.type_code()));
            prop_assert!(ours.name.labels().eq(theirs.name.as_bytes()));
            if let (Rdata::Cname(ours), RData::CNAME(theirs)) = (&ours.data, &theirs.rdata) {
                prop_assert!(ours.labels().eq(theirs.as_bytes()));
            }
        }
    }
}

#[test]
fn types_that_only_they_read_keep_their_meaning() {
    let origin = pkarr::dns::Name::new_unchecked("mail.example");
    let mut packet = Packet::new_reply(0);
    let mx = pkarr::dns::rdata::MX { preference: 10, exchange: origin.clone() };
    let records = [
        (origin.clone(), RData::CNAME(CNAME(origin.clone()))),
        (origin.clone(), RData::MX(mx)),
        (origin.clone(), RData::PTR(pkarr::dns::rdata::PTR(origin))),
    ];
    for (name, data) in records {
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
    }
    // Their names are compressed, so the data alone would mean nothing elsewhere.
    let compressed = packet.build_bytes_vec_compressed().unwrap();
    assert!(compressed.len() < packet.build_bytes_vec().unwrap().len() - 30);
    let ours = read(&compressed).unwrap().records();
    let plain = b"\x04mail\x07example\0";
    let expected = [
        Rdata::Cname("mail.example".parse().unwrap()),
        Rdata::Other { kind: 15, data: [&[0, 10][..], plain].concat() },
        Rdata::Other { kind: 12, data: plain.to_vec() },
    ];
    assert!(ours.iter().map(|record| &record.data).eq(&expected));
}

#[test]
fn packets_too_long_for_the_dht_are_theirs_alone() {
    let text =
        |len| Record::new(Name::root(), 60, Rdata::Other { kind: 65_000, data: vec![1; len] });
    for (len, ours_too) in [(920, true), (921, false), (924, false)] {
        let keypair = Keypair::from_secret(&[3; 32]);
        let theirs = pkarr::SignedPacket::builder()
            .record(their_record(&text(len)))
            .sign(&pkarr::Keypair::from_secret_key(&[3; 32]))
            .unwrap();
        assert_eq!(theirs.encoded_packet().len(), 76 + len);
        let read = SignedPacket::from_bytes(theirs.as_bytes()).unwrap();
        assert_eq!(read.dns().len(), 76 + len);
        assert_eq!(read.to_item().is_ok(), ours_too);
        let ours = SignedPacket::sign(&keypair, Timestamp::UNIX_EPOCH, vec![text(len)]);
        assert_eq!(ours.is_ok(), ours_too);
    }
}

#[test]
fn both_refuse_what_is_no_packet() {
    let keypair = Keypair::from_secret(&[4; 32]);
    let packet =
        SignedPacket::builder().txt("a", "b", 60).sign(&keypair, Timestamp::from_secs(1)).unwrap();
    let key = pkarr::Keypair::from_secret_key(&[4; 32]).public_key();
    let check = |payload: Vec<u8>| {
        let ours = SignedPacket::from_relay_payload(&keypair.public_key(), &payload);
        let theirs = pkarr::SignedPacket::from_relay_payload(&key, &payload.into());
        assert_eq!(ours.is_ok(), theirs.is_ok());
        ours.is_ok()
    };
    let payload = packet.relay_payload();
    assert!(check(payload.to_vec()));
    for len in 0..payload.len() {
        assert!(!check(payload[..len].to_vec()), "{len}");
    }
    for at in 0..payload.len() {
        let mut changed = payload.to_vec();
        changed[at] ^= 1;
        assert!(!check(changed), "{at}");
    }
    assert!(!check(vec![0; 1_073]));
}
