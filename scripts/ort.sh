#!/usr/bin/env bash
# Puts ONNX Runtime's shared library into FOLDER, out of the pinned Python wheel; says nothing where it is there. For another
# PROCESSOR than this machine's, name it.
set -euo pipefail
folder=${1:?usage: ort.sh FOLDER [PROCESSOR]}
processor=${2:-$(uname -m)}
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' "$here/onnxruntime.txt")
library=libonnxruntime.so.$version

case "$(uname -s) $processor" in
    'Linux x86_64') arch=x86_64 sum=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;;
    'Linux aarch64') arch=aarch64 sum=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;;
    *)
        echo "ort: no pinned ONNX Runtime for $(uname -s) $processor. Install version 1.17 or newer and set MASKTAS_ORT_LIB to its library." >&2
        exit 1
        ;;
esac

matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sum" ]; }

matches "$folder/$library" && exit 0
echo "ort: fetching ONNX Runtime $version (24 MB) into $folder" >&2
mkdir -p "$folder"
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.12 --platform "manylinux_2_28_$arch" --dest "$work" -r "$here/onnxruntime.txt" || {
    echo "ort: the wheel could not be fetched; check the network, or set MASKTAS_ORT_LIB to a library of your own" >&2
    exit 1
}
unzip -q -j "$work"/onnxruntime-*.whl "onnxruntime/capi/$library" -d "$work"
if ! matches "$work/$library"; then
    echo "ort: $library in the wheel is not the expected one; nothing was installed" >&2
    exit 1
fi
mv -f "$work/$library" "$folder/$library"
