#!/usr/bin/env bash
# Makes a Python environment in FOLDER with the pinned packages of checker.txt; says nothing where it is there.
set -euo pipefail
folder=${1:?usage: checker.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
python=$folder/bin/python

# Names the Python too: an environment does not outlive the Python that it was made from.
stamp() {
    sha256sum <"$here/checker.txt"
    "$python" --version 2>/dev/null || echo "no Python"
}

[ -f "$folder/stamp" ] && [ "$(cat "$folder/stamp")" = "$(stamp)" ] && exit 0
"$here/setup.sh" venv
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "checker: $(python3 --version) is older than 3.11, which the packages of checker.txt need. Install a newer one," \
        "or set MASKTAS_PYTHON to a Python that has onnx, onnxruntime and numpy." >&2
    exit 1
fi
echo "checker: fetching the ONNX checker and ONNX Runtime for Python into $folder" >&2
mkdir -p "$(dirname "$folder")"
python3 -m venv --clear "$folder"
"$python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$here/checker.txt" || {
    echo "checker: the packages could not be installed; check the network, or set MASKTAS_PYTHON to a Python that has" \
        "onnx, onnxruntime and numpy" >&2
    exit 1
}
"$python" -c 'import numpy, onnx, onnxruntime'
stamp >"$folder/stamp"
