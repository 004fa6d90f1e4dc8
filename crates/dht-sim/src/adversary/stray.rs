//! Somebody whose answers come from where it was not asked, from another port, or twice. None of it
//! counts but the first that comes from where it was asked.

use std::net::{IpAddr, SocketAddr};

use dht_proto::id::NodeId;

use super::craft;
use crate::choices::About;
use crate::host::{Actor, Stage};

/// See the module.
#[derive(Debug)]
pub struct Stray {
    id: NodeId,
}

impl Stray {
    /// One with an id of its own.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self { id }
    }
}

impl Actor for Stray {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Some((tid, query)) = craft::query_in(bytes) else { return };
        let answer = craft::answer(tid, &query, self.id, &[]);
        let first = match stage.choices.below(About::Adversary, 4) {
            0 => elsewhere(to),
            1 => SocketAddr::new(to.ip(), to.port() ^ 1),
            _ => to,
        };
        stage.send(first, from, answer.clone());
        if stage.choices.below(About::Adversary, 2) == 0 {
            stage.send(to, from, answer);
        }
    }
}

/// Another address of another network.
fn elsewhere(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) ^ 0x0001_0100).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) ^ (1 << 90)).into()),
    };
    SocketAddr::new(ip, addr.port())
}
