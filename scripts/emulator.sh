#!/usr/bin/env bash
# Installs what runs an aarch64 program here: an emulator (version 10 or newer: older ones crash in ONNX Runtime) and the C and
# C++ libraries of an arm64 Debian.
set -euo pipefail
version() { qemu-aarch64 --version 2>/dev/null | sed -n 's/^qemu-aarch64 version \([0-9]*\).*/\1/p'; }
libraries=/usr/aarch64-linux-gnu/lib
[ "$(version || echo 0)" -ge 10 ] 2>/dev/null && [ -e "$libraries/libstdc++.so.6" ] && exit 0
command -v apt-get >/dev/null || {
    echo "emulator: install qemu-user 10 or newer, and an arm64 C library" >&2
    exit 1
}
apt-get update -qq
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross >/dev/null
# Where the release's own emulator is too old, its backports have a newer one.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -1)
backports=/etc/apt/sources.list.d/masktas-backports.list
if ! apt-get indextargets --format '$(RELEASE)' | grep -q "$release-backports"; then
    echo "deb $mirror $release-backports main" >"$backports"
    apt-get update -qq || rm -f "$backports"
fi
apt-get install -y -qq --no-install-recommends -t "$release-backports" qemu-user >/dev/null ||
    apt-get install -y -qq --no-install-recommends qemu-user >/dev/null
[ "$(version || echo 0)" -ge 10 ] || {
    echo "emulator: qemu-aarch64 is version $(version), and 10 or newer is needed" >&2
    exit 1
}
