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
            for (read_only, version) in [("", ""), ("2:roi1e", "1:v4:LT21"), ("", "1:v0:")] {
                queries.push(format!(
                    "d1:ad2:id20:{ID}{args}{want}e1:q{}:{name}{read_only}1:t2:aa{version}1:y1:qe",
                    name.len()
                ));
            }
        }
    }
    queries
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
        if let Some(message) = canonical::query(datagram) {
            assert_eq!(by_key(datagram), Ok(message), "{}", datagram.escape_ascii());
        }
    };
    for query in queries().into_iter().map(String::into_bytes) {
        for at in 0..query.len() {
            assert_agrees(&query[..at]);
            assert_agrees(&[&query[..at], &query[at + 1..]].concat());
            for byte in *b"01289:delinqrtvy\xff" {
                let mut changed = query.clone();
                changed[at] = byte;
                assert_agrees(&changed);
                changed.insert(at, query[at]);
                assert_agrees(&changed);
            }
        }
    }
}
