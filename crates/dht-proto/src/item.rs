//! Items of BEP 44: canonical values, signatures, and the ids they are stored under.

use alloc::vec::Vec;
use core::fmt;

use bendy::decoding::{Decoder, Object};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::id::ItemId;

/// A bencoded value may be this long (BEP 44: "less than 1000 bytes", read by all as at most).
pub const MAX_VALUE_LEN: usize = 1_000;
/// A salt may be this long (BEP 44, error 207).
pub const MAX_SALT_LEN: usize = 64;
/// Lists and dictionaries in a value may nest this deep: messages that nest deeper than 16 are
/// dropped, and two levels of a put are its own.
pub const MAX_VALUE_DEPTH: usize = 14;
/// Room for the longest signed text: salt, seq and value with their keys and lengths.
const MAX_SIGNABLE_LEN: usize = MAX_VALUE_LEN + MAX_SALT_LEN + 64;

/// Why bytes are not an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemError {
    /// The value is longer than [`MAX_VALUE_LEN`] bytes bencoded (error 205).
    ValueTooLong,
    /// The value is not exactly one canonical bencoded object (error 203).
    NotCanonical,
    /// The salt is longer than [`MAX_SALT_LEN`] bytes (error 207).
    SaltTooLong,
    /// The signature does not match (error 206).
    BadSignature,
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueTooLong => write!(f, "the bencoded value is over {MAX_VALUE_LEN} bytes"),
            Self::NotCanonical => f.write_str("the value is not canonical bencode"),
            Self::SaltTooLong => write!(f, "the salt is over {MAX_SALT_LEN} bytes"),
            Self::BadSignature => f.write_str("the signature does not match"),
        }
    }
}

impl core::error::Error for ItemError {}

/// What makes an item mutable: who signed it, under which salt, in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed {
    /// The ed25519 public key.
    pub public_key: [u8; 32],
    /// Distinguishes items of one key; empty means none.
    pub salt: Vec<u8>,
    /// Version; a newer one replaces an older one.
    pub seq: i64,
    /// The signature over salt, seq and value.
    pub signature: [u8; 64],
}

impl Signed {
    /// What came with a value, unchecked; [`Item::verified`] checks it.
    #[must_use]
    pub const fn new(public_key: [u8; 32], salt: Vec<u8>, seq: i64, signature: [u8; 64]) -> Self {
        Self { public_key, salt, seq, signature }
    }
}

/// An item that passed every check: canonical value within the limits, signature verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    id: ItemId,
    value: Vec<u8>,
    signed: Option<Signed>,
}

impl Item {
    /// The most bytes that an item takes up, itself included.
    pub(crate) const MEMORY_CEILING: usize = size_of::<Self>() + MAX_VALUE_LEN + MAX_SALT_LEN;

    /// The bytes that the item takes up, itself included.
    pub(crate) fn memory(&self) -> usize {
        let salt = self.signed.as_ref().map_or(0, |signed| signed.salt.capacity());
        size_of::<Self>() + self.value.capacity() + salt
    }

    /// An immutable item from a bencoded value.
    ///
    /// # Errors
    /// If the value is too long or not canonical bencode.
    pub fn immutable(bencoded: &[u8]) -> Result<Self, ItemError> {
        check_value(bencoded)?;
        Ok(Self { id: ItemId::of_immutable(bencoded), value: bencoded.to_vec(), signed: None })
    }

    /// A mutable item, signed with `key`.
    ///
    /// # Errors
    /// If the value is too long or not canonical bencode, or the salt is too long.
    pub fn sign(
        key: &SigningKey,
        salt: &[u8],
        seq: i64,
        bencoded: &[u8],
    ) -> Result<Self, ItemError> {
        check_value(bencoded)?;
        let text = Signable::new(salt, seq, bencoded)?;
        let signature = key.sign(text.as_bytes()).to_bytes();
        let public_key = key.verifying_key().to_bytes();
        Ok(Self {
            id: ItemId::of_mutable(&public_key, salt),
            value: bencoded.to_vec(),
            signed: Some(Signed { public_key, salt: salt.to_vec(), seq, signature }),
        })
    }

    /// Checks a mutable item that came from elsewhere.
    ///
    /// # Errors
    /// Whatever [`ItemError`] applies; the signature is checked last.
    pub fn verified(
        bencoded: &[u8],
        signed: Signed,
        verify: crate::config::VerifyFn,
    ) -> Result<Self, ItemError> {
        check_value(bencoded)?;
        let text = Signable::new(&signed.salt, signed.seq, bencoded)?;
        if !verify(&signed.public_key, text.as_bytes(), &signed.signature) {
            return Err(ItemError::BadSignature);
        }
        let id = ItemId::of_mutable(&signed.public_key, &signed.salt);
        Ok(Self { id, value: bencoded.to_vec(), signed: Some(signed) })
    }

    /// The key that the item is stored under.
    #[must_use]
    pub const fn id(&self) -> ItemId {
        self.id
    }

