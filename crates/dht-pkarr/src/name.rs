//! Names of DNS, and how the names of a packet are made absolute under its key.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::str::FromStr;

use crate::key::PublicKey;
use crate::zbase32;

/// A name on the wire takes this many bytes at most (RFC 1035, 2.3.4).
pub(crate) const MAX_NAME_LEN: usize = 255;
/// A label has this many bytes at most.
pub(crate) const MAX_LABEL_LEN: usize = 63;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing between two dots.
    EmptyLabel,
    /// A label is longer than 63 bytes.
    LabelTooLong,
    /// The whole name is longer than 255 bytes, the key included.
    NameTooLong,
    /// A backslash is followed neither by three digits below 256 nor by another character.
    BadEscape,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLabel => f.write_str("a label of the name is empty"),
            Self::LabelTooLong => write!(f, "a label is over {MAX_LABEL_LEN} bytes"),
            Self::NameTooLong => write!(f, "the name is over {MAX_NAME_LEN} bytes"),
            Self::BadEscape => f.write_str("a backslash escapes nothing"),
        }
    }
}

impl core::error::Error for NameError {}

/// A domain name: labels of any bytes, from the leaf to the root.
///
/// Texts are those of zone files: dots between labels, an optional one at the end, `\.` for a dot
/// in a label, `\007` for a byte. Two names are equal if their bytes are, because bytes are what is
/// signed; [`Name::is`] compares as DNS does, by letters whatever their case.
///
/// ```
/// use dht_pkarr::Name;
///
/// let name: Name = "_http._tcp.example.com.".parse()?;
/// assert_eq!(name.to_string(), "_http._tcp.example.com");
/// assert_eq!(name.labels().next(), Some(&b"_http"[..]));
/// assert!(name.is(&"_HTTP._TCP.Example.COM".parse()?));
/// # Ok::<(), dht_pkarr::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// As on the wire without compression: each label behind its length, then a zero.
    wire: Vec<u8>,
}

impl Name {
    /// The root, which has no labels.
    #[must_use]
    pub fn root() -> Self {
        Self { wire: alloc::vec![0] }
    }

    /// The name that is a key.
    #[must_use]
    pub fn of_key(key: &PublicKey) -> Self {
        let label = key.label();
        let mut wire = Vec::with_capacity(label.len() + 2);
        wire.push(label.len() as u8);
        wire.extend_from_slice(&label);
        wire.push(0);
        Self { wire }
    }

    /// A name as it is on the wire. The caller has checked all lengths.
    pub(crate) const fn from_wire(wire: Vec<u8>) -> Self {
        Self { wire }
    }

    /// The name that a text means within the zone of a key.
    ///
    /// What ends in the key is absolute; `.`, `@`, an empty text and what ends in `@` is the key
    /// itself; all else stands below the key.
    ///
    /// ```
    /// use dht_pkarr::{Keypair, Name};
    ///
    /// let key = Keypair::from_secret(&[0; 32]).public_key();
    /// assert_eq!(Name::within(&key, "_x.y")?.to_string(), format!("_x.y.{key}"));
    /// assert_eq!(Name::within(&key, &format!("_x.y.{key}."))?.to_string(), format!("_x.y.{key}"));
    /// assert_eq!(Name::within(&key, "@")?.to_string(), key.to_string());
    /// # Ok::<(), dht_pkarr::NameError>(())
    /// ```
    ///
    /// # Errors
    /// If the text is no name, or becomes too long.
    pub fn within(key: &PublicKey, text: &str) -> Result<Self, NameError> {
        text.parse::<Self>()?.rebased(key)
    }

    /// [`Name::within`] for a name that is one already.
    ///
    /// # Errors
    /// [`NameError::NameTooLong`].
    pub fn rebased(&self, key: &PublicKey) -> Result<Self, NameError> {
        let apex = Self::of_key(key);
        let last = self.labels().last().unwrap_or(b"@");
        if last == b"@" {
            return Ok(apex);
        }
        let mut own = self.wire.len() - 1;
        if last.eq_ignore_ascii_case(&key.label()) {
            // A key in capitals is this key too, here; what is signed has its canonical name.
            own -= last.len() + 1;
        }
        let mut wire = Vec::with_capacity(own + apex.wire.len());
        wire.extend_from_slice(self.wire.get(..own).unwrap_or_default());
        wire.extend_from_slice(&apex.wire);
        if wire.len() > MAX_NAME_LEN { Err(NameError::NameTooLong) } else { Ok(Self { wire }) }
    }

