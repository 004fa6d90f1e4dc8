//! What is read for a datagram that is coming, step by step.

use core::net::SocketAddr;

use super::Node;
use crate::addr::Addr;
use crate::ahead::ReadAhead;
use crate::wire;

impl<A: Addr> Node<A> {
    /// See `Dht::read_ahead`. Step 0 names the node; 1 its lists, and what stands beside it; 2 what those
    /// lead to; 3 the lookups; 4 their lists. The parts keep to the same numbers.
    pub(crate) fn read_ahead(
        &self,
        step: u32,
        coming: Option<(SocketAddr, &[u8])>,
        ahead: &mut impl ReadAhead,
    ) {
        match step {
            0 => self.read_ahead_fields(ahead),
            1 => {
                if let Some((from, datagram)) = coming
                    && let Some(from) = A::from_socket_addr(from)
                    && let Some((id, target)) = wire::peek(datagram)
                {
                    self.server.read_ahead_for(from, ahead);
                    self.table.read_around(target.unwrap_or_else(|| id.target()), ahead);
                }
                self.outbox.read_ahead(ahead);
            }
            _ => {}
        }
        self.transactions.read_ahead(step, ahead);
        self.lookups.read_ahead(step, ahead);
    }

    /// A field in each line of the node itself that is read for most datagrams, in order.
    fn read_ahead_fields(&self, ahead: &mut impl ReadAhead) {
        ahead.line(&self.last_now);
        ahead.line(&self.transactions);
        ahead.line(&self.told_server);
        ahead.line(&self.role);
        self.server.read_ahead(ahead);
        ahead.line(&self.maintain);
        ahead.line(&self.restored_asked);
        self.table.read_ahead(ahead);
        ahead.line(&self.link);
        ahead.line(&self.stats.datagrams_in);
        ahead.line(&self.stats.find_node_in);
        ahead.line(&self.stats.replies_in);
    }
}
