//! z-base-32 of exactly 32 bytes: 52 characters, and only the one canonical text for each key.

use crate::key::KeyError;

/// Characters of a key.
pub(crate) const LEN: usize = 52;

/// The alphabet; a character's place is its value.
const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// The text of 32 bytes: a big-endian stream of bits, five a character, filled up with four zeros.
pub(crate) fn encode(bytes: &[u8; 32]) -> [u8; LEN] {
    let mut text = [0; LEN];
    let (mut bits, mut held) = (0_u32, 0);
    let mut input = bytes.iter();
    for place in &mut text {
        if held < 5 {
            bits = bits << 8 | u32::from(input.next().copied().unwrap_or(0));
            held += 8;
        }
        held -= 5;
        let value = bits >> held & 31;
        bits &= (1 << held) - 1;
        *place = ALPHABET.get(value as usize).copied().unwrap_or_default();
    }
    text
}

/// The bytes of a text.
///
/// The last character carries one bit of the key and four that must be zero. Decoders that do not
/// look at them take sixteen texts for one key; as names and as keys of caches these must not exist.
pub(crate) fn decode(text: &[u8]) -> Result<[u8; 32], KeyError> {
    if text.len() != LEN {
        return Err(KeyError::Length);
    }
    let mut bytes = [0; 32];
    let mut output = bytes.iter_mut();
    let (mut bits, mut held) = (0_u32, 0);
    for character in text {
        let value = ALPHABET.iter().position(|known| known == character);
        bits = bits << 5 | value.ok_or(KeyError::Character)? as u32;
        held += 5;
        if held >= 8 {
            held -= 8;
            // 52 characters hold 32 bytes and four bits, so the 33rd byte never completes.
            if let Some(byte) = output.next() {
                *byte = (bits >> held) as u8;
            }
            bits &= (1 << held) - 1;
        }
    }
    if bits == 0 { Ok(bytes) } else { Err(KeyError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_the_reference() {
        for (text, bytes) in [
            (
                "yg4gxe7z1r7mr6orids9fh95y7gxhdsxjqi6nngsxxtakqaxr5no",
                "01b467a3b7913ab27a04a8edf2f3fb074cfe0ecf4babe108d67be3853b0f26c5",
            ),
            (
                "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy",
                "8686ab142e51f7035c61dc2d7ad3c1416a60cdeb9bd537b8face9c7fcd3bf4c0",
            ),
            (
                "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo",
                "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
            ),
        ] {
            let bytes: [u8; 32] =
                core::array::from_fn(|i| u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).unwrap());
            assert_eq!(encode(&bytes), text.as_bytes());
            assert_eq!(decode(text.as_bytes()), Ok(bytes));
        }
    }

    #[test]
    fn only_one_of_sixteen_last_characters_is_canonical() {
        let canonical = encode(&[0xff; 32]);
        let mut text = canonical;
        let good = ALPHABET.iter().filter(|last| {
            text[LEN - 1] = **last;
            decode(&text).is_ok()
        });
        assert_eq!(good.copied().collect::<alloc::vec::Vec<_>>(), b"yo");
        assert_eq!(canonical[LEN - 1], b'o');
    }

    #[test]
    fn other_texts_are_refused() {
        let good = encode(&[7; 32]);
        assert_eq!(decode(&good[1..]), Err(KeyError::Length));
        assert_eq!(decode(b""), Err(KeyError::Length));
        assert_eq!(decode(&good.to_ascii_uppercase()), Err(KeyError::Character));
        for foreign in b"l02v-. " {
            let mut text = good;
            text[9] = *foreign;
            assert_eq!(decode(&text), Err(KeyError::Character));
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn every_text_that_decodes_is_the_one_that_is_encoded(
            places in prop::collection::vec(0..32_usize, LEN),
        ) {
            let text: alloc::vec::Vec<_> = places.iter().map(|place| ALPHABET[*place]).collect();
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(&encode(&bytes)[..], &text[..]);
            }
        }
    }
}
