#!/usr/bin/env bash
# Builds llama.cpp's module for a kind of GPU, from the very sources that the host was built from, and puts it where the host
# finds it. The host needs no other build for it: modules are loaded when it starts.
#
#   deploy/backend.sh vulkan [DIR]    for GPUs of any maker; 5 minutes of CPU
#   deploy/backend.sh cuda   [DIR]    for NVIDIA's; an hour of CPU for one architecture. Needs NVIDIA's toolkit (nvcc, cuBLAS).
#                                     CUDA_ARCHITECTURES says for which, as CMake's variable does: native (default), 90-real, …
#   deploy/backend.sh hip    [DIR]    for AMD's (`device = "rocm"`). Needs ROCm.
#
# DIR is lib/outrigger of an installed tree, or any other folder that is then copied there; target/backends by default. A module
# belongs to one release of llama-cpp-sys-2: build it again where Cargo.lock names another one.
set -euo pipefail
. "$(dirname "$0")/../tests/setup.sh"
cd "$root"

kind=${1:-}
target=${2:-$root/target/backends}
jobs=${JOBS:-$(nproc)}
build=$root/target/backend-$kind

# The sources as cargo has unpacked them.
sources() {
    cargo metadata --format-version 1 --locked | python3 -c '
import json, pathlib, sys
packages = json.load(sys.stdin)["packages"]
(path,) = (p["manifest_path"] for p in packages if p["name"] == "llama-cpp-sys-2")
print(pathlib.Path(path).parent / "llama.cpp" / "ggml")'
}

# Headers for Vulkan in C++ of at least 1.3.272: where the distribution has older ones, those of Debian 13, and nothing else
# of it. Prints the folder.
vulkan_headers() {
    local own=/usr/include/vulkan/vulkan_core.h version unpacked=$cache/vulkan-headers apt=$cache/apt-trixie package
    version=$(sed -n 's/^#define VK_HEADER_VERSION \([0-9]*\)$/\1/p' "$own" 2>/dev/null || true)
    if [ "${version:-0}" -ge 272 ]; then
        echo /usr/include
        return
    fi
    if [ ! -d "$unpacked" ]; then
        say "downloading the headers of Debian 13's libvulkan-dev (1.5 MB, once)"
        mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
        # The machine's own mirror and keys, for the next release.
        python3 - >"$apt/sources.list" <<'PYTHON'
import glob, os, re
keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
signed = f"[signed-by={keys}] " if os.path.exists(keys) else ""
for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
    for line in open(path, errors="replace") if os.path.isfile(path) else ():
        found = re.match(r"(?:URIs:|deb\s(?:\[[^]]*\]\s*)?)\s*(\S+/debian)/?(\s|$)", line.strip())
        if found:
            print(f"deb {signed}{found[1]} trixie main")
            raise SystemExit
raise SystemExit("no mirror of Debian is configured")
PYTHON
        # A list of packages of its own: the machine's stays as it is.
        local options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/nonexistent
            -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Get::List-Cleanup=0
            -o APT::Sandbox::User=root)
        (cd "$apt" && apt-get "${options[@]}" -q update && apt-get "${options[@]}" -q download libvulkan-dev) >"$apt/log" 2>&1 ||
            { cat "$apt/log" >&2; fail "Debian 13's libvulkan-dev cannot be downloaded; install headers of Vulkan 1.3.272 or newer"; }
        package=$(ls "$apt"/libvulkan-dev_*.deb)
        rm -rf "$unpacked.part" && dpkg -x "$package" "$unpacked.part" && mv "$unpacked.part" "$unpacked"
    fi
    echo "$unpacked/usr/include"
}

setup_packages build-essential cmake ccache python3
setup_rust
case $kind in
vulkan)
    setup_packages libvulkan-dev glslc spirv-headers
    options=(-DGGML_VULKAN=ON "-DVulkan_INCLUDE_DIR=$(vulkan_headers)")
    ;;
cuda)
    command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] ||
        fail "nvcc is missing; install NVIDIA's CUDA toolkit, or build on a machine that has it"
    options=(-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF "-DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES:-native}")
    ;;
hip)
    command -v hipcc >/dev/null || [ -x /opt/rocm/bin/hipcc ] || fail "hipcc is missing; install AMD's ROCm"
    options=(-DGGML_HIP=ON)
    ;;
*)
    sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0" >&2
    exit 2
    ;;
esac

# A copy without what the build does not need: the registry's folder is not to be written to, and the crate omits a file that
# CMake asks for.
source=$(sources)
stamp=$(basename "$(dirname "$(dirname "$source")")")
if [ "$(cat "$build/.stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$build"
    mkdir -p "$build"
    cp -r "$source" "$build/ggml"
    touch "$build/ggml/ggml.pc.in"
    echo "$stamp" >"$build/.stamp"
fi
say "building ggml-$kind of $stamp (log: target/backend-$kind/log)"
{
    cmake -S "$build/ggml" -B "$build/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON \
        -DGGML_NATIVE=OFF -DGGML_CPU=OFF -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF \
        -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=\$ORIGIN" "${options[@]}" &&
        cmake --build "$build/build" --target "ggml-$kind" --parallel "$jobs"
} >"$build/log" 2>&1 || { tail -20 "$build/log" >&2; fail "ggml-$kind could not be built; target/backend-$kind/log says why"; }
mkdir -p "$target"
module=$(find "$build/build" -name "libggml-$kind.so" | head -1)
install -m 755 "$module" "$target/"
say "$target/libggml-$kind.so"
