//! A node that starts where hours of running would have brought it.

use core::net::IpAddr;
use core::time::Duration;

use super::{Node, is_possible};
use crate::addr::Addr;
use crate::dual::Acquaintance;
use crate::id::NodeId;
use crate::time::Instant;

impl<A: Addr> Node<A> {
    /// See [`Dht::settle`](crate::Dht::settle). Lookups for the own id and refreshes come at a
    /// random point of their periods, so that a million such nodes are not in step.
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        id: NodeId,
        external: Option<IpAddr>,
        contacts: &[Acquaintance],
    ) {
        let now = self.tick(now);
        self.external = external.or(self.external);
        let known = contacts.iter().filter_map(|contact| {
            let addr = A::from_socket_addr(contact.addr).filter(|addr| is_possible(*addr))?;
            Some((contact.id, addr, contact.rtt, contact.heard))
        });
        let jitter = &mut self.jitter;
        let mut part_of = |period: Duration| {
            let micros = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
            Duration::from_micros(jitter.below(micros))
        };
        let at = now + part_of(self.config.self_lookup_interval);
        let refreshed = now - part_of(self.config.refresh_after);
        self.table.settle(id, known, refreshed, &self.config);
        self.role.on_joined(now);
        self.maintain.settled(at, &self.config);
    }
}
