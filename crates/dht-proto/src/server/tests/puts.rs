//! Items: get and put (BEP 44), and every error code of theirs.

use ed25519_dalek::SigningKey;

use super::*;
use crate::item::bencode_bytes;
use crate::wire::PutMutable;

const HELLO: &[u8] = b"12:Hello World!";

fn signed(salt: &[u8], seq: i64, value: &[u8]) -> Item {
    Item::sign(&SigningKey::from_bytes(&[3; 32]), salt, seq, value).unwrap()
}

fn stored<A: Addr>(bench: &mut Bench<A>, from: A, id: ItemId, seq: Option<i64>) -> Vec<u8> {
    bench.ask(from, Method::Get { target: id, seq }).unwrap()
}

/// A put made by hand, with a valid token for `id`.
fn raw_put(
    bench: &mut Bench<SocketAddrV4>,
    id: ItemId,
    v: &[u8],
    mutable: Option<PutMutable<'_>>,
) -> Result<(), i64> {
    let datagram = stored(bench, host_v4(1), id, None);
    let token = reply(&datagram).token.unwrap();
    let put = Method::Put(Put { token, v, mutable });
    result(&bench.ask(host_v4(1), put).unwrap())
}

fn put_v4_or_v6<A: Addr>(host: fn(u16) -> A) {
    let mut bench = Bench::new(Config::default());
    let immutable = Item::immutable(HELLO).unwrap();
    let datagram = stored(&mut bench, host(1), immutable.id(), None);
    let nothing = reply(&datagram);
    assert_eq!((nothing.v, nothing.seq), (None, None));
    assert!(nothing.token.is_some() && nothing.nodes.or(nothing.nodes6).is_some());
    assert_eq!(bench.put(host(1), &immutable, None), Ok(()));
    assert_eq!(bench.put(host(2), &immutable, None), Ok(()), "again, by somebody else");
    let datagram = stored(&mut bench, host(3), immutable.id(), None);
    let found = reply(&datagram);
    assert_eq!((found.v, found.seq, found.public_key), (Some(HELLO), None, None));

    for salt in [&b""[..], b"foobar"] {
        let first = signed(salt, 1, HELLO);
        assert_eq!(bench.put(host(1), &first, None), Ok(()));
        let datagram = stored(&mut bench, host(3), first.id(), None);
        let found = reply(&datagram);
        let signed_by = first.signed().unwrap();
        assert_eq!((found.v, found.seq), (Some(HELLO), Some(1)));
        assert_eq!(found.public_key, Some(&signed_by.public_key));
        assert_eq!(found.signature, Some(&signed_by.signature));

        let second = signed(salt, 5, b"i2e");
        assert_eq!(bench.put(host(1), &second, Some(7)), Err(301), "cas mismatch");
        assert_eq!(bench.put(host(1), &second, Some(1)), Ok(()), "cas match");
        assert_eq!(bench.put(host(1), &first, None), Err(302), "old seq");
        assert_eq!(bench.put(host(1), &first, Some(9)), Err(301), "301 is checked before 302");
        assert_eq!(bench.put(host(1), &signed(salt, 5, b"i3e"), None), Err(302), "equal seq");
        assert_eq!(bench.put(host(1), &second, None), Ok(()), "equal seq and value");

        // BEP 44: a get with `seq` leaves out k, v and sig unless the item is newer.
        for (known, expected) in [(4, true), (5, false), (6, false)] {
            let datagram = stored(&mut bench, host(3), second.id(), Some(known));
            let found = reply(&datagram);
            assert_eq!(found.v.is_some(), expected);
            assert_eq!(
                (found.public_key.is_some(), found.signature.is_some()),
                (expected, expected)
            );
            assert_eq!(found.seq, Some(5), "seq stays");
            assert!(found.token.is_some() && found.nodes.or(found.nodes6).is_some());
        }
    }
    assert_eq!(bench.gauges().items, 3);
}

/// libtorrent `put_v4`.
#[test]
fn put_v4() {
    put_v4_or_v6(host_v4);
}

/// libtorrent `put_v6`.
#[test]
fn put_v6() {
    put_v4_or_v6(host_v6);
}

#[test]
fn error_203_bad_token() {
    let mut bench = Bench::new(Config::default());
    let put = Method::Put(Put { token: b"12345678", v: HELLO, mutable: None });
    assert_eq!(error(&bench.ask(host_v4(1), put).unwrap()).message, b"invalid token");
    let item = signed(b"", 1, HELLO);
    bench.put(host_v4(1), &item, None).unwrap();
    let datagram = stored(&mut bench, host_v4(1), item.id(), None);
    let token = reply(&datagram).token.unwrap();
    let put = Method::Put(Put { token, v: HELLO, mutable: None });
    assert_eq!(result(&bench.ask(host_v4(1), put).unwrap()), Err(203), "token of another target");
}

