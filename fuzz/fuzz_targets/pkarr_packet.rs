//! Arbitrary relay payloads into the reader of packets.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dht_fuzz::pkarr_packet(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dht_fuzz::reproduce(dht_fuzz::pkarr_packet)
}
