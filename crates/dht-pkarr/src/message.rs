//! DNS messages (RFC 1035, section 4): those that carry the records of a packet, and those that
//! servers exchange.
//!
//! Reading needs sound framing: header, names, lengths. What is framed soundly is kept, whatever it
//! says. It never panics, allocates no more than the names and data it returns, and every pointer
//! of a compressed name goes to an earlier place than the last and there are [`MAX_POINTERS`] at most, so
//! reading ends, and takes time in proportion to what is read.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::name::{MAX_LABEL_LEN, MAX_NAME_LEN, Name};
use crate::record::{Rdata, Record, Svcb, Txt, kind};

/// What is added to the offset in a compressed name.
const POINTER: u16 = 0xc000;
/// Offsets of compressed names are below.
const FARTHEST: u16 = 0x4000;
/// Pointers of one name that are followed: as many as there may be labels in it, and no pointer need lead
/// to another. Without a limit, a message that is mostly pointers takes the square of its length.
const MAX_POINTERS: usize = 127;

/// Why bytes are no DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnsError {
    /// It ends before it is complete.
    Truncated,
    /// A label is of no known form.
    BadLabel,
    /// A compressed name points to itself or forward, or too often.
    BadPointer,
    /// A name is longer than 255 bytes.
    NameTooLong,
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the DNS message ends before it is complete",
            Self::BadLabel => "a label in the DNS message is of no known form",
            Self::BadPointer => {
                "a compressed name in the DNS message does not point backwards, or too often"
            }
            Self::NameTooLong => "a name in the DNS message is over 255 bytes",
        })
    }
}

impl core::error::Error for DnsError {}

/// What a message asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "RFC 1035, 4.1.2 has these fields")]
pub struct Question {
    /// About which name.
    pub name: Name,
    /// For records of which type.
    pub kind: u16,
    /// Of which class.
    pub class: u16,
}

/// Bits of a [`Message`]'s flags (RFC 1035, 4.1.1).
pub mod flag {
    /// It is a reply.
    pub const REPLY: u16 = 0x8000;
    /// The kind of query; 0 is the usual one.
    pub const OPCODE: u16 = 0x7800;
    /// There was more than fits.
    pub const TRUNCATED: u16 = 0x0200;
    /// Whoever asks wants the answer, not only a hint where it is.
    pub const RECURSION_DESIRED: u16 = 0x0100;
    /// Whoever answers can find it.
    pub const RECURSION_AVAILABLE: u16 = 0x0080;
    /// The answer need not be validated (RFC 4035).
    pub const CHECKING_DISABLED: u16 = 0x0010;
    /// How it went.
    pub const RCODE: u16 = 0x000f;
}

/// A DNS message as servers exchange them.
///
/// ```
/// use dht_pkarr::dns::{Message, Question, flag};
/// use dht_pkarr::record::{CLASS_IN, kind};
///
/// let question = Question { name: "www.example.com".parse()?, kind: kind::A, class: CLASS_IN };
/// let mut query = Message::new(7, flag::RECURSION_DESIRED);
/// query.questions.push(question);
/// let bytes = query.to_bytes().expect("it is short");
/// assert_eq!(bytes.len(), 12 + 17 + 4);
/// assert_eq!(Message::from_bytes(&bytes)?, query);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// By which whoever asks knows the reply.
    pub id: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// What is asked: one question, but for oddities.
    pub questions: Vec<Question>,
    /// The answers.
    pub answers: Vec<Record>,
    /// Who says so.
    pub authorities: Vec<Record>,
    /// What else may be useful.
    pub additional: Vec<Record>,
}

impl Message {
    /// A message without questions and records.
    #[must_use]
    pub fn new(id: u16, flags: u16) -> Self {
        Self { id, flags, ..Self::default() }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is not framed soundly.
    pub fn from_bytes(message: &[u8]) -> Result<Self, DnsError> {
        let mut reader = Reader { message, at: 0 };
        let mut read = Self::new(reader.u16()?, reader.u16()?);
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = reader.u16()?;
        }
        // Counts are claims: what they count is taken one by one, and each takes up some of the
        // message.
        let [questions, answers, authorities, additional] = counts;
        for _ in 0..questions {
            let (name, kind, class) = (reader.name()?, reader.u16()?, reader.u16()?);
            read.questions.push(Question { name, kind, class });
        }
        for (count, section) in [
            (answers, &mut read.answers),
            (authorities, &mut read.authorities),
            (additional, &mut read.additional),
        ] {
            for _ in 0..count {
                section.push(reader.record()?);
            }
        }
        Ok(read)
    }

