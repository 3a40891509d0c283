#!/usr/bin/env bash
# Builds the plugins of examples/plugins that are not Rust into .cache/plugins, as their authors would: the tools they pin
# (npm, PyPI), their own unit tests, the component. Does nothing for those that are there and unchanged.
#
#   tests/languages/setup.sh && cargo nextest run -p tests --run-ignored all -E 'test(languages)'
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
built=$cache/plugins

# The commands are those of the example's README.
build_javascript() {
    npm install --silent --no-audit --no-fund --ignore-scripts && npm test --silent >&2 && npm run build --silent >&2
}

build_python() {
    python3 -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check -r requirements.txt &&
        python3 -m unittest --quiet && ./build.sh >&2
}

# A plugin is complete when its stamp is that of its files; one that was interrupted is built anew.
example() {
    local name=$1 source=$root/examples/plugins/$1 stamp
    stamp=$(cd "$source" && git ls-files -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
    [ "$(cat "$built/$name/.stamp" 2>/dev/null)" = "$stamp" ] && return 0
    say "building the example of a plugin in $name"
    rm -rf "${built:?}/$name"
    mkdir -p "$built/$name"
    (cd "$source" && git ls-files -z | xargs -0 cp --parents -t "$built/$name")
    (cd "$built/$name" && "build_$name") || fail "could not build examples/plugins/$name"
    echo "$stamp" >"$built/$name/.stamp"
}

setup_packages python3 python3-venv git
command -v node >/dev/null && command -v npm >/dev/null || setup_packages nodejs npm
example javascript
example python
