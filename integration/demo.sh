#!/usr/bin/env bash
# What `make run` shows: a local Hub with a sample repository, mounted at
# ./mnt until Ctrl-C, and a file that becomes a commit. REPO=org/name mounts that repository of the real Hub
# instead. ONCE=1 cleans up after the demonstration without waiting.
set -euo pipefail
cd "$(dirname "$0")/.."
hfmount=$PWD/bin/hfmount
run=$PWD/.run
hub_pid=
sleep_pid=

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
show() { say "$*"; "$@"; }

# make_sample builds the repository: what docs/sample holds, and 24 MiB of
# weights in the safetensors format.
make_sample() {
    local weights=$run/sample/model.safetensors
    mkdir -p "$run/sample"
    cp -r docs/sample/. "$run/sample/"
    [ -f "$weights" ] && return
    local header='{"embed.weight":{"dtype":"F32","shape":[6144,1024],"data_offsets":[0,25165824]}}'
    {
        printf "\\x$(printf %02x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
        awk 'BEGIN { for (i = 0; i < 2800000; i++) printf "%08x ", (i * 7919) % 16777213 }' | head -c 25165824 || true
    } >"$weights.part"
    mv "$weights.part" "$weights"
}

start_hub() {
    "$hfmount" hub --listen 127.0.0.1:0 --data "$run/hub" --import demo/sample="$run/sample" \
        >"$run/hub.out" 2>"$run/hub.log" &
    hub_pid=$!
    for _ in $(seq 300); do
        if [ -s "$run/hub.out" ]; then
            HF_ENDPOINT=$(sed -n 's/^HF_ENDPOINT=//p' "$run/hub.out")
            export HF_ENDPOINT
            return
        fi
        kill -0 "$hub_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$run/hub.log" >&2
    echo "the local Hub did not start" >&2
    exit 1
}

# await_commit returns when nothing of the mount is pending.
await_commit() {
    for _ in $(seq 300); do
        [ -n "$("$hfmount" diff mnt)" ] || return 0
        sleep 0.2
    done
    echo "the change is still not on the Hub" >&2
    exit 1
}

cleanup() {
    trap '' INT TERM
    local pid
    [ -z "$sleep_pid" ] || kill "$sleep_pid" 2>/dev/null || true
    if grep -q " $PWD/mnt fuse.hfmount " /proc/self/mounts; then
        echo
        if ! "$hfmount" unmount "$PWD/mnt"; then
            # Still in use: the process detaches the mount when it is told to end.
            pid=$("$hfmount" status --json "$PWD/mnt" | sed -n 's/.*"pid": \([1-9][0-9]*\).*/\1/p' | head -n 1)
            [ -z "$pid" ] || kill "$pid"
        fi
    fi
    if [ -n "$hub_pid" ]; then
        kill "$hub_pid" 2>/dev/null || true
        wait "$hub_pid" 2>/dev/null || true
    fi
}

./integration/need.sh fusermount3:fuse3
mkdir -p "$run" mnt
trap cleanup EXIT
trap 'exit 0' INT TERM

if [ -n "${REPO:-}" ]; then
    show "$hfmount" "$REPO" mnt
    show ls -l mnt
else
    make_sample
    start_hub
    export HF_TOKEN=hf_local
    say "hfmount demo/sample mnt --commit-after 2s        # HF_ENDPOINT=$HF_ENDPOINT"
    "$hfmount" demo/sample mnt --commit-after 2s --cache-dir "$run/cache"
    show ls -l mnt
    show head -n 5 mnt/config.json
    show sha256sum mnt/model.safetensors
    want=$(sha256sum <"$run/sample/model.safetensors")
    [ "$want" = "$(sha256sum <mnt/model.safetensors)" ] || { echo "the mount shows other bytes than the sample" >&2; exit 1; }
    echo "equal to the file that was published"
    date >"$run/note.txt"
    show cp "$run/note.txt" mnt/notes/note.txt
    show "$hfmount" diff mnt
    say "# two seconds later, on the Hub:"
    await_commit
    show "$hfmount" log -n 3 mnt
    show "$hfmount" cat demo/sample/notes/note.txt
    cmp "$run/note.txt" <("$hfmount" cat demo/sample/notes/note.txt)
fi
show "$hfmount" status mnt
[ -z "${ONCE:-}" ] || exit 0
printf '\n./mnt is mounted. Look around from another shell; Ctrl-C here unmounts it.\n'
# The shell runs a trap only when a child that it waits for in the foreground
# has ended, but interrupts wait at once.
sleep infinity &
sleep_pid=$!
wait "$sleep_pid"
