//! Counters, and how Prometheus reads them.

use core::fmt::Write as _;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// HTTP requests.
    pub http_requests: u64,
    /// Replies of status 200 to 299.
    pub http_ok: u64,
    /// Replies of status 304.
    pub http_not_modified: u64,
    /// Replies of status 400 to 499.
    pub http_client_errors: u64,
    /// Replies of status 500 and above.
    pub http_server_errors: u64,
    /// Requests over the quota.
    pub http_limited: u64,
    /// Packets given from the cache at once.
    pub cache_hits: u64,
    /// Lookups begun for who waits for them.
    pub lookups: u64,
    /// Requests that waited for a lookup which was begun for another.
    pub lookups_shared: u64,
    /// Lookups begun for packets that could still be used.
    pub refreshes: u64,
    /// Lookups of both kinds that found no packet, or for which there was no place.
    pub lookups_failed: u64,
    /// Publications asked for.
    pub publications: u64,
    /// Publications that failed.
    pub publications_failed: u64,
    /// Packets refused because of a newer one, or of one being published.
    pub conflicts: u64,
    /// Lookups and publications over the quota.
    pub work_limited: u64,
    /// DNS queries over UDP.
    pub dns_udp: u64,
    /// DNS queries over TCP.
    pub dns_tcp: u64,
    /// DNS queries over HTTP.
    pub dns_https: u64,
    /// DNS replies: the name has records, or others than those asked for.
    pub dns_no_error: u64,
    /// DNS replies: there is no such name.
    pub dns_no_name: u64,
    /// DNS replies: it could not be found out.
    pub dns_failed: u64,
    /// DNS replies: not answered here.
    pub dns_refused: u64,
    /// DNS replies: the query is of no known form.
    pub dns_bad: u64,
    /// DNS replies cut to what a datagram holds.
    pub dns_truncated: u64,
    /// DNS messages that were no query, not answered.
    pub dns_dropped: u64,
    /// DNS queries over the quota.
    pub dns_limited: u64,
    /// DNS queries forwarded.
    pub dns_forwarded: u64,
}

type Read = fn(&Stats) -> u64;

/// Each counter's metric.
const METRICS: &[(&str, &str, Read)] = &[
    ("pkarr_http_requests_total", "HTTP requests.", |s| s.http_requests),
    ("pkarr_http_ok_total", "HTTP replies of status 200 to 299.", |s| s.http_ok),
    ("pkarr_http_not_modified_total", "HTTP replies of status 304.", |s| s.http_not_modified),
    ("pkarr_http_client_errors_total", "HTTP replies of status 400 to 499.", |s| {
        s.http_client_errors
    }),
    ("pkarr_http_server_errors_total", "HTTP replies of status 500 and above.", |s| {
        s.http_server_errors
    }),
    ("pkarr_http_limited_total", "HTTP requests over the quota.", |s| s.http_limited),
    ("pkarr_cache_hits_total", "Packets given from the cache at once.", |s| s.cache_hits),
    ("pkarr_lookups_total", "Lookups begun for who waits for them.", |s| s.lookups),
    ("pkarr_lookups_shared_total", "Requests that joined a lookup.", |s| s.lookups_shared),
    ("pkarr_refreshes_total", "Lookups begun for packets in use.", |s| s.refreshes),
    ("pkarr_lookups_failed_total", "Lookups that found no packet.", |s| s.lookups_failed),
    ("pkarr_publications_total", "Publications asked for.", |s| s.publications),
    ("pkarr_publications_failed_total", "Publications that failed.", |s| s.publications_failed),
    ("pkarr_conflicts_total", "Packets refused for another one.", |s| s.conflicts),
    ("pkarr_work_limited_total", "Lookups and publications over the quota.", |s| s.work_limited),
    ("pkarr_dns_udp_total", "DNS queries over UDP.", |s| s.dns_udp),
    ("pkarr_dns_tcp_total", "DNS queries over TCP.", |s| s.dns_tcp),
    ("pkarr_dns_https_total", "DNS queries over HTTP.", |s| s.dns_https),
    ("pkarr_dns_no_error_total", "DNS replies without an error.", |s| s.dns_no_error),
    ("pkarr_dns_no_name_total", "DNS replies that there is no such name.", |s| s.dns_no_name),
    ("pkarr_dns_failed_total", "DNS queries that nobody could answer.", |s| s.dns_failed),
    ("pkarr_dns_refused_total", "DNS queries refused.", |s| s.dns_refused),
    ("pkarr_dns_bad_total", "DNS queries of no known form.", |s| s.dns_bad),
    ("pkarr_dns_truncated_total", "DNS replies cut to a datagram.", |s| s.dns_truncated),
    ("pkarr_dns_dropped_total", "DNS messages that are no query.", |s| s.dns_dropped),
    ("pkarr_dns_limited_total", "DNS queries over the quota.", |s| s.dns_limited),
    ("pkarr_dns_forwarded_total", "DNS queries forwarded.", |s| s.dns_forwarded),
];

/// A number of the moment: its name, what it is, and how much.
pub(crate) type Gauge = (&'static str, &'static str, u64);

/// Counters and gauges in the text format of Prometheus.
pub(crate) fn text(stats: &Stats, gauges: &[Gauge]) -> String {
    let mut text = String::with_capacity(8 * 1024);
    let counters = METRICS.iter().map(|(name, help, read)| (name, help, "counter", read(stats)));
    let gauges = gauges.iter().map(|(name, help, value)| (name, help, "gauge", *value));
    for (name, help, kind, value) in counters.chain(gauges) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_has_a_metric_of_its_own() {
        let names: BTreeSet<_> = METRICS.iter().map(|(name, ..)| name).collect();
        // The Debug form has one colon per field.
        let fields = format!("{:?}", Stats::default()).matches(": ").count();
        assert_eq!((names.len(), METRICS.len()), (fields, fields));
        assert!(names.iter().all(|name| name.ends_with("_total")));
        let stats = Stats { dns_dropped: 7, ..Stats::default() };
        let text = text(&stats, &[("pkarr_x", "X.", 9)]);
        assert!(text.contains("\npkarr_dns_dropped_total 7\n"));
        assert!(text.ends_with("# HELP pkarr_x X.\n# TYPE pkarr_x gauge\npkarr_x 9\n"));
    }
}
