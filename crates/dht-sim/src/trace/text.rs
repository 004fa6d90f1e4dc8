//! A trace as text: one event a line, in fixed columns.

use core::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use dht_proto::wire::{self, Body, Method};

use super::{Record, Recorder, Verb};

/// Writes every event as a line: seconds, what, from, to, bytes, and what the datagram says.
pub struct Text<W>(Arc<Mutex<Sink<W>>>);

struct Sink<W> {
    out: W,
    result: io::Result<()>,
}

impl<W> Clone for Text<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> fmt::Debug for Text<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text")
    }
}

impl<W: Write> Text<W> {
    /// Writes to `out`, beginning with the heads of the columns.
    #[must_use]
    pub fn new(mut out: W) -> Self {
        let result = writeln!(
            out,
            "{:>16} {:7} {:>21} {:>21} {:>5} message",
            "seconds", "what", "from", "to", "bytes"
        );
        Self(Arc::new(Mutex::new(Sink { out, result })))
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// The first error there was since the start.
    pub fn close(self) -> io::Result<()> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::replace(&mut sink.result, Ok(()))?;
        sink.out.flush()
    }
}

impl<W: Write + Send> Recorder for Text<W> {
    fn record(&mut self, record: &Record<'_>) {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.result.is_ok() {
            sink.result = write_line(&mut sink.out, record);
        }
    }
}

fn write_line(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let Record { at, verb, from, to, bytes } = record;
    let micros = at.as_micros();
    let verb = match verb {
        Verb::Sent => "sent",
        Verb::Arrived => "arrived",
        Verb::Lost => "lost",
        Verb::Woke => "woke",
    };
    let (secs, rest) = (micros / 1_000_000, micros % 1_000_000);
    let (from, to): (&SocketAddr, &SocketAddr) = (from, to);
    write!(out, "{secs:>9}.{rest:06} {verb:7} {:>21} {:>21}", from.to_string(), to.to_string())?;
    if bytes.is_empty() {
        return writeln!(out);
    }
    writeln!(out, " {:>5} {}", bytes.len(), summary(bytes))
}

/// What a datagram says, in a few words.
fn summary(bytes: &[u8]) -> String {
    let message = match wire::decode(bytes) {
        Ok(message) => message,
        Err(error) => return format!("garbage: {error}"),
    };
    let words = match message.body {
        Body::Query(query) => match query.method {
            Method::Ping => "ping".to_owned(),
            Method::FindNode { target } => format!("find_node {target:?}"),
            Method::GetPeers { info_hash, .. } => format!("get_peers {info_hash}"),
            Method::AnnouncePeer { info_hash, .. } => format!("announce_peer {info_hash}"),
            Method::Get { target, .. } => format!("get {target}"),
            Method::Put(_) => "put".to_owned(),
            Method::SampleInfohashes { .. } => "sample_infohashes".to_owned(),
            Method::Unknown { .. } | _ => "unknown".to_owned(),
        },
        Body::Reply(reply) => {
            let nodes = reply.nodes.map_or(0, |nodes| nodes.len() / 26)
                + reply.nodes6.map_or(0, |nodes| nodes.len() / 38);
            let values = reply.values.map_or(0, |values| values.iter().count());
            let item = if reply.v.is_some() { " item" } else { "" };
            format!("reply of {} with {nodes} nodes {values} values{item}", reply.id)
        }
        Body::Error(error) => format!("error {}", error.code),
    };
    let mut line = String::new();
    for byte in message.tid.iter().take(8) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    line + " " + &words
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_proto::time::Instant;

    #[test]
    fn columns_stand_under_their_heads() {
        let mut text = Text::new(Vec::new());
        let (from, to) = ("1.2.3.4:5".parse().unwrap(), "255.255.255.255:65535".parse().unwrap());
        let bytes = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe";
        for (verb, bytes) in [(Verb::Sent, &bytes[..]), (Verb::Lost, &[]), (Verb::Arrived, b"xx")] {
            text.record(&Record { at: Instant::from_micros(1_000_002), verb, from, to, bytes });
        }
        let sink = text.0.lock().unwrap();
        let lines: Vec<_> = std::str::from_utf8(&sink.out).unwrap().lines().collect();
        assert_eq!(lines.len(), 4);
        let column = lines[0].find("what").unwrap();
        for (line, verb) in lines[1..].iter().zip(["sent", "lost", "arrived"]) {
            assert!(line.starts_with("        1.000002") && line[column..].starts_with(verb));
        }
        assert!(lines[1].ends_with("6161 ping") && lines[3].contains("garbage"));
    }
}
