//! Where a service is that a key names: endpoints by HTTPS and SVCB records (RFC 9460), whose
//! targets may be keys again.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use dht_proto::seed::{Domain, Seed, Stream};

use crate::answer::owner;
use crate::key::{KeyError, PublicKey, host};
use crate::name::{Name, NameError};
use crate::packet::SignedPacket;
use crate::record::{Rdata, Record, Svcb};

/// Packets in a row, each reached through a record of the one before.
pub const MAX_DEPTH: usize = 7;
/// Packets asked for in one resolution. Whoever publishes a tree of keys does not make us walk it.
pub const MAX_PACKETS: usize = 32;

/// Which records lead to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// HTTPS records.
    Https,
    /// SVCB records; the name then begins with the scheme, as in `_foo.<key>`.
    Svcb,
}

/// Why a text names no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryError {
    /// It is no name.
    Name(NameError),
    /// Its top-level domain is no key.
    Key(KeyError),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for QueryError {}

/// A place where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The key in whose packet the place was found: whom to expect there.
    pub public_key: PublicKey,
    /// Under which name.
    pub name: Name,
    /// The host, if it is one of the ordinary DNS, to be resolved there.
    pub host: Option<Name>,
    /// Its addresses, if the packet has them.
    pub addrs: Vec<IpAddr>,
    /// The record: port, protocols, and whatever else is to know.
    pub svcb: Svcb,
}

impl Endpoint {
    /// Addresses with the port of the record, or the usual one.
    pub fn socket_addrs(&self, usual_port: u16) -> impl Iterator<Item = SocketAddr> {
        let port = self.svcb.port().unwrap_or(usual_port);
        self.addrs.iter().map(move |ip| SocketAddr::new(*ip, port))
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Get the packet of this key and give it to [`Resolution::handle_packet`].
    Ask(PublicKey),
    /// A place to try. If it does not answer, go on: there may be another.
    Endpoint(Endpoint),
    /// There are no more.
    Done,
}

/// One resolution: asks its caller for packets, and gives endpoints, best first.
///
/// A record is followed before those of higher priority numbers are looked at; those of equal
/// priority come in random order. What cannot be resolved is passed over. CNAME records play no role.
///
/// ```
/// use dht_pkarr::endpoint::{Resolution, Service, Step};
/// use dht_pkarr::record::Svcb;
/// use dht_pkarr::{Keypair, SignedPacket, Timestamp};
/// use dht_proto::seed::Seed;
///
/// let (name, server) = (Keypair::from_secret(&[1; 32]), Keypair::from_secret(&[2; 32]));
/// let to_server = Svcb::new(1, server.public_key().to_string().parse()?);
/// let at_name = SignedPacket::builder().https(".", to_server, 60).sign(&name, Timestamp::from_secs(1))?;
/// let at_server = SignedPacket::builder()
///     .https(".", Svcb::here(1).with_port(8443), 60)
///     .address(".", "192.0.2.1".parse()?, 60)
///     .sign(&server, Timestamp::from_secs(1))?;
///
/// let seed = Seed::from_bytes([0; 32]); // from the system, in an application
/// let mut resolution = Resolution::new(&name.public_key().to_string(), Service::Https, &seed)?;
/// let endpoint = loop {
///     match resolution.poll() {
///         Step::Ask(key) if key == name.public_key() => resolution.handle_packet(Some(&at_name)),
///         Step::Ask(key) if key == server.public_key() => resolution.handle_packet(Some(&at_server)),
///         Step::Endpoint(endpoint) => break endpoint,
///         step => panic!("{step:?}"),
///     }
/// };
/// assert_eq!(endpoint.public_key, server.public_key());
/// assert!(endpoint.socket_addrs(443).eq(["192.0.2.1:8443".parse()?]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Resolution {
    service: Service,
    shuffle: Stream,
    /// The name that an answer is waited for, its key, and how deep it lies.
    asked: Option<(Name, PublicKey, usize)>,
    /// What is still to try; the best last.
    pending: Vec<Candidate>,
    /// Names that were asked for; none is twice.
    seen: Vec<Name>,
}

/// A record that may lead somewhere.
#[derive(Debug)]
struct Candidate {
    endpoint: Endpoint,
    /// The name under a key that the record points to.
    target: Option<(Name, PublicKey)>,
    depth: usize,
}

impl Resolution {
    /// Resolves a name under a key, or the host of an URL. Equal priorities are shuffled by `seed`.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn new(query: &str, service: Service, seed: &Seed) -> Result<Self, QueryError> {
        let key = query.parse().map_err(QueryError::Key)?;
        let name = host(query).parse().map_err(QueryError::Name)?;
        Ok(Self {
            service,
            shuffle: seed.stream(Domain::Sample),
            asked: Some((name, key, 1)),
            pending: Vec::new(),
            seen: Vec::new(),
        })
    }

    /// What to do next. While a packet is waited for, it is asked for again.
    #[must_use]
    pub fn poll(&mut self) -> Step {
        if let Some((_, key, _)) = &self.asked {
            return Step::Ask(*key);
        }
        while let Some(Candidate { endpoint, target, depth }) = self.pending.pop() {
            let Some((name, key)) = target else { return Step::Endpoint(endpoint) };
            let seen = self.seen.iter().any(|seen| seen.is(&name));
            if depth < MAX_DEPTH && self.seen.len() < MAX_PACKETS && !seen {
                self.asked = Some((name, key, depth + 1));
                return Step::Ask(key);
            }
        }
        Step::Done
    }

    /// Takes the packet that was asked for, or the news that there is none. Anything else is ignored.
    pub fn handle_packet(&mut self, packet: Option<&SignedPacket>) {
        let Some((name, key, depth)) = self.asked.take() else { return };
        self.seen.push(name.clone());
        let Some(packet) = packet.filter(|packet| packet.public_key() == key) else { return };
        let records = packet.records();
        let Some(owner) = owner(&records, &name) else { return };
        let mut found: Vec<&Svcb> = at(&records, &owner)
            .filter_map(|record| match (&record.data, self.service) {
                (Rdata::Https(svcb), Service::Https) | (Rdata::Svcb(svcb), Service::Svcb) => {
                    Some(svcb)
                }
                _ => None,
            })
            .collect();
        found.sort_by_cached_key(|svcb| (svcb.priority, self.shuffle.next()));
        for svcb in found.into_iter().rev() {
            let here = svcb.target.is_root() || svcb.target.is(&name);
            let target = svcb.target.key().filter(|_| !here);
            self.pending.push(Candidate {
                target: target.map(|key| (svcb.target.clone(), key)),
                depth,
                endpoint: Endpoint {
                    public_key: key,
                    name: name.clone(),
                    host: (!here && target.is_none()).then(|| svcb.target.clone()),
                    addrs: if here { addrs(&records, &owner, key, svcb) } else { Vec::new() },
                    svcb: svcb.clone(),
                },
            });
        }
        debug_assert!(self.seen.len() <= MAX_PACKETS, "poll asks for no more");
    }
}

/// The records of one owner.
fn at<'a>(records: &'a [Record], owner: &'a Name) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(|record| record.name.is(owner))
}

/// The addresses of a service at the name of its record, or of its key, or those hinted at.
fn addrs(records: &[Record], owner: &Name, key: PublicKey, svcb: &Svcb) -> Vec<IpAddr> {
    for name in [owner, &Name::of_key(&key)] {
        let addrs: Vec<_> = at(records, name).filter_map(|record| record.data.ip()).collect();
        if !addrs.is_empty() {
            return addrs;
        }
    }
    svcb.ip_hints().collect()
}

#[cfg(test)]
mod tests;
