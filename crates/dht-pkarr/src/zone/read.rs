//! Lines of words as records.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::token::{Lexer, Line};
use super::{DEFAULT_TTL, ZoneError};
use crate::key::PublicKey;
use crate::name::{Name, NameError, unescape};
use crate::record::{Rdata, Record, Svcb, Txt, kind, param};

/// What is wrong with a line, and what to do about it.
type Wrong = (String, &'static str);

const SHAPE: &str = "write NAME [TTL] [IN] TYPE DATA, for example: www 3600 A 192.0.2.1";
const TYPES: &str =
    "the types are A, AAAA, CNAME, NS, TXT, HTTPS, SVCB, and any other as TYPE123 \\# LENGTH HEX";
const PARAMS: &str = "write alpn=h2,h3 port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 \
                      mandatory=alpn no-default-alpn, or key65400=value";

/// Reads the lines of one zone.
pub(super) struct Reader {
    key: PublicKey,
    origin: Name,
    ttl: u32,
    /// The name of the line before.
    owner: Option<Name>,
    records: Vec<Record>,
}

impl Reader {
    pub(super) fn new(key: &PublicKey) -> Self {
        let origin = Name::of_key(key);
        Self { key: *key, origin, ttl: DEFAULT_TTL, owner: None, records: Vec::new() }
    }

    pub(super) fn read(mut self, text: &str) -> Result<Vec<Record>, ZoneError> {
        for line in Lexer::cut(text)? {
            self.line(&line).map_err(|(message, hint)| ZoneError {
                line: line.number,
                message,
                hint,
            })?;
        }
        Ok(self.records)
    }

    fn line(&mut self, line: &Line) -> Result<(), Wrong> {
        let mut words = Words { rest: &line.tokens };
        let first = words.peek().unwrap_or_default();
        if !line.indented && first.starts_with('$') {
            return self.directive(&mut words);
        }
        if line.indented {
            if self.owner.is_none() {
                return Err(("the line has no name, and none is before it".to_owned(), SHAPE));
            }
        } else {
            self.owner = Some(self.owner(words.next("a name", SHAPE)?)?);
        }
        let mut ttl = self.ttl;
        let (mut has_ttl, mut has_class) = (false, false);
        let kind = loop {
            let word = words.next("a type", SHAPE)?;
            if !has_ttl && word.starts_with(|c: char| c.is_ascii_digit()) {
                (ttl, has_ttl) = (seconds(word)?, true);
            } else if !has_class && word.eq_ignore_ascii_case("IN") {
                has_class = true;
            } else {
                break word;
            }
        };
        let data = self.data(kind, &mut words)?;
        words.end()?;
        let Some(name) = self.owner.clone() else { return Ok(()) };
        self.records.push(Record::new(name, ttl, data));
        Ok(())
    }

    fn directive(&mut self, words: &mut Words<'_>) -> Result<(), Wrong> {
        let name = words.next("a directive", SHAPE)?;
        match name.to_ascii_uppercase().as_str() {
            "$TTL" => self.ttl = seconds(words.next("a time", "write $TTL 3600")?)?,
            "$ORIGIN" => {
                let origin = words.next("a name", "write $ORIGIN @, or a name below the key")?;
                self.origin = self.owner(origin)?;
            }
            _ => {
                let message = format!("{name} is not understood");
                return Err((message, "only $ORIGIN and $TTL are; write the records out"));
            }
        }
        words.end()
    }

    /// The name of a record, which belongs to the key.
    fn owner(&self, text: &str) -> Result<Name, Wrong> {
        let name = self.name(text)?;
        if !name.is_at_or_below(&Name::of_key(&self.key)) {
            let message = format!("{text} is not a name below the key {}", self.key);
            return Err((
                message,
                "write @ for the key itself, and names without a dot at the end",
            ));
        }
        name.rebased(&self.key).map_err(|error| wrong_name(text, error))
    }

    /// Any name.
    fn name(&self, text: &str) -> Result<Name, Wrong> {
        if text == "@" {
            return Ok(self.origin.clone());
        }
        let name: Name = text.parse().map_err(|error| wrong_name(text, error))?;
        if is_absolute(text) || name.key().is_some() {
            return Ok(name);
        }
        name.below(&self.origin).map_err(|error| wrong_name(text, error))
    }

    fn data(&self, kind: &str, words: &mut Words<'_>) -> Result<Rdata, Wrong> {
        let upper = kind.to_ascii_uppercase();
        if let Some(number) = upper.strip_prefix("TYPE") {
            let kind = number.parse().map_err(|_| bad("a type", kind, TYPES))?;
            return Ok(Rdata::Other { kind, data: words.generic()? });
        }
        let known = kind::of_name(&upper);
        if let Some(kind) = known.filter(|_| words.peek() == Some("\\#")) {
            return Ok(Rdata::Other { kind, data: words.generic()? });
        }
        let target = "write a name; one outside of this key ends in a dot";
        Ok(match known {
            Some(kind::A) => {
                Rdata::A(words.parse::<Ipv4Addr>("an IPv4 address", "write, say, 192.0.2.1")?)
            }
            Some(kind::AAAA) => {
                Rdata::Aaaa(words.parse::<Ipv6Addr>("an IPv6 address", "write, say, 2001:db8::1")?)
            }
            Some(kind::CNAME) => Rdata::Cname(self.name(words.next("a name", target)?)?),
            Some(kind::NS) => Rdata::Ns(self.name(words.next("a name", target)?)?),
            Some(kind::TXT) => Rdata::Txt(words.strings()?),
            Some(kind::HTTPS) => Rdata::Https(self.svcb(words)?),
            Some(kind::SVCB) => Rdata::Svcb(self.svcb(words)?),
            _ => return Err(bad("a type", kind, TYPES)),
        })
    }

    fn svcb(&self, words: &mut Words<'_>) -> Result<Svcb, Wrong> {
        let shape = "write PRIORITY TARGET PARAMETERS, for example: 1 . alpn=h2 port=8443";
        let priority = words.parse("a priority from 0 to 65535", shape)?;
        let mut svcb = Svcb::new(priority, self.name(words.next("a target", shape)?)?);
        while let Some(word) = words.take() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let key = param::of_name(name).ok_or_else(|| bad("a parameter", name, PARAMS))?;
            let value = parameter(key, name, value)?;
            if svcb.params.insert(key, value).is_some() {
                return Err((format!("{name} stands there twice"), "keep one"));
            }
        }
        if priority == 0 && !svcb.params.is_empty() {
            let message = "a record of priority 0 is an alias and has no parameters".to_owned();
            return Err((message, "give it another priority, or leave the parameters out"));
        }
        Ok(svcb)
    }
}

