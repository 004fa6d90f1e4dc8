//! DNS over HTTP at `/dns-query`: messages as RFC 8484 has them, and JSON for people.

use dht_pkarr::Name;
use dht_pkarr::dns::{Message, Question, flag};
use dht_pkarr::record::{CLASS_IN, Record, kind};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    Context, DnsRequest, MAX_BODY_LEN, Reply, Step, not_allowed, parameters, set, text, uri,
};
use crate::dns::{self, Transport};
use crate::front::{Cached, Front, Now};
use crate::quota::User;

const MESSAGE: &str = "application/dns-message";

/// How the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Message,
    Json,
}

impl Front {
    pub(super) fn doh(
        &mut self,
        now: Now,
        user: User,
        request: &Request<&[u8]>,
        context: Context,
        cached: Cached<'_>,
    ) -> Step {
        let (form, query) = match query(request) {
            Ok(query) => query,
            Err(reply) => return self.reply(context, *reply),
        };
        match self.handle_dns(now, user, Transport::Http, &query, cached) {
            dns::Step::Reply(reply) => {
                let reply = form.answer(Some(&reply));
                self.reply(context, reply)
            }
            dns::Step::Drop => {
                let what = "this is no DNS query";
                self.reply(context, text(StatusCode::BAD_REQUEST, what))
            }
            step @ (dns::Step::Resolve(_) | dns::Step::Forward(..)) => {
                Step::Dns(Box::new(DnsRequest { form, context }), step)
            }
        }
    }
}

/// The query of a request.
fn query(request: &Request<&[u8]>) -> Result<(Form, Vec<u8>), Box<Reply>> {
    let refuse = |status, what: &str| Box::new(text(status, what));
    let bad = |what: &str| refuse(StatusCode::BAD_REQUEST, what);
    match *request.method() {
        Method::POST => {
            if !is_message(request.headers()) {
                let what = "the body of a query is application/dns-message";
                return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
            }
            let body = request.body();
            if body.len() > MAX_BODY_LEN {
                return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the query is too long"));
            }
            Ok((Form::Message, body.to_vec()))
        }
        Method::GET | Method::HEAD => {
            let parameters = parameters(request);
            if let Some(encoded) = parameters.get("dns") {
                let query = uri::base64url(encoded);
                return query
                    .map(|query| (Form::Message, query))
                    .ok_or_else(|| bad("the parameter dns is base64url without padding"));
            }
            let name = parameters.get("name").ok_or_else(|| {
                bad("give a query as the parameter dns, or a name, and perhaps a type")
            })?;
            let name: Name = name.parse().map_err(|error| bad(&format!("{error}")))?;
            let kind = parameters.get("type").map_or(Some(kind::A), |text| kind_of(text));
            let kind = kind.ok_or_else(|| bad("there is no such type"))?;
            let mut message = Message::new(0, flag::RECURSION_DESIRED);
            message.questions.push(Question { name, kind, class: CLASS_IN });
            message.to_bytes().map(|query| (Form::Json, query)).ok_or_else(|| bad("too long"))
        }
        _ => Err(Box::new(not_allowed("GET,HEAD,POST"))),
    }
}

/// Whether a body is a DNS message, whatever parameters stand behind the type (RFC 9110, 8.3.1).
fn is_message(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(MESSAGE))
}

/// A type by its name, by `TYPE` and its number (RFC 3597), or by its number.
fn kind_of(text: &str) -> Option<u16> {
    let name = text.to_ascii_uppercase();
    let digits = name.strip_prefix("TYPE").unwrap_or(&name);
    // `parse` would take a sign.
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    match &*name {
        "ANY" => Some(kind::ANY),
        name => kind::of_name(name).or_else(|| plain.then(|| digits.parse().ok()).flatten()),
    }
}

impl Form {
    /// The HTTP reply that carries a DNS reply.
    pub(super) fn answer(self, reply: Option<&[u8]>) -> Reply {
        let Some((bytes, message)) =
            reply.and_then(|bytes| Some((bytes, Message::from_bytes(bytes).ok()?)))
        else {
            return text(StatusCode::BAD_GATEWAY, "there was no answer");
        };
        let mut reply = match self {
            Self::Message => {
                let mut reply = Response::new(bytes.to_vec());
                set(&mut reply, "content-type", MESSAGE);
                reply
            }
            Self::Json => {
                let mut reply = Response::new(format!("{:#}\n", json(&message)).into_bytes());
                set(&mut reply, "content-type", "application/dns-json; charset=utf-8");
                reply
            }
        };
        // RFC 8484, 5.1: no longer than any of the answers; failures not at all.
        let keep = match message.flags & flag::RCODE {
            0 | 3 => dns::shortest_ttl(&message).unwrap_or(0),
            _ => 0,
        };
        set(&mut reply, "cache-control", format!("max-age={keep}"));
        reply
    }
}

/// As the resolvers of Google and Cloudflare have it.
fn json(message: &Message) -> Value {
    let has = |bit: u16| message.flags & bit != 0;
    let questions = message.questions.iter();
    let questions = questions.map(|question| {
        json!({
            "name": absolute(&question.name),
            "type": question.kind,
        })
    });
    json!({
        "Status": message.flags & flag::RCODE,
        "TC": has(flag::TRUNCATED),
        "RD": has(flag::RECURSION_DESIRED),
        "RA": has(flag::RECURSION_AVAILABLE),
        "AD": false,
        "CD": has(flag::CHECKING_DISABLED),
        "Question": questions.collect::<Value>(),
        "Answer": message.answers.iter().map(record).collect::<Value>(),
        "Authority": message.authorities.iter().map(record).collect::<Value>(),
    })
}

fn record(record: &Record) -> Value {
    json!({
        "name": absolute(&record.name),
        "type": record.data.kind(),
        "TTL": record.ttl,
        "data": record.data.to_string(),
    })
}

fn absolute(name: &Name) -> String {
    if name.is_root() { name.to_string() } else { format!("{name}.") }
}
