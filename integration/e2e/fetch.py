"""What huggingface_hub reads with its defaults: hf_xet installed and enabled.

    fetch.py WORK_DIR

WORK_DIR must be empty; snapshots are left there for a comparison.
"""

import os
import random
import sys

import hf_xet  # noqa: F401  the point is that it is there
from huggingface_hub import HfApi, HfFileSystem, constants, snapshot_download

from steps import admin, equal, finish, raises, step

BASIC = random.Random(1).randbytes(3 << 20)


@step("hf_xet: is enabled")
def _():
    equal(constants.HF_HUB_DISABLE_XET, False)


@step("hf_xet: hf_hub_download of an LFS file")
def _():
    with open(HfApi().hf_hub_download("alice/scratch", "weights.bin"), "rb") as f:
        equal(f.read(), BASIC)


@step("hf_xet: snapshot_download into a folder")
def _():
    folder = snapshot_download("alice/minilm", local_dir=os.path.join(sys.argv[1], "snapshot"))
    equal(os.path.getsize(os.path.join(folder, "model.safetensors")) > 90_000_000, True)


@step("hf_xet: a second snapshot asks for no content")
def _():
    snapshot_download("alice/minilm", cache_dir=os.path.join(sys.argv[1], "cache"))
    admin("DELETE", "stats")
    snapshot_download("alice/minilm", cache_dir=os.path.join(sys.argv[1], "cache"))
    equal(admin("GET", "stats")["quota"].get("cdn", 0), 0)


@step("hf_xet: ranges through expiring URLs")
def _():
    fs = HfFileSystem()
    with fs.open("alice/scratch/weights.bin", block_size=1 << 16) as f:
        equal(f.read(100), BASIC[:100])
        admin("POST", "expire")
        f.seek(2 << 20)
        equal(f.read(100), BASIC[2 << 20:(2 << 20) + 100])


@step("hf_xet: anonymous reads of public things only")
def _():
    anonymous = HfApi(token=False)
    equal(anonymous.repo_info("alice/scratch").id, "alice/scratch")
    raises(401, lambda: anonymous.repo_info("alice/secret"))


@step("hf_xet: no token reached the CDN")
def _():
    equal(admin("GET", "stats").get("leaked_tokens", 0), 0)


finish()
