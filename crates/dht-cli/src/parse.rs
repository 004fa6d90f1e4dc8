//! What users type: hashes, magnet links, keys, addresses, durations.

use core::net::SocketAddr;
use core::time::Duration;

use dht_mio::proto::id::{ID_LEN, InfoHash, ItemId, NodeId};
use dht_pkarr::{KeyError, PublicKey, Timestamp};

use crate::args::pkarr::PkarrName;

/// Longest `--timeout`, in seconds: a day.
const MAX_TIMEOUT_SECS: f64 = 86_400.0;
/// RFC 4648 base32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Reads an infohash: 40 hex digits, 32 base32 characters, 64 hex digits of a version 2 torrent
/// (BEP 52: the DHT uses the first 20 bytes), or a magnet link.
pub(crate) fn info_hash(text: &str) -> Result<InfoHash, String> {
    let text = text.trim();
    if starts_with_ignoring_case(text, "magnet:") {
        return magnet(text);
    }
    plain_hash(text).ok_or_else(|| {
        "expected 40 hexadecimal digits, 32 base32 characters, 64 hexadecimal digits (v2) \
         or a magnet link"
            .to_owned()
    })
}

/// Reads the id of an item.
pub(crate) fn item_id(text: &str) -> Result<ItemId, String> {
    text.parse().map_err(|_| {
        "expected 40 hexadecimal digits, the target that a put printed; \
         for a public key use --public-key"
            .to_owned()
    })
}

/// Reads a node id.
pub(crate) fn node_id(text: &str) -> Result<NodeId, String> {
    text.parse().map_err(|_| "expected 40 hexadecimal digits".to_owned())
}

/// Reads an ed25519 public key.
pub(crate) fn public_key(text: &str) -> Result<[u8; 32], String> {
    hex(text).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        "expected 64 hexadecimal digits, the public key that dht keygen printed".to_owned()
    })
}

/// Bytes given as hex. A type of its own, because clap reads a `Vec` as a repeated option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HexBytes(pub(crate) Vec<u8>);

/// Reads a PKARR key, also as a part of a host name or URL.
pub(crate) fn pkarr_key(text: &str) -> Result<PublicKey, String> {
    text.trim().parse().map_err(|error| {
        let hint = match error {
            KeyError::Length => {
                "expected a key of 52 characters, or a name or URL that ends in one"
            }
            KeyError::Character => {
                "z-base-32 has ybndrfg8ejkmcpqxot1uwisza345h769, lower case only"
            }
            KeyError::NotCanonical => "a key ends in y or o; has it been cut or mistyped?",
            KeyError::NotAPoint | KeyError::Secret | _ => "has it been mistyped?",
        };
        format!("{error}; {hint}")
    })
}

/// Reads a name whose top-level domain is a PKARR key.
pub(crate) fn pkarr_name(text: &str) -> Result<PkarrName, String> {
    let text = text.trim();
    let key = pkarr_key(text)?;
    let host = dht_pkarr::host(text);
    let below = (host != key.to_string()).then(|| host.to_owned());
    if let Some(name) = &below {
        dht_pkarr::Name::within(&key, name).map_err(|error| error.to_string())?;
    }
    Ok(PkarrName { key, below })
}

/// Reads the time of a packet, in microseconds since 1970.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let micros = text.parse().ok().and_then(Timestamp::from_micros);
    micros.ok_or_else(|| "expected microseconds since 1970, at most 9223372036854775807".to_owned())
}

/// Reads hex of any length.
pub(crate) fn hex_bytes(text: &str) -> Result<HexBytes, String> {
    hex(text)
        .map(HexBytes)
        .ok_or_else(|| "expected an even number of hexadecimal digits".to_owned())
}

/// Reads `ADDR:PORT`, where port 0 means any.
pub(crate) fn bind_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected ADDR:PORT, for example 0.0.0.0:6881 or [::]:6881 (port 0 picks a free one)"
            .to_owned()
    })
}

/// Checks `HOST:PORT`; the name is resolved later.
pub(crate) fn host_port(text: &str) -> Result<String, String> {
    let bad = || {
        "expected HOST:PORT with a port from 1 to 65535, for example router.example.org:6881 \
         or [2001:db8::1]:6881"
            .to_owned()
    };
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return if addr.port() == 0 { Err(bad()) } else { Ok(text.to_owned()) };
    }
    let (name, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let plausible = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let port_is_good = port.parse::<u16>().is_ok_and(|port| port != 0);
    // Digits and dots alone are an address with a mistake in it, and no name to resolve.
    let numeric = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    if name.is_empty() || numeric || name.len() > 253 || !port_is_good {
        return Err(bad());
    }
    if name.chars().all(plausible) { Ok(text.to_owned()) } else { Err(bad()) }
}

/// Reads a number of seconds, decimals allowed.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|secs: &f64| *secs > 0.0 && *secs <= MAX_TIMEOUT_SECS)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds, above 0 and at most 86400".to_owned())
}

/// Reads hex digits of either case; `None` if anything else is there.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let &[high, low] = pair else { return None };
            let high = char::from(high).to_digit(16)?;
            let low = char::from(low).to_digit(16)?;
            Some((high * 16 + low) as u8)
        })
        .collect()
}

