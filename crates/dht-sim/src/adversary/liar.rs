//! A node that answers every query, and never with the truth. At times it answers gets with values:
//! what is no value of that name, or what somebody whose key it knows never signed.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::id::{ItemId, NodeId};
use dht_proto::item::bencode_bytes;
use dht_proto::request::NodeInfo;
use dht_proto::wire::{Method, Query, Reply};

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
    /// Keys in whose name it makes up items.
    keys: Arc<[[u8; 32]]>,
}

impl Liar {
    /// A liar with an id of its own.
    #[must_use]
    pub fn new(id: NodeId, lie: Lie) -> Self {
        Self { id, lie, keys: Arc::new([]) }
    }

    /// It makes up items in the name of these keys, too.
    #[must_use]
    pub fn forging(self, keys: Arc<[[u8; 32]]>) -> Self {
        Self { keys, ..self }
    }

    /// The answer to a get, with a value that it made up.
    fn forged(
        &self,
        stage: &mut Stage<'_>,
        (tid, query, target): (&[u8], &Query<'_>, ItemId),
        named: &[NodeInfo],
    ) -> Vec<u8> {
        let v = bencode_bytes(&craft::random::<8>(stage.choices));
        let signature = craft::random(stage.choices);
        let mut reply = Reply::new(self.id);
        reply.v = Some(&v);
        let key = self.keys.iter().find(|key| ItemId::of_mutable(key, b"") == target);
        if let Some(key) = key {
            let seq = stage.choices.below(About::Adversary, 9);
            reply.seq = Some(i64::from(seq));
            (reply.public_key, reply.signature) = (Some(key), Some(&signature));
        }
        craft::answer_with(tid, query, reply, named)
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
        let answer = if let Method::Get { target, .. } = &query.method
            && stage.choices.below(About::Adversary, 2) == 0
        {
            self.forged(stage, (tid, &query, *target), &named)
        } else {
            craft::answer(tid, &query, self.id, &named)
        };
        stage.send(to, from, answer);
    }
}
