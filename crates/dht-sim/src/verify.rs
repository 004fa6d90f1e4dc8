//! Signatures, each checked once: an item goes to many nodes, and to a checker for each of them.

use std::cell::RefCell;
use std::collections::VecDeque;

use dht_proto::item;

/// Signatures remembered.
const MEMORY: usize = 64;

struct Known {
    public_key: [u8; 32],
    signature: [u8; 64],
    message: Vec<u8>,
    is_valid: bool,
}

thread_local! {
    static KNOWN: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

/// The same as [`item::verify_strict`], and as strict.
#[must_use]
pub fn verify_once(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    KNOWN.with_borrow_mut(|all| {
        let known = all.iter().find(|known| {
            known.signature == *signature
                && known.public_key == *public_key
                && known.message == message
        });
        if let Some(known) = known {
            return known.is_valid;
        }
        let is_valid = item::verify_strict(public_key, message, signature);
        if all.len() >= MEMORY {
            all.pop_front();
        }
        let (public_key, signature, message) = (*public_key, *signature, message.to_vec());
        all.push_back(Known { public_key, signature, message, is_valid });
        is_valid
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn asked_twice_it_says_the_same_and_nothing_is_mistaken_for_another() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let own = key.verifying_key().to_bytes();
        for round in 0..2 {
            for n in 0..2 * MEMORY {
                let message = n.to_be_bytes();
                let signature = key.sign(&message).to_bytes();
                assert!(verify_once(&own, &message, &signature), "{round} {n}");
                assert!(!verify_once(&own, b"another", &signature));
                assert!(!verify_once(&[7; 32], &message, &signature));
                assert!(!verify_once(&own, &message, &[9; 64]));
                assert!(verify_once(&own, &message, &signature));
            }
        }
    }
}
