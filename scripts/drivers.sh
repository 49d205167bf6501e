#!/usr/bin/env bash
# Unpacks software Vulkan drivers into FOLDER without installing them: Mesa's lavapipe from Debian's backports, because
# ONNX Runtime's WebGPU provider refuses the older one, and SwiftShader out of Debian's chromium. Says nothing where they
# are there; what Debian does not offer here is left out, and said.
set -euo pipefail
folder=${1:?usage: drivers.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# unpack NAME PACKAGE LIBRARY VERSION-OF-THE-INTERFACE
unpack() {
    local name=$1 package=$2 library=$3 interface=$4
    [ -f "$folder/$name.json" ] && return 0
    echo "drivers: fetching $name (Debian package $package)" >&2
    local work
    work=$(mktemp -d)
    if ! (cd "$work" && apt-get download "$package" >/dev/null 2>&1 && dpkg -x ./*.deb .); then
        echo "drivers: no $name, because apt-get cannot download $package; add Debian's suite that has it" >&2
        rm -rf "$work"
        return 0
    fi
    local found
    found=$(find "$work" -name "$library" -print -quit)
    if [ -z "$found" ]; then
        echo "drivers: no $name, because $package has no $library" >&2
        rm -rf "$work"
        return 0
    fi
    cp "$found" "$folder/$library"
    rm -rf "$work"
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "%s"}}\n' \
        "$folder/$library" "$interface" >"$folder/$name.json"
}

unpack lavapipe mesa-vulkan-drivers/bookworm-backports libvulkan_lvp.so 1.4.305
unpack swiftshader chromium-common libvk_swiftshader.so 1.3.0
