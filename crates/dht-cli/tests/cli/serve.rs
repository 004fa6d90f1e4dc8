//! `dht relay` and `dht dns`, with a DHT of a few nodes behind them.

use core::net::SocketAddr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};

use dht_pkarr_client::now;
use dht_pkarr_client::pkarr::dns::{Message, Question, flag};
use dht_pkarr_client::pkarr::record::{CLASS_IN, kind};
use dht_pkarr_client::pkarr::{Keypair, SignedPacket};
use serde_json::Value;

use crate::support::{Node, TempDir, command, dht};

/// A relay or a DNS server in a process of its own; killed when dropped.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    serving: Vec<(String, SocketAddr)>,
}

impl Server {
    /// Starts it and waits until it serves so many addresses.
    pub(crate) fn start(args: &[&str], addresses: usize) -> Self {
        let mut child = command(&[args, &["--json"]].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut serving = Vec::new();
        while serving.len() < addresses {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "{args:?} ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["type"] == "serving" {
                let addr = line["addr"].as_str().unwrap().parse().unwrap();
                serving.push((line["protocol"].as_str().unwrap().to_owned(), addr));
            }
        }
        Self { child, stdout, serving }
    }

    pub(crate) fn addr(&self, protocol: &str) -> SocketAddr {
        self.serving.iter().find(|(name, _)| name == protocol).unwrap().1
    }

    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Status, head and body of a reply.
pub(crate) fn http(addr: SocketAddr, request: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let len = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    (head[9..12].parse().unwrap(), head, reply[end + 4..].to_vec())
}

fn look(addr: SocketAddr, name: &str, kind: u16) -> Message {
    let mut query = Message::new(7, flag::RECURSION_DESIRED);
    let name = name.parse().unwrap();
    query.questions.push(Question { name, kind, class: CLASS_IN });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(addr).unwrap();
    socket.send(&query.to_bytes().unwrap()).unwrap();
    let mut reply = [0; 2_000];
    let len = socket.recv(&mut reply).unwrap();
    Message::from_bytes(&reply[..len]).unwrap()
}

fn packet(secret: u8) -> SignedPacket {
    SignedPacket::builder()
        .address("www", [192, 0, 2, 1].into(), 300)
        .sign(&Keypair::from_secret(&[secret; 32]), now())
        .unwrap()
}

#[test]
fn what_one_relay_publishes_another_and_a_dns_server_find() {
    let first = Node::start("127.71.0.1:0", &["--no-bootstrap"]);
    let second = Node::start("127.71.0.2:0", &["--bootstrap", &first.addr()]);
    let enter = ["--bootstrap", &first.addr(), "--bootstrap", &second.addr()];
    let serve = |args: &[&str], addresses| Server::start(&[args, &enter].concat(), addresses);
    let any = "127.0.0.1:0";
    let relay = serve(&["relay", "--http", any, "--metrics", any, "--bind", "127.71.0.3:0"], 2);
    let packet = packet(1);
    let path = format!("/{}", packet.public_key());
    let (status, head, _) =
        http(relay.addr("http"), &format!("PUT {path}"), packet.relay_payload());
    assert_eq!(status, 204, "{head}");
    assert!(head.contains("pkarr-dht-stored-nodes: 2"), "{head}");

    let other = serve(&["relay", "--http", any, "--bind", "127.71.0.4:0"], 1);
    let (status, head, body) = http(other.addr("http"), &format!("GET {path}"), b"");
    assert_eq!((status, &*body), (200, packet.relay_payload()), "{head}");
    let missing = Keypair::from_secret(&[2; 32]).public_key();
    assert_eq!(http(other.addr("http"), &format!("GET /{missing}"), b"").0, 404);
    let page = http(other.addr("http"), &format!("GET /?name={}", packet.public_key()), b"").2;
    assert!(String::from_utf8(page).unwrap().contains("192.0.2.1"));

    let dns = serve(&["dns", "--dns", any, "--bind", "127.71.0.5:0"], 1);
    let name = format!("www.{}", packet.public_key());
    assert_eq!(look(dns.addr("dns"), &name, kind::A).answers[0].data.to_string(), "192.0.2.1");
    assert_eq!(look(dns.addr("dns"), &missing.to_string(), kind::A).flags & flag::RCODE, 3);
    assert_eq!(look(dns.addr("dns"), "example.com", kind::A).flags & flag::RCODE, 5);

    let metrics = http(relay.addr("metrics"), "GET /metrics", b"").2;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("\npkarr_publications_total 1\n"));
    assert!(metrics.contains("\ndht_contacts "));
    for (server, signal) in [(relay, "-TERM"), (other, "-INT"), (dns, "-TERM")] {
        let (status, rest) = server.stop(signal);
        assert_eq!(status, Some(0));
        assert!(rest.lines().next_back().unwrap().contains("\"type\":\"done\""), "{rest}");
    }
}

#[test]
fn a_relay_without_a_dht_says_so() {
    let relay = Server::start(
        &["relay", "--http", "127.0.0.1:0", "--bind", "127.0.0.1:0", "--no-bootstrap"],
        1,
    );
    let packet = packet(3);
    let path = format!("/{}", packet.public_key());
    assert_eq!(http(relay.addr("http"), &format!("GET {path}"), b"").0, 503);
    let put = http(relay.addr("http"), &format!("PUT {path}"), packet.relay_payload());
    assert_eq!(put.0, 500);
    assert!(!put.2.is_empty(), "with a reason");
}

#[test]
fn a_config_file_sets_what_the_command_line_does_not() {
    let dir = TempDir::new();
    let config = dir.with(
        "relay.toml",
        "http = \"127.0.0.1:0\"\nhttp-quota = \"1r/d\"\nbind = \"127.0.0.1:0\"\nno-bootstrap = true\n",
    );
    let relay = Server::start(&["relay", "--config", &config], 1);
    assert_eq!(http(relay.addr("http"), "GET /", b"").0, 200);
    let (status, head, _) = http(relay.addr("http"), "GET /", b"");
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: 86"), "{head}");
}

#[test]
fn bad_flags_are_named() {
    for (args, word) in [
        (&["relay", "--work-quota", "fast"][..], "a quota is"),
        (&["dns", "--dns", "nowhere"], "--dns"),
        (&["relay", "--min-ttl", "0"], "--min-ttl"),
        (&["dns", "--min-ttl", "10", "--max-ttl", "9"], "give a --max-ttl"),
        (&["relay", "--behind-proxy", "x-real-ip"], "x-forwarded-for"),
        (
            &["relay", "--http", "192.0.2.1:1", "--bind", "127.0.0.1:0", "--no-bootstrap"],
            "192.0.2.1:1",
        ),
    ] {
        let run = dht(args).expect(2);
        assert!(run.stderr.contains(word), "{run:?}");
    }
}
