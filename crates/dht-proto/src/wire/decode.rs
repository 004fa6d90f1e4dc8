//! From datagram to [`Message`].

mod args;
mod canonical;
mod reply;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::args::Args;
use self::reply::ReplyFields;
use super::bencode::{Order, Reader, SyntaxError};
use super::{Body, ErrorReply, Message, Query, Reply, code};

pub(crate) use self::canonical::peek;

/// The longest datagram that is read at all, in bytes.
///
/// Replies of several kilobytes are real (bittorrent-dht sends its whole table); more is an attack.
pub const MAX_DATAGRAM_READ: usize = 8_192;

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError<'a> {
    /// Longer than [`MAX_DATAGRAM_READ`].
    TooLong,
    /// Does not start with a dictionary.
    NotADictionary,
    /// Ends inside a value.
    Truncated,
    /// An integer that is empty, signed wrongly, or has leading zeros.
    BadInteger,
    /// A string length with leading zeros, or without its colon.
    BadLength,
    /// A byte that starts no value, or a key that is no string.
    UnexpectedByte,
    /// Nested deeper than 16 lists and dictionaries.
    TooDeep,
    /// `t` is missing or no string: whatever we answered could not be matched.
    NoTransactionId,
    /// `y` is missing or none of `q`, `r` and `e`.
    NoKind,
    /// A reply without the dictionary `r`.
    NoReplyBody,
    /// A reply whose `id` is missing or not 20 bytes.
    NoReplyId,
    /// A query that cannot be served, to be answered with an error.
    BadQuery {
        /// The transaction id to answer with.
        tid: &'a [u8],
        /// The error code, see [`code`].
        code: i64,
        /// What is wrong, for the error's text.
        text: &'static str,
    },
}

impl fmt::Display for DecodeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::TooLong => "the datagram is too long",
            Self::NotADictionary => "the datagram is not a dictionary",
            Self::Truncated => "the datagram ends inside a value",
            Self::BadInteger => "an integer is malformed",
            Self::BadLength => "a string length is malformed",
            Self::UnexpectedByte => "a byte starts no value, or a key is no string",
            Self::TooDeep => "lists and dictionaries nest too deep",
            Self::NoTransactionId => "the transaction id t is missing",
            Self::NoKind => "the message kind y is missing or unknown",
            Self::NoReplyBody => "the reply has no dictionary r",
            Self::NoReplyId => "the reply has no id of 20 bytes",
            Self::BadQuery { text, .. } => text,
        })
    }
}

impl core::error::Error for DecodeError<'_> {}

impl From<SyntaxError> for DecodeError<'_> {
    fn from(error: SyntaxError) -> Self {
        match error {
            SyntaxError::Truncated => Self::Truncated,
            SyntaxError::BadInteger => Self::BadInteger,
            SyntaxError::BadLength => Self::BadLength,
            SyntaxError::UnexpectedByte => Self::UnexpectedByte,
            SyntaxError::TooDeep => Self::TooDeep,
        }
    }
}

/// Decodes a datagram.
///
/// Nothing is allocated, and the time is linear in the length. Bytes after the message are ignored,
/// as mldht, jech/dht and anacrolix/dht do: a dictionary itself says where it ends.
///
/// # Errors
/// [`DecodeError::BadQuery`] if an error should be sent back; all others are to be dropped.
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, DecodeError<'_>> {
    if datagram.len() > MAX_DATAGRAM_READ {
        return Err(DecodeError::TooLong);
    }
    if datagram.first() != Some(&b'd') {
        return Err(DecodeError::NotADictionary);
    }
    if datagram.first_chunk() == Some(b"d1:a")
        && let Some(message) = canonical::query(datagram)
    {
        return Ok(message);
    }
    canonical::reply_or(datagram, by_key)
}

/// Reads a message of any form, key by key.
fn by_key(datagram: &[u8]) -> Result<Message<'_>, DecodeError<'_>> {
    let mut reader = Reader::new(datagram);
    let mut top = Top::default();
    top.read(&mut reader)?;

    let tid = top.tid.get().ok_or(DecodeError::NoTransactionId)?;
    let mut read_only = top.read_only.get() == Some(1);
    // The kind alone decides: a reply may carry `q`, `a` or `e` as well.
    let body = match top.kind.get() {
        Some(b"q") => {
            // BEP 43 puts `ro` at the top level; some nodes put it among the arguments.
            read_only |= top.args.as_ref().is_some_and(Args::read_only);
            let query = top.query();
            Body::Query(query.map_err(|text| DecodeError::BadQuery {
                tid,
                code: code::PROTOCOL,
                text,
            })?)
        }
        Some(b"r") => Body::Reply(top.reply()?),
        // An error is one even without a readable `e`: the query that it answers has failed.
        Some(b"e") => Body::Error(top.error.get().unwrap_or(MALFORMED_ERROR)),
        Some(_) | None => return Err(DecodeError::NoKind),
    };
    let ip = top.ip.get().and_then(address);
    let unsorted = reader.unsorted();
    Ok(Message { tid, version: top.version.get(), ip, read_only, unsorted, body })
}

