//! The relay over HTTP: from requests to replies, and what has to be resolved or published between.
//!
//! Packets are at `/{key}` (`GET`, `HEAD`, `PUT`), DNS at `/dns-query` (RFC 8484), and for people there
//! are a page at `/` and its data at `/records`.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use dht_pkarr::{PublicKey, SignedPacket, Timestamp};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::backend::{Found, PublishError, ResolveError};
use crate::dns;
use crate::front::{Cached, Front, Now};
use crate::lookups::Ticket;
use crate::quota::{Allowance, User};

mod cors;
mod doh;
mod packet;
mod page;
mod proxy;
#[cfg(test)]
mod tests;
mod uri;

pub use self::proxy::{ProxyHeader, user};

use self::doh::Form;
use self::packet::Get;
use self::page::Page;

/// The longest body of a request that is looked at: a DNS query of this length is no honest one, and
/// packets are shorter.
pub const MAX_BODY_LEN: usize = 4_096;

/// A whole reply.
pub type Reply = Response<Vec<u8>>;

/// What to do for a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send this.
    Reply(Reply),
    /// Look for [`Unread::key`] on disk, and give the request again, to [`Front::handle_http_read`].
    Read(Box<Unread>),
    /// Wait for the resolution of [`Lookup::ticket`], and give its result to
    /// [`Front::handle_http_found`].
    Resolve(Box<Lookup>),
    /// Publish [`Publication::packet`], and give the result to [`Front::handle_http_published`]; or
    /// call [`Front::abandon`].
    Publish(Box<Publication>),
    /// Do what [`dns::Step`] says, and give the last reply to [`Front::handle_http_answered`].
    Dns(Box<DnsRequest>, dns::Step),
}

/// A request that waits for the disk.
#[derive(Debug)]
pub struct Unread {
    key: PublicKey,
    user: User,
    context: Context,
}

impl Unread {
    /// Whose packet may be there.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
}

/// A request that waits for the packet of a key.
#[derive(Debug)]
pub struct Lookup {
    ticket: Ticket,
    asked: Asked,
    context: Context,
}

/// What the packet is for.
#[derive(Debug)]
enum Asked {
    Packet(Get),
    Page(Page),
}

impl Lookup {
    /// The resolution of the key.
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        self.ticket
    }
}

/// A request that waits for its packet to be published.
#[derive(Debug)]
pub struct Publication {
    packet: SignedPacket,
    cas: Option<Timestamp>,
    context: Context,
}

impl Publication {
    /// What to publish.
    #[must_use]
    pub const fn packet(&self) -> &SignedPacket {
        &self.packet
    }

    /// The version that it may replace; any older one if there is none.
    #[must_use]
    pub const fn cas(&self) -> Option<Timestamp> {
        self.cas
    }
}

/// A request that waits for an answer of DNS.
#[derive(Debug)]
pub struct DnsRequest {
    form: Form,
    context: Context,
}

/// A request whose head was taken: a token was paid for it.
#[derive(Debug)]
#[must_use = "its token is paid"]
pub struct Admitted {
    user: User,
    context: Context,
}

/// What every reply needs of its request.
#[derive(Debug)]
struct Context {
    head: bool,
    /// The page that asks, if one does.
    origin: Option<HeaderValue>,
    allowance: Option<Allowance>,
}