    /// Writes the message; `None` if a count or a record does not fit any.
    ///
    /// Names of owners, and of what CNAME and NS point to, are compressed, as in the reference
    /// implementation, which gives the same bytes for the same records. RFC 9460 forbids it for
    /// targets.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let sections = [&self.answers, &self.authorities, &self.additional];
        let mut writer = Writer::new(self.id, self.flags);
        writer.count(self.questions.len())?;
        for section in sections {
            writer.count(section.len())?;
        }
        for Question { name, kind, class } in &self.questions {
            writer.name(name);
            writer.u16(*kind);
            writer.u16(*class);
        }
        for record in sections.into_iter().flatten() {
            writer.record(record)?;
        }
        Some(writer.out)
    }
}

/// The answers of a message. Its other sections are looked at, too, but not returned.
pub(crate) fn read(message: &[u8]) -> Result<Vec<Record>, DnsError> {
    Message::from_bytes(message).map(|message| message.answers)
}

/// A place in a message.
#[derive(Clone)]
struct Reader<'a> {
    /// The message, up to where reading must end.
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DnsError> {
        let end = self.at + len;
        let taken = self.message.get(self.at..end).ok_or(DnsError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DnsError> {
        self.take(N)?.try_into().map_err(|_| DnsError::Truncated)
    }

    fn u16(&mut self) -> Result<u16, DnsError> {
        self.array().map(u16::from_be_bytes)
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = self.message.get(self.at..).unwrap_or_default();
        self.at = self.message.len();
        rest
    }

    fn ended(&self) -> bool {
        self.at >= self.message.len()
    }

    fn record(&mut self) -> Result<Record, DnsError> {
        let name = self.name()?;
        let kind = self.u16()?;
        let class = self.u16()?;
        let ttl = u32::from_be_bytes(self.array()?);
        let len = self.u16()?;
        let start = self.at;
        let raw = self.take(len.into())?;
        let inside = Reader { message: self.message.get(..self.at).unwrap_or_default(), at: start };
        let data = known(kind, inside).unwrap_or_else(|| Rdata::Other { kind, data: raw.to_vec() });
        Ok(Record { name, class, ttl, data })
    }

    /// A name, whose compressed parts may lie anywhere before it.
    fn name(&mut self) -> Result<Name, DnsError> {
        // Most names are a label or two and a key.
        let mut wire = Vec::with_capacity(72);
        let mut reader = self.clone();
        // Where the present run of labels began: the next must begin before it.
        let mut run = self.at;
        let (mut behind, mut pointers) = (None, 0);
        loop {
            let [len] = reader.array()?;
            match len >> 6 {
                0 => {
                    wire.push(len);
                    wire.extend_from_slice(reader.take(len.into())?);
                    if wire.len() + usize::from(len != 0) > MAX_NAME_LEN {
                        return Err(DnsError::NameTooLong);
                    }
                    if len == 0 {
                        break;
                    }
                }
                3 => {
                    let [low] = reader.array()?;
                    let target = usize::from(u16::from_be_bytes([len, low]) & !POINTER);
                    behind.get_or_insert(reader.at);
                    pointers += 1;
                    if target >= run || pointers > MAX_POINTERS {
                        return Err(DnsError::BadPointer);
                    }
                    run = target;
                    reader.at = target;
                }
                _ => return Err(DnsError::BadLabel),
            }
        }
        self.at = behind.unwrap_or(reader.at);
        Ok(Name::from_wire(wire))
    }
}

/// The data of a type that this crate reads, if they are what the type demands.
fn known(kind: u16, mut data: Reader<'_>) -> Option<Rdata> {
    let read = match kind {
        kind::A => Rdata::A(Ipv4Addr::from(data.array::<4>().ok()?)),
        kind::AAAA => Rdata::Aaaa(Ipv6Addr::from(data.array::<16>().ok()?)),
        kind::CNAME => Rdata::Cname(data.name().ok()?),
        kind::NS => Rdata::Ns(data.name().ok()?),
        kind::TXT => Rdata::Txt(Txt::from_wire(data.rest())?),
        kind::HTTPS => Rdata::Https(svcb(&mut data)?),
        kind::SVCB => Rdata::Svcb(svcb(&mut data)?),
        kind => Rdata::Other { kind, data: expand(kind, &mut data)? },
    };
    data.ended().then_some(read)
}

/// RFC 9460, 2.2: keys in strictly ascending order.
fn svcb(data: &mut Reader<'_>) -> Option<Svcb> {
    let mut svcb = Svcb::new(data.u16().ok()?, data.name().ok()?);
    while !data.ended() {
        let key = data.u16().ok()?;
        let len = data.u16().ok()?;
        let value = data.take(len.into()).ok()?;
        if svcb.params.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        svcb.params.insert(key, value.to_vec());
    }
    Some(svcb)
}

/// Types whose data may hold compressed names (RFC 3597, section 4): how many bytes precede them,
/// and how many names there are. Whatever follows is no name.
const WITH_NAMES: &[(u16, usize, usize)] = &[
    (3, 0, 1),  // MD
    (4, 0, 1),  // MF
    (6, 0, 2),  // SOA
    (7, 0, 1),  // MB
    (8, 0, 1),  // MG
    (9, 0, 1),  // MR
    (12, 0, 1), // PTR
    (14, 0, 2), // MINFO
    (15, 2, 1), // MX
    (17, 0, 2), // RP
    (18, 2, 1), // AFSDB
    (21, 2, 1), // RT
    (26, 2, 2), // PX
    (33, 6, 1), // SRV
    (36, 2, 1), // KX
    (39, 0, 1), // DNAME
];

/// The data of a type of [`WITH_NAMES`] with its names in full.
fn expand(kind: u16, data: &mut Reader<'_>) -> Option<Vec<u8>> {
    let (_, before, names) = WITH_NAMES.iter().find(|(known, ..)| *known == kind)?;
    let mut out = data.take(*before).ok()?.to_vec();
    for _ in 0..*names {
        out.extend_from_slice(data.name().ok()?.as_wire());
    }
    out.extend_from_slice(data.rest());
    Some(out)
}

/// The message of a packet: no id, a reply, and records that are its answers. `None` if one does
/// not fit any message.
pub(crate) fn write(records: &[Record]) -> Option<Vec<u8>> {
    let mut writer = Writer::new(0, flag::REPLY);
    for count in [0, records.len(), 0, 0] {
        writer.count(count)?;
    }
    for record in records {
        writer.record(record)?;
    }
    Some(writer.out)
}

struct Writer<'a> {
    out: Vec<u8>,
    /// Where the ends of names stand that were written before, by their bytes.
    suffixes: BTreeMap<&'a [u8], u16>,
}

