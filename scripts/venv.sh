#!/usr/bin/env bash
# Makes a Python environment in FOLDER with the pinned packages of a FILE beside this script; says nothing where it
# is there. Tests use one (checker.txt), `make bench-training` another (torch.txt).
set -euo pipefail
folder=${1:?usage: venv.sh FOLDER FILE}
file=${2:?usage: venv.sh FOLDER FILE}
here=$(cd "$(dirname "$0")" && pwd)
python=$folder/bin/python

# Names the Python too: an environment does not outlive the Python that it was made from.
stamp() {
    sha256sum <"$here/$file"
    "$python" --version 2>/dev/null || echo "no Python"
}

[ -f "$folder/stamp" ] && [ "$(cat "$folder/stamp")" = "$(stamp)" ] && exit 0
"$here/setup.sh" venv
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "venv: $(python3 --version) is older than 3.11, which the packages of $file need. Install a newer one," \
        "or set MASKTAS_PYTHON to a Python that has them." >&2
    exit 1
fi
echo "venv: fetching the Python packages of $file into $folder" >&2
mkdir -p "$(dirname "$folder")"
python3 -m venv --clear "$folder"
"$python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$here/$file" || {
    echo "venv: the packages of $file could not be installed; check the network, or set MASKTAS_PYTHON to a Python that" \
        "has them" >&2
    exit 1
}
"$python" -m pip check --quiet
stamp >"$folder/stamp"
