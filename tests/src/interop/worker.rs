//! Nodes that run in a process of another language, driven by lines of JSON.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use dht_proto::id::{InfoHash, ItemId, Target};
use serde_json::{Value, json};

use super::patience::OPERATION;
use super::{Kind, Mutable, NodeSpec, Peer, PeerError, Put, Result, Samples, Version};

/// How many of the last lines of a worker's stderr go into the message of a failure.
const STDERR_LINES: usize = 40;

/// A child process that runs any number of nodes of one kind. Dropping it kills it.
pub(super) struct Worker {
    kind: Kind,
    child: Mutex<Child>,
    stdin: Mutex<ChildStdin>,
    next_id: AtomicU64,
    shared: Arc<Shared>,
}

/// What the threads that read the child's output share with its users.
#[derive(Default)]
struct Shared {
    /// Who waits for which answer. A waiter is dropped when the child ends.
    waiting: Mutex<BTreeMap<u64, mpsc::Sender<Value>>>,
    stderr: Mutex<VecDeque<String>>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.kind)
    }
}

impl Worker {
    /// Starts the process that runs nodes of `kind`.
    pub(super) fn spawn(kind: Kind, program: &Path, script: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                PeerError::Failed(format!("{} does not start: {error}", program.display()))
            })?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked to be pipes");
        };
        let shared = Arc::new(Shared::default());
        let answers = Arc::clone(&shared);
        thread::spawn(move || answers.read_answers(BufReader::new(stdout)));
        let errors = Arc::clone(&shared);
        thread::spawn(move || errors.read_stderr(BufReader::new(stderr)));
        Ok(Self {
            kind,
            child: Mutex::new(child),
            stdin: Mutex::new(stdin),
            next_id: AtomicU64::new(0),
            shared,
        })
    }

    /// Sends a request and waits for its answer. Requests of several threads run side by side.
    fn call(&self, node: u64, op: &str, mut request: Value) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if let Some(fields) = request.as_object_mut() {
            fields.insert("id".into(), id.into());
            fields.insert("node".into(), node.into());
            fields.insert("op".into(), op.into());
        }
        let (answered, answer) = mpsc::channel();
        lock(&self.shared.waiting).insert(id, answered);
        let sent = writeln!(lock(&self.stdin), "{request}");
        if sent.is_err() {
            return Err(self.failure(op, "the process has ended"));
        }
        let mut answer = match answer.recv_timeout(OPERATION) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => return Err(self.failure(op, "no answer")),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(self.failure(op, "the process ended meanwhile"));
            }
        };
        if let Some(why) = answer.get("unsupported") {
            return Err(PeerError::Unsupported(why.as_str().unwrap_or_default().into()));
        }
        if let Some(why) = answer.get("error") {
            return Err(self.failure(op, why.as_str().unwrap_or_default()));
        }
        Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default())
    }

    fn failure(&self, op: &str, why: &str) -> PeerError {
        let mut text = format!("{} {op}: {why}", self.kind);
        let lines = lock(&self.shared.stderr);
        if !lines.is_empty() {
            text += "\n  its stderr:";
            for line in lines.iter() {
                text += "\n  | ";
                text += line;
            }
        }
        PeerError::Failed(text)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // Both fail only if the child has ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Shared {
    fn read_answers(&self, lines: impl BufRead) {
        for line in lines.lines().map_while(core::result::Result::ok) {
            let answer: Value = match serde_json::from_str(&line) {
                Ok(answer) => answer,
                Err(error) => {
                    self.remember(format!("not an answer ({error}): {line}"));
                    continue;
                }
            };
            let id = answer.get("id").and_then(Value::as_u64);
            if let Some(waiter) = id.and_then(|id| lock(&self.waiting).remove(&id)) {
                // The waiter may have given up.
                let _ = waiter.send(answer);
            }
        }
        lock(&self.waiting).clear();
    }

    fn read_stderr(&self, lines: impl BufRead) {
        let trace = std::env::var_os("INTEROP_TRACE").is_some();
        for line in lines.lines().map_while(core::result::Result::ok) {
            if trace {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            self.remember(line);
        }
    }

    fn remember(&self, line: String) {
        let mut lines = lock(&self.stderr);
        if lines.len() == STDERR_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// No thread panics while it holds one of these locks, and if one did, the data would still do.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node in a worker.
#[derive(Debug)]
pub(super) struct WorkerPeer {
    worker: Arc<Worker>,
    node: u64,
    addr: SocketAddr,
}

impl WorkerPeer {
    pub(super) fn start(worker: Arc<Worker>, spec: &NodeSpec) -> Result<Self> {
        let node = worker.next_id.fetch_add(1, Ordering::Relaxed);
        let bootstrap: Vec<String> = spec.bootstrap.iter().map(ToString::to_string).collect();
        let request = json!({
            "addr": spec.addr.to_string(),
            "bootstrap": bootstrap,
            "read_only": spec.read_only,
            "defaults": spec.defaults,
        });
        worker.call(node, "start", request)?;
        Ok(Self { worker, node, addr: spec.addr })
    }

    fn call(&self, op: &str, request: Value) -> Result<Value> {
        self.worker.call(self.node, op, request)
    }

    fn malformed(&self, op: &str, answer: &Value) -> PeerError {
        self.worker.failure(op, &format!("unexpected answer {answer}"))
    }
}

impl Drop for WorkerPeer {
    fn drop(&mut self) {
        // If the worker is gone, so is the node.
        let _ = self.call("stop", json!({}));
    }
}

impl Peer for WorkerPeer {
    fn kind(&self) -> Kind {
        self.worker.kind
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn contacts(&self) -> Result<usize> {
        let answer = self.call("contacts", json!({}))?;
        let count = answer.get("contacts").and_then(Value::as_u64);
        count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| self.malformed("contacts", &answer))
    }

    fn add_node(&self, addr: SocketAddr) -> Result<()> {
        self.call("add_node", json!({ "addr": addr.to_string() })).map(drop)
    }

    fn announce(&self, info_hash: InfoHash, port: u16, seed: bool) -> Result<()> {
        let request = json!({ "info_hash": info_hash.to_string(), "port": port, "seed": seed });
        self.call("announce", request).map(drop)
    }

    fn get_peers(&self, info_hash: InfoHash) -> Result<std::collections::BTreeSet<SocketAddr>> {
        let answer = self.call("get_peers", json!({ "info_hash": info_hash.to_string() }))?;
        let peers = answer.get("peers").and_then(Value::as_array);
        peers
            .and_then(|peers| peers.iter().map(|peer| peer.as_str()?.parse().ok()).collect())
            .ok_or_else(|| self.malformed("get_peers", &answer))
    }

    fn scrape_seeds(&self, info_hash: InfoHash) -> Result<f64> {
        let answer = self.call("scrape", json!({ "info_hash": info_hash.to_string() }))?;
        let seeds = answer.get("seeds").and_then(Value::as_f64);
        seeds.ok_or_else(|| self.malformed("scrape", &answer))
    }

    fn put_immutable(&self, value: &[u8]) -> Result<Put> {
        Ok(put(&self.call("put_immutable", json!({ "value": hex(value) }))?))
    }

    fn get_immutable(&self, id: ItemId) -> Result<Option<Vec<u8>>> {
        let answer = self.call("get_immutable", json!({ "target": id.to_string() }))?;
        found(&answer, "value").map_err(|()| self.malformed("get_immutable", &answer))
    }

    fn put_mutable(&self, item: &Mutable) -> Result<Put> {
        let request = json!({
            "seed": hex(&item.key.to_bytes()),
            "public_key": hex(&item.public_key()),
            "salt": hex(&item.salt),
            "seq": item.seq,
            "cas": item.cas,
            "value": hex(&item.value),
        });
        Ok(put(&self.call("put_mutable", request)?))
    }

    fn get_mutable(&self, public_key: &[u8; 32], salt: &[u8]) -> Result<Option<Version>> {
        let request = json!({ "public_key": hex(public_key), "salt": hex(salt) });
        let answer = self.call("get_mutable", request)?;
        let value = found(&answer, "value");
        let value = value.map_err(|()| self.malformed("get_mutable", &answer))?;
        let Some(value) = value else { return Ok(None) };
        let seq = answer.get("seq").and_then(Value::as_i64);
        let seq = seq.ok_or_else(|| self.malformed("get_mutable", &answer))?;
        Ok(Some(Version { seq, value }))
    }

    fn sample(&self, server: SocketAddr, target: Target) -> Result<Samples> {
        let request = json!({ "addr": server.to_string(), "target": target.to_string() });
        let answer = self.call("sample", request)?;
        let samples = answer.get("samples").and_then(Value::as_array);
        let samples = samples
            .and_then(|samples| samples.iter().map(|hash| hash.as_str()?.parse().ok()).collect());
        match (samples, answer.get("num").and_then(Value::as_i64)) {
            (Some(samples), Some(num)) => Ok(Samples { samples, num }),
            (None, _) | (_, None) => Err(self.malformed("sample", &answer)),
        }
    }
}

fn put(answer: &Value) -> Put {
    Put {
        stored: answer.get("stored").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        refused: answer.get("refused").and_then(Value::as_i64),
    }
}

/// The bytes of a field that is hex, or null for nothing found; `Err` for anything else.
fn found(answer: &Value, field: &str) -> core::result::Result<Option<Vec<u8>>, ()> {
    match answer.get(field) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => unhex(text).map(Some).ok_or(()),
        _ => Err(()),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| {
        let digits = core::str::from_utf8(pair).ok()?;
        (pair.len() == 2).then_some(u8::from_str_radix(digits, 16).ok()?)
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_half_a_byte_is_refused() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(hex(&[0x0a, 0xf0]), "0af0");
        assert_eq!(unhex("abc"), None);
        assert_eq!(unhex("zz"), None);
    }

    #[test]
    fn nothing_found_is_no_malformed_answer() {
        let answer = json!({ "value": null, "seq": 1, "text": "6162" });
        assert_eq!(found(&answer, "value"), Ok(None));
        assert_eq!(found(&answer, "text"), Ok(Some(b"ab".to_vec())));
        assert_eq!(found(&answer, "seq"), Err(()));
        assert_eq!(found(&answer, "absent"), Err(()));
    }
}
