//! Plain counters, returned by value.

/// What a node counted since it started. Every field only grows, except the gauges at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Queries sent.
    pub queries_out: u64,
    /// Replies and errors sent.
    pub replies_out: u64,
    /// Bytes sent.
    pub bytes_out: u64,

    /// Dropped: not a bencoded dictionary, or no transaction id, kind or body.
    pub malformed: u64,
    /// Messages with unsorted or doubled keys, otherwise fine.
    pub unsorted: u64,
    /// Queries with missing or invalid arguments, answered with 203.
    pub bad_queries: u64,
    /// Dropped: from port 0, an address that cannot be a peer, or another family.
    pub bad_source: u64,
    /// Dropped: replies and errors that match no query of ours.
    pub unsolicited: u64,
    /// Replies whose node id was ours or not the one expected.
    pub id_mismatch: u64,
    /// Dropped: queries that arrived while we do not answer any.
    pub queries_unserved: u64,
    /// Queries over the budget, not answered.
    pub throttled: u64,
    /// Queries near the budget, answered with less.
    pub degraded: u64,
    /// Queries not answered because their transaction id leaves no room in a datagram.
    pub oversized_tids: u64,

    /// Queries answered, by method.
    pub ping_in: u64,
    /// See [`Stats::ping_in`].
    pub find_node_in: u64,
    /// See [`Stats::ping_in`].
    pub get_peers_in: u64,
    /// See [`Stats::ping_in`].
    pub announce_peer_in: u64,
    /// See [`Stats::ping_in`].
    pub get_in: u64,
    /// See [`Stats::ping_in`].
    pub put_in: u64,
    /// See [`Stats::ping_in`].
    pub sample_infohashes_in: u64,
    /// Methods that we do not know.
    pub unknown_in: u64,
    /// Announces and puts with an invalid token.
    pub bad_tokens: u64,
    /// Errors sent, all codes.
    pub errors_out: u64,
    /// Signatures checked for puts.
    pub verifications: u64,
    /// Puts taken: items stored, replaced or renewed.
    pub items_stored: u64,

    /// Replies received that matched a query.
    pub replies_in: u64,
    /// Errors received that matched a query.
    pub errors_in: u64,
    /// Queries without an answer in time.
    pub timeouts: u64,
    /// Queries that the operating system reported as unreachable.
    pub unreachable: u64,
    /// Queries to contacts that changed their id, which evicts them.
    pub id_changes: u64,
    /// Nodes told by others at an address that cannot be theirs: none at all, or a private one told
    /// from further away.
    pub bad_nodes: u64,
    /// Lookups started, without maintenance.
    pub lookups: u64,

    /// Gauge: contacts in the routing table that answered us.
    pub contacts: u64,
    /// Gauge: candidates waiting.
    pub candidates: u64,
    /// Gauge: infohashes stored.
    pub torrents: u64,
    /// Gauge: peers stored.
    pub peers: u64,
    /// Gauge: items stored.
    pub items: u64,
    /// Gauge: queries in flight.
    pub in_flight: u64,
    /// Gauge: lookups running, maintenance included.
    pub lookups_running: u64,
}

impl core::ops::Add for Stats {
    type Output = Self;

    /// The counters of two nodes together.
    fn add(self, other: Self) -> Self {
        Self {
            datagrams_in: self.datagrams_in + other.datagrams_in,
            bytes_in: self.bytes_in + other.bytes_in,
            queries_out: self.queries_out + other.queries_out,
            replies_out: self.replies_out + other.replies_out,
            bytes_out: self.bytes_out + other.bytes_out,
            malformed: self.malformed + other.malformed,
            unsorted: self.unsorted + other.unsorted,
            bad_queries: self.bad_queries + other.bad_queries,
            bad_source: self.bad_source + other.bad_source,
            unsolicited: self.unsolicited + other.unsolicited,
            id_mismatch: self.id_mismatch + other.id_mismatch,
            queries_unserved: self.queries_unserved + other.queries_unserved,
            throttled: self.throttled + other.throttled,
            degraded: self.degraded + other.degraded,
            oversized_tids: self.oversized_tids + other.oversized_tids,
            ping_in: self.ping_in + other.ping_in,
            find_node_in: self.find_node_in + other.find_node_in,
            get_peers_in: self.get_peers_in + other.get_peers_in,
            announce_peer_in: self.announce_peer_in + other.announce_peer_in,
            get_in: self.get_in + other.get_in,
            put_in: self.put_in + other.put_in,
            sample_infohashes_in: self.sample_infohashes_in + other.sample_infohashes_in,
            unknown_in: self.unknown_in + other.unknown_in,
            bad_tokens: self.bad_tokens + other.bad_tokens,
            errors_out: self.errors_out + other.errors_out,
            verifications: self.verifications + other.verifications,
            items_stored: self.items_stored + other.items_stored,
            replies_in: self.replies_in + other.replies_in,
            errors_in: self.errors_in + other.errors_in,
            timeouts: self.timeouts + other.timeouts,
            unreachable: self.unreachable + other.unreachable,
            id_changes: self.id_changes + other.id_changes,
            bad_nodes: self.bad_nodes + other.bad_nodes,
            lookups: self.lookups + other.lookups,
            contacts: self.contacts + other.contacts,
            candidates: self.candidates + other.candidates,
            torrents: self.torrents + other.torrents,
            peers: self.peers + other.peers,
            items: self.items + other.items,
            in_flight: self.in_flight + other.in_flight,
            lookups_running: self.lookups_running + other.lookups_running,
        }
    }
}
