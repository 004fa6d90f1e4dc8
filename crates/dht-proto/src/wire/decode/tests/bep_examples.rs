//! The example messages of BEP 5, byte for byte in both directions.

use super::*;

/// Asserts that the text decodes to the message and the message encodes to the text.
fn check(text: &str, body: Body<'_>) {
    let tid = b"aa";
    let message = Message { tid, version: None, ip: None, read_only: false, unsorted: false, body };
    let decoded = decode(text.as_bytes()).unwrap();
    let mut out = [0; 256];
    let len = message.encode(&mut out).unwrap();
    assert_eq!(core::str::from_utf8(&out[..len]), Ok(text));
    assert_eq!(message.encoded_len(), len);
    if let (Body::Reply(Reply { values: Some(expected), .. }), Body::Reply(reply)) =
        (message.body, decoded.body)
    {
        // Peers compare by what they are, not by the form that they came in.
        assert!(expected.iter().eq(reply.values.unwrap().iter()));
    } else {
        assert_eq!(decoded, message);
    }
}

fn by(id: &str, method: Method<'static>) -> Body<'static> {
    let id = NodeId::from_slice(id.as_bytes()).unwrap();
    Body::Query(Query { id, want: Want::default(), method })
}

fn from(id: &str) -> Reply<'static> {
    Reply::new(NodeId::from_slice(id.as_bytes()).unwrap())
}

fn hash() -> InfoHash {
    InfoHash::from_slice(HASH.as_bytes()).unwrap()
}

#[test]
fn bep5_error() {
    let error = ErrorReply { code: 201, message: b"A Generic Error Ocurred" };
    check("d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", Body::Error(error));
}

#[test]
fn bep5_ping() {
    check("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", by(ID, Method::Ping));
    check("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", Body::Reply(from(HASH)));
}

#[test]
fn bep5_find_node() {
    check(
        "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa\
         1:y1:qe",
        by(ID, Method::FindNode { target: hash().target() }),
    );
    // The nodes of this example are an ellipsis of nine bytes, that is no whole record.
    let text = "d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re";
    let reply = decode_reply(text.as_bytes());
    assert_eq!(reply, Reply { nodes: Some(b""), ..from("0123456789abcdefghij") });
}

#[test]
fn bep5_get_peers() {
    let info_hash = hash();
    check(
        "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa\
         1:y1:qe",
        by(ID, Method::GetPeers { info_hash, noseed: false, scrape: false }),
    );
    let values = crate::wire::Values::of::<core::net::SocketAddrV4>(b"axje.uidhtnm");
    check(
        "d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
        Body::Reply(Reply { token: Some(b"aoeusnth"), values: Some(values), ..from(ID) }),
    );
    let text = "d1:rd2:id20:abcdefghij01234567895:nodes9:def456...5:token8:aoeusnthe1:t2:aa1:y1:re";
    let reply = decode_reply(text.as_bytes());
    assert_eq!(reply, Reply { nodes: Some(b""), token: Some(b"aoeusnth"), ..from(ID) });
}

#[test]
fn bep5_announce_peer() {
    let announce = Method::AnnouncePeer {
        info_hash: hash(),
        port: 6881,
        implied_port: true,
        seed: false,
        token: b"aoeusnth",
    };
    check(
        "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456\
         4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
        by(ID, announce),
    );
    check("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", Body::Reply(from(HASH)));
}