    /// The value, bencoded.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Key, salt, seq and signature of a mutable item.
    #[must_use]
    pub const fn signed(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }

    /// Whether this is the better version of the same item: the newer seq wins, and of two with one
    /// seq the larger value, so that everybody who sees both chooses alike. Nothing supersedes an
    /// immutable item.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let seq = self.signed.as_ref().map(|signed| signed.seq);
        other.is_superseded_by(seq, &self.value)
    }

    /// [`Item::supersedes`] for a version that is not verified yet.
    pub(crate) fn is_superseded_by(&self, seq: Option<i64>, value: &[u8]) -> bool {
        let own_seq = self.signed.as_ref().map(|signed| signed.seq);
        (seq, value) > (own_seq, &self.value)
    }
}

/// Bencodes a byte string, the usual value of an item.
#[must_use]
pub fn bencode_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut out = alloc::format!("{}:", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out
}

/// The content of a bencoded byte string; `None` if `bencoded` is anything else, or has anything
/// behind it.
#[must_use]
pub fn byte_string(bencoded: &[u8]) -> Option<&[u8]> {
    let mut decoder = Decoder::new(bencoded).with_max_depth(1);
    let Object::Bytes(bytes) = decoder.next_object().ok()?? else { return None };
    // bendy does not look at what follows the first object unless asked.
    matches!(decoder.next_object(), Ok(None)).then_some(bytes)
}

/// Whether `v` is exactly one canonical bencoded object, at most [`MAX_VALUE_LEN`] bytes long.
///
/// # Errors
/// [`ItemError::ValueTooLong`] or [`ItemError::NotCanonical`].
pub fn check_value(v: &[u8]) -> Result<(), ItemError> {
    if v.len() > MAX_VALUE_LEN {
        return Err(ItemError::ValueTooLong);
    }
    let mut decoder = Decoder::new(v).with_max_depth(MAX_VALUE_DEPTH);
    let walked = match decoder.next_object() {
        Ok(Some(object)) => walk(object),
        Ok(None) | Err(_) => None,
    };
    // bendy does not look at what follows the first object unless asked.
    let ended = matches!(decoder.next_object(), Ok(None));
    if walked.is_some() && ended { Ok(()) } else { Err(ItemError::NotCanonical) }
}

/// Visits every part of an object: bendy swallows the errors of parts that are merely dropped.
fn walk(object: Object<'_, '_>) -> Option<()> {
    match object {
        Object::Integer(_) | Object::Bytes(_) => {}
        Object::List(mut list) => {
            while let Some(item) = list.next_object().ok()? {
                walk(item)?;
            }
        }
        Object::Dict(mut dict) => {
            while let Some((_, item)) = dict.next_pair().ok()? {
                walk(item)?;
            }
        }
    }
    Some(())
}

/// The text that a mutable item's signature covers, without allocation.
///
/// BEP 44: `4:salt<len>:<salt>3:seqi<seq>e1:v<value>`; no `salt` key if the salt is empty.
#[derive(Debug)]
pub struct Signable {
    text: [u8; MAX_SIGNABLE_LEN],
    len: usize,
}

impl Signable {
    /// Builds the text from a salt, a version and a bencoded value.
    ///
    /// # Errors
    /// If the salt or the value is too long.
    pub fn new(salt: &[u8], seq: i64, bencoded: &[u8]) -> Result<Self, ItemError> {
        if salt.len() > MAX_SALT_LEN {
            return Err(ItemError::SaltTooLong);
        }
        if bencoded.len() > MAX_VALUE_LEN {
            return Err(ItemError::ValueTooLong);
        }
        let mut signable = Self { text: [0; MAX_SIGNABLE_LEN], len: 0 };
        if !salt.is_empty() {
            signable.put(format_args!("4:salt{}:", salt.len()));
            signable.put_bytes(salt);
        }
        signable.put(format_args!("3:seqi{seq}e1:v"));
        signable.put_bytes(bencoded);
        Ok(signable)
    }

    /// The signed text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, args: fmt::Arguments<'_>) {
        // `put_bytes` cannot run out of room, see there.
        let _ = fmt::Write::write_fmt(self, args);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        let Some(room) = self.text.get_mut(self.len..end) else {
            unreachable!("lengths were checked against MAX_SIGNABLE_LEN");
        };
        room.copy_from_slice(bytes);
        self.len = end;
    }
}

impl fmt::Write for Signable {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.put_bytes(s.as_bytes());
        Ok(())
    }
}

