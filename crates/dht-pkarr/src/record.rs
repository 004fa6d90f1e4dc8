//! Records: what stands under a name.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;

/// Numbers of the record types that this crate reads.
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A name server.
    pub const NS: u16 = 2;
    /// Another name for this one.
    pub const CNAME: u16 = 5;
    /// Text.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// Where a service is (RFC 9460).
    pub const SVCB: u16 = 64;
    /// Where the web server of a name is (RFC 9460).
    pub const HTTPS: u16 = 65;
    /// In questions: records of all types.
    pub const ANY: u16 = 255;

    const NAMES: [(u16, &str); 7] = [
        (A, "A"),
        (NS, "NS"),
        (CNAME, "CNAME"),
        (TXT, "TXT"),
        (AAAA, "AAAA"),
        (SVCB, "SVCB"),
        (HTTPS, "HTTPS"),
    ];

    /// What DNS calls a type, if this crate reads it.
    #[must_use]
    pub fn name(kind: u16) -> Option<&'static str> {
        NAMES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
    }

    /// The number of a type by its name, in capitals.
    #[must_use]
    pub fn of_name(name: &str) -> Option<u16> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// A type to be printed: by its name, or else as `TYPE123`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(clippy::exhaustive_structs, reason = "it is only a way to print a number")]
    pub struct Named(pub u16);
}

/// The class of all records that matter: the internet.
pub const CLASS_IN: u16 = 1;

/// A record: what stands under a name, and for how long it may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Whose record it is.
    pub name: Name,
    /// Its class, which is [`CLASS_IN`] but for oddities.
    pub class: u16,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Rdata,
}

impl Record {
    /// A record of class IN.
    #[must_use]
    pub const fn new(name: Name, ttl: u32, data: Rdata) -> Self {
        Self { name, class: CLASS_IN, ttl, data }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rdata {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name for this one.
    Cname(Name),
    /// A name server.
    Ns(Name),
    /// Text.
    Txt(Txt),
    /// Where the web server is.
    Https(Svcb),
    /// Where the service is.
    Svcb(Svcb),
    /// Any other type, or data that are not what their type demands: as they were.
    ///
    /// Names in data of the types of RFC 1035, and of the few others in which compression was ever
    /// allowed, are written out in full, so that the data mean the same in another message.
    Other {
        /// The number of the type.
        kind: u16,
        /// The data.
        data: Vec<u8>,
    },
}

impl Rdata {
    /// The number of the type.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Cname(_) => kind::CNAME,
            Self::Ns(_) => kind::NS,
            Self::Txt(_) => kind::TXT,
            Self::Https(_) => kind::HTTPS,
            Self::Svcb(_) => kind::SVCB,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// The address, of A and AAAA records.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::A(ip) => Some(IpAddr::V4(*ip)),
            Self::Aaaa(ip) => Some(IpAddr::V6(*ip)),
            Self::Cname(_)
            | Self::Ns(_)
            | Self::Txt(_)
            | Self::Https(_)
            | Self::Svcb(_)
            | Self::Other { .. } => None,
        }
    }
}

impl From<IpAddr> for Rdata {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::A(ip),
            IpAddr::V6(ip) => Self::Aaaa(ip),
        }
    }
}

/// The longest string of a TXT record.
const MAX_STRING_LEN: usize = 255;

/// The strings of a TXT record, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txt {
    /// As on the wire: each string behind its length.
    wire: Vec<u8>,
}

