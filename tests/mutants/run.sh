#!/usr/bin/env bash
# Breaks the core on purpose, one patch at a time, and demands that a simulated swarm notices.
# Prints which invariant caught each mutant, and with which seed. SEEDS=N tries more seeds. Names of
# mutants behind it try only those.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
seeds="${SEEDS:-120}"
copy="$(mktemp -d)/tree"
trap 'git -C "$root" worktree remove --force "$copy" >/dev/null 2>&1 || true' EXIT
git -C "$root" worktree add --quiet --detach "$copy" HEAD

export CARGO_TARGET_DIR="$root/target/mutants"
# A minute less for each mutant; nothing here is measured.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64
export CARGO_PROFILE_RELEASE_INCREMENTAL=true CARGO_PROFILE_RELEASE_DEBUG=0
export RUST_BACKTRACE=0

failed=0
printf '%-24s %-16s %s\n' mutant "caught by" seed
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
  status=0
  "$CARGO_TARGET_DIR/release/dht-sim" swarm --seeds "$seeds" >"$copy.out" 2>/dev/null || status=$?
  if [ "$status" -ne 1 ]; then
    printf '%-24s %s\n' "$name" "SURVIVES $seeds seeds (status $status)"
    failed=1
    continue
  fi
  invariant="$(sed -n 's/^invariant //p' "$copy.out" | head -1)"
  seed="$(sed -n 's/^  seed \([0-9]*\),.*/\1/p' "$copy.out" | head -1)"
  printf '%-24s %-16s %s\n' "$name" "$invariant" "$seed"
done
exit "$failed"
