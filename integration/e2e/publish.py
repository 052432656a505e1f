"""What huggingface_hub does to a repository, and what becomes of it when commits fail.

    publish.py MODEL_DIR

HF_HUB_DISABLE_XET=1 must be set: the Hub here has no Xet storage.
"""

import hashlib
import io
import random
import sys

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, CommitOperationCopy
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from steps import admin, equal, eventually, fault, finish, raises, step

api = HfApi()
MODEL, REPO, DATA = "alice/minilm", "alice/scratch", "alice/table"
SMALL = b"# scratch\n\nA regular file.\n"
BASIC = random.Random(1).randbytes(3 << 20)
MULTI = random.Random(2).randbytes(24 << 20)


def commits(rev=None):
    return [c.commit_id for c in api.list_repo_commits(REPO, revision=rev)]


def add(path, data):
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=data)


def commit(path, data, **kw):
    return api.create_commit(REPO, [add(path, data)], commit_message=f"add {path}", **kw)


def read(path, rev=None):
    with open(api.hf_hub_download(REPO, path, revision=rev), "rb") as f:
        return f.read()


@step("python: whoami")
def _():
    equal(api.whoami()["name"], "alice")


@step("python: publish the model with upload_folder")
def _():
    api.create_repo(MODEL)
    api.upload_folder(repo_id=MODEL, folder_path=sys.argv[1], commit_message="publish the model",
                      ignore_patterns=["**/__pycache__/**"])
    names = {f.path for f in api.list_repo_tree(MODEL, recursive=True)}
    if not {"model.safetensors", "1_Pooling/config.json", "tokenizer.json"} <= names:
        raise AssertionError(f"the repository lists {sorted(names)}")
    info, = api.get_paths_info(MODEL, ["model.safetensors"])
    with open(sys.argv[1] + "/model.safetensors", "rb") as f:
        equal(info.lfs.sha256, hashlib.sha256(f.read()).hexdigest())


@step("python: create_repo; again is refused, exist_ok accepted")
def _():
    equal(api.create_repo(REPO).repo_id, REPO)
    raises(409, lambda: api.create_repo(REPO))
    api.create_repo(REPO, exist_ok=True)
    api.create_repo(DATA, repo_type="dataset")
    equal(api.repo_exists(REPO), True)
    equal(api.repo_exists(DATA, repo_type="dataset"), True)
    equal(api.repo_exists("alice/nowhere"), False)


@step("python: upload a regular file")
def _():
    before = commits()
    info = api.upload_file(repo_id=REPO, path_or_fileobj=SMALL, path_in_repo="notes/a b.md",
                           commit_message="add notes", commit_description="why")
    after = commits()
    equal(after, [info.oid] + before)
    top = api.list_repo_commits(REPO)[0]
    equal((top.title, top.message, top.authors), ("add notes", "why", ["alice"]))
    equal(read("notes/a b.md"), SMALL)
    entry, = api.get_paths_info(REPO, ["notes/a b.md"])
    blob = hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL).hexdigest()
    equal((entry.size, entry.blob_id, entry.lfs), (len(SMALL), blob, None))


@step("python: upload an LFS file (basic)")
def _():
    commit("weights.bin", BASIC)
    entry, = api.get_paths_info(REPO, ["weights.bin"])
    equal((entry.size, entry.lfs.sha256), (len(BASIC), hashlib.sha256(BASIC).hexdigest()))
    equal(read("weights.bin"), BASIC)


@step("python: upload an LFS file (multipart)")
def _():
    admin("DELETE", "stats")
    commit("big/weights.bin", MULTI)
    entry, = api.get_paths_info(REPO, ["big/weights.bin"])
    equal(entry.lfs.sha256, hashlib.sha256(MULTI).hexdigest())
    if admin("GET", "stats")["quota"].get("cdn", 0) < 2:
        raise AssertionError(f"not sent in parts: {admin('GET', 'stats')}")
    equal(read("big/weights.bin"), MULTI)


@step("python: an empty file")
def _():
    commit("empty.txt", b"")
    equal(read("empty.txt"), b"")


@step("python: list the tree, flat, recursive and expanded")
def _():
    flat = {f.path for f in api.list_repo_tree(REPO)}
    equal(flat, {".gitattributes", "notes", "weights.bin", "big", "empty.txt"})
    deep = {f.path for f in api.list_repo_tree(REPO, recursive=True)}
    equal(deep, flat | {"notes/a b.md", "big/weights.bin"})
    last = {f.path: f.last_commit.title for f in api.list_repo_tree(REPO, expand=True)}
    equal(last["weights.bin"], "add weights.bin")


