//! What peers really send, and what is answered with an error or dropped.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::super::{Message, Want, nodes};
use super::*;
use crate::id::{InfoHash, ItemId, NodeId, Target};
use crate::wire::{Method, Put};

mod bep_examples;
mod canonical;
mod malformed;
mod tolerance;

const ID: &str = "abcdefghij0123456789";
const HASH: &str = "mnopqrstuvwxyz123456";
const KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// A query with these arguments, bencoded, after `id`.
fn query(method: &str, args: &str) -> String {
    format!("d1:ad2:id20:{ID}{args}e1:q{}:{method}1:t2:aa1:y1:qe", method.len())
}

/// A reply with these fields, bencoded, after `id`.
fn reply(fields: &str) -> String {
    format!("d1:rd2:id20:{ID}{fields}e1:t2:aa1:y1:re")
}

fn decode_query(message: &str) -> Query<'_> {
    match decode(message.as_bytes()).map(|message| message.body) {
        Ok(Body::Query(query)) => query,
        other => panic!("{message}: {other:?}"),
    }
}

fn decode_reply(message: &[u8]) -> Reply<'_> {
    match decode(message).map(|message| message.body) {
        Ok(Body::Reply(reply)) => reply,
        other => panic!("{}: {other:?}", message.escape_ascii()),
    }
}

fn decode_error(message: &str) -> ErrorReply<'_> {
    match decode(message.as_bytes()).map(|message| message.body) {
        Ok(Body::Error(error)) => error,
        other => panic!("{message}: {other:?}"),
    }
}

/// Asserts that the query is answered with 203, and returns the text.
fn bad_query(message: &str) -> &'static str {
    match decode(message.as_bytes()) {
        Err(DecodeError::BadQuery { tid: b"aa", code: code::PROTOCOL, text }) => text,
        other => panic!("{message}: {other:?}"),
    }
}

fn node_id() -> NodeId {
    NodeId::from_slice(ID.as_bytes()).unwrap()
}

fn peers(reply: &Reply<'_>) -> Vec<SocketAddr> {
    reply.values.expect("values").iter().collect()
}

fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn reads_every_argument_of_every_method() {
    let hash: [u8; 20] = HASH.as_bytes().try_into().unwrap();
    let target = format!("6:target20:{HASH}");
    assert_eq!(decode_query(&query("ping", "")).method, Method::Ping);
    let find_node = query("find_node", &format!("{target}4:wantl2:n42:n6e"));
    let find_node = decode_query(&find_node);
    assert_eq!(find_node.id, node_id());
    assert_eq!(find_node.method, Method::FindNode { target: Target::from_bytes(hash) });
    assert_eq!(find_node.want, Want { n4: true, n6: true });
    for (args, noseed, scrape) in [
        ("", false, false),
        ("6:noseedi1e6:scrapei1e", true, true),
        ("6:noseedi0e6:scrapei0e", false, false),
    ] {
        let info_hash = InfoHash::from_bytes(hash);
        let message = query("get_peers", &format!("9:info_hash20:{HASH}{args}"));
        let expected = Method::GetPeers { info_hash, noseed, scrape };
        assert_eq!(decode_query(&message).method, expected, "{message}");
    }
    let get = query("get", &format!("3:seqi-7e{target}"));
    let expected = Method::Get { target: ItemId::from_bytes(hash), seq: Some(-7) };
    assert_eq!(decode_query(&get).method, expected);
    let sample = query("sample_infohashes", &target);
    let expected = Method::SampleInfohashes { target: Target::from_bytes(hash) };
    assert_eq!(decode_query(&sample).method, expected);
}

#[test]
fn reads_announce_peer() {
    let announce = |implied: &str, rest: &str| {
        query("announce_peer", &format!("{implied}9:info_hash20:{HASH}{rest}5:token3:tok"))
    };
    let read = |message: &str| {
        let Method::AnnouncePeer { info_hash, port, implied_port, seed, token: b"tok" } =
            decode_query(message).method
        else {
            panic!("{message}")
        };
        assert_eq!(info_hash.as_bytes(), HASH.as_bytes());
        (port, implied_port, seed)
    };
    assert_eq!(read(&announce("", "4:porti6881e")), (6881, false, false));
    assert_eq!(read(&announce("12:implied_porti0e", "4:porti1e4:seedi1e")), (1, false, true));
    assert_eq!(read(&announce("12:implied_porti1e", "4:porti6881e")), (6881, true, false));
    // BEP 5: a port beside `implied_port` is ignored, so it may be anything.
    assert_eq!(read(&announce("12:implied_porti1e", "")), (0, true, false));
    assert_eq!(read(&announce("12:implied_porti9e", "4:porti99999e")), (0, true, false));
    // BEP 33: "no or any other value" of `seed` is a downloader.
    assert_eq!(read(&announce("", "4:porti6881e4:seedi2e")), (6881, false, false));
    for port in ["", "4:porti0e", "4:porti65536e", "4:porti-1e", "4:port4:6881"] {
        assert_eq!(bad_query(&announce("", port)), "port must be 1 to 65535");
    }
}

