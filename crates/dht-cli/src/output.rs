//! What a command prints: words for people, or one JSON object per line.

use core::cell::RefCell;
use core::fmt;
use core::net::SocketAddr;
use core::num::NonZeroU32;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;

use dht_mio::proto::request::{Ended, NodeInfo, Outcome};
use serde::Serialize;

use crate::args::Global;
use crate::failure::Failure;
use crate::inspect::Explained;
use crate::progress::Screen;

pub(crate) mod pkarr;

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    verbose: bool,
    screen: Arc<Screen>,
    /// The first failure to write; commands end with it.
    broken: RefCell<Option<io::Error>>,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            verbose: global.verbose,
            screen: Arc::default(),
            broken: RefCell::new(None),
        }
    }

    pub(crate) const fn is_verbose(&self) -> bool {
        self.verbose
    }

    pub(crate) fn screen(&self) -> Arc<Screen> {
        Arc::clone(&self.screen)
    }

    /// Prints a result: `words` for people, or `line` as JSON.
    pub(crate) fn result(&self, words: impl fmt::Display, line: &Line<'_>) {
        if self.json {
            self.json(line);
        } else {
            self.words(words);
        }
    }

    /// Prints something for people only.
    pub(crate) fn words(&self, words: impl fmt::Display) {
        if !self.json {
            self.write(&format!("{}\n", harmless(&words.to_string())));
        }
    }

    /// Prints something for programs only.
    pub(crate) fn json(&self, line: &Line<'_>) {
        if !self.json {
            return;
        }
        match serde_json::to_string(line) {
            Ok(text) => self.write(&format!("{text}\n")),
            Err(error) => self.note_broken(error.into()),
        }
    }

    /// Says something on standard error, whoever reads the results.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        self.screen.stderr(&format!("{}\n", harmless(&text.to_string())));
    }

    /// Says something on standard error if asked to say more.
    pub(crate) fn verbose(&self, text: impl fmt::Display) {
        if self.verbose {
            self.warn(text);
        }
    }

    /// Reports a failure: to people on standard error, to programs on standard output too.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.warn(format_args!("error: {}\nhint: {}", failure.message, failure.hint));
        self.json(&Line::Error {
            code: failure.status as u8,
            message: &failure.message,
            hint: &failure.hint,
        });
    }

    /// Fails if results could not be written. Long streams ask now and then.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &*self.broken.borrow() {
            Some(error) => Err(Failure::output(error)),
            None => Ok(()),
        }
    }

    /// Whether the reader of the results has gone, as `head` does: no reason to complain.
    pub(crate) fn reader_is_gone(&self) -> bool {
        self.broken.borrow().as_ref().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn write(&self, text: &str) {
        if self.broken.borrow().is_some() {
            return;
        }
        let written = self.screen.with_results(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        });
        if let Err(error) = written {
            self.note_broken(error);
        }
    }

    fn note_broken(&self, error: io::Error) {
        self.broken.borrow_mut().get_or_insert(error);
    }
}

/// A line of JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// The node answers at this address.
    Listening { addr: SocketAddr, id: String },
    /// Something is served at this address: `http`, `dns` or `metrics`.
    Serving { protocol: &'a str, addr: SocketAddr },
    /// A simulated network answers.
    #[serde(rename = "listening")]
    #[cfg_attr(
        any(not(target_os = "linux"), dht_portable),
        expect(dead_code, reason = "there is no dht testnet here")
    )]
    Testnet(Testnet<'a>),
    /// How the simulated network is doing.
    #[serde(rename = "status")]
    #[cfg_attr(
        any(not(target_os = "linux"), dht_portable),
        expect(dead_code, reason = "there is no dht testnet here")
    )]
    TestnetStatus(TestnetStatus),
    /// Something happened to the node.
    Notice { message: String },
    /// How the node is doing.
    Status(Status),
    /// A peer of a torrent.
    Peer { addr: SocketAddr },
    /// A node of the DHT.
    Node { id: String, addr: SocketAddr },
    /// An item.
    Item(Item),
    /// A signed packet.
    Packet(pkarr::Packet),
    /// How all packets that are kept alive are doing.
    Keeping(pkarr::Keeping),
    /// What became of a packet that is kept alive.
    Kept(pkarr::Kept),
    /// A record of a signed packet.
    Record(pkarr::Record),
    /// An infohash that a node stores.
    InfoHash { info_hash: String },
    /// A step of the demonstration.
    Step { name: &'a str, ok: bool, result: &'a str, duration_ms: f64 },
    /// A datagram, explained.
    Message(&'a Explained),
    /// What went wrong, and what to do.
    Error { code: u8, message: &'a str, hint: &'a str },
    /// The last line.
    Done(Done),
}

/// How the node is doing.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Status {
    pub(crate) contacts: u64,
    pub(crate) torrents: u64,
    pub(crate) peers: u64,
    pub(crate) items: u64,
    pub(crate) datagrams_in: u64,
    pub(crate) replies_out: u64,
    pub(crate) problems: Vec<String>,
}

/// A simulated network.
#[derive(Debug, Serialize)]
pub(crate) struct Testnet<'a> {
    /// Of the first socket.
    pub(crate) addr: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range_v6: Option<String>,
    /// Of all nodes.
    pub(crate) port: u16,
    /// How many ports NATs map to, from that one on.
    pub(crate) nat_ports: u16,
    pub(crate) nodes: u32,
    pub(crate) profile: &'a str,
    /// How much shorter than the profile says nodes stay, if they come and go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) churn: Option<NonZeroU32>,
    pub(crate) seed: u64,
    /// Nodes to start from.
    pub(crate) bootstrap: &'a [SocketAddr],
    pub(crate) pid: u32,
    pub(crate) netns: bool,
    /// How long it took to build.
    pub(crate) duration_ms: f64,
}

