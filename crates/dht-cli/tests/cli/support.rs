//! Runs the command and keeps nodes going.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::Value;

/// Whatever a test waits for comes sooner than this, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The lines of standard output as JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"));
            assert!(value["type"].is_string(), "{line}");
            value
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The last line, which says how it went.
    #[track_caller]
    pub(crate) fn done(&self) -> Value {
        let last = self.lines().pop().unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!(last["type"], "done", "{self:?}");
        last
    }

    /// The lines of one type.
    #[track_caller]
    pub(crate) fn of_type(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["type"] == kind).collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Runs `dht` with these arguments and nothing on standard input.
pub(crate) fn dht(args: &[&str]) -> Run {
    dht_with_input(args, b"")
}

/// Runs `dht` with these arguments and this standard input.
pub(crate) fn dht_with_input(args: &[&str], input: &[u8]) -> Run {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may have ended already.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The command, ready to be started.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.args(args);
    command
}

/// A `dht` that runs on in a process of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it and waits for its first line.
    pub(crate) fn start(args: &[&str]) -> (Self, String) {
        let mut child = command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (Self { child, stdout }, line)
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Waits for the next line.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(self, signal: &str) -> (Option<i32>, String, String) {
        assert!(Command::new("kill").args([signal, &self.pid()]).status().unwrap().success());
        self.end()
    }

    /// Waits for the end; returns exit status, rest of standard output, and standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        let status = self.child.wait().unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.code(), stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A `dht node`.
#[derive(Debug)]
pub(crate) struct Node {
    running: Running,
    pub(crate) addr: SocketAddr,
    pub(crate) id: String,
}

impl Node {
    /// Starts a server on an address and waits until it is ready.
    pub(crate) fn start(bind: &str, args: &[&str]) -> Self {
        Self::start_anywhere(&[&["--bind", bind], args].concat())
    }

    /// Starts a server wherever it likes and waits until it is ready.
    pub(crate) fn start_anywhere(args: &[&str]) -> Self {
        let all = [&["node", "--json", "--mode", "server"], args].concat();
        let (running, line) = Running::start(&all);
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            panic!("{all:?} is not ready: {line}{:?}", running.stop("-KILL"));
        };
        assert_eq!(ready["type"], "listening", "{line}");
        Self {
            running,
            addr: ready["addr"].as_str().unwrap().parse().unwrap(),
            id: ready["id"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// See [`Running::stop`].
    pub(crate) fn stop(self, signal: &str) -> (Option<i32>, String, String) {
        self.running.stop(signal)
    }
}

/// A directory of a test's own; removed when dropped.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dht-cli-{}-{count}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside, as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A file with this content.
    pub(crate) fn with(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
