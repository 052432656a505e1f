"""What training and data programs write, straight into a mount.

    write.py HFMOUNT WORK MODEL_DIR

makes a repository, mounts it at WORK/train, and lets the libraries save there.
What huggingface_hub downloads afterwards is what the mount showed.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
from huggingface_hub import HfApi, snapshot_download

from steps import equal, eventually, finish, step

HFMOUNT, WORK, MODEL = sys.argv[1:4]
MNT, REPO = os.path.join(WORK, "train"), "alice/train"
LOCAL = (".git/", ".cache/")
api = HfApi()


def hfmount(*args, code=0):
    r = subprocess.run([HFMOUNT, *args], capture_output=True, text=True, timeout=300)
    if r.returncode != code:
        raise AssertionError(f"hfmount {args[0]}: exit {r.returncode}: {r.stdout}{r.stderr}")
    return r.stdout


def mount():
    os.makedirs(MNT, exist_ok=True)
    hfmount("mount", "--log-file", os.path.join(WORK, "train.log"), "--guard", "off", REPO, MNT)


def commits():
    return len(api.list_repo_commits(REPO))


def status():
    return json.loads(hfmount("status", "--json", MNT))[0]


@contextlib.contextmanager
def commits_made(least, most=None):
    """What is done within makes that many commits, with one explicit at the end."""
    before = commits()
    yield
    hfmount("commit", MNT)
    made = commits() - before
    if not least <= made <= (most or least):
        raise AssertionError(f"{made} commits, want {least} to {most or least}: {[c.title for c in api.list_repo_commits(REPO)][:made]}")
    equal(status()["pending"], 0)


def tree(root):
    """Every file by name and hash."""
    got = {}
    for folder, _, files in os.walk(root):
        for f in files:
            p = os.path.join(folder, f)
            name = os.path.relpath(p, root)
            if os.path.islink(p) or name == ".gitattributes" or name.startswith(LOCAL):
                continue
            with open(p, "rb") as o:
                got[name] = hashlib.file_digest(o, "sha256").hexdigest()
    return got


def path(*names):
    p = os.path.join(MNT, *names)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def elsewhere(script, *args):
    """Run Python in another process."""
    r = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, timeout=120)
    if r.returncode:
        raise AssertionError(r.stderr)
    return r.stdout.strip()


api.create_repo(REPO)
mount()


@step("write: a checkpoint loop")
def _():
    # A directory renamed into place is ready at once, so a slow machine makes
    # several commits of the loop. None of them holds half a checkpoint.
    with commits_made(1, 6):
        for n in range(1, 7):
            tmp, name = path(f"checkpoint-{n}.tmp", "weights.bin"), path(f"checkpoint-{n}")
            with open(tmp, "wb") as f:
                f.write(np.random.default_rng(n).bytes(4 << 20))
                f.flush()
                os.fsync(f.fileno())
            with open(path(f"checkpoint-{n}.tmp", "state.json"), "w") as f:
                json.dump({"step": n}, f)
            os.rename(os.path.dirname(tmp), name)
            if n > 2:
                shutil.rmtree(path(f"checkpoint-{n - 2}"))
    equal(sorted(d for d in os.listdir(MNT) if d.startswith("checkpoint")), ["checkpoint-5", "checkpoint-6"])
    names = {f.path for f in api.list_repo_tree(REPO, recursive=True)}
    equal({n for n in names if n.endswith("weights.bin")}, {"checkpoint-5/weights.bin", "checkpoint-6/weights.bin"})
    for c in api.list_repo_commits(REPO):
        names = [f.path for f in api.list_repo_tree(REPO, recursive=True, revision=c.commit_id) if f.path.startswith("checkpoint-")]
        for d in {n.split("/")[0] for n in names}:
            equal(sorted(n for n in names if n.startswith(d + "/")), [f"{d}/state.json", f"{d}/weights.bin"])


@step("write: cp -r of 10,000 small files")
def _():
    src = os.path.join(WORK, "many")
    for d in range(100):
        os.makedirs(f"{src}/d{d:02}")
        for i in range(100):
            with open(f"{src}/d{d:02}/f{i:02}.txt", "w") as f:
                f.write(f"file {d} {i}\n")
    with commits_made(1, 20):
        subprocess.run(["cp", "-r", src, path("many")], check=True)
    names = [f.path for f in api.list_repo_tree(REPO, "many", recursive=True) if f.path.endswith(".txt")]
    equal(len(names), 10_000)


RECORDS = """
import struct, sys
n, data = 0, open(sys.argv[1], "rb").read()
while len(data) >= 12:
    size, = struct.unpack("<Q", data[:8])
    if len(data) < size + 16: break
    data, n = data[size + 16:], n + 1
