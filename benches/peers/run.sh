#!/usr/bin/env bash
# Our engine beside llama.cpp and candle-transformers on this machine: one Markdown report on
# standard output, after benches/peers/setup.sh.
#
#   benches/peers/run.sh [--json FILE] > report.md
#
# --json keeps the raw lines that the report is made of; benches/peers/report.py FILE makes it again.
# Run it alone on the machine. Options, by environment:
#   ROUNDS    interleaved rounds             [5]
#   THREADS   threads of every engine        [all cores]
#   MODELS    of smollm2, internlm2-1.8b and internlm2.5-7b  [all; the last in 4 bits only]
#   DTYPES    of bf16, f32 and q4_0          [all]
#   ENGINES   of ours, llama.cpp, candle     [all; for q4_0 ours in three precisions, and llama.cpp]
#   PROMPT, GEN       tokens read and generated            [512, 128]
#   CONTEXT   tokens in the cache for the second row of generation    [1024]
#   BATCH     sequences that generate together, of 4-bit weights      [32]
#   TOKENIZE  1 or 0: the tokenizers as well  [1]
#   TOKENIZER_MODEL, CORPUS   an InternLM2 tokenizer.model, a folder of en_* and zh_* text files
#             [those beside the repository, in ../shared]
#   QUICK=1   a few minutes instead of an hour: 2 rounds of smollm2, fewer tokens. Not for quoting
#   PEERS_DIR as in setup.sh                 [benches/peers/work]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [[ ${QUICK:-0} == 1 ]]; then
    : "${ROUNDS:=2}" "${MODELS:=smollm2}" "${PROMPT:=256}" "${GEN:=32}" "${CONTEXT:=512}"
fi
: "${ROUNDS:=5}" "${THREADS:=$(nproc)}" "${MODELS:=smollm2 internlm2-1.8b internlm2.5-7b}" "${DTYPES:=bf16 f32 q4_0}"
: "${ENGINES:=ours llama.cpp candle}" "${PROMPT:=512}" "${GEN:=128}" "${CONTEXT:=1024}" "${BATCH:=32}" "${TOKENIZE:=1}"
shared=${INTERNLM_SHARED:-$root/../shared}
: "${TOKENIZER_MODEL:=$shared/goldens/tokenizers/internlm2/tokenizer.model}" "${CORPUS:=$shared/datasets/corpus}"
PEERS_DIR=$(cd "${PEERS_DIR:-$here/work}" && pwd)
bin=$PEERS_DIR/bin models=$PEERS_DIR/models

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
case ${1:-} in
--json) lines=${2:?--json needs a file} && trap - EXIT && : >"$lines" ;;
?*) sed -n '2,/^set -e/{/^#/p;}' "$0" >&2 && exit 2 ;;
esac

say() { printf '%s\n' "$*" >&2; }
load_average() { cut -d' ' -f1-3 /proc/loadavg; }

