#!/usr/bin/env bash
# Installs fuse3, whose helper mounts for ordinary users, if it is missing.
set -euo pipefail

command -v fusermount3 >/dev/null && exit 0
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "fusermount3 is missing: install the package fuse3" >&2; exit 1; }
    sudo=(sudo)
fi
echo "installing fuse3"
if command -v apt-get >/dev/null; then
    "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -q -y --no-install-recommends fuse3
elif command -v dnf >/dev/null; then
    "${sudo[@]}" dnf install -y fuse3
elif command -v apk >/dev/null; then
    "${sudo[@]}" apk add fuse3
else
    echo "install fuse3 with your package manager, then try again" >&2
    exit 1
fi