impl Txt {
    /// A text, in as many strings as it takes.
    #[must_use]
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut wire = Vec::with_capacity(text.len() + text.len() / MAX_STRING_LEN + 1);
        for string in text.chunks(MAX_STRING_LEN) {
            wire.push(string.len() as u8);
            wire.extend_from_slice(string);
        }
        if wire.is_empty() {
            wire.push(0);
        }
        Self { wire }
    }

    /// The strings as they are; `None` if there is none or one is longer than 255 bytes.
    #[must_use]
    pub fn of_strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut wire = Vec::new();
        for string in strings {
            let string = string.as_ref();
            wire.push(u8::try_from(string.len()).ok()?);
            wire.extend_from_slice(string);
        }
        Self::from_wire(&wire)
    }

    /// The strings of a record on the wire, if that is what they are.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut rest = wire;
        while let Some((len, behind)) = rest.split_first() {
            rest = behind.get(usize::from(*len)..)?;
        }
        (!wire.is_empty()).then(|| Self { wire: wire.to_vec() })
    }

    /// The strings, one by one.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.wire;
        core::iter::from_fn(move || {
            let (len, behind) = rest.split_first()?;
            let (string, behind) = behind.split_at_checked(usize::from(*len))?;
            rest = behind;
            Some(string)
        })
    }

    /// All strings as one.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        self.strings().flatten().copied().collect()
    }

    pub(crate) fn as_wire(&self) -> &[u8] {
        &self.wire
    }
}

impl From<&str> for Txt {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Keys of the parameters of [`Svcb`] that have a meaning here.
pub mod param {
    /// Parameters without which a record must not be used.
    pub const MANDATORY: u16 = 0;
    /// Protocols that are spoken there.
    pub const ALPN: u16 = 1;
    /// The default protocol is not spoken there.
    pub const NO_DEFAULT_ALPN: u16 = 2;
    /// Another port than the usual one.
    pub const PORT: u16 = 3;
    /// IPv4 addresses to try.
    pub const IPV4HINT: u16 = 4;
    /// Keys for encrypted greetings.
    pub const ECH: u16 = 5;
    /// IPv6 addresses to try.
    pub const IPV6HINT: u16 = 6;

    const NAMES: [(u16, &str); 6] = [
        (MANDATORY, "mandatory"),
        (ALPN, "alpn"),
        (NO_DEFAULT_ALPN, "no-default-alpn"),
        (PORT, "port"),
        (IPV4HINT, "ipv4hint"),
        (IPV6HINT, "ipv6hint"),
    ];

    /// The key of a name, or of a text like `key65400`.
    pub(crate) fn of_name(name: &str) -> Option<u16> {
        let known = NAMES.iter().find(|(_, known)| *known == name).map(|(key, _)| *key);
        known.or_else(|| name.strip_prefix("key")?.parse().ok())
    }

    /// The name of a key, or a text like `key65400`.
    pub(crate) fn text(key: u16) -> alloc::string::String {
        let known = NAMES.iter().find(|(known, _)| *known == key).map(|(_, name)| *name);
        known.map_or_else(|| alloc::format!("key{key}"), Into::into)
    }
}

/// Where a service is, how much this place is wanted, and what is to know about it (RFC 9460).
///
/// ```
/// use dht_pkarr::record::Svcb;
///
/// // The service is at the name that the record stands under, port 6881.
/// let here = Svcb::here(1).with_port(6881);
/// assert_eq!(here.port(), Some(6881));
/// let elsewhere = Svcb::new(2, "example.com".parse()?).with_alpn(["h3", "h2"]);
/// assert!(elsewhere.alpn().eq([b"h3", b"h2"]));
/// # Ok::<(), dht_pkarr::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Svcb {
    /// Lower numbers are tried first; 0 makes the record an alias, which has no parameters.
    pub priority: u16,
    /// Where the service is; the root means under the record's own name.
    pub target: Name,
    /// Parameters by key, each as on the wire.
    pub params: BTreeMap<u16, Vec<u8>>,
}

impl Svcb {
    /// The service is at `target`.
    #[must_use]
    pub const fn new(priority: u16, target: Name) -> Self {
        Self { priority, target, params: BTreeMap::new() }
    }

    /// The service is at the name under which the record stands.
    #[must_use]
    pub fn here(priority: u16) -> Self {
        Self::new(priority, Name::root())
    }

    /// With a parameter, as on the wire.
    #[must_use]
    pub fn with_param(mut self, key: u16, value: impl Into<Vec<u8>>) -> Self {
        self.params.insert(key, value.into());
        self
    }

