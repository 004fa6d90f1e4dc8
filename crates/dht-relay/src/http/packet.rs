//! Packets at `/{key}`.

use core::time::Duration;

use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, PublicKey, SignedPacket, Timestamp, TtlRange};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::{
    Asked, Context, Lookup, Publication, Reply, Step, limited, not_allowed, parameters, set, text,
};
use dht_pkarr_client::Origin;

use crate::backend::{Found, PublishError, ResolveError};
use crate::dns::Transport;
use crate::front::{Cached, Front, Known, Now};
use crate::lookups::Ticket;
use crate::quota::User;

/// The longest body of a `PUT` that is looked at, as in the reference implementation: a packet with
/// its key, although a payload has none and is refused from 1,073 bytes on.
const MAX_PAYLOAD_LEN: usize = SignedPacket::MAX_LEN;
const CONTENT_TYPE: &str = "application/pkarr.org/relays#payload";

/// On which condition a packet is wanted.
#[derive(Debug, Default)]
pub(super) struct Get {
    /// In seconds since the epoch.
    if_modified_since: Option<u64>,
    if_none_match: Option<String>,
}

impl Get {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            if_modified_since: date(headers, header::IF_MODIFIED_SINCE),
            if_none_match: value(headers, header::IF_NONE_MATCH).map(str::to_owned),
        }
    }

    /// Whether whoever asks has the packet already (RFC 9110, 13.2.2: the tag counts, if there is
    /// one). Dates are whole seconds, packets have microseconds: one signed within the second that
    /// is named may be newer.
    fn is_known(&self, packet: &SignedPacket) -> bool {
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => {
                let tag = etag(packet);
                tags.split(',').any(|known| {
                    let known = known.trim();
                    known == "*" || known.trim_start_matches("W/") == tag
                })
            }
            (None, Some(secs)) => packet.timestamp() <= Timestamp::from_secs(secs),
            (None, None) => false,
        }
    }
}

/// Where a packet comes from for one who asks.
pub(super) enum Sought {
    /// The cache, if it has one.
    Here(Option<CachedPacket>),
    /// The disk, if it has one.
    Disk,
    /// It is being looked up.
    Wait(Ticket),
    /// That must wait.
    Limited(Duration),
}

impl Front {
    /// Looks for a packet by a policy, without asking anybody if that is possible.
    pub(super) fn seek(
        &mut self,
        now: Now,
        user: User,
        key: &PublicKey,
        policy: Policy,
        cached: Cached<'_>,
    ) -> Sought {
        let known = if policy == Policy::NetworkOnly { Known::Nothing } else { cached(key) };
        let known = match known {
            Known::Packet(packet) => Some(packet),
            Known::Nothing => None,
            Known::Unread => return Sought::Disk,
        };
        if policy == Policy::CacheOnly {
            self.stats.cache_hits += u64::from(known.is_some());
            return Sought::Here(known);
        }
        let fresh = known.filter(|packet| !packet.is_expired(now.wall, self.options.ttl));
        if let Some(packet) = fresh {
            self.stats.cache_hits += 1;
            self.refresh(now, user, Transport::Http, &packet);
            return Sought::Here(Some(packet));
        }
        let begun = self.look_up(now, user, Transport::Http, *key, policy);
        begun.map_or_else(Sought::Limited, Sought::Wait)
    }

    pub(super) fn packet(
        &mut self,
        now: Now,
        user: User,
        request: &Request<&[u8]>,
        key: &str,
        context: Context,
        cached: Cached<'_>,
    ) -> Step {
        let method = request.method();
        if ![Method::GET, Method::HEAD, Method::PUT].contains(method) {
            return self.reply(context, not_allowed("GET,HEAD,PUT"));
        }
        let key = match self.points.key(key) {
            Ok(key) => key,
            Err(error) => {
                return self.reply(context, text(StatusCode::BAD_REQUEST, error.to_string()));
            }
        };
        if method == Method::PUT {
            self.put(now, user, request, &key, context, cached)
        } else {
            self.get(now, user, request, key, context, cached)
        }
    }

