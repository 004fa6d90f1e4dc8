//! The short cut reads what it reads exactly as the reader by key does.

use super::super::{by_key, canonical};
use super::*;

/// Every form that the short cut is there for.
fn queries() -> Vec<String> {
    let mut queries = Vec::new();
    for (name, args) in [
        ("ping", String::new()),
        ("find_node", format!("6:target20:{HASH}")),
        ("get_peers", format!("9:info_hash20:{HASH}")),
    ] {
        for want in ["", "4:wantle", "4:wantl2:n4e", "4:wantl2:n6e", "4:wantl2:n42:n6e"] {
            for (read_only, tail) in [
                ("", "1:t2:aa"),
                ("2:roi1e", "1:t2:aa1:v4:LT21"),
                ("", "1:t2:aa1:v0:"),
                ("", "1:t4:aabb"),
                ("", "1:t4:aabb1:v4:LT21"),
            ] {
                queries.push(format!(
                    "d1:ad2:id20:{ID}{args}{want}e1:q{}:{name}{read_only}{tail}1:y1:qe",
                    name.len()
                ));
            }
        }
    }
    queries
}

fn replies() -> Vec<String> {
    let mut replies = Vec::new();
    let (node, node6) = ("n".repeat(26), "m".repeat(38));
    for nodes in ["", "5:nodes0:", &format!("5:nodes52:{node}{node}"), "5:nodes3:abc"] {
        for nodes6 in [String::new(), format!("6:nodes638:{node6}")] {
            for token in ["", "5:token8:12345678", "5:token2:12"] {
                for ip in ["", "2:ip6:abcdef", "2:ip18:abcdefghijklmnopqr"] {
                    for tail in ["1:t2:aa", "1:t2:aa1:v4:LT21", "1:t4:aabb1:v4:LT21"] {
                        replies.push(format!(
                            "d{ip}1:rd2:id20:{ID}{nodes}{nodes6}{token}e{tail}1:y1:re"
                        ));
                    }
                }
            }
        }
    }
    replies
}

fn short_cut_to_reply(datagram: &[u8]) -> Option<Message<'_>> {
    canonical::reply_or(datagram, |_| Err(DecodeError::NoKind)).ok()
}

fn short_cut(datagram: &[u8]) -> Option<Message<'_>> {
    canonical::query(datagram).or_else(|| short_cut_to_reply(datagram))
}

#[test]
fn canonical_replies_take_the_short_cut() {
    for reply in replies() {
        let message = short_cut_to_reply(reply.as_bytes());
        assert!(message.is_some(), "{reply}");
        assert_eq!(message, by_key(reply.as_bytes()).ok(), "{reply}");
    }
    for other in [reply("6:valuesl6:abcdefe"), query("get", ""), "d2:ip4:abcd".to_string()] {
        assert_eq!(short_cut_to_reply(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn canonical_queries_take_the_short_cut() {
    for query in queries() {
        let message = canonical::query(query.as_bytes());
        assert!(message.is_some(), "{query}");
        assert_eq!(message, by_key(query.as_bytes()).ok(), "{query}");
    }
    let others = ["d1:ade1:q4:ping1:t2:aa1:y1:qe".to_string(), reply(""), query("get", "")];
    for other in others {
        assert_eq!(canonical::query(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn the_short_cut_agrees_with_reading_by_key_on_every_change_of_a_byte() {
    let assert_agrees = |datagram: &[u8]| {
        if let Some(message) = short_cut(datagram) {
            assert_eq!(by_key(datagram), Ok(message), "{}", datagram.escape_ascii());
        }
    };
    for message in queries().into_iter().chain(replies()).map(String::into_bytes) {
        for at in 0..message.len() {
            assert_agrees(&message[..at]);
            assert_agrees(&[&message[..at], &message[at + 1..]].concat());
            for byte in *b"01289:delinqrtvy\xff" {
                let mut changed = message.clone();
                changed[at] = byte;
                assert_agrees(&changed);
                changed.insert(at, message[at]);
                assert_agrees(&changed);
            }
        }
    }
}

#[test]
fn a_glance_sees_what_reading_sees() {
    for message in queries().into_iter().chain(replies()) {
        let seen = peek(message.as_bytes());
        let expected = match by_key(message.as_bytes()).unwrap().body {
            Body::Query(Query { id, method: Method::FindNode { target }, .. }) => {
                (id, Some(target))
            }
            Body::Query(Query { id, method: Method::GetPeers { info_hash, .. }, .. }) => {
                (id, Some(info_hash.target()))
            }
            Body::Query(Query { id, .. }) | Body::Reply(Reply { id, .. }) => (id, None),
            Body::Error(error) => panic!("{error:?}"),
        };
        assert_eq!(seen, Some(expected), "{message}");
        // Nothing that is cut off is read past its end.
        for len in 0..message.len() {
            let part = peek(&message.as_bytes()[..len]);
            assert!(part.is_none() || part.map(|(id, _)| id) == Some(expected.0), "{message}");
        }
    }
    assert_eq!(peek(b"d1:eli201e4:oopse1:t2:aa1:y1:ee"), None);
}
