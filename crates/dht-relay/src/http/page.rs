//! The page for people, with or without a script, and its data.

use core::fmt::Write as _;

use dht_pkarr::record::kind;
use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, PublicKey, Timestamp, TtlRange};
use dht_pkarr_client::Origin;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::packet::{Sought, http_date, reason};
use super::{Asked, Context, Lookup, Reply, Step, not_allowed, parameters, set, told_to_wait};
use crate::backend::{Found, ResolveError};
use crate::front::{Cached, Front, Now};
use crate::quota::User;

const PAGE: &str = include_str!("page.html");
/// Where the result stands in the page.
const RESULT: &str = "<!--result-->";
/// Where the name that was asked for stands.
const NAME: &str = "<!--name-->";

/// Somebody who looks at a key.
#[derive(Debug)]
pub(super) struct Page {
    /// What was typed.
    name: String,
    /// Whether the page is wanted, or only its data.
    html: bool,
}

impl Front {
    /// Shows the records of a key, as a page or as its data.
    pub(super) fn page(
        &mut self,
        now: Now,
        user: User,
        request: &Request<&[u8]>,
        context: Context,
        html: bool,
        cached: Cached<'_>,
    ) -> Step {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return self.reply(context, not_allowed("GET,HEAD"));
        }
        let name = parameters(request).remove("name").unwrap_or_default();
        let page = Page { name: name.trim().to_owned(), html };
        if page.name.is_empty() && html {
            return self.reply(context, render(&page.name, StatusCode::OK, ""));
        }
        let key = match page.name.parse::<PublicKey>() {
            Ok(key) => key,
            Err(error) => {
                let reply = page.failure(StatusCode::BAD_REQUEST, &error.to_string());
                return self.reply(context, reply);
            }
        };
        let policy = Policy::CacheFirst;
        match self.seek(now, user, &key, policy, cached) {
            Sought::Here(known) => {
                let found = known.map(|packet| Found { packet, origin: Origin::Cache });
                let found = found.ok_or(ResolveError::NotFound);
                let reply = page.found(now, self.options.ttl, found);
                self.reply(context, reply)
            }
            Sought::Wait(ticket) => {
                Step::Resolve(Box::new(Lookup { ticket, asked: Asked::Page(page), context }))
            }
            Sought::Limited(wait) => {
                let what = "too many lookups; wait a moment";
                let reply = page.failure(StatusCode::TOO_MANY_REQUESTS, what);
                self.reply(context, told_to_wait(reply, wait))
            }
        }
    }
}

impl Page {
    /// The page of a packet, or of why there is none.
    pub(super) fn found(
        &self,
        now: Now,
        ttl: TtlRange,
        result: Result<Found, ResolveError>,
    ) -> Reply {
        match result {
            Ok(Found { packet, origin }) => {
                let facts = Facts { now: now.wall, ttl, packet: &packet, origin: &origin };
                if self.html {
                    render(&self.name, StatusCode::OK, &facts.html())
                } else {
                    data(StatusCode::OK, &facts.json())
                }
            }
            Err(error) => {
                let (status, what) = reason(error);
                self.failure(status, what)
            }
        }
    }

    fn failure(&self, status: StatusCode, what: &str) -> Reply {
        if self.html {
            render(&self.name, status, &format!("<p class=\"error\">{}</p>", escape(what)))
        } else {
            data(status, &json!({ "error": what }))
        }
    }
}

/// What is shown of a packet.
struct Facts<'a> {
    now: Timestamp,
    ttl: TtlRange,
    packet: &'a CachedPacket,
    origin: &'a Origin,
}

impl Facts<'_> {
    fn json(&self) -> Value {
        let packet = &self.packet.packet;
        let records = packet.records();
        let records = records.iter().map(|record| {
            json!({
                "name": record.name.to_string(),
                "type": kind::Named(record.data.kind()).to_string(),
                "ttl": record.ttl,
                "data": record.data.to_string(),
            })
        });
        json!({
            "key": packet.public_key().to_string(),
            "timestamp": packet.timestamp().as_micros(),
            "signed": http_date(packet.timestamp()),
            "seen": http_date(self.packet.last_seen),
            "age": self.now.secs_since(self.packet.last_seen),
            "ttl": packet.ttl(self.ttl),
            "expires_in": self.packet.expires_in(self.now, self.ttl),
            "origin": self.origin.to_string(),
            "bytes": packet.dns().len(),
            "records": records.collect::<Value>(),
        })
    }

    fn html(&self) -> String {
        let packet = &self.packet.packet;
        let mut out = String::with_capacity(4 * 1024);
        let rows = [
            ("Key", packet.public_key().to_string()),
            ("Signed", http_date(packet.timestamp())),
            ("From", self.origin.to_string()),
            ("Seen", format!("{} seconds ago", self.now.secs_since(self.packet.last_seen))),
            ("Good for", format!("{} seconds", self.packet.expires_in(self.now, self.ttl))),
            ("TTL", format!("{} seconds", packet.ttl(self.ttl))),
            ("Size", format!("{} bytes", packet.dns().len())),
        ];
        out.push_str("<dl>");
        for (name, value) in rows {
            // Writing to a String cannot fail.
            let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
        }
        out.push_str("</dl><table><thead><tr><th>Name</th><th>TTL</th><th>Type</th><th>Data</th>");
        out.push_str("</tr></thead><tbody>");
        for record in packet.records() {
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&record.name.to_string()),
                record.ttl,
                kind::Named(record.data.kind()),
                escape(&record.data.to_string())
            );
        }
        out.push_str("</tbody></table>");
        out
    }
}

/// The page, with the name that was asked for and what came of it.
fn render(name: &str, status: StatusCode, result: &str) -> Reply {
    // The name goes in last: what it holds is not looked at again.
    let page = match PAGE.split_once(NAME) {
        Some((head, tail)) => [head, &escape(name), &tail.replacen(RESULT, result, 1)].concat(),
        None => PAGE.to_owned(),
    };
    let mut reply = Response::new(page.into_bytes());
    *reply.status_mut() = status;
    set(&mut reply, "content-type", "text/html; charset=utf-8");
    set(&mut reply, "cache-control", "no-store");
    set(
        &mut reply,
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    );
    set(&mut reply, "x-content-type-options", "nosniff");
    reply
}

fn data(status: StatusCode, value: &Value) -> Reply {
    let mut reply = Response::new(format!("{value:#}\n").into_bytes());
    *reply.status_mut() = status;
    set(&mut reply, "content-type", "application/json");
    set(&mut reply, "cache-control", "no-store");
    reply
}

/// A text in HTML, between tags or between quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}
