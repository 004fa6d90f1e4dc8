use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::record::{Rdata, Svcb, Txt};
use crate::{Keypair, Name, SignedPacket, Timestamp};

fn key() -> PublicKey {
    Keypair::from_secret(&[0; 32]).public_key()
}

fn read(text: &str) -> Vec<Record> {
    parse(text, &key()).unwrap_or_else(|error| panic!("{error}; {}", error.hint))
}

/// The records of a text as lines.
fn lines(text: &str) -> Vec<String> {
    read(text).iter().map(|record| line(record, &key())).collect()
}

#[test]
fn a_zone_as_people_write_it() {
    let key = key();
    let text = format!(
        "; my zone\r
$TTL 1h30m
$ORIGIN @
@       IN 60 A 192.0.2.1 ; here
        60 in aaaa 2001:db8::1

www     CNAME example.com.
blog    cname www
other   CNAME yg4gxe7z1r7mr6orids9fh95y7gxhdsxjqi6nngsxxtakqaxr5no
_n      TXT   (\"two; words\" and ; a comment
               more)
$ORIGIN sub
@       NS ns1.example.com.
deep    NS ns
{key}.  A 192.0.2.2
a.{key} A 192.0.2.3
        HTTPS 0 example.com.
*       HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1,192.0.2.2 mandatory=alpn
        SVCB 2 @ no-default-alpn ipv6hint=2001:db8::1 key65400=\"a b\\\"\\001\"
x       TYPE65400 \\# 3 01 0203"
    );
    let expected = [
        "@ 60 IN A 192.0.2.1".to_owned(),
        "@ 60 IN AAAA 2001:db8::1".to_owned(),
        "www 5400 IN CNAME example.com.".to_owned(),
        format!("blog 5400 IN CNAME www.{key}."),
        "other 5400 IN CNAME yg4gxe7z1r7mr6orids9fh95y7gxhdsxjqi6nngsxxtakqaxr5no.".to_owned(),
        "_n 5400 IN TXT \"two; words\" \"and\" \"more\"".to_owned(),
        "sub 5400 IN NS ns1.example.com.".to_owned(),
        format!("deep.sub 5400 IN NS ns.sub.{key}."),
        "@ 5400 IN A 192.0.2.2".to_owned(),
        "a 5400 IN A 192.0.2.3".to_owned(),
        "a 5400 IN HTTPS 0 example.com.".to_owned(),
        "*.sub 5400 IN HTTPS 1 . mandatory=alpn alpn=h2,h3 port=8443 \
         ipv4hint=192.0.2.1,192.0.2.2"
            .to_owned(),
        format!(
            "*.sub 5400 IN SVCB 2 sub.{key}. no-default-alpn ipv6hint=2001:db8::1 \
             key65400=\"a b\\\"\\001\""
        ),
        "x.sub 5400 IN TYPE65400 \\# 3 010203".to_owned(),
    ];
    assert_eq!(lines(&text), expected);
    // What is written reads back as the same.
    assert_eq!(read(&expected.join("\n")), read(&text));
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_what_to_do() {
    let long = format!("a TXT \"{}\"", "x".repeat(256));
    for (text, at, word, hint) in [
        ("\n\n@ A", 3, "IPv4", "192.0.2.1"),
        ("@ A 192.0.2.256", 1, "192.0.2.256", "192.0.2.1"),
        ("@ AAAA 192.0.2.1", 1, "IPv6", "2001"),
        ("@ A 192.0.2.1 5", 1, "too much", "quotes"),
        ("@ MX 10 mail", 1, "MX", "CNAME"),
        ("@ TYPE70000 \\# 0", 1, "TYPE70000", "TYPE123"),
        ("@", 1, "type", "NAME"),
        ("A 192.0.2.1", 1, "192.0.2.1", "1h"),
        ("  A 192.0.2.1", 1, "no name", "NAME"),
        ("example.com. A 192.0.2.1", 1, "below the key", "dot at the end"),
        (". A 192.0.2.1", 1, "below the key", "@"),
        ("a..b A 192.0.2.1", 1, "empty", "dot"),
        ("@ 1x A 192.0.2.1", 1, "1x", "1h"),
        ("@ 4294967296 A 192.0.2.1", 1, "4294967296", "seconds"),
        ("@ 2147483648 A 192.0.2.1", 1, "2147483648", "seconds"),
        ("@ 1 2 A 192.0.2.1", 1, "\"2\"", "TYPE"),
        ("$INCLUDE other", 1, "$INCLUDE", "$ORIGIN"),
        ("$TTL", 1, "time", "$TTL"),
        ("$TTL 5 6", 1, "too much", ""),
        ("$ORIGIN example.com.", 1, "below", ""),
        ("a TXT \"open\nb", 1, "quote", "\""),
        ("a TXT (open\nb", 2, "parenthesis", ")"),
        ("a TXT )", 1, "parenthesis", "remove"),
        ("a TXT x\\\nb", 1, "backslash", "\\\\"),
        ("a TXT \\300", 1, "text", "255"),
        ("a TXT", 1, "texts", "255"),
        (&long, 1, "255", "255"),
        ("a HTTPS 1", 1, "target", "PRIORITY"),
        ("a HTTPS x .", 1, "priority", "PRIORITY"),
        ("a HTTPS 1 . port=65536", 1, "65536", "port="),
        ("a HTTPS 1 . colour=red", 1, "colour", "alpn"),
        ("a HTTPS 1 . port=1 port=2", 1, "twice", "keep"),
        ("a HTTPS 1 . alpn=", 1, "alpn", "alpn"),
        ("a HTTPS 1 . no-default-alpn=1", 1, "no-default-alpn", ""),
        ("a HTTPS 1 . ipv4hint=::1", 1, "::1", "ipv4hint"),
        ("a HTTPS 1 . mandatory=colour", 1, "colour", ""),
        ("a HTTPS 0 b port=1", 1, "alias", "priority"),
        ("a TYPE9 x", 1, "\\#", "LENGTH"),
        ("a TYPE9 \\# 2 0", 1, "2 bytes", "HEX"),
        ("a TYPE9 \\# 1 0g", 1, "0g", "HEX"),
    ] {
        let error = parse(text, &key()).unwrap_err();
        assert_eq!(error.line, at, "{text:?}: {error}");
        assert!(error.to_string().contains(word), "{text:?}: {error}");
        assert!(error.hint.contains(hint), "{text:?}: {}", error.hint);
    }
    assert_eq!(read("\n ; nothing\n"), []);
}

#[test]
fn odd_names_are_written_so_that_they_read_back() {
    let other = Keypair::from_secret(&[1; 32]).public_key();
    let odd = [
        format!("a.{other}"),
        other.to_string(),
        r"\@".to_owned(),
        r"\$TTL.a\.b".to_owned(),
        r"\009\;\(\).\255".to_owned(),
    ];
    for name in odd {
        let name = Name::within(&key(), &name).unwrap();
        let record = Record::new(name, 1, Rdata::A([192, 0, 2, 1].into()));
        assert_eq!(read(&line(&record, &key())), [record]);
    }
    let outside = Record::new("example.com".parse().unwrap(), 1, Rdata::A([0; 4].into()));
    assert!(line(&outside, &key()).starts_with("example.com. "));
}

fn rdata() -> impl Strategy<Value = Rdata> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let name = || "[a-c@.\\\\]{0,8}".prop_filter_map("a name", |text| text.parse::<Name>().ok());
    let svcb = move || {
        let params =
            prop::collection::btree_map(prop_oneof![0..8_u16, any::<u16>()], bytes(), 0..4);
        (1..=u16::MAX, name(), params).prop_map(|(priority, target, params)| {
            params
                .into_iter()
                .fold(Svcb::new(priority, target), |svcb, (key, value)| svcb.with_param(key, value))
        })
    };
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Rdata::A(ip.into())),
        any::<[u8; 16]>().prop_map(|ip| Rdata::Aaaa(ip.into())),
        name().prop_map(Rdata::Cname),
        name().prop_map(Rdata::Ns),
        prop::collection::vec(bytes(), 1..4)
            .prop_map(|strings| Rdata::Txt(Txt::of_strings(strings).unwrap())),
        svcb().prop_map(Rdata::Https),
        svcb().prop_map(Rdata::Svcb),
        (any::<u16>(), bytes()).prop_map(|(kind, data)| Rdata::Other { kind, data }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_reads_back(label in "[a-z*@]{0,5}", ttl in 0..=i32::MAX as u32, data in rdata()) {
        let record = Record::new(Name::within(&key(), &label).unwrap(), ttl, data);
        let text = line(&record, &key());
        let read = parse(&text, &key());
        prop_assert_eq!(read, Ok(vec![record]), "{}", text);
    }

    #[test]
    fn no_text_is_a_panic(text in "[ \n\t\"\\\\();@$.=,#0-9A-Fa-z]{0,80}", any in "\\PC{0,40}") {
        for text in [&text, &any, &format!("@ HTTPS 1 . {text}"), &format!("@ TXT {any}")] {
            let Ok(records) = parse(text, &key()) else { continue };
            // And what is read can be signed, or is too much.
            let packet = SignedPacket::sign(
                &Keypair::from_secret(&[0; 32]),
                Timestamp::from_secs(1),
                records,
            );
            if let Ok(packet) = packet {
                prop_assert_eq!(SignedPacket::from_bytes(packet.as_bytes()), Ok(packet));
            }
        }
    }
}
