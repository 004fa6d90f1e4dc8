//! Networks and relays for the tests of both clients.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "each test uses a part, and in a test a panic is a failure that says where"
)]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use dht_mio::Dht;
use dht_mio::proto::config::Mode;
use dht_pkarr_client::pkarr::{Keypair, SignedPacket, Timestamp};

/// Servers that know each other, at 127.0.x.y each: contacts are limited per subnet.
pub struct Network {
    pub servers: Vec<Dht>,
}

impl Network {
    pub fn new(size: u8) -> Self {
        let mut servers: Vec<Dht> = Vec::new();
        for number in 0..size {
            let bind = SocketAddr::from(([127, 0, number + 1, 1], 0));
            let builder = Dht::builder().mode(Mode::Server).bind(bind);
            let builder = match servers.first() {
                Some(first) => builder.bootstrap(first.local_addrs()[0].to_string()),
                None => builder.no_bootstrap(),
            };
            servers.push(builder.spawn().unwrap());
        }
        // Each looks for itself, and so is known; but whoever hears of it asks it first.
        let known = u64::from(size - 1).min(8);
        wait_until("the servers know each other", || {
            servers.iter().all(|server| {
                let done = server.stats().unwrap().node.contacts >= known;
                if !done {
                    let id = server.node_id(dht_mio::proto::addr::Family::V4).unwrap().unwrap();
                    server.find_node(id).unwrap();
                }
                done
            })
        });
        Self { servers }
    }

    /// Where to enter.
    pub fn entry(&self) -> String {
        self.servers[0].local_addrs()[0].to_string()
    }
}

/// A packet of a key, signed at a time.
pub fn packet(keypair: &Keypair, secs: u64, text: &str) -> SignedPacket {
    SignedPacket::builder().txt("@", text, 3_600).sign(keypair, Timestamp::from_secs(secs)).unwrap()
}

/// What somebody asked a [`Relay`].
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A relay that answers by script, one connection and one request at a time.
pub struct Relay {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Relay {
    /// Gives these answers, one after the other, and then no more: each is a head without its last
    /// empty line, and a body.
    pub fn new(answers: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            while let Some((head, body)) = answers.pop_front() {
                let (stream, _) = listener.accept().unwrap();
                let request = read(&stream);
                seen.lock().unwrap().push(request);
                let length = if head.contains("Content-Length") || head.contains(" 304 ") {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                let head = format!("HTTP/1.1 {head}\r\n{length}Connection: close\r\n\r\n");
                (&stream).write_all(&[head.as_bytes(), &body].concat()).unwrap();
            }
        });
        Self { addr, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line();
    let mut headers = Vec::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { line: first, headers, body: Vec::new() };
    let len = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    request.body = vec![0; len];
    lines.read_exact(&mut request.body).unwrap();
    request
}

/// An address where nobody answers HTTP.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Waits until something holds that must, sooner or later.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    // Far longer than it takes, even on a machine that is busy.
    for _ in 0..2_400 {
        if holds() {
            return;
        }
        thread::sleep(core::time::Duration::from_millis(25));
    }
    panic!("waited in vain until {what}");
}

/// A node that takes part in all but storing: puts to it get no answer. It ends with the test.
pub fn deaf(number: u8, entry: &str) {
    use dht_mio::proto::{Dht as Core, MAX_DATAGRAM, Networks, seed::Seed, time::Instant};
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, number, 2], 0))).unwrap();
    socket.set_read_timeout(Some(core::time::Duration::from_millis(10))).unwrap();
    let mut config = dht_mio::proto::config::Config::default();
    config.mode = Mode::Server;
    let begin = std::time::Instant::now();
    let now = move || Instant::from_micros(begin.elapsed().as_micros() as u64);
    let seed = Seed::from_bytes([number; 32]);
    let mut dht = Core::new(Arc::new(config), Networks::V4, &seed, now());
    dht.add_bootstrap(now(), entry.parse().unwrap());
    thread::spawn(move || {
        let (mut from_them, mut to_them) = ([0; 2_048], [0; MAX_DATAGRAM]);
        loop {
            if let Ok((len, from)) = socket.recv_from(&mut from_them) {
                let datagram = &from_them[..len];
                let puts = datagram.windows(8).any(|part| part == b"1:q3:put");
                if !puts
                    && let Some(reply) = dht.handle_datagram(now(), from, datagram, &mut to_them)
                {
                    drop(socket.send_to(&to_them[..reply.len], reply.to));
                }
            }
            dht.handle_timeout(now());
            while dht.poll_event().is_some() {}
            while let Some(query) = dht.poll_transmit(now(), &mut to_them) {
                drop(socket.send_to(&to_them[..query.len], query.to));
            }
        }
    });
}
