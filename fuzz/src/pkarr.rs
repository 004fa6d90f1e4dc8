//! Packets and names of PKARR.

use dht_pkarr::{Keypair, Name, PublicKey, SignedPacket, Timestamp};

/// Longer than any packet that is read.
const MAX_INPUT: usize = 1_200;

/// Reads a packet from a relay payload, its signature unchecked, and writes it again.
///
/// # Panics
/// If reading or writing is at fault.
pub fn packet(data: &[u8]) {
    if data.len() > MAX_INPUT {
        return;
    }
    let key = Keypair::from_secret(&[0; 32]).public_key();
    let bytes = [&key.as_bytes()[..], data].concat();
    let read = SignedPacket::from_trusted_bytes(&bytes);
    let verified = SignedPacket::from_relay_payload(&key, data);
    let Ok(packet) = read else {
        // A signature makes nothing readable.
        assert!(verified.is_err());
        return;
    };
    assert_eq!(packet.as_bytes(), bytes);
    assert!(verified.is_err() || verified.as_ref() == Ok(&packet));
    if let Ok(item) = packet.to_item() {
        assert_eq!(SignedPacket::from_item(&key, &item).as_ref(), Ok(&packet));
    }
    let records = packet.records();
    // A record takes up eleven bytes or more.
    assert!(records.len() <= data.len() / 11);
    for record in &records {
        assert_eq!(record.name.to_string().parse().as_ref(), Ok(&record.name));
    }
    // Signed again, the records are the same but for names that now stand under the key.
    let keypair = Keypair::from_secret(&[0; 32]);
    if let Ok(again) = SignedPacket::sign(&keypair, Timestamp::UNIX_EPOCH, records.clone()) {
        let written = again.records();
        assert_eq!(written.len(), records.len());
        for (written, record) in written.iter().zip(&records) {
            assert_eq!(record.name.rebased(&key).as_ref(), Ok(&written.name));
            assert_eq!((written.class, written.ttl), (record.class, record.ttl));
            assert_eq!(written.data.kind(), record.data.kind());
            assert!(written.name.key() == Some(key));
        }
    }
}

/// Reads a text as a name, a key and an URL, and the bytes as a name in a packet.
///
/// # Panics
/// If reading or writing is at fault.
pub fn name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let zone = Keypair::from_secret(&[0; 32]).public_key();
    if let Ok(name) = text.parse::<Name>() {
        assert!(name.as_wire().len() <= 255);
        assert_eq!(name.to_string().parse().as_ref(), Ok(&name));
        assert!(name.is(&name) && name.is_matched_by(&name));
        assert!(name.labels().all(|label| (1..=63).contains(&label.len())));
    }
    if let Ok(absolute) = Name::within(&zone, &text) {
        assert_eq!(absolute.key(), Some(zone));
        assert_eq!(absolute.rebased(&zone).as_ref(), Ok(&absolute));
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        // A key is found only where its one canonical text stands.
        assert!(text.contains(&key.to_string()));
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    // One record of no data, whose name is the input.
    let mut payload = vec![0; 72];
    payload.extend_from_slice(&[0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    payload.extend_from_slice(data.get(..data.len().min(900)).unwrap_or_default());
    payload.extend_from_slice(&[0; 10]);
    packet(&payload);
}
