//! Prometheus metrics: the counters as text.

mod server;

use core::fmt::Write as _;

use dht_mio::proto::health::FamilyHealth;
use dht_mio::{Health, Stats};

pub(crate) use self::server::MetricsServer;

/// Everything that can be measured, in the text format of Prometheus.
pub(crate) fn text(stats: &Stats, health: &Health) -> String {
    let mut text = String::with_capacity(16 * 1024);
    let (counters, gauges, io) = (node_counters(stats), node_gauges(stats), io_counters(stats));
    for (name, help, value) in counters.into_iter().chain(io) {
        metric(&mut text, "counter", name, help, &[("", value)]);
    }
    for (name, help, value) in gauges {
        metric(&mut text, "gauge", name, help, &[("", value)]);
    }
    metric(
        &mut text,
        "counter",
        "dht_queries_answered_total",
        "Queries answered, by method.",
        &by_method(stats),
    );
    let healthy = u64::from(health.node.is_connected());
    metric(
        &mut text,
        "gauge",
        "dht_healthy",
        "Whether some network has contacts and no problem.",
        &[("", healthy)],
    );
    families(&mut text, health);
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    metric(&mut text, "gauge", "dht_build_info", "The version that runs.", &[(version, 1)]);
    text
}

type Row = (&'static str, &'static str, u64);

fn node_counters(stats: &Stats) -> [Row; 27] {
    let node = &stats.node;
    [
        ("dht_datagrams_received_total", "Datagrams received.", node.datagrams_in),
        ("dht_received_bytes_total", "Bytes received.", node.bytes_in),
        ("dht_queries_sent_total", "Queries sent.", node.queries_out),
        ("dht_replies_sent_total", "Replies and errors sent.", node.replies_out),
        ("dht_sent_bytes_total", "Bytes sent.", node.bytes_out),
        ("dht_malformed_total", "Datagrams dropped that are no message.", node.malformed),
        ("dht_unsorted_total", "Messages with unsorted or doubled keys.", node.unsorted),
        ("dht_bad_queries_total", "Queries with bad arguments, answered 203.", node.bad_queries),
        ("dht_bad_source_total", "Datagrams dropped for their source.", node.bad_source),
        ("dht_unsolicited_total", "Replies dropped that match no query.", node.unsolicited),
        ("dht_id_mismatch_total", "Replies with an unexpected node id.", node.id_mismatch),
        ("dht_queries_unserved_total", "Queries dropped by a client.", node.queries_unserved),
        ("dht_throttled_total", "Queries over the budget, not answered.", node.throttled),
        ("dht_degraded_total", "Queries near the budget, answered with less.", node.degraded),
        (
            "dht_oversized_tids_total",
            "Queries whose transaction id fits in no reply.",
            node.oversized_tids,
        ),
        ("dht_unknown_methods_total", "Queries with unknown methods.", node.unknown_in),
        ("dht_bad_tokens_total", "Announces and puts with an invalid token.", node.bad_tokens),
        ("dht_errors_sent_total", "Errors sent.", node.errors_out),
        ("dht_verifications_total", "Signatures checked for puts.", node.verifications),
        ("dht_replies_received_total", "Replies that match a query.", node.replies_in),
        ("dht_errors_received_total", "Errors that match a query.", node.errors_in),
        ("dht_query_timeouts_total", "Queries without an answer in time.", node.timeouts),
        ("dht_query_unreachable_total", "Queries to unreachable nodes.", node.unreachable),
        ("dht_id_changes_total", "Contacts evicted for a new node id.", node.id_changes),
        ("dht_bad_nodes_total", "Nodes told at impossible addresses.", node.bad_nodes),
        ("dht_lookups_total", "Lookups started, without maintenance.", node.lookups),
        (
            "dht_lookup_values_dropped_total",
            "Values of lookups whose consumer was too slow.",
            stats.io.values_dropped,
        ),
    ]
}

fn node_gauges(stats: &Stats) -> [Row; 7] {
    let node = &stats.node;
    [
        ("dht_contacts", "Contacts in the routing table that answered.", node.contacts),
        ("dht_candidates", "Candidates for the routing table.", node.candidates),
        ("dht_stored_torrents", "Infohashes with stored peers.", node.torrents),
        ("dht_stored_peers", "Peers stored.", node.peers),
        ("dht_stored_items", "Items stored.", node.items),
        ("dht_queries_in_flight", "Queries waiting for an answer.", node.in_flight),
        ("dht_lookups_running", "Lookups running, maintenance included.", node.lookups_running),
    ]
}

