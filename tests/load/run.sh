#!/usr/bin/env bash
# Measures Outrigger beside llama-server (built from the same llama.cpp) and bare loops over it, and with plugins beside itself
# without, everything in turns, and prints a table of medians and ratios.
#
#   tests/load/run.sh                     everything; builds the peer the first time (some minutes)
#   tests/load/run.sh --quick             fewer rounds and shorter answers
#   tests/load/run.sh --bounded           the peer's libgomp spins as little as ours: for a machine that is not quiet
#   tests/load/run.sh decode gap          only these: decode, aggregate, leave, gap, neighbours, prefix, structured, extraction, start
#   tests/load/run.sh filters hostile     what plugins cost, without the peer: filters, policies, control, hostile
#   tests/load/run.sh overload idle       more requests than can be answered, and connections that nobody uses; ours alone
#   tests/load/run.sh soak                100,000 requests through plugins; fails where something is left of them (--requests N)
#
# LOAD_JOBS bounds the jobs of the peer's build. The machine should be quiet; the table says how quiet it was.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"

setup_packages build-essential pkg-config cmake clang libclang-dev ccache python3 python3-venv
setup_rust
setup_demo_model
say "building the host and the load program"
cargo build --release --quiet -p outrigger
cargo build --release --quiet -p load
# With the names of scenarios that compare us with ourselves, and no others, nothing else is needed.
names=" $* "
for name in filters policies control hostile overload idle soak; do names=${names// $name / }; done
if [[ $names =~ [[:space:]][a-z] ]] || ! [[ " $* " =~ [[:space:]][a-z] ]]; then
    setup_llama_server
    cargo build --release --quiet -p llama --example bench_decode
fi
exec target/release/load --misbehaving "$(plugins/build.sh misbehaving | tail -1)/misbehaving.wasm" "$@"
