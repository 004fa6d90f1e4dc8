//! Packets record by record.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{BuildError, SignedPacket};
use crate::key::Keypair;
use crate::name::{Name, NameError};
use crate::record::{Rdata, Record, Svcb, Txt};
use crate::time::Timestamp;

/// Collects the records of a packet.
///
/// Names are texts; those that do not end in the key stand below it, and `.` or `@` is the key
/// itself. A name that is none is reported by [`Builder::sign`].
#[derive(Clone, Debug)]
pub struct Builder {
    records: Result<Vec<Record>, NameError>,
}

impl Builder {
    pub(super) const fn new() -> Self {
        Self { records: Ok(Vec::new()) }
    }

    /// Any record.
    #[must_use]
    pub fn record(mut self, record: Record) -> Self {
        if let Ok(records) = &mut self.records {
            records.push(record);
        }
        self
    }

    /// Any data under a name.
    #[must_use]
    pub fn data(mut self, name: &str, data: Rdata, ttl: u32) -> Self {
        match name.parse() {
            Ok(name) => self.record(Record::new(name, ttl, data)),
            Err(error) => {
                self.records = self.records.and(Err(error));
                self
            }
        }
    }

    /// An IPv4 address.
    #[must_use]
    pub fn a(self, name: &str, ip: Ipv4Addr, ttl: u32) -> Self {
        self.data(name, Rdata::A(ip), ttl)
    }

    /// An IPv6 address.
    #[must_use]
    pub fn aaaa(self, name: &str, ip: Ipv6Addr, ttl: u32) -> Self {
        self.data(name, Rdata::Aaaa(ip), ttl)
    }

    /// An address of either family.
    #[must_use]
    pub fn address(self, name: &str, ip: IpAddr, ttl: u32) -> Self {
        self.data(name, ip.into(), ttl)
    }

    /// Another name for this one.
    #[must_use]
    pub fn cname(self, name: &str, target: Name, ttl: u32) -> Self {
        self.data(name, Rdata::Cname(target), ttl)
    }

    /// A name server.
    #[must_use]
    pub fn ns(self, name: &str, server: Name, ttl: u32) -> Self {
        self.data(name, Rdata::Ns(server), ttl)
    }

    /// Text.
    #[must_use]
    pub fn txt(self, name: &str, text: impl Into<Txt>, ttl: u32) -> Self {
        self.data(name, Rdata::Txt(text.into()), ttl)
    }

    /// Where the web server is.
    #[must_use]
    pub fn https(self, name: &str, svcb: Svcb, ttl: u32) -> Self {
        self.data(name, Rdata::Https(svcb), ttl)
    }

    /// Where the service is.
    #[must_use]
    pub fn svcb(self, name: &str, svcb: Svcb, ttl: u32) -> Self {
        self.data(name, Rdata::Svcb(svcb), ttl)
    }

    #[cfg(test)]
    pub(super) fn records_for_tests(self) -> Vec<Record> {
        self.records.unwrap()
    }

    /// Signs the records. `timestamp` makes the version: see [`Timestamp::after`].
    ///
    /// # Errors
    /// If a name is none, or the records take too much room.
    pub fn sign(self, keypair: &Keypair, timestamp: Timestamp) -> Result<SignedPacket, BuildError> {
        SignedPacket::sign(keypair, timestamp, self.records?)
    }
}