    fn get(
        &mut self,
        now: Now,
        user: User,
        request: &Request<&[u8]>,
        key: PublicKey,
        context: Context,
        cached: Cached<'_>,
    ) -> Step {
        let policy = match parameters(request).get("policy").map(String::as_str) {
            None => Policy::default(),
            Some("CacheOnly") => Policy::CacheOnly,
            Some("CacheFirst") => Policy::CacheFirst,
            Some("NetworkOnly") => Policy::NetworkOnly,
            Some(_) => {
                let what = "policy is CacheOnly, CacheFirst or NetworkOnly";
                return self.reply(context, text(StatusCode::BAD_REQUEST, what));
            }
        };
        let get = Get::of(request.headers());
        match self.seek(now, user, &key, policy, cached) {
            Sought::Here(known) => {
                let known = known.map(|packet| Found { packet, origin: Origin::Cache });
                let known = known.as_ref().ok_or(&ResolveError::NotFound);
                let reply = found(&get, now, self.options.ttl, known);
                self.reply(context, reply)
            }
            Sought::Disk => self.unread(key, user, context),
            Sought::Wait(ticket) => {
                let asked = Asked::Packet(get);
                Step::Resolve(Box::new(Lookup { ticket, asked, context }))
            }
            Sought::Limited(wait) => self.reply(context, limited("too many lookups", wait)),
        }
    }

    fn put(
        &mut self,
        now: Now,
        user: User,
        request: &Request<&[u8]>,
        key: &PublicKey,
        context: Context,
        cached: Cached<'_>,
    ) -> Step {
        let known = match cached(key) {
            Known::Packet(packet) => Some(packet),
            Known::Nothing => None,
            Known::Unread => return self.unread(*key, user, context),
        };
        let read = self.read_packet(request, key, known);
        let (packet, cas) = match read {
            Ok(read) => read,
            Err(reply) => return self.reply(context, *reply),
        };
        // Nothing is published without a token of its user.
        if let Err(wait) = self.take_work(now, user, Transport::Http) {
            return self.reply(context, limited("too many publications", wait));
        }
        self.stats.publications += 1;
        self.publishing.insert(*key, packet.timestamp());
        Step::Publish(Box::new(Publication { packet, cas, context }))
    }

    /// The packet of a `PUT`, if nothing that is known here speaks against it, and the version that it
    /// may replace.
    fn read_packet(
        &mut self,
        request: &Request<&[u8]>,
        key: &PublicKey,
        known: Option<CachedPacket>,
    ) -> Result<(SignedPacket, Option<Timestamp>), Box<Reply>> {
        let body = request.body();
        if body.len() > MAX_PAYLOAD_LEN {
            let what = "the body is too long for any packet";
            return Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, what)));
        }
        let cas = if_match(request.headers())?;
        let packet = SignedPacket::from_relay_payload(key, body)
            .map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, error.to_string())))?;
        let conflict = |status, what: &str| Err(Box::new(text(status, what)));
        let result = match (known, self.publishing.get(key)) {
            (Some(known), _) if known.packet.more_recent_than(&packet) => {
                conflict(StatusCode::CONFLICT, "there is a newer packet of this key")
            }
            // An older version here may only mean that we have not seen the one that is meant.
            (Some(known), _) if cas.is_some_and(|cas| known.packet.timestamp() > cas) => {
                conflict(StatusCode::PRECONDITION_FAILED, "the packet has changed since")
            }
            (Some(known), _) if unmodified_since(request.headers(), cas, &known) => {
                conflict(StatusCode::PRECONDITION_FAILED, "the packet has changed since")
            }
            (_, Some(other)) if *other >= packet.timestamp() => {
                conflict(StatusCode::CONFLICT, "another packet of this key is being published")
            }
            (_, Some(other)) if cas.is_some_and(|cas| cas != *other) => {
                conflict(StatusCode::PRECONDITION_FAILED, "another packet is being published")
            }
            (_, Some(_)) if cas.is_none() => conflict(
                StatusCode::PRECONDITION_REQUIRED,
                "an older packet of this key is being published; name it with If-Match, or wait",
            ),
            _ => Ok((packet, cas)),
        };
        self.stats.conflicts += u64::from(result.is_err());
        result
    }
}

