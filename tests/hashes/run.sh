#!/usr/bin/env bash
# One seed, one trace: runs a few seeds in a debug and in a release build, on each processor at the
# same time, and demands that all of them print the same hash. SEEDS="5 6" tries other seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
read -ra seeds <<<"${SEEDS:-0 1 2}"
target="${CARGO_TARGET_DIR:-target}"
out="$(mktemp -d)"
trap 'rm -r "$out"' EXIT

# The builds that the tests and the swarm use.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
cargo build -q -p dht-sim --bin dht-sim
cargo build -q -p dht-sim --bin dht-sim --release

# All seeds on one processor: processor, build.
on() {
  for seed in "${seeds[@]}"; do
    taskset -c "$1" "$target/$2/dht-sim" run --seed "$seed" --nodes 8 --until 20 |
      sed -n "s/^trace/seed $seed: trace/p"
  done
}

mapfile -t processors < <(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ for (i = $1; i <= $NF; i++) print i }')
for processor in "${processors[@]}"; do
  { on "$processor" debug >"$out/debug on $processor"; on "$processor" release >"$out/release on $processor"; } &
done
wait

first="$out/debug on ${processors[0]}"
cat "$first"
if [ "$(wc -l <"$first")" -ne "${#seeds[@]}" ]; then
  echo "not every seed printed its trace" >&2
  exit 1
fi
failed=0
for other in "$out"/*; do
  if ! diff "$first" "$other" >&2; then
    echo "the traces of \"$(basename "$other")\" are others than those of \"$(basename "$first")\"" >&2
    failed=1
  fi
done
[ "$failed" -eq 0 ] && echo "equal: debug and release, on processors ${processors[*]}"
exit "$failed"
