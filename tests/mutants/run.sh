#!/usr/bin/env bash
# Breaks the core on purpose, one patch at a time, and demands that a simulated swarm notices: not by
# luck, so in each of several windows of seeds. Prints which invariant caught each mutant, and with which
# seed of each window. SEEDS=N makes windows longer, WINDOWS=N tries more of them, FIRST=N begins with
# another seed. Names of mutants behind it try only those.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
seeds="${SEEDS:-60}"
windows="${WINDOWS:-4}"
first="${FIRST:-0}"
copy="$(mktemp -d)/tree"
trap 'git -C "$root" worktree remove --force "$copy" >/dev/null 2>&1 || true' EXIT
git -C "$root" worktree add --quiet --detach "$copy" HEAD

export CARGO_TARGET_DIR="$root/target/mutants"
# A minute less for each mutant; nothing here is measured.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64
export CARGO_PROFILE_RELEASE_INCREMENTAL=true CARGO_PROFILE_RELEASE_DEBUG=0
export RUST_BACKTRACE=0

failed=0
printf '%-24s %-32s %s\n' mutant "caught by" "seed of each window"
if [ "$#" -eq 0 ]; then
  set -- "$here"/*.patch
fi
for name in "$@"; do
  name="$(basename "$name" .patch)"
  patch="$here/$name.patch"
  git -C "$copy" checkout --quiet -- .
  if ! git -C "$copy" apply "$patch" 2>"$copy.err"; then
    printf '%-24s %s\n' "$name" "NO LONGER APPLIES: write it anew against the present core ($patch)"
    sed 's/^/    /' "$copy.err"
    failed=1
    continue
  fi
  if ! (cd "$copy" && cargo build --quiet --release -p dht-sim --bin dht-sim) 2>"$copy.err"; then
    printf '%-24s %s\n' "$name" "DOES NOT COMPILE: write it anew against the present core ($patch)"
    grep -m3 '^error' "$copy.err" | sed 's/^/    /'
    failed=1
    continue
  fi
  caught=""
  invariants=""
  for ((window = 0; window < windows; window++)); do
    from=$((first + window * seeds))
    status=0
    "$CARGO_TARGET_DIR/release/dht-sim" swarm --first "$from" --seeds "$seeds" \
      >"$copy.out" 2>/dev/null || status=$?
    if [ "$status" -ne 1 ]; then
      caught+=" SURVIVES:$from+$seeds(status:$status)"
      failed=1
      continue
    fi
    invariants+="$(sed -n 's/^invariant //p' "$copy.out" | head -1)"$'\n'
    caught+=" $(sed -n 's/^  seed \([0-9]*\),.*/\1/p' "$copy.out" | head -1)"
  done
  by="$(printf '%s' "$invariants" | sort -u | paste -sd '/' -)"
  printf '%-24s %-32s%s\n' "$name" "$by" "$caught"
done
exit "$failed"