fn put(args: &str) -> String {
    query("put", args)
}

#[test]
fn reads_put() {
    let sig = "s".repeat(64);
    let decoded = put("5:token3:tok1:v12:Hello World!");
    let immutable = Put { token: b"tok", v: b"12:Hello World!", mutable: None };
    assert_eq!(decode_query(&decoded).method, Method::Put(immutable));

    let decoded = format!(
        "d1:ad3:casi5e2:id20:{ID}1:k32:{KEY}4:salt6:foobar3:seqi6e3:sig64:{sig}5:token0:1:vle\
         e1:q3:put1:t2:aa1:y1:qe"
    );
    let Method::Put(Put { token: b"", v: b"le", mutable: Some(item) }) =
        decode_query(&decoded).method
    else {
        panic!("{decoded}")
    };
    assert_eq!(item.public_key, KEY.as_bytes());
    assert_eq!(item.signature, sig.as_bytes());
    assert_eq!((item.salt, item.seq, item.cas), (&b"foobar"[..], 6, Some(5)));
}

#[test]
fn a_put_that_the_server_must_judge_is_decoded() {
    let sig = "s".repeat(64);
    let v = "x".repeat(1500);
    let salt = "y".repeat(70);
    let over = put(&format!("1:k32:{KEY}4:salt70:{salt}3:seqi6e3:sig64:{sig}5:token0:1:v1500:{v}"));
    let Method::Put(Put { v, mutable: Some(item), .. }) = decode_query(&over).method else {
        panic!("{over}")
    };
    assert_eq!((v.len(), item.salt.len()), (1505, 70));

    let unsorted = put("5:token0:1:vd1:bi1e1:ai2ee");
    let message = decode(unsorted.as_bytes()).unwrap();
    assert!(message.unsorted);
    let expected = Put { token: b"", v: b"d1:bi1e1:ai2ee", mutable: None };
    assert_eq!(decode_query(&unsorted).method, Method::Put(expected));
}

#[test]
fn a_value_of_the_greatest_depth_is_read() {
    let depth = crate::item::MAX_VALUE_DEPTH;
    let v = "l".repeat(depth) + &"e".repeat(depth);
    assert_eq!(crate::item::check_value(v.as_bytes()), Ok(()));
    let message = put(&format!("5:token0:1:v{v}"));
    let expected = Put { token: b"", v: v.as_bytes(), mutable: None };
    assert_eq!(decode_query(&message).method, Method::Put(expected));
    let message = put(&format!("5:token0:1:vl{v}e"));
    assert_eq!(decode(message.as_bytes()), Err(DecodeError::TooDeep));
}

#[test]
fn missing_or_invalid_arguments_are_answered_with_203() {
    let sig = "s".repeat(64);
    let mutable = |args: &str| put(&format!("{args}5:token0:1:vi1e"));
    for (message, text) in [
        ("d1:q4:ping1:t2:aa1:y1:qe".to_string(), "missing arguments a"),
        ("d1:ai1e1:q4:ping1:t2:aa1:y1:qe".to_string(), "missing arguments a"),
        (format!("d1:ad2:id20:{ID}e1:t2:aa1:y1:qe"), "missing method q"),
        (format!("d1:ad2:id20:{ID}e1:qi1e1:t2:aa1:y1:qe"), "missing method q"),
        ("d1:ade1:q4:ping1:t2:aa1:y1:qe".to_string(), "id must be 20 bytes"),
        ("d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe".to_string(), "id must be 20 bytes"),
        (format!("d1:ad2:id21:{ID}xe1:q4:ping1:t2:aa1:y1:qe"), "id must be 20 bytes"),
        ("d1:ad2:idi1ee1:q4:ping1:t2:aa1:y1:qe".to_string(), "id must be 20 bytes"),
        (query("find_node", ""), "target must be 20 bytes"),
        (query("find_node", "6:target3:abc"), "target must be 20 bytes"),
        (query("get", ""), "target must be 20 bytes"),
        (query("sample_infohashes", ""), "target must be 20 bytes"),
        (query("get_peers", ""), "info_hash must be 20 bytes"),
        (query("announce_peer", "4:porti1e5:token0:"), "info_hash must be 20 bytes"),
        (
            query("announce_peer", &format!("9:info_hash20:{HASH}4:porti1e")),
            "token must be a string",
        ),
        (put("1:vi1e"), "token must be a string"),
        (put("5:token0:"), "missing v"),
        (mutable(&format!("1:k31:{}", &KEY[1..])), "k must be 32 bytes"),
        (mutable(&format!("1:k32:{KEY}3:sig64:{sig}")), "seq must be a 64-bit integer"),
        (
            mutable(&format!("1:k32:{KEY}3:seqi9223372036854775808e3:sig64:{sig}")),
            "seq must be a 64-bit integer",
        ),
        (mutable(&format!("1:k32:{KEY}3:seqi1e")), "sig must be 64 bytes"),
        (mutable(&format!("1:k32:{KEY}3:seqi1e3:sig3:abc")), "sig must be 64 bytes"),
        (mutable(&format!("1:k32:{KEY}4:salti1e3:seqi1e3:sig64:{sig}")), "salt must be a string"),
        (
            mutable(&format!("3:cas1:11:k32:{KEY}3:seqi1e3:sig64:{sig}")),
            "cas must be a 64-bit integer",
        ),
    ] {
        assert_eq!(bad_query(&message), text, "{message}");
    }
}