/// The version that a `PUT` may replace, as clients of 2025 and 2026 say it: in microseconds; or our
/// own tag of it.
fn if_match(headers: &HeaderMap) -> Result<Option<Timestamp>, Box<Reply>> {
    let Some(text) = value(headers, header::IF_MATCH).filter(|text| *text != "*") else {
        return Ok(None);
    };
    let digits = text.trim_matches('"').split('-').next().unwrap_or_default();
    let cas = digits.parse().ok().and_then(Timestamp::from_micros);
    let what = "If-Match is a timestamp in microseconds";
    cas.map(Some).ok_or_else(|| Box::new(super::text(StatusCode::BAD_REQUEST, what)))
}

/// Whether an older way to say so speaks against replacing what is known.
fn unmodified_since(headers: &HeaderMap, cas: Option<Timestamp>, known: &CachedPacket) -> bool {
    let since = date(headers, header::IF_UNMODIFIED_SINCE);
    cas.is_none() && since.is_some_and(|secs| known.packet.timestamp().as_secs() > secs)
}

fn value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A date in seconds since the epoch; what is none is ignored (RFC 9110, 13.1.3).
fn date(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    dht_pkarr_client::parse_http_date(value(headers, name)?)
}

/// A time as HTTP has it. Owners of keys may date packets as they like.
pub(super) fn http_date(time: Timestamp) -> String {
    dht_pkarr_client::http_date(time.as_secs())
}

/// The tag of a packet: its version, and some of its signature, as there may be two of one version.
fn etag(packet: &SignedPacket) -> String {
    let [a, b, c, d, ..] = packet.signature();
    format!("\"{}-{a:02x}{b:02x}{c:02x}{d:02x}\"", packet.timestamp())
}

/// The reply to one who asked for a packet.
pub(super) fn found(
    get: &Get,
    now: Now,
    ttl: TtlRange,
    result: Result<&Found, &ResolveError>,
) -> Reply {
    let found = match result {
        Ok(found) => &found.packet,
        Err(error) => return not_found(*error),
    };
    let packet = &found.packet;
    let mut reply = Response::new(Vec::new());
    // As many as there are, with those that all replies have.
    *reply.headers_mut() = HeaderMap::with_capacity(12);
    if get.is_known(packet) {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *reply.body_mut() = packet.relay_payload().to_vec();
        let kind = HeaderValue::from_static(CONTENT_TYPE);
        reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    set(&mut reply, "cache-control", format!("public, max-age={}", packet.ttl(ttl)));
    reply.headers_mut().insert(header::AGE, now.wall.secs_since(found.last_seen).into());
    set(&mut reply, "last-modified", http_date(packet.timestamp()));
    set(&mut reply, "memento-datetime", http_date(found.last_seen));
    set(&mut reply, "etag", etag(packet));
    reply
}

/// Why there is no packet, in words.
pub(super) const fn reason(error: ResolveError) -> (StatusCode, &'static str) {
    match error {
        ResolveError::NotFound => (StatusCode::NOT_FOUND, "there is no packet of this key"),
        ResolveError::NotAPacket { .. } => {
            (StatusCode::NOT_FOUND, "what the owner of this key stored last is no packet")
        }
        ResolveError::NoAnswer => {
            (StatusCode::SERVICE_UNAVAILABLE, "nobody answered; try again later")
        }
    }
}

fn not_found(error: ResolveError) -> Reply {
    let (status, what) = reason(error);
    let mut reply = text(status, what);
    if let ResolveError::NotAPacket { seq } = error {
        set(&mut reply, "pkarr-invalid-signed-packet-seq", seq);
    }
    reply
}

/// The reply to one who published a packet.
pub(super) fn published(result: Result<u32, PublishError>) -> Reply {
    match result {
        Ok(stored) => {
            let mut reply = Response::new(Vec::new());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            set(&mut reply, "pkarr-dht-stored-nodes", stored);
            reply
        }
        Err(PublishError::NotMostRecent) => {
            text(StatusCode::CONFLICT, "the DHT has a newer packet of this key")
        }
        Err(PublishError::CasFailed) => {
            text(StatusCode::PRECONDITION_FAILED, "the DHT has another version than the one named")
        }
        Err(PublishError::Unfit(why)) => text(StatusCode::BAD_REQUEST, why),
        Err(PublishError::Failed(why)) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}
