//! Records as lines.

use alloc::string::{String, ToString};
use core::fmt::{self, Write as _};

use crate::key::PublicKey;
use crate::name::Name;
use crate::record::{CLASS_IN, Rdata, Record, Svcb, kind, param};

/// A record as a line of the zone of a key; [`parse`](super::parse) reads it back.
#[must_use]
pub fn line(record: &Record, key: &PublicKey) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_line(&mut text, record, key);
    text
}

fn write_line(to: &mut String, record: &Record, key: &PublicKey) -> fmt::Result {
    let apex = Name::of_key(key);
    if record.name.is(&apex) {
        to.push('@');
    } else {
        let own = relative(&record.name, &apex)?;
        // What ends in a key is read as absolute.
        match own.filter(|own| own.parse::<Name>().is_ok_and(|own| own.key().is_none())) {
            Some(own) => to.push_str(&own),
            None => absolute(to, &record.name)?,
        }
    }
    write!(to, " {} ", record.ttl)?;
    match record.class {
        CLASS_IN => to.push_str("IN"),
        class => write!(to, "CLASS{class}")?,
    }
    write!(to, " {} {}", kind::Named(record.data.kind()), record.data)
}

/// The labels before those of the apex, if the name is below that.
fn relative(name: &Name, apex: &Name) -> Result<Option<String>, fmt::Error> {
    if !name.is_at_or_below(apex) {
        return Ok(None);
    }
    let own = name.labels().count() - apex.labels().count();
    let mut text = String::new();
    write_labels(&mut text, name.labels().take(own))?;
    Ok(Some(text))
}

fn write_labels<'a>(
    to: &mut impl fmt::Write,
    labels: impl Iterator<Item = &'a [u8]>,
) -> fmt::Result {
    for (place, label) in labels.enumerate() {
        if place > 0 {
            to.write_char('.')?;
        }
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => {
                    to.write_char(char::from(*byte))?;
                }
                byte => write!(to, "\\{byte:03}")?,
            }
        }
    }
    Ok(())
}

/// A name with a dot at its end.
fn absolute(to: &mut impl fmt::Write, name: &Name) -> fmt::Result {
    write_labels(to, name.labels())?;
    to.write_char('.')
}

impl fmt::Display for kind::Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = *self;
        match kind::name(number) {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{number}"),
        }
    }
}

/// The data, as zones have it.
impl fmt::Display for Rdata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => ip.fmt(f),
            Self::Aaaa(ip) => ip.fmt(f),
            Self::Cname(name) | Self::Ns(name) => absolute(f, name),
            Self::Txt(txt) => txt.strings().enumerate().try_for_each(|(place, string)| {
                f.write_str(if place == 0 { "\"" } else { " \"" })?;
                quoted(f, string)?;
                f.write_char('"')
            }),
            Self::Https(svcb) | Self::Svcb(svcb) => write_svcb(f, svcb),
            Self::Other { data, .. } => {
                write!(f, "\\# {}", data.len())?;
                if !data.is_empty() {
                    f.write_char(' ')?;
                }
                data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &[u8]) -> fmt::Result {
    text.iter().try_for_each(|byte| match byte {
        b'"' | b'\\' => write!(f, "\\{}", char::from(*byte)),
        b' '..=b'~' => f.write_char(char::from(*byte)),
        byte => write!(f, "\\{byte:03}"),
    })
}

fn write_svcb(f: &mut fmt::Formatter<'_>, svcb: &Svcb) -> fmt::Result {
    write!(f, "{} ", svcb.priority)?;
    absolute(f, &svcb.target)?;
    for (key, value) in &svcb.params {
        f.write_char(' ')?;
        if !write_known(f, *key, value)? {
            write!(f, "key{key}=\"")?;
            quoted(f, value)?;
            f.write_char('"')?;
        }
    }
    Ok(())
}

/// Writes a parameter by its name, if its value is what that demands.
fn write_known(f: &mut fmt::Formatter<'_>, key: u16, value: &[u8]) -> Result<bool, fmt::Error> {
    let one = Svcb::here(1).with_param(key, value);
    let plain = |text: &[u8]| {
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:+".contains(byte);
        !text.is_empty() && text.iter().all(safe)
    };
    let list = |f: &mut fmt::Formatter<'_>, name: &str, items: &mut dyn Iterator<Item = String>| {
        write!(f, "{name}=")?;
        items.enumerate().try_for_each(|(place, item)| {
            f.write_str(if place == 0 { "" } else { "," })?;
            f.write_str(&item)
        })
    };
    let whole = |item: usize| !value.is_empty() && value.len().is_multiple_of(item);
    match key {
        param::PORT if value.len() == 2 => {
            write!(f, "port={}", one.port().unwrap_or_default())?;
        }
        param::NO_DEFAULT_ALPN if value.is_empty() => f.write_str("no-default-alpn")?,
        param::ALPN
            if one.alpn().all(plain)
                && !value.is_empty()
                && one.alpn().map(|item| item.len() + 1).sum::<usize>() == value.len() =>
        {
            let text = |item: &[u8]| String::from_utf8_lossy(item).into_owned();
            list(f, "alpn", &mut one.alpn().map(text))?;
        }
        param::IPV4HINT if whole(4) => {
            list(f, "ipv4hint", &mut one.ip_hints().map(|ip| ip.to_string()))?;
        }
        param::IPV6HINT if whole(16) => {
            list(f, "ipv6hint", &mut one.ip_hints().map(|ip| ip.to_string()))?;
        }
        // Only ascending keys are read back as they were.
        param::MANDATORY if whole(2) && one.mandatory().is_sorted() => {
            list(f, "mandatory", &mut one.mandatory().map(param::text))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
