//! The codec: bodies that take one datagram.

use core::net::{SocketAddrV4, SocketAddrV6};

use dht_proto::wire::{self, Body, DecodeError, MAX_DATAGRAM_READ, Message, Method};

use crate::oracle;

/// Room for whatever a datagram of [`MAX_DATAGRAM_READ`] bytes encodes to.
///
/// A put gains a target, an announce its port, and a peer at most a length of two bytes.
const ROOM: usize = 2 * MAX_DATAGRAM_READ;

/// Decodes and reads everything lazy. Checks what the types promise and cannot say.
///
/// # Panics
/// If the codec is at fault.
pub fn decode(data: &[u8]) {
    let message = match wire::decode(data) {
        Ok(message) => message,
        Err(DecodeError::BadQuery { code, text, .. }) => {
            assert!(code == wire::code::PROTOCOL && !text.is_empty());
            return;
        }
        Err(_) => return,
    };
    match message.body {
        Body::Query(query) => {
            if let Method::AnnouncePeer { port, implied_port, .. } = query.method {
                assert!(port != 0 || implied_port);
            }
        }
        Body::Reply(reply) => {
            let nodes = reply.nodes.unwrap_or_default();
            assert_eq!(wire::nodes::<SocketAddrV4>(nodes).count() * 26, nodes.len());
            let nodes6 = reply.nodes6.unwrap_or_default();
            assert_eq!(wire::nodes::<SocketAddrV6>(nodes6).count() * 38, nodes6.len());
            assert_eq!(reply.samples.unwrap_or_default().len() % 20, 0);
            let peers = reply.values.map_or(0, |values| values.iter().count());
            // The shortest peer takes six bytes.
            assert!(peers <= data.len() / 6);
        }
        Body::Error(_) => {}
    }
}

/// Decodes, encodes and decodes: the message is the same, and so is its second encoding.
///
/// # Panics
/// If the codec is at fault.
pub fn round_trip(data: &[u8]) {
    let Ok(message) = wire::decode(data) else { return };
    let first = encode(&message);
    if first.len() > MAX_DATAGRAM_READ {
        return;
    }
    let decoded = match wire::decode(&first) {
        Ok(decoded) => decoded,
        Err(error) => panic!("{error}: {}", first.escape_ascii()),
    };
    assert_same(&message, &decoded);
    assert_eq!(first, encode(&decoded));
}

/// Compares decoder and encoder with the oracle.
///
/// # Panics
/// If the codec is at fault.
pub fn differential(data: &[u8]) {
    let decoded = wire::decode(data);
    let expected = if data.len() <= MAX_DATAGRAM_READ { oracle::parse(data) } else { None };
    let Some(tree) = expected else {
        // Not canonical. Only the order of keys is forgiven, and noticed.
        assert!(decoded.is_err() || decoded.is_ok_and(|message| message.unsorted));
        return;
    };
    match (decoded, oracle::message(&tree)) {
        (Ok(message), Ok((expected, peers))) => {
            let encoded = encode(&message);
            assert!(oracle::parse(&encoded).is_some(), "{}", encoded.escape_ascii());
            let (message, values) = without_values(message);
            assert_eq!(message, expected);
            assert_eq!(values, peers);
        }
        (Err(DecodeError::BadQuery { tid, code, .. }), Err(oracle::Refusal::Answer(expected))) => {
            assert_eq!((tid, code), (expected, 203));
        }
        (Err(DecodeError::BadQuery { .. }), Err(oracle::Refusal::Drop)) => {
            panic!("answered what should be dropped")
        }
        (Err(_), Err(oracle::Refusal::Drop)) => {}
        (ours, theirs) => panic!("{ours:?} {theirs:?}"),
    }
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = vec![0; ROOM];
    let Some(len) = message.encode(&mut out) else { panic!("{ROOM} bytes are enough") };
    assert_eq!(len, message.encoded_len());
    assert_eq!(message.encode(&mut vec![0; len - 1]), None);
    out.truncate(len);
    out
}

/// Compares all but the form of values, which encoding changes, and `unsorted`, which is not sent.
fn assert_same(a: &Message<'_>, b: &Message<'_>) {
    let ((a, a_values), (b, b_values)) = (without_values(*a), without_values(*b));
    assert_eq!(Message { unsorted: false, ..a }, Message { unsorted: false, ..b });
    assert_eq!(a_values, b_values);
}

fn without_values(mut message: Message<'_>) -> (Message<'_>, Option<oracle::Peers>) {
    let mut peers = None;
    if let Body::Reply(reply) = &mut message.body {
        peers = reply.values.take().map(|values| values.iter().collect());
    }
    (message, peers)
}
