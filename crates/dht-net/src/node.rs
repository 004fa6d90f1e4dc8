//! A node that is ready to run.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use dht_driver::{Command, CommandQueue, Commands, Names, Sender, commands};
use dht_proto::Dht;
use dht_proto::config::Config;
use dht_proto::seed::Seed;
use dht_proto::snapshot::Snapshot;

use crate::error::Error;
use crate::notice::{Notice, Notices};
use crate::resolver::{Host, Resolver};
use crate::sockets::{Sockets, Watch};
use crate::state::{SaveTimes, Saver, StateFile};

/// The parts of a node, for a runtime to put together.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "taken apart by the runtimes")]
pub struct Node<W> {
    /// The state machine, restored from the state file if there was one.
    pub dht: Dht,
    /// The sockets and the clock.
    pub sockets: Sockets<W>,
    /// What saves the state, if it is to be saved.
    pub saver: Option<Saver>,
    /// When it is to be saved.
    pub save_times: SaveTimes,
    /// Where handles send their commands.
    pub commands: Commands<Sender>,
    /// Where the loop gets them.
    pub queue: CommandQueue<Sender>,
    /// What resolves the names of bootstrap hosts, if there are any.
    pub resolver: Option<Resolver>,
    /// Who hears of what happens.
    pub notices: Notices,
}

impl<W: Watch> Node<W> {
    pub(crate) fn new(
        mut config: Config,
        seed: &Seed,
        sockets: Sockets<W>,
        hosts: Vec<Host>,
        state_file: Option<&Path>,
        save_interval: Duration,
        notices: Notices,
    ) -> Result<Self, Error> {
        // An announce with `implied_port` also names a port, for nodes that ignore the flag.
        config.port = sockets.local_addrs().first().map_or(config.port, SocketAddr::port);
        let Some(networks) = sockets.networks() else {
            unreachable!("binding leaves at least one socket")
        };
        let names = hosts.iter().any(|host| matches!(host, Host::Name { .. }));
        let (commands, queue) = commands();
        if names && config.bootstrap.is_empty() {
            // The first command in a queue that is empty.
            drop(commands.send(Command::Names(Names::Pending)));
        }
        let now = sockets.time();
        let (restored, file) = match state_file {
            Some(path) => load(path, &config, &notices)?,
            None => (None, None),
        };
        let fresh = restored.is_none();
        let config = Arc::new(config);
        let dht = match &restored {
            Some(restored) => Dht::restore(config, networks, seed, now, restored),
            None => Dht::new(config, networks, seed, now),
        };
        let mut saver = file.map(|file| Saver::new(file, notices.clone()));
        if let Some(saver) = saver.as_mut().filter(|_| fresh) {
            // A new id lasts from the start, however soon the machine dies. A failure is told, and
            // it is tried again.
            drop(saver.save(dht.snapshot().to_bytes()));
        }
        let resolver = names.then(|| Resolver::new(hosts, notices.clone()));
        let save_times = SaveTimes::new(now, save_interval);
        Ok(Self { dht, sockets, saver, save_times, commands, queue, resolver, notices })
    }
}

type Loaded = (Option<Snapshot>, Option<StateFile>);

/// Claims the state file and reads it. A damaged one is set aside.
fn load(path: &Path, config: &Config, notices: &Notices) -> Result<Loaded, Error> {
    let file = StateFile::open(path)?;
    let restored = match file.load()?.map(|bytes| Snapshot::from_bytes(&bytes, config.verify)) {
        Some(Ok(restored)) => Some(restored),
        Some(Err(error)) => {
            let kept_as = file.set_aside()?;
            notices.tell(Notice::StateDamaged { kept_as, error: error.to_string() });
            None
        }
        None => None,
    };
    Ok((restored, Some(file)))
}
