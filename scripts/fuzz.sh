#!/usr/bin/env bash
# Lets libFuzzer change the small models of runtime/fuzz/corpus for SECONDS and give them to a TARGET (read or plan). What it finds
# is kept as a file and said. New inputs that reach new code go to a folder of this machine, and so does the build.
set -euo pipefail
name=${1:?usage: fuzz.sh TARGET SECONDS}
seconds=${2:?usage: fuzz.sh TARGET SECONDS}
here=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$here/target}/fuzz
triple=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz would pass, without the sanitizers, which need a nightly compiler. Naming the triple keeps build scripts out of it.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
    cargo build --release --manifest-path "$here/runtime/fuzz/Cargo.toml" --target "$triple" --target-dir "$target" --bin "$name"
mkdir -p "$target/found/$name" "$target/corpus/$name"
cd "$target/found/$name"
# A model of 64 KiB that takes more than 10 s or 2 GiB is a finding.
exec "$target/$triple/release/$name" "$target/corpus/$name" "$here/runtime/fuzz/corpus" \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
