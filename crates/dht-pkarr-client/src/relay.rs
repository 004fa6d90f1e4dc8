//! Relays: packets over HTTP, for those whom UDP does not reach.

use core::fmt;
use core::time::Duration;
use std::io::Read as _;
use std::time::{SystemTime, UNIX_EPOCH};

use dht_pkarr::publish::RelayAnswer;
use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, PacketError, PublicKey, SignedPacket, Timestamp};
use ureq::config::ConfigBuilder;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

use crate::build::BuildError;

/// The longest body that is read: a whole packet, more than a relay should send.
const MAX_BODY: u64 = SignedPacket::MAX_LEN as u64;
/// How much of a relay's reason is read.
const MAX_REASON: u64 = 200;
/// How many nodes stored a packet, in the answer to a PUT.
const STORED_NODES: &str = "pkarr-dht-stored-nodes";
/// The version of what is no packet, in the answer to a GET.
const NOT_A_PACKET_SEQ: &str = "pkarr-invalid-signed-packet-seq";
/// When a packet was last seen (RFC 7089).
const MEMENTO: &str = "memento-datetime";
/// Past all caches on the way.
const NO_CACHE: &str = "no-cache, no-store, must-revalidate";

/// Why a relay was of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayError {
    /// It could not be reached, or did not answer in time.
    Unreachable(String),
    /// Nobody who is trusted vouches for its certificate, or that is for another name, or has expired.
    Certificate(String),
    /// It wants fewer requests (429).
    Limited {
        /// When to come back, in seconds, if it says so.
        retry_after: Option<u64>,
    },
    /// It has a newer packet, or another one than expected, or is busy with one (409, 412, 428).
    Conflict,
    /// It found nobody in the DHT to ask (503).
    NoNodes,
    /// It answered with another status.
    Status {
        /// The status.
        status: u16,
        /// What it said about it.
        reason: String,
    },
    /// It sent what is no packet of the key.
    Packet(PacketError),
    /// Its answer breaks the rules.
    Malformed(&'static str),
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::Certificate(why) => write!(
                f,
                "its certificate is not to be trusted: {why}; see that this is its address, or name \
                 the authority that vouches for it"
            ),
            Self::Limited { retry_after: Some(secs) } => {
                write!(f, "it wants fewer requests (429); try again in {secs} s")
            }
            Self::Limited { retry_after: None } => f.write_str("it wants fewer requests (429)"),
            Self::Conflict => f.write_str("it has a newer packet or another one than expected"),
            Self::NoNodes => f.write_str("it found no nodes of the DHT to ask (503)"),
            Self::Status { status, reason } if reason.is_empty() => write!(f, "status {status}"),
            Self::Status { status, reason } => write!(f, "status {status}: {reason}"),
            Self::Packet(error) => write!(f, "what it sent is no packet: {error}"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for RelayError {}

/// What a relay knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// This packet.
    Packet(CachedPacket),
    /// Nothing, or nothing newer.
    Nothing,
    /// An item of this version that is no packet.
    NotAPacket(i64),
}

/// How relays are spoken to.
pub(crate) fn config(timeout: Duration) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(timeout))
        // A relay that moved is for its user to know; and nobody sends us where he likes.
        .max_redirects(0)
        .user_agent(concat!("dht-pkarr-client/", env!("CARGO_PKG_VERSION")))
}

/// A relay.
#[derive(Clone)]
pub(crate) struct Relay {
    /// Without a slash at the end.
    url: String,
    agent: Agent,
}

impl Relay {
    /// With an agent of [`config`].
    pub(crate) fn new(url: &str, agent: Agent) -> Result<Self, BuildError> {
        let url = url.trim_end_matches('/');
        let bad = |why| BuildError::Relay { url: url.to_owned(), why };
        let uri: ureq::http::Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "https") => {}
            Some("https") => {
                return Err(bad("this program was built without the feature `https`"));
            }
            _ => return Err(bad("its URL must begin with http:// or https://")),
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(bad("its URL must have a host, and no query"));
        }
        Ok(Self { url: url.to_owned(), agent })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks for a packet that is not older than `newer_than`.
    pub(crate) fn get(
        &self,
        now: Timestamp,
        key: &PublicKey,
        policy: Policy,
        newer_than: Option<Timestamp>,
    ) -> Result<Known, RelayError> {
        // Dates have whole seconds, so that versions of the same second must not be missed.
        let since = newer_than.map(|version| version.as_secs().saturating_sub(1));
        let no_cache = policy == Policy::NetworkOnly;
        let known = self.try_get(now, key, policy, since, no_cache)?;
        match known {
            Some(known) => Ok(known),
            // A cache on the way answered for others.
            None if no_cache => Err(RelayError::Malformed("it answers with nothing")),
            None => self
                .try_get(now, key, policy, None, true)?
                .ok_or(RelayError::Malformed("it answers with nothing")),
        }
    }

    /// One request. `None` is an answer that makes no sense to this question.
    fn try_get(
        &self,
        now: Timestamp,
        key: &PublicKey,
        policy: Policy,
        since: Option<u64>,
        no_cache: bool,
    ) -> Result<Option<Known>, RelayError> {
        let mut request = self.agent.get(format!("{}/{key}", self.url));
        request = request.query("policy", policy_name(policy));
        if let Some(since) = since {
            request = request.header(header::IF_MODIFIED_SINCE, http_date(since));
        }
        if no_cache {
            request = request.header(header::CACHE_CONTROL, NO_CACHE);
        }
        let mut response = request.call().map_err(|error| unreachable(&error))?;
        match response.status() {
            StatusCode::NOT_FOUND => {
                let seq = number(response.headers(), NOT_A_PACKET_SEQ);
                Ok(Some(seq.map_or(Known::Nothing, Known::NotAPacket)))
            }
            StatusCode::NOT_MODIFIED => Ok(since.map(|_| Known::Nothing)),
            status if status.is_success() => {
                let seen = last_seen(response.headers(), now);
                let payload = body(&mut response)?;
                if payload.is_empty() {
                    return Ok(None);
                }
                let packet =
                    SignedPacket::from_relay_payload(key, &payload).map_err(RelayError::Packet)?;
                Ok(Some(Known::Packet(CachedPacket::new(packet, seen))))
            }
            status => Err(refusal(status, &mut response)),
        }
    }

    /// Hands a packet in; only in place of the one of the time `cas`, if the relay still heeds that.
    pub(crate) fn put(
        &self,
        packet: &SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<u32, RelayError> {
        let mut request = self.agent.put(format!("{}/{}", self.url, packet.public_key()));
        if let Some(cas) = cas {
            request = request.header(header::IF_MATCH, cas.to_string());
        }
        let mut response =
            request.send(packet.relay_payload()).map_err(|error| unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, &mut response));
        }
        match response.headers().get(STORED_NODES) {
            // Older relays do not say.
            None => Ok(1),
            Some(_) => number(response.headers(), STORED_NODES).ok_or(RelayError::Malformed(
                "it says how many nodes stored it, but not in digits",
            )),
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({})", self.url)
    }
}

