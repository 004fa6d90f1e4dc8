//! What an item must be, worked out from BEP 44 with nothing of `dht-proto`: a core that checks too
//! little cannot vouch for itself here.

use std::collections::BTreeSet;

use dht_proto::id::ItemId;
use ed25519_dalek::{Signature, VerifyingKey};
use sha1_smol::Sha1;

use super::demand;

/// Limits of BEP 44, in bytes.
const MAX_VALUE: usize = 1_000;
const MAX_SALT: usize = 64;
/// Signatures found good that are remembered: an item goes to many nodes.
const MEMORY: usize = 1 << 12;

/// What makes an item mutable, as it crossed the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) public_key: &'a [u8; 32],
    pub(super) salt: &'a [u8],
    pub(super) seq: i64,
    pub(super) signature: &'a [u8; 64],
}

/// Checks items, each signature once.
#[derive(Debug, Default)]
pub(super) struct Authentic {
    /// Key, signature and signed text of each that is good.
    good: BTreeSet<Vec<u8>>,
}

impl Authentic {
    /// The id that an item with this value has.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn id_of(&mut self, v: &[u8], signed: Option<Signed<'_>>) -> Result<ItemId, String> {
        demand(v.len() <= MAX_VALUE, || format!("its value has {} bytes", v.len()))?;
        demand(object(v).is_some_and(<[u8]>::is_empty), || format!("{v:02x?} is not canonical"))?;
        let Some(signed) = signed else { return Ok(sha1(&[v])) };
        demand(signed.salt.len() <= MAX_SALT, || {
            format!("its salt has {} bytes", signed.salt.len())
        })?;
        demand(self.is_good(v, &signed), || format!("nobody signed it: {signed:?}"))?;
        Ok(sha1(&[signed.public_key, signed.salt]))
    }

    fn is_good(&mut self, v: &[u8], signed: &Signed<'_>) -> bool {
        let text = signed_text(signed.salt, signed.seq, v);
        let known = [&signed.public_key[..], signed.signature, &text].concat();
        if self.good.contains(&known) {
            return true;
        }
        let signature = Signature::from_bytes(signed.signature);
        let key = VerifyingKey::from_bytes(signed.public_key);
        let is_good = key.is_ok_and(|key| key.verify_strict(&text, &signature).is_ok());
        if is_good {
            if self.good.len() >= MEMORY {
                self.good.clear();
            }
            self.good.insert(known);
        }
        is_good
    }
}

/// What is signed: `4:salt<length>:<salt>3:seqi<seq>e1:v<value>`, without a salt that is empty.
pub(crate) fn signed_text(salt: &[u8], seq: i64, v: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    if !salt.is_empty() {
        text.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        text.extend_from_slice(salt);
    }
    text.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    text.extend_from_slice(v);
    text
}

fn sha1(parts: &[&[u8]]) -> ItemId {
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(part);
    }
    ItemId::from_bytes(sha1.digest().bytes())
}

/// What follows one canonical bencoded object.
fn object(v: &[u8]) -> Option<&[u8]> {
    match v.split_first()? {
        (b'i', rest) => {
            let (digits, rest) = until(rest, b'e')?;
            let magnitude = digits.strip_prefix(b"-").unwrap_or(digits);
            (is_number(magnitude) && digits != b"-0").then_some(rest)
        }
        (b'l', mut rest) => loop {
            match rest.split_first()? {
                (b'e', rest) => return Some(rest),
                _ => rest = object(rest)?,
            }
        },
        (b'd', mut rest) => {
            let mut last = None;
            loop {
                if let (b'e', rest) = rest.split_first()? {
                    return Some(rest);
                }
                let (key, value) = string(rest)?;
                if last.is_some_and(|last| last >= key) {
                    return None;
                }
                last = Some(key);
                rest = object(value)?;
            }
        }
        _ => string(v).map(|(_, rest)| rest),
    }
}

/// A byte string, and what follows it.
fn string(v: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = until(v, b':')?;
    let len = str::from_utf8(digits).ok()?.parse().ok()?;
    if is_number(digits) { rest.split_at_checked(len) } else { None }
}

/// What stands before a byte and behind it.
fn until(v: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = v.iter().position(|byte| *byte == end)?;
    Some((v.get(..at)?, v.get(at + 1..)?))
}

/// Digits without a leading zero.
fn is_number(digits: &[u8]) -> bool {
    let is_zero_led = digits.len() > 1 && digits.first() == Some(&b'0');
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && !is_zero_led
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_proto::item::Item;
    use ed25519_dalek::SigningKey;

    #[test]
    fn values_are_canonical_bencode_within_the_limit() {
        let mut checker = Authentic::default();
        for good in ["i1e", "i-5e", "i0e", "0:", "2:ab", "le", "de", "d1:ai1e1:bl0:ee"] {
            assert_eq!(
                checker.id_of(good.as_bytes(), None),
                Ok(ItemId::of_immutable(good.as_bytes()))
            );
        }
        let bad = [
            "",
            "i1eX",
            "i01e",
            "i-0e",
            "ie",
            "i-e",
            "02:ab",
            "3:ab",
            "l",
            "d1:a",
            "d1:ai1e",
            "+1:a",
            "d1:bi1e1:ai2ee",
            "d1:ai1e1:ai2ee",
            "di1ei2ee",
            "e",
            "1:",
            ":",
        ];
        for bad in bad {
            assert!(checker.id_of(bad.as_bytes(), None).is_err(), "{bad}");
        }
        let sized = |len: usize| [format!("{len}:").as_bytes(), &vec![b'x'; len]].concat();
        assert!(checker.id_of(&sized(996), None).is_ok());
        assert!(checker.id_of(&sized(997), None).is_err());
    }

    #[test]
    fn whatever_of_a_signed_item_is_changed_nobody_signed_it() {
        let mut checker = Authentic::default();
        for salt in [&b""[..], b"salt"] {
            let item = Item::sign(&SigningKey::from_bytes(&[5; 32]), salt, 7, b"1:a").unwrap();
            let (signed, other) = (item.signed().unwrap(), SigningKey::from_bytes(&[6; 32]));
            let (public_key, signature) = (&signed.public_key, &signed.signature);
            let good = Signed { public_key, salt, seq: 7, signature };
            for _ in 0..2 {
                assert_eq!(checker.id_of(b"1:a", Some(good)), Ok(item.id()));
                assert!(checker.id_of(b"1:b", Some(good)).is_err());
                let other = other.verifying_key().to_bytes();
                for bad in [
                    Signed { public_key: &other, ..good },
                    Signed { salt: b"pepper", ..good },
                    Signed { seq: 8, ..good },
                    Signed { signature: &[7; 64], ..good },
                ] {
                    assert!(checker.id_of(b"1:a", Some(bad)).is_err(), "{bad:?}");
                }
            }
        }
    }

    #[test]
    fn salts_have_a_limit_and_weak_keys_sign_nothing() {
        let mut checker = Authentic::default();
        let (mut weak, mut signature) = ([0; 32], [0; 64]);
        (weak[0], signature[0]) = (1, 1);
        let weak = Signed { public_key: &weak, salt: b"", seq: 1, signature: &signature };
        assert!(checker.id_of(b"1:a", Some(weak)).is_err());
        let long = Signed { salt: &[b's'; 65], ..weak };
        assert!(checker.id_of(b"1:a", Some(long)).unwrap_err().contains("salt"));
    }
}
