#!/usr/bin/env bash
# Builds masktas-agent for a PROCESSOR (x86_64 or aarch64) against glibc 2.27, so that it starts on JetPack 4.6 and newer, and
# puts it with ONNX Runtime for that processor into FOLDER/PROCESSOR, where masktas looks for agents.
# With --check instead of a FOLDER it only fetches what a build needs, and fails where that cannot be had.
set -euo pipefail
processor=${1:?usage: agent.sh PROCESSOR FOLDER}
folder=${2:?usage: agent.sh PROCESSOR FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/masktas
triple=$processor-unknown-linux-gnu
case $processor in
    x86_64 | aarch64) ;;
    *)
        echo "agent: no agent for $processor; there are x86_64 and aarch64" >&2
        exit 1
        ;;
esac

"$here/venv.sh" "$cache/zig" zig.txt
export PATH=$cache/zig/bin:$PATH

# The standard library for the processor: rustup's where it has or fetches it, else Debian's, with Debian's compiler, which
# must be of the same version as it.
rust() {
    local libraries
    libraries=$(rustc --print target-libdir --target "$triple" 2>/dev/null || true)
    [ -d "$libraries" ] && return 0
    command -v rustup >/dev/null && rustup target add "$triple" 2>/dev/null && return 0
    command -v apt-get >/dev/null || return 1
    local sysroot=$cache/rust-$processor arch=arm64
    [ "$processor" = x86_64 ] && arch=amd64
    if [ ! -e "$sysroot/done" ]; then
        echo "agent: fetching Rust's standard library for $processor from Debian" >&2
        dpkg --add-architecture "$arch"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web >/dev/null
        rm -rf "$sysroot"
        mkdir -p "$sysroot/deb" "$sysroot/lib"
        (cd "$sysroot/deb" && apt-get download -qq "libstd-rust-web-dev:$arch")
        dpkg -x "$sysroot"/deb/*.deb "$sysroot/deb"
        cp -r /usr/lib/rustlib "$sysroot/lib/"
        cp -r "$sysroot/deb/usr/lib/rustlib/$triple" "$sysroot/lib/rustlib/"
        rm -rf "$sysroot/deb"
        touch "$sysroot/done"
    fi
    export RUSTC=/usr/bin/rustc
    export RUSTFLAGS="--sysroot $sysroot ${RUSTFLAGS:-}"
}
if ! rust; then
    echo "agent: there is no Rust standard library for $processor here; install it with: rustup target add $triple" >&2
    exit 1
fi
[ "$folder" = --check ] && exit 0

cargo zigbuild --release --manifest-path "$here/../Cargo.toml" -p masktas-devices --bin masktas-agent --target "$triple.2.27"
target=$(cargo metadata --manifest-path "$here/../Cargo.toml" --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
mkdir -p "$folder/$processor"
# Replaced at once: one that runs keeps its own file.
cp "$target/$triple/release/masktas-agent" "$folder/$processor/masktas-agent.new"
mv -f "$folder/$processor/masktas-agent.new" "$folder/$processor/masktas-agent"
"$here/ort.sh" "$folder/$processor" "$processor"
echo "agent: $folder/$processor/masktas-agent" >&2
