//! Texts of which most bytes are known.

/// A text in which dots stand for any byte.
#[derive(Debug)]
pub(in super::super) struct Form<const N: usize> {
    text: [u8; N],
    /// All ones where the text counts, zero where any byte may stand.
    fixed: [u8; N],
}

impl<const N: usize> Form<N> {
    pub(in super::super) const fn new(text: &[u8; N]) -> Self {
        let mut fixed = [0; N];
        let (mut left, mut rest): (&mut [u8], &[u8]) = (&mut fixed, text);
        while let ([mask, masks @ ..], [byte, bytes @ ..]) = (left, rest) {
            *mask = if *byte == b'.' { 0 } else { !0 };
            (left, rest) = (masks, bytes);
        }
        Self { text: *text, fixed }
    }

    /// Whether a text is of this form, eight bytes at a time. The last eight may overlap others.
    #[inline]
    pub(super) fn fits(&self, text: &[u8; N]) -> bool {
        let differ = |((text, form), fixed): ((&[u8; 8], &[u8; 8]), &[u8; 8])| {
            (u64::from_ne_bytes(*text) ^ u64::from_ne_bytes(*form)) & u64::from_ne_bytes(*fixed)
        };
        let (texts, forms, masks) =
            (text.as_chunks().0, self.text.as_chunks().0, self.fixed.as_chunks().0);
        let last = text.last_chunk().zip(self.text.last_chunk()).zip(self.fixed.last_chunk());
        let words = texts.iter().zip(forms).zip(masks).chain(last);
        words.map(differ).fold(0, |all, word| all | word) == 0
    }
}

/// What stands in the place of `N` dots.
#[inline]
pub(in super::super) fn hole<const N: usize>(text: &[u8], at: usize) -> &[u8; N] {
    let hole = text.get(at..).and_then(<[u8]>::first_chunk);
    hole.unwrap_or(&[0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_dots_counts() {
        const FORM: Form<11> = Form::new(b"ab..cdefg.h");
        let text = *b"ab..cdefg.h";
        assert!(FORM.fits(&text) && FORM.fits(b"ab\xff\0cdefgdh"));
        for at in 0..text.len() {
            let mut changed = text;
            changed[at] ^= 0x80;
            assert_eq!(FORM.fits(&changed), text[at] == b'.', "{at}");
        }
        assert_eq!(hole(b"ab12cdefgXh", 2), b"12");
    }
}
