//! Bencode on the datagram path: a cursor that reads borrowed slices and a writer into a slice.
//!
//! Neither allocates nor recurses, and both look at every byte a constant number of times. Syntax
//! is strict: what is no bencode for a strict reader (leading zeros, `-0`, `+1`, a key that is no
//! string) is an error, also inside values that are skipped. mldht refuses the same, and nobody is
//! known to send it. Only the order of keys is tolerated: real nodes send unsorted dictionaries, so
//! the reader just remembers having seen one.

mod form;
mod writer;

pub(super) use self::form::{Form, hole};
pub(super) use self::writer::{Count, Sink, Slice, Writer};

/// Lists and dictionaries of a message may nest this deep, the message itself included.
pub(super) const MAX_DEPTH: usize = 16;

/// Why bytes are not bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyntaxError {
    /// The bytes end inside a value.
    Truncated,
    /// An integer that is empty, signed wrongly, or has leading zeros.
    BadInteger,
    /// A string length with leading zeros, or without its colon.
    BadLength,
    /// A byte that starts no value, or a key that is no string.
    UnexpectedByte,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// A cursor over bencode.
///
/// Methods that name a type (`bytes`, `int`, ...) always move past one whole value and return
/// `None` if it is of another type, so that an ill-typed value costs the caller just that value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Lists and dictionaries that are open.
    depth: usize,
    unsorted: bool,
}

