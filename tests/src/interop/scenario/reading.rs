//! The readers' half of a scenario.

use std::net::SocketAddr;
use std::thread;

use super::{Cell, Operation, Outcome, Plan, Swarm, Writings, operations};
use crate::interop::{Kind, Peer, PeerError, Result, Version};

/// How often a reader asks for what it does not find.
const ATTEMPTS: usize = 3;

/// A reader, or why it did not start.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) kind: Kind,
    pub(super) client: Result<Box<dyn Peer>>,
}

impl Reader {
    /// Looks for everything that was written.
    pub(super) fn read_all(&self, swarm: &Swarm, writings: &[Writings]) -> Vec<Cell> {
        let servers = swarm.addrs();
        let cell = |writings: &Writings, operation| {
            let result = match &self.client {
                Ok(client) => patiently(|| read(client.as_ref(), &servers, writings, operation)),
                Err(error) => Err(error.clone()),
            };
            Cell {
                network: swarm.network(),
                swarm: swarm.kind(),
                writer: writings.writer,
                reader: self.kind,
                operation,
                outcome: Outcome::from(result),
            }
        };
        thread::scope(|scope| {
            let running: Vec<_> = writings
                .iter()
                .flat_map(|writings| operations(swarm.kind()).map(move |op| (writings, op)))
                .map(|(writings, operation)| scope.spawn(move || cell(writings, operation)))
                .collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect()
        })
    }
}

/// On a busy machine some clients give up before everybody has answered, and say that there is
/// nothing. What is there is found by whoever asks again.
fn patiently(mut read: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 1..ATTEMPTS {
        match read() {
            Err(PeerError::Failed(_)) => {}
            result => return result,
        }
    }
    read()
}

fn read(
    reader: &dyn Peer,
    servers: &[SocketAddr],
    writings: &Writings,
    operation: Operation,
) -> Result<()> {
    writings.result(operation)?;
    let plan = Plan::of(writings.writer);
    match operation {
        Operation::Peers => {
            let Some(addr) = writings.addr else {
                unreachable!("a writer that never started has no good result")
            };
            let wanted = SocketAddr::new(addr.ip(), plan.port());
            let found = reader.get_peers(plan.info_hash(operation))?;
            check(found.contains(&wanted), || format!("found {found:?}, not {wanted}"))
        }
        Operation::Immutable => {
            let found = reader.get_immutable(plan.immutable_id())?;
            check(found == Some(plan.immutable()), || format!("found {found:?}"))
        }
        Operation::Mutable | Operation::Salted => read_version(reader, plan, operation, 1),
        Operation::Newer | Operation::Stale => read_version(reader, plan, Operation::Newer, 2),
        Operation::Cas => read_version(reader, plan, operation, 2),
        Operation::Scrape => {
            let seeds = reader.scrape_seeds(plan.info_hash(operation))?;
            check((0.9..1.1).contains(&seeds), || format!("estimates {seeds} seeds, not 1"))
        }
        Operation::Sample => {
            let hash = plan.info_hash(operation);
            let mut found = 0;
            for server in servers {
                let samples = reader.sample(*server, hash.target())?;
                found += usize::from(samples.samples.contains(&hash));
            }
            check(found > servers.len() / 2, || format!("{hash} is in {found} samples"))
        }
    }
}

fn read_version(reader: &dyn Peer, plan: Plan, operation: Operation, seq: i64) -> Result<()> {
    let item = plan.mutable(operation, seq);
    let found = reader.get_mutable(&item.public_key(), &item.salt)?;
    let wanted = Version { seq, value: item.value };
    check(found.as_ref() == Some(&wanted), || format!("found {found:?}, not {wanted:?}"))
}

fn check(good: bool, found: impl FnOnce() -> String) -> Result<()> {
    if good { Ok(()) } else { Err(PeerError::Failed(found())) }
}
