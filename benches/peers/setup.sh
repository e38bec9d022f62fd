#!/usr/bin/env bash
# Builds the peers of our speed comparison and makes the models that all of them read.
#
#   benches/peers/setup.sh
#
# Needs a Linux system with bash, python3 with venv, a C and C++ compiler and Rust; fetches from
# PyPI and crates.io. Takes about 20 minutes on two cores and 30 GB of disk, 7 GB with
# MODELS=smollm2. A second run does only what is missing. Options, by environment:
#   PEERS_DIR         where all of it goes     [benches/peers/work]
#   MODELS            of smollm2, internlm2-1.8b and internlm2.5-7b   [all; the last in 4 bits only]
#   PEERS             of llama.cpp, llama-server (for benches/serve) and candle   [llama.cpp candle]
#   DTYPES            of bf16 and f32, made beside q4_0   [both]
#   CANDLE_FEATURES   features of candle/, for instance avx512   [none]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PEERS_DIR=${PEERS_DIR:-$here/work}
MODELS=${MODELS:-smollm2 internlm2-1.8b internlm2.5-7b}
PEERS=${PEERS:-llama.cpp candle}
DTYPES=${DTYPES-bf16 f32}
LLAMA_VERSION=0.3.36

mkdir -p "$PEERS_DIR"/{bin,models,src}
PEERS_DIR=$(cd "$PEERS_DIR" && pwd)
log=$PEERS_DIR/setup.log
python=$PEERS_DIR/venv/bin/python

say() { printf '%s\n' "$*" >&2; }

# What a step prints goes to the log; the end of it is shown if the step fails.
doing="setting up"
failed() {
    local status=$?
    if ((status != 0)); then
        [[ ! -e $log ]] || tail -n 40 "$log" >&2
        say "error: $doing failed, see $log"
    fi
    exit "$status"
}
trap failed EXIT

# quietly WHAT COMMAND...
quietly() {
    doing=$1
    say "$doing ..."
    "${@:2}" >"$log" 2>&1
}

python_tools() {
    [[ -x $python ]] || python3 -m venv "$PEERS_DIR/venv"
    "$python" -m pip install --disable-pip-version-check gguf numpy cmake ninja
}

# llama.cpp has no releases on a package registry, but its Python binding carries the whole source.
llama_source() {
    "$python" -m pip download --disable-pip-version-check --no-deps \
        --no-binary llama-cpp-python --dest "$PEERS_DIR/src" "llama-cpp-python==$LLAMA_VERSION"
    tar -xzf "$PEERS_DIR/src"/llama_cpp_python-*.tar.gz -C "$PEERS_DIR/src"
}

llama_library() {
    local flags=-w compiler
    compiler=$(c++ -dumpversion)
    if grep -qw amx_tile /proc/cpuinfo && ! c++ --version | grep -qi clang && ((${compiler%%.*} < 13)); then
        flags+=" -include $here/llama/amx_tiles.h"
    fi
    "$PEERS_DIR/venv/bin/cmake" -G Ninja -S "$llama" -B "$PEERS_DIR/build" \
        -DCMAKE_MAKE_PROGRAM="$PEERS_DIR/venv/bin/ninja" -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_CXX_FLAGS="$flags" -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON \
        -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    "$PEERS_DIR/venv/bin/ninja" -C "$PEERS_DIR/build" llama
}

llama_server() {
    "$PEERS_DIR/venv/bin/ninja" -C "$PEERS_DIR/build" llama-server
    cp "$PEERS_DIR/build/bin/llama-server" "$PEERS_DIR/bin/"
}

llama_runner() {
    local library=$PEERS_DIR/build
    c++ -O2 -std=c++17 -Wall -Wextra -I"$llama/include" -I"$llama/ggml/include" \
        "$here/llama/peer_llama.cpp" -o "$PEERS_DIR/bin/peer-llama" "$library/src/libllama.a" \
        "$library"/ggml/src/libggml{,-cpu,-base}.a -fopenmp -lpthread -ldl -lm
}

# Built for this very processor, as llama.cpp is: the comparison shall not depend on how a peer was built.
candle_runner() {
    RUSTFLAGS="-C target-cpu=native" cargo build --release --locked \
        --manifest-path "$here/candle/Cargo.toml" --target-dir "$PEERS_DIR/candle" \
        --features "${CANDLE_FEATURES:-}"
    cp "$PEERS_DIR/candle/release/peer-candle" "$PEERS_DIR/bin/"
    printf '%s\n' "${CANDLE_FEATURES:-}" >"$PEERS_DIR/bin/peer-candle.features"
}

# missing FILE COMMAND...: makes the file unless it is there. Commands write to another name first.
missing() {
    [[ -e $1 ]] || quietly "making ${1#"$PEERS_DIR/"}" "${@:2}"
}

# The converter writes in place; a file that was cut short must not look finished.
converted() {
    "$PEERS_DIR/bin/peer-llama" convert "$1" "$2.tmp" "$3"
    mv "$2.tmp" "$2"
}

models() {
    local source model dtype to
    source=$(sh "$root/examples/fetch_smollm2.sh")
    source=$root/$source
    for model in $MODELS; do
        to=$PEERS_DIR/models/$model-q4_0
        case $model in
        smollm2) missing "$to.gguf" converted "$source" "$to.gguf" q4_0 ;;
        *) missing "$to.gguf" "$python" "$here/models.py" random-gguf "$model" "$to.gguf" q4_0 ;;
        esac
        for dtype in $DTYPES; do
            [[ $model != internlm2.5-7b ]] || continue
            to=$PEERS_DIR/models/$model-$dtype
            case $model in
            smollm2)
                missing "$to.gguf" converted "$source" "$to.gguf" "$dtype"
                missing "$to/model.safetensors" "$python" "$here/models.py" folder "$source" "$to" "$dtype"
                ;;
            *)
                missing "$to.gguf" "$python" "$here/models.py" random-gguf "$model" "$to.gguf" "$dtype"
                missing "$to/model.safetensors" "$python" "$here/models.py" random-folder "$model" "$to" "$dtype"
                ;;
            esac
        done
    done
}

quietly "Python tools" python_tools
llama=$PEERS_DIR/src/llama_cpp_python-$LLAMA_VERSION/vendor/llama.cpp
[[ -d $llama ]] || quietly "the source of llama.cpp" llama_source
[[ -e $PEERS_DIR/build/src/libllama.a ]] || quietly "llama.cpp (some minutes)" llama_library
quietly "runner of llama.cpp" llama_runner
[[ $PEERS != *llama-server* ]] || quietly "server of llama.cpp (some minutes)" llama_server
[[ $PEERS != *candle* ]] || quietly "candle-transformers (some minutes)" candle_runner
quietly "bandwidth" cc -O3 -march=native -Wall -Wextra -pthread "$here/bandwidth.c" -o "$PEERS_DIR/bin/bandwidth"
quietly "peaks" cc -O3 -Wall -Wextra "$here/peaks.c" -o "$PEERS_DIR/bin/peaks"
models
doing="setting up"
say "ready: benches/peers/run.sh"
