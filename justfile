# Every task is one line here; what needs logic is a Rust test or a script beside what it serves.
#
# What CI runs names its tests within the whole workspace: with one package alone features differ, and
# everything would be built again.

# List the recipes.
default:
    @just --list

# What CI runs.
ci:
    bash .ci/run

# Format everything.
fmt:
    cargo fmt --all

# Formatting and lints, warnings denied; also of what is compiled where there is no Linux, and no C compiler.
lint:
    cargo fmt --all --check
    cargo fmt --check --manifest-path tests/interop/pkarr/Cargo.toml
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p dht-net -p dht-mio -p dht-smol -p dht-cli --no-default-features -- -D warnings --cfg dht_portable

# All tests that need nothing but Rust and a C compiler.
test:
    cargo test --workspace

# One suite of scenarios: in the simulator, with faults of the system, and through both runtimes.
suite:
    cargo test -p dht-tests --test suite_sim --test suite_io --test suite_mio --test suite_smol

# Documentation, warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Install what the interop suite needs (Python venv, npm packages), beside the suite.
interop-setup:
    bash tests/interop/setup.sh

# Other implementations as servers, clients, and strangers who meet through our nodes.
interop: interop-setup
    cargo test --workspace --test interop --test testnet -- --include-ignored
    CARGO_TARGET_DIR=target/interop cargo test --locked --manifest-path tests/interop/pkarr/Cargo.toml -- --include-ignored --skip through_pkarr_relay

# Clients of both through the reference implementation's relay, which has to be installed:
# cargo install pkarr-relay --version 2.1.0 --features testnet --locked
interop-pkarr-relay:
    CARGO_TARGET_DIR=target/interop cargo test --locked --manifest-path tests/interop/pkarr/Cargo.toml -- --ignored through_pkarr_relay

# dig, curl and Chromium against the relay and its DNS, and dht by HTTPS (needs all three, node and openssl).
interop-relay:
    cargo test --workspace --test cli tools -- --include-ignored

# A simulated network on real sockets, for any client; for example: just testnet --nodes 100000
testnet *FLAGS:
    cargo run --release -p dht-cli -- testnet {{FLAGS}}

# Replay the committed fuzz corpora through the target bodies.
fuzz-replay:
    cargo test --workspace --test replay

# Fuzz one target (needs nightly and cargo-fuzz), for example: just fuzz decode 60
fuzz TARGET SECONDS="60":
    cargo +nightly fuzz run {{TARGET}} -- -max_total_time={{SECONDS}} -max_len=1500

# Fuzz whole worlds. Their input is compared with nothing and nothing in them is unsafe: without instruments
# for either, several times as many run. Short inputs end before anything has happened.
fuzz-world SECONDS="60":
    cargo +nightly fuzz run --sanitizer none --no-trace-compares world -- -max_total_time={{SECONDS}} -max_len=4096 -len_control=0 -timeout=20

# Run one simulated world: everything in it follows from the seed. Options of a run go behind it.
sim SEED *ARGS:
    cargo run --release -q -p dht-sim --bin dht-sim -- --commit "$(git rev-parse HEAD)" run --seed {{SEED}} {{ARGS}}

# Run many seeds with all checkers on all processors; stops at the first that breaks an invariant.
swarm N="1000" *ARGS:
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo run --release -q -p dht-sim --bin dht-sim -- --commit "$(git rev-parse HEAD)" swarm --seeds {{N}} {{ARGS}}

# The same seeds must leave the same trace in debug and release builds, on every processor.
hashes:
    bash tests/hashes/run.sh

# What users achieve among adversaries, as docs/TESTING.md has it: takes minutes.
adversaries:
    cargo test --release -q -p dht-sim --test adversaries -- --nocapture --test-threads=1 | grep -o '|.*'

# Break the core on purpose, in a score of ways; the swarm must notice each.
mutants:
    bash tests/mutants/run.sh

# Instructions per query of the core, under callgrind (needs valgrind).
bench-core:
    cargo bench -p dht-tests --bench core

# What a signed packet costs beyond its signature, as ratios to a bare verification.
bench-pkarr:
    cargo bench -p dht-pkarr --bench packet

# Cached packets that the relay gives out per second on one core, beside pkarr-relay if that is installed.
bench-relay:
    cargo bench -p dht-relay --bench get

# How long it takes to resolve a published key in a simulated internet; for example: just bench-resolve 100000
bench-resolve *ARGS:
    cargo bench -p dht-pkarr-client --bench resolve -- {{ARGS}}

# A simulated network of so many nodes: memory, speed, lookups beside the reference curve, churn. Asks glibc for huge pages.
scale N="1000000" *ARGS:
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 cargo bench -p dht-tests --bench scale -- {{N}} {{ARGS}}

# Queries answered per second over loopback UDP, against a bare echo; --any: bound to the wildcard.
bench-serve *FLAGS:
    cargo run --release -p dht-mio --example serve_ratio -- {{FLAGS}}

# Bytes of an idle node, and the ceiling of a busy one.
bench-memory:
    cargo test -p dht-tests --test memory -- --nocapture