const MALFORMED_ERROR: ErrorReply<'static> = ErrorReply { code: 0, message: b"" };

/// The value of a known key. Of two equal keys the first counts, even if its type is wrong.
#[derive(Clone, Copy, Debug, Default)]
enum Field<T> {
    /// There was no such key.
    #[default]
    Absent,
    /// The first value had another type or length.
    Invalid,
    /// The first value.
    Is(T),
}

impl<T> Field<T> {
    fn fill(&mut self, value: Option<T>) {
        if let Self::Absent = self {
            *self = value.map_or(Self::Invalid, Self::Is);
        }
    }

    const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    const fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid)
    }

    const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}

impl<T: Default> Field<T> {
    /// Makes room for a value that is read in place, because it is too large to be moved about.
    fn begin(&mut self) -> &mut T {
        *self = Self::Is(T::default());
        let Self::Is(value) = self else { unreachable!("it was just set") };
        value
    }
}

impl<T: Copy> Field<T> {
    fn get(&self) -> Option<T> {
        self.as_ref().copied()
    }
}

/// The top-level dictionary.
#[derive(Debug, Default)]
struct Top<'a> {
    args: Field<Args<'a>>,
    error: Field<ErrorReply<'a>>,
    ip: Field<&'a [u8]>,
    method: Field<&'a [u8]>,
    reply: Field<ReplyFields<'a>>,
    read_only: Field<i64>,
    tid: Field<&'a [u8]>,
    version: Field<&'a [u8]>,
    kind: Field<&'a [u8]>,
}

impl<'a> Top<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), SyntaxError> {
        reader.dict()?;
        let mut order = Order::default();
        while let Some(key) = reader.key(&mut order)? {
            match key {
                b"a" if self.args.is_absent() => {
                    if reader.dict()? {
                        self.args.begin().read(reader)?;
                    } else {
                        self.args = Field::Invalid;
                    }
                }
                b"e" => self.error.fill(read_error(reader)?),
                b"ip" => self.ip.fill(reader.bytes()?),
                b"q" => self.method.fill(reader.bytes()?),
                b"r" if self.reply.is_absent() => {
                    if reader.dict()? {
                        self.reply.begin().read(reader)?;
                    } else {
                        self.reply = Field::Invalid;
                    }
                }
                b"ro" => self.read_only.fill(reader.int()?),
                b"t" => self.tid.fill(reader.bytes()?),
                b"v" => self.version.fill(reader.bytes()?),
                b"y" => self.kind.fill(reader.bytes()?),
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    fn query(&self) -> Result<Query<'a>, &'static str> {
        let name = self.method.get().ok_or("missing method q")?;
        self.args.as_ref().ok_or("missing arguments a")?.query(name)
    }

    fn reply(&self) -> Result<Reply<'a>, DecodeError<'a>> {
        let fields = self.reply.as_ref().ok_or(DecodeError::NoReplyBody)?;
        fields.reply().ok_or(DecodeError::NoReplyId)
    }
}

/// BEP 5: "a list containing two elements". Some nodes send the bare text, some worse.
fn read_error<'a>(reader: &mut Reader<'a>) -> Result<Option<ErrorReply<'a>>, SyntaxError> {
    if !reader.is_list() {
        return Ok(reader.bytes()?.map(|message| ErrorReply { code: 0, message }));
    }
    reader.list()?;
    let mut code = Field::Absent;
    let mut message = Field::Absent;
    while !reader.end()? {
        // Whichever comes first: the order of code and text is not worth an argument.
        if code.is_absent() {
            code.fill(reader.int()?);
        } else {
            message.fill(reader.bytes()?);
        }
    }
    let (code, message) = (code.get().unwrap_or(0), message.get().unwrap_or_default());
    Ok(Some(ErrorReply { code, message }))
}

/// BEP 42 sends 4 or 16 bytes of address, and in practice two of port. Any other size is ignored.
fn address(bytes: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(ip) = <[u8; 4]>::try_from(bytes) {
        return Some((Ipv4Addr::from(ip).into(), None));
    }
    if let Ok(ip) = <[u8; 16]>::try_from(bytes) {
        return Some((Ipv6Addr::from(ip).into(), None));
    }
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip: IpAddr = match ip.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some((ip, Some(u16::from_be_bytes(*port))))
}

/// The longest start of `bytes` that is whole records of `len` bytes.
#[inline]
pub(super) fn whole_records(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(..bytes.len() / len * len).unwrap_or_default()
}

#[cfg(test)]
mod tests;
