#!/usr/bin/env bash
# Prints the figures that the README and the issues quote: decode speed of the whole path against a bare decode loop (in
# turns, as a ratio), time to ready, memory, and what plugins cost. tests/load/run.sh measures beside llama-server.
set -euo pipefail
. "$(dirname "$0")/../tests/setup.sh"
cd "$root"

setup_packages build-essential pkg-config cmake clang libclang-dev ccache python3 python3-venv
setup_rust
setup_demo_model
say "building"
cargo build --release --quiet -p outrigger
cargo build --release --quiet -p llama --example bench_decode
cargo build --release --quiet -p tests --example bench_path
export GOMP_SPINCOUNT=1000
say "the whole path"
target/release/examples/bench_path target/release/examples/bench_decode
say "plugins"
cargo bench --quiet -p plugin
