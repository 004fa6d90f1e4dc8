//! What is sent, and to please whom.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::super::{PutMutable, decode};
use super::*;
use crate::id::{InfoHash, NodeId, Target};

mod round_trip;

const ID: &str = "abcdefghij0123456789";
const HASH: [u8; 20] = *b"mnopqrstuvwxyz123456";

fn message(body: Body<'_>) -> Message<'_> {
    Message { tid: b"aabb", version: None, ip: None, read_only: false, unsorted: false, body }
}

fn query(method: Method<'_>) -> Message<'_> {
    let id = NodeId::from_slice(ID.as_bytes()).unwrap();
    message(Body::Query(Query { id, want: Want::default(), method }))
}

fn reply() -> Reply<'static> {
    Reply::new(NodeId::from_slice(ID.as_bytes()).unwrap())
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; 4_096];
    let len = message.encode(&mut out).unwrap();
    assert_eq!(message.encoded_len(), len);
    out[..len].to_vec()
}

/// The encoded message as text, with bytes that are no text escaped.
fn text(message: &Message<'_>) -> String {
    use alloc::string::ToString;
    encode(message).escape_ascii().to_string()
}

fn announce(port: u16, implied_port: bool, seed: bool) -> Message<'static> {
    let info_hash = InfoHash::from_bytes(HASH);
    query(Method::AnnouncePeer { info_hash, port, implied_port, seed, token: b"tok" })
}

#[test]
fn echoes_a_tid_of_any_length_verbatim() {
    for len in [0, 1, 2, 4, 8, 15, 16, 300] {
        let tid = alloc::vec![b't'; len];
        let bytes = encode(&Message { tid: &tid, ..message(Body::Reply(reply())) });
        assert_eq!(decode(&bytes).unwrap().tid, tid);
    }
}

#[test]
fn sends_only_whole_records_of_nodes() {
    let tails = Reply {
        nodes: Some(&[b'n'; 27]),
        nodes6: Some(&[b'm'; 75]),
        samples: Some(&[b's'; 39]),
        ..reply()
    };
    let whole = Reply {
        nodes: Some(&[b'n'; 26]),
        nodes6: Some(&[b'm'; 38]),
        samples: Some(&[b's'; 20]),
        ..reply()
    };
    let bytes = encode(&message(Body::Reply(tails)));
    assert_eq!(bytes, encode(&message(Body::Reply(whole))));
    assert_eq!(decode(&bytes).unwrap().body, Body::Reply(whole));
}

#[test]
fn sends_implied_port_and_port_always() {
    assert_eq!(
        text(&announce(6881, false, true)),
        "d1:ad2:id20:abcdefghij012345678912:implied_porti0e9:info_hash20:mnopqrstuvwxyz123456\
         4:porti6881e4:seedi1e5:token3:toke1:q13:announce_peer1:t4:aabb1:y1:qe"
    );
    assert!(text(&announce(6881, true, false)).contains("12:implied_porti1e9:info_hash20:"));
    assert!(text(&announce(6881, true, false)).contains("4:porti6881e5:token"));
}