/// Writes bytes as lower-case hex.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn plain_hash(text: &str) -> Option<InfoHash> {
    match text.len() {
        40 | 64 => InfoHash::from_slice(hex(text)?.get(..ID_LEN)?),
        32 => InfoHash::from_slice(&base32(text)?),
        _ => None,
    }
}

/// Reads the exact topics of a magnet link (BEP 9, BEP 52). A hybrid torrent has two; its peers
/// announce themselves under the first version's, so that one is taken.
fn magnet(text: &str) -> Result<InfoHash, String> {
    let query = text.split_once('?').map_or("", |(_, query)| query);
    let mut v2 = None;
    for (key, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        // `xt.1=` numbers several topics.
        if key != "xt" && !key.starts_with("xt.") {
            continue;
        }
        let topic = percent_decode(value);
        if let Some(hash) = after_prefix(&topic, "urn:btih:") {
            let right_length = hash.len() == 40 || hash.len() == 32;
            return plain_hash(hash).filter(|_| right_length).ok_or_else(|| {
                "the magnet link's urn:btih: is not 40 hexadecimal digits or 32 base32 characters"
                    .to_owned()
            });
        }
        if let Some(hash) = after_prefix(&topic, "urn:btmh:") {
            // Multihash: 12 is SHA-256, 20 its length of 32 bytes.
            let digest = hash.strip_prefix("1220").filter(|digest| digest.len() == 64);
            v2 = Some(digest.and_then(plain_hash).ok_or_else(|| {
                "the magnet link's urn:btmh: is not 1220 and 64 hexadecimal digits".to_owned()
            })?);
        }
    }
    v2.ok_or_else(|| {
        "the magnet link has no xt=urn:btih: or xt=urn:btmh:; quote it, or the shell cuts it at &"
            .to_owned()
    })
}

fn after_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    starts_with_ignoring_case(text, prefix).then(|| text.get(prefix.len()..)).flatten()
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Undoes percent-encoding; what is not well encoded stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| core::str::from_utf8(digits).ok()).and_then(hex);
        let (byte, left) = match code.as_deref() {
            Some(&[byte]) if first == b'%' => (byte, tail.get(2..).unwrap_or_default()),
            Some(_) | None => (first, tail),
        };
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base32 of exactly 20 bytes, in either case.
fn base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ID_LEN);
    let (mut bits, mut count) = (0_u16, 0);
    for c in text.bytes() {
        let value = BASE32.iter().position(|digit| *digit == c.to_ascii_uppercase())?;
        bits = (bits << 5) | value as u16;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "9a0364b9e99bb480dd25e1f0284c8555d2a2ab03";
    /// The same hash in base32.
    const B32: &str = "TIBWJOPJTO2IBXJF4HYCQTEFKXJKFKYD";
    const V2: &str = "caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";

    #[test]
    fn infohashes_come_as_hex_base32_v2_and_magnet() {
        let hash: InfoHash = HEX.parse().unwrap();
        let v2: InfoHash = V2[..40].parse().unwrap();
        for (text, expected) in [
            (HEX.to_owned(), hash),
            (HEX.to_uppercase(), hash),
            (B32.to_owned(), hash),
            (B32.to_lowercase(), hash),
            (V2.to_owned(), v2),
            (format!("magnet:?xt=urn:btih:{HEX}&dn=x&tr=udp%3A%2F%2Ft"), hash),
            (format!("magnet:?dn=x&xt=urn:btih:{B32}"), hash),
            (format!("MAGNET:?xt=URN:BTIH:{HEX}"), hash),
            (format!("magnet:?xt=urn%3Abtih%3A{HEX}"), hash),
            (format!("magnet:?xt=urn:btmh:1220{V2}"), v2),
            (format!("magnet:?xt=urn:btmh:1220{V2}&xt=urn:btih:{HEX}"), hash),
            (format!("magnet:?xt.1=urn:sha1:abc&xt.2=urn:btih:{HEX}"), hash),
        ] {
            assert_eq!(info_hash(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_infohash() {
        let short = format!("magnet:?xt=urn:btmh:1220{}", &V2[1..]);
        let v2_as_v1 = format!("magnet:?xt=urn:btih:{V2}");
        for text in [
            "",
            "x",
            &HEX[1..],
            "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "zz0364b9e99bb480dd25e1f0284c8555d2a2ab03",
            "magnet:",
            "magnet:?dn=x",
            "magnet:?xt=urn:btih:12",
            "magnet:?xt=urn:btmh:12",
            "éééééééééééééééé",
            "éééééééééééééééééééé",
            &short,
            &v2_as_v1,
        ] {
            assert!(info_hash(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_have_a_name_or_address_and_a_port() {
        for good in ["1.2.3.4:5", "[::1]:6881", "router.example.org:6881", "localhost:1"] {
            assert_eq!(host_port(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "host", "host:", "host:0", "1.2.3.4:0", "1.2.3:1", "1.2.3.999:1", "a b:1", "::1"]
        {
            assert!(host_port(bad).unwrap_err().contains("HOST:PORT"), "{bad}");
        }
    }

    #[test]
    fn hex_round_trips() {
        assert_eq!(hex("00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(to_hex(&[0, 255, 160]), "00ffa0");
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn timeouts_are_positive_and_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