/// The last key of a dictionary, to tell whether the next one follows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order<'a>(Option<&'a [u8]>);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0, unsorted: false }
    }

    /// Enters a dictionary.
    #[inline]
    pub(super) fn dict(&mut self) -> Result<bool, SyntaxError> {
        self.enter(b'd')
    }

    /// Enters a list.
    pub(super) fn list(&mut self) -> Result<bool, SyntaxError> {
        self.enter(b'l')
    }

    /// The next key of the dictionary entered last; `None`, and the dictionary is left, at its end.
    #[inline]
    pub(super) fn key(&mut self, order: &mut Order<'a>) -> Result<Option<&'a [u8]>, SyntaxError> {
        if let Some(key) = self.take_string() {
            self.unsorted |= !order.accepts(key);
            return Ok(Some(key));
        }
        if self.end()? { Ok(None) } else { Err(self.string_error()) }
    }

    /// Whether the list entered last ends here; then it is left.
    #[inline]
    pub(super) fn end(&mut self) -> Result<bool, SyntaxError> {
        match self.rest {
            [b'e', rest @ ..] => {
                self.rest = rest;
                self.depth -= 1;
                Ok(true)
            }
            [_, ..] => Ok(false),
            [] => Err(SyntaxError::Truncated),
        }
    }

    /// Reads a byte string.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<Option<&'a [u8]>, SyntaxError> {
        match self.take_string() {
            Some(string) => Ok(Some(string)),
            None => self.skip().map(|()| None),
        }
    }

    /// Reads a byte string of exactly `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<Option<&'a [u8; N]>, SyntaxError> {
        Ok(self.bytes()?.and_then(|bytes| bytes.try_into().ok()))
    }

    /// Reads an integer. One beyond `i64` counts as another type.
    pub(super) fn int(&mut self) -> Result<Option<i64>, SyntaxError> {
        if let [b'i', rest @ ..] = self.rest {
            self.rest = rest;
            return self.integer();
        }
        self.skip()?;
        Ok(None)
    }

    /// Reads any value and returns the bytes it is made of.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], SyntaxError> {
        let start = *self;
        self.skip()?;
        Ok(self.since(start))
    }

    /// The bytes read since the reader was `earlier`.
    pub(super) fn since(&self, earlier: Self) -> &'a [u8] {
        let read = earlier.rest.len() - self.rest.len();
        earlier.rest.get(..read).unwrap_or_default()
    }

    /// Moves past one value, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), SyntaxError> {
        match self.rest {
            [b'd' | b'l', ..] => self.skip_container(),
            _ => self.skip_scalar(),
        }
    }

    /// Moves past `text` if it is next.
    #[inline]
    pub(super) fn literal<const N: usize>(&mut self, text: &[u8; N]) -> bool {
        match self.rest.split_first_chunk() {
            Some((first, rest)) if first == text => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Moves past the next bytes if they are of a form.
    #[inline]
    pub(super) fn form<const N: usize>(&mut self, form: &Form<N>) -> Option<&'a [u8; N]> {
        let (text, rest) = self.rest.split_first_chunk()?;
        form.fits(text).then(|| {
            self.rest = rest;
            text
        })
    }

    /// The next `N` bytes, the inside of a string of known length.
    #[inline]
    pub(super) fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(chunk)
    }

    /// Whether the next value is a list.
    pub(super) const fn is_list(&self) -> bool {
        matches!(self.rest, [b'l', ..])
    }

    /// Whether any dictionary up to here had keys out of order or doubled.
    pub(super) const fn unsorted(&self) -> bool {
        self.unsorted
    }

    /// Whether no byte is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn enter(&mut self, kind: u8) -> Result<bool, SyntaxError> {
        match self.rest {
            [first, rest @ ..] if *first == kind => {
                if self.depth >= MAX_DEPTH {
                    return Err(SyntaxError::TooDeep);
                }
                self.rest = rest;
                self.depth += 1;
                Ok(true)
            }
            _ => self.skip().map(|()| false),
        }
    }

    fn skip_scalar(&mut self) -> Result<(), SyntaxError> {
        match self.rest {
            [b'0'..=b'9', ..] => self.take_string().map(drop).ok_or_else(|| self.string_error()),
            [b'i', rest @ ..] => {
                self.rest = rest;
                self.integer().map(drop)
            }
            [_, ..] => Err(SyntaxError::UnexpectedByte),
            [] => Err(SyntaxError::Truncated),
        }
    }

    /// Moves past a list or dictionary without recursion: the open ones are kept on a small stack.
    #[cold]
    fn skip_container(&mut self) -> Result<(), SyntaxError> {
        /// The order of keys in an open dictionary; `None` for a list.
        type Frame<'a> = Option<Order<'a>>;
        let mut frames: [Frame<'a>; MAX_DEPTH] = [None; MAX_DEPTH];
        let outside = self.depth;
        loop {
            // A value is due.
            let kind = self.rest.first().copied();
            if let Some(kind @ (b'd' | b'l')) = kind {
                let frame = frames.get_mut(self.depth).ok_or(SyntaxError::TooDeep)?;
                *frame = (kind == b'd').then(Order::default);
                self.enter(kind)?;
            } else {
                self.skip_scalar()?;
            }
            // What ends after it is left; then a dictionary reads the key of the next value.
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let Some(frame) = frames.get_mut(self.depth - 1) else {
                    unreachable!("the depth never exceeds MAX_DEPTH");
                };
                let ended = match frame {
                    Some(order) => self.key(order)?.is_none(),
                    None => self.end()?,
                };
                if !ended {
                    break;
                }
            }
        }
    }

    /// Reads a byte string, and leaves the cursor where it is if there is none.
    ///
    /// Half of all work is done here. An `Option` of a slice comes back in registers, a `Result`
    /// does not: hence the cause of a failure is found out apart.
    pub(super) fn take_string(&mut self) -> Option<&'a [u8]> {
        // Nearly all lengths of a message have one or two digits, and that of eight nodes has three.
        let (len, rest) = match self.rest {
            [a, b':', rest @ ..] => (digit(*a)?, rest),
            [a @ b'1'..=b'9', b, b':', rest @ ..] => {
                (usize::from(a - b'0') * 10 + digit(*b)?, rest)
            }
            [a @ b'1'..=b'9', b, c, b':', rest @ ..] => {
                ((usize::from(a - b'0') * 10 + digit(*b)?) * 10 + digit(*c)?, rest)
            }
            [b'1'..=b'9', ..] => long_length(self.rest)?,
            _ => return None,
        };
        let (string, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(string)
    }

    /// Why there is no string here.
    #[cold]
    fn string_error(&self) -> SyntaxError {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (self.rest, self.rest.get(digits)) {
            ([b'0', b'0'..=b'9', ..], _) => SyntaxError::BadLength,
            (_, Some(b':')) if digits > 0 => SyntaxError::Truncated,
            (_, Some(_)) if digits > 0 => SyntaxError::BadLength,
            (_, Some(_)) => SyntaxError::UnexpectedByte,
            (_, None) => SyntaxError::Truncated,
        }
    }

    /// What follows the `i` of an integer. `None` if it does not fit `i64`.
    fn integer(&mut self) -> Result<Option<i64>, SyntaxError> {
        let (negative, mut rest) = match self.rest {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        match rest {
            // "-0" and leading zeros are a second spelling of another number.
            [b'0', b'e', ..] if !negative => {}
            [b'1'..=b'9', ..] => {}
            [b'0'] | [] => return Err(SyntaxError::Truncated),
            [_, ..] => return Err(SyntaxError::BadInteger),
        }
        // Counted downwards, because i64::MIN has no positive twin.
        let mut value = Some(0_i64);
        while let [digit @ b'0'..=b'9', after @ ..] = rest {
            let digit = i64::from(digit - b'0');
            value = value.and_then(|value| value.checked_mul(10)?.checked_sub(digit));
            rest = after;
        }
        match rest {
            [b'e', rest @ ..] => {
                self.rest = rest;
                Ok(value.and_then(|value| if negative { Some(value) } else { value.checked_neg() }))
            }
            [_, ..] => Err(SyntaxError::BadInteger),
            [] => Err(SyntaxError::Truncated),
        }
    }
}

/// A string length of three digits or more, and what follows its colon.
fn long_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = bytes;
    let mut len = 0;
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        if *byte == b':' {
            return Some((len, rest));
        }
        // A length never exceeds the bytes left; checked for each digit, it cannot overflow.
        if len > rest.len() {
            return None;
        }
        len = len * 10 + digit(*byte)?;
    }
}

/// The value of a decimal digit.
const fn digit(byte: u8) -> Option<usize> {
    let value = byte.wrapping_sub(b'0');
    if value < 10 { Some(value as usize) } else { None }
}

impl<'a> Order<'a> {
    /// Whether `key` is greater than all keys before it.
    fn accepts(&mut self, key: &'a [u8]) -> bool {
        let Some(last) = self.0.replace(key) else { return true };
        // The first bytes mostly differ, and then a whole comparison is not worth its call.
        match (last, key) {
            ([a, ..], [b, ..]) if a != b => a < b,
            _ => last < key,
        }
    }
}

#[cfg(test)]
mod tests;