@step("python: pages of a listing")
def _():
    files = [add(f"many/{i:04}.txt", b"%d\n" % i) for i in range(1203)]
    api.create_commit(REPO, files, commit_message="many files")
    names = [f.path for f in api.list_repo_tree(REPO, "many")]
    equal(sorted(names), [f"many/{i:04}.txt" for i in range(1203)])


@step("python: ranged reads with HfFileSystem")
def _():
    fs = HfFileSystem()
    with fs.open(f"{REPO}/big/weights.bin", block_size=1 << 20) as f:
        for off, n in [(0, 10), (5_000_001, 70_000), (len(MULTI) - 5, 100)]:
            f.seek(off)
            equal(f.read(n), MULTI[off:off + n])
    equal(fs.cat_file(f"{REPO}/weights.bin", start=100, end=200), BASIC[100:200])
    equal(len(fs.find(f"{REPO}/many")), 1203)
    equal(fs.cat_file(f"{REPO}/notes/a b.md"), SMALL)


@step("python: branches, tags, refs")
def _():
    head = commits()[0]
    api.create_branch(REPO, branch="dev/x")
    raises(409, lambda: api.create_branch(REPO, branch="dev/x"))
    api.create_tag(REPO, tag="v1", tag_message="first", revision="main")
    commit("dev.txt", b"on dev\n", revision="dev/x")
    refs = api.list_repo_refs(REPO)
    equal({b.name: b.target_commit == head for b in refs.branches}, {"main": True, "dev/x": False})
    equal([t.name for t in refs.tags], ["v1"])
    equal(read("dev.txt", rev="dev/x"), b"on dev\n")
    equal(api.file_exists(REPO, "dev.txt"), False)
    equal(api.revision_exists(REPO, "v1"), True)
    equal(api.revision_exists(REPO, "v2"), False)
    api.create_branch(REPO, branch="gone", revision=head)
    api.delete_branch(REPO, branch="gone")
    api.create_tag(REPO, tag="v0")
    api.delete_tag(REPO, tag="v0")
    refs = api.list_repo_refs(REPO)
    equal(({b.name for b in refs.branches}, [t.name for t in refs.tags]), ({"main", "dev/x"}, ["v1"]))


@step("python: copy and delete")
def _():
    api.create_commit(REPO, [CommitOperationCopy("weights.bin", "copy/weights.bin")],
                      commit_message="copy")
    equal(read("copy/weights.bin"), BASIC)
    api.delete_file("copy/weights.bin", REPO)
    equal(api.file_exists(REPO, "copy/weights.bin"), False)
    api.delete_folder("many", REPO)
    equal({f.path for f in api.list_repo_tree(REPO)},
          {".gitattributes", "notes", "weights.bin", "big", "empty.txt"})
    raises(404, lambda: api.create_commit(
        REPO, [CommitOperationDelete("never.txt")], commit_message="delete nothing"))
    try:
        api.hf_hub_download(REPO, "never.txt")
    except EntryNotFoundError:
        pass
    else:
        raise AssertionError("never.txt was downloaded")


@step("python: pull requests")
def _():
    info = commit("pr.txt", b"proposed\n", create_pr=True)
    equal((info.pr_num, info.pr_revision), (1, "refs/pr/1"))
    commit("pr2.txt", b"more\n", revision="refs/pr/1")
    equal(read("pr2.txt", rev="refs/pr/1"), b"more\n")
    equal(api.file_exists(REPO, "pr.txt"), False)
    pr = api.create_pull_request(REPO, title="empty draft")
    equal((pr.num, pr.is_pull_request), (2, True))
    refs = api.list_repo_refs(REPO, include_pull_requests=True)
    equal({r.ref for r in refs.pull_requests} >= {"refs/pr/1"}, True)


@step("python: super_squash_history")
def _():
    head = commits("dev/x")[0]
    api.super_squash_history(REPO, branch="dev/x", commit_message="squashed")
    after = api.list_repo_commits(REPO, revision="dev/x")
    equal([c.title for c in after], ["squashed"])
    equal(after[0].commit_id != head, True)
    equal(read("dev.txt", rev="dev/x"), b"on dev\n")


@step("python: move_repo, and the old name leads to the new")
def _():
    api.create_repo("alice/old")
    api.upload_file(repo_id="alice/old", path_or_fileobj=b"x\n", path_in_repo="x.txt")
    api.move_repo("alice/old", "alice/new")
    equal(api.repo_info("alice/old").id, "alice/new")
    with open(api.hf_hub_download("alice/old", "x.txt"), "rb") as f:
        equal(f.read(), b"x\n")


