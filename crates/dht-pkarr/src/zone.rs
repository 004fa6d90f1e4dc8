//! Records as text: a subset of the master files of RFC 1035, section 5, with the records of RFC 9460 and the
//! unknown types of RFC 3597.
//!
//! ```
//! use dht_pkarr::{Keypair, zone};
//!
//! let key = Keypair::from_secret(&[0; 32]).public_key();
//! let text = "
//! $TTL 1h
//! @        A      192.0.2.1        ; the key itself
//!          AAAA   2001:db8::1      ; and again
//! www 300  CNAME  example.com.
//! _note    TXT    \"any text\" more
//! @        HTTPS  1 . alpn=h2,h3 port=8443
//! ";
//! let records = zone::parse(text, &key)?;
//! assert_eq!(records.len(), 5);
//! assert_eq!(zone::line(&records[2], &key), "www 300 IN CNAME example.com.");
//! let error = zone::parse("@ A 192.0.2.256", &key).unwrap_err();
//! assert_eq!(error.line, 1);
//! # Ok::<(), zone::ZoneError>(())
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::key::PublicKey;
use crate::record::Record;

mod read;
#[cfg(test)]
mod tests;
mod token;
mod write;

pub use write::line;

/// The TTL of records before any `$TTL`, in seconds.
pub const DEFAULT_TTL: u32 = 3_600;

/// Why a text is no zone: what is wrong where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneError {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl core::error::Error for ZoneError {}

/// Reads the records of a key.
///
/// Names that do not end in a dot stand below the origin, which is the key unless `$ORIGIN` says
/// otherwise; so do targets, but for those that end in a key. Each line is
/// `NAME [TTL] [IN] TYPE DATA`; one that begins with a blank has the name of the line before.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, key: &PublicKey) -> Result<Vec<Record>, ZoneError> {
    read::Reader::new(key).read(text)
}
