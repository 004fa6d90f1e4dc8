//! Setting a client up.

use core::fmt;
use core::time::Duration;

use dht_pkarr::TtlRange;
use dht_pkarr::resolve::MAX_RELAYS;
#[cfg(feature = "https")]
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::cache::PacketCache;
use crate::relay::{self, Relay};

/// How long the DHT and each relay are waited for, unless the builder is told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// There is neither DHT nor relay.
    NoNetwork,
    /// A relay cannot be used.
    Relay {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More relays than [`MAX_RELAYS`].
    TooManyRelays,
    /// What should be certificates are none.
    Certificates(&'static str),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetwork => f.write_str("a client needs a DHT or a relay"),
            Self::Relay { url, why } => write!(f, "the relay {url} cannot be used: {why}"),
            Self::TooManyRelays => write!(f, "more than {MAX_RELAYS} relays"),
            Self::Certificates(why) => write!(f, "the certificates cannot be used: {why}"),
        }
    }
}

impl core::error::Error for BuildError {}

/// Sets a client up; `Dht` is the handle of one of the runtimes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<Dht> {
    pub(crate) dht: Option<Dht>,
    relays: Vec<String>,
    cache: PacketCache,
    ttl: TtlRange,
    timeout: Duration,
    #[cfg(feature = "https")]
    trusted: RootCerts,
}

impl<Dht> Builder<Dht> {
    pub(crate) fn new() -> Self {
        Self {
            dht: None,
            relays: Vec::new(),
            cache: PacketCache::default(),
            ttl: TtlRange::default(),
            timeout: DEFAULT_TIMEOUT,
            #[cfg(feature = "https")]
            trusted: RootCerts::WebPki,
        }
    }

    /// Asks this node's DHT. Without, there are only relays.
    pub fn dht(mut self, dht: Dht) -> Self {
        self.dht = Some(dht);
        self
    }

    /// Asks this relay too, for example `http://127.0.0.1:6881`; repeatable.
    pub fn relay(mut self, url: impl Into<String>) -> Self {
        self.relays.push(url.into());
        self
    }

    /// Keeps packets here, which other clients may share. Otherwise the client has
    /// [a cache of its own](PacketCache::default).
    pub fn cache(mut self, cache: PacketCache) -> Self {
        self.cache = cache;
        self
    }

    /// For how long packets are fresh.
    pub fn ttl(mut self, range: TtlRange) -> Self {
        self.ttl = range;
        self
    }

    /// Waits this long for the DHT and for each relay, all of which are asked at once.
    /// [`DEFAULT_TIMEOUT`] otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Believes a relay whose URL begins with https if one of these certificates vouches for it, or is its
    /// own, and no other; they are in PEM, as files have them. Without, whom Mozilla trusts may vouch.
    ///
    /// # Errors
    /// [`BuildError::Certificates`] if there is none, or something else.
    #[cfg(feature = "https")]
    pub fn trust(mut self, pem: &[u8]) -> Result<Self, BuildError> {
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Ok(certificate),
            Ok(_) => Err(BuildError::Certificates("there is a secret key among them")),
            Err(_) => Err(BuildError::Certificates("they are cut off, or no PEM")),
        };
        let certificates: Vec<_> = parse_pem(pem).map(certificate).collect::<Result<_, _>>()?;
        if certificates.is_empty() {
            return Err(BuildError::Certificates("there is none in PEM"));
        }
        self.trusted = RootCerts::new_with_certs(&certificates);
        Ok(self)
    }

    /// What both clients share.
    pub(crate) fn shared(&self) -> Result<Shared, BuildError> {
        if self.dht.is_none() && self.relays.is_empty() {
            return Err(BuildError::NoNetwork);
        }
        if self.relays.len() > MAX_RELAYS {
            return Err(BuildError::TooManyRelays);
        }
        let config = relay::config(self.timeout);
        #[cfg(feature = "https")]
        let config =
            config.tls_config(TlsConfig::builder().root_certs(self.trusted.clone()).build());
        let agent = config.build().new_agent();
        let relays = self.relays.iter().map(|url| Relay::new(url, agent.clone()));
        Ok(Shared {
            relays: relays.collect::<Result<_, _>>()?,
            cache: self.cache.clone(),
            ttl: self.ttl,
            timeout: self.timeout,
            dht: self.dht.is_some(),
        })
    }
}

/// What does not depend on the runtime.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) relays: Vec<Relay>,
    pub(crate) cache: PacketCache,
    pub(crate) ttl: TtlRange,
    pub(crate) timeout: Duration,
    /// Whether there is a DHT to ask.
    pub(crate) dht: bool,
}

#[cfg(all(test, feature = "https"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let part = |name: &str| format!("-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n");
        let (certificate, key) = (part("CERTIFICATE"), part("PRIVATE KEY"));
        let trust = |pem: &str| Builder::<()>::new().trust(pem.as_bytes()).map(drop);
        assert_eq!(trust(&certificate), Ok(()));
        for (pem, why) in [
            (String::new(), "none in PEM"),
            ("no PEM at all".to_owned(), "none in PEM"),
            (certificate[..40].to_owned(), "cut off"),
            (certificate + &key, "secret key"),
        ] {
            let error = trust(&pem).unwrap_err().to_string();
            assert!(error.contains(why), "{pem}: {error}");
        }
    }
}
