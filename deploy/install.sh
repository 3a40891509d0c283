#!/usr/bin/env bash
# Installs what `cargo build --release -p outrigger` has built as a tree that can be moved as a whole:
#
#   PREFIX/bin/outrigger      the program
#   PREFIX/lib/outrigger/     llama.cpp's libraries and its modules: one per generation of processors, and those for GPUs that
#                             deploy/backend.sh built
#
#   deploy/install.sh [PREFIX]      /usr/local by default; DESTDIR is put before it, as with make
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${DESTDIR:-}${1:-/usr/local}
built=${CARGO_TARGET_DIR:-target}/release
for part in "$built/outrigger" "$built/lib/outrigger"; do
    [ -e "$part" ] || { echo "error: $part is missing; run: cargo build --release -p outrigger" >&2; exit 1; }
done
install -d "$prefix/bin" "$prefix/lib/outrigger"
# What another release left: modules belong to one release.
rm -f "$prefix"/lib/outrigger/*.so*
install -m 755 "$built/outrigger" "$prefix/bin/outrigger"
install -m 755 "$built"/lib/outrigger/*.so* "$prefix/lib/outrigger/"
for module in "${CARGO_TARGET_DIR:-target}"/backends/libggml-*.so; do
    [ ! -e "$module" ] || install -m 755 "$module" "$prefix/lib/outrigger/"
done
echo "$prefix/bin/outrigger"
