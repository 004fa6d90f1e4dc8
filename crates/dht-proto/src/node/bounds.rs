//! What a node takes up, and what it can take up at most.

use crate::addr::Addr;
use crate::config::Config;
use crate::footprint;
use crate::id::NodeId;
use crate::lookup::Lookups;
use crate::outbox::Outbox;
use crate::role::Role;
use crate::server::Server;
use crate::table::Table;
use crate::transactions::Transactions;
use crate::voter::Voter;

use super::{MAX_BOOTSTRAP, Node, Purpose};

impl<A: Addr> Node<A> {
    /// The bytes that the node takes up now, itself included.
    pub(crate) fn memory(&self) -> usize {
        footprint::sum(&[
            size_of::<Self>() - size_of::<Table<A>>() + self.table.memory(),
            self.transactions.heap_bytes(),
            self.lookups.heap_bytes(),
            self.server.heap_bytes(),
            self.role.heap_bytes(),
            self.voter.heap_bytes(),
            self.outbox.heap_bytes(),
            footprint::room::<A>(self.bootstrap.capacity()),
            footprint::room::<(NodeId, A)>(self.restored.capacity()),
        ])
    }

    /// The most bytes that a node can take up, itself included.
    pub(crate) fn memory_ceiling(config: &Config) -> usize {
        footprint::sum(&[
            size_of::<Self>(),
            Table::<A>::memory_ceiling(config),
            Server::<A>::memory_ceiling(config),
            Voter::<A>::memory_ceiling(),
            Transactions::<A, Purpose>::memory_ceiling(config),
            Lookups::<A>::memory_ceiling(config),
            Outbox::memory_ceiling(config),
            Role::MEMORY_CEILING,
            footprint::list::<(NodeId, A)>(Table::<A>::max_len(config)),
            footprint::list::<A>(MAX_BOOTSTRAP),
        ])
    }

    pub(crate) fn check_invariants(&self) {
        self.table.check_invariants(&self.config);
        self.voter.check_invariants();
        self.transactions.check_invariants(&self.config);
        self.lookups.check_invariants(&self.config);
        self.server.check_invariants(&self.config);
        self.outbox.check_invariants(&self.config);
        assert!(self.bootstrap.len() <= MAX_BOOTSTRAP, "too many to start from");
        self.check_memory();
    }

    /// Each part within its own ceiling: in the sum the room of one would hide what another lacks.
    fn check_memory(&self) {
        let config = &*self.config;
        footprint::check("table", self.table.memory(), Table::<A>::memory_ceiling(config));
        footprint::check("server", self.server.heap_bytes(), Server::<A>::memory_ceiling(config));
        footprint::check("voter", self.voter.heap_bytes(), Voter::<A>::memory_ceiling());
        let ceiling = Transactions::<A, Purpose>::memory_ceiling(config);
        footprint::check("transactions", self.transactions.heap_bytes(), ceiling);
        footprint::check(
            "lookups",
            self.lookups.heap_bytes(),
            Lookups::<A>::memory_ceiling(config),
        );
        footprint::check("outbox", self.outbox.heap_bytes(), Outbox::memory_ceiling(config));
        footprint::check("role", self.role.heap_bytes(), Role::MEMORY_CEILING);
    }
}