/// How a simulated network is doing.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TestnetStatus {
    pub(crate) datagrams_in: u64,
    pub(crate) datagrams_out: u64,
    pub(crate) dropped: u64,
    /// Datagrams within the network.
    pub(crate) simulated: u64,
    /// Nodes that left, and nodes that came.
    pub(crate) left: u64,
    pub(crate) came: u64,
    pub(crate) lateness_ms: f64,
    pub(crate) max_lateness_ms: f64,
}

/// An item, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    pub(crate) target: String,
    /// The bencoded value, as hex.
    pub(crate) bencode: String,
    /// The value, if it is a string in UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
    /// The salt, if there is one in UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) salt_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<String>,
}

/// The last line of a command. Which fields it has depends on the command.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<i64>,
    /// Nodes that acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<u32>,
    /// How many nodes refused with which error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errors: Option<BTreeMap<i64, u32>>,
    /// Distinct peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seeds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) downloaders: Option<f64>,
    /// Whether what was asked for was found, or everything worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(flatten)]
    pub(crate) pkarr: Option<Box<pkarr::Done>>,
    #[serde(flatten)]
    pub(crate) lookup: Option<Summary>,
}

/// What every lookup can tell about itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    ended: &'static str,
    queries: u32,
    replies: u32,
    error_replies: u32,
    timeouts: u32,
    depth: u8,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_value_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    converged_ms: Option<f64>,
}

impl Summary {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        Self {
            ended: match outcome.ended {
                Ended::Completed => "completed",
                Ended::TimedOut => "timed_out",
                Ended::NoContacts => "no_contacts",
                Ended::OnlyErrors => "only_errors",
                Ended::NoAnswer | _ => "no_answer",
            },
            queries: outcome.queries,
            replies: outcome.replies,
            error_replies: outcome.errors,
            timeouts: outcome.timeouts,
            depth: outcome.depth,
            duration_ms: millis(outcome.duration),
            first_value_ms: outcome.first_value.map(millis),
            converged_ms: outcome.converged.map(millis),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queries, {} replies", self.queries, self.replies)?;
        if self.error_replies > 0 {
            write!(f, ", {} errors", self.error_replies)?;
        }
        if self.timeouts > 0 {
            write!(f, ", {} timeouts", self.timeouts)?;
        }
        if self.depth > 0 {
            write!(f, ", depth {}", self.depth)?;
        }
        write!(f, ", {}", Millis(self.duration_ms))?;
        if let Some(first) = self.first_value_ms {
            write!(f, " (first value after {})", Millis(first))?;
        }
        if self.ended == "timed_out" {
            f.write_str(", out of time")?;
        }
        Ok(())
    }
}

/// A duration for people: milliseconds below a second, seconds above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Millis(pub(crate) f64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(millis) = *self;
        let text = if millis < 10.0 {
            format!("{millis:.1} ms")
        } else if millis < 1_000.0 {
            format!("{millis:.0} ms")
        } else {
            format!("{:.1} s", millis / 1_000.0)
        };
        f.pad(&text)
    }
}

/// Escapes what could make a terminal do something: values and messages come from strangers.
fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Milliseconds with three decimals.
pub(crate) fn millis(duration: core::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// How many nodes refused with which code.
pub(crate) fn errors(outcome: &Outcome) -> BTreeMap<i64, u32> {
    let mut errors = BTreeMap::new();
    for refusal in &outcome.refusals {
        *errors.entry(refusal.code).or_default() += 1;
    }
    errors
}

/// A node of the DHT, for both kinds of reader.
pub(crate) fn node(out: &Output, node: &NodeInfo) {
    let id = node.id.to_string();
    out.result(
        format_args!("{id}  {}", node.addr),
        &Line::Node { id: id.clone(), addr: node.addr },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(line: &Line<'_>) -> String {
        serde_json::to_string(line).unwrap()
    }

    #[test]
    fn every_line_starts_with_its_type() {
        let addr = "127.0.0.1:6881".parse().unwrap();
        assert_eq!(json(&Line::Peer { addr }), r#"{"type":"peer","addr":"127.0.0.1:6881"}"#);
        assert_eq!(
            json(&Line::Listening { addr, id: "00".to_owned() }),
            r#"{"type":"listening","addr":"127.0.0.1:6881","id":"00"}"#
        );
    }

    #[test]
    fn done_counts_refusals_by_code() {
        let errors = BTreeMap::from([(301, 2)]);
        let done = Done { stored: Some(0), errors: Some(errors), ..Done::default() };
        assert_eq!(json(&Line::Done(done)), r#"{"type":"done","stored":0,"errors":{"301":2}}"#);
    }

    #[test]
    fn the_summary_of_a_lookup_is_part_of_done() {
        let mut outcome = Outcome::default();
        outcome.queries = 3;
        outcome.duration = core::time::Duration::from_micros(1_234_567);
        let done = Done { lookup: Some(Summary::of(&outcome)), ..Done::default() };
        let value: serde_json::Value = serde_json::from_str(&json(&Line::Done(done))).unwrap();
        assert_eq!(value["queries"], 3);
        assert_eq!(value["duration_ms"], 1234.567);
        assert_eq!(value["ended"], "completed");
    }

    #[test]
    fn strangers_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\u{9b}\nc\té"), "a\\u{1b}[2Jb\\r\\u{9b}\nc\\té");
    }

    #[test]
    fn durations_are_readable() {
        for (millis, text) in [(1.26, "1.3 ms"), (12.6, "13 ms"), (1_260.0, "1.3 s")] {
            assert_eq!(Millis(millis).to_string(), text);
        }
    }
}
