#!/usr/bin/env bash
# Installs the clients of the API that nobody here wrote into .cache/clients: frameworks (PyPI), the official client of another
# major version, schemathesis with the vendors' own specifications, and the JavaScript ones (npm). Does nothing for those that
# are there.
#
#   tests/clients/setup.sh && cargo nextest run --workspace --run-ignored all -E 'binary(clients) + binary(contract)'
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
clients=$cache/clients
here=$root/tests/clients
mkdir -p "$clients"

# An environment is complete when its stamp is that of its requirements; one that was interrupted is made anew.
is_there() { [ "$(cat "$clients/$1/.requirements" 2>/dev/null)" = "$2" ]; }

python_clients() {
    local name=$1 requirements=$here/$1.txt stamp
    stamp=$(sha256sum "$requirements" | cut -d' ' -f1)
    is_there "$name" "$stamp" && return 0
    say "making the Python environment of the clients: $name"
    rm -rf "${clients:?}/$name"
    python3 -m venv "$clients/$name" || fail "python3 -m venv failed; is the package python3-venv installed?"
    "$clients/$name/bin/pip" install -q --disable-pip-version-check -r "$requirements" ||
        fail "pip could not install $requirements"
    echo "$stamp" >"$clients/$name/.requirements"
}

node_clients() {
    local stamp
    stamp=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -d' ' -f1)
    is_there node "$stamp" && return 0
    say "installing the JavaScript clients"
    rm -rf "$clients/node"
    mkdir -p "$clients/node"
    cp "$here/package.json" "$here/package-lock.json" "$clients/node/"
    npm ci --prefix "$clients/node" --silent --no-audit --no-fund --ignore-scripts || fail "npm could not install $here/package.json"
    echo "$stamp" >"$clients/node/.requirements"
}

setup_packages python3 python3-venv
command -v node >/dev/null && command -v npm >/dev/null || setup_packages nodejs npm
for name in contract langchain openai-2 pydantic-ai; do python_clients "$name"; done
node_clients
