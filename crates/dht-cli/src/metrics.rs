//! Prometheus metrics: the counters as text.

mod server;

use core::fmt::Write as _;

use dht_mio::proto::health::FamilyHealth;
use dht_mio::proto::stats::Stats as NodeStats;
use dht_mio::{Health, IoStats, Stats};

use self::Value::{Family, Io, Method, Node, Overall, Version};

pub(crate) use self::server::MetricsServer;

/// Everything that can be measured, in the text format of Prometheus.
pub(crate) fn text(stats: &Stats, health: &Health) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for Metric { kind, name, help, value } in METRICS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in value.samples(stats, health) {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

/// One row of the table of metrics.
struct Metric {
    kind: &'static str,
    name: &'static str,
    help: &'static str,
    value: Value,
}

const fn counter(name: &'static str, help: &'static str, value: Value) -> Metric {
    Metric { kind: "counter", name, help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: Value) -> Metric {
    Metric { kind: "gauge", name, help, value }
}

/// Reads a number out of something.
type Read<T> = fn(&T) -> u64;

/// Where the numbers of a metric come from.
enum Value {
    /// What the protocol counted.
    Node(Read<NodeStats>),
    /// What the loop and the sockets counted.
    Io(Read<IoStats>),
    /// What the protocol counted, by method.
    Method([(&'static str, Read<NodeStats>); 7]),
    /// How each network is doing.
    Family(Read<FamilyHealth>),
    /// How the node is doing.
    Overall(Read<Health>),
    /// Always 1: the label says it all.
    Version,
}

impl Value {
    /// Labels and numbers.
    fn samples(&self, stats: &Stats, health: &Health) -> Vec<(&'static str, u64)> {
        match self {
            Node(read) => vec![("", read(&stats.node))],
            Io(read) => vec![("", read(&stats.io))],
            Method(rows) => {
                rows.iter().map(|(labels, read)| (*labels, read(&stats.node))).collect()
            }
            Family(read) => {
                [("{family=\"ipv4\"}", &health.node.v4), ("{family=\"ipv6\"}", &health.node.v6)]
                    .into_iter()
                    .filter_map(|(labels, family)| Some((labels, read(family.as_ref()?))))
                    .collect()
            }
            Overall(read) => vec![("", read(health))],
            Version => vec![(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1)],
        }
    }
}

/// Every metric, in the order in which they are served.
const METRICS: &[Metric] = &[
    counter("dht_datagrams_received_total", "Datagrams received.", Node(|node| node.datagrams_in)),
    counter("dht_received_bytes_total", "Bytes received.", Node(|node| node.bytes_in)),
    counter("dht_queries_sent_total", "Queries sent.", Node(|node| node.queries_out)),
    counter("dht_replies_sent_total", "Replies and errors sent.", Node(|node| node.replies_out)),
    counter("dht_sent_bytes_total", "Bytes sent.", Node(|node| node.bytes_out)),
    counter(
        "dht_malformed_total",
        "Datagrams dropped that are no message.",
        Node(|node| node.malformed),
    ),
    counter(
        "dht_unsorted_total",
        "Messages with unsorted or doubled keys.",
        Node(|node| node.unsorted),
    ),
    counter(
        "dht_bad_queries_total",
        "Queries with bad arguments, answered 203.",
        Node(|node| node.bad_queries),
    ),
    counter(
        "dht_bad_source_total",
        "Datagrams dropped for their source.",
        Node(|node| node.bad_source),
    ),
    counter(
        "dht_unsolicited_total",
        "Replies dropped that match no query.",
        Node(|node| node.unsolicited),
    ),
    counter(
        "dht_id_mismatch_total",
        "Replies with an unexpected node id.",
        Node(|node| node.id_mismatch),
    ),
    counter(
        "dht_queries_unserved_total",
        "Queries dropped by a client.",
        Node(|node| node.queries_unserved),
    ),
    counter(
        "dht_throttled_total",
        "Queries over the budget, not answered.",
        Node(|node| node.throttled),
    ),
    counter(
        "dht_degraded_total",
        "Queries near the budget, answered with less.",
        Node(|node| node.degraded),
    ),
    counter(
        "dht_oversized_tids_total",
        "Queries whose transaction id fits in no reply.",
        Node(|node| node.oversized_tids),
    ),
    counter(
        "dht_unknown_methods_total",
        "Queries with unknown methods.",
        Node(|node| node.unknown_in),
    ),
    counter(
        "dht_bad_tokens_total",
        "Announces and puts with an invalid token.",
        Node(|node| node.bad_tokens),
    ),
    counter("dht_errors_sent_total", "Errors sent.", Node(|node| node.errors_out)),
    counter(
        "dht_verifications_total",
        "Signatures checked for puts.",
        Node(|node| node.verifications),
    ),
    counter(
        "dht_items_stored_total",
        "Puts taken: items stored or renewed.",
        Node(|node| node.items_stored),
    ),
    counter(
        "dht_replies_received_total",
        "Replies that match a query.",
        Node(|node| node.replies_in),
    ),
    counter("dht_errors_received_total", "Errors that match a query.", Node(|node| node.errors_in)),
    counter(
        "dht_query_timeouts_total",
        "Queries without an answer in time.",
        Node(|node| node.timeouts),
    ),
    counter(
        "dht_query_unreachable_total",
        "Queries to unreachable nodes.",
        Node(|node| node.unreachable),
    ),
    counter(
        "dht_id_changes_total",
        "Contacts evicted for a new node id.",
        Node(|node| node.id_changes),
    ),
    counter(
        "dht_bad_nodes_total",
        "Nodes told at impossible addresses.",
        Node(|node| node.bad_nodes),
    ),
    counter(
        "dht_lookups_total",
        "Lookups started, without maintenance.",
        Node(|node| node.lookups),
    ),
    counter(
        "dht_lookup_values_dropped_total",
        "Values of lookups whose consumer was too slow.",
        Io(|io| io.values_dropped),
    ),
    counter("dht_socket_sent_total", "Datagrams given to the system.", Io(|io| io.sent)),
    counter("dht_socket_received_total", "Datagrams taken from the system.", Io(|io| io.received)),
    counter("dht_socket_truncated_total", "Datagrams cut or too long.", Io(|io| io.truncated)),
    counter(
        "dht_socket_replies_dropped_total",
        "Replies without a buffer.",
        Io(|io| io.replies_dropped),
    ),
    counter(
        "dht_socket_send_blocked_total",
        "Times the socket was full.",
        Io(|io| io.send_blocked),
    ),
    counter(
        "dht_socket_no_buffers_total",
        "Times the system had no buffers.",
        Io(|io| io.no_buffers),
    ),
    counter(
        "dht_socket_no_buffers_dropped_total",
        "Datagrams that never found a buffer.",
        Io(|io| io.no_buffers_dropped),
    ),
    counter("dht_socket_too_big_total", "Datagrams too big for the path.", Io(|io| io.too_big)),
    counter("dht_socket_unreachable_total", "Datagrams without a route.", Io(|io| io.unreachable)),
    counter("dht_socket_refused_total", "ICMP messages about datagrams.", Io(|io| io.refused)),
    counter(
        "dht_socket_send_errors_total",
        "Datagrams refused otherwise.",
        Io(|io| io.send_errors),
    ),
    counter("dht_socket_receive_errors_total", "Failed receive calls.", Io(|io| io.recv_errors)),
    counter(
        "dht_notices_dropped_total",
        "Notices that nobody fetched.",
        Io(|io| io.notices_dropped),
    ),
    counter("dht_clock_jumps_total", "Times the loop woke much too late.", Io(|io| io.clock_jumps)),
    counter(
        "dht_clock_reversals_total",
        "Times the clock ran backwards.",
        Io(|io| io.clock_reversals),
    ),
    gauge(
        "dht_contacts",
        "Contacts in the routing table that answered.",
        Node(|node| node.contacts),
    ),
    gauge("dht_candidates", "Candidates for the routing table.", Node(|node| node.candidates)),
    gauge("dht_stored_torrents", "Infohashes with stored peers.", Node(|node| node.torrents)),
    gauge("dht_stored_peers", "Peers stored.", Node(|node| node.peers)),
    gauge("dht_stored_items", "Items stored.", Node(|node| node.items)),
    gauge("dht_queries_in_flight", "Queries waiting for an answer.", Node(|node| node.in_flight)),
    gauge(
        "dht_lookups_running",
        "Lookups running, maintenance included.",
        Node(|node| node.lookups_running),
    ),
    counter(
        "dht_queries_answered_total",
        "Queries answered, by method.",
        Method([
            ("{method=\"ping\"}", |node| node.ping_in),
            ("{method=\"find_node\"}", |node| node.find_node_in),
            ("{method=\"get_peers\"}", |node| node.get_peers_in),
            ("{method=\"announce_peer\"}", |node| node.announce_peer_in),
            ("{method=\"get\"}", |node| node.get_in),
            ("{method=\"put\"}", |node| node.put_in),
            ("{method=\"sample_infohashes\"}", |node| node.sample_infohashes_in),
        ]),
    ),
    gauge(
        "dht_healthy",
        "Whether some network has contacts and no problem.",
        Overall(|health| u64::from(health.node.is_connected())),
    ),
    gauge("dht_family_contacts", "Contacts, by network.", Family(|family| family.contacts as u64)),
    gauge(
        "dht_family_problem",
        "Whether something is wrong.",
        Family(|family| u64::from(family.problem.is_some())),
    ),
    gauge(
        "dht_family_answers",
        "Whether we answer queries.",
        Family(|family| u64::from(family.answers)),
    ),
    gauge(
        "dht_network_size",
        "Estimated nodes, 0 if unknown.",
        Family(|family| family.network_size),
    ),
    gauge("dht_build_info", "The version that runs.", Version),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_has_a_metric_of_its_own() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        let numbers = |metric: &Metric| match &metric.value {
            Node(_) | Io(_) => 1,
            Method(rows) => rows.len(),
            Family(_) | Overall(_) | Version => 0,
        };
        let stats = Stats::default();
        // The Debug form has one colon per field.
        let fields = format!("{:?}{:?}", stats.node, stats.io).matches(": ").count();
        assert_eq!(METRICS.iter().map(numbers).sum::<usize>(), fields);
    }

    #[test]
    fn metrics_are_named_as_prometheus_advises() {
        for Metric { kind, name, help, .. } in METRICS {
            assert!(name.starts_with("dht_") && help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
        }
    }
}
