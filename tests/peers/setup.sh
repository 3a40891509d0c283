#!/usr/bin/env bash
# Installs the clients and servers that nobody here wrote into .cache/peers: three generations of `hf`, olah (a mirror
# and an offline server of the Hub) and the JavaScript client. Does nothing for those that are there.
#
#   tests/peers/setup.sh && OUTRIGGER_PEERS=$PWD/.cache/peers cargo nextest run -p test-hub --run-ignored all
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
peers=$cache/peers
here=$root/tests/peers
mkdir -p "$peers"

# A peer is complete when its stamp is that of its requirements; one that was interrupted is made anew.
is_there() { [ "$(cat "$peers/$1/.requirements" 2>/dev/null)" = "$2" ]; }

python_peer() {
    local name=$1 requirements=$here/$1.txt stamp
    stamp=$(sha256sum "$requirements" | cut -d' ' -f1)
    is_there "$name" "$stamp" && return 0
    say "making the Python environment of the peer $name"
    rm -rf "${peers:?}/$name"
    python3 -m venv "$peers/$name" || fail "python3 -m venv failed; is the package python3-venv installed?"
    "$peers/$name/bin/pip" install -q --disable-pip-version-check -r "$requirements" ||
        fail "pip could not install $requirements"
    echo "$stamp" >"$peers/$name/.requirements"
}

node_peer() {
    local stamp
    stamp=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -d' ' -f1)
    is_there node "$stamp" && return 0
    say "installing the JavaScript peer"
    rm -rf "$peers/node"
    mkdir -p "$peers/node"
    cp "$here/package.json" "$here/package-lock.json" "$peers/node/"
    npm ci --prefix "$peers/node" --silent --no-audit --no-fund --ignore-scripts || fail "npm could not install $here/package.json"
    echo "$stamp" >"$peers/node/.requirements"
}

setup_packages python3 python3-venv git
command -v node >/dev/null && command -v npm >/dev/null || setup_packages nodejs npm
for name in hf-2 hf-0.36 hf-0.22 olah; do python_peer "$name"; done
node_peer