/// A parameter as on the wire (RFC 9460, 2.1 and appendix A).
fn parameter(key: u16, name: &str, value: &str) -> Result<Vec<u8>, Wrong> {
    let items = || value.split(',');
    let of = |text: &str| bad(name, text, PARAMS);
    match key {
        // As on the wire, whatever the key is.
        _ if name.starts_with("key") => bytes(value).ok_or_else(|| of(value)),
        param::PORT => Ok(value.parse::<u16>().map_err(|_| of(value))?.to_be_bytes().to_vec()),
        param::NO_DEFAULT_ALPN if value.is_empty() => Ok(Vec::new()),
        param::NO_DEFAULT_ALPN => Err(of(value)),
        param::ALPN => items().try_fold(Vec::new(), |mut wire, item| {
            let bytes = bytes(item).filter(|bytes| !bytes.is_empty()).ok_or_else(|| of(item))?;
            wire.push(u8::try_from(bytes.len()).map_err(|_| of(item))?);
            wire.extend(bytes);
            Ok(wire)
        }),
        param::IPV4HINT => items().try_fold(Vec::new(), |mut wire, item| {
            wire.extend(item.parse::<Ipv4Addr>().map_err(|_| of(item))?.octets());
            Ok(wire)
        }),
        param::IPV6HINT => items().try_fold(Vec::new(), |mut wire, item| {
            wire.extend(item.parse::<Ipv6Addr>().map_err(|_| of(item))?.octets());
            Ok(wire)
        }),
        param::MANDATORY => {
            let mut keys = items()
                .map(|item| param::of_name(item).ok_or_else(|| of(item)))
                .collect::<Result<Vec<u16>, _>>()?;
            keys.sort_unstable();
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        _ => bytes(value).ok_or_else(|| of(value)),
    }
}

/// The words of a line that have not been read.
struct Words<'a> {
    rest: &'a [String],
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.rest.first().map(String::as_str)
    }

    fn take(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn next(&mut self, what: &str, hint: &'static str) -> Result<&'a str, Wrong> {
        self.take().ok_or_else(|| (format!("there should be {what}"), hint))
    }

    fn parse<T: FromStr>(&mut self, what: &str, hint: &'static str) -> Result<T, Wrong> {
        let word = self.next(what, hint)?;
        word.parse().map_err(|_| bad(what, word, hint))
    }

    fn end(&self) -> Result<(), Wrong> {
        self.peek().map_or(Ok(()), |word| {
            let message = format!("{word} is too much");
            Err((message, "put texts with blanks in quotes, and comments behind ;"))
        })
    }

    /// The strings of a TXT record.
    fn strings(&mut self) -> Result<Txt, Wrong> {
        let hint = "write texts of at most 255 bytes each, in quotes if they have blanks";
        let mut strings = Vec::new();
        while let Some(word) = self.take() {
            strings.push(bytes(word).ok_or_else(|| bad("a text", word, hint))?);
        }
        Txt::of_strings(strings)
            .ok_or_else(|| ("there should be texts of at most 255 bytes".to_owned(), hint))
    }

    /// Data of any type: `\# LENGTH HEX` (RFC 3597).
    fn generic(&mut self) -> Result<Vec<u8>, Wrong> {
        let hint = "write \\# LENGTH HEX, for example: TYPE65400 \\# 2 0aff";
        let mark = self.next("\\#", hint)?;
        if mark != "\\#" {
            return Err(bad("\\#", mark, hint));
        }
        let len: usize = self.parse("a length", hint)?;
        let mut data = Vec::new();
        let mut high = None;
        while let Some(word) = self.take() {
            for c in word.chars() {
                let digit = c.to_digit(16).ok_or_else(|| bad("hexadecimal", word, hint))? as u8;
                match high.take() {
                    None => high = Some(digit),
                    Some(high) => data.push(high << 4 | digit),
                }
            }
        }
        if high.is_some() || data.len() != len || data.len() > usize::from(u16::MAX) {
            return Err((format!("the data are not {len} bytes"), hint));
        }
        Ok(data)
    }
}

/// Seconds, also as `1h30m`.
fn seconds(text: &str) -> Result<u32, Wrong> {
    let wrong = || bad("a time", text, "write seconds, or units: 3600, 1h, 1d12h");
    let (mut total, mut number) = (0_u32, None::<u32>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let more = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
            number = Some(more.ok_or_else(wrong)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let time = number.take().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
        total = total.checked_add(time).ok_or_else(wrong)?;
    }
    // RFC 2181, section 8: 31 bits.
    let total = total.checked_add(number.unwrap_or(0)).filter(|total| *total <= u32::MAX >> 1);
    total.ok_or_else(wrong)
}

/// What a word stands for once its escapes are undone.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let (byte, behind) = if byte == b'\\' { unescape(behind)? } else { (byte, behind) };
        bytes.push(byte);
        rest = behind;
    }
    Some(bytes)
}

/// Whether a name ends in a dot that is no part of a label.
fn is_absolute(text: &str) -> bool {
    text.strip_suffix('.').is_some_and(|before| {
        let backslashes = before.len() - before.trim_end_matches('\\').len();
        backslashes.is_multiple_of(2)
    })
}

fn bad(what: &str, text: &str, hint: &'static str) -> Wrong {
    (format!("{text:?} is not {what}"), hint)
}

fn wrong_name(text: &str, error: NameError) -> Wrong {
    (
        format!("{text:?} is no name: {error}"),
        "write labels of at most 63 bytes, a dot between each",
    )
}
