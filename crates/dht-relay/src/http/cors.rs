//! Pages of any origin may use a relay, as the specification demands; there are no cookies, nor
//! anything else that a page could borrow from its reader.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::Reply;

const METHODS: &str = "GET,HEAD,PUT,POST,OPTIONS";
const EXPOSED: &str = "pkarr-dht-stored-nodes,pkarr-invalid-signed-packet-seq,memento-datetime,etag,age,\
                       retry-after,x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-after";
const VARY: &str = "origin, access-control-request-method, access-control-request-headers";
/// For how many seconds a browser need not ask again.
const MAX_AGE: &str = "86400";

/// Whose page asks.
pub(super) fn origin(request: &HeaderMap) -> Option<HeaderValue> {
    request.get(header::ORIGIN).cloned()
}

/// Adds what every reply to a page has: its origin, mirrored.
pub(super) fn add(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.insert(header::VARY, HeaderValue::from_static(VARY));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let credentials = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The reply to a page that asks whether it may.
pub(super) fn preflight(request: &HeaderMap) -> Reply {
    let mut reply = Response::new(Vec::new());
    *reply.status_mut() = StatusCode::OK;
    let headers = reply.headers_mut();
    let methods = HeaderValue::from_static(METHODS);
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    reply
}
