//! Who vouches for relays whose URL begins with https.

use core::fmt::Display;
use std::fs::File;
use std::path::Path;

use dht_pkarr_client::mio::Builder;

use crate::failure::Failure;
use crate::value::read_bounded;

/// A file of certificates is shorter than this, in bytes: those of all authorities that Mozilla trusts
/// take a quarter of it.
const MAX_PEM: u64 = 1 << 20;

/// Has the certificates in a file vouch for relays, and no others.
pub(super) fn those_in(path: &Path, builder: Builder) -> Result<Builder, Failure> {
    let wrong = |why: &dyn Display| {
        Failure::input(
            format!("--relay-ca {}: {why}", path.display()),
            "give a file of certificates in PEM (BEGIN CERTIFICATE)",
        )
    };
    let pem = File::open(path).and_then(|mut file| read_bounded(&mut file, MAX_PEM));
    let pem = pem.map_err(|error| wrong(&error))?.ok_or_else(|| wrong(&"it is over 1 MiB long"))?;
    builder.trust(&pem).map_err(|error| wrong(&error))
}
