//! Values, keys and items between the user's files and BEP 44.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dht_mio::proto::item::{
    Item, ItemError, MAX_SALT_LEN, MAX_VALUE_LEN, bencode_bytes, byte_string, check_value,
};
use ed25519_dalek::SigningKey;

use crate::args::ValueArg;
use crate::failure::Failure;
use crate::output;
use crate::parse;

/// A key file is 64 digits and a newline; more than this is some other file.
const MAX_KEY_FILE: u64 = 1024;

/// The bencoded value that a user wants stored, within the limits of BEP 44.
pub(crate) fn bencoded(arg: &ValueArg) -> Result<Vec<u8>, Failure> {
    let bytes = if arg.value == "-" {
        read_bounded(&mut io::stdin().lock(), MAX_VALUE_LEN as u64)
            .map_err(|error| {
                Failure::input(
                    format!("cannot read standard input: {error}"),
                    "give the value as an argument",
                )
            })?
            .ok_or_else(too_long)?
    } else {
        arg.value.clone().into_bytes()
    };
    let value = if arg.bencode { bytes } else { bencode_bytes(&bytes) };
    match check_value(&value) {
        Ok(()) => Ok(value),
        Err(ItemError::ValueTooLong) => Err(too_long()),
        Err(error) => Err(Failure::input(
            error.to_string(),
            "sort dictionary keys, write integers without leading zeros, add nothing after the \
             value; or leave out --bencode to store a text",
        )),
    }
}

/// Reads a text from a file, or from standard input if that is -; what is longer is some other file.
pub(crate) fn read_text(path: &Path, max_len: u64) -> Result<String, String> {
    let bytes = if path == Path::new("-") {
        read_bounded(&mut io::stdin().lock(), max_len)
    } else {
        File::open(path).and_then(|mut file| read_bounded(&mut file, max_len))
    };
    let bytes = bytes.map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("it is over {max_len} bytes long"))?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Checks the length of a salt before anything is sent.
pub(crate) fn check_salt(salt: &[u8]) -> Result<(), Failure> {
    if salt.len() <= MAX_SALT_LEN {
        return Ok(());
    }
    Err(Failure::input(
        format!("the salt is {} bytes long, and at most {MAX_SALT_LEN} are allowed", salt.len()),
        "use a shorter salt, for example a hash of it",
    ))
}

/// Reads a key file; returns the key, and whether others can read the file.
pub(crate) fn read_key(path: &Path) -> Result<(SigningKey, bool), Failure> {
    let hint = "give the file that dht keygen made, or make one: dht keygen FILE";
    let unreadable = |error: io::Error| {
        Failure::input(format!("cannot read the key file {}: {error}", path.display()), hint)
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let exposed = is_exposed(&file);
    let text = read_bounded(&mut file, MAX_KEY_FILE).map_err(unreadable)?;
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let seed = parse::hex(text.trim()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match seed {
        Some(seed) => Ok((SigningKey::from_bytes(&seed), exposed)),
        None => Err(Failure::input(
            format!(
                "{} is no key file: it does not hold 64 hexadecimal digits (a 32-byte seed)",
                path.display()
            ),
            hint,
        )),
    }
}

/// An item as programs see it.
pub(crate) fn item_line(item: &Item) -> output::Item {
    let signed = item.signed();
    let salt = signed.map(|signed| signed.salt.as_slice()).filter(|salt| !salt.is_empty());
    output::Item {
        target: item.id().to_string(),
        bencode: parse::to_hex(item.value()),
        value: text(item),
        seq: signed.map(|signed| signed.seq),
        public_key: signed.map(|signed| parse::to_hex(&signed.public_key)),
        salt: salt.and_then(|salt| String::from_utf8(salt.to_vec()).ok()),
        salt_hex: salt.map(parse::to_hex),
        signature: signed.map(|signed| parse::to_hex(&signed.signature)),
    }
}

/// The value of an item, if it is a string in UTF-8.
pub(crate) fn text(item: &Item) -> Option<String> {
    byte_string(item.value()).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
}

/// Reads to the end; `None` if there are more than `max` bytes.
pub(crate) fn read_bounded(from: &mut impl Read, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

fn too_long() -> Failure {
    Failure::input(
        ItemError::ValueTooLong.to_string(),
        "store less, for example only the hash or address of the data",
    )
}

#[cfg(unix)]
fn is_exposed(file: &File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
const fn is_exposed(_file: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(value: &str, bencode: bool) -> ValueArg {
        ValueArg { value: value.to_owned(), bencode }
    }

    #[test]
    fn texts_become_strings_and_bencode_stays() {
        assert_eq!(bencoded(&arg("Hello World!", false)).unwrap(), b"12:Hello World!");
        assert_eq!(bencoded(&arg("", false)).unwrap(), b"0:");
        assert_eq!(bencoded(&arg("d1:ai1ee", true)).unwrap(), b"d1:ai1ee");
    }

    #[test]
    fn values_are_canonical_and_short() {
        // "995:" and 996 bytes make 1000.
        assert_eq!(bencoded(&arg(&"x".repeat(996), false)).unwrap().len(), 1_000);
        for (value, bencode) in [
            ("x".repeat(997), false),
            ("d1:bi1e1:ai1ee".to_owned(), true),
            ("i01e".to_owned(), true),
            ("i1ei2e".to_owned(), true),
            (String::new(), true),
            ("hello".to_owned(), true),
        ] {
            let failure = bencoded(&arg(&value, bencode)).unwrap_err();
            assert_eq!(failure.status, crate::failure::Status::BadInput);
        }
    }

    #[test]
    fn reading_stops_at_the_bound() {
        assert_eq!(read_bounded(&mut &b"abc"[..], 3).unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(read_bounded(&mut io::repeat(0), 3).unwrap(), None);
    }
}
