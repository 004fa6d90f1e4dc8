//! Keys: names that belong to whoever can sign for them.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;

use dht_proto::ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use dht_proto::id::ItemId;
use rand_core::CryptoRng;

use crate::zbase32;

/// Why a text or bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text has not 52 characters, or the last label of its host has not.
    Length,
    /// A character is not of the z-base-32 alphabet, which has lower case only.
    Character,
    /// The bits that fill up the last character are not zero: another text is this key's name.
    NotCanonical,
    /// The bytes are no point of the curve, so nobody can sign for them.
    NotAPoint,
    /// The text of a secret key has not 64 hexadecimal digits.
    Secret,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a key has 52 characters",
            Self::Character => "a key has characters of z-base-32 only, in lower case",
            Self::NotCanonical => "the last character of the key is not canonical",
            Self::NotAPoint => "the key is no point of the curve",
            Self::Secret => "a secret key has 64 hexadecimal digits",
        })
    }
}

impl core::error::Error for KeyError {}

/// An ed25519 public key; its text, 52 characters of z-base-32, is a top-level domain.
///
/// ```
/// use dht_pkarr::PublicKey;
///
/// let name = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy";
/// let key: PublicKey = name.parse()?;
/// assert_eq!(key.to_string(), name);
/// // The key of an URL is the last label of its host.
/// assert_eq!(format!("https://user@www.{name}.:8080/path?q#f").parse(), Ok(key));
/// assert_eq!(format!("pk:{name}").parse(), Ok(key));
/// # Ok::<(), dht_pkarr::KeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotAPoint)?;
        Ok(Self(bytes))
    }

    /// A key that was checked before.
    pub(crate) const fn from_checked(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where the DHT stores this key's packet: the hash of the key, without salt.
    #[must_use]
    pub fn item_id(&self) -> ItemId {
        ItemId::of_mutable(&self.0, b"")
    }

    /// The name of the key as a label.
    pub(crate) fn label(&self) -> [u8; zbase32::LEN] {
        zbase32::encode(&self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.label().iter().try_for_each(|character| fmt::Write::write_char(f, (*character).into()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads a key, or any URL or host whose top-level domain is one.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(key_bytes(text)?)
    }
}

/// For maps that are asked for bytes of which it is not known whether they are a key.
impl Borrow<[u8; 32]> for PublicKey {
    fn borrow(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The bytes that a text names, which is read like a [`PublicKey`], but need not be a point of the curve:
/// to find that out is most of the work.
///
/// # Errors
/// Any [`KeyError`] but [`KeyError::NotAPoint`].
pub fn key_bytes(text: &str) -> Result<[u8; 32], KeyError> {
    let host = host(text);
    let label = host.rsplit('.').next().unwrap_or(host);
    zbase32::decode(label.as_bytes())
}

/// The host of a URL without a final dot, of `pk:<host>`, or of a host with a port or a path.
#[must_use]
pub fn host(text: &str) -> &str {
    let rest = match text.split_once(':') {
        // What is as long as a key in front of a colon has a port behind it.
        Some((scheme, rest)) if scheme.len() < zbase32::LEN => rest,
        _ => text,
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split(':').next().unwrap_or(host);
    host.trim_end_matches('.')
}

/// A secret key and its public one.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// The keypair of a secret key of 32 bytes.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// A new keypair.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Self::from_secret(&secret)
    }

    /// The keypair of a secret key as files have it: 64 hexadecimal digits, white space around them.
    ///
    /// # Errors
    /// [`KeyError::Secret`].
    pub fn from_secret_hex(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().as_bytes();
        if digits.len() != 64 {
            return Err(KeyError::Secret);
        }
        let mut secret = [0; 32];
        for (byte, pair) in secret.iter_mut().zip(digits.chunks(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or(KeyError::Secret)?;
                *byte = *byte << 4 | value as u8;
            }
        }
        Ok(Self::from_secret(&secret))
    }

    /// The secret key as files have it. Whoever reads it owns the name.
    #[must_use]
    pub fn secret_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0.as_bytes() {
            for value in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(value.into(), 16));
            }
        }
        text
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a text.
    pub(crate) fn sign(&self, text: &[u8]) -> Signature {
        self.0.sign(text)
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({}, ..)", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    const KEY: &str = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy";

    #[test]
    fn the_last_label_of_the_host_is_the_key() {
        let key = KEY.parse::<PublicKey>().unwrap();
        for text in [
            "K",
            "K.",
            "pk:K",
            "http://K",
            "https://K",
            "https://K/foo/bar",
            "https://foo.K.",
            "https://foo.K.#hash",
            "https://foo@bar.K.?q=v",
            "https://foo@bar.K.:8888?q=v",
            "https://foo:pass@bar.K.:8888?q=v",
            "https://yg4gxe7z1r7mr6orids9fh95y7gxhdsxjqi6nngsxxtakqaxr5no.K",
            "pubky://K/x",
            "pubky://K/x:y@z.a",
            "foo.K:8080",
            "foo.K:8080/a",
            "K:80",
            "K/",
            "K?q",
            "K#h",
            "//K",
            "user@K",
        ] {
            assert_eq!(text.replace('K', KEY).parse(), Ok(key), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        for (text, error) in [
            ("", KeyError::Length),
            (&KEY[1..], KeyError::Length),
            (&format!("pubky{KEY}"), KeyError::Length),
            (&format!("https://{KEY}.com"), KeyError::Length),
            (&KEY.to_uppercase(), KeyError::Character),
            (&format!("{}n", &KEY[..51]), KeyError::NotCanonical),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(error), "{text}");
        }
        // y = 2 is on no point of the curve.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert_eq!(PublicKey::from_bytes(bytes), Err(KeyError::NotAPoint));
    }

    #[test]
    fn keys_of_the_vectors() {
        let zero = Keypair::from_secret(&[0; 32]).public_key();
        assert_eq!(zero.to_string(), "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo");
        assert_eq!(zero.item_id().to_string(), "8c30c97e7fd5460ce3b962db4cd75879eecd8abd");
        let one = Keypair::from_secret(&[1; 32]).public_key();
        assert_eq!(one.to_string(), "tkrq8zmwb8a3m9k15csu3q17qmfgqnp9dskbrg9uq1rydpyxp7qy");
    }

    #[test]
    fn secrets_round_trip_and_are_not_printed() {
        let keypair = Keypair::from_secret(&[0xa5; 32]);
        let hex = keypair.secret_hex();
        assert_eq!(hex, "a5".repeat(32));
        let again = Keypair::from_secret_hex(&format!(" {hex}\n")).unwrap();
        assert_eq!(again.public_key(), keypair.public_key());
        assert!(!format!("{keypair:?}").contains("a5a5"));
        for bad in ["", "a5", &"g5".repeat(32), &"a5".repeat(33), &"é".repeat(32)] {
            assert_eq!(Keypair::from_secret_hex(bad).err(), Some(KeyError::Secret));
        }
    }
}
