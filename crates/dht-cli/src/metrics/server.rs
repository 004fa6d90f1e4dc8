//! A small HTTP/1.1 server for `GET /metrics`.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use dht_mio::Dht;

use crate::failure::Failure;

/// Connections served at a time; more are turned away.
const MAX_CONNECTIONS: usize = 8;
/// A request's head is shorter than this, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Reading a request takes no longer than this, and so does writing a reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause when the system cannot accept connections, for example for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket that serves metrics once started.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    listener: TcpListener,
}

impl MetricsServer {
    /// Takes the address.
    pub(crate) fn bind(addr: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(addr).map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::AddrInUse {
                "stop the other program or choose another port for --metrics"
            } else {
                "give --metrics an address of this machine and a port above 1023"
            };
            Failure::input(format!("cannot serve metrics on {addr}: {error}"), hint)
        })?;
        Ok(Self { listener })
    }

    /// Where the metrics are.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves on a thread of its own until the program ends.
    pub(crate) fn start(self, dht: Dht) -> Result<(), Failure> {
        let serve = move || self.serve(&dht);
        match thread::Builder::new().name("metrics".to_owned()).spawn(serve) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::input(
                format!("cannot start a thread for metrics: {error}"),
                "allow more threads, or leave out --metrics",
            )),
        }
    }

    fn serve(&self, dht: &Dht) {
        let open = Arc::new(AtomicUsize::new(0));
        for stream in self.listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                // Closing at once costs least; the scraper comes again.
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (dht, slot) = (dht.with_timeout(PATIENCE), Slot(Arc::clone(&open)));
            // Without a thread, the closure is dropped, and the connection and its slot with it.
            drop(thread::Builder::new().name("metrics".to_owned()).spawn(move || {
                let _slot = slot;
                // The other side sees that the connection ends, and nobody else cares.
                drop(answer(stream, &dht));
            }));
        }
    }
}

/// A place among the open connections.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, dht: &Dht) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let request = request(&head);
    let only_head = request == Ok(Request { only_head: true });
    let (status, body) = match request {
        Ok(Request { .. }) => match dht.stats().and_then(|stats| Ok((stats, dht.health()?))) {
            Ok((stats, health)) => ("200 OK", super::text(&stats, &health)),
            Err(error) => ("503 Service Unavailable", format!("{error}\n")),
        },
        Err(status) => (status, format!("{status}\nThe metrics are at /metrics.\n")),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(reply.as_bytes())?;
    if !only_head {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

/// Reads until the empty line, the end, or a bound.
fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < MAX_HEAD && !ends(&head) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => break,
            len => head.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
    }
    Ok(head)
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// A request that is answered with metrics.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// HEAD wants no body.
    only_head: bool,
}

/// Reads the request line; the error is the status to answer with.
fn request(head: &[u8]) -> Result<Request, &'static str> {
    const BAD: &str = "400 Bad Request";
    if !ends(head) {
        return Err(BAD);
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| BAD)?;
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") {
        return Err(BAD);
    }
    let only_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err("405 Method Not Allowed"),
    };
    let path = target.split('?').next().unwrap_or_default();
    if path == "/metrics" { Ok(Request { only_head }) } else { Err("404 Not Found") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_are_served() {
        let get = |line: &str| request(format!("{line}\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(get("GET /metrics HTTP/1.1"), Ok(Request { only_head: false }));
        assert_eq!(get("GET /metrics?x=1 HTTP/1.0"), Ok(Request { only_head: false }));
        assert_eq!(get("HEAD /metrics HTTP/1.1"), Ok(Request { only_head: true }));
        assert_eq!(get("GET / HTTP/1.1"), Err("404 Not Found"));
        assert_eq!(get("POST /metrics HTTP/1.1"), Err("405 Method Not Allowed"));
        for bad in ["", "GET", "GET /metrics", "GET /metrics SPDY/1", "GET /a /b HTTP/1.1"] {
            assert_eq!(get(bad), Err("400 Bad Request"), "{bad}");
        }
        assert_eq!(request(b"GET /metrics HTTP/1.1\r\n"), Err("400 Bad Request"));
        assert_eq!(request(b"\xff\xff \xff\r\n\r\n"), Err("400 Bad Request"));
    }
}
