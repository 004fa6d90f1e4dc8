//! The reference implementation's relay, as a program that somebody installed.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each user takes a part, and a panic is a failure that says where"
)]

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How to have it.
pub const INSTALL: &str = "cargo install pkarr-relay --version 2.1.0 --features testnet --locked";
/// Where it serves with `--testnet`, which it does not let anybody choose.
const PORT: u16 = 15_411;
/// How often it is looked whether it serves, until it counts as broken.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// `pkarr-relay --testnet` of the search path, or what the variable `PKARR_RELAY` names: in the midst
/// of a DHT of its own on loopback, with an empty cache and without limits of requests. It ends when
/// this is dropped.
pub struct PkarrRelay {
    child: Child,
}

impl PkarrRelay {
    /// Starts it, behind the words of `before`, which run a command; `Err` says why there is none.
    pub fn start(before: &[&str]) -> Result<Self, String> {
        let addr = Self::addr();
        if TcpStream::connect(addr).is_ok() {
            return Err(format!("somebody else serves at {addr}"));
        }
        let program = std::env::var_os("PKARR_RELAY").unwrap_or_else(|| "pkarr-relay".into());
        let mut words = before.iter().map(OsString::from).chain([program]);
        let mut command = Command::new(words.next().unwrap());
        // By default it logs every request.
        command.args(words).args(["--testnet", "--tracing-env-filter", "off"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("it does not start: {error}"))?;
        let mut relay = Self { child };
        for _ in 0..LOOKS {
            if let Some(status) = relay.child.try_wait().unwrap() {
                return Err(format!("it ends at once, with {status}"));
            }
            if TcpStream::connect(addr).is_ok() {
                return Ok(relay);
            }
            thread::sleep(PAUSE);
        }
        Err(format!("it does not serve at {addr}"))
    }

    /// Where it serves.
    pub fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], PORT))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for PkarrRelay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
