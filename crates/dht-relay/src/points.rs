//! Which keys are points of the curve.

use std::collections::BTreeSet;

use dht_pkarr::{KeyError, PublicKey, key_bytes};

/// Keys of which it is remembered.
const MAX_POINTS: usize = 16_384;

/// Keys that are points of the curve. To find that out takes longer than all the rest of a request that
/// the cache answers.
#[derive(Debug, Default)]
pub(crate) struct Points(BTreeSet<PublicKey>);

impl Points {
    /// The key that a text names.
    pub(crate) fn key(&mut self, text: &str) -> Result<PublicKey, KeyError> {
        let bytes = key_bytes(text)?;
        if let Some(known) = self.0.get(&bytes) {
            return Ok(*known);
        }
        let key = PublicKey::from_bytes(bytes)?;
        if self.0.len() >= MAX_POINTS {
            // Those in use are soon here again.
            self.0.clear();
        }
        self.0.insert(key);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_pkarr::Keypair;

    #[test]
    fn keys_are_read_alike_whether_they_are_known_or_not() {
        let mut points = Points::default();
        let key = Keypair::from_secret(&[1; 32]).public_key();
        // About half of all bytes are no point.
        let texts = "ybndrfg8ejkmcpqxot1uwisza345h769".chars();
        let texts = texts.map(|first| format!("{first}{}", "y".repeat(51)));
        let other =
            texts.into_iter().find(|it| it.parse::<PublicKey>() == Err(KeyError::NotAPoint));
        let other = other.unwrap();
        for _ in 0..2 {
            for text in [&*key.to_string(), &format!("https://a.{key}/"), "short", &other] {
                assert_eq!(points.key(text), text.parse(), "{text}");
            }
            assert_eq!(points.0.len(), 1);
        }
        for number in 0..=MAX_POINTS as u16 {
            let mut secret = [0; 32];
            secret[..2].copy_from_slice(&number.to_be_bytes());
            let key = Keypair::from_secret(&secret).public_key();
            assert_eq!(points.key(&key.to_string()), Ok(key));
            assert!(points.0.len() <= MAX_POINTS);
        }
    }
}