impl Front {
    /// Takes the head of a request of a user ([`user`] says whose it is): its body is to be read only if
    /// this says so. `Err` is the reply to a request over the quota.
    ///
    /// # Errors
    /// If the user has no token left.
    pub fn admit_http(
        &mut self,
        now: Now,
        user: User,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Admitted, Box<Reply>> {
        self.stats.http_requests += 1;
        let allowance = self.http.take(now.elapsed, user);
        let head = *method == Method::HEAD;
        let context = Context { head, origin: cors::origin(headers), allowance };
        if let Some(wait) = allowance.and_then(|allowance| allowance.wait) {
            self.stats.http_limited += 1;
            return Err(Box::new(self.close(context, limited("too many requests", wait))));
        }
        Ok(Admitted { user, context })
    }

    /// The reply to a request whose body does not come.
    pub fn handle_http_late(&mut self, admitted: Admitted) -> Reply {
        let what = "the body of the request did not come in time";
        self.close(admitted.context, text(StatusCode::REQUEST_TIMEOUT, what))
    }

    /// Takes a request that was admitted, of whose body there may be more if it is longer than
    /// [`MAX_BODY_LEN`].
    pub fn handle_http(
        &mut self,
        now: Now,
        admitted: Admitted,
        request: &Request<&[u8]>,
        cached: Cached<'_>,
    ) -> Step {
        let Admitted { user, context } = admitted;
        if request.method() == Method::OPTIONS {
            return self.reply(context, cors::preflight(request.headers()));
        }
        self.route(now, user, request, context, cached)
    }

    /// Takes a request again, now that `cached` knows the key for which it had to look on disk.
    pub fn handle_http_read(
        &mut self,
        now: Now,
        request: &Request<&[u8]>,
        unread: Unread,
        cached: Cached<'_>,
    ) -> Step {
        let Unread { user, context, .. } = unread;
        self.route(now, user, request, context, cached)
    }

    fn route(
        &mut self,
        now: Now,
        user: User,
        request: &Request<&[u8]>,
        context: Context,
        cached: Cached<'_>,
    ) -> Step {
        match request.uri().path() {
            "/" if self.options.relay => self.page(now, user, request, context, true, cached),
            "/records" if self.options.relay => {
                self.page(now, user, request, context, false, cached)
            }
            "/dns-query" if self.options.doh => self.doh(now, user, request, context, cached),
            path => match path.strip_prefix('/') {
                Some(key) if self.options.relay && !key.is_empty() && !key.contains('/') => {
                    self.packet(now, user, request, &uri::decode(key), context, cached)
                }
                _ => self.reply(context, text(StatusCode::NOT_FOUND, "there is nothing here")),
            },
        }
    }

    /// Takes what became of the key that a request waits for.
    pub fn handle_http_found(
        &mut self,
        now: Now,
        lookup: Lookup,
        result: Result<Found, ResolveError>,
    ) -> Reply {
        let reply = match &lookup.asked {
            Asked::Packet(get) => packet::found(get, now, self.options.ttl, result.as_ref()),
            Asked::Page(page) => page.found(now, self.options.ttl, result),
        };
        self.close(lookup.context, reply)
    }

    /// Takes how publishing went: at how many nodes the packet is.
    pub fn handle_http_published(
        &mut self,
        publication: Publication,
        result: Result<u32, PublishError>,
    ) -> Reply {
        let key = publication.packet.public_key();
        self.abandon(&publication.packet);
        match &result {
            Ok(_) => self.absent.remove(&key),
            Err(PublishError::Failed(_) | PublishError::Unfit(_)) => {
                self.stats.publications_failed += 1;
            }
            Err(PublishError::NotMostRecent | PublishError::CasFailed) => self.stats.conflicts += 1,
        }
        self.close(publication.context, packet::published(result))
    }

    /// Takes the last reply of DNS that a request waits for; `None` if there is none.
    pub fn handle_http_answered(&mut self, request: DnsRequest, reply: Option<&[u8]>) -> Reply {
        let answer = request.form.answer(reply);
        self.close(request.context, answer)
    }

    /// The packet is not being published any more: it is, or the request was given up.
    pub fn abandon(&mut self, packet: &SignedPacket) {
        let key = packet.public_key();
        if self.publishing.get(&key) == Some(&packet.timestamp()) {
            self.publishing.remove(&key);
        }
    }

    fn unread(&mut self, key: PublicKey, user: User, context: Context) -> Step {
        self.stats.disk_reads += 1;
        Step::Read(Box::new(Unread { key, user, context }))
    }

    fn reply(&mut self, context: Context, reply: Reply) -> Step {
        Step::Reply(self.close(context, reply))
    }

    /// Adds what every reply has, and counts it.
    fn close(&mut self, context: Context, mut reply: Reply) -> Reply {
        let status = reply.status();
        *match status.as_u16() {
            304 => &mut self.stats.http_not_modified,
            400..=499 => &mut self.stats.http_client_errors,
            500.. => &mut self.stats.http_server_errors,
            _ => &mut self.stats.http_ok,
        } += 1;
        if let Some(allowance) = context.allowance {
            set(&mut reply, "x-ratelimit-limit", allowance.limit);
            set(&mut reply, "x-ratelimit-remaining", allowance.remaining);
        }
        if context.head && !reply.body().is_empty() {
            // The length is what GET would give.
            let len = reply.body().len();
            set(&mut reply, "content-length", len);
            reply.body_mut().clear();
        }
        cors::add(reply.headers_mut(), context.origin);
        reply
    }
}

/// A reply with a text for people.
fn text(status: StatusCode, text: impl AsRef<str>) -> Reply {
    let mut reply = Response::new(format!("{}\n", text.as_ref()).into_bytes());
    *reply.status_mut() = status;
    set(&mut reply, "content-type", "text/plain; charset=utf-8");
    // What is wrong now need not be in a moment.
    set(&mut reply, "cache-control", "no-store");
    reply
}

/// A reply to what is over a quota.
fn limited(what: &str, wait: Duration) -> Reply {
    let reply = text(StatusCode::TOO_MANY_REQUESTS, what);
    told_to_wait(reply, wait)
}

/// Says when to come again.
fn told_to_wait(mut reply: Reply, wait: Duration) -> Reply {
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    set(&mut reply, "retry-after", secs);
    set(&mut reply, "x-ratelimit-after", secs);
    reply
}

/// A reply to a method that a path does not have.
fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here");
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// Sets a header whose value is made of printable ASCII.
fn set(reply: &mut Reply, name: &'static str, value: impl fmt::Display) {
    if let Ok(value) = HeaderValue::try_from(format!("{value}")) {
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// The parameters of a request's query; the first of each name counts.
fn parameters(request: &Request<&[u8]>) -> BTreeMap<String, String> {
    request.uri().query().map(uri::parameters).unwrap_or_default()
}
