//! Lookups in a network that answers what it likes.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dht_fuzz::lookup(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dht_fuzz::reproduce(dht_fuzz::lookup)
}