@step("python: delete_repo")
def _():
    api.delete_repo("alice/new")
    equal(api.repo_exists("alice/new"), False)
    raises(404, lambda: api.delete_repo("alice/new"))
    api.delete_repo("alice/new", missing_ok=True)


@step("python: private repositories are hidden from others")
def _():
    api.create_repo("alice/secret", private=True)
    equal(api.repo_info("alice/secret").private, True)
    try:
        HfApi(token="hf_bob").repo_info("alice/secret")
    except RepositoryNotFoundError:
        pass
    else:
        raise AssertionError("bob sees alice's private repository")
    raises(401, lambda: HfApi(token=False).repo_info("alice/secret"))
    raises(403, lambda: HfApi(token="hf_bob").upload_file(
        repo_id=REPO, path_or_fileobj=b"x", path_in_repo="x"))


@step("python: list_models by author, with pages")
def _():
    names = {m.id for m in api.list_models(author="alice")}
    equal(names >= {MODEL, REPO, "alice/secret"}, True)
    equal("alice/secret" in {m.id for m in HfApi(token=False).list_models(author="alice")}, False)


@step("python: parent_commit guards a commit (412)")
def _():
    old = commits()[0]
    info = commit("guard.txt", b"1\n", parent_commit=old)
    raises(412, lambda: commit("guard.txt", b"2\n", parent_commit=old))
    equal(commits()[0], info.oid)
    equal(read("guard.txt"), b"1\n")


COMMIT = dict(method="POST", path="*/commit/*", host="hub")


def fails_without_a_trace(name, answer, **rule):
    """A commit that meets the fault fails, leaves the head alone, and can be sent again."""

    @step(f"python: commit fault {name}")
    def _():
        before = commits()
        with fault(**{**COMMIT, **rule}):
            if answer:
                raises(answer, lambda: commit(f"f/{name}.txt", b"x\n"))
            else:
                try:
                    commit(f"f/{name}.txt", b"x\n")
                except Exception as e:
                    equal(getattr(e, "response", None), None)
                else:
                    raise AssertionError("the commit succeeded")
        equal(commits(), before)
        commit(f"f/{name}.txt", b"x\n")
        equal(len(commits()), len(before) + 1)


fails_without_a_trace("conflict", 409, fault="conflict")
fails_without_a_trace("precondition", 412, fault="precondition")
fails_without_a_trace("status", 503, fault="status", status=503)
fails_without_a_trace("reset", None, fault="reset")


@step("python: commit fault delay")
def _():
    with fault(**COMMIT, fault="delay", ms=300):
        commit("f/delay.txt", b"x\n")
    equal(read("f/delay.txt"), b"x\n")


@step("python: commit fault apply-then-500")
def _():
    before = commits()
    with fault(**COMMIT, fault="apply-then-500"):
        raises(500, lambda: commit("f/applied.txt", b"x\n"))
    after = commits()
    equal(after[1:], before)
    equal(read("f/applied.txt"), b"x\n")


@step("python: commit fault apply-late")
def _():
    before = commits()
    with fault(**COMMIT, fault="apply-late", ms=1500):
        raises(504, lambda: commit("f/late.txt", b"x\n"))
        equal(commits(), before)
    eventually(lambda: commits()[1:] == before)
    equal(read("f/late.txt"), b"x\n")


@step("python: LFS fault lfs-403")
def _():
    before = commits()
    data = random.Random(3).randbytes(2 << 20)
    with fault(method="PUT", path="*", fault="lfs-403"):
        raises(403, lambda: commit("f/lfs.bin", data))
    equal(commits(), before)
    commit("f/lfs.bin", data)
    equal(read("f/lfs.bin"), data)


@step("python: LFS fault 503 is retried by the client")
def _():
    data = random.Random(4).randbytes(2 << 20)
    with fault(method="PUT", path="*", host="cdn", fault="status", status=503):
        commit("f/lfs-retry.bin", data)
    equal(read("f/lfs-retry.bin"), data)


@step("python: an LFS object that was never sent is refused")
def _():
    before = commits()
    op = add("f/missing.bin", io.BytesIO(random.Random(5).randbytes(2 << 20)))
    op._upload_mode, op._is_uploaded, op._is_committed = "lfs", True, False
    try:
        api.create_commit(REPO, [op], commit_message="a pointer to nothing")
    except Exception as e:
        equal(400 <= e.response.status_code < 500, True)
    else:
        raise AssertionError("the commit succeeded")
    equal(commits(), before)


finish()
