#!/usr/bin/env bash
# Installs what the build and the demo need beside Rust, git and make; says nothing where it is all there.
# `setup.sh npm` asks for npm as well, which only `make cifar10` needs, and `setup.sh venv` for Python's venv module,
# which only the Python environments of `make checker` and `make bench-training` need, `setup.sh chromium` for a browser,
# which only `make test-web` and `make bench-web` need.
# With apt it installs, through sudo where it has to; elsewhere it names what is missing and stops.
set -euo pipefail

names=() packages=()
need() { names+=("$1"); packages+=("$2"); }

look() {
    names=() packages=()
    command -v cc >/dev/null || need "a C compiler" build-essential
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || need "Python's pip" python3-pip
    command -v unzip >/dev/null || need unzip unzip
    # A Vulkan driver describes itself in a JSON file; Mesa's software driver runs on any machine.
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null ||
        [ -n "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ] || [ "$(uname -s)" = Darwin ] ||
        need "a Vulkan driver" mesa-vulkan-drivers
    if [ "${1:-}" = npm ]; then
        command -v npm >/dev/null || need npm npm
    fi
    if [ "${1:-}" = chromium ]; then
        command -v "${MASKTAS_CHROMIUM:-chromium}" >/dev/null || need Chromium chromium
    fi
    # Debian's Python has the module without what it puts into a new environment.
    if [ "${1:-}" = venv ]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null || need "Python's venv module" python3-venv
    fi
}

list() { local IFS=,; echo "${names[*]}" | sed 's/,/, /g'; }

look "$@"
[ ${#packages[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
    echo "setup: missing: $(list). Install them with this system's package manager and run make again." >&2
    exit 1
fi
if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
    echo "setup: missing: $(list). As root: apt-get install ${packages[*]}" >&2
    exit 1
fi
echo "setup: installing $(list) with apt (${packages[*]})" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    echo "setup: apt failed, see above. By hand: apt-get install ${packages[*]}" >&2
    exit 1
fi
look "$@"
if [ ${#packages[@]} -gt 0 ]; then
    echo "setup: still missing after apt: $(list). Install them by hand and run make again." >&2
    exit 1
fi
