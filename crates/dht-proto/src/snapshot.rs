//! What a restart needs, as bytes: ids, verified contacts, stored items.
//!
//! The form is versioned and checksummed: eight bytes of magic and version, the SHA-1 of the rest,
//! and a bencoded dictionary. A damaged or foreign file is recognised before it is read.

use alloc::vec::Vec;
use core::fmt;
use core::net::{SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use bendy::decoding::{DictDecoder, Error as BendyError, FromBencode, Object};
use bendy::encoding::{Error as EncodeError, SingleItemEncoder, ToBencode};
use sha1_smol::Sha1;

use crate::addr::Addr;
use crate::config::VerifyFn;
use crate::id::{ID_LEN, NodeId};
use crate::item::{Item, Signed};
use crate::wire;

const MAGIC: &[u8; 8] = b"dhtsnap1";
/// Contacts and items beyond these are not read: no node keeps as many.
const MAX_CONTACTS: usize = 4_096;
const MAX_ITEMS: usize = 65_536;

/// Why bytes are not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not a snapshot, or of a version that this one does not read.
    Unknown,
    /// The checksum does not match: truncated or altered.
    Damaged,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "not a snapshot of this version",
            Self::Damaged => "the snapshot is damaged",
        })
    }
}

impl core::error::Error for SnapshotError {}

/// What a restart needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The IPv4 node, if there is one.
    pub v4: Option<FamilySnapshot<SocketAddrV4>>,
    /// The IPv6 node, if there is one.
    pub v6: Option<FamilySnapshot<SocketAddrV6>>,
}

/// What a restart of one family's node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FamilySnapshot<A> {
    /// Our node id.
    pub id: NodeId,
    /// Contacts that answered us.
    pub contacts: Vec<(NodeId, A)>,
    /// Stored items and how much longer they live.
    pub items: Vec<(Item, Duration)>,
}

impl<A> FamilySnapshot<A> {
    /// A snapshot of a node that knows nobody yet.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self { id, contacts: Vec::new(), items: Vec::new() }
    }
}

impl Snapshot {
    /// The snapshot as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Encoding writes to memory and keys are constant, so it cannot fail.
        Self::seal(&self.to_bencode().unwrap_or_default())
    }

    /// Puts magic and checksum before a body. Public for the fuzzer, which makes bodies of its own.
    #[doc(hidden)]
    #[must_use]
    pub fn seal(body: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&Sha1::from(body).digest().bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Reads a snapshot. Items whose signature does not match are left out.
    ///
    /// # Errors
    /// If the bytes are of another version, not a snapshot at all, or damaged.
    pub fn from_bytes(bytes: &[u8], verify: VerifyFn) -> Result<Self, SnapshotError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::Unknown)?;
        let (checksum, body) = rest.split_at_checked(ID_LEN).ok_or(SnapshotError::Damaged)?;
        if Sha1::from(body).digest().bytes() != checksum {
            return Err(SnapshotError::Damaged);
        }
        let mut snapshot = Self::from_bencode(body).map_err(|_| SnapshotError::Damaged)?;
        if let Some(v4) = &mut snapshot.v4 {
            v4.drop_forged(verify);
        }
        if let Some(v6) = &mut snapshot.v6 {
            v6.drop_forged(verify);
        }
        Ok(snapshot)
    }
}

impl<A> FamilySnapshot<A> {
    fn drop_forged(&mut self, verify: VerifyFn) {
        self.items.retain(|(item, _)| {
            item.signed()
                .is_none_or(|signed| Item::verified(item.value(), signed.clone(), verify).is_ok())
        });
    }
}

impl ToBencode for Snapshot {
    const MAX_DEPTH: usize = 6;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), EncodeError> {
        encoder.emit_dict(|mut dict| {
            if let Some(v4) = &self.v4 {
                dict.emit_pair(b"v4", v4)?;
            }
            if let Some(v6) = &self.v6 {
                dict.emit_pair(b"v6", v6)?;
            }
            Ok(())
        })
    }
}

impl FromBencode for Snapshot {
    const EXPECTED_RECURSION_DEPTH: usize = 6;

    fn decode_bencode_object(object: Object<'_, '_>) -> Result<Self, BendyError> {
        let mut dict = object.try_into_dictionary()?;
        let mut snapshot = Self::default();
        while let Some((key, value)) = dict.next_pair()? {
            match key {
                b"v4" => snapshot.v4 = Some(FamilySnapshot::decode_bencode_object(value)?),
                b"v6" => snapshot.v6 = Some(FamilySnapshot::decode_bencode_object(value)?),
                _ => {}
            }
        }
        Ok(snapshot)
    }
}

impl<A: Addr> ToBencode for FamilySnapshot<A> {
    const MAX_DEPTH: usize = 5;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), EncodeError> {
        let mut nodes = Vec::with_capacity(self.contacts.len() * A::NODE_LEN);
        for (id, addr) in &self.contacts {
            nodes.extend_from_slice(id.as_bytes());
            nodes.extend_from_slice(addr.compact().as_ref());
        }
        encoder.emit_dict(|mut dict| {
            dict.emit_pair_with(b"id", |e| e.emit_bytes(self.id.as_bytes()))?;
            dict.emit_pair_with(b"items", |e| {
                e.emit_list(|list| {
                    self.items.iter().try_for_each(|(item, left)| {
                        list.emit_with(|e| encode_item(item, *left, e))
                    })
                })
            })?;
            dict.emit_pair_with(b"nodes", |e| e.emit_bytes(&nodes))
        })
    }
}

impl<A: Addr> FromBencode for FamilySnapshot<A> {
    const EXPECTED_RECURSION_DEPTH: usize = 5;

