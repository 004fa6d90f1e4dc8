//! Arbitrary requests to a relay.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dht_fuzz::relay_http(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dht_fuzz::reproduce(dht_fuzz::relay_http)
}
