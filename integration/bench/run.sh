#!/usr/bin/env bash
# Runs the benchmark and prints its table. BENCH_WRITE=1 also puts it into
# docs/BENCHMARKS.md. Arguments go to the program: see "run.sh -h".
#
# The peers (rclone, hf, DuckDB) are those in RCLONE, HF and DUCKDB_PYTHON, else
# pinned wheels, which are kept in ${XDG_CACHE_HOME:-~/.cache}/hfmount-bench.
# Where they cannot be installed their rows say so. -quick, which proves only
# that the benchmark works, does not install them; BENCH_INSTALL=1 does.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
for tool in go curl dd sha256sum find xargs cmp fusermount3; do
    command -v "$tool" >/dev/null || { echo "bench: $tool is missing" >&2; exit 1; }
done
unset HF_ENDPOINT HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_HOME HF_HUB_OFFLINE

install=${BENCH_INSTALL:-1}
for arg in "$@"; do
    case $arg in
    -quick | --quick) install=${BENCH_INSTALL:-0} ;;
    esac
done

# peers makes the environment with the pinned wheels, once.
peers() {
    local dir=$1
    command -v python3 >/dev/null || { echo "bench: no python3 for the peers" >&2; return 0; }
    mkdir -p "$dir"
    exec 9>"$dir/lock"
    flock 9
    if [ ! -e "$dir/complete" ] && [ "$install" = 1 ]; then
        echo "bench: installing the peers into $dir" >&2
        rm -rf "$dir/venv"
        if python3 -m venv "$dir/venv" &&
            "$dir/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "$here/requirements.lock" &&
            "$dir/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "$here/../e2e/requirements.lock"; then
            touch "$dir/complete"
        else
            echo "bench: the peers cannot be installed" >&2
        fi
    fi
    flock -u 9
}
key=$(cat "$here/requirements.lock" "$here/../e2e/requirements.lock" \
    <(python3 -c 'import sys; print(sys.version_info[:2], sys.executable)' || true) | sha256sum | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/hfmount-bench/$key
peers "$dir"
if [ -e "$dir/complete" ]; then
    : "${RCLONE:=$dir/venv/bin/rclone}" "${HF:=$dir/venv/bin/hf}" "${DUCKDB_PYTHON:=$dir/venv/bin/python}"
fi
given=()
[ -z "${RCLONE:-}" ] || given+=(-rclone "$RCLONE")
[ -z "${HF:-}" ] || given+=(-hf "$HF")
[ -z "${DUCKDB_PYTHON:-}" ] || given+=(-python "$DUCKDB_PYTHON")

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/hfmount-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch" # an ordinary user reads there, too
go build -o "$scratch/hfmount" ./cmd/hfmount
go build -o "$scratch/bench" ./integration/bench
if [ "${BENCH_WRITE:-}" = 1 ]; then given+=(-o docs/BENCHMARKS.md); fi
"$scratch/bench" -hfmount "$scratch/hfmount" -dir "$scratch" "${given[@]}" "$@"