print(n, len(data))
"""


@step("write: TensorBoard appends while another process reads")
def _():
    from tensorboardX import SummaryWriter

    with commits_made(1):
        w = SummaryWriter(path("runs", "one"), flush_secs=3600)
        events = path("runs", "one", next(n for n in os.listdir(path("runs", "one")) if "tfevents" in n))
        seen = []
        for n in range(5):
            for i in range(100):
                w.add_scalar("loss", 1 / (1 + i), n * 100 + i)
            w.flush()
            records, _ = elsewhere(RECORDS, events).split()
            seen.append(int(records))
        if not all(b > a for a, b in zip(seen, seen[1:])):
            raise AssertionError(f"the reader saw {seen} records")
        w.close()
        equal(elsewhere(RECORDS, events), "501 0")


@step("write: zarr")
def _():
    import zarr

    data = np.random.default_rng(3).standard_normal((400, 300)).astype("float32")
    with commits_made(1):
        a = zarr.create_array(path("array.zarr"), shape=data.shape, chunks=(100, 100), dtype=data.dtype)
        a[:] = data
        a[10:20, 10:20] = 0
        data[10:20, 10:20] = 0
    got = elsewhere("import sys, zarr, hashlib; print(hashlib.sha256(zarr.open_array(sys.argv[1], mode='r')[:].tobytes()).hexdigest())", path("array.zarr"))
    equal(got, hashlib.sha256(data.tobytes()).hexdigest())


@step("write: DuckDB")
def _():
    import duckdb

    with commits_made(1):
        db = duckdb.connect(path("duck.db"))
        db.execute("create table t as select range as a, hash(range) as b from range(200000)")
        db.execute("update t set b = 0 where a % 7 = 0")
        db.execute("checkpoint")
        db.execute(f"copy t to '{path('t.parquet')}' (format parquet)")
        want = db.execute("select count(*), sum(a), sum(b % 1000) from t").fetchone()
        db.close()
    for source in "attach '%s' as d (read_only); select count(*), sum(a), sum(b %% 1000) from d.t" % path("duck.db"), \
            "select count(*), sum(a), sum(b %% 1000) from '%s'" % path("t.parquet"):
        got = elsewhere("import sys, duckdb\nfor q in sys.argv[1].split('; '): r = duckdb.execute(q)\nprint(r.fetchone())", source)
        equal(got, str(want))


@step("write: sqlite, both journal modes")
def _():
    with commits_made(1):
        for mode in "delete", "wal":
            db = sqlite3.connect(path(f"{mode}.db"))
            equal(db.execute(f"pragma journal_mode={mode}").fetchone()[0], mode)
            db.execute("create table t(a integer primary key, b text)")
            for n in range(20):
                with db:
                    db.executemany("insert into t(b) values(?)", [(f"row {n} {i}",) for i in range(100)])
                got = elsewhere("import sys, sqlite3; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from t').fetchone()[0])", path(f"{mode}.db"))
                equal(got, str((n + 1) * 100))
            equal(db.execute("pragma integrity_check").fetchone()[0], "ok")
            db.close()


@step("write: a tokenizer's save_pretrained")
def _():
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with commits_made(1):
        t = PreTrainedTokenizerFast(tokenizer_file=os.path.join(MODEL, "tokenizer.json"), unk_token="[UNK]", pad_token="[PAD]")
        t.save_pretrained(path("tok"))
        ids = t("the quick brown fox")["input_ids"]
    equal(AutoTokenizer.from_pretrained(path("tok"))("the quick brown fox")["input_ids"], ids)


@step("write: a sharded safetensors save")
def _():
    from safetensors.numpy import load_file, save_file

    rng = np.random.default_rng(9)
    tensors = {f"layer.{i}.weight": rng.standard_normal((256, 1024)).astype("float32") for i in range(12)}
    with commits_made(1):
        index, names = {}, sorted(tensors)
        for n in range(4):
            shard = f"model-{n + 1:05}-of-00004.safetensors"
            part = {k: tensors[k] for k in names[n * 3:n * 3 + 3]}
            save_file(part, path("sharded", shard), metadata={"format": "np"})
            index |= dict.fromkeys(part, shard)
        with open(path("sharded", "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": index}, f)
    for k, shard in index.items():
        if not np.array_equal(load_file(path("sharded", shard))[k], tensors[k]):
            raise AssertionError(f"{k} differs")


@step("write: git inside, which stays local")
def _():
    git = ["git", "-C", MNT, "-c", "user.name=a", "-c", "user.email=a@b"]
    before = commits()
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "sharded", "tok"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "inside"], check=True)
    subprocess.run([*git, "fsck", "--strict"], check=True)
    hfmount("commit", MNT)
    equal(commits(), before)
    equal([f.path for f in api.list_repo_tree(REPO) if f.path == ".git"], [])


@step("write: it commits by itself, too")
def _():
    before = commits()
    hfmount("unmount", MNT)
    os.environ["HFMOUNT_COMMIT_AFTER"] = "1s"
    mount()
    del os.environ["HFMOUNT_COMMIT_AFTER"]
    with open(path("late.txt"), "w") as f:
        f.write("late\n")
    eventually(lambda: commits() == before + 1, seconds=60)
    eventually(lambda: status()["pending"] == 0)


@step("write: unmount commits, and snapshot_download equals what the mount showed")
def _():
    with open(path("last.txt"), "w") as f:
        f.write("last\n")
    shown = tree(MNT)
    hfmount("unmount", MNT)
    got = snapshot_download(REPO, local_dir=os.path.join(WORK, "train-downloaded"))
    got = tree(got)
    equal(sorted(k for k in got.keys() | shown.keys() if got.get(k) != shown.get(k))[:10], [])
    if len(shown) < 10_000:
        raise AssertionError(f"the mount showed only {len(shown)} files")


@step("write: the log has no warning")
def _():
    with open(os.path.join(WORK, "train.log")) as f:
        bad = [line for line in f if "level=WARN" in line or "level=ERROR" in line or "panic" in line]
    equal(bad, [])


if os.path.ismount(MNT):
    subprocess.run([HFMOUNT, "unmount", "--timeout", "10s", MNT])
finish()