#[test]
fn sends_ip_as_exactly_6_or_18_bytes() {
    let seen = |ip: IpAddr| Message { ip: Some((ip, Some(6881))), ..message(Body::Reply(reply())) };
    let v4 = text(&seen(Ipv4Addr::new(1, 2, 3, 4).into()));
    assert_eq!(
        v4,
        r"d2:ip6:\x01\x02\x03\x04\x1a\xe11:rd2:id20:abcdefghij0123456789e1:t4:aabb1:y1:re"
    );
    let v6 = seen(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    assert!(text(&v6).starts_with(r"d2:ip18: \x01\r\xb8\x00\x00\x00"));
    assert_eq!(decode(&encode(&v6)).unwrap().ip, v6.ip);
}

#[test]
fn sends_error_as_int_and_string() {
    let error = |code, text| message(Body::Error(ErrorReply { code, message: text }));
    assert_eq!(text(&error(203, b"bad token")), "d1:eli203e9:bad tokene1:t4:aabb1:y1:ee");
    assert_eq!(text(&error(0, b"")), "d1:eli0e0:e1:t4:aabb1:y1:ee");
}

#[test]
fn sends_canonical_arguments_of_an_immutable_put_with_target() {
    let put = Put { token: b"tok", v: b"12:Hello World!", mutable: None };
    assert_eq!(
        text(&query(Method::Put(put))),
        "d1:ad2:id20:abcdefghij01234567896:target20:\
         \\xe5\\xf9oo82\\x0f\\x0f3\\x95\\x9c\\xb4\\xd3\\xd6VE!\\x17\\xaa\\xdb\
         5:token3:tok1:v12:Hello World!e1:q3:put1:t4:aabb1:y1:qe"
    );
}

#[test]
fn sends_canonical_arguments_of_a_mutable_put_with_target() {
    let item = PutMutable {
        public_key: &[b'k'; 32],
        salt: b"foobar",
        seq: -4,
        signature: &[b's'; 64],
        cas: Some(3),
    };
    let target = ItemId::of_mutable(item.public_key, item.salt);
    let put = Put { token: b"tok", v: b"le", mutable: Some(item) };
    let bytes = encode(&query(Method::Put(put)));
    let mut expected = Vec::new();
    for part in [
        &b"d1:ad3:casi3e2:id20:abcdefghij01234567891:k32:"[..],
        &[b'k'; 32],
        b"4:salt6:foobar3:seqi-4e3:sig64:",
        &[b's'; 64],
        b"6:target20:",
        target.as_bytes(),
        b"5:token3:tok1:vlee1:q3:put1:t4:aabb1:y1:qe",
    ] {
        expected.extend_from_slice(part);
    }
    assert_eq!(bytes, expected);
    // BEP 44: an empty salt is no salt.
    let unsalted = PutMutable { salt: b"", cas: None, ..item };
    let put = Put { mutable: Some(unsalted), ..put };
    let bytes = encode(&query(Method::Put(put)));
    assert!(!bytes.windows(6).any(|window| window == b"4:salt" || window == b"3:casi"));
    assert_eq!(decode(&bytes).unwrap(), query(Method::Put(put)));
}

#[test]
fn sends_bfsd_as_the_name_of_the_seed_filter() {
    let filters = Reply { seeds_filter: Some(&[1; 256]), peers_filter: Some(&[2; 256]), ..reply() };
    let bytes = encode(&message(Body::Reply(filters)));
    assert!(bytes.starts_with(b"d1:rd4:BFpe256:\x02"));
    assert!(bytes.windows(9).any(|window| window == b"4:BFsd256"));
}

#[test]
fn sends_a_four_byte_version_and_ro_at_the_top_level() {
    let target = Target::from_bytes(HASH);
    let base = query(Method::FindNode { target });
    let full = Message { version: Some(b"DR\0\x01"), read_only: true, ..base };
    assert_eq!(
        text(&full),
        "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node2:roi1e\
         1:t4:aabb1:v4:DR\\x00\\x011:y1:qe"
    );
}

#[test]
fn sends_want_only_if_a_family_is_wanted() {
    let id = NodeId::from_slice(ID.as_bytes()).unwrap();
    for (want, expected) in [
        (Want::default(), "d1:ad2:id20:abcdefghij0123456789e1:q"),
        (Want { n4: true, n6: false }, "d1:ad2:id20:abcdefghij01234567894:wantl2:n4ee1:q"),
        (Want { n4: false, n6: true }, "d1:ad2:id20:abcdefghij01234567894:wantl2:n6ee1:q"),
        (Want { n4: true, n6: true }, "d1:ad2:id20:abcdefghij01234567894:wantl2:n42:n6ee1:q"),
    ] {
        let message = message(Body::Query(Query { id, want, method: Method::Ping }));
        assert!(text(&message).starts_with(expected), "{want:?}");
    }
}

#[test]
fn sends_values_as_a_list_of_strings() {
    let values = Values::of::<SocketAddrV4>(b"axje.uidhtnm");
    let message = message(Body::Reply(Reply { values: Some(values), ..reply() }));
    assert!(text(&message).contains("6:valuesl6:axje.u6:idhtnmee1:t"));
}

#[test]
fn sends_samples_even_if_there_are_none() {
    let sample = Reply { samples: Some(b""), num: Some(0), interval: Some(60), ..reply() };
    assert!(text(&message(Body::Reply(sample))).contains("8:intervali60e3:numi0e7:samples0:e1:t4"));
}

#[test]
fn a_message_that_does_not_fit_is_none() {
    let peers: Vec<u8> = (0..100).flat_map(|i| [1, 2, 3, i, 0, 80]).collect();
    let values = Values::of::<SocketAddrV4>(&peers);
    let message = message(Body::Reply(Reply { values: Some(values), ..reply() }));
    let len = message.encoded_len();
    let mut out = alloc::vec![0; len];
    assert_eq!(message.encode(&mut out), Some(len));
    for short in 0..len {
        assert_eq!(message.encode(&mut out[..short]), None, "{short}");
    }
    // The documented price of a v4 peer.
    let fewer = Values::of::<SocketAddrV4>(&peers[..6 * 99]);
    let fewer = Message { body: Body::Reply(Reply { values: Some(fewer), ..reply() }), ..message };
    assert_eq!(fewer.encoded_len(), len - 8);
}

#[test]
fn never_encodes_unsorted() {
    let plain = query(Method::Ping);
    assert_eq!(encode(&Message { unsorted: true, ..plain }), encode(&plain));
}
