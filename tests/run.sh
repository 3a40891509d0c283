#!/usr/bin/env bash
# Sets up what the tests need, then runs all of them: format, lints, docs, guests, units and properties, end to end.
#
#   tests/run.sh            everything but the heavy suites
#   tests/run.sh --full     everything; first installs Hugging Face's clients of three generations and a mirror (PyPI, npm), clients of
#                           the API and schemathesis (PyPI, npm), the tools that make plugins of JavaScript and Python, a registry and
#                           valgrind (Debian), downloads a second model (253 MB), builds Vulkan's module, and counts the sandbox's
#                           instructions (a release build)
#   tests/run.sh NAME…      only the tests whose names contain NAME (arguments of cargo nextest run)
set -euo pipefail
. "$(dirname "$0")/setup.sh"
cd "$root"
heavy=()
if [ "${1:-}" = --full ]; then
    shift
    heavy=(--run-ignored all)
fi

setup_packages build-essential pkg-config cmake clang libclang-dev ccache python3 python3-venv curl openssl
setup_rust
command -v cargo-nextest >/dev/null || { say "installing cargo-nextest" && cargo install --locked cargo-nextest; }
setup_venv "$root/tests/requirements.txt"
setup_demo_model
setup_minilm
# libgomp spins while it waits; beside any other process that starves the model (see host/ARCHITECTURE.md).
export PYTHON=$cache/venv/bin/python GOMP_SPINCOUNT=1000
profile=default
[ -z "${CI:-}" ] || profile=ci

if (($# == 0)); then
    say "format"
    cargo fmt --all --check
    (cd plugins && cargo fmt --all --check)
    say "lints"
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    (cd plugins && cargo clippy --workspace --all-targets --quiet -- -D warnings)
    say "docs"
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
    say "deployment files"
    tests/deploy.sh
    say "plugins, natively"
    (cd plugins && cargo nextest run --workspace && cargo test --workspace --doc --quiet)
    # Built as its authors would, but with what is compiled already.
    example=examples/plugins/rust
    cargo fmt --check --manifest-path $example/Cargo.toml
    # The tests of its component ask the host, which is not built yet: tests/tests/plugin_kit.rs runs them.
    cargo test --quiet --lib --manifest-path $example/Cargo.toml --target-dir plugins/target
    plugins/build.sh --in $example
fi
if ((${#heavy[@]})); then
    tests/peers/setup.sh
    tests/clients/setup.sh
    tests/languages/setup.sh
    setup_packages docker-registry valgrind
    setup_gemma
    # A GPU without a GPU: Vulkan on Mesa's software driver.
    setup_packages mesa-vulkan-drivers
    deploy/backend.sh vulkan
    export OUTRIGGER_PEERS=$cache/peers
fi
say "the host: units, properties, end to end"
cargo build --workspace --quiet
cargo nextest run --workspace --profile "$profile" "${heavy[@]}" "$@"
if ((${#heavy[@]})) && (($# == 0)); then
    say "instructions of the sandbox (a release build)"
    cargo bench --quiet -p plugin --bench instructions
fi