/// What a PUT means for the count; nothing if nobody was there.
pub(crate) const fn answer(put: &Result<u32, RelayError>) -> Option<RelayAnswer> {
    match put {
        Ok(nodes) => Some(RelayAnswer::Stored(*nodes)),
        Err(RelayError::Conflict) => Some(RelayAnswer::Conflict),
        Err(RelayError::Unreachable(_) | RelayError::Certificate(_) | RelayError::NoNodes) => None,
        Err(_) => Some(RelayAnswer::Refused),
    }
}

const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::CacheOnly => "CacheOnly",
        Policy::NetworkOnly => "NetworkOnly",
        Policy::CacheFirst | _ => "CacheFirst",
    }
}

fn unreachable(error: &ureq::Error) -> RelayError {
    #[cfg(feature = "https")]
    if let ureq::Error::Io(io) = error
        && let Some(tls) = io.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())
        && let rustls::Error::InvalidCertificate(why) = tls
    {
        return RelayError::Certificate(why.to_string());
    }
    RelayError::Unreachable(error.to_string())
}

fn refusal(status: StatusCode, response: &mut Response<Body>) -> RelayError {
    match status.as_u16() {
        // Older relays say so in three ways.
        409 | 412 | 428 => RelayError::Conflict,
        429 => RelayError::Limited {
            retry_after: number(response.headers(), header::RETRY_AFTER.as_str()),
        },
        503 => RelayError::NoNodes,
        status => {
            let mut text = Vec::new();
            // What comes before an error, or before the limit, says something, too.
            let _ = response.body_mut().as_reader().take(MAX_REASON).read_to_end(&mut text);
            let text = String::from_utf8_lossy(&text);
            let reason = text.lines().next().unwrap_or_default().trim().to_owned();
            RelayError::Status { status, reason }
        }
    }
}

fn body(response: &mut Response<Body>) -> Result<Vec<u8>, RelayError> {
    let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec();
    body.map_err(|error| {
        if matches!(error, ureq::Error::BodyExceedsLimit(_)) {
            RelayError::Packet(PacketError::TooLong)
        } else {
            unreachable(&error)
        }
    })
}

fn number<T: core::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// When the relay saw the packet last; now, if it does not say or its clock is ahead.
fn last_seen(headers: &HeaderMap, now: Timestamp) -> Timestamp {
    let date = headers.get(MEMENTO).and_then(|value| value.to_str().ok());
    date.and_then(parse_http_date).map_or(now, |secs| Timestamp::from_secs(secs).min(now))
}

/// A time as HTTP writes it (RFC 9110, 5.6.7).
#[must_use]
pub fn http_date(secs: u64) -> String {
    // What lies beyond the year 9999 cannot be written, and means the same.
    let secs = secs.min(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs))
}

/// Reads what [`http_date`] writes, and the two older forms; seconds since the epoch.
#[must_use]
pub fn parse_http_date(text: &str) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        // The vector of the reference implementation.
        let text = "Tue, 14 Nov 2023 22:13:20 GMT";
        assert_eq!(http_date(1_700_000_000), text);
        assert_eq!(parse_http_date(text), Some(1_700_000_000));
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"] {
            assert_eq!(parse_http_date(text), Some(784_111_777), "{text}");
        }
        assert_eq!(parse_http_date(&http_date(u64::MAX)), Some(253_402_300_799));
        for bad in ["", "now", "1700000000", "Tue, 14 Nov 2023 22:13:20 CET"] {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls_of_relays_have_a_scheme_and_a_host() {
        let agent = config(Duration::from_secs(1)).build().new_agent();
        let new = |url| Relay::new(url, agent.clone());
        for (url, kept) in [
            ("http://127.0.0.1:6881", "http://127.0.0.1:6881"),
            ("http://relay.example/", "http://relay.example"),
            ("http://relay.example/pkarr/", "http://relay.example/pkarr"),
        ] {
            assert_eq!(new(url).unwrap().url(), kept);
        }
        for bad in ["", "relay.example", "ftp://relay.example", "http://", "http://h/?q", "::"] {
            let error = new(bad).unwrap_err().to_string();
            assert!(error.contains("URL"), "{bad}: {error}");
        }
        assert_eq!(new("https://relay.example").is_ok(), cfg!(feature = "https"));
    }
}
