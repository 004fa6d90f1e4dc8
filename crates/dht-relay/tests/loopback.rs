//! The relay over loopback sockets, before a backend made for the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dht_pkarr::dns::{Message, Question, flag};
use dht_pkarr::record::{CLASS_IN, Rdata, Record, Txt, kind};
use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, Keypair, PublicKey, SignedPacket, Timestamp};
use dht_relay::http::ProxyHeader;
use dht_relay::server::{Listen, Server};
use dht_relay::{Backend, Found, Options, Origin, PublishError, ResolveError};

/// Gives up on a relay that hangs; nothing is expected to take long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network of one: what is published can be resolved, and is in the cache.
#[derive(Clone, Default)]
struct Memory {
    packets: Arc<Mutex<BTreeMap<PublicKey, SignedPacket>>>,
    /// While somebody holds a sender, publishing does not end.
    held: Option<async_channel::Receiver<()>>,
    /// Nor does resolving.
    held_lookups: Option<async_channel::Receiver<()>>,
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_micros(since.as_micros() as u64).unwrap()
}

impl Backend for Memory {
    fn cached(&self, key: &PublicKey) -> Option<CachedPacket> {
        let packets = self.packets.lock().unwrap();
        packets.get(key).map(|packet| CachedPacket::new(packet.clone(), now()))
    }

    async fn resolve(&self, key: PublicKey, _: Policy) -> Result<Found, ResolveError> {
        if let Some(held) = &self.held_lookups {
            let _closed = held.recv().await;
        }
        let packet = self.cached(&key).ok_or(ResolveError::NotFound)?;
        Ok(Found { packet, origin: Origin::Dht })
    }

    async fn publish(
        &self,
        packet: SignedPacket,
        _: Option<Timestamp>,
    ) -> Result<u32, PublishError> {
        if let Some(held) = &self.held {
            let _closed = held.recv().await;
        }
        self.packets.lock().unwrap().insert(packet.public_key(), packet);
        Ok(8)
    }

    async fn metrics(&self) -> String {
        "memory 1\n".to_owned()
    }
}

