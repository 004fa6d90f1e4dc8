//! Texts in URLs.

use std::collections::BTreeMap;

/// Parameters of a query that are looked at.
const MAX_PARAMETERS: usize = 16;

/// `%2e` and the like as bytes; what is no UTF-8 then is replaced. A `%` without two digits stays.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let digits = behind
            .first_chunk::<2>()
            .and_then(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        match digits {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// The parameters of a query, as forms send them. The first of each name counts.
pub(super) fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').take(MAX_PARAMETERS) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decode(&text.replace('+', " "));
        parameters.entry(plain(name)).or_insert_with(|| plain(value));
    }
    parameters
}

/// The bytes of base64url without padding (RFC 4648, 5), as RFC 8484 has queries; `None` if that is
/// not what it is.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_decoded() {
        for (text, plain) in [
            ("pk%3Aabc", "pk:abc"),
            ("a%", "a%"),
            ("a%2", "a%2"),
            ("a%zz", "a%zz"),
            ("%c3%a9", "é"),
            ("%ff", "\u{fffd}"),
            ("+", "+"),
        ] {
            assert_eq!(decode(text), plain, "{text}");
        }
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let found = parameters("a=1&a=2&b+c=d%26e&f");
        let expected = [("a", "1"), ("b c", "d&e"), ("f", "")];
        assert!(found.iter().map(|(name, value)| (&**name, &**value)).eq(expected));
        assert_eq!(parameters(&"x=1&".repeat(99)).len(), 1);
        let many: Vec<_> = (0..99).map(|number| format!("p{number}=")).collect();
        assert_eq!(parameters(&many.join("&")).len(), MAX_PARAMETERS);
    }

    #[test]
    fn base64url_is_read_strictly() {
        // RFC 4648, 10, without padding.
        for (text, plain) in
            [("", ""), ("Zg", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64url(text).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(base64url("-_8").as_deref(), Some(&[0xfb, 0xff][..]));
        for bad in ["Z", "Zg==", "Zh", "Zm9v+", "Zm9v/A", "Z g", "é"] {
            assert_eq!(base64url(bad), None, "{bad}");
        }
    }
}
