#!/usr/bin/env bash
# Runs the benchmark and prints its table. BENCH_WRITE=1 also writes
# docs/BENCHMARKS.md. Arguments go to the program: see "run.sh -h".
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in curl dd sha256sum find fusermount3; do
    command -v "$tool" >/dev/null || { echo "bench: $tool is missing" >&2; exit 1; }
done
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/hfmount-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/hfmount" ./cmd/hfmount
go build -o "$scratch/bench" ./integration/bench
write=()
if [ "${BENCH_WRITE:-}" = 1 ]; then write=(-o docs/BENCHMARKS.md); fi
"$scratch/bench" -hfmount "$scratch/hfmount" -dir "$scratch" "${write[@]}" "$@"
