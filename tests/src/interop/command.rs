//! The command `dht`, as its users run it.
//!
//! A server is a `dht node`. A client is one process per operation, read-only and all from the same
//! address, so that they take turns.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use dht_proto::id::{InfoHash, ItemId, Target};
use dht_proto::item::byte_string;
use serde_json::Value;

use super::ours::{SHARED_BUDGET, judge};
use super::patience::{OPERATION, bounded};
use super::worker::{hex, unhex};
use super::{Kind, Mutable, NodeSpec, Peer, PeerError, Put, Result, Samples, Version};

/// What a command may take, in seconds; less than [`OPERATION`].
const TIMEOUT: &str = "20";

#[derive(Debug)]
pub(super) struct CommandPeer {
    addr: SocketAddr,
    /// Flags of every command: where from, and through whom.
    global: Vec<String>,
    daemon: Option<Daemon>,
    /// Commands use one port, one after the other: whoever remembers it must meet somebody there.
    turn: Mutex<()>,
}

impl CommandPeer {
    pub(super) fn start(spec: &NodeSpec) -> Result<Self> {
        let mut global: Vec<_> =
            spec.bootstrap.iter().map(|addr| format!("--bootstrap={addr}")).collect();
        global.push("--json".into());
        if !spec.defaults {
            global.extend([format!("--bind={}", spec.addr), format!("--timeout={TIMEOUT}")]);
        }
        let is_server = !spec.read_only && !spec.defaults;
        let daemon = is_server.then(|| Daemon::start(spec, &global)).transpose()?;
        Ok(Self { addr: spec.addr, global, daemon, turn: Mutex::default() })
    }

    /// Runs a command to its end.
    fn run(&self, args: &[&str], input: Vec<u8>) -> Result<Run> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let what = format!("dht {}", args.join(" "));
        let mut command = Command::new(program()?);
        command.args(args).args(&self.global);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = bounded(&what, OPERATION, move || {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A command that does not read its input may have ended already.
                drop(stdin.write_all(&input));
            }
            child.wait_with_output()
        })?
        .map_err(failed)?;
        let stdout = String::from_utf8(output.stdout).map_err(failed)?;
        let lines: Vec<Value> = stdout
            .lines()
            .map(serde_json::from_str)
            .collect::<core::result::Result<_, _>>()
            .map_err(failed)?;
        match (output.status.code(), lines.last()) {
            (Some(0 | 1), Some(done)) if is_a(done, "done") => Ok(Run { lines }),
            _ => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                Err(failed(format!("{what} ended with {}: {stderr}", output.status)))
            }
        }
    }
}

impl Peer for CommandPeer {
    fn kind(&self) -> Kind {
        Kind::Command
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn contacts(&self) -> Result<usize> {
        match &self.daemon {
            Some(daemon) => daemon.contacts(),
            // A client remembers nobody: it meets them with every command.
            None => Ok(self.run(&["find-node", &"00".repeat(20)], vec![])?.of("node").count()),
        }
    }

    fn add_node(&self, _addr: SocketAddr) -> Result<()> {
        Err(PeerError::Unsupported("dht takes contacts only at its start".into()))
    }

    fn announce(&self, info_hash: InfoHash, port: u16, seed: bool) -> Result<()> {
        let (hash, port) = (info_hash.to_string(), port.to_string());
        let mut args = vec!["announce", &hash, "--port", &port];
        args.extend(seed.then_some("--seed"));
        let run = self.run(&args, vec![])?;
        if run.number("stored")? == 0 { Err(failed("nobody stored it")) } else { Ok(()) }
    }

    fn get_peers(&self, info_hash: InfoHash) -> Result<BTreeSet<SocketAddr>> {
        let run = self.run(&["get-peers", &info_hash.to_string()], vec![])?;
        run.of("peer").map(|line| text(line, "addr")?.parse().map_err(failed)).collect()
    }

    fn scrape_seeds(&self, info_hash: InfoHash) -> Result<f64> {
        let run = self.run(&["get-peers", &info_hash.to_string(), "--scrape"], vec![])?;
        let seeds = run.done().get("seeds").and_then(Value::as_f64);
        seeds.ok_or_else(|| failed("nobody sent filters"))
    }

    fn put_immutable(&self, value: &[u8]) -> Result<Put> {
        self.run(&["put-immutable", "-"], value.to_vec())?.put()
    }

    fn get_immutable(&self, id: ItemId) -> Result<Option<Vec<u8>>> {
        let run = self.run(&["get", &id.to_string()], vec![])?;
        run.of("item").next().map(value).transpose()
    }

    fn put_mutable(&self, item: &Mutable) -> Result<Put> {
        let key = KeyFile::new(self.addr, item)?;
        let (seq, salt) = (item.seq.to_string(), hex(&item.salt));
        let cas = item.cas.map(|cas| cas.to_string());
        let mut args = vec!["put-mutable", "-", "--seq", &seq, "--key", key.path()?];
        if !salt.is_empty() {
            args.extend(["--salt-hex", &salt]);
        }
        if let Some(cas) = &cas {
            args.extend(["--cas", cas]);
        }
        self.run(&args, item.value.clone())?.put()
    }

    fn get_mutable(&self, public_key: &[u8; 32], salt: &[u8]) -> Result<Option<Version>> {
        let (key, salt) = (hex(public_key), hex(salt));
        let mut args = vec!["get", "--public-key", &key];
        if !salt.is_empty() {
            args.extend(["--salt-hex", &salt]);
        }
        let run = self.run(&args, vec![])?;
        let Some(item) = run.of("item").next() else { return Ok(None) };
        let seq = item.get("seq").and_then(Value::as_i64);
        let seq = seq.ok_or_else(|| failed(format!("no seq: {item}")))?;
        Ok(Some(Version { seq, value: value(item)? }))
    }

    fn sample(&self, server: SocketAddr, target: Target) -> Result<Samples> {
        // `sample` asks one node and enters the DHT through nobody.
        let args = ["sample", &server.to_string(), "--target", &target.to_string()];
        let run = self.run(&args, vec![])?;
        let hashes =
            run.of("info_hash").map(|line| text(line, "info_hash")?.parse().map_err(failed));
        Ok(Samples { samples: hashes.collect::<Result<_>>()?, num: run.number("total")? })
    }
}

/// The lines that a command printed.
struct Run {
    lines: Vec<Value>,
}

impl Run {
    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| is_a(line, kind))
    }

    /// The last line.
    fn done(&self) -> &Value {
        self.lines.last().unwrap_or(&Value::Null)
    }

    fn number(&self, field: &str) -> Result<i64> {
        let number = self.done().get(field).and_then(Value::as_i64);
        number.ok_or_else(|| failed(format!("no {field}: {}", self.done())))
    }

    fn put(&self) -> Result<Put> {
        let stored = usize::try_from(self.number("stored")?).map_err(failed)?;
        let mut codes = Vec::new();
        if let Some(errors) = self.done().get("errors").and_then(Value::as_object) {
            for (code, count) in errors {
                let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
                codes.resize(codes.len() + count.unwrap_or(0), code.parse().map_err(failed)?);
            }
        }
        judge(stored, &codes).ok_or_else(|| failed(format!("nobody stored it: {}", self.done())))
    }
}

