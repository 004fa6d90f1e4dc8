//! A node that answers every query, and never with the truth.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::id::NodeId;
use dht_proto::request::NodeInfo;

use super::craft;
use crate::choices::About;
use crate::host::{Actor, Stage};

/// What a liar names, whatever it is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Lie {
    /// Nodes that do not exist, with ids that agree with what was asked for in so many bits.
    Nobody {
        /// The bits.
        bits: u32,
    },
    /// Some of its friends, near or not.
    Friends(Arc<[NodeInfo]>),
}

/// See the module.
#[derive(Debug)]
pub struct Liar {
    id: NodeId,
    lie: Lie,
}

impl Liar {
    /// A liar with an id of its own.
    #[must_use]
    pub const fn new(id: NodeId, lie: Lie) -> Self {
        Self { id, lie }
    }

    fn name(&self, stage: &mut Stage<'_>, me: &SocketAddr, asked: &[u8; 20]) -> Vec<NodeInfo> {
        match &self.lie {
            Lie::Nobody { bits } => (0..craft::NAMED)
                .map(|_| {
                    let id = craft::near(asked, *bits, stage.choices);
                    NodeInfo { id, addr: craft::anywhere(me, stage.choices) }
                })
                .collect(),
            Lie::Friends(friends) => (0..craft::NAMED)
                .filter_map(|_| stage.choices.pick(About::Adversary, friends).copied())
                .collect(),
        }
    }
}

impl Actor for Liar {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Some((tid, query)) = craft::query_in(bytes) else { return };
        let named = match craft::target_of(&query.method) {
            Some(target) => self.name(stage, &to, target.as_bytes()),
            None => Vec::new(),
        };
        stage.send(to, from, craft::answer(tid, &query, self.id, &named));
    }
}
