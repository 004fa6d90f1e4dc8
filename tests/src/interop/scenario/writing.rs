//! The writers' half of a scenario.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::{Operation, Plan, SERVERS, Swarm, operations};
use crate::interop::krpc::Probe;
use crate::interop::patience::wait_until;
use crate::interop::{Kind, Lab, Mutable, Peer, PeerError, Put, Result, Version};

/// How long the servers may take to have what a writer has sent: libtorrent does not tell when an
/// announce is through.
const SETTLE: Duration = Duration::from_secs(8);
/// More than half of the servers must hold what a writer wrote.
const COPIES: usize = SERVERS / 2 + 1;
/// BEP 44 error 301: "the CAS hash mismatched, re-read value and try again".
const CAS_MISMATCH: i64 = 301;
/// BEP 44 error 302: "sequence number less than current".
const SEQ_TOO_OLD: i64 = 302;

/// What one writer wrote and where it was while it wrote.
#[derive(Debug)]
pub struct Writings {
    /// Who wrote.
    pub(super) writer: Kind,
    /// Where from; `None` if it did not even start.
    pub(super) addr: Option<SocketAddr>,
    /// How each operation went.
    pub(super) results: BTreeMap<Operation, Result<()>>,
    /// Answers where the writer was, but has nothing: libtorrent waits 15 s in every lookup that
    /// meets a node which left.
    _placeholder: Option<Probe>,
}

impl Writings {
    /// Starts a writer, has it write everything, and stops it.
    pub(super) fn make(lab: &Lab, swarm: &Swarm, probe: &Probe, writer: Kind) -> Self {
        let peer = match swarm.join(lab, writer) {
            Ok(peer) => peer,
            Err(error) => {
                let failed = |operation| (operation, Err(error.clone()));
                let results = operations(swarm.kind()).map(failed).collect();
                return Self { writer, addr: None, results, _placeholder: None };
            }
        };
        let desk = Desk { peer: peer.as_ref(), servers: &swarm.addrs(), probe };
        let mut results: BTreeMap<_, _> = thread::scope(|scope| {
            // A stale version needs a newer one before it, so that one thread does both.
            let alone = |operation: &Operation| *operation != Operation::Stale;
            let running: Vec<_> = operations(swarm.kind())
                .filter(alone)
                .map(|operation| scope.spawn(move || desk.write(operation)))
                .collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        let addr = peer.addr();
        drop(peer);
        let placeholder = Probe::at(addr);
        if let Err(error) = &placeholder {
            for result in results.values_mut() {
                *result = Err(error.clone());
            }
        }
        Self { writer, addr: Some(addr), results, _placeholder: placeholder.ok() }
    }

    /// How the writer's half of an operation went.
    ///
    /// # Errors
    /// As the writer reported.
    pub(super) fn result(&self, operation: Operation) -> Result<()> {
        let missing = || Err(PeerError::Failed("the writer panicked".into()));
        self.results.get(&operation).cloned().unwrap_or_else(missing)
    }
}

/// A writer at work.
#[derive(Clone, Copy)]
struct Desk<'a> {
    peer: &'a dyn Peer,
    servers: &'a [SocketAddr],
    probe: &'a Probe,
}

impl Desk<'_> {
    fn write(self, operation: Operation) -> Vec<(Operation, Result<()>)> {
        let result = match operation {
            Operation::Peers | Operation::Sample => self.announce(operation),
            Operation::Scrape => self.announce_seed(),
            Operation::Immutable => self.put_immutable(),
            Operation::Mutable | Operation::Salted => self.put_first(operation),
            Operation::Cas => self.put_if_unchanged(),
            Operation::Newer | Operation::Stale => return self.put_newer_then_stale(),
        };
        vec![(operation, result)]
    }

    fn plan(self) -> Plan {
        Plan::of(self.peer.kind())
    }

