#!/usr/bin/env bash
# Puts what a page needs of the pinned onnxruntime-web into FOLDER, out of its npm package; says nothing where it is there.
set -euo pipefail
folder=${1:?usage: ort_web.sh FOLDER}
version=1.30.0
parts=(ort.webgpu.min.mjs ort-wasm-simd-threaded.asyncify.mjs ort-wasm-simd-threaded.asyncify.wasm)

[ -f "$folder/version" ] && [ "$(cat "$folder/version")" = "$version" ] && exit 0
echo "ort_web: fetching onnxruntime-web $version (33 MB) into $folder" >&2
mkdir -p "$folder"
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "onnxruntime-web@$version" >/dev/null) || {
    echo "ort_web: the package could not be fetched; check the network and npm" >&2
    exit 1
}
tar -xzf "$work"/onnxruntime-web-*.tgz -C "$work" "${parts[@]/#/package/dist/}"
for part in "${parts[@]}"; do
    mv -f "$work/package/dist/$part" "$folder/$part"
done
echo "$version" >"$folder/version"
