#!/bin/sh
# Builds libraries and programs with candle's `cuda` on a machine without a GPU, and runs one of them on its CPU beside
# a stand-in for the driver. Takes 1.5 GB of packages from PyPI, and up to an hour on two cores: no part of `.ci/run`.
set -eu
cd "$(dirname "$0")/.."
work=$(realpath -m "${CUDA_BUILD_DIR:-target/cuda}")
mkdir -p "$work"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88 \
    nvidia-cublas==13.0.2.14
cuda=$(echo "$work"/venv/lib/python3*/site-packages/nvidia/cu13)

# Names that linkers look for.
for library in cudart:13 curand:10 nvrtc:13 cublas:13 cublasLt:13; do
    ln -sf "lib${library%:*}.so.${library#*:}" "$cuda/lib/lib${library%:*}.so"
done
ln -sfn lib "$cuda/lib64"
# A driver that does nothing: every function of the header.
mkdir -p "$cuda/lib/stubs"
{
    grep -oE '\bcu[A-Z][A-Za-z0-9_]+\(' "$cuda/include/cuda.h" | tr -d '('
    sed -nE 's/^#define cu[A-Za-z0-9_]+ +(cu[A-Za-z0-9_]+).*/\1/p' "$cuda/include/cuda.h"
} | sort -u | sed 's/.*/void &(void) {}/' > "$work/driver.c"
gcc -w -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$cuda/lib/stubs/libcuda.so.1" "$work/driver.c"
ln -sf libcuda.so.1 "$cuda/lib/stubs/libcuda.so"
# Some of candle's files, which we don't use, take minutes each when they are optimized.
[ -e "$cuda/bin/nvcc.real" ] || mv "$cuda/bin/nvcc" "$cuda/bin/nvcc.real"
cat > "$cuda/bin/nvcc" <<'WRAPPER'
#!/bin/sh
case "$*" in
    *mmq_*|*moe_*|*mmvq_*|*quantized.cu*) exec "$0.real" -Xcicc -O1 -Xptxas -O1 "$@" ;;
    *) exec "$0.real" "$@" ;;
esac
WRAPPER
chmod +x "$cuda/bin/nvcc"

export CUDA_HOME="$cuda" CUDA_PATH="$cuda" PATH="$cuda/bin:$PATH" CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}"
export LIBRARY_PATH="$cuda/lib:$cuda/lib/stubs" RUSTFLAGS="-L native=$cuda/lib -L native=$cuda/lib/stubs"
export CARGO_TARGET_DIR="$work/target" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=false
cargo build --release --features cuda -p internlm-examples --examples

model=$(sh examples/fetch_smollm2.sh)
LD_LIBRARY_PATH="$cuda/lib:$cuda/lib/stubs" "$work/target/release/examples/generate" --model "$model" \
    --prompt "The capital of France is" --max-new-tokens 8 --greedy
