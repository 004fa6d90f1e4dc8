//! A network namespace of one's own, in which ranges of public addresses are local.
//!
//! Nothing leaves it, and programs in it that are left to their default settings find an internet:
//! whatever they send goes to a simulated node or nowhere. They have one interface beside `lo`,
//! connected to nothing, with the first address of each range: what they send comes from there.

use std::io;
use std::process::Command;

use dht_proto::addr::Family;
use nix::sched::{CloneFlags, unshare};

use crate::{Error, Listen, cidr};

/// The interface of real programs, and its other end. Both stay here: what is sent into one comes
/// out of the other, where nobody is.
const INTERFACE: [&str; 3] = [
    "ip link add dht0 type veth peer name dht1",
    "ip link set dht0 up",
    "ip link set dht1 up",
];

/// Moves the calling thread, and all that it starts from now on, into a network of its own. Whether
/// real programs have an interface other than `lo` there: some kernels cannot make one.
///
/// Call it on the main thread before any other is started: the namespace of a process that others
/// enter by its number is that of its main thread.
///
/// # Errors
/// Without the permission to make a namespace (`CAP_SYS_ADMIN`), or without the command `ip`.
pub fn enter(listen: &Listen) -> Result<bool, Error> {
    let refused = |error| Error::NoNamespace { listen: listen.clone(), error };
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| refused(errno.into()))?;
    let must = |command: &str| {
        run(command).map_err(|why| {
            Error::Command { listen: listen.clone(), command: command.to_owned(), why }
        })
    };
    must(LOOPBACK)?;
    let has_interface = INTERFACE.iter().all(|command| run(command).is_ok());
    let interface = if has_interface { "dht0" } else { "lo" };
    addresses(listen, interface).iter().try_for_each(|command| must(command))?;
    Ok(has_interface)
}

/// The commands that do the same by hand, as root: the first opens a shell in a new network, the
/// others are for that shell.
#[must_use]
pub fn commands(listen: &Listen) -> Vec<String> {
    let fixed = ["unshare --net bash", LOOPBACK].into_iter().chain(INTERFACE);
    fixed.map(str::to_owned).chain(addresses(listen, "dht0")).collect()
}

const LOOPBACK: &str = "ip link set lo up";

/// The commands that make the ranges local, and the first address of each that of an interface.
fn addresses(listen: &Listen, interface: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if listen.speaks(Family::V4) {
        let (range, ip) = (listen.range, listen.range.first_client());
        commands.push(format!("ip address add {ip}/32 dev {interface}"));
        commands.push(format!("ip route add local {range} dev lo src {ip}"));
    }
    if listen.speaks(Family::V6) {
        let (range, ip) = (cidr::network_v6(), cidr::first_client_v6());
        // Nobody else can have it, so it need not ask.
        commands.push(format!("ip address add {ip}/128 dev {interface} nodad"));
        commands.push(format!("ip -6 route add local {range} dev lo src {ip}"));
    }
    commands
}

/// Runs a command of the system, or tells why not.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .map_err(|error: io::Error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