/// The default signature check: ed25519, refusing the weak keys under which anyone can forge.
#[must_use]
pub fn verify_strict(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};

    use super::*;

    const HELLO: &[u8] = b"12:Hello World!";

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    /// BEP 44 test vectors 1 and 2: the 64-byte private key is the expanded form.
    fn check_vector(salt: &[u8], target: &str, signature: &str) {
        let expanded = ExpandedSecretKey::from_bytes(&hex(
            "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d\
             b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d",
        ));
        let key = VerifyingKey::from(&expanded);
        let public_key = hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548");
        assert_eq!(key.to_bytes(), public_key);
        let text = Signable::new(salt, 1, HELLO).unwrap();
        let made = raw_sign::<sha2::Sha512>(&expanded, text.as_bytes(), &key).to_bytes();
        assert_eq!(made, hex::<64>(signature));
        let signed = Signed { public_key, salt: salt.to_vec(), seq: 1, signature: made };
        let item = Item::verified(HELLO, signed.clone(), verify_strict).unwrap();
        assert_eq!(item.id().to_string(), target);
        let changed = Signed { seq: 2, ..signed };
        assert_eq!(Item::verified(HELLO, changed, verify_strict), Err(ItemError::BadSignature));
    }

    #[test]
    fn bep44_vector_1_mutable() {
        assert_eq!(Signable::new(b"", 1, HELLO).unwrap().as_bytes(), b"3:seqi1e1:v12:Hello World!");
        check_vector(
            b"",
            "4a533d47ec9c7d95b1ad75f576cffc641853b750",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        );
    }

    #[test]
    fn bep44_vector_2_mutable_with_salt() {
        assert_eq!(
            Signable::new(b"foobar", 1, HELLO).unwrap().as_bytes(),
            b"4:salt6:foobar3:seqi1e1:v12:Hello World!"
        );
        check_vector(
            b"foobar",
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        );
    }

    #[test]
    fn bep44_vector_3_immutable() {
        let item = Item::immutable(HELLO).unwrap();
        assert_eq!(item.id().to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }

    /// BEP 46 test vectors: the id of a mutable item with and without salt.
    #[test]
    fn bep46_targets() {
        let key = hex("8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e");
        assert_eq!(
            ItemId::of_mutable(&key, b"").to_string(),
            "cc3f9d90b572172053626f9980ce261a850d050b"
        );
        assert_eq!(
            ItemId::of_mutable(&key, b"n").to_string(),
            "59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"
        );
    }

    #[test]
    fn only_canonical_values_pass() {
        for good in ["i1e", "0:", "le", "de", "d1:ai1e1:bi2ee", "ld1:aleee", "i-5e"] {
            assert_eq!(check_value(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            "i1eX",
            "i01e",
            "i-0e",
            "ie",
            "02:ab",
            "3:ab",
            "d1:bi1e1:ai2ee",
            "d1:ai1e1:ai2ee",
            "l",
            "d1:a",
            "d1:ai1e",
            "di1ei2ee",
            "e",
            "d1:a1:xX",
        ] {
            assert_eq!(check_value(bad.as_bytes()), Err(ItemError::NotCanonical), "{bad}");
        }
        let deep = "l".repeat(MAX_VALUE_DEPTH + 8) + &"e".repeat(MAX_VALUE_DEPTH + 8);
        assert_eq!(check_value(deep.as_bytes()), Err(ItemError::NotCanonical));
    }

    #[test]
    fn limits_are_exact() {
        let longest = bencode_bytes(&[b'x'; 996]);
        assert_eq!(longest.len(), 1000);
        assert!(Item::immutable(&longest).is_ok());
        let over = bencode_bytes(&[b'x'; 997]);
        assert_eq!(Item::immutable(&over), Err(ItemError::ValueTooLong));
        let key = SigningKey::from_bytes(&[3; 32]);
        assert!(Item::sign(&key, &[b's'; 64], i64::MIN, &longest).is_ok());
        assert_eq!(Item::sign(&key, &[b's'; 65], 1, HELLO), Err(ItemError::SaltTooLong));
    }

    #[test]
    fn byte_strings_round_trip() {
        assert_eq!(byte_string(&bencode_bytes(b"ab")), Some(&b"ab"[..]));
        assert_eq!(byte_string(b"i1e"), None);
        assert_eq!(byte_string(b"5:ab"), None);
        assert_eq!(byte_string(b"2:abX"), None, "something follows");
        assert_eq!(byte_string(b"2:ab1:c"), None, "something follows");
    }

    #[test]
    fn the_newer_seq_supersedes_and_of_equals_the_larger_value() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let item = |seq, value: &[u8]| Item::sign(&key, b"", seq, value).unwrap();
        let base = item(1, b"1:b");
        assert!(item(2, b"1:a").supersedes(&base) && !base.supersedes(&item(2, b"1:a")));
        assert!(item(1, b"1:c").supersedes(&base) && !item(1, b"1:a").supersedes(&base));
        assert!(!base.supersedes(&base.clone()), "an equal one says nothing new");
        assert!(!item(-1, b"1:z").supersedes(&base));
        let immutable = Item::immutable(b"1:x").unwrap();
        assert!(!immutable.supersedes(&immutable.clone()));
    }

    #[test]
    fn weak_keys_are_refused() {
        // The neutral point as key: every message verifies under the plain equation.
        let mut weak = [0; 32];
        weak[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify_strict(&weak, b"anything", &signature));
    }
}