    /// Its labels, from the leaf to the root.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.wire }
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// The key under which the name stands, if its top-level domain is one.
    #[must_use]
    pub fn key(&self) -> Option<PublicKey> {
        let last = self.labels().last()?;
        let bytes = zbase32::decode(&last.to_ascii_lowercase()).ok()?;
        PublicKey::from_bytes(bytes).ok()
    }

    /// Whether DNS takes them for one name: whatever the case of letters.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        // Lengths of labels are below any letter, so they compare as they are.
        self.wire.eq_ignore_ascii_case(&other.wire)
    }

    /// The name without its first label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let first = self.labels().next()?;
        Some(Self { wire: self.wire.get(first.len() + 1..)?.to_vec() })
    }

    /// Whether its last labels are those of the other name.
    #[must_use]
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        let more = self.labels().count().checked_sub(other.labels().count());
        more.is_some_and(|more| {
            let last = self.labels().skip(more);
            last.zip(other.labels()).all(|(own, other)| own.eq_ignore_ascii_case(other))
        })
    }

    /// This name below another one.
    pub(crate) fn below(&self, other: &Self) -> Result<Self, NameError> {
        let own = self.wire.get(..self.wire.len() - 1).unwrap_or_default();
        let wire = [own, &other.wire].concat();
        if wire.len() > MAX_NAME_LEN { Err(NameError::NameTooLong) } else { Ok(Self { wire }) }
    }

    /// The name that stands for all below this one: `*` in front of it.
    pub(crate) fn wildcard(&self) -> Self {
        let mut wire = alloc::vec![1, b'*'];
        wire.extend_from_slice(&self.wire);
        Self { wire }
    }

    /// Whether a name stands for this one: they are equal, or its first label is `*` and takes the
    /// place of exactly one label.
    #[must_use]
    pub fn is_matched_by(&self, pattern: &Self) -> bool {
        if pattern.labels().next() == Some(b"*") {
            let ends = self.parent().zip(pattern.parent());
            return ends.is_some_and(|(own, other)| own.is(&other));
        }
        self.is(pattern)
    }

    /// The name on the wire, without compression.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::new();
        let mut rest = match text {
            "." => &[],
            _ => text.as_bytes(),
        };
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'.' => push_label(&mut wire, &mut label)?,
                b'\\' => {
                    let (byte, behind) = unescape(rest).ok_or(NameError::BadEscape)?;
                    label.push(byte);
                    rest = behind;
                }
                byte => label.push(byte),
            }
            if wire.len() + label.len() > MAX_NAME_LEN {
                return Err(NameError::NameTooLong);
            }
        }
        if !label.is_empty() {
            push_label(&mut wire, &mut label)?;
        }
        wire.push(0);
        if wire.len() > MAX_NAME_LEN { Err(NameError::NameTooLong) } else { Ok(Self { wire }) }
    }
}

/// Moves a label behind its length.
fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL_LEN {
        return Err(NameError::LabelTooLong);
    }
    wire.push(label.len() as u8);
    wire.append(label);
    Ok(())
}