fn is_a(line: &Value, kind: &str) -> bool {
    line.get("type").and_then(Value::as_str) == Some(kind)
}

fn text<'a>(line: &'a Value, field: &str) -> Result<&'a str> {
    line.get(field).and_then(Value::as_str).ok_or_else(|| failed(format!("no {field}: {line}")))
}

/// The content of the byte string that is the value of an item.
fn value(item: &Value) -> Result<Vec<u8>> {
    let bytes = unhex(text(item, "bencode")?).unwrap_or_default();
    let content = byte_string(&bytes).map(<[u8]>::to_vec);
    content.ok_or_else(|| failed(format!("no byte string: {item}")))
}

/// A key file as `dht keygen` makes it; removed when dropped.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(addr: SocketAddr, item: &Mutable) -> Result<Self> {
        // The item of an operation has a key or a salt of its own; the address tells peers apart.
        let name = format!("dht-interop-{}-{}-{}", std::process::id(), addr, item.id());
        let path = std::env::temp_dir().join(name.replace(['[', ']', ':'], "-"));
        fs::write(&path, hex(&item.key.to_bytes())).map_err(failed)?;
        Ok(Self(path))
    }

    fn path(&self) -> Result<&str> {
        self.0.to_str().ok_or_else(|| failed("the temporary directory has a strange name"))
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        // It holds no secret.
        drop(fs::remove_file(&self.0));
    }
}

/// A `dht node`; killed when dropped.
#[derive(Debug)]
struct Daemon {
    child: Child,
    /// Kept open: it goes on to print notices.
    _stdout: BufReader<ChildStdout>,
    /// Where it tells its counters: the same address as the node, over TCP.
    metrics: SocketAddr,
}

impl Daemon {
    fn start(spec: &NodeSpec, global: &[String]) -> Result<Self> {
        let mut command = Command::new(program()?);
        command.args(["node", "--mode", "server", "--metrics", &spec.addr.to_string()]);
        command.args(global);
        if spec.bootstrap.is_empty() {
            command.arg("--no-bootstrap");
        }
        if spec.addr.is_ipv6() {
            for flag in ["--subnet-bytes-per-sec", "--subnet-burst-bytes"] {
                command.arg(format!("{flag}={SHARED_BUDGET}"));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let Some(stdout) = child.stdout.take() else { unreachable!("it was asked to be a pipe") };
        let mut stdout = BufReader::new(stdout);
        let ready = bounded("dht node", OPERATION, move || {
            let mut line = String::new();
            // What cannot be read is not what is waited for.
            drop(stdout.read_line(&mut line));
            (line, stdout)
        });
        match ready {
            Ok((line, stdout)) if line.contains("listening") => {
                Ok(Self { child, _stdout: stdout, metrics: spec.addr })
            }
            other => {
                drop(child.kill());
                drop(child.wait());
                Err(failed(format!("dht node is not ready: {other:?}")))
            }
        }
    }

    fn contacts(&self) -> Result<usize> {
        let mut stream = TcpStream::connect(self.metrics).map_err(failed)?;
        stream.set_read_timeout(Some(OPERATION)).map_err(failed)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").map_err(failed)?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map_err(failed)?;
        let contacts = page.lines().find_map(|line| line.strip_prefix("dht_contacts "));
        contacts.ok_or_else(|| failed("no dht_contacts"))?.parse().map_err(failed)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Builds the command if need be: as the tests of the whole workspace have it, with whose features it
/// has mostly been built already.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--workspace", "--no-run", "--test", "cli"])
            .args(["--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map_err(failed)?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let path = stdout.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_command = message.pointer("/target/name").is_some_and(|name| name == "dht");
            let path = message.get("executable")?.as_str()?;
            is_command.then(|| PathBuf::from(path))
        });
        path.ok_or_else(|| failed(String::from_utf8_lossy(&output.stderr)))
    });
    built.as_deref().map_err(Clone::clone)
}

fn failed(error: impl core::fmt::Display) -> PeerError {
    PeerError::Failed(format!("dht: {error}"))
}
