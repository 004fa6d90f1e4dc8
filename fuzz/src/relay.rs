//! Requests and queries to a relay: arbitrary ones, and whatever they wait for.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::sync::LazyLock;

use dht_pkarr::dns::Message;
use dht_pkarr::{CachedPacket, Keypair, PublicKey, SignedPacket, Timestamp};
use dht_relay::dns::{self, MAX_UDP_LEN, Transport};
use dht_relay::http::{self, ProxyHeader, Reply};
use dht_relay::quota::{Quota, User};
use dht_relay::{Found, Front, Known, Now, Options, Origin, PublishError, ResolveError};

/// Longer than any body or query that is looked at.
const MAX_INPUT: usize = 6_000;
const BEGIN: Timestamp = Timestamp::UNIX_EPOCH;

/// The packet that the relay has: under a key that inputs can name, with an alias to itself.
static PACKET: LazyLock<SignedPacket> = LazyLock::new(|| {
    let keypair = Keypair::from_secret(&[0; 32]);
    let own = dht_pkarr::Name::of_key(&keypair.public_key());
    SignedPacket::builder()
        .txt("@", "here", 60)
        .cname("alias", own.clone(), 60)
        .cname("*.round", format!("x.round.{own}").parse().unwrap_or(own), 60)
        .address("www", [192, 0, 2, 1].into(), 60)
        .sign(&keypair, Timestamp::from_secs(1))
        .unwrap_or_else(|error| unreachable!("it is small: {error}"))
});

fn cached(key: &PublicKey) -> Option<CachedPacket> {
    (*key == PACKET.public_key()).then(|| CachedPacket::new(PACKET.clone(), BEGIN))
}

fn read(key: &PublicKey) -> Known {
    cached(key).into()
}

/// What the cache has, some of it only on disk.
fn known(choice: u8) -> fn(&PublicKey) -> Known {
    if choice & 0x20 == 0 { read } else { |_| Known::Unread }
}

fn user() -> User {
    IpAddr::V4(Ipv4Addr::LOCALHOST).into()
}

/// What a backend could say, by what the input has for it.
fn result(choice: u8, key: PublicKey) -> Result<Found, ResolveError> {
    match choice % 4 {
        0 => Err(ResolveError::NotFound),
        1 => Err(ResolveError::NoAnswer),
        2 => Err(ResolveError::NotAPacket { seq: i64::from(choice) - 128 }),
        _ => cached(&key)
            .map(|packet| Found { packet, origin: Origin::Dht })
            .ok_or(ResolveError::NotFound),
    }
}

/// The first two bytes choose the time and what is answered; then come a line with method and target,
/// lines of headers, an empty one, and the body.
///
/// # Panics
/// If the relay is at fault.
pub fn http(data: &[u8]) {
    let Some((&[pause, choice], text)) = data.split_first_chunk::<2>() else { return };
    if data.len() > MAX_INPUT {
        return;
    }
    let mut lines = text.splitn(2, |byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let rest = lines.next().unwrap_or_default();
    let end = rest.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end + 2..).unwrap_or_default()),
        None => (rest, &[][..]),
    };
    let (method, target) = first.split_once(' ').unwrap_or((&first, "/"));
    let mut request = ::http::Request::builder().method(method).uri(target);
    for line in head.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(body) else { return };
    let mut options = Options::default();
    options.work_quota = Some(Quota::per_second(1));
    options.forward = choice & 0x40 != 0;
    options.relay = choice & 0x80 == 0;
    let mut front = Front::new(options);
    let header = match pause % 3 {
        0 => None,
        1 => Some(ProxyHeader::XForwardedFor),
        _ => Some(ProxyHeader::Forwarded),
    };
    let user = http::user(IpAddr::V4(Ipv4Addr::LOCALHOST), request.headers(), header);
    let now = Now { wall: Timestamp::from_secs(u64::from(pause) * 4), elapsed: Duration::ZERO };
    // Twice, as the first may leave something behind; one token is all the work there is.
    let mut work = 0;
    for _ in 0..2 {
        let (method, headers) = (request.method(), request.headers());
        let reply = match front.admit_http(now, user, method, headers) {
            Ok(admitted) => {
                let mut step = front.handle_http(now, admitted, &request, &known(choice));
                if let http::Step::Read(unread) = step {
                    step = front.handle_http_read(now, &request, *unread, &read);
                    assert!(!matches!(step, http::Step::Read(_)), "the disk is read once");
                }
                work += usize::from(matches!(step, http::Step::Publish(_)));
                settle(&mut front, now, choice, step, &mut work)
            }
            Err(reply) => *reply,
        };
        check(&reply, method == ::http::Method::HEAD);
    }
    assert!(work <= 1, "the quota is one");
}