#[test]
fn error_203_not_canonical() {
    let mut bench = Bench::new(Config::default());
    for v in [&b"d1:bi1e1:ai2ee"[..], b"i01e", b"", b"i1ei2e"] {
        assert_eq!(raw_put(&mut bench, ItemId::of_immutable(v), v, None), Err(203));
    }
}

#[test]
fn error_205_value_too_big() {
    let mut bench = Bench::new(Config::default());
    let over = bencode_bytes(&[b'x'; 997]);
    assert_eq!(raw_put(&mut bench, ItemId::of_immutable(&over), &over, None), Err(205));
    let longest = bencode_bytes(&[b'x'; 996]);
    assert_eq!(raw_put(&mut bench, ItemId::of_immutable(&longest), &longest, None), Ok(()));
    // 205 comes before 207.
    let salt = [b's'; 65];
    let mutable =
        PutMutable { public_key: &[1; 32], salt: &salt, seq: 1, signature: &[0; 64], cas: None };
    let id = ItemId::of_mutable(&[1; 32], &salt);
    assert_eq!(raw_put(&mut bench, id, &over, Some(mutable)), Err(205));
}

#[test]
fn error_206_bad_signature() {
    let mut bench = Bench::new(Config::default());
    let item = signed(b"", 1, HELLO);
    let parts = item.signed().unwrap();
    let mut forged = parts.signature;
    forged[0] ^= 1;
    let mutable = PutMutable {
        public_key: &parts.public_key,
        salt: b"",
        seq: 1,
        signature: &forged,
        cas: None,
    };
    assert_eq!(raw_put(&mut bench, item.id(), HELLO, Some(mutable)), Err(206));
    assert_eq!(bench.gauges().items, 0);
    assert_eq!(bench.stats.verifications, 1);
    // A stored item is not renewed by a bad signature either.
    bench.put(host_v4(1), &item, None).unwrap();
    assert_eq!(raw_put(&mut bench, item.id(), HELLO, Some(mutable)), Err(206));
}

#[test]
fn error_207_salt_too_big() {
    let mut bench = Bench::new(Config::default());
    let salt = [b's'; 65];
    let mutable =
        PutMutable { public_key: &[1; 32], salt: &salt, seq: 1, signature: &[0; 64], cas: None };
    let id = ItemId::of_mutable(&[1; 32], &salt);
    assert_eq!(raw_put(&mut bench, id, HELLO, Some(mutable)), Err(207));
    assert_eq!(raw_put(&mut bench, id, b"i01e", Some(mutable)), Err(207), "before 203");
    assert_eq!(bench.stats.verifications, 0, "signatures are checked last");
}

#[test]
fn error_202_busy() {
    let mut bench = Bench::new(Config { verifications_per_sec: 1, ..Config::default() });
    assert_eq!(bench.put(host_v4(1), &signed(b"1", 1, HELLO), None), Ok(()));
    assert_eq!(bench.put(host_v4(1), &signed(b"2", 1, HELLO), None), Err(202));
    assert_eq!(bench.put(host_v4(1), &signed(b"1", 1, HELLO), None), Ok(()), "no check needed");
    assert_eq!(bench.put(host_v4(1), &Item::immutable(HELLO).unwrap(), None), Ok(()));
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.put(host_v4(1), &signed(b"2", 1, HELLO), None), Ok(()));
    assert_eq!(bench.stats.verifications, 2);
}

#[test]
fn error_202_quota() {
    let config = Config { max_items_per_subnet: 1, max_items: 4, ..Config::default() };
    let mut bench = Bench::new(config);
    assert_eq!(bench.put(host_v4(1), &Item::immutable(b"i1e").unwrap(), None), Ok(()));
    assert_eq!(bench.put(host_v4(1), &Item::immutable(b"i2e").unwrap(), None), Err(202));
    assert_eq!(bench.put(host_v4(1), &Item::immutable(b"i1e").unwrap(), None), Ok(()));
    assert_eq!(bench.put(host_v4(2), &Item::immutable(b"i2e").unwrap(), None), Ok(()));
    let none = Config { max_items: 0, ..Config::default() };
    let mut bench = Bench::new(none);
    assert_eq!(bench.put(host_v4(1), &Item::immutable(b"i1e").unwrap(), None), Err(202));
}

/// BEP 44: `cas` is ignored if there is nothing to compare it with.
#[test]
fn cas_without_a_stored_item_is_ignored() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.put(host_v4(1), &signed(b"", 3, HELLO), Some(2)), Ok(()));
}

