//! A whole small world under arbitrary choices.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dht_fuzz::world(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dht_fuzz::reproduce(dht_fuzz::world)
}
