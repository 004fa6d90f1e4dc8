//! A network namespace of one's own, in which a range of public addresses is local.
//!
//! It has no interface but `lo`, so nothing leaves it, and programs in it that are left to their
//! default settings find an internet: whatever they send goes to a simulated node or nowhere, and
//! comes from the first address of the range.

use std::io;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::{Cidr, Error};

/// Moves the calling thread, and all that it starts from now on, into a network of its own.
///
/// Call it on the main thread before any other is started: the namespace of a process that others
/// enter by its number is that of its main thread.
///
/// # Errors
/// Without the permission to make a namespace (`CAP_SYS_ADMIN`), or without the command `ip`.
pub fn enter(range: Cidr) -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::NoNamespace(errno.into()))?;
    let [_, commands @ ..] = commands(range);
    commands.iter().try_for_each(|command| run(command))
}

/// The commands that do the same by hand, as root: the first opens a shell in a new network, the
/// others are for that shell.
#[must_use]
pub fn commands(range: Cidr) -> [String; 3] {
    let first = range.first_client();
    [
        "unshare --net bash".to_owned(),
        "ip link set lo up".to_owned(),
        // An address of the loopback interface makes its whole network local, and the source of
        // whatever is sent there.
        format!("ip address add {first}/{} dev lo", range.prefix()),
    ]
}

fn run(command: &str) -> Result<(), Error> {
    let mut words = command.split(' ');
    let failed = |why: String| Error::Command(command.to_owned(), why);
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .map_err(|error: io::Error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
