#!/usr/bin/env bash
# Installs the Debian packages, given as COMMAND:PACKAGE, whose command is
# missing. Other systems get them where the package has the same name.
set -euo pipefail

missing=()
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "missing: ${missing[*]}; install these packages, then try again" >&2; exit 1; }
    sudo=(sudo)
fi
echo "installing ${missing[*]}"
if command -v apt-get >/dev/null; then
    "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
elif command -v dnf >/dev/null; then
    "${sudo[@]}" dnf install -y "${missing[@]}"
elif command -v apk >/dev/null; then
    "${sudo[@]}" apk add "${missing[@]}"
else
    echo "install ${missing[*]} with your package manager, then try again" >&2
    exit 1
fi