fn io_counters(stats: &Stats) -> [Row; 15] {
    let io = &stats.io;
    [
        ("dht_socket_sent_total", "Datagrams given to the system.", io.sent),
        ("dht_socket_received_total", "Datagrams taken from the system.", io.received),
        ("dht_socket_truncated_total", "Datagrams cut or too long.", io.truncated),
        ("dht_socket_replies_dropped_total", "Replies without a buffer.", io.replies_dropped),
        ("dht_socket_send_blocked_total", "Times the socket was full.", io.send_blocked),
        ("dht_socket_no_buffers_total", "Times the system had no buffers.", io.no_buffers),
        (
            "dht_socket_no_buffers_dropped_total",
            "Datagrams that never found a buffer.",
            io.no_buffers_dropped,
        ),
        ("dht_socket_too_big_total", "Datagrams too big for the path.", io.too_big),
        ("dht_socket_unreachable_total", "Datagrams without a route.", io.unreachable),
        ("dht_socket_refused_total", "ICMP messages about datagrams.", io.refused),
        ("dht_socket_send_errors_total", "Datagrams refused otherwise.", io.send_errors),
        ("dht_socket_receive_errors_total", "Failed receive calls.", io.recv_errors),
        ("dht_notices_dropped_total", "Notices that nobody fetched.", io.notices_dropped),
        ("dht_clock_jumps_total", "Times the loop woke much too late.", io.clock_jumps),
        ("dht_clock_reversals_total", "Times the clock ran backwards.", io.clock_reversals),
    ]
}

fn by_method(stats: &Stats) -> [(&'static str, u64); 7] {
    let node = &stats.node;
    [
        ("{method=\"ping\"}", node.ping_in),
        ("{method=\"find_node\"}", node.find_node_in),
        ("{method=\"get_peers\"}", node.get_peers_in),
        ("{method=\"announce_peer\"}", node.announce_peer_in),
        ("{method=\"get\"}", node.get_in),
        ("{method=\"put\"}", node.put_in),
        ("{method=\"sample_infohashes\"}", node.sample_infohashes_in),
    ]
}

/// Reads a number out of the health of a network.
type Read = fn(&FamilyHealth) -> u64;

fn families(text: &mut String, health: &Health) {
    let families = [
        ("{family=\"ipv4\"}", health.node.v4.as_ref()),
        ("{family=\"ipv6\"}", health.node.v6.as_ref()),
    ];
    let gauges: [(&str, &str, Read); 4] = [
        ("dht_family_contacts", "Contacts, by network.", |family| family.contacts as u64),
        ("dht_family_problem", "Whether something is wrong.", |f| u64::from(f.problem.is_some())),
        ("dht_family_answers", "Whether we answer queries.", |f| u64::from(f.answers)),
        ("dht_network_size", "Estimated nodes, 0 if unknown.", |family| family.network_size),
    ];
    for (name, help, read) in gauges {
        let rows: Vec<_> = families
            .iter()
            .filter_map(|(label, family)| family.map(|family| (*label, read(family))))
            .collect();
        metric(text, "gauge", name, help, &rows);
    }
}

fn metric(text: &mut String, kind: &str, name: &str, help: &str, rows: &[(&str, u64)]) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in rows {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_has_a_metric_of_its_own() {
        let stats = Stats::default();
        let rows = [
            node_counters(&stats).to_vec(),
            node_gauges(&stats).to_vec(),
            io_counters(&stats).to_vec(),
        ]
        .concat();
        let names: BTreeSet<_> = rows.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), rows.len());
        // The Debug form has one colon per field.
        let fields = format!("{:?}{:?}", stats.node, stats.io).matches(": ").count();
        assert_eq!(rows.len() + by_method(&stats).len(), fields);
    }

    #[test]
    fn metrics_are_named_as_prometheus_advises() {
        let stats = Stats::default();
        for (name, help, _) in node_counters(&stats).into_iter().chain(io_counters(&stats)) {
            assert!(name.starts_with("dht_") && name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
        for (name, ..) in node_gauges(&stats) {
            assert!(!name.ends_with("_total"), "{name}");
        }
    }
}
