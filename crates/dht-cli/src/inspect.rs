//! Explains a datagram: its bencode as a tree, what the parts mean, and what is wrong with it.

mod meaning;
mod tree;

use dht_mio::proto::MAX_DATAGRAM;
use dht_mio::proto::item::{Item, MAX_SALT_LEN, Signed, check_value, verify_strict};
use dht_mio::proto::wire::{Body, DecodeError, Message, Method, Put, code, decode};
use serde::Serialize;

use self::tree::{Branch, Tree};

/// A datagram, explained.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    /// Length in bytes.
    pub(crate) bytes: usize,
    /// Whether it is a message that a node would act on.
    pub(crate) valid: bool,
    /// `query`, `reply` or `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    /// The method of a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// Everything that is wrong with it.
    pub(crate) problems: Vec<String>,
    /// What bendy could read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<Branch>,
}

impl Explained {
    pub(crate) fn new(datagram: &[u8]) -> Self {
        let Tree { root, problems } = Tree::read(datagram);
        let mut explained = Self {
            bytes: datagram.len(),
            valid: false,
            kind: None,
            method: None,
            problems,
            tree: root,
        };
        match decode(datagram) {
            Ok(message) => explained.message(&message),
            Err(error) => explained.not_a_message(error),
        }
        if let Some(root) = &mut explained.tree {
            meaning::annotate(root, explained.kind, &mut explained.problems);
        }
        if datagram.len() > MAX_DATAGRAM {
            explained.problems.push(format!(
                "{} bytes are more than {MAX_DATAGRAM}: the network may drop or cut the datagram",
                datagram.len()
            ));
        }
        explained
    }

    fn message(&mut self, message: &Message<'_>) {
        self.valid = true;
        if message.unsorted {
            self.problems.push(
                "keys are out of order or doubled: strict readers drop it; others read it as \
                 shown, sorted and without unknown keys"
                    .to_owned(),
            );
            // bendy stops at the first key that is out of order.
            let mut sorted = vec![0; message.encoded_len()];
            if message.encode(&mut sorted).is_some() {
                self.tree = Tree::read(&sorted).root;
            }
        }
        match &message.body {
            Body::Query(query) => {
                self.kind = Some("query");
                self.method = Some(method(&query.method));
                if let Method::Put(put) = &query.method {
                    self.problems.extend(put_problems(put));
                }
            }
            Body::Reply(reply) => {
                self.kind = Some("reply");
                self.problems.extend(reply.v.and_then(value_problem));
            }
            Body::Error(_) => self.kind = Some("error"),
        }
    }

    fn not_a_message(&mut self, error: DecodeError<'_>) {
        self.problems.push(match error {
            DecodeError::BadQuery { code, text, .. } => {
                self.kind = Some("query");
                format!("a server answers with error {code}: {text}")
            }
            DecodeError::TooLong
            | DecodeError::NotADictionary
            | DecodeError::Truncated
            | DecodeError::BadInteger
            | DecodeError::BadLength
            | DecodeError::UnexpectedByte
            | DecodeError::TooDeep
            | DecodeError::NoTransactionId
            | DecodeError::NoKind
            | DecodeError::NoReplyBody
            | DecodeError::NoReplyId
            | _ => format!("nodes drop it: {error}"),
        });
    }
}

fn method(method: &Method<'_>) -> String {
    match method {
        Method::Ping => "ping".to_owned(),
        Method::FindNode { .. } => "find_node".to_owned(),
        Method::GetPeers { .. } => "get_peers".to_owned(),
        Method::AnnouncePeer { .. } => "announce_peer".to_owned(),
        Method::Get { .. } => "get".to_owned(),
        Method::Put(_) => "put".to_owned(),
        Method::SampleInfohashes { .. } => "sample_infohashes".to_owned(),
        Method::Unknown { name, .. } => name.escape_ascii().to_string(),
        _ => "unknown".to_owned(),
    }
}

/// What a server that checks everything says of a put (BEP 44).
fn put_problems(put: &Put<'_>) -> Vec<String> {
    let mut problems: Vec<_> = value_problem(put.v).into_iter().collect();
    let Some(mutable) = &put.mutable else { return problems };
    if mutable.salt.len() > MAX_SALT_LEN {
        problems.push(format!(
            "the salt is over {MAX_SALT_LEN} bytes: a server answers with error {}",
            code::SALT_TOO_BIG
        ));
    }
    if problems.is_empty() {
        let signed = Signed::new(
            *mutable.public_key,
            mutable.salt.to_vec(),
            mutable.seq,
            *mutable.signature,
        );
        if let Err(error) = Item::verified(put.v, signed, verify_strict) {
            problems.push(format!("{error}: a server answers with error {}", code::BAD_SIGNATURE));
        }
    }
    problems
}

fn value_problem(v: &[u8]) -> Option<String> {
    check_value(v).err().map(|error| format!("v cannot be stored: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_bep_5_are_fine() {
        for (datagram, kind, method) in [
            (&b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"[..], "query", Some("ping")),
            (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", "reply", None),
            (b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", "error", None),
            (
                b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers\
                  1:t2:aa1:y1:qe",
                "query",
                Some("get_peers"),
            ),
        ] {
            let explained = Explained::new(datagram);
            assert!(explained.valid);
            assert_eq!(explained.problems, [""; 0], "{}", datagram.escape_ascii());
            assert_eq!(explained.kind, Some(kind));
            assert_eq!(explained.method.as_deref(), method);
        }
    }

    #[test]
    fn every_fault_is_named() {
        for (datagram, words) in [
            (&b""[..], "not a dictionary"),
            (b"hello", "not a dictionary"),
            (b"de", "transaction id"),
            (b"d1:t2:aae", "message kind"),
            (b"d1:t2:aa1:y1:re", "no dictionary r"),
            (b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe", "error 203"),
            (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qeJUNK", "4 bytes follow"),
            (b"d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij0123456789ee", "out of order"),
            (b"d1:rd2:id20:mnopqrstuvwxyz1234565:nodes3:abce1:t2:aa1:y1:re", "26"),
            (b"d1:t2:a", "ends inside"),
        ] {
            let explained = Explained::new(datagram);
            let all = explained.problems.join("\n");
            assert!(all.contains(words), "{}: {all}", datagram.escape_ascii());
        }
    }

    #[test]
    fn an_unsorted_message_is_shown_whole() {
        let datagram = b"d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij0123456789ee";
        let mut text = String::new();
        Explained::new(datagram).tree.unwrap().write(0, &mut text);
        for words in ["id: \"abcdefghij0123456789\"", "q: \"ping\"", "t: \"aa\""] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn no_datagram_makes_it_panic() {
        let seed = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
        for len in 0..seed.len() {
            let _ = Explained::new(&seed[..len]);
            for byte in [0, b'e', b'd', b'l', b'i', b':', b'9', 255] {
                let mut changed = seed.to_vec();
                changed[len] = byte;
                let _ = Explained::new(&changed);
            }
        }
        let _ = Explained::new(&b"l".repeat(60_000));
        let _ = Explained::new(&b"d1:a".repeat(10_000));
    }
}
