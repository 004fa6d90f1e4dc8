//! Who a request comes from.

use core::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap};

use crate::quota::User;

/// The user whom a request counts for: whoever opened the connection, or, if that is a reverse proxy,
/// whoever the proxy says.
///
/// Only the last address counts, which the proxy itself has added: anything before it comes from the
/// client, who may claim what it likes.
///
/// ```
/// use dht_relay::http::user;
/// use dht_relay::quota::User;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x-forwarded-for", "198.51.100.1, 192.0.2.7".parse()?);
/// let peer: core::net::IpAddr = "127.0.0.1".parse()?;
/// assert_eq!(user(peer, &headers, true), User::from("192.0.2.7".parse::<core::net::IpAddr>()?));
/// assert_eq!(user(peer, &headers, false), User::from(peer));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn user(peer: IpAddr, headers: &HeaderMap, behind_proxy: bool) -> User {
    let told = || x_forwarded_for(headers).or_else(|| forwarded(headers));
    behind_proxy.then(told).flatten().unwrap_or(peer).into()
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

    fn of(lines: &[(&'static str, &str)]) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        x_forwarded_for(&headers).or_else(|| forwarded(&headers))
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
