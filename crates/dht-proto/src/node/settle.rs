//! A node that starts where hours of running would have brought it.

use core::net::IpAddr;

use super::Node;
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
        if let Some(ip) = external {
            self.voter.settle(ip);
        }
        let known = contacts.iter().filter_map(|contact| {
            let addr = A::from_socket_addr(contact.addr).filter(|addr| addr.is_possible())?;
            Some((contact.id, addr, contact.rtt, contact.heard))
        });
        let at = now + self.jitter(self.config.self_lookup_interval);
        let refreshed = now - self.jitter(self.config.refresh_after);
        self.table.settle(id, known, refreshed, &self.config);
        self.role.on_joined(now, &self.seed);
        self.maintain.settled(at, &self.config);
    }
}
