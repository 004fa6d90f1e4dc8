//! Which port the daemon listens on when nobody says: a router forwards one, and other nodes remember
//! it, so it should be the same after a restart.

use std::fs;
use std::io;
use std::path::Path;

use crate::args::{Global, NodeOptions};
use crate::output::{Line, Output};

/// What most nodes of the DHT use.
const DEFAULT_PORT: u16 = 6881;
/// Name of the file in the data directory that holds the port, in decimal.
const PORT_FILE: &str = "dht.port";

/// The port to try first; `None` if `--bind` says all.
pub(in crate::commands) fn wanted(args: &NodeOptions, global: &Global) -> Option<u16> {
    if !global.bind.is_empty() {
        return None;
    }
    Some(args.data_dir.as_deref().and_then(remembered).unwrap_or(DEFAULT_PORT))
}

/// Says if it became another one, and remembers the first that a data directory ever had. A later
/// one does not replace it: whoever holds that port may be gone next time.
pub(in crate::commands) fn settle(args: &NodeOptions, wanted: u16, port: u16, out: &Output) {
    if port != wanted {
        let message = format!("port {wanted} is in use; listening on port {port}");
        out.warn(format_args!("warning: {message}"));
        out.json(&Line::Notice { message });
    }
    let Some(dir) = args.data_dir.as_deref() else { return };
    if remembered(dir).is_some() {
        return;
    }
    if let Err(error) = remember(dir, port) {
        let dir = dir.display();
        out.warn(format_args!("warning: cannot remember port {port} in {dir}: {error}"));
    }
}

/// A file that holds no port counts as none.
fn remembered(dir: &Path) -> Option<u16> {
    let text = fs::read_to_string(dir.join(PORT_FILE)).ok()?;
    text.trim().parse().ok().filter(|port| *port != 0)
}

fn remember(dir: &Path, port: u16) -> io::Result<()> {
    // Renamed into place, so that a crash leaves a port or nothing.
    let new = dir.join(format!("{PORT_FILE}.tmp"));
    fs::write(&new, format!("{port}\n"))?;
    fs::rename(new, dir.join(PORT_FILE))
}
