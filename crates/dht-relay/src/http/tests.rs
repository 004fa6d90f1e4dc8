#![expect(clippy::wildcard_enum_match_arm, reason = "any other step is a failure")]

use std::collections::BTreeMap;

use dht_pkarr::record::Svcb;
use dht_pkarr::resolve::Policy;
use dht_pkarr::{Builder, CachedPacket, Keypair, PublicKey};
use proptest::prelude::*;

use super::*;
use crate::front::Options;
use crate::lookups::Resolution;
use crate::quota::Quota;
use dht_pkarr_client::Origin;

/// A relay with a cache and a clock.
struct Relay {
    front: Front,
    cache: BTreeMap<PublicKey, CachedPacket>,
    secs: u64,
}

const BEGIN: u64 = 1_700_000_000;

fn keypair(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn key(number: u8) -> String {
    keypair(number).public_key().to_string()
}

fn signed(number: u8, micros: u64, fill: impl FnOnce(Builder) -> Builder) -> SignedPacket {
    let time = Timestamp::from_micros(micros).unwrap();
    fill(SignedPacket::builder()).sign(&keypair(number), time).unwrap()
}

/// A packet of half a second after the beginning.
fn usual(number: u8) -> SignedPacket {
    signed(number, BEGIN * 1_000_000 + 500_000, |builder| builder.txt("a", "b", 3_600))
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn body(reply: &Reply) -> String {
    String::from_utf8(reply.body().clone()).unwrap()
}

impl Relay {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options =
            Options { http_quota: None, dns_quota: None, work_quota: None, ..Options::default() };
        change(&mut options);
        Self { front: Front::new(options), cache: BTreeMap::new(), secs: BEGIN }
    }

    fn now(&self) -> Now {
        let elapsed = Duration::from_secs(self.secs - BEGIN);
        Now { wall: Timestamp::from_secs(self.secs), elapsed }
    }

    fn cache(&mut self, packet: SignedPacket) {
        let now = self.now().wall;
        self.cache.insert(packet.public_key(), CachedPacket::new(packet, now));
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Step {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let user = user([192, 0, 2, 1].into(), request.headers(), Some(ProxyHeader::XForwardedFor));
        let (now, cache) = (self.now(), &self.cache);
        match self.front.admit_http(now, user, request.method(), request.headers()) {
            Ok(admitted) => {
                self.front.handle_http(now, admitted, &request, &|key| cache.get(key).cloned())
            }
            Err(reply) => Step::Reply(*reply),
        }
    }

    fn reply(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        match self.ask(method, path, headers, body) {
            Step::Reply(reply) => reply,
            step => panic!("{method} {path}: {step:?}"),
        }
    }

    fn status(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        self.reply(method, path, headers, body).status().as_u16()
    }

    fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.reply("GET", path, headers, b"")
    }

    fn lookup(&mut self, path: &str) -> Lookup {
        match self.ask("GET", path, &[], b"") {
            Step::Resolve(lookup) => *lookup,
            step => panic!("{path}: {step:?}"),
        }
    }

    /// What a request waits for, with what is to be resolved for it.
    fn resolution(&mut self, path: &str) -> Resolution {
        let lookup = self.lookup(path);
        let resolution = self.front.poll_resolution().unwrap();
        assert_eq!(lookup.ticket(), resolution.ticket());
        let now = self.now();
        self.front.handle_resolved(now, &resolution, Err(ResolveError::NoAnswer));
        resolution
    }

    fn put(&mut self, packet: &SignedPacket, headers: &[(&str, &str)]) -> Step {
        let path = format!("/{}", packet.public_key());
        self.ask("PUT", &path, headers, packet.relay_payload())
    }

    fn publication(&mut self, packet: &SignedPacket, headers: &[(&str, &str)]) -> Publication {
        match self.put(packet, headers) {
            Step::Publish(publication) => *publication,
            step => panic!("{step:?}"),
        }
    }

    fn refused(&mut self, packet: &SignedPacket, headers: &[(&str, &str)]) -> u16 {
        match self.put(packet, headers) {
            Step::Reply(reply) => reply.status().as_u16(),
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn a_cached_packet_is_given_with_all_that_is_known_of_it() {
    let mut relay = Relay::new();
    relay.cache(usual(1));
    relay.secs += 60;
    for path in [format!("/{}", key(1)), format!("/pk:{}", key(1)), format!("/pk%3A{}", key(1))] {
        let reply = relay.get(&path, &[]);
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.body(), usual(1).relay_payload());
        assert_eq!(header(&reply, "content-type"), "application/pkarr.org/relays#payload");
        assert_eq!(header(&reply, "cache-control"), "public, max-age=3600");
        assert_eq!(header(&reply, "age"), "60");
        assert_eq!(header(&reply, "last-modified"), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(header(&reply, "memento-datetime"), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert!(header(&reply, "etag").starts_with("\"1700000000500000-"));
        assert_eq!(header(&reply, "access-control-allow-origin"), "");
    }
    let head = relay.reply("HEAD", &format!("/{}", key(1)), &[], b"");
    let len = usual(1).relay_payload().len();
    assert_eq!((head.status().as_u16(), head.body().len()), (200, 0));
    assert_eq!(header(&head, "content-length"), len.to_string());
}

#[test]
fn packets_are_known_by_the_microsecond() {
    let mut relay = Relay::new();
    relay.cache(usual(1));
    let whole = signed(2, BEGIN * 1_000_000, |builder| builder);
    relay.cache(whole);
    let since = |secs: u64| http_date(Timestamp::from_secs(secs));
    let status = |relay: &mut Relay, number: u8, name: &str, value: &str| {
        relay.get(&format!("/{}", key(number)), &[(name, value)]).status().as_u16()
    };
    // The half second later is not known to whoever has the whole one.
    assert_eq!(status(&mut relay, 1, "if-modified-since", &since(BEGIN)), 200);
    assert_eq!(status(&mut relay, 1, "if-modified-since", &since(BEGIN + 1)), 304);
    assert_eq!(status(&mut relay, 2, "if-modified-since", &since(BEGIN)), 304);
    assert_eq!(status(&mut relay, 2, "if-modified-since", &since(BEGIN - 1)), 200);
    assert_eq!(status(&mut relay, 2, "if-modified-since", "yesterday"), 200);
    // A tag is exact.
    let path = format!("/{}", key(1));
    let tag = header(&relay.get(&path, &[]), "etag").to_owned();
    let reply = relay.get(&path, &[("if-none-match", &tag), ("if-modified-since", &since(0))]);
    assert_eq!((reply.status().as_u16(), reply.body().len()), (304, 0));
    assert_eq!(header(&reply, "etag"), tag);
    assert_eq!(header(&reply, "cache-control"), "public, max-age=3600");
    for (value, expected) in
        [("*", 304), ("\"x\"", 200), (&*format!("\"x\", W/{tag}"), 304), ("\"1-00\"", 200)]
    {
        assert_eq!(status(&mut relay, 1, "if-none-match", value), expected, "{value}");
    }
}

#[test]
fn policies_say_what_is_asked() {
    let mut relay = Relay::new();
    let path = format!("/{}", key(1));
    for policy in ["", "?policy=CacheFirst", "?x=1&policy=NetworkOnly"] {
        let wanted = relay.resolution(&format!("{path}{policy}"));
        assert_eq!(wanted.key(), keypair(1).public_key());
        assert_eq!(wanted.policy() == Policy::NetworkOnly, policy.contains("Network"));
    }
    assert_eq!(relay.status("GET", &format!("{path}?policy=CacheOnly"), &[], b""), 404);
    for bad in ["?policy=", "?policy=cacheonly", "?policy=Any"] {
        assert_eq!(relay.status("GET", &format!("{path}{bad}"), &[], b""), 400, "{bad}");
    }
    relay.cache(usual(1));
    assert_eq!(relay.status("GET", &path, &[], b""), 200);
    let only = format!("{path}?policy=NetworkOnly");
    assert_eq!(relay.resolution(&only).policy(), Policy::NetworkOnly);
    // Seen a while ago: answered, and refreshed, but not for each who asks.
    relay.secs += 300;
    assert_eq!(relay.status("GET", &path, &[], b""), 200);
    assert_eq!(relay.status("GET", &path, &[], b""), 200);
    assert_eq!(relay.front.poll_resolution().unwrap().policy(), Policy::NetworkOnly);
    assert!(relay.front.poll_resolution().is_none());
    // Expired: only the cache gives it.
    relay.secs += 3_300;
    assert_eq!(relay.resolution(&path).policy(), Policy::CacheFirst);
    assert_eq!(relay.status("GET", &format!("{path}?policy=CacheOnly"), &[], b""), 200);
}

#[test]
fn what_a_lookup_came_to_decides_the_status() {
    let mut relay = Relay::new();
    let path = format!("/{}", key(1));
    let found =
        Found { packet: CachedPacket::new(usual(1), relay.now().wall), origin: Origin::Dht };
    for (result, status) in [
        (Ok(found), 200),
        (Err(ResolveError::NotFound), 404),
        (Err(ResolveError::NotAPacket { seq: -7 }), 404),
        (Err(ResolveError::NoAnswer), 503),
    ] {
        let lookup = relay.lookup(&path);
        let (now, resolution) = (relay.now(), relay.front.poll_resolution().unwrap());
        let told = result.as_ref().map_err(|error| *error);
        relay.front.handle_resolved(now, &resolution, told);
        let seq = matches!(result, Err(ResolveError::NotAPacket { .. })).then_some("-7");
        let reply = relay.front.handle_http_found(now, lookup, result);
        assert_eq!(reply.status().as_u16(), status);
        assert_eq!(header(&reply, "pkarr-invalid-signed-packet-seq"), seq.unwrap_or_default());
    }
    assert_eq!((relay.front.stats().lookups, relay.front.stats().lookups_failed), (4, 3));
}

#[test]
fn whoever_wants_the_same_key_waits_for_the_same_lookup() {
    let mut relay = Relay::with(|options| options.work_quota = Some("1r/d".parse().unwrap()));
    let path = format!("/{}", key(1));
    let first = relay.lookup(&path).ticket();
    assert_eq!(relay.lookup(&format!("/?name={}", key(1))).ticket(), first);
    // But what the network has now is not what it had when that began.
    assert_eq!(relay.get(&format!("{path}?policy=NetworkOnly"), &[]).status(), 429);
    let resolution = relay.front.poll_resolution().unwrap();
    assert_eq!(resolution.ticket(), first);
    assert!(relay.front.poll_resolution().is_none());
    let now = relay.now();
    relay.front.handle_resolved(now, &resolution, Err(ResolveError::NoAnswer));
    assert_eq!(relay.get(&path, &[]).status(), 429);
}

#[test]
fn a_request_whose_body_does_not_come_is_told_so() {
    let mut relay = Relay::new();
    let headers: HeaderMap =
        [(header::ORIGIN, HeaderValue::from_static("https://example.com"))].into_iter().collect();
    let now = relay.now();
    let user = user([192, 0, 2, 1].into(), &headers, None);
    let admitted = relay.front.admit_http(now, user, &Method::PUT, &headers).unwrap();
    let reply = relay.front.handle_http_late(admitted);
    assert_eq!(reply.status(), 408);
    assert_eq!(header(&reply, "access-control-allow-origin"), "https://example.com");
    assert!(body(&reply).contains("did not come"));
    assert_eq!(relay.front.stats().http_client_errors, 1);
}

#[test]
fn paths_methods_and_keys_are_checked() {
    let mut relay = Relay::new();
    let path = format!("/{}", key(1));
    for (method, path, status) in [
        ("GET", "/nothing".to_owned(), 400),
        ("PUT", "/nothing".to_owned(), 400),
        ("GET", path.to_uppercase(), 400),
        ("GET", format!("{}n", &path[..52]), 400),
        ("GET", format!("{path}/more"), 404),
        ("GET", "/a/b".to_owned(), 404),
        ("POST", path.clone(), 405),
        ("DELETE", path.clone(), 405),
        ("PUT", "/".to_owned(), 405),
        ("PUT", "/records".to_owned(), 405),
        ("PUT", "/dns-query".to_owned(), 405),
    ] {
        assert_eq!(relay.status(method, &path, &[], b""), status, "{method} {path}");
    }
    let reply = relay.reply("PATCH", &path, &[], b"");
    assert_eq!(header(&reply, "allow"), "GET,HEAD,PUT");
    let mut plain = Relay::with(|options| {
        options.relay = false;
        options.doh = false;
    });
    for path in [&*path, "/", "/records", "/dns-query"] {
        assert_eq!(plain.status("GET", path, &[], b""), 404, "{path}");
    }
}

#[test]
fn pages_of_any_origin_may_use_it() {
    let mut relay = Relay::new();
    relay.cache(usual(1));
    let path = format!("/{}", key(1));
    let reply = relay.get(&path, &[("origin", "https://example.com")]);
    assert_eq!(header(&reply, "access-control-allow-origin"), "https://example.com");
    assert_eq!(header(&reply, "access-control-allow-credentials"), "true");
    let exposed = header(&reply, "access-control-expose-headers");
    for name in ["pkarr-dht-stored-nodes", "pkarr-invalid-signed-packet-seq"] {
        assert!(exposed.contains(name));
    }
    let asks = [
        ("origin", "https://example.com"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type,if-match"),
    ];
    let reply = relay.reply("OPTIONS", &path, &asks, b"");
    assert_eq!(reply.status(), 200);
    assert!(header(&reply, "access-control-allow-methods").contains("PUT"));
    assert_eq!(header(&reply, "access-control-allow-headers"), "content-type,if-match");
    assert_eq!(header(&reply, "access-control-allow-origin"), "https://example.com");
    // Errors can be read, too.
    let reply = relay.get("/nothing", &[("origin", "https://example.com")]);
    assert_eq!(header(&reply, "access-control-allow-origin"), "https://example.com");
}

#[test]
fn bodies_that_are_no_packet_are_refused() {
    let mut relay = Relay::new();
    let path = format!("/{}", key(1));
    let good = usual(1).relay_payload().to_vec();
    let mut forged = good.clone();
    forged[0] ^= 1;
    for (body, status) in [
        (&b""[..], 400),
        (&good[..71], 400),
        (&good[..84], 400),
        (&forged, 400),
        (usual(2).relay_payload(), 400),
        (&[0; 1_072], 400),
        (&[0; 1_073], 400),
        (&[0; 1_104], 400),
        (&[0; 1_105], 413),
        (&[0; MAX_BODY_LEN + 1], 413),
    ] {
        let reply = relay.reply("PUT", &path, &[], body);
        assert_eq!(reply.status().as_u16(), status, "{} bytes", body.len());
        assert!(reply.body().len() > 10, "with a reason");
    }
    assert_eq!(relay.front.stats().publications, 0);
}

#[test]
fn publishing_ends_with_the_number_of_nodes_or_a_reason() {
    let mut relay = Relay::new();
    let failed = || PublishError::Failed("nobody answered".to_owned());
    for (result, status) in [
        (Ok(20), 204),
        (Err(PublishError::NotMostRecent), 409),
        (Err(PublishError::CasFailed), 412),
        (Err(PublishError::Unfit("too large".to_owned())), 400),
        (Err(failed()), 500),
    ] {
        let publication = relay.publication(&usual(1), &[]);
        assert_eq!((publication.packet(), publication.cas()), (&usual(1), None));
        let stored = if result.is_ok() { "20" } else { "" };
        let reply = relay.front.handle_http_published(publication, result);
        assert_eq!(reply.status().as_u16(), status);
        assert_eq!(header(&reply, "pkarr-dht-stored-nodes"), stored);
    }
}

#[test]
fn an_older_packet_than_the_known_one_is_refused() {
    let mut relay = Relay::new();
    let at = |micros| signed(1, BEGIN * 1_000_000 + micros, |builder| builder);
    relay.cache(at(5));
    assert_eq!(relay.refused(&at(4), &[]), 409);
    // The same again, and a newer one, may go out.
    for micros in [5, 6] {
        let publication = relay.publication(&at(micros), &[]);
        relay.front.abandon(publication.packet());
    }
}

#[test]
fn conditions_of_older_clients_are_heeded() {
    let mut relay = Relay::new();
    let at = |micros| signed(1, BEGIN * 1_000_000 + micros, |builder| builder);
    let named = |micros: u64| (BEGIN * 1_000_000 + micros).to_string();
    relay.cache(at(5));
    for (value, cas) in [(named(5), Some(5)), (format!("\"{}-abcdef01\"", named(5)), Some(5))] {
        let publication = relay.publication(&at(9), &[("if-match", &value)]);
        assert_eq!(publication.cas().map(Timestamp::as_micros), cas.map(|n| BEGIN * 1_000_000 + n));
        relay.front.abandon(publication.packet());
    }
    assert_eq!(relay.refused(&at(9), &[("if-match", &named(4))]), 412);
    // We may not have seen the version that is meant; the DHT decides.
    let publication = relay.publication(&at(9), &[("if-match", &named(7))]);
    relay.front.abandon(publication.packet());
    assert_eq!(relay.refused(&at(9), &[("if-match", "yesterday")]), 400);
    let publication = relay.publication(&at(9), &[("if-match", "*")]);
    assert_eq!(publication.cas(), None);
    relay.front.abandon(publication.packet());
    // Still older clients name a second.
    let since = |secs: u64| http_date(Timestamp::from_secs(secs));
    assert_eq!(relay.refused(&at(9), &[("if-unmodified-since", &since(BEGIN - 1))]), 412);
    let publication = relay.publication(&at(9), &[("if-unmodified-since", &since(BEGIN))]);
    relay.front.abandon(publication.packet());
}

#[test]
fn one_packet_of_a_key_is_published_at_a_time() {
    let mut relay = Relay::new();
    let at = |micros| signed(1, BEGIN * 1_000_000 + micros, |builder| builder);
    let named = |micros: u64| (BEGIN * 1_000_000 + micros).to_string();
    let first = relay.publication(&at(5), &[]);
    assert_eq!(relay.refused(&at(4), &[]), 409);
    assert_eq!(relay.refused(&at(5), &[]), 409);
    assert_eq!(relay.refused(&at(6), &[]), 428);
    assert_eq!(relay.refused(&at(6), &[("if-match", &named(4))]), 412);
    let second = relay.publication(&at(6), &[("if-match", &named(5))]);
    // The end of the first is not that of the second.
    assert_eq!(relay.front.handle_http_published(first, Ok(1)).status(), 204);
    assert_eq!(relay.refused(&at(7), &[]), 428);
    assert_eq!(relay.front.handle_http_published(second, Ok(1)).status(), 204);
    // Other keys are not concerned, and who gives up holds up nobody.
    let other = relay.publication(&usual(2), &[]);
    relay.front.abandon(other.packet());
    relay.publication(&usual(2), &[]);
    relay.publication(&at(7), &[]);
}

#[test]
fn requests_over_the_quota_are_told_when_to_come_again() {
    let mut relay = Relay::with(|options| options.http_quota = Some("2r/m".parse().unwrap()));
    relay.cache(usual(1));
    let path = format!("/{}", key(1));
    let reply = relay.get(&path, &[]);
    assert_eq!(header(&reply, "x-ratelimit-limit"), "2");
    assert_eq!(header(&reply, "x-ratelimit-remaining"), "1");
    relay.get(&path, &[]);
    let reply = relay.get(&path, &[("origin", "https://example.com")]);
    assert_eq!(reply.status(), 429);
    assert_eq!(header(&reply, "x-ratelimit-remaining"), "0");
    assert_eq!(header(&reply, "retry-after"), "30");
    assert_eq!(header(&reply, "x-ratelimit-after"), "30");
    assert_eq!(header(&reply, "access-control-allow-origin"), "https://example.com");
    assert_eq!(relay.get(&path, &[("x-forwarded-for", "192.0.2.9")]).status(), 200);
    relay.secs += 30;
    assert_eq!(relay.get(&path, &[]).status(), 200);
}

#[test]
fn work_has_a_quota_of_its_own() {
    let mut relay = Relay::with(|options| options.work_quota = Some("1r/m".parse().unwrap()));
    let path = format!("/{}", key(1));
    relay.resolution(&path);
    assert_eq!(relay.get(&path, &[]).status(), 429);
    assert_eq!(relay.refused(&usual(1), &[]), 429);
    for path in [format!("/?name={}", key(1)), format!("/records?name={}", key(1))] {
        let reply = relay.get(&path, &[]);
        assert_eq!((reply.status().as_u16(), header(&reply, "retry-after")), (429, "60"), "{path}");
        assert_eq!(header(&reply, "x-ratelimit-after"), "60");
    }
    // What is here costs nothing, and is not refreshed on the account of who has none left.
    relay.cache(usual(1));
    relay.secs += 10;
    assert_eq!(relay.get(&path, &[]).status(), 200);
    assert_eq!(relay.get(&format!("{path}?policy=NetworkOnly"), &[]).status(), 429);
    let mut spent = Relay::with(|options| options.work_quota = Some("1r/d".parse().unwrap()));
    spent.cache(usual(1));
    spent.resolution(&format!("/{}", key(2)));
    spent.secs += 300;
    assert_eq!(spent.get(&path, &[]).status(), 200);
    assert!(spent.front.poll_resolution().is_none());
}

proptest! {
    // Each case signs and verifies dozens of packets.
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever a user sends, and however publications end: no more are begun than the quota has
    /// tokens for, and none that was not signed.
    #[test]
    fn nothing_makes_a_relay_publish_more_than_the_quota(
        burst in 1_u32..4,
        requests in prop::collection::vec((0_u8..4, 0_u64..9, 0_u8..6, 0_u64..40, any::<bool>()), 1..80),
    ) {
        let quota: Quota = "2r/m".parse().unwrap();
        let mut relay = Relay::with(|options| options.work_quota = Some(quota.with_burst(burst)));
        let mut begun = Vec::new();
        for (number, micros, how, pause, ends) in requests {
            relay.secs += pause;
            let packet = signed(1 + number % 2, BEGIN * 1_000_000 + micros, |builder| builder);
            let version = packet.timestamp().to_string();
            let step = match how {
                0 => relay.put(&packet, &[]),
                1 => relay.put(&packet, &[("if-match", &version)]),
                2 => relay.put(&packet, &[("expect", "100-continue"), ("x-http-method", "PUT")]),
                3 => relay.ask("PUT", &format!("/{}", key(number)), &[], packet.relay_payload()),
                4 => relay.ask("POST", "/dns-query", &[], packet.relay_payload()),
                _ => relay.ask("GET", &format!("/{}?policy=NetworkOnly", key(number)), &[], b""),
            };
            if let Step::Publish(publication) = step {
                prop_assert_eq!(publication.packet(), &packet);
                begun.push(relay.secs);
                if ends {
                    relay.front.handle_http_published(*publication, Ok(1));
                } else {
                    relay.front.abandon(publication.packet());
                }
            }
        }
        for (place, from) in begun.iter().enumerate() {
            for (more, to) in begun[place..].iter().enumerate() {
                let tokens = u64::from(burst) + (to - from) / 30 + 1;
                prop_assert!((more as u64) < tokens, "{} in {} s", more + 1, to - from);
            }
        }
    }
}

#[test]
fn the_page_shows_what_a_key_has_and_nothing_as_markup() {
    let mut relay = Relay::new();
    let page = relay.get("/", &[]);
    assert_eq!(page.status(), 200);
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert!(body(&page).contains("<form") && body(&page).contains("value=\"\""));
    let nasty = "<script>alert('x')</script><!--result-->";
    let stored = signed(1, BEGIN * 1_000_000, |builder| {
        builder.txt("a", nasty, 60).https("@", Svcb::here(1).with_port(8443), 60)
    });
    relay.cache(stored);
    relay.secs += 42;
    for name in [key(1), format!("https%3A%2F%2Fa.{}%2F", key(1)), format!("+{}+", key(1))] {
        let shown = body(&relay.get(&format!("/?name={name}"), &[]));
        assert!(shown.contains("1 . port=8443") && shown.contains("42 seconds ago"));
        assert!(shown.contains("&lt;script&gt;") && !shown.contains("<script>alert"));
        assert!(shown.contains("the cache"));
    }
    let found = relay.get(&format!("/records?name={}", key(1)), &[]);
    let found: serde_json::Value = serde_json::from_slice(found.body()).unwrap();
    assert_eq!(found["age"], 42);
    assert_eq!(found["expires_in"], 300 - 42);
    assert_eq!(found["records"][1]["type"], "HTTPS");
    assert_eq!(found["records"][0]["data"], format!("\"{nasty}\""));
}

#[test]
fn the_page_says_why_there_is_nothing() {
    let mut relay = Relay::new();
    let name = "%3Cb%3E%22%26%3C!--result--%3E";
    let reply = relay.get(&format!("/?name={name}"), &[]);
    assert_eq!(reply.status(), 400);
    let shown = body(&reply);
    assert!(shown.contains("value=\"&lt;b&gt;&quot;&amp;&lt;!--result--&gt;\""));
    assert!(shown.contains("class=\"error\">a key has 52 characters"));
    for (path, json) in [("/?name=", false), ("/records?name=", true)] {
        let lookup = relay.lookup(&format!("{path}{}", key(1)));
        let now = relay.now();
        let reply = relay.front.handle_http_found(now, lookup, Err(ResolveError::NoAnswer));
        assert_eq!(reply.status(), 503);
        assert_eq!(body(&reply).contains("\"error\": \"nobody answered"), json);
    }
    assert_eq!(relay.get("/records", &[]).status(), 400);
}

#[test]
fn dns_comes_as_messages_and_as_json() {
    let mut relay = Relay::new();
    relay.cache(usual(1));
    let name = format!("a.{}", key(1));
    let reply = relay.get(&format!("/dns-query?name={name}&type=txt"), &[]);
    assert_eq!(header(&reply, "cache-control"), "max-age=3600");
    let found: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
    assert_eq!((&found["Status"], &found["RA"]), (&0.into(), &true.into()));
    assert_eq!(found["Answer"][0]["data"], "\"b\"");
    assert_eq!(found["Answer"][0]["name"], format!("{name}."));
    for kind in ["TXT", "TYPE16", "type16", "16", "any"] {
        let path = format!("/dns-query?name={name}&type={kind}");
        assert!(body(&relay.get(&path, &[])).contains(r#""data": "\"b\"""#), "{kind}");
    }
    let missing = relay.get(&format!("/dns-query?name=x.{}", key(1)), &[]);
    assert_eq!(header(&missing, "cache-control"), "max-age=60");
    let found: serde_json::Value = serde_json::from_slice(missing.body()).unwrap();
    assert_eq!((&found["Status"], &found["Authority"][0]["type"]), (&3.into(), &6.into()));

    // RFC 8484, 4.1.1: a query for www.example.com, which we do not answer.
    let query = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
    let reply = relay.get(&format!("/dns-query?dns={query}"), &[]);
    assert_eq!(reply.status(), 200);
    assert_eq!(header(&reply, "content-type"), "application/dns-message");
    assert_eq!(header(&reply, "cache-control"), "max-age=0");
    assert_eq!(reply.body()[3] & 15, 5, "refused");
    let message = uri::base64url(query).unwrap();
    let kind = ("content-type", "application/dns-message");
    for name in
        ["application/dns-message", "Application/DNS-Message", "application/dns-message; x=y"]
    {
        let kind = ("content-type", name);
        assert_eq!(relay.reply("POST", "/dns-query", &[kind], &message).body(), reply.body());
    }
    for (method, path, headers, body, status) in [
        ("POST", "/dns-query", &[][..], &*message, 415),
        ("POST", "/dns-query", &[("content-type", "text/plain")], &message, 415),
        ("POST", "/dns-query", &[kind], b"junk", 400),
        ("POST", "/dns-query", &[kind], &[0; MAX_BODY_LEN + 1], 413),
        ("GET", "/dns-query", &[], b"", 400),
        ("GET", "/dns-query?dns=%3D", &[], b"", 400),
        ("GET", "/dns-query?dns=", &[], b"", 400),
        ("GET", "/dns-query?name=..", &[], b"", 400),
        ("GET", "/dns-query?name=a&type=b", &[], b"", 400),
        ("GET", "/dns-query?name=a&type=%2B1", &[], b"", 400),
        ("GET", "/dns-query?name=a&type=TYPE65536", &[], b"", 400),
    ] {
        assert_eq!(relay.status(method, path, headers, body), status, "{method} {path}");
    }
}

#[test]
fn that_there_is_nothing_is_kept_for_as_long_as_its_zone_says() {
    use dht_pkarr::dns::{Message, flag};
    use dht_pkarr::record::{Rdata, Record};

    for (ttl, minimum, kept) in [(3_600, 60_u32, 60), (60, 3_600, 60)] {
        let mut relay = Relay::with(|options| options.forward = true);
        let step = relay.ask("GET", "/dns-query?name=example.com", &[], b"");
        let Step::Dns(request, dns::Step::Forward(query, bytes)) = step else { panic!("{step:?}") };
        let mut answer = Message::from_bytes(&bytes).unwrap();
        answer.flags |= flag::REPLY | 3;
        let data = [&[0; 18][..], &minimum.to_be_bytes()].concat();
        let zone = "example.com".parse().unwrap();
        answer.authorities.push(Record::new(zone, ttl, Rdata::Other { kind: 6, data }));
        let step = relay.front.handle_dns_forwarded(query, answer.to_bytes().as_deref());
        let dns::Step::Reply(reply) = step else { panic!("{step:?}") };
        let reply = relay.front.handle_http_answered(*request, Some(&reply));
        assert_eq!(header(&reply, "cache-control"), format!("max-age={kept}"));
    }
}

#[test]
fn a_dns_answer_that_waits_ends_as_a_reply() {
    let mut relay = Relay::new();
    let path = format!("/dns-query?name=a.{}&type=TXT", key(1));
    let Step::Dns(request, dns::Step::Resolve(query)) = relay.ask("GET", &path, &[], b"") else {
        panic!("nothing is known of the key")
    };
    let now = relay.now();
    let found = Found { packet: CachedPacket::new(usual(1), now.wall), origin: Origin::Dht };
    let step = relay.front.handle_dns_found(now, query, Ok(found), &|_| None);
    let dns::Step::Reply(reply) = step else { panic!("{step:?}") };
    let reply = relay.front.handle_http_answered(*request, Some(&reply));
    assert!(body(&reply).contains(r#""data": "\"b\"""#));
    let Step::Dns(request, _) = relay.ask("GET", &path, &[], b"") else {
        panic!("it is in no cache")
    };
    assert_eq!(relay.front.handle_http_answered(*request, None).status(), 502);
}

fn http_date(time: Timestamp) -> String {
    packet::http_date(time)
}
