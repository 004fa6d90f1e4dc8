//! Arbitrary messages to a DNS server.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dht_fuzz::relay_dns(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dht_fuzz::reproduce(dht_fuzz::relay_dns)
}
