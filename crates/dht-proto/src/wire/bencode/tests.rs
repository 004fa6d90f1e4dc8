//! Syntax: what the bencode tests of libtorrent and mldht check, and bendy as the judge.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bendy::decoding::{Decoder, Object};
use proptest::prelude::*;

use super::*;

/// Skips one value that must fill `text`.
fn skip(text: &[u8]) -> Result<Reader<'_>, SyntaxError> {
    let mut reader = Reader::new(text);
    reader.skip().map(|()| reader)
}

fn error(text: &str) -> SyntaxError {
    skip(text.as_bytes()).expect_err(text)
}

fn whole(text: &str) -> Reader<'_> {
    let reader = skip(text.as_bytes()).expect(text);
    assert!(reader.is_empty(), "{text}");
    reader
}

fn int(text: &str) -> Result<Option<i64>, SyntaxError> {
    Reader::new(text.as_bytes()).int()
}

#[test]
fn dict_unordered_keys() {
    assert!(whole("d2:bai1e2:abi2ee").unsorted());
    assert!(whole("ld1:bi1e1:ai2eee").unsorted());
    assert!(!whole("d2:abi1e2:bai2ee").unsorted());
    // A prefix comes first, and bytes compare unsigned.
    assert!(!whole("d0:i1e1:ai2e2:aai3e1:zi4ee").unsorted());
    assert!(whole("d2:aai1e1:ai2ee").unsorted());
    let mut reader = Reader::new(b"d1:\xffi1e1:ai2ee");
    reader.skip().unwrap();
    assert!(reader.unsorted());
}

#[test]
fn dict_duplicate_key() {
    assert!(whole("d1:ai1e1:ai2ee").unsorted());
    assert!(whole("d0:i1e0:i2ee").unsorted());
    // Equal keys of different dictionaries are none.
    assert!(!whole("d1:ad1:ai1ee1:bd1:ai1eee").unsorted());
}

#[test]
fn dict_key_must_be_a_string() {
    for text in ["di1ei2ee", "dlei2ee", "ddei2ee", "d-1:ae"] {
        assert_eq!(error(text), SyntaxError::UnexpectedByte, "{text}");
    }
}

#[test]
fn premature_e() {
    for text in ["e", "d1:ae", "ld1:aee"] {
        assert_eq!(error(text), SyntaxError::UnexpectedByte, "{text}");
    }
    let mut reader = Reader::new(b"lee");
    reader.skip().unwrap();
    assert_eq!(reader.skip(), Err(SyntaxError::UnexpectedByte));
}

#[test]
fn negative_length_prefix() {
    assert_eq!(error("-1:a"), SyntaxError::UnexpectedByte);
    assert_eq!(error("1-:a"), SyntaxError::BadLength);
}

#[test]
fn overflow_length_prefix() {
    for digits in ["4294967297", "18446744073709551617", "99999999999999999999999999999999"] {
        assert_eq!(error(&format!("{digits}:a")), SyntaxError::Truncated);
    }
}

#[test]
fn leading_zero_length_prefix() {
    for text in ["01:a", "00:", "001:a"] {
        assert_eq!(error(text), SyntaxError::BadLength, "{text}");
    }
    assert_eq!(Reader::new(b"0:").bytes(), Ok(Some(&b""[..])));
}

#[test]
fn length_prefix_without_colon() {
    for text in ["1a", "12a", "123a", "1e", "1 :a", "1;a"] {
        assert_eq!(error(text), SyntaxError::BadLength, "{text}");
    }
    for text in ["0", "1", "12", "123"] {
        assert_eq!(error(text), SyntaxError::Truncated, "{text}");
    }
}

