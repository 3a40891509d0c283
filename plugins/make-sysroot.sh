#!/usr/bin/env bash
# Builds std for a Wasm target from Debian's rust-web-src and lays it out as a sysroot with its own `rustc`.
# For machines where `rustup target add` cannot download anything; needs no network at all.
#
# usage: plugins/make-sysroot.sh DEST [TARGET]
# needs: rustc-web, cargo-web, rust-web-src (Debian), and the linkers of a rustup toolchain
set -euo pipefail

dest=${1:?usage: make-sysroot.sh DEST [TARGET]}
target=${2:-wasm32-unknown-unknown}
rustc=/usr/bin/rustc
cargo=/usr/bin/cargo
[ -x "$cargo" ] || cargo=cargo

mkdir -p "$(dirname "$dest")"
# Two builds at once: the second waits here and finds the work done.
exec 9>"$dest.lock"
flock 9
if [ -x "$dest/bin/rustc" ] && [ "$("$rustc" -vV)" = "$(cat "$dest/VERSION" 2>/dev/null)" ]; then exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# rust-lld and wasm-component-ld: Debian's compiler has none of its own.
host=$("$rustc" -vV | sed -n 's/^host: //p')
linkers=$(rustc --print sysroot)/lib/rustlib/$host/bin
if [ ! -x "$linkers/rust-lld" ]; then
  echo "make-sysroot.sh: cannot find rust-lld in $linkers; the linkers come with every toolchain of rustup" >&2
  exit 1
fi

# An empty crate whose only purpose is to have std built for it. std's few dependencies come from the vendor folder
# that rust-web-src ships, not from crates.io.
mkdir -p "$work/src" "$work/.cargo" "$work/home"
echo '#![no_std]' >"$work/src/lib.rs"
cat >"$work/Cargo.toml" <<END
[package]
name = "stdbuild"
version = "0.0.0"
edition = "2021"
[workspace]
[profile.release]
panic = "abort"
debug = false
END
cat >"$work/.cargo/config.toml" <<END
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$("$rustc" --print sysroot)/lib/rustlib/src/rust/library/vendor"
END
# RUSTC_BOOTSTRAP for -Z build-std, here and nowhere else. Bitcode, because guests are linked with LTO.
(cd "$work" && env -u RUSTFLAGS RUSTC="$rustc" RUSTC_BOOTSTRAP=1 CARGO_ENCODED_RUSTFLAGS=-Cembed-bitcode=yes \
  CARGO_HOME="$work/home" "$cargo" rustc --offline --release --lib --crate-type rlib \
  -Z build-std=std,panic_abort --target "$target")

new=$work/sysroot
mkdir -p "$new/bin" "$new/lib/rustlib/$host" "$new/lib/rustlib/$target/lib"
ln -s "$("$rustc" --print sysroot)/lib/rustlib/$host/lib" "$new/lib/rustlib/$host/lib"
ln -s "$linkers" "$new/lib/rustlib/$host/bin"
cp "$work/target/$target/release/deps/"*.rlib "$new/lib/rustlib/$target/lib/"
rm -f "$new/lib/rustlib/$target/lib/"libstdbuild-*.rlib
printf '#!/bin/sh\nexec %s --sysroot "%s" "$@"\n' "$rustc" "$dest" >"$new/bin/rustc"
chmod +x "$new/bin/rustc"
"$rustc" -vV >"$new/VERSION"

rm -rf "$dest"
mv "$new" "$dest"
