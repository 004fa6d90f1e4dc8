//! `dht pkarr inspect`: explains a signed packet.

use std::fs::File;
use std::io;
use std::path::Path;

use dht_pkarr::{CachedPacket, PacketError, PublicKey, SignedPacket};
use dht_pkarr_client::{Origin, now};

use super::{done, show};
use crate::args::pkarr::PkarrInspectArgs;
use crate::commands::Ended;
use crate::failure::Failure;
use crate::output::{Done, Line, Output, pkarr};
use crate::parse::hex;
use crate::value::read_bounded;

/// The longest packet as caches have it, as hex and a newline.
const MAX_INPUT: u64 = 2 * (SignedPacket::MAX_LEN as u64 + 8) + 2;

pub(super) fn run(args: &PkarrInspectArgs, out: &Output) -> Ended {
    let bytes = read(&args.packet)?;
    let (packet, seen) = match args.key {
        Some(key) => (of_relay(&key, &bytes).map_err(|error| not_a_packet(error, true))?, None),
        None => whole(&bytes).map_err(|error| not_a_packet(error, false))?,
    };
    let seen = seen.map(|seen| (seen, &Origin::Cache));
    let records = show(out, &packet, seen, None)?;
    out.words("the signature matches");
    let timestamp = Some(packet.timestamp().as_micros());
    let pkarr = pkarr::Done { timestamp, records: Some(records), ..done(&packet.public_key()) };
    out.json(&Line::Done(Done { ok: Some(true), pkarr: Some(Box::new(pkarr)), ..Done::default() }));
    Ok(None)
}

/// The whole packet that is in a file.
pub(super) fn file(path: &Path) -> Result<SignedPacket, Failure> {
    let bytes = decoded(
        File::open(path).and_then(|mut file| read_bounded(&mut file, MAX_INPUT)),
        &path.display().to_string(),
    )?;
    let read = whole(&bytes).map_err(|error| {
        let failure = not_a_packet(error, false);
        Failure { message: format!("{}: {}", path.display(), failure.message), ..failure }
    });
    Ok(read?.0)
}

/// The packet of a relay; or a whole one, if it is the same key's.
fn of_relay(key: &PublicKey, bytes: &[u8]) -> Result<SignedPacket, PacketError> {
    let payload = bytes.strip_prefix(key.as_bytes()).unwrap_or(bytes);
    SignedPacket::from_relay_payload(key, payload)
}

/// A packet with its key, perhaps behind the time it was last seen.
fn whole(bytes: &[u8]) -> Result<(SignedPacket, Option<dht_pkarr::Timestamp>), PacketError> {
    SignedPacket::from_bytes(bytes).map(|packet| (packet, None)).or_else(|error| {
        match CachedPacket::from_bytes(bytes, now()) {
            Ok(cached) => Ok((cached.packet, Some(cached.last_seen))),
            Err(_) => Err(error),
        }
    })
}

fn not_a_packet(error: PacketError, has_key: bool) -> Failure {
    let hint = if has_key {
        "give what a relay has of this very key: a signature, a time and a DNS message"
    } else {
        "give a whole packet, as --save writes it; one of a relay needs --key"
    };
    Failure::input(format!("this is no signed packet: {error}"), hint)
}

fn read(text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = match text {
        "-" => read_bounded(&mut io::stdin().lock(), MAX_INPUT),
        text => match hex(text) {
            Some(bytes) if !bytes.is_empty() => return Ok(bytes),
            _ => File::open(text).and_then(|mut file| read_bounded(&mut file, MAX_INPUT)),
        },
    };
    decoded(bytes, text)
}

/// Bytes that were read, which may be hexadecimal digits.
fn decoded(bytes: io::Result<Option<Vec<u8>>>, text: &str) -> Result<Vec<u8>, Failure> {
    let hint = "give a file that --save wrote, - for standard input, or hexadecimal digits";
    let bytes =
        bytes.map_err(|error| Failure::input(format!("cannot read {text}: {error}"), hint))?;
    let bytes =
        bytes.ok_or_else(|| Failure::input(format!("{text} is longer than any packet"), hint))?;
    let digits = core::str::from_utf8(&bytes).ok().and_then(|text| hex(text.trim()));
    Ok(digits.filter(|bytes| !bytes.is_empty()).unwrap_or(bytes))
}
