//! Every prefix and every single-byte mutation of good messages: never a panic.

use super::*;

/// One good message of every kind.
fn good() -> Vec<String> {
    let sig = "s".repeat(64);
    alloc::vec![
        query("ping", ""),
        query("find_node", &format!("6:target20:{HASH}4:wantl2:n42:n6e")),
        query("get_peers", &format!("9:info_hash20:{HASH}6:noseedi1e6:scrapei1e")),
        query(
            "announce_peer",
            &format!("12:implied_porti0e9:info_hash20:{HASH}4:porti6881e5:token3:tok"),
        ),
        query("get", &format!("3:seqi5e6:target20:{HASH}")),
        put(&format!("1:k32:{KEY}4:salt3:foo3:seqi1e3:sig64:{sig}5:token3:tok1:vd1:al1:bee")),
        query("sample_infohashes", &format!("6:target20:{HASH}")),
        reply(&format!("5:nodes26:{ID}axje.u5:token3:tok6:valuesl6:axje.u6:idhtnme")),
        "d1:eli201e5:Wordse2:ip6:axje.u2:roi1e1:t2:aa1:v4:LT121:y1:ee".to_string(),
    ]
}

/// Decodes and walks everything that is read lazily.
fn visit(datagram: &[u8]) -> Result<usize, DecodeError<'_>> {
    let Body::Reply(reply) = decode(datagram)?.body else { return Ok(0) };
    let nodes = nodes::<core::net::SocketAddrV4>(reply.nodes.unwrap_or_default()).count();
    Ok(nodes + reply.values.map_or(0, |values| values.iter().count()))
}

#[test]
fn every_prefix_is_truncated() {
    for message in good() {
        assert!(visit(message.as_bytes()).is_ok(), "{message}");
        for len in 1..message.len() {
            assert_eq!(
                visit(&message.as_bytes()[..len]),
                Err(DecodeError::Truncated),
                "{message} {len}"
            );
        }
    }
    assert_eq!(decode(b""), Err(DecodeError::NotADictionary));
}

#[test]
fn no_single_byte_mutation_panics() {
    for message in good() {
        let mut bytes = message.into_bytes();
        let mut refused = 0;
        for at in 0..bytes.len() {
            let original = bytes[at];
            for value in 0..=u8::MAX {
                bytes[at] = value;
                refused += usize::from(visit(&bytes).is_err());
            }
            bytes[at] = original;
        }
        assert!(refused > bytes.len(), "mutations of syntax are noticed");
    }
}

#[test]
fn no_deletion_or_doubling_of_a_byte_panics() {
    for message in good() {
        for at in 0..message.len() {
            let mut bytes = message.clone().into_bytes();
            let byte = bytes.remove(at);
            let _ = visit(&bytes);
            bytes.insert(at, byte);
            bytes.insert(at, byte);
            let _ = visit(&bytes);
        }
    }
}

#[test]
fn what_is_no_dictionary_is_dropped() {
    for message in ["l4:spame", "i5e", "4:spam", "\0", "GET / HTTP/1.1\r\n", "e", "xd"] {
        assert_eq!(decode(message.as_bytes()), Err(DecodeError::NotADictionary), "{message}");
    }
    assert_eq!(decode(b"de"), Err(DecodeError::NoTransactionId));
}
