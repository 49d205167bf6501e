#!/usr/bin/env bash
# An aarch64 board that is none: its agent under an emulator, for trying things out. Its times are of the emulation.
#   make test-agent                                                          # once: emulator, agent
#   masktas profile --target qemu-aarch64 --connect exec:scripts/emulated-board.sh
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/masktas
agent=$cache/agents/aarch64
emulator="${MASKTAS_QEMU:-qemu-aarch64} -L ${MASKTAS_QEMU_SYSTEM:-/usr/aarch64-linux-gnu}"
library=$(find "$agent" -name 'libonnxruntime.so*' | sort | tail -1)
# What the environment names is for another processor.
unset MASKTAS_ORT_LIB
# shellcheck disable=SC2086
exec $emulator "$agent/masktas-agent" --folder "$cache/emulated-board" --launcher "$emulator" ${library:+--ort-lib "$library"} "$@"
