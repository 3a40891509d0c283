#!/usr/bin/env bash
# Fuzzes what reads foreign bytes and texts, with the stable toolchain.
#
#   tests/fuzz/run.sh [SECONDS [TARGET…]]    60 seconds for each of all targets, unless told otherwise
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`). What is found lies in tests/fuzz/artifacts, what was learnt in tests/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
((${#targets[@]})) || targets=(gguf_header reference listing_selection)
# cargo-fuzz asks for what only nightly compilers admit to.
export RUSTC_BOOTSTRAP=1
python3 seeds.py corpus
for target in "${targets[@]}"; do
    cargo fuzz run --fuzz-dir . "$target" -- -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10 \
        -max_len=65536 -print_final_stats=1
done
