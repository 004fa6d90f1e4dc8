//! Who a request comes from.

use core::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap};

use crate::quota::User;

/// The header in which a reverse proxy says for whom it asks.
///
/// No other is looked at: a proxy that writes the one lets the other through as its client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The user whom a request counts for: whoever opened the connection, or, if that is a reverse proxy,
/// whoever the proxy says in its header.
///
/// Only the last address counts, which the proxy itself has added: anything before it comes from the
/// client, who may claim what it likes.
///
/// ```
/// use dht_relay::http::{ProxyHeader, user};
/// use dht_relay::quota::User;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x-forwarded-for", "198.51.100.1, 192.0.2.7".parse()?);
/// let user = |peer: &str, behind| user(peer.parse().unwrap(), &headers, behind);
/// let is = |ip: &str| User::from(ip.parse::<core::net::IpAddr>().unwrap());
/// assert_eq!(user("127.0.0.1", Some(ProxyHeader::XForwardedFor)), is("192.0.2.7"));
/// assert_eq!(user("127.0.0.1", Some(ProxyHeader::Forwarded)), is("127.0.0.1"));
/// assert_eq!(user("127.0.0.1", None), is("127.0.0.1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn user(peer: IpAddr, headers: &HeaderMap, behind_proxy: Option<ProxyHeader>) -> User {
    let told = behind_proxy.and_then(|header| match header {
        ProxyHeader::XForwardedFor => x_forwarded_for(headers),
        ProxyHeader::Forwarded => forwarded(headers),
    });
    told.unwrap_or(peer).into()
}

fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim)
}

fn x_forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    addr(last(headers, "x-forwarded-for")?)
}

/// RFC 7239: the `for` of the last element.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let element = last(headers, FORWARDED.as_str())?;
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    addr(value.trim().trim_matches('"'))
}

/// An address with or without a port, or brackets.
fn addr(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(parsed).collect()
    }

    fn of(lines: &[(&'static str, &str)]) -> Option<IpAddr> {
        let headers = headers(lines);
        x_forwarded_for(&headers).or_else(|| forwarded(&headers))
    }

    #[test]
    fn no_header_is_believed_but_the_proxys_own() {
        let headers = headers(&[("x-forwarded-for", "192.0.2.66"), ("forwarded", "for=192.0.2.1")]);
        let peer = IpAddr::from([127, 0, 0, 1]);
        let told = |header| user(peer, &headers, header);
        let ip = |text: &str| User::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(told(Some(ProxyHeader::Forwarded)), ip("192.0.2.1"));
        assert_eq!(told(Some(ProxyHeader::XForwardedFor)), ip("192.0.2.66"));
        assert_eq!(told(None), ip("127.0.0.1"));
        // A proxy that says nothing is its own user, whatever its client claims elsewhere.
        let mut without = headers.clone();
        without.remove("forwarded");
        assert_eq!(user(peer, &without, Some(ProxyHeader::Forwarded)), ip("127.0.0.1"));
    }

    #[test]
    fn the_last_address_counts_whatever_stands_before() {
        let ip = |text: &str| Some(text.parse().unwrap());
        for (lines, expected) in [
            (&[("x-forwarded-for", "192.0.2.1")][..], ip("192.0.2.1")),
            (&[("x-forwarded-for", "a, 192.0.2.1")], ip("192.0.2.1")),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")], ip("2.2.2.2")),
            (&[("x-forwarded-for", "192.0.2.1:80")], ip("192.0.2.1")),
            (&[("x-forwarded-for", "2001:db8::1")], ip("2001:db8::1")),
            (&[("x-forwarded-for", "192.0.2.1, junk")], None),
            (&[("forwarded", "for=1.1.1.1, for=192.0.2.1;proto=https")], ip("192.0.2.1")),
            (&[("forwarded", "By=x;FOR=\"[2001:db8::1]:47\"")], ip("2001:db8::1")),
            (&[("forwarded", "for=\"[2001:db8::1]\"")], ip("2001:db8::1")),
            (&[("forwarded", "for=unknown")], None),
            (&[], None),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
    }
}
