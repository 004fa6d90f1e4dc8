use proptest::prelude::*;

use super::*;

/// A message with so many entries in its four sections, claimed or true.
fn message(counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
    let counts = counts.into_iter().flat_map(u16::to_be_bytes);
    [0, 0, 0x80, 0].into_iter().chain(counts).chain(parts.concat()).collect()
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u16;
    let parts: [&[u8]; 5] =
        [name, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &len.to_be_bytes(), data];
    parts.concat()
}

fn answer(parts: &[Vec<u8>]) -> Result<Vec<Record>, DnsError> {
    read(&message([0, parts.len() as u16, 0, 0], &[&parts.concat()]))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn pointers_go_back_and_only_back() {
    // The first name begins at 12, the second at 31.
    let first = record(b"\x01a\x01b\0", kind::A, &[1, 2, 3, 4]);
    assert_eq!(first.len(), 19);
    for (bytes, expected) in [
        (&b"\xc0\x0c"[..], Ok("a.b")),
        (b"\xc0\x0e", Ok("b")),
        (b"\x01c\xc0\x0c", Ok("c.a.b")),
        (b"\xc0\x10", Ok(".")),
        // To itself, to its own labels, forward, out of the message.
        (b"\xc0\x1f", Err(DnsError::BadPointer)),
        (b"\x01c\xc0\x1f", Err(DnsError::BadPointer)),
        (b"\xc0\x20", Err(DnsError::BadPointer)),
        (b"\xff\xff", Err(DnsError::BadPointer)),
        // Labels of unknown form.
        (b"\x40a\0", Err(DnsError::BadLabel)),
        (b"\x80a\0", Err(DnsError::BadLabel)),
    ] {
        let read = answer(&[first.clone(), record(bytes, kind::A, &[5, 6, 7, 8])]);
        let read = read.map(|records| records[1].name.clone());
        assert_eq!(read, expected.map(name), "{bytes:?}");
    }
}

#[test]
fn pointers_are_followed_as_often_as_a_name_has_labels() {
    let first = record(b"\x01a\x01b\0", kind::A, &[1, 2, 3, 4]);
    // Each name is a pointer to the one before, the first of them to a name: 16 bytes a record.
    let pointer = |number: u16| {
        let target = if number == 0 { 12 } else { 31 + 16 * (number - 1) };
        record(&(POINTER | target).to_be_bytes(), kind::A, &[0; 4])
    };
    let records: Vec<_> = [first].into_iter().chain((0..200).map(pointer)).collect();
    let read = answer(&records[..=MAX_POINTERS]).unwrap();
    assert_eq!(read.last().unwrap().name, name("a.b"));
    assert_eq!(answer(&records[..=MAX_POINTERS + 1]), Err(DnsError::BadPointer));
}

#[test]
fn circles_that_lie_wholly_behind_are_no_names() {
    // The data of the first record, at 27 and 29: pointers to themselves, and to each other.
    for (data, at) in [([0xc0, 0x1b, 0, 0], 0x1b), ([0xc0, 0x1d, 0xc0, 0x1b], 0x1d)] {
        let first = record(b"\x01a\x01b\0", kind::A, &data);
        let read = answer(&[first, record(&[0xc0, at], kind::A, &[0; 4])]);
        assert_eq!(read, Err(DnsError::BadPointer));
    }
}

#[test]
fn a_name_of_pointers_to_pointers_is_none() {
    // In the data of a record of unknown type: hundreds of pointers, each to the one before.
    let mut data = alloc::vec![0, 0];
    let start = 12 + 1 + 10;
    for at in (start..start + 900).step_by(2) {
        data.extend_from_slice(&(at as u16 | POINTER).to_be_bytes());
    }
    let last = (start + data.len() - 2) as u16 | POINTER;
    let records =
        answer(&[record(b"\0", 65_280, &data), record(&last.to_be_bytes(), kind::A, &[0; 4])]);
    assert_eq!(records, Err(DnsError::BadPointer));
}

#[test]
fn names_are_255_bytes_at_most_however_they_are_put_together() {
    let long = b"\x3f".iter().chain(&[b'x'; 63]).copied().collect::<Vec<u8>>();
    let three = [&long[..], &long, &long, b"\0"].concat();
    let of_len = |len: u8| {
        let mut end = alloc::vec![len];
        end.resize(1 + usize::from(len), b'y');
        end.extend_from_slice(b"\xc0\x0c");
        answer(&[record(&three, kind::A, &[0; 4]), record(&end, kind::A, &[0; 4])])
    };
    assert_eq!(of_len(61).unwrap()[1].name.as_wire().len(), MAX_NAME_LEN);
    assert_eq!(of_len(62), Err(DnsError::NameTooLong));
}

#[test]
fn framing_is_all_that_must_be_sound() {
    for len in 0..12 {
        assert_eq!(read(&message([0; 4], &[])[..len]), Err(DnsError::Truncated), "{len}");
    }
    assert_eq!(read(&message([0; 4], &[b"something behind"])), Ok(Vec::new()));
    for counts in [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [u16::MAX; 4]] {
        assert_eq!(read(&message(counts, &[])), Err(DnsError::Truncated), "{counts:?}");
    }
    let a = record(b"\x01a\0", kind::A, &[1, 2, 3, 4]);
    let whole = message([1, 1, 1, 1], &[b"\x01q\0\0\x01\0\x01", &a, &a, &a]);
    assert_eq!(read(&whole).unwrap().len(), 1, "only answers are returned");
    for len in 0..whole.len() {
        assert_eq!(read(&whole[..len]), Err(DnsError::Truncated), "{len}");
    }
}

#[test]
fn data_that_are_not_what_their_type_demands_are_kept() {
    for (kind, data) in [
        (kind::A, &b"123"[..]),
        (kind::A, b"12345"),
        (kind::AAAA, b"123456789012345"),
        (kind::CNAME, b"\x01a"),
        (kind::CNAME, b"\x01a\0b"),
        (kind::NS, b"\xc0\xff"),
        (kind::TXT, b""),
        (kind::TXT, b"\x05a"),
        (kind::HTTPS, b"\0"),
        (kind::HTTPS, b"\0\x01"),
        // Keys that descend, that stand twice, and a value that is cut.
        (kind::HTTPS, b"\0\x01\0\0\x03\0\x02\x01\xbb\0\x01\0\x03\x02h2"),
        (kind::SVCB, b"\0\x01\0\0\x03\0\x02\x01\xbb\0\x03\0\x02\x01\xbb"),
        (kind::SVCB, b"\0\x01\0\0\x03\0\x03\x01\xbb"),
        (15, b"\0\x0a\x01a"),
    ] {
        let records =
            answer(&[record(b"\0", kind, data), record(b"\0", kind::A, &[1; 4])]).unwrap();
        assert_eq!(records[0].data, Rdata::Other { kind, data: data.to_vec() }, "{kind} {data:?}");
        assert_eq!(records[1].data, Rdata::A([1; 4].into()), "what follows is read");
    }
    // A name in data may not run out of them into the next record.
    let records = answer(&[record(b"\0", kind::CNAME, b"\x03ab"), record(b"\0", kind::A, &[1; 4])]);
    assert!(matches!(records.unwrap()[0].data, Rdata::Other { .. }));
}

#[test]
fn compressed_names_in_data_are_written_out() {
    let a = record(b"\x01a\x01b\0", kind::A, &[0; 4]);
    for (kind, data, expected) in [
        (12, &b"\xc0\x0c"[..], &b"\x01a\x01b\0"[..]),
        (15, b"\0\x0a\xc0\x0c", b"\0\x0a\x01a\x01b\0"),
        (33, b"\0\x01\0\x02\0\x03\x01s\xc0\x0e", b"\0\x01\0\x02\0\x03\x01s\x01b\0"),
        (6, b"\xc0\x0c\xc0\x0etail", b"\x01a\x01b\0\x01b\0tail"),
    ] {
        let records = answer(&[a.clone(), record(b"\0", kind, data)]).unwrap();
        assert_eq!(records[1].data, Rdata::Other { kind, data: expected.to_vec() });
    }
    let target = answer(&[a.clone(), record(b"\0", kind::CNAME, b"\x01c\xc0\x0c")]).unwrap();
    assert_eq!(target[1].data, Rdata::Cname(name("c.a.b")));
    let svcb = answer(&[a, record(b"\0", kind::HTTPS, b"\0\x01\xc0\x0c")]).unwrap();
    assert_eq!(svcb[1].data, Rdata::Https(Svcb::new(1, name("a.b"))));
}

#[test]
fn owners_and_targets_are_compressed_but_not_those_of_services() {
    let written = write(&[
        Record::new(name("a.b"), 60, Rdata::Cname(name("c.b"))),
        Record::new(name("c.b"), 60, Rdata::Ns(name("a.b"))),
        Record::new(name("B"), 60, Rdata::Svcb(Svcb::new(1, name("a.b")))),
    ])
    .unwrap();
    let expected = message(
        [0, 3, 0, 0],
        &[
            &record(b"\x01a\x01b\0", kind::CNAME, b"\x01c\xc0\x0e"),
            &record(b"\xc0\x1b", kind::NS, b"\xc0\x0c"),
            // Letters differ: it is another name on the wire, and is signed as such.
            &record(b"\x01B\0", kind::SVCB, b"\0\x01\x01a\x01b\0"),
        ],
    );
    assert_eq!(written, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut whole = message([1, 3, 1, 1], &[]);
        whole.extend_from_slice(&bytes);
        for message in [&bytes, &whole] {
            if let Ok(records) = read(message) {
                prop_assert!(records.len() <= message.len() / 11);
                prop_assert!(write(&records).is_some());
            }
        }
    }
}

#[test]
fn messages_of_servers_round_trip() {
    let own = Record::new(name("www.example.com"), 60, Rdata::Cname(name("a.example.com")));
    let opt = Record {
        name: Name::root(),
        class: 1_232,
        ttl: 0,
        data: Rdata::Other { kind: 41, data: alloc::vec![] },
    };
    let mut message = Message::new(0xabcd, flag::REPLY | flag::RECURSION_AVAILABLE | 3);
    message.questions.push(Question { name: name("WWW.example.com"), kind: kind::A, class: 1 });
    message.answers.push(own.clone());
    message.authorities.push(own);
    message.additional.push(opt);
    let bytes = message.to_bytes().unwrap();
    assert_eq!(bytes[..12], [0xab, 0xcd, 0x80, 0x83, 0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(Message::from_bytes(&bytes), Ok(message));
    for len in 0..bytes.len() {
        assert_eq!(Message::from_bytes(&bytes[..len]), Err(DnsError::Truncated), "{len}");
    }
}