    fn announce(self, operation: Operation) -> Result<()> {
        let hash = self.plan().info_hash(operation);
        self.peer.announce(hash, self.plan().port(), false)?;
        let me = SocketAddr::new(self.peer.addr().ip(), self.plan().port());
        self.settled("the announce", |server| {
            Ok(self.probe.get_peers(server, hash, false)?.peers.contains(&me))
        })
    }

    fn announce_seed(self) -> Result<()> {
        let hash = self.plan().info_hash(Operation::Scrape);
        self.peer.announce(hash, self.plan().port(), true)?;
        self.settled("a filter with the seed", |server| {
            let answer = self.probe.get_peers(server, hash, true)?;
            // An empty filter reads as half a seed, see BEP 33's formula.
            Ok(answer.seeds.is_some_and(|seeds| (0.9..1.1).contains(&seeds)))
        })
    }

    fn put_immutable(self) -> Result<()> {
        let value = self.plan().immutable();
        self.accepted(self.peer.put_immutable(&value)?)?;
        let id = self.plan().immutable_id();
        let wanted = Version { seq: 0, value };
        self.settled("the item", |server| Ok(self.probe.get(server, id)?.as_ref() == Some(&wanted)))
    }

    fn put_first(self, operation: Operation) -> Result<()> {
        self.put_accepted(&self.plan().mutable(operation, 1))
    }

    fn put_newer_then_stale(self) -> Vec<(Operation, Result<()>)> {
        let old = self.plan().mutable(Operation::Newer, 1);
        let new = self.plan().mutable(Operation::Newer, 2);
        let newer = self.put_accepted(&old).and_then(|()| self.put_accepted(&new));
        let stale = newer.clone().and_then(|()| {
            let stale = self.plan().mutable(Operation::Stale, 1);
            self.put_refused(&stale, SEQ_TOO_OLD)?;
            // Whoever has the newer version still has it.
            self.settled_with(&new)
        });
        vec![(Operation::Newer, newer), (Operation::Stale, stale)]
    }

    fn put_if_unchanged(self) -> Result<()> {
        let old = self.plan().mutable(Operation::Cas, 1);
        let new = self.plan().mutable(Operation::Cas, 2);
        self.put_accepted(&old)?;
        self.put_refused(&Mutable { cas: Some(7), ..new.clone() }, CAS_MISMATCH)?;
        self.settled_with(&old)?;
        self.put_accepted(&Mutable { cas: Some(1), ..new })
    }

    fn put_accepted(self, item: &Mutable) -> Result<()> {
        self.accepted(self.peer.put_mutable(item)?)?;
        self.settled_with(item)
    }

    fn accepted(self, put: Put) -> Result<()> {
        if put.refused.is_none() && put.stored.is_none_or(|stored| stored >= COPIES) {
            return Ok(());
        }
        Err(PeerError::Failed(format!("{} reports {put:?}", self.peer.kind())))
    }

    fn put_refused(self, item: &Mutable, wanted: i64) -> Result<()> {
        match self.peer.put_mutable(item)?.refused {
            Some(code) if code == wanted => Ok(()),
            refused => Err(PeerError::Failed(format!("met {refused:?}, not error {wanted}"))),
        }
    }

    fn settled_with(self, item: &Mutable) -> Result<()> {
        let wanted = Version { seq: item.seq, value: item.value.clone() };
        self.settled(&format!("version {}", item.seq), |server| {
            Ok(self.probe.get(server, item.id())?.as_ref() == Some(&wanted))
        })
    }

    /// Waits until most of the servers hold something.
    fn settled(self, what: &str, holds: impl Fn(SocketAddr) -> Result<bool>) -> Result<()> {
        let mut holders = 0;
        let enough = wait_until(SETTLE, || {
            holders = 0;
            for server in self.servers {
                holders += usize::from(holds(*server)?);
            }
            Ok(holders >= COPIES)
        })?;
        if enough {
            return Ok(());
        }
        let servers = self.servers.len();
        Err(PeerError::Failed(format!("{holders} of {servers} servers hold {what}")))
    }
}