/// What holds of every reply.
fn check(reply: &Reply, head: bool) {
    let (status, has) = (reply.status().as_u16(), |name| reply.headers().contains_key(name));
    assert!(
        [200, 204, 304, 400, 404, 405, 408, 409, 412, 413, 415, 428, 429, 500, 502, 503]
            .contains(&status)
    );
    assert!(reply.body().is_empty() || !(head || [204, 304].contains(&status)), "it has no body");
    assert!(status != 429 || has("retry-after") && has("x-ratelimit-after"));
    assert!(status != 405 || has("allow"));
    assert!(status != 304 || has("etag"));
    assert!(status < 400 || head || !reply.body().is_empty(), "a reason");
    assert!(has("vary"), "pages of any origin may read it");
}

/// Does all lookups that are wanted, and says how many there were.
fn resolve(front: &mut Front, now: Now, choice: u8) -> usize {
    let mut resolved = 0;
    while let Some(resolution) = front.poll_resolution() {
        let result = result(choice, resolution.key());
        front.handle_resolved(now, &resolution, result.as_ref().map_err(|error| *error));
        resolved += 1;
    }
    resolved
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a request waits for the disk once, before this"
)]
fn settle(front: &mut Front, now: Now, choice: u8, step: http::Step, work: &mut usize) -> Reply {
    *work += resolve(front, now, choice);
    match step {
        http::Step::Reply(reply) => reply,
        http::Step::Resolve(lookup) => {
            let result = result(choice, PACKET.public_key());
            front.handle_http_found(now, *lookup, result)
        }
        http::Step::Publish(publication) => {
            let packet = publication.packet();
            // What goes out was signed.
            let read =
                SignedPacket::from_relay_payload(&packet.public_key(), packet.relay_payload());
            assert_eq!(read.as_ref(), Ok(packet));
            let result = match choice % 4 {
                0 => Err(PublishError::NotMostRecent),
                1 => Err(PublishError::CasFailed),
                2 => Err(PublishError::Failed("x\n\0".to_owned())),
                _ => Ok(u32::from(choice)),
            };
            front.handle_http_published(*publication, result)
        }
        http::Step::Dns(request, step) => {
            let reply = answered(front, now, choice, step);
            front.handle_http_answered(*request, reply.as_deref())
        }
        step => unreachable!("a step of no known kind: {step:?}"),
    }
}

/// Goes on with a query until there is a reply.
fn answered(front: &mut Front, now: Now, choice: u8, mut step: dns::Step) -> Option<Vec<u8>> {
    for _ in 0..100 {
        resolve(front, now, choice);
        step = match step {
            dns::Step::Drop => return None,
            dns::Step::Reply(reply) => return Some(reply),
            dns::Step::Read(query) => front.handle_dns_read(now, query, &read),
            dns::Step::Resolve(query) => {
                let key = query.wants().unwrap_or_else(|| unreachable!("it wants a key"));
                front.handle_dns_found(now, query, result(choice, key), &known(choice))
            }
            dns::Step::Forward(query, mut message) => {
                assert_eq!(message.get(..2), Some(&[0, 0][..]));
                if let Some(flags) = message.get_mut(2) {
                    *flags |= choice;
                }
                front.handle_dns_forwarded(query, (choice & 1 == 0).then_some(&message))
            }
            step => unreachable!("a step of no known kind: {step:?}"),
        };
    }
    panic!("a query does not end");
}

/// The first two bytes choose transport, options, time and what is answered; the rest is a message.
///
/// # Panics
/// If the server is at fault.
pub fn dns(data: &[u8]) {
    let Some((&[how, choice], message)) = data.split_first_chunk::<2>() else { return };
    if data.len() > MAX_INPUT {
        return;
    }
    let transport = match how % 3 {
        0 => Transport::Udp,
        1 => Transport::Tcp,
        _ => Transport::Http,
    };
    let mut options = Options::default();
    options.forward = how & 0x10 != 0;
    if how & 0x20 != 0 {
        options.dns_quota = Some(Quota::per_second(1));
    }
    let mut front = Front::new(options);
    let now = Now { wall: Timestamp::from_secs(u64::from(choice) * 4), elapsed: Duration::ZERO };
    for _ in 0..2 {
        let step = front.handle_dns(now, user(), transport, message, &known(choice));
        let Some(reply) = answered(&mut front, now, choice, step) else { continue };
        let read = Message::from_bytes(&reply);
        let read = read.unwrap_or_else(|error| panic!("no message goes out: {error}"));
        assert!(read.flags & dht_pkarr::dns::flag::REPLY != 0);
        assert_eq!(reply.get(..2), message.get(..2), "the id comes back");
        assert!(transport != Transport::Udp || reply.len() <= MAX_UDP_LEN);
    }
}
