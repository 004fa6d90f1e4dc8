//! How many cached packets a relay gives out per second on one core, beside the reference
//! implementation's relay if that is installed.
//!
//! Each relay is a process of its own on the first core, its clients are a thread on the second, and
//! rounds of both alternate. Wall time is noise on shared machines, so what counts is the processor time
//! that a relay took for each reply.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a panic is a failure that says where"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dht_pkarr::{CachedPacket, Keypair, PublicKey, SignedPacket, Timestamp};
use dht_pkarr_client::{PacketCache, smol};
use dht_relay::Options;
use dht_relay::server::{Listen, Server};
use support::{INSTALL, PkarrRelay};

/// Keys in the cache; clients ask for them in turn.
const KEYS: u8 = 200;
const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Ticks of `/proc/PID/stat` in a second, on every Linux there is.
const TICKS: f64 = 100.0;
/// How often a packet is handed to a relay whose nodes have hardly met.
const TRIES: usize = 20;

const SERVERS_CORE: &[&str] = &["taskset", "-c", "0"];
const CLIENTS_CORE: &[&str] = &["taskset", "-c", "1"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match &args[..] {
        ["--serve"] => serve(),
        ["--ask", addr] => ask(addr.parse().unwrap()),
        _ => compare(),
    }
}

fn keypair(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn packets() -> impl Iterator<Item = SignedPacket> {
    let now = Timestamp::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    (0..KEYS).map(move |number| {
        let builder = SignedPacket::builder().address("@", [192, 0, 2, number].into(), 86_400).txt(
            "_service",
            "v=1 something of the usual length",
            86_400,
        );
        builder.sign(&keypair(number), now).unwrap()
    })
}

/// Our relay with a node, its client and all packets in its cache: says where it is, and serves until
/// it is killed.
fn serve() {
    let now = Timestamp::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let cache = PacketCache::new(KEYS.into());
    packets().for_each(|packet| cache.put(CachedPacket::new(packet, now)));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let node = dht_smol::Dht::builder().bind(any).no_bootstrap().spawn().unwrap();
    let client = smol::Client::builder().dht(node).cache(cache).build().unwrap();
    let (mut options, mut listen) = (Options::default(), Listen::default());
    options.http_quota = None;
    listen.http = vec![any];
    let server = Server::bind(&listen, options, client).unwrap();
    println!("{}", server.http_addrs()[0]);
    async_io::block_on(server.run(std::future::pending()));
}

/// The clients: each asks, waits for the reply, and asks again. For each line of input there is a round,
/// and a line with the number of its replies and its seconds.
fn ask(addr: SocketAddr) {
    let keys: Vec<PublicKey> = (0..KEYS).map(|number| keypair(number).public_key()).collect();
    // What comes is what was asked for.
    let mut connection = Connection::new(addr);
    for key in &keys {
        connection.send(key);
        SignedPacket::from_relay_payload(key, connection.reply()).unwrap();
    }
    println!("ready");
    let mut keys = keys.iter().cycle();
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        // Relays close what is idle for long.
        let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::new(addr)).collect();
        let (began, mut replies) = (Instant::now(), 0_u64);
        for connection in &mut connections {
            connection.send(keys.next().unwrap());
        }
        while began.elapsed() < ROUND {
            for connection in &mut connections {
                connection.reply();
                connection.send(keys.next().unwrap());
            }
            replies += CONNECTIONS as u64;
        }
        for connection in &mut connections {
            connection.reply();
        }
        replies += CONNECTIONS as u64;
        println!("{replies} {}", began.elapsed().as_secs_f64());
    }
}