/// The byte that is written behind a backslash, and what follows it.
pub(crate) fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = text.split_first()?;
    if !first.is_ascii_digit() {
        return Some((first, rest));
    }
    let (digits, rest) = text.split_at_checked(3)?;
    let digits = core::str::from_utf8(digits).ok()?;
    // `parse` would take a sign, which is no digit.
    let byte = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse())?;
    Some((byte.ok()?, rest))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (place, label) in self.labels().enumerate() {
            if place > 0 {
                f.write_char('.')?;
            }
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => f.write_char((*byte).into())?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// The labels of a [`Name`].
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first()?;
        if *len == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked((*len).into())?;
        self.rest = rest;
        Some(label)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;
    use crate::Keypair;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn texts_round_trip() {
        for text in [".", "a", "a.b.c", "_http._tcp.x", r"a\.b.c", r"\\.c", r"\000\255.z", "*.a"] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(name("a.b."), name("a.b"));
        assert_eq!(name(""), Name::root());
        assert_eq!(name("é"), name(r"\195\169"));
        assert_eq!(name(r"\a\-"), name("a-"));
        assert_eq!(name(" a"), name(r"\032a"));
    }

    #[test]
    fn bad_texts_are_refused() {
        for (text, error) in [
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (r"a\", NameError::BadEscape),
            (r"\25", NameError::BadEscape),
            (r"\256", NameError::BadEscape),
            (r"\2a5", NameError::BadEscape),
            (&"a".repeat(64), NameError::LabelTooLong),
            (&"a.".repeat(128), NameError::NameTooLong),
            (&"a".repeat(1_000), NameError::NameTooLong),
        ] {
            assert_eq!(text.parse::<Name>(), Err(error), "{text}");
        }
        assert_eq!(name(&"a.".repeat(127)).as_wire().len(), MAX_NAME_LEN);
        assert!("a".repeat(63).parse::<Name>().is_ok());
    }

    /// The vectors of the specification.
    #[test]
    fn names_become_absolute_under_the_key() {
        let key = Keypair::from_secret(&[0; 32]).public_key();
        let within = |text: &str| Name::within(&key, text).unwrap().to_string();
        for text in [".", "@", "@.", "", "foo.@", &format!("{key}"), &format!("{key}.")] {
            assert_eq!(within(text), key.to_string(), "{text}");
        }
        for text in ["_x.y", "_x.y.", &format!("_x.y.{key}"), &format!("_x.y.{key}.")] {
            assert_eq!(within(text), format!("_x.y.{key}"), "{text}");
        }
        assert_eq!(within(&key.to_string().to_uppercase()), key.to_string());
        let other = Keypair::from_secret(&[1; 32]).public_key();
        assert_eq!(within(&format!("a.{other}")), format!("a.{other}.{key}"));
        let long = "a.".repeat(110);
        assert_eq!(Name::within(&key, &long), Err(NameError::NameTooLong));
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let matches = |own: &str, pattern: &str| name(own).is_matched_by(&name(pattern));
        assert!(matches("a.foo", "*.foo"));
        assert!(matches("A.foo", "a.FOO"));
        for (own, pattern) in [("a.b.foo", "*.foo"), ("foo", "*.foo"), ("a.bar", "*.foo")] {
            assert!(!matches(own, pattern), "{own} {pattern}");
        }
    }

    #[test]
    fn the_key_of_a_name_is_its_top_level_domain() {
        let key = Keypair::from_secret(&[0; 32]).public_key();
        assert_eq!(name(&format!("a.b.{key}")).key(), Some(key));
        assert_eq!(Name::of_key(&key), name(&key.to_string()));
        assert_eq!(name(&key.to_string().to_uppercase()).key(), Some(key));
        assert_eq!(name("example.com").key(), None);
        assert_eq!(Name::root().key(), None);
        assert_eq!(name("a.b").parent(), Some(name("b")));
        assert_eq!(Name::root().parent(), None);
        assert!(name("a.B").is_at_or_below(&name("b")) && name("b").is_at_or_below(&name("b")));
        assert!(name("b").is_at_or_below(&Name::root()));
        assert!(!name("b").is_at_or_below(&name("a.b")) && !name("ab").is_at_or_below(&name("b")));
    }

    proptest! {
        #[test]
        fn every_name_reads_back_from_its_text(text in "\\PC{0,40}", escaped in r"[a-c.\\0-2]{0,20}") {
            for text in [text, escaped] {
                if let Ok(name) = text.parse::<Name>() {
                    prop_assert_eq!(name.to_string().parse::<Name>(), Ok(name.clone()));
                    prop_assert!(name.as_wire().len() <= MAX_NAME_LEN);
                    let texts: Vec<String> = name
                        .labels()
                        .map(|label| String::from_utf8_lossy(label).into_owned())
                        .collect();
                    prop_assert!(texts.iter().all(|label| !label.is_empty()));
                }
            }
        }

        #[test]
        fn normalising_twice_changes_nothing(text in "[a-z@*._-]{0,30}", secret: [u8; 32]) {
            let key = Keypair::from_secret(&secret).public_key();
            if let Ok(name) = Name::within(&key, &text) {
                prop_assert_eq!(name.key(), Some(key));
                prop_assert_eq!(name.rebased(&key), Ok(name));
            }
        }
    }
}
