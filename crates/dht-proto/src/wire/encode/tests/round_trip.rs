//! Any message survives encoding, and its encoding is canonical.

use core::net::SocketAddr;

use proptest::option;
use proptest::prelude::*;

use super::*;

/// The parts of a message that are borrowed, owned.
#[derive(Clone, Debug)]
struct Parts {
    tid: Vec<u8>,
    version: Option<Vec<u8>>,
    ip: Option<(IpAddr, Option<u16>)>,
    read_only: bool,
    id: [u8; 20],
    hash: [u8; 20],
    bytes: Vec<u8>,
    more: Vec<u8>,
    array: Vec<u8>,
    ints: [i64; 3],
    flags: [bool; 5],
    port: u16,
    value: String,
}

fn parts() -> impl Strategy<Value = Parts> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    let value = prop_oneof![
        Just(String::from("12:Hello World!")),
        Just(String::from("d1:ai1e2:bcl0:i-5eee")),
        any::<i64>().prop_map(|value| alloc::format!("i{value}e")),
    ];
    (
        (bytes(20), option::of(bytes(6)), option::of((ip, option::of(any::<u16>())))),
        (any::<bool>(), any::<[u8; 20]>(), any::<[u8; 20]>(), bytes(200), bytes(300)),
        (prop::collection::vec(any::<u8>(), 256), any::<[i64; 3]>(), any::<[bool; 5]>()),
        (1..=u16::MAX, value),
    )
        .prop_map(|(top, ids, extra, (port, value))| Parts {
            tid: top.0,
            version: top.1,
            ip: top.2,
            read_only: ids.0,
            id: ids.1,
            hash: ids.2,
            bytes: ids.3,
            more: ids.4,
            array: extra.0,
            ints: extra.1,
            flags: extra.2,
            port,
            value,
        })
}

impl Parts {
    fn message<'a>(&'a self, body: Body<'a>) -> Message<'a> {
        Message {
            tid: &self.tid,
            version: self.version.as_deref(),
            ip: self.ip,
            read_only: self.read_only,
            unsorted: false,
            body,
        }
    }

    fn methods(&self) -> [Method<'_>; 10] {
        let [noseed, scrape, implied_port, seed, some] = self.flags;
        let [seq, cas, _] = self.ints;
        let target = Target::from_bytes(self.hash);
        let item = PutMutable {
            public_key: self.array.first_chunk().unwrap(),
            salt: &self.bytes,
            seq,
            signature: self.array.last_chunk().unwrap(),
            cas: some.then_some(cas),
        };
        let put = Put { token: &self.more, v: self.value.as_bytes(), mutable: None };
        [
            Method::Ping,
            Method::FindNode { target },
            Method::GetPeers { info_hash: target.info_hash(), noseed, scrape },
            Method::AnnouncePeer {
                info_hash: target.info_hash(),
                port: self.port,
                implied_port,
                seed,
                token: &self.bytes,
            },
            Method::Get { target: target.item_id(), seq: some.then_some(seq) },
            Method::Put(put),
            Method::Put(Put { mutable: Some(item), ..put }),
            Method::SampleInfohashes { target },
            Method::Unknown { name: b"vote", target: None },
            Method::Unknown { name: &self.more, target: Some(target) },
        ]
    }

    fn reply(&self) -> Reply<'_> {
        let [seq, num, interval] = self.ints;
        Reply {
            id: NodeId::from_bytes(self.id),
            nodes: self.flags[0].then_some(whole_records(&self.bytes, 26)),
            nodes6: self.flags[1].then_some(whole_records(&self.more, 38)),
            token: self.flags[2].then_some(&self.more),
            values: None,
            v: self.flags[0].then_some(self.value.as_bytes()),
            public_key: self.flags[1].then_some(self.array.first_chunk().unwrap()),
            signature: self.flags[2].then_some(self.array.last_chunk().unwrap()),
            seq: self.flags[3].then_some(seq),
            seeds_filter: self.flags[4].then_some(self.array.first_chunk().unwrap()),
            peers_filter: self.flags[3].then_some(self.array.first_chunk().unwrap()),
            samples: self.flags[4].then_some(whole_records(&self.more, ID_LEN)),
            num: self.flags[3].then_some(num),
            interval: self.flags[4].then_some(interval),
        }
    }
}

/// Asserts that the message decodes to itself and that bendy finds its encoding canonical.
fn check(message: &Message<'_>) {
    let bytes = encode(message);
    assert_eq!(decode(&bytes).as_ref(), Ok(message));
    check_canonical(&bytes);
}

fn check_canonical(bytes: &[u8]) {
    let mut decoder = bendy::decoding::Decoder::new(bytes).with_max_depth(16);
    let object = decoder.next_object().unwrap().unwrap();
    let raw = object.try_into_dictionary().unwrap().into_raw().unwrap();
    assert_eq!(raw, bytes);
    assert!(decoder.next_object().unwrap().is_none());
}

proptest! {
    #[test]
    fn queries_round_trip(parts in parts(), n4 in any::<bool>(), n6 in any::<bool>()) {
        let id = NodeId::from_bytes(parts.id);
        for method in parts.methods() {
            let query = Query { id, want: Want { n4, n6 }, method };
            check(&parts.message(Body::Query(query)));
        }
    }

    #[test]
    fn replies_round_trip(parts in parts()) {
        check(&parts.message(Body::Reply(parts.reply())));
    }

    #[test]
    fn errors_round_trip(parts in parts()) {
        let error = ErrorReply { code: parts.ints[0], message: &parts.more };
        check(&parts.message(Body::Error(error)));
    }

    #[test]
    fn values_round_trip(parts in parts(), v6 in any::<bool>()) {
        let values =
            if v6 { Values::of::<SocketAddrV6>(&parts.more) } else { Values::of::<SocketAddrV4>(&parts.more) };
        let reply = Reply { values: Some(values), ..parts.reply() };
        let bytes = encode(&parts.message(Body::Reply(reply)));
        check_canonical(&bytes);
        let decoded = decode(&bytes).unwrap();
        let Body::Reply(Reply { values: Some(read), .. }) = decoded.body else {
            panic!("{decoded:?}")
        };
        assert!(read.iter().eq(values.iter()));
        assert!(read.iter().all(|peer| matches!(peer, SocketAddr::V6(_)) == v6));
        // Peers change their form on the first way only.
        assert_eq!(encode(&decoded), bytes);
    }
}
