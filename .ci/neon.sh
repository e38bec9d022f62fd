#!/usr/bin/env bash
# Tests of the kernels for aarch64 under an emulator, with Debian's rustc, whose standard library it has
# for other architectures. Programs run with the libc6 of Debian's arm64: that of the cross compiler
# (`-L /usr/aarch64-linux-gnu`) mixes two versions, and threads then never start.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! dpkg -s rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu qemu-user >/dev/null 2>&1; then
    dpkg --add-architecture arm64
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends rustc-web libstd-rust-web-dev:arm64 libc6:arm64 \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user >/dev/null
fi
export RUSTC=/usr/bin/rustc PROPTEST_CASES=4
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/neon"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64
# Left out under an emulator, where they take minutes: that a row of attention does not depend on its neighbours, which is
# a matter of the order of sums, which all levels share, and attention through a model of tiles, which only x86-64 has.
cargo test --quiet -p internlm-kernels --lib --tests --target aarch64-unknown-linux-gnu -- \
    --skip a_row_does_not_depend_on_chunks_neighbours_or_threads --skip tiles_agree_with_vectors