/// A client.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 8_192] }
    }

    fn send(&mut self, key: &PublicKey) {
        let request = format!("GET /{key} HTTP/1.1\r\nhost: relay\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    /// The body of a reply.
    fn reply(&mut self) -> &[u8] {
        let (mut len, mut whole) = (0, None);
        while whole.is_none_or(|(_, end)| len < end) {
            let more = self.stream.read(&mut self.buffer[len..]).unwrap();
            assert!(more > 0, "the relay closes no connection");
            len += more;
            whole = whole.or_else(|| Self::body(&self.buffer[..len]));
        }
        let (begin, end) = whole.unwrap();
        assert!(self.buffer.starts_with(b"HTTP/1.1 200") && len == end);
        &self.buffer[begin..end]
    }

    /// Where the body is, once the head is there.
    fn body(reply: &[u8]) -> Option<(usize, usize)> {
        let head = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
        let text = core::str::from_utf8(&reply[..head]).unwrap();
        let (_, rest) = text.split_once("content-length: ").unwrap();
        let len: usize = rest.lines().next().unwrap().parse().unwrap();
        Some((head + 4, head + 4 + len))
    }
}

/// A process that ends when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// This program again, behind the words of a command.
fn again(before: &[&str], args: &[&str]) -> Process {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(&own).args(args);
    let mut plain = Command::new(own);
    plain.args(args);
    for command in [&mut command, &mut plain] {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }
    // Not every system can choose the core.
    Process(command.spawn().or_else(|_| plain.spawn()).unwrap())
}

/// Seconds of processor time that a process has taken.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may hold spaces; user and system time are the 12th and 13th behind it.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// A relay being asked, and what its replies cost.
struct Asked {
    name: &'static str,
    pid: u32,
    #[expect(dead_code, reason = "only held")]
    clients: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Seconds of processor time for each reply, of each round.
    costs: Vec<f64>,
}

impl Asked {
    fn new(name: &'static str, pid: u32, addr: SocketAddr) -> Self {
        let mut clients = again(CLIENTS_CORE, &["--ask", &addr.to_string()]);
        let input = clients.0.stdin.take().unwrap();
        let mut output = BufReader::new(clients.0.stdout.take().unwrap());
        let mut ready = String::new();
        output.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "all packets are there");
        Self { name, pid, clients, input, output, costs: Vec::new() }
    }

    fn round(&mut self) {
        let before = cpu(self.pid);
        self.input.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let busy = cpu(self.pid) - before;
        let (replies, secs) = line.trim().split_once(' ').unwrap();
        let (replies, secs): (f64, f64) = (replies.parse().unwrap(), secs.parse().unwrap());
        let (rate, share, cost) = (replies / secs, busy / secs, busy / replies);
        println!(
            "{:>12} {rate:>10.0} {share:>10.2} {:>10.2} {:>12.0}",
            self.name,
            cost * 1e6,
            1.0 / cost
        );
        self.costs.push(cost);
    }

    /// Replies in a second of one core.
    fn end(mut self) -> f64 {
        self.costs.sort_by(f64::total_cmp);
        1.0 / self.costs[self.costs.len() / 2]
    }
}

fn compare() {
    let mut own = again(SERVERS_CORE, &["--serve"]);
    let mut line = String::new();
    BufReader::new(own.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut ours = Asked::new("ours", own.0.id(), line.trim().parse().unwrap());
    let relay = PkarrRelay::start(SERVERS_CORE);
    let mut theirs = relay.as_ref().ok().map(|relay| {
        packets().for_each(|packet| publish(&packet));
        Asked::new("pkarr-relay", relay.pid(), PkarrRelay::addr())
    });
    println!("{CONNECTIONS} connections, {KEYS} keys, rounds of {} s", ROUND.as_secs());
    let head = ["relay", "replies/s", "core busy", "us/reply", "per core-s"];
    println!("{:>12} {:>10} {:>10} {:>10} {:>12}", head[0], head[1], head[2], head[3], head[4]);
    for _ in 0..ROUNDS {
        ours.round();
        if let Some(theirs) = &mut theirs {
            theirs.round();
        }
    }
    let rate = ours.end();
    println!("ours: {rate:.0} replies in a second of one core (median)");
    match (theirs.map(Asked::end), relay.err()) {
        (Some(other), _) => {
            println!("pkarr-relay: {other:.0}");
            println!("ratio: {:.2}", rate / other);
        }
        (None, why) => {
            println!("pkarr-relay: not measured: {}", why.unwrap_or_default());
            println!("  to have it: {INSTALL}");
        }
    }
}

/// Hands a packet to the other relay, whose cache has it then.
fn publish(packet: &SignedPacket) {
    let agent = smol::Client::builder().relay(format!("http://{}", PkarrRelay::addr()));
    let client = agent.cache(PacketCache::new(0)).build().unwrap();
    for _ in 0..TRIES {
        if async_io::block_on(client.publish(packet)).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("pkarr-relay does not take a packet");
}
