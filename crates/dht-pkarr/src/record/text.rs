//! Records as people read them: the presentation format of zone files (RFC 1035, 5.1; RFC 9460, 2.1).

use alloc::borrow::Cow;
use alloc::format;
use core::fmt::{self, Write as _};

use super::{Rdata, Svcb, kind, param};
use crate::name::Name;

/// Types that have a name here. Others are written as RFC 3597 has it, `TYPE` and the number.
const KINDS: &[(u16, &str)] = &[
    (kind::A, "A"),
    (kind::NS, "NS"),
    (kind::CNAME, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (kind::TXT, "TXT"),
    (kind::AAAA, "AAAA"),
    (33, "SRV"),
    (kind::SVCB, "SVCB"),
    (kind::HTTPS, "HTTPS"),
    (kind::ANY, "ANY"),
];

/// The name of a type.
#[must_use]
pub fn kind_name(number: u16) -> Cow<'static, str> {
    KINDS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("TYPE{number}").into(), |(_, name)| Cow::Borrowed(*name))
}

/// The type of a name, of `TYPE` and a number, or of a number; in letters of either case.
///
/// ```
/// use dht_pkarr::record::kind;
///
/// assert_eq!(kind::parse("https"), Some(kind::HTTPS));
/// assert_eq!(kind::parse("TYPE65"), Some(kind::HTTPS));
/// assert_eq!(kind::name(65), "HTTPS");
/// assert_eq!(kind::parse("HTTPZ"), None);
/// ```
#[must_use]
pub fn parse_kind(text: &str) -> Option<u16> {
    let known = KINDS.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    if let Some((number, _)) = known {
        return Some(*number);
    }
    let digits = match text.split_at_checked(4) {
        Some((head, rest)) if head.eq_ignore_ascii_case("type") => rest,
        _ => text,
    };
    // `parse` would take a sign.
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The data of a record as a zone file has them.
///
/// ```
/// use dht_pkarr::record::{Rdata, Svcb};
///
/// let svcb = Svcb::here(1).with_port(8443).with_alpn(["h2", "h3"]);
/// assert_eq!(Rdata::Https(svcb).to_string(), "1 . alpn=h2,h3 port=8443");
/// assert_eq!(Rdata::Txt("say \"hi\"".into()).to_string(), r#""say \"hi\"""#);
/// assert_eq!(Rdata::Other { kind: 99, data: vec![1, 0xab] }.to_string(), r"\# 2 01ab");
/// ```
impl fmt::Display for Rdata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => fmt::Display::fmt(ip, f),
            Self::Aaaa(ip) => fmt::Display::fmt(ip, f),
            Self::Cname(name) | Self::Ns(name) => absolute(name, f),
            Self::Txt(txt) => {
                for (place, string) in txt.strings().enumerate() {
                    f.write_str(if place > 0 { " \"" } else { "\"" })?;
                    escape(string, f)?;
                    f.write_char('"')?;
                }
                Ok(())
            }
            Self::Https(svcb) | Self::Svcb(svcb) => write_svcb(svcb, f),
            Self::Other { data, .. } => {
                write!(f, "\\# {}", data.len())?;
                if !data.is_empty() {
                    f.write_char(' ')?;
                }
                hex(data, f)
            }
        }
    }
}

