//! How many cached packets a relay gives out per second on one core.
//!
//! The relay is a process of its own on the first core, its clients are threads on the second. Wall
//! time is noise on shared machines, so what counts is the processor time that the relay took for each
//! reply. `--other PID ADDR:PORT KEY` measures another relay the same way, which was started by hand
//! and has the packet of KEY in its cache: `cargo bench -p dht-relay -- --other ...`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a panic is a failure that says where"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dht_pkarr::cache::Cache;
use dht_pkarr::resolve::Policy;
use dht_pkarr::{CachedPacket, Keypair, PublicKey, SignedPacket, Timestamp};
use dht_relay::server::{Listen, Server};
use dht_relay::{Backend, Found, Options, PublishError, ResolveError};

/// Keys in the cache; clients ask for them in turn.
const KEYS: u8 = 200;
const CLIENTS: usize = 32;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Ticks of `/proc/PID/stat` in a second, on every Linux there is.
const TICKS: f64 = 100.0;

struct Cached(Mutex<Cache>);

impl Backend for Cached {
    fn cached(&self, key: &PublicKey) -> Option<CachedPacket> {
        self.0.lock().unwrap().get(key).cloned()
    }

    async fn resolve(&self, _: PublicKey, _: Policy) -> Result<Found, ResolveError> {
        Err(ResolveError::NotFound)
    }

    async fn publish(&self, _: SignedPacket, _: Option<Timestamp>) -> Result<u32, PublishError> {
        Err(PublishError::NotMostRecent)
    }
}

fn keypair(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match &args[..] {
        ["--serve"] => serve(),
        ["--ask", addr, keys @ ..] => ask(addr.parse().unwrap(), keys),
        ["--other", pid, addr, key] => {
            measure("ours", None);
            measure("other", Some((pid.parse().unwrap(), addr.parse().unwrap(), key)));
        }
        _ => measure("ours", None),
    }
}

/// The relay: says where it is, and serves until it is killed.
fn serve() {
    let now = Timestamp::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let mut cache = Cache::new(KEYS.into());
    for number in 0..KEYS {
        let packet = SignedPacket::builder()
            .address("@", [192, 0, 2, number].into(), 86_400)
            .txt("_service", "v=1 something of the usual length", 86_400)
            .sign(&keypair(number), now)
            .unwrap();
        cache.put(CachedPacket::new(packet, now));
    }
    let mut options = Options::default();
    options.http_quota = None;
    let mut listen = Listen::default();
    listen.http = vec!["127.0.0.1:0".parse().unwrap()];
    let server = Server::bind(&listen, options, Cached(Mutex::new(cache))).unwrap();
    println!("{}", server.http_addrs()[0]);
    async_io::block_on(server.run(std::future::pending()));
}

/// The clients: each asks, waits for the reply, and asks again. Prints the replies of each round.
fn ask(addr: SocketAddr, keys: &[&str]) {
    let (replies, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (replies, stop) = (&replies, &stop);
            scope.spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = [0; 4_096];
                for key in keys.iter().cycle().skip(client) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let request = format!("GET /{key} HTTP/1.1\r\nhost: relay\r\n\r\n");
                    stream.write_all(request.as_bytes()).unwrap();
                    let len = stream.read(&mut buffer).unwrap();
                    assert!(buffer[..len].starts_with(b"HTTP/1.1 200"), "a packet comes whole");
                    replies.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut line = String::new();
        // A line asks for the number so far; the end of input for the end.
        while std::io::stdin().read_line(&mut line).unwrap() > 0 {
            println!("{}", replies.load(Ordering::Relaxed));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// This program again, on one core if the system can do that.
fn again(core: &str, args: &[&str]) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(&own).args(args);
    let mut plain = Command::new(own);
    plain.args(args);
    for command in [&mut command, &mut plain] {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }
    command.spawn().or_else(|_| plain.spawn()).unwrap()
}

/// Seconds of processor time that a process has taken.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may hold spaces; user and system time are the 12th and 13th behind it.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

fn measure(name: &str, other: Option<(u32, SocketAddr, &str)>) {
    let mut server = None;
    let (pid, addr, keys) = if let Some((pid, addr, key)) = other {
        (pid, addr, vec![key.to_owned()])
    } else {
        let mut child = again("0", &["--serve"]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = child.id();
        server = Some(child);
        let keys = (0..KEYS).map(|number| keypair(number).public_key().to_string());
        (pid, line.trim().parse().unwrap(), keys.collect())
    };
    let addr = addr.to_string();
    let mut args = vec!["--ask", &*addr];
    args.extend(keys.iter().map(String::as_str));
    let mut clients = again("1", &args);
    let mut input = clients.stdin.take().unwrap();
    let mut output = BufReader::new(clients.stdout.take().unwrap());
    let mut count = || -> f64 {
        let mut line = String::new();
        input.write_all(b"\n").unwrap();
        output.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    };
    println!("{name}: {CLIENTS} connections");
    println!("  {:>10} {:>10} {:>12} {:>12}", "replies/s", "core busy", "us/reply", "per core-s");
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let (began, cpu_before, before) = (Instant::now(), cpu(pid), count());
        thread::sleep(ROUND);
        let (replies, busy) = (count() - before, cpu(pid) - cpu_before);
        let secs = began.elapsed().as_secs_f64();
        let (rate, share, cost) = (replies / secs, busy / secs, busy / replies);
        println!("  {rate:>10.0} {share:>10.2} {:>12.2} {:>12.0}", cost * 1e6, 1.0 / cost);
        costs.push(cost);
    }
    costs.sort_by(f64::total_cmp);
    println!("  median: {:.0} replies in a second of one core", 1.0 / costs[ROUNDS / 2]);
    drop(input);
    drop(clients.wait());
    if let Some(mut server) = server {
        drop(server.kill());
        drop(server.wait());
    }
}
