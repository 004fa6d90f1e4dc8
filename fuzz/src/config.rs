//! Configurations of any kind, sensible or not.

use std::time::Duration;

use dht_proto::config::Config;

/// Sets every number of a configuration by one byte of the input, from none to far too many; where
/// the input ends, the rest stays as it is.
pub fn distort(config: &mut Config, choices: &[u8]) {
    let counts = [0, 1, 2, 3, 8, 20, 1000, usize::MAX];
    let micros = [0, 1, 1_000, 90_000, 1_000_000, 60_000_000, 86_400_000_000, u64::MAX];
    let mut choices = choices.iter().map(|choice| usize::from(*choice % 8));
    for (count, choice) in usizes(config).into_iter().zip(&mut choices) {
        *count = counts.get(choice).copied().unwrap_or_default();
    }
    for (period, choice) in durations(config).into_iter().zip(&mut choices) {
        *period = Duration::from_micros(micros.get(choice).copied().unwrap_or_default());
    }
    for (rate, choice) in rates(config).into_iter().zip(&mut choices) {
        *rate = counts.get(choice).map_or(0, |count| u32::try_from(*count).unwrap_or(u32::MAX));
    }
    if let Some(choice) = choices.next() {
        config.max_fails = [0, 1, 2, 3, 5, 8, 100, 255].get(choice).copied().unwrap_or_default();
        config.extended_buckets = choice % 2 == 0;
    }
}

fn usizes(config: &mut Config) -> [&mut usize; 15] {
    [
        &mut config.k,
        &mut config.alpha,
        &mut config.max_frontier,
        &mut config.max_lookups,
        &mut config.max_transactions,
        &mut config.max_events,
        &mut config.max_candidates,
        &mut config.max_per_subnet_in_bucket,
        &mut config.max_per_allocation,
        &mut config.max_torrents,
        &mut config.max_peers_per_torrent,
        &mut config.max_announces_per_subnet,
        &mut config.max_items,
        &mut config.max_samples,
        &mut config.throttle_slots,
    ]
}

fn durations(config: &mut Config) -> [&mut Duration; 17] {
    [
        &mut config.bootstrap_backoff_min,
        &mut config.bootstrap_backoff_max,
        &mut config.query_timeout,
        &mut config.stall_min,
        &mut config.stall_initial,
        &mut config.lookup_timeout,
        &mut config.ping_after,
        &mut config.ping_interval,
        &mut config.refresh_after,
        &mut config.self_lookup_interval,
        &mut config.verify_delay,
        &mut config.offline_after,
        &mut config.peer_lifetime,
        &mut config.item_lifetime,
        &mut config.sample_interval,
        &mut config.token_rotation,
        &mut config.subnet_query_interval,
    ]
}

fn rates(config: &mut Config) -> [&mut u32; 5] {
    [
        &mut config.subnet_bytes_per_sec,
        &mut config.subnet_burst_bytes,
        &mut config.total_bytes_per_sec,
        &mut config.verifications_per_sec,
        &mut config.subnet_query_burst,
    ]
}
