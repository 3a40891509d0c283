#!/usr/bin/env bash
# Builds the plugins as WebAssembly components and prints, as the last line on standard output, the folder they lie in.
#
# usage: plugins/build.sh [--in DIR] [PACKAGE...]        (default: every plugin of this workspace, or of the one in DIR)
#
# OUTRIGGER_WASM_TOOLCHAIN says where the compiler for wasm32-unknown-unknown comes from:
#   auto    (default) the target of the active toolchain, a std built earlier, then the first of these that is possible
#   rustup  the active Rust toolchain; the target is added with `rustup target add` where it is missing
#   debian  Debian's rustc-web and rust-web-src; std is built once into ${XDG_CACHE_HOME:-~/.cache}/outrigger/wasm-sysroot
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=wasm32-unknown-unknown
choice=${OUTRIGGER_WASM_TOOLCHAIN:-auto}
sysroot=${XDG_CACHE_HOME:-$HOME/.cache}/outrigger/wasm-sysroot
# A registry that does not answer must not hang a build that Debian's packages can do.
target_add_timeout_s=180

say() { echo "plugins/build.sh: $*" >&2; }

# The target's std, in the toolchain that plain `rustc` is.
has_target() { compgen -G "$(rustc --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null; }

use_installed() {
  command -v rustc >/dev/null && has_target || return 1
  say "using the $target target of $(rustc --version)"
}

use_rustup() {
  command -v rustup >/dev/null || return 1
  say "adding the $target target with rustup"
  timeout "$target_add_timeout_s" rustup target add "$target" >&2 || return 1
  use_installed
}

use_sysroot() {
  [ -x "$sysroot/bin/rustc" ] || return 1
  # Debian's compiler moves with security updates; a std of another version does not link.
  [ "$("$sysroot/bin/rustc" -vV 2>/dev/null)" = "$(cat "$sysroot/VERSION" 2>/dev/null)" ] || return 1
  export RUSTC=$sysroot/bin/rustc
  say "using $sysroot ($("$RUSTC" --version))"
}

use_debian() {
  [ -x /usr/bin/rustc ] && [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ] || return 1
  say "building std for $target once with Debian's $(/usr/bin/rustc --version), into $sysroot"
  "$here/make-sysroot.sh" "$sysroot" "$target" >&2
  use_sysroot
}

give_up() {
  cat >&2 <<END
plugins/build.sh: cannot build the plugins: no Rust compiler for $target was found (OUTRIGGER_WASM_TOOLCHAIN=$choice).
Either
  rustup target add $target
or, on Debian 12 and later, where that cannot be downloaded,
  apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src
and run this again.
END
  exit 1
}

# `wasm-component-ld`, the linker of .cargo/config.toml, comes with every rustup toolchain. rustc looks for it beside
# itself; a compiler that was installed otherwise finds it through PATH.
find_linker() {
  command -v wasm-component-ld >/dev/null && return
  local rust root host
  for rust in "${RUSTC:-rustc}" rustc; do
    root=$("$rust" --print sysroot) host=$("$rust" -vV | sed -n 's/^host: //p')
    if [ -x "$root/lib/rustlib/$host/bin/wasm-component-ld" ]; then
      export PATH=$PATH:$root/lib/rustlib/$host/bin
      return
    fi
  done
  say "cannot link components: no wasm-component-ld in PATH or in the Rust toolchain; it comes with every toolchain of" \
      "rustup (https://rustup.rs), or with \`cargo install wasm-component-ld\`"
  exit 1
}

workspace=$here
if [ "${1:-}" = --in ]; then
  workspace=$(cd "${2:?build.sh: --in needs a folder}" && pwd)
  shift 2
fi

# The rust-toolchain.toml of the repository and the .cargo/config.toml of this folder are found from here.
cd "$here"

case $choice in
  # A sysroot is there because rustup could not help before: do not wait for it again.
  auto) use_installed || use_sysroot || use_rustup || use_debian || give_up ;;
  rustup) use_installed || use_rustup || give_up ;;
  debian) use_sysroot || use_debian || give_up ;;
  *) say "OUTRIGGER_WASM_TOOLCHAIN is \`$choice\`; it may be auto, rustup or debian"; exit 2 ;;
esac
find_linker

packages=()
for package in "$@"; do packages+=(--package "$package"); done
[ $# -gt 0 ] || packages=(--workspace)

cargo build --release --lib --manifest-path "$workspace/Cargo.toml" --target "$target" --target-dir "$here/target" \
  "${packages[@]}" >&2
echo "$here/target/$target/release"