# note KEY VALUE [KEY VALUE]...: a raw line; every value is JSON.
note() {
    local line='' separator=''
    while (($# > 0)); do
        line+=$separator\"$1\":$2 separator=,
        shift 2
    done
    printf '{%s}\n' "$line" >>"$lines"
}

text() { printf '"%s"' "$(tr -d '"\\\n' <<<"$*")"; }

about() {
    local model features=''
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    for feature in avx2 fma avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 avx_vnni \
        amx_tile amx_int8 amx_bf16 asimd asimddp i8mm bf16; do
        ! grep -qw "$feature" /proc/cpuinfo || features+=" $feature"
    done
    note about 1 cpu "$(text "${model:-$(uname -m)}")" features "$(text "${features# }")" \
        cores "$(nproc)" kernel "$(text "$(uname -sr)")" memory_kib "$(sed -n 's/MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)" \
        caches "$(text "$(lscpu | sed -n 's/^\(L[23]\) cache: *\([^(]*[^ (]\).*/\1 \2/p' | paste -sd, | sed 's/,/, /g')")" \
        date "$(text "$(date -u +%F)")" rustc "$(text "$(rustc --version)")" \
        cc "$(text "$(cc --version | head -n 1)")" \
        revision "$(text "$(git -C "$root" describe --always --dirty 2>/dev/null || true)")" \
        llama_cpp "$(text "$(basename "$PEERS_DIR"/src/llama_cpp_python-*/)")" \
        candle "$(text "$(sed -n '/name = "candle-transformers"/{n;s/version = //p;}' "$here/candle/Cargo.lock")")" \
        candle_features "$(text "$(cat "$bin/peer-candle.features" 2>/dev/null || true)")" \
        peaks "$("$bin/peaks")" rounds "$ROUNDS" threads "$THREADS" prompt "$PROMPT" gen "$GEN" context "$CONTEXT" batch "$BATCH" quick "${QUICK:-0}"
}

# The largest model has 4-bit weights only.
is_made() { [[ $1 != internlm2.5-7b || $2 == q4_0 ]]; }

# What a model must read for every generated token and what a token adds to a cache: from the
# folder's own header, so that all engines are held against the same bytes.
weights() {
    local bytes
    for model in $MODELS; do
        for dtype in $DTYPES; do
            is_made "$model" "$dtype" || continue
            bytes=$("$PEERS_DIR/venv/bin/python" "$here/report.py" --weights "$models/$model-$dtype")
            note weights "$bytes" model "$(text "$model")" dtype "$(text "$dtype")"
        done
    done
}

# engine NAME MODEL DTYPE FLAGS...: one repetition, one JSON line.
engine() {
    local name=$1 model=$2 dtype=$3
    shift 3
    case $name in
    ours*)
        local source=(--model "$models/$model-$dtype" --dtype "$dtype")
        [[ $model == smollm2 ]] || source=(--shape "$model" --dtype "$dtype")
        # The same file as the peer, and the precision of activations in the engine's name.
        [[ $dtype != q4_0 ]] || source=(--model "$models/$model-$dtype.gguf" --act "${name#ours-}")
        "$bench" "${source[@]}" --threads "$THREADS" --reps 1 --json "$@"
        ;;
    llama.cpp) "$bin/peer-llama" --model "$models/$model-$dtype.gguf" --threads "$THREADS" --max-seconds 12 "$@" ;;
    candle)
        RAYON_NUM_THREADS=$THREADS CANDLE_NUM_THREADS=$THREADS \
            "$bin/peer-candle" --model "$models/$model-$dtype" --dtype "$dtype" --max-seconds 12 "$@"
        ;;
    esac
}

# The engines of a dtype, in the order of the round: every other round runs backwards, so that no engine
# always comes first.
in_order() {
    local engines=$ENGINES
    [[ $1 != q4_0 ]] || engines="ours-int8 ours-bf16 ours-f32 llama.cpp"
    if ((round % 2)); then tr ' ' '\n' <<<"$engines"; else tr ' ' '\n' <<<"$engines" | tac; fi
}

# The bandwidth is measured right before every engine: on a shared machine it moves.
measure() {
    local round=$1 model=$2 dtype=$3 context=$4 batch=$5 name result bandwidth
    shift 5
    for name in $(in_order "$dtype"); do
        bandwidth=$("$bin/bandwidth" "$THREADS")
        result=$(engine "$name" "$model" "$dtype" --context "$context" --batch "$batch" "$@" 2>>"$PEERS_DIR/run.log" | tail -n 1) || true
        if [[ $result != '{'*'}' ]]; then
            say "no result: $name $model $dtype, see $PEERS_DIR/run.log"
            result=null
        fi
        note round "$round" engine "$(text "$name")" model "$(text "$model")" dtype "$(text "$dtype")" \
            context "$context" batch "$batch" bandwidth "$bandwidth" result "$result"
    done
}

: >"$PEERS_DIR/run.log"
if [[ $ENGINES == *ours* ]]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --example bench
fi
if [[ $TOKENIZE == 1 ]]; then
    # `cmake`, which the C++ peer's build calls, came with setup.sh.
    PATH=$PEERS_DIR/venv/bin:$PATH cargo build --quiet --release --features sentencepiece \
        --manifest-path "$here/../tokenize/Cargo.toml" --target-dir "$PEERS_DIR/tokenize"
    cp "$PEERS_DIR/tokenize/release/internlm-bench-tokenize" "$bin/"
fi
target=${CARGO_TARGET_DIR:-$root/target}
bench=$target/release/examples/bench

about
weights
note load_before "$(text "$(load_average)")"
for round in $(seq "$ROUNDS"); do
    for model in $MODELS; do
        for dtype in $DTYPES; do
            is_made "$model" "$dtype" || continue
            say "round $round of $ROUNDS: $model $dtype, load average $(load_average)"
            measure "$round" "$model" "$dtype" 0 1 --prompt-tokens "$PROMPT" --gen-tokens "$GEN"
            if [[ $dtype == q4_0 ]]; then
                measure "$round" "$model" "$dtype" 0 "$BATCH" --prompt-tokens 0 --gen-tokens $((GEN / 4))
            else
                measure "$round" "$model" "$dtype" "$CONTEXT" 1 --prompt-tokens 0 --gen-tokens "$GEN"
            fi
        done
    done
done
note load_after "$(text "$(load_average)")"
"$PEERS_DIR/venv/bin/python" "$here/report.py" "$lines"

if [[ $TOKENIZE == 1 ]]; then
    printf '\n## Tokenizers\n\n'
    if [[ -e $TOKENIZER_MODEL && -d $CORPUS ]]; then
        printf '```text\n'
        "$bin/internlm-bench-tokenize" "$TOKENIZER_MODEL" "$CORPUS" "$((ROUNDS > 5 ? ROUNDS : 5))" || printf 'missed: no result\n'
        printf '```\n'
    else
        printf 'Not run: TOKENIZER_MODEL and CORPUS name no files.\n'
    fi
fi