    /// With a port.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        self.with_param(param::PORT, port.to_be_bytes())
    }

    /// With protocols; of more than 255 bytes of one, the first 255 count.
    #[must_use]
    pub fn with_alpn<S: AsRef<[u8]>>(self, protocols: impl IntoIterator<Item = S>) -> Self {
        let mut value = Vec::new();
        for protocol in protocols {
            let protocol = protocol.as_ref().iter().take(MAX_STRING_LEN);
            value.push(protocol.len() as u8);
            value.extend(protocol);
        }
        self.with_param(param::ALPN, value)
    }

    /// With addresses to try, of both families.
    #[must_use]
    pub fn with_ip_hints(mut self, ips: impl IntoIterator<Item = IpAddr>) -> Self {
        for ip in ips {
            match ip {
                IpAddr::V4(ip) => {
                    self.params.entry(param::IPV4HINT).or_default().extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    self.params.entry(param::IPV6HINT).or_default().extend(ip.octets());
                }
            }
        }
        self
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let bytes = self.params.get(&param::PORT)?;
        bytes.as_slice().try_into().ok().map(u16::from_be_bytes)
    }

    /// The protocols.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.value(param::ALPN);
        core::iter::from_fn(move || {
            let (len, behind) = rest.split_first()?;
            let (protocol, behind) = behind.split_at_checked(usize::from(*len))?;
            rest = behind;
            Some(protocol)
        })
    }

    /// Addresses to try, IPv4 first.
    pub fn ip_hints(&self) -> impl Iterator<Item = IpAddr> {
        let (short, _) = self.value(param::IPV4HINT).as_chunks::<4>();
        let (long, _) = self.value(param::IPV6HINT).as_chunks::<16>();
        let short = short.iter().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets)));
        short.chain(long.iter().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets))))
    }

    /// The keys without whose understanding the record must not be used.
    pub fn mandatory(&self) -> impl Iterator<Item = u16> {
        let (keys, _) = self.value(param::MANDATORY).as_chunks::<2>();
        keys.iter().map(|key| u16::from_be_bytes(*key))
    }

    /// A parameter's value; nothing if it is not there.
    fn value(&self, key: u16) -> &[u8] {
        self.params.get(&key).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_strings_and_put_together_again() {
        for len in [0, 1, 254, 255, 256, 600] {
            let whole = alloc::vec![b'x'; len];
            let txt = Txt::new(&whole);
            assert_eq!(txt.text(), whole);
            assert_eq!(txt.strings().count(), len.div_ceil(MAX_STRING_LEN).max(1));
            assert_eq!(Txt::from_wire(txt.as_wire()), Some(txt));
        }
        let three = Txt::of_strings(["a=b", "", "c"]).unwrap();
        assert!(three.strings().eq([&b"a=b"[..], b"", b"c"]));
        assert_eq!(Txt::of_strings([[0; 256]]), None);
        assert_eq!(Txt::of_strings::<&str>([]), None);
        for bad in [&b""[..], b"\x02a", b"\x01a\x01"] {
            assert_eq!(Txt::from_wire(bad), None);
        }
    }

    #[test]
    fn parameters_read_back() {
        let ips: [IpAddr; 3] =
            ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let svcb = Svcb::here(1)
            .with_port(443)
            .with_alpn(["h2", "h3"])
            .with_ip_hints(ips)
            .with_param(param::MANDATORY, [0, 3, 0, 1]);
        assert_eq!(svcb.port(), Some(443));
        assert!(svcb.alpn().eq([b"h2", b"h3"]));
        assert!(svcb.ip_hints().eq([ips[0], ips[2], ips[1]]));
        assert!(svcb.mandatory().eq([3, 1]));
        let bad = Svcb::here(1).with_param(param::PORT, [1]).with_param(param::ALPN, [9, 1]);
        assert_eq!(bad.port(), None);
        assert_eq!(bad.alpn().count(), 0);
    }
}