    fn decode_bencode_object(object: Object<'_, '_>) -> Result<Self, BendyError> {
        let mut dict = object.try_into_dictionary()?;
        let (mut id, mut contacts, mut items) = (None, Vec::new(), Vec::new());
        while let Some((key, value)) = dict.next_pair()? {
            match key {
                b"id" => id = NodeId::from_slice(value.try_into_bytes()?),
                b"nodes" => {
                    let nodes = wire::nodes::<A>(value.try_into_bytes()?);
                    contacts = nodes.take(MAX_CONTACTS).collect();
                }
                b"items" => {
                    let mut list = value.try_into_list()?;
                    while let Some(object) = list.next_object()? {
                        let item = decode_item(object.try_into_dictionary()?)?;
                        if items.len() < MAX_ITEMS {
                            items.extend(item);
                        }
                    }
                }
                _ => {}
            }
        }
        let id = id.ok_or_else(|| BendyError::missing_field("id"))?;
        Ok(Self { id, contacts, items })
    }
}

/// Values stay byte strings here: what is inside them is the owner's business.
fn encode_item(
    item: &Item,
    left: Duration,
    encoder: SingleItemEncoder<'_>,
) -> Result<(), EncodeError> {
    encoder.emit_dict(|mut dict| {
        if let Some(signed) = item.signed() {
            dict.emit_pair_with(b"k", |e| e.emit_bytes(&signed.public_key))?;
        }
        dict.emit_pair(b"left", left.as_secs())?;
        if let Some(signed) = item.signed() {
            dict.emit_pair_with(b"salt", |e| e.emit_bytes(&signed.salt))?;
            dict.emit_pair(b"seq", signed.seq)?;
            dict.emit_pair_with(b"sig", |e| e.emit_bytes(&signed.signature))?;
        }
        dict.emit_pair_with(b"v", |e| e.emit_bytes(item.value()))
    })
}

/// `None` if the parts do not make an item; the rest of the snapshot is read all the same.
fn decode_item(mut dict: DictDecoder<'_, '_>) -> Result<Option<(Item, Duration)>, BendyError> {
    let (mut key, mut left, mut salt, mut seq, mut sig, mut v) =
        (None, 0, Vec::new(), None, None, None);
    while let Some((name, value)) = dict.next_pair()? {
        match name {
            b"k" => key = value.try_into_bytes()?.try_into().ok(),
            b"left" => left = u64::decode_bencode_object(value)?,
            b"salt" => salt = value.try_into_bytes()?.to_vec(),
            b"seq" => seq = Some(i64::decode_bencode_object(value)?),
            b"sig" => sig = value.try_into_bytes()?.try_into().ok(),
            b"v" => v = Some(value.try_into_bytes()?.to_vec()),
            _ => {}
        }
    }
    let Some(v) = v else { return Ok(None) };
    let item = match (key, seq, sig) {
        (Some(public_key), Some(seq), Some(signature)) => {
            let signed = Signed { public_key, salt, seq, signature };
            // `Snapshot::from_bytes` checks the signatures with the caller's function.
            Item::verified(&v, signed, |_, _, _| true)
        }
        _ => Item::immutable(&v),
    };
    Ok(item.ok().map(|item| (item, Duration::from_secs(left))))
}

/// Whether bytes look like one bencoded object; used by tests of the form.
#[cfg(test)]
fn is_one_object(body: &[u8]) -> bool {
    let mut decoder = bendy::decoding::Decoder::new(body).with_max_depth(8);
    matches!(decoder.next_object(), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::item::verify_strict;

    fn example() -> Snapshot {
        let key = SigningKey::from_bytes(&[3; 32]);
        let mut v4 = FamilySnapshot::new(NodeId::from_bytes([1; 20]));
        v4.contacts = alloc::vec![
            (NodeId::from_bytes([2; 20]), "1.2.3.4:5".parse().unwrap()),
            (NodeId::from_bytes([3; 20]), "5.6.7.8:9".parse().unwrap()),
        ];
        v4.items = alloc::vec![
            (Item::immutable(b"d1:ai1ee").unwrap(), Duration::from_secs(60)),
            (Item::sign(&key, b"salt", -7, b"2:hi").unwrap(), Duration::from_secs(7200)),
        ];
        let mut v6 = FamilySnapshot::new(NodeId::from_bytes([4; 20]));
        v6.contacts = alloc::vec![(NodeId::from_bytes([5; 20]), "[2600::1]:6881".parse().unwrap())];
        Snapshot { v4: Some(v4), v6: Some(v6) }
    }

    /// libtorrent test_dht.cpp 3780 `dht_state`
    #[test]
    fn a_snapshot_round_trips() {
        for snapshot in [example(), Snapshot::default()] {
            let bytes = snapshot.to_bytes();
            assert!(is_one_object(&bytes[28..]));
            assert_eq!(Snapshot::from_bytes(&bytes, verify_strict), Ok(snapshot));
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        let bytes = example().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Snapshot::from_bytes(&damaged, verify_strict).is_err(), "byte {at}");
            assert!(Snapshot::from_bytes(&bytes[..at], verify_strict).is_err(), "cut at {at}");
        }
        assert_eq!(Snapshot::from_bytes(b"", verify_strict), Err(SnapshotError::Unknown));
    }

    #[test]
    fn forged_items_are_left_out() {
        let bytes = example().to_bytes();
        let snapshot = Snapshot::from_bytes(&bytes, |_, _, _| false).unwrap();
        assert_eq!(snapshot.v4.unwrap().items.len(), 1, "the immutable one proves itself");
    }
}