#[test]
fn int_nodigit() {
    assert_eq!(int("ie"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i+1e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i1.5e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i0x1e"), Err(SyntaxError::BadInteger));
}

#[test]
fn int_minus() {
    assert_eq!(int("i-e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i--1e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i-0e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i-1e"), Ok(Some(-1)));
}

#[test]
fn int_interior_minus() {
    assert_eq!(int("i10-5e"), Err(SyntaxError::BadInteger));
    assert_eq!(int("i5-e"), Err(SyntaxError::BadInteger));
}

#[test]
fn int_overflow() {
    assert_eq!(int("i9223372036854775807e"), Ok(Some(i64::MAX)));
    assert_eq!(int("i-9223372036854775808e"), Ok(Some(i64::MIN)));
    // Fine as syntax, but no value that we could hold.
    for text in ["i9223372036854775808e", "i-9223372036854775809e", "i18446744073709551616e"] {
        assert_eq!(int(text), Ok(None), "{text}");
    }
    whole(&format!("i{}e", "9".repeat(5_000)));
}

#[test]
fn int_truncated() {
    for text in ["i", "i-", "i0", "i1", "i-1", "i12"] {
        assert_eq!(int(text), Err(SyntaxError::Truncated), "{text}");
    }
}

#[test]
fn int_leading_zero() {
    for text in ["i01e", "i00e", "i-01e", "i0123e"] {
        assert_eq!(int(text), Err(SyntaxError::BadInteger), "{text}");
    }
    assert_eq!(int("i0e"), Ok(Some(0)));
}

/// mldht, TokenizerTest.
#[test]
fn correct_number_handling() {
    for (text, value) in [("i0e", 0), ("i10e", 10), ("i-10e", -10), ("i100020e", 100_020)] {
        assert_eq!(int(text), Ok(Some(value)), "{text}");
    }
    for text in ["i-0e", "i01e", "i-e", "ie", "i1-e"] {
        assert!(int(text).is_err(), "{text}");
    }
}

/// mldht, TokenizerTest.
#[test]
fn stops_before_trailing_content() {
    let mut reader = Reader::new(b"d1:ai1ee5:trail");
    assert_eq!(reader.raw(), Ok(&b"d1:ai1ee"[..]));
    assert_eq!(reader.bytes(), Ok(Some(&b"trail"[..])));
    assert!(reader.is_empty());
}

#[test]
fn depth_limit() {
    for (open, close) in [("l", "e"), ("d0:", "e")] {
        let nested = |depth: usize| {
            // The innermost dictionary is empty.
            open.repeat(depth - 1) + &open[..1] + &close.repeat(depth)
        };
        whole(&nested(MAX_DEPTH));
        assert_eq!(error(&nested(MAX_DEPTH + 1)), SyntaxError::TooDeep);
        // What was left does not count.
        whole(&format!("l{}{}e", nested(MAX_DEPTH - 1), nested(MAX_DEPTH - 1)));
    }
    assert_eq!(error(&"l".repeat(8_000)), SyntaxError::TooDeep);
    assert_eq!(error(&"d0:".repeat(2_000)), SyntaxError::TooDeep);
}

#[test]
fn depth_limit_counts_what_was_entered() {
    let nested = "l".repeat(MAX_DEPTH) + &"e".repeat(MAX_DEPTH);
    let text = format!("l{nested}e");
    let mut reader = Reader::new(text.as_bytes());
    assert_eq!(reader.list(), Ok(true));
    assert_eq!(reader.skip(), Err(SyntaxError::TooDeep));
    let open = "l".repeat(MAX_DEPTH + 1);
    let mut reader = Reader::new(open.as_bytes());
    for _ in 0..MAX_DEPTH {
        assert_eq!(reader.list(), Ok(true));
    }
    assert_eq!(reader.list(), Err(SyntaxError::TooDeep));
}

/// libtorrent limits items; here the length of the datagram does.
#[test]
fn item_limit() {
    whole(&format!("l{}e", "0:".repeat(4_000)));
    whole(&format!("l{}e", "le".repeat(4_000)));
}

#[test]
fn unexpected_eof() {
    for text in ["", "d", "l", "d1:a", "d1:a1:b", "d1:ai1e", "li1e", "l1:a", "d1:al", "d1", "3:ab"]
    {
        assert_eq!(error(text), SyntaxError::Truncated, "{text}");
    }
}

#[test]
fn exceed_buf_limit() {
    assert_eq!(error("l2:..0"), SyntaxError::Truncated);
    assert_eq!(error("5:abcd"), SyntaxError::Truncated);
    assert_eq!(error("d5:abcde10:abcdee"), SyntaxError::Truncated);
}

#[test]
fn long_string() {
    assert_eq!(error("99999999:abc"), SyntaxError::Truncated);
    assert_eq!(error("100000000:abc"), SyntaxError::Truncated);
    let long = format!("1000:{}", "x".repeat(1_000));
    whole(&long);
}

#[test]
fn raw_spans_are_exact() {
    let mut reader = Reader::new(b"d1:ad1:bl1:ci-5eeee1:x");
    let mut order = Order::default();
    assert_eq!(reader.dict(), Ok(true));
    assert_eq!(reader.key(&mut order), Ok(Some(&b"a"[..])));
    assert_eq!(reader.raw(), Ok(&b"d1:bl1:ci-5eee"[..]));
    assert_eq!(reader.key(&mut order), Ok(None));
    assert_eq!(reader.raw(), Ok(&b"1:x"[..]));
}

#[test]
fn other_bytes_start_no_value() {
    for byte in 0..=u8::MAX {
        if !b"0123456789dile".contains(&byte) {
            assert_eq!(skip(&[byte]).unwrap_err(), SyntaxError::UnexpectedByte, "{byte}");
        }
    }
}

#[test]
fn the_writer_writes_what_the_reader_reads() {
    let mut out = [0; 64];
    for value in [0, 1, -1, 9, 10, 99, 100, i64::MAX, i64::MIN] {
        let mut writer = Writer(Slice::new(&mut out));
        writer.int(value).unwrap();
        let len = writer.0.len();
        let text = format!("i{value}e");
        assert_eq!(&out[..len], text.as_bytes());
        assert_eq!(int(&text), Ok(Some(value)));
    }
    for len in [0, 1, 9, 10, 60] {
        let mut writer = Writer(Slice::new(&mut out));
        writer.bytes(&[b'x'; 60][..len]).unwrap();
        let written = writer.0.len();
        assert_eq!(&out[..written], format!("{len}:{}", "x".repeat(len)).as_bytes());
    }
}

#[test]
fn the_writer_stops_at_the_end() {
    let mut out = [0; 4];
    let mut writer = Writer(Slice::new(&mut out));
    assert_eq!(writer.bytes(b"ab"), Some(()));
    assert_eq!(writer.bytes(b"ab"), None);
    let mut counter = Writer(Count::default());
    counter.bytes(b"ab").unwrap();
    counter.int(-12).unwrap();
    assert_eq!(counter.0.0, 9);
}

/// Whether bendy finds exactly one canonical value within our depth at the start of `text`.
fn is_canonical(text: &[u8]) -> bool {
    fn walk(object: Object<'_, '_>) -> Option<()> {
        match object {
            Object::Integer(_) | Object::Bytes(_) => {}
            Object::List(mut list) => {
                while let Some(item) = list.next_object().ok()? {
                    walk(item)?;
                }
            }
            Object::Dict(mut dict) => {
                while let Some((_, item)) = dict.next_pair().ok()? {
                    walk(item)?;
                }
            }
        }
        Some(())
    }
    let mut decoder = Decoder::new(text).with_max_depth(MAX_DEPTH);
    let Ok(Some(object)) = decoder.next_object() else { return false };
    walk(object).is_some()
}

fn agree_with_bendy(text: &[u8]) {
    let ours = skip(text).is_ok_and(|reader| !reader.unsorted());
    assert_eq!(ours, is_canonical(text), "{}", text.escape_ascii());
}

/// Mostly bencode: pieces of it in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just("d"), 3 => Just("l"), 6 => Just("e"), 3 => Just("1:a"), 3 => Just("1:b"),
        1 => Just("0:"), 2 => Just("i1e"), 1 => Just("i-0e"), 1 => Just("i01e"), 1 => Just("01:a"),
        1 => Just("i-7e"), 1 => Just("i"), 1 => Just("2:ab"), 1 => Just("-"), 1 => Just("9"),
        1 => Just("12:abcdefghijkl"), 1 => Just("d1:ai1e1:bi2ee"), 1 => Just("d1:bi1e1:ai2ee"),
        1 => Just(":"), 1 => Just("i99999999999999999999e"), 1 => Just("x"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

/// One value of any shape, its dictionaries mostly sorted.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|value| format!("i{value}e")),
        "[a-z]{0,12}".prop_map(|text| format!("{}:{text}", text.len())),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let pair = ("[a-c]{0,2}", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("l{}e", items.concat())),
            (prop::collection::vec(pair, 0..5), any::<bool>()).prop_map(|(mut pairs, sort)| {
                if sort {
                    pairs.sort();
                    pairs.dedup_by(|a, b| a.0 == b.0);
                }
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}:{key}{value}", key.len()))
                    .collect();
                format!("d{}e", pairs.concat())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_bendy_on_soup(text in soup()) {
        agree_with_bendy(&text);
    }

    #[test]
    fn agrees_with_bendy_on_values_and_their_mutations(
        text in value(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut text = text.into_bytes();
        let reader = skip(&text).unwrap();
        assert!(reader.is_empty());
        agree_with_bendy(&text);
        let at = at.index(text.len());
        text[at] = byte;
        agree_with_bendy(&text);
        text.truncate(at);
        agree_with_bendy(&text);
    }

    #[test]
    fn agrees_with_bendy_on_bytes(text in prop::collection::vec(any::<u8>(), 0..64)) {
        agree_with_bendy(&text);
    }
}
