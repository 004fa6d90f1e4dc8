//! A signature scheme that costs nothing, in place of ed25519: what is tested is what the core does
//! with the verdict.

/// The one valid signature of a message under a key.
pub(crate) fn seal(key: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.iter().chain(message) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut signature = [0; 64];
    for (place, byte) in signature.iter_mut().zip(hash.to_le_bytes().into_iter().cycle()) {
        *place = byte;
    }
    signature
}

/// For [`Config::verify`](dht_proto::config::Config::verify).
pub(crate) fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    seal(key, message) == *signature
}