/// bittorrent-dht "valid sequence" and "invalid sequence", at the ends of the range.
#[test]
fn sequence_numbers_span_the_integers() {
    let mut bench = Bench::new(Config::default());
    for seq in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(bench.put(host_v4(1), &signed(b"", seq, HELLO), None), Ok(()), "{seq}");
    }
    assert_eq!(bench.put(host_v4(1), &signed(b"", 5, HELLO), None), Err(302));
}

/// The defect of libtorrent in wire-and-peers 3e: nothing immutable shadows a mutable item.
#[test]
fn immutable_puts_never_touch_mutable_items() {
    let mut bench = Bench::new(Config::default());
    let item = signed(b"", 1, HELLO);
    bench.put(host_v4(1), &item, None).unwrap();
    // The value goes under its own hash, whatever target the token was asked for.
    let datagram = stored(&mut bench, host_v4(2), item.id(), None);
    let token = reply(&datagram).token.unwrap();
    let put = Method::Put(Put { token, v: b"i9e", mutable: None });
    assert_eq!(result(&bench.ask(host_v4(2), put).unwrap()), Err(203));
    assert_eq!(raw_put(&mut bench, ItemId::of_immutable(b"i9e"), b"i9e", None), Ok(()));
    let datagram = stored(&mut bench, host_v4(3), item.id(), None);
    assert_eq!(reply(&datagram).v, Some(HELLO));
}

/// A key and salt that read as one bencoded string give both kinds the same id.
#[test]
fn a_key_that_reads_as_bencode_gives_no_way_around() {
    fn accept_all(_: &[u8; 32], _: &[u8], _: &[u8; 64]) -> bool {
        true
    }
    let mut bench = Bench::new(Config { verify: accept_all, ..Config::default() });
    let mut public_key = [b'k'; 32];
    public_key[..3].copy_from_slice(b"29:");
    let id = ItemId::of_mutable(&public_key, b"");
    assert_eq!(id, ItemId::of_immutable(&public_key));
    let mutable =
        PutMutable { public_key: &public_key, salt: b"", seq: 1, signature: &[0; 64], cas: None };
    assert_eq!(raw_put(&mut bench, id, HELLO, Some(mutable)), Ok(()));
    assert_eq!(raw_put(&mut bench, id, &public_key, None), Err(203));
    let mut bench = Bench::new(Config { verify: accept_all, ..Config::default() });
    assert_eq!(raw_put(&mut bench, id, &public_key, None), Ok(()));
    assert_eq!(raw_put(&mut bench, id, HELLO, Some(mutable)), Err(203));
}

/// BEP 44: items may expire two hours after the last put; simulation `dht_storage_counters`.
#[test]
fn items_expire_unless_put_again() {
    let mut bench = Bench::new(Config::default());
    let (kept, lost) = (signed(b"", 1, HELLO), Item::immutable(HELLO).unwrap());
    bench.put(host_v4(1), &kept, None).unwrap();
    bench.put(host_v4(1), &lost, None).unwrap();
    bench.later(Duration::from_secs(3600));
    bench.put(host_v4(2), &kept, None).unwrap();
    bench.later(Duration::from_secs(3600));
    let datagram = stored(&mut bench, host_v4(3), lost.id(), None);
    assert_eq!(reply(&datagram).v, None);
    let datagram = stored(&mut bench, host_v4(3), kept.id(), None);
    assert_eq!(reply(&datagram).v, Some(HELLO));
    bench.later(Duration::from_secs(2 * 3600));
    assert_eq!(bench.gauges().items, 0);
    assert_eq!(bench.server.poll_timeout(), None);
}

#[test]
fn items_survive_a_snapshot() {
    let mut bench = Bench::new(Config::default());
    bench.put(host_v4(1), &signed(b"", 2, HELLO), None).unwrap();
    bench.put(host_v4(1), &Item::immutable(HELLO).unwrap(), None).unwrap();
    let saved: Vec<Item> = bench.server.items().map(|(item, _)| item.clone()).collect();
    assert_eq!(saved.len(), 2);

    let mut bench = Bench::<SocketAddrV4>::new(Config { max_items: 3, ..Config::default() });
    for item in saved.iter().chain([&signed(b"", 1, b"i1e"), &signed(b"", 3, b"i3e")]) {
        let left = bench.config.item_lifetime;
        bench.server.restore_item(bench.now, item.clone(), left, &bench.config, &bench.seed);
        bench.server.check_invariants(&bench.config);
    }
    let datagram = stored(&mut bench, host_v4(1), saved[0].id(), None);
    assert!(reply(&datagram).v.is_some());
    let datagram = stored(&mut bench, host_v4(1), signed(b"", 0, HELLO).id(), None);
    assert_eq!(reply(&datagram).seq, Some(3), "the newest version wins");
    assert_eq!(bench.server.items().count(), 2);
    bench.later(Duration::from_secs(3 * 3600));
    assert_eq!(bench.server.items().count(), 0);
}