/// A name with its final dot.
fn absolute(name: &Name, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    fmt::Display::fmt(name, f)?;
    if name.is_root() { Ok(()) } else { f.write_char('.') }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A character string between quotes: quotes and backslashes behind a backslash, what does not
/// print as three digits.
fn escape(string: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in string {
        match byte {
            b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
            0x20..=0x7e => f.write_char((*byte).into())?,
            byte => write!(f, "\\{byte:03}")?,
        }
    }
    Ok(())
}

fn write_svcb(svcb: &Svcb, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{} ", svcb.priority)?;
    absolute(&svcb.target, f)?;
    for (key, value) in &svcb.params {
        f.write_char(' ')?;
        write_param(svcb, *key, value, f)?;
    }
    Ok(())
}

fn write_param(svcb: &Svcb, key: u16, value: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match key {
        param::MANDATORY if value.len().is_multiple_of(2) => {
            f.write_str("mandatory=")?;
            list(f, svcb.mandatory().map(key_name))
        }
        param::NO_DEFAULT_ALPN if value.is_empty() => f.write_str("no-default-alpn"),
        param::PORT if value.len() == 2 => {
            write!(f, "port={}", svcb.port().unwrap_or_default())
        }
        param::IPV4HINT if value.len().is_multiple_of(4) => {
            f.write_str("ipv4hint=")?;
            list(f, svcb.ip_hints().filter(core::net::IpAddr::is_ipv4))
        }
        param::IPV6HINT if value.len().is_multiple_of(16) => {
            f.write_str("ipv6hint=")?;
            list(f, svcb.ip_hints().filter(core::net::IpAddr::is_ipv6))
        }
        param::ALPN if is_plain_list(svcb, value) => {
            f.write_str("alpn=")?;
            list(f, svcb.alpn().map(|name| core::str::from_utf8(name).unwrap_or_default()))
        }
        key => {
            write!(f, "{}=\"", key_name(key))?;
            escape(value, f)?;
            f.write_char('"')
        }
    }
}

/// Whether protocols need no escaping, and are all there is.
fn is_plain_list(svcb: &Svcb, value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !br#",\""#.contains(byte);
    svcb.alpn().map(|name| name.len() + 1).sum::<usize>() == value.len()
        && svcb.alpn().all(|name| name.iter().all(plain))
}

fn key_name(key: u16) -> Cow<'static, str> {
    match key {
        param::MANDATORY => "mandatory".into(),
        param::ALPN => "alpn".into(),
        param::NO_DEFAULT_ALPN => "no-default-alpn".into(),
        param::PORT => "port".into(),
        param::IPV4HINT => "ipv4hint".into(),
        param::IPV6HINT => "ipv6hint".into(),
        key => format!("key{key}").into(),
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    values: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    for (place, value) in values.enumerate() {
        if place > 0 {
            f.write_char(',')?;
        }
        fmt::Display::fmt(&value, f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn data_read_as_in_a_zone_file() {
        let name: Name = "a.example".parse().unwrap();
        for (data, text) in [
            (Rdata::from(core::net::IpAddr::from([192, 0, 2, 1])), "192.0.2.1"),
            (Rdata::Aaaa("2001:db8::1".parse().unwrap()), "2001:db8::1"),
            (Rdata::Cname(name.clone()), "a.example."),
            (Rdata::Ns(Name::root()), "."),
            (Rdata::Txt("".into()), r#""""#),
            (
                Rdata::Txt(super::super::Txt::of_strings([&b"a\"b"[..], b"\x00\\"]).unwrap()),
                r#""a\"b" "\000\\""#,
            ),
            (
                Rdata::Svcb(
                    Svcb::new(2, name)
                        .with_param(param::MANDATORY, [0, 3, 0, 9])
                        .with_param(param::NO_DEFAULT_ALPN, [])
                        .with_port(1)
                        .with_ip_hints(["192.0.2.1", "::1"].map(|ip| ip.parse().unwrap()))
                        .with_param(9, *b"x y"),
                ),
                "2 a.example. mandatory=port,key9 no-default-alpn port=1 ipv4hint=192.0.2.1 \
                 ipv6hint=::1 key9=\"x y\"",
            ),
            // What is not what its key demands is shown as it is.
            (
                Rdata::Svcb(Svcb::here(1).with_param(param::PORT, [1]).with_alpn(["a,b"])),
                r#"1 . alpn="\003a,b" port="\001""#,
            ),
            (Rdata::Other { kind: 99, data: alloc::vec![] }, r"\# 0"),
        ] {
            assert_eq!(data.to_string(), text);
        }
    }

    #[test]
    fn types_read_back() {
        for number in 0..=300 {
            assert_eq!(parse_kind(&kind_name(number)), Some(number));
            assert_eq!(parse_kind(&number.to_string()), Some(number));
        }
        for bad in ["", "TYPE", "TYPE-1", "+1", "65536", "TYPE99999", "X"] {
            assert_eq!(parse_kind(bad), None, "{bad}");
        }
    }
}