#[test]
fn what_cannot_be_answered_is_dropped() {
    for (message, cause) in [
        (format!("d1:ad2:id20:{ID}e1:q4:ping1:y1:qe"), DecodeError::NoTransactionId),
        (format!("d1:ad2:id20:{ID}e1:q4:ping1:ti1e1:y1:qe"), DecodeError::NoTransactionId),
        (format!("d1:ad2:id20:{ID}e1:q4:ping1:t2:aae"), DecodeError::NoKind),
        (format!("d1:ad2:id20:{ID}e1:q4:ping1:t2:aa1:y1:xe"), DecodeError::NoKind),
        (format!("d1:ad2:id20:{ID}e1:q4:ping1:t2:aa1:yi1ee"), DecodeError::NoKind),
        ("d1:t2:aa1:y1:re".to_string(), DecodeError::NoReplyBody),
        ("d1:rle1:t2:aa1:y1:re".to_string(), DecodeError::NoReplyBody),
        ("d1:rde1:t2:aa1:y1:re".to_string(), DecodeError::NoReplyId),
        ("d1:rd2:id3:abce1:t2:aa1:y1:re".to_string(), DecodeError::NoReplyId),
        (format!("d1:rd2:id21:{ID}xe1:t2:aa1:y1:re"), DecodeError::NoReplyId),
    ] {
        assert_eq!(decode(message.as_bytes()), Err(cause), "{message}");
    }
}

#[test]
fn unknown_methods_keep_their_target() {
    let target = Some(Target::from_bytes(HASH.as_bytes().try_into().unwrap()));
    for (args, target) in [
        (String::new(), None),
        ("6:target3:abc".to_string(), None),
        (format!("6:target20:{HASH}"), target),
        (format!("9:info_hash20:{HASH}"), target),
        (format!("9:info_hash20:{ID}6:target20:{HASH}"), target),
    ] {
        let message = query("vote", &args);
        assert_eq!(decode_query(&message).method, Method::Unknown { name: b"vote", target });
    }
}

#[test]
fn reads_every_field_of_a_reply() {
    let (seeds, peers) = ("s".repeat(256), "p".repeat(256));
    let sig = "g".repeat(64);
    let message = format!(
        "d1:rd4:BFpe256:{peers}4:BFsd256:{seeds}2:id20:{ID}8:intervali300e1:k32:{KEY}\
         5:nodes26:{ID}axje.u6:nodes638:{ID}0123456789abcdefxy3:numi7e7:samples20:{HASH}\
         3:seqi4e3:sig64:{sig}5:token3:tok1:v5:hello6:valuesl6:axje.uee1:t2:aa1:v4:LT\u{1}\u{2}\
         1:y1:re"
    );
    let decoded = decode(message.as_bytes()).unwrap();
    assert_eq!(decoded.version, Some(&b"LT\x01\x02"[..]));
    assert!(!decoded.unsorted && !decoded.read_only);
    let reply = decode_reply(message.as_bytes());
    assert_eq!(reply.id, node_id());
    assert_eq!(reply.peers_filter.unwrap(), peers.as_bytes());
    assert_eq!(reply.seeds_filter.unwrap(), seeds.as_bytes());
    assert_eq!((reply.interval, reply.num, reply.seq), (Some(300), Some(7), Some(4)));
    assert_eq!(reply.public_key.unwrap(), KEY.as_bytes());
    assert_eq!(reply.signature.unwrap(), sig.as_bytes());
    assert_eq!(reply.samples, Some(HASH.as_bytes()));
    assert_eq!((reply.token, reply.v), (Some(&b"tok"[..]), Some(&b"5:hello"[..])));
    let node = nodes::<core::net::SocketAddrV4>(reply.nodes.unwrap()).next().unwrap();
    assert_eq!(node, (node_id(), "97.120.106.101:11893".parse().unwrap()));
    assert_eq!(nodes::<core::net::SocketAddrV6>(reply.nodes6.unwrap()).count(), 1);
}

#[test]
fn every_cause_has_its_own_words() {
    let causes = [
        DecodeError::TooLong,
        DecodeError::NotADictionary,
        DecodeError::Truncated,
        DecodeError::BadInteger,
        DecodeError::BadLength,
        DecodeError::UnexpectedByte,
        DecodeError::TooDeep,
        DecodeError::NoTransactionId,
        DecodeError::NoKind,
        DecodeError::NoReplyBody,
        DecodeError::NoReplyId,
        DecodeError::BadQuery { tid: b"", code: 203, text: "what" },
    ];
    let words: alloc::collections::BTreeSet<_> = causes.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), causes.len());
}
