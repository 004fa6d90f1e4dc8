//! Writing bencode into a slice, or just counting its bytes.

/// Where a [`Writer`] puts bytes.
pub(crate) trait Sink {
    /// Appends bytes; `None` if they do not fit.
    fn put(&mut self, bytes: &[u8]) -> Option<()>;
}

/// A slice that fills up from its start.
#[derive(Debug)]
pub(crate) struct Slice<'b> {
    out: &'b mut [u8],
    len: usize,
}

impl<'b> Slice<'b> {
    pub(crate) const fn new(out: &'b mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl Sink for Slice<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}

/// Counts bytes and keeps none.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.checked_add(bytes.len())?;
        Some(())
    }
}

/// Writes bencode values one after the other. The caller owns their order and nesting.
#[derive(Debug)]
pub(crate) struct Writer<S>(pub(crate) S);

impl<S: Sink> Writer<S> {
    /// Bytes that are bencode already.
    #[inline]
    pub(crate) fn raw(&mut self, bencode: &[u8]) -> Option<()> {
        self.0.put(bencode)
    }

    /// A byte string.
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        // Transaction ids and versions are in every message, and nearly all are of four bytes.
        if let &[a, b, c, d] = bytes {
            return self.0.put(&[b'4', b':', a, b, c, d]);
        }
        self.decimal(bytes.len() as u64, b':')?;
        self.0.put(bytes)
    }

    /// An integer.
    pub(crate) fn int(&mut self, value: i64) -> Option<()> {
        self.0.put(if value < 0 { b"i-" } else { b"i" })?;
        self.decimal(value.unsigned_abs(), b'e')
    }

    /// A decimal number and the byte that ends it. Nearly all are lengths of at most three digits.
    #[inline]
    fn decimal(&mut self, value: u64, end: u8) -> Option<()> {
        let digit = |value: u64| b'0' + (value % 10) as u8;
        match value {
            0..=9 => self.0.put(&[digit(value), end]),
            10..=99 => self.0.put(&[digit(value / 10), digit(value), end]),
            100..=999 => self.0.put(&[digit(value / 100), digit(value / 10), digit(value), end]),
            _ => self.long_decimal(value, end),
        }
    }

    #[cold]
    fn long_decimal(&mut self, mut value: u64, end: u8) -> Option<()> {
        // The greatest u64 has 20 digits.
        let mut text = [end; 21];
        let mut start = text.len() - 1;
        for (at, byte) in text.iter_mut().enumerate().rev().skip(1) {
            *byte = b'0' + (value % 10) as u8;
            start = at;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.0.put(text.get(start..).unwrap_or_default())
    }
}