/// A relay that runs until this is dropped.
struct Running {
    http: SocketAddr,
    dns: SocketAddr,
    metrics: SocketAddr,
    stop: Option<async_channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(backend: Memory, change: impl FnOnce(&mut Listen, &mut Options)) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (mut listen, mut options) = (Listen::default(), Options::default());
        listen.http = vec![any];
        listen.dns = vec![any];
        listen.metrics = Some(any);
        options.work_quota = None;
        change(&mut listen, &mut options);
        let server = Server::bind(&listen, options, backend).unwrap();
        let (http, dns) = (server.http_addrs()[0], server.dns_addrs()[0]);
        let metrics = server.metrics_addr().unwrap();
        let (stop, stopped) = async_channel::bounded(1);
        let run = async move {
            server
                .run(async {
                    let _closed = stopped.recv().await;
                })
                .await;
        };
        let thread = thread::spawn(|| async_io::block_on(run));
        Self { http, dns, metrics, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        exchange(self.connect(), head, body)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn send(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let len = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n{headers}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

/// One request on a connection: status, head, body.
fn exchange(mut stream: TcpStream, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    send(&mut stream, &format!("{head}\nconnection: close\r\n"), body);
    reply(stream)
}

fn reply(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    (status, head, bytes[end + 4..].to_vec())
}

fn packet(micros: u64) -> SignedPacket {
    SignedPacket::builder()
        .address("@", [192, 0, 2, 1].into(), 300)
        .txt("long", Txt::new([b'x'; 700]), 300)
        .sign(&Keypair::from_secret(&[1; 32]), Timestamp::from_micros(micros).unwrap())
        .unwrap()
}

#[test]
fn a_packet_goes_in_and_comes_out() {
    let relay = Running::start(Memory::default(), |_, _| {});
    let packet = packet(5);
    let path = format!("/{}", packet.public_key());
    assert_eq!(relay.ask(&format!("GET {path}"), b"").0, 404);
    let (status, head, _) = relay.ask(&format!("PUT {path}"), packet.relay_payload());
    assert_eq!(status, 204);
    assert!(head.contains("pkarr-dht-stored-nodes: 8"));
    let (status, _, body) = relay.ask(&format!("GET {path}"), b"");
    assert_eq!((status, &*body), (200, packet.relay_payload()));
    let (status, head, body) = relay.ask(&format!("HEAD {path}"), b"");
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains(&format!("content-length: {}", packet.relay_payload().len())));
    assert_eq!(relay.ask(&format!("PUT {path}"), &[0; 5_000]).0, 413);
    let (status, _, page) = relay.ask(&format!("GET /?name={}", packet.public_key()), b"");
    assert_eq!(status, 200);
    assert!(String::from_utf8(page).unwrap().contains("192.0.2.1"));
}

#[test]
fn connections_serve_many_requests_and_are_not_more_than_the_limit() {
    let relay = Running::start(Memory::default(), |listen, _| listen.max_connections = 1);
    let mut stream = relay.connect();
    for _ in 0..3 {
        send(&mut stream, "HEAD /", b"");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"));
    }
    late(relay.connect());
    // Whoever watches it is let in all the same.
    let watching = TcpStream::connect(relay.metrics).unwrap();
    assert_eq!(exchange(watching, "GET /metrics", b"").0, 200);
}

/// Somebody who comes too late is closed out, whatever he says.
fn late(mut stream: TcpStream) {
    // It may be closed already.
    drop(stream.write_all(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n"));
    let mut nothing = Vec::new();
    let closed = stream.read_to_end(&mut nothing).map_err(|error| error.kind());
    assert!(nothing.is_empty(), "{:?}", String::from_utf8_lossy(&nothing));
    // It is closed, or reset as something was not read; not only silent.
    assert!(matches!(closed, Ok(_) | Err(ErrorKind::ConnectionReset)), "{closed:?}");
}

#[test]
fn one_user_cannot_have_all_connections() {
    let relay = Running::start(Memory::default(), |listen, _| listen.max_user_connections = 2);
    let mut held: Vec<_> = (0..2).map(|_| relay.connect()).collect();
    for stream in &mut held {
        send(stream, "HEAD /", b"");
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    late(relay.connect());
    // DNS has connections of its own, of which there are as many.
    let mut held: Vec<_> = (0..2).map(|_| TcpStream::connect(relay.dns).unwrap()).collect();
    for stream in &mut held {
        assert_eq!(over_tcp(stream, &query("example.com", kind::A)).flags & flag::RCODE, 5);
    }
    let stream = TcpStream::connect(relay.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    late(stream);
    // Behind a proxy all come from one address.
    let relay = Running::start(Memory::default(), |listen, options| {
        listen.max_user_connections = 1;
        options.behind_proxy = Some(ProxyHeader::Forwarded);
    });
    let _held = relay.connect();
    assert_eq!(relay.ask("HEAD /", b"").0, 200);
}

#[test]
fn whoever_is_over_the_quota_is_told_so_before_his_body_is_waited_for() {
    let quota = "1r/d".parse().unwrap();
    let relay = Running::start(Memory::default(), |_, options| options.http_quota = Some(quota));
    assert_eq!(relay.ask("HEAD /", b"").0, 200);
    let mut stream = relay.connect();
    let head = format!("PUT /{} HTTP/1.1\r\nhost: x\r\n", packet(5).public_key());
    let head = format!("{head}content-length: 100\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(reply(stream).0, 429);
}

#[test]
fn who_goes_away_while_publishing_holds_up_nobody() {
    let (held, receiver) = async_channel::bounded(1);
    let backend = Memory { held: Some(receiver), ..Memory::default() };
    let relay = Running::start(backend, |_, _| {});
    let (first, second) = (packet(5), packet(6));
    let path = format!("/{}", first.public_key());
    let mut stream = relay.connect();
    send(&mut stream, &format!("PUT {path}"), first.relay_payload());
    // It has begun when another is in its way.
    while relay.ask(&format!("PUT {path}"), packet(4).relay_payload()).0 != 409 {
        thread::yield_now();
    }
    assert_eq!(relay.ask(&format!("PUT {path}"), second.relay_payload()).0, 428);
    drop(stream);
    drop(held);
    let mut status = 428;
    while status == 428 {
        status = relay.ask(&format!("PUT {path}"), second.relay_payload()).0;
    }
    assert_eq!(status, 204);
}

fn query(name: &str, kind: u16) -> Message {
    let mut message = Message::new(7, flag::RECURSION_DESIRED);
    let name = name.parse().unwrap();
    message.questions.push(Question { name, kind, class: CLASS_IN });
    message
}

fn over_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket.send(&message.to_bytes().unwrap()).unwrap();
    let mut buffer = [0; 2_000];
    let len = socket.recv(&mut buffer).unwrap();
    Message::from_bytes(&buffer[..len]).unwrap()
}

fn over_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    let bytes = message.to_bytes().unwrap();
    stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    read(stream)
}

fn read(stream: &mut TcpStream) -> Message {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_bytes(&bytes).unwrap()
}

#[test]
fn dns_is_answered_over_udp_and_tcp() {
    let memory = Memory::default();
    memory.packets.lock().unwrap().insert(packet(5).public_key(), packet(5));
    let relay = Running::start(memory, |_, _| {});
    let key = packet(5).public_key();
    let reply = over_udp(relay.dns, &query(&key.to_string(), kind::A));
    assert_eq!(reply.answers[0].data, Rdata::from(IpAddr::from([192, 0, 2, 1])));
    let long = query(&format!("long.{key}"), kind::TXT);
    assert!(over_udp(relay.dns, &long).flags & flag::TRUNCATED != 0);
    let mut stream = TcpStream::connect(relay.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..2 {
        assert_eq!(over_tcp(&mut stream, &long).answers.len(), 1);
    }
    // What nobody has comes back through the whole of it, too.
    let other = Keypair::from_secret(&[2; 32]).public_key();
    assert_eq!(over_udp(relay.dns, &query(&other.to_string(), kind::A)).flags & flag::RCODE, 3);
}

/// A server of ordinary names that says the same to everybody, over UDP and TCP.
fn upstream() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(addr).unwrap();
    let answer = |bytes: &[u8]| {
        let mut message = Message::from_bytes(bytes).unwrap();
        message.flags |= flag::REPLY;
        let data = Rdata::from(IpAddr::from([192, 0, 2, 99]));
        message.answers.push(Record::new(message.questions[0].name.clone(), 9, data));
        message.to_bytes().unwrap()
    };
    thread::spawn(move || {
        let mut buffer = [0; 2_000];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            // Somebody who guesses wrongly is not believed: what is no message, the query itself, an
            // answer to another question.
            let query = &buffer[..len];
            let mut other = Message::from_bytes(&answer(query)).unwrap();
            other.questions[0].kind ^= 1;
            other.answers[0].ttl = 666;
            let (other, own) = (other.to_bytes().unwrap(), answer(query));
            for datagram in [&b"no message"[..], query, &other, &own] {
                udp.send_to(datagram, from).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut query = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut query).unwrap();
            let reply = answer(&query);
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    addr
}

#[test]
fn ordinary_names_are_forwarded_the_way_they_came() {
    let upstream = upstream();
    let relay = Running::start(Memory::default(), |listen, options| {
        listen.upstream = Some(upstream);
        options.forward = true;
    });
    let message = query("www.example.com", kind::A);
    let expected = Rdata::from(IpAddr::from([192, 0, 2, 99]));
    let reply = over_udp(relay.dns, &message);
    assert_eq!((reply.id, &reply.answers[0].data), (7, &expected));
    let mut stream = TcpStream::connect(relay.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(over_tcp(&mut stream, &message).answers[0].data, expected);
    let head = "POST /dns-query\ncontent-type: application/dns-message\r";
    let (status, _, body) = relay.ask(head, &message.to_bytes().unwrap());
    assert_eq!((status, &Message::from_bytes(&body).unwrap().answers[0].data), (200, &expected));
}

fn tcp(relay: &Running) -> TcpStream {
    let stream = TcpStream::connect(relay.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A relay that has a packet in its cache, and finds nothing else before what this returns is dropped.
fn slow(change: impl FnOnce(&mut Listen)) -> (Running, async_channel::Sender<()>) {
    let (held, receiver) = async_channel::bounded(1);
    let memory = Memory { held_lookups: Some(receiver), ..Memory::default() };
    memory.packets.lock().unwrap().insert(packet(5).public_key(), packet(5));
    (Running::start(memory, |listen, _| change(listen)), held)
}

fn of_key(number: u8) -> Message {
    query(&Keypair::from_secret(&[number; 32]).public_key().to_string(), kind::A)
}

#[test]
fn queries_over_tcp_do_not_wait_for_each_other() {
    let (relay, held) = slow(|_| {});
    let mut stream = tcp(&relay);
    let (mut slow, mut fast) = (of_key(2), of_key(1));
    (slow.id, fast.id) = (1, 2);
    let framed = |message: &Message| {
        let bytes = message.to_bytes().unwrap();
        [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
    };
    stream.write_all(&framed(&slow)).unwrap();
    let reply = over_tcp(&mut stream, &fast);
    assert_eq!((reply.id, reply.answers.len()), (2, 1));
    // More than are answered at a time: they are read when it is their turn.
    for id in 3..30 {
        slow.id = id;
        stream.write_all(&framed(&slow)).unwrap();
    }
    drop(held);
    fast.id = 30;
    let replies: BTreeMap<_, _> = (0..29)
        .map(|number| {
            let reply = if number == 0 { over_tcp(&mut stream, &fast) } else { read(&mut stream) };
            (reply.id, reply.flags & flag::RCODE)
        })
        .collect();
    assert_eq!(replies.len(), 29);
    assert!(replies.iter().all(|(id, rcode)| *rcode == if *id == 30 { 0 } else { 3 }));
}

#[test]
fn a_query_for_which_there_is_no_place_is_told_so() {
    let (relay, held) = slow(|listen| listen.max_connections = 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(relay.dns).unwrap();
    socket.send(&of_key(2).to_bytes().unwrap()).unwrap();
    // A connection takes no place of datagrams: so it is the first one that is in the way.
    let mut stream = tcp(&relay);
    assert_eq!(over_tcp(&mut stream, &of_key(1)).answers.len(), 1);
    let waiting = || {
        let watching = TcpStream::connect(relay.metrics).unwrap();
        let text = exchange(watching, "GET /metrics", b"").2;
        String::from_utf8(text).unwrap().contains("\npkarr_dns_waiting 1\n")
    };
    while !waiting() {
        thread::yield_now();
    }
    assert_eq!(over_udp(relay.dns, &of_key(3)).flags & flag::RCODE, 2);
    drop(held);
}

#[test]
fn a_relay_that_stops_answers_the_queries_that_it_read() {
    let (mut relay, held) = slow(|_| {});
    let mut stream = tcp(&relay);
    let bytes = of_key(2).to_bytes().unwrap();
    stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    // It was read when the next one is answered.
    assert_eq!(over_tcp(&mut stream, &of_key(1)).answers.len(), 1);
    relay.stop.take();
    while TcpStream::connect(relay.dns).is_ok() {
        thread::yield_now();
    }
    drop(held);
    assert_eq!(read(&mut stream).flags & flag::RCODE, 3);
    let mut nothing = Vec::new();
    assert_eq!(stream.read_to_end(&mut nothing).unwrap(), 0);
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let relay = Running::start(Memory::default(), |_, _| {});
    relay.ask("GET /nothing", b"");
    let stream = TcpStream::connect(relay.metrics).unwrap();
    let (status, head, body) = exchange(stream, "GET /metrics", b"");
    let text = String::from_utf8(body).unwrap();
    assert!(status == 200 && head.contains("text/plain; version=0.0.4"));
    assert!(text.contains("\npkarr_http_client_errors_total 1\n"));
    assert!(text.ends_with("\nmemory 1\n"));
    assert_eq!(relay.ask("GET /metrics", b"").0, 400, "no key, where packets are");
    let stream = TcpStream::connect(relay.metrics).unwrap();
    assert_eq!(exchange(stream, "GET /", b"").0, 404);
}

#[test]
fn a_relay_that_stops_finishes_what_it_began() {
    let (held, receiver) = async_channel::bounded(1);
    let backend = Memory { held: Some(receiver), ..Memory::default() };
    let mut relay = Running::start(backend, |_, _| {});
    let path = format!("/{}", packet(5).public_key());
    let mut stream = relay.connect();
    send(&mut stream, &format!("PUT {path}\nconnection: close\r\n"), packet(5).relay_payload());
    while relay.ask(&format!("PUT {path}"), packet(4).relay_payload()).0 != 409 {
        thread::yield_now();
    }
    relay.stop.take();
    // Nobody new is let in any more.
    while TcpStream::connect(relay.http).is_ok() {
        thread::yield_now();
    }
    drop(held);
    assert_eq!(reply(stream).0, 204);
}