impl<'a> Writer<'a> {
    fn new(id: u16, flags: u16) -> Self {
        let mut writer = Self { out: Vec::with_capacity(512), suffixes: BTreeMap::new() };
        writer.u16(id);
        writer.u16(flags);
        writer
    }

    /// How many there are of something.
    fn count(&mut self, count: usize) -> Option<()> {
        self.u16(u16::try_from(count).ok()?);
        Some(())
    }

    fn record(&mut self, record: &'a Record) -> Option<()> {
        self.name(&record.name);
        self.u16(record.data.kind());
        self.u16(record.class);
        self.out.extend_from_slice(&record.ttl.to_be_bytes());
        let len_at = self.out.len();
        self.u16(0);
        self.data(&record.data)?;
        let len = u16::try_from(self.out.len() - len_at - 2).ok()?;
        self.out.get_mut(len_at..len_at + 2)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A name, compressed.
    fn name(&mut self, name: &'a Name) {
        let mut rest = name.as_wire();
        while let Some((len, behind)) = rest.split_first() {
            if *len == 0 {
                break;
            }
            if let Some(at) = self.suffixes.get(rest) {
                return self.u16(*at | POINTER);
            }
            if let Ok(at) = u16::try_from(self.out.len())
                && at < FARTHEST
            {
                self.suffixes.insert(rest, at);
            }
            debug_assert!(usize::from(*len) <= MAX_LABEL_LEN, "names hold whole labels");
            let (label, behind) = behind.split_at_checked(usize::from(*len)).unwrap_or_default();
            self.out.push(*len);
            self.out.extend_from_slice(label);
            rest = behind;
        }
        self.out.push(0);
    }

    fn data(&mut self, data: &'a Rdata) -> Option<()> {
        match data {
            Rdata::A(ip) => self.out.extend_from_slice(&ip.octets()),
            Rdata::Aaaa(ip) => self.out.extend_from_slice(&ip.octets()),
            Rdata::Cname(name) | Rdata::Ns(name) => self.name(name),
            Rdata::Txt(txt) => self.out.extend_from_slice(txt.as_wire()),
            Rdata::Https(svcb) | Rdata::Svcb(svcb) => {
                self.u16(svcb.priority);
                self.out.extend_from_slice(svcb.target.as_wire());
                for (key, value) in &svcb.params {
                    self.u16(*key);
                    self.u16(u16::try_from(value.len()).ok()?);
                    self.out.extend_from_slice(value);
                }
            }
            Rdata::Other { data, .. } => self.out.extend_from_slice(data),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
