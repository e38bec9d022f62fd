#!/usr/bin/env python3
"""Instructions of a call of each kernel, under callgrind, beside those on record.

benches/instructions.py            compares; exit status 1 where a kernel needs 5 % more than on record
benches/instructions.py --record   writes benches/instructions.json

Counts, unlike times, repeat on a busy machine. They are those of the AVX2 level, as callgrind knows no
AVX-512, and of this compiler: a new one is a reason to record again. Needs valgrind.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_suffix(".json")
TOLERANCE = 1.05
CALLS = 20


def executable():
    command = ["cargo", "bench", "-p", "internlm-kernels", "--bench", "instructions", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = [json.loads(line) for line in lines if line.startswith("{")]
    return next(b["executable"] for b in built if b.get("target", {}).get("name") == "instructions" and b.get("executable"))


def count(program, case, calls):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, case, str(calls)]
    run = subprocess.run(command, env=os.environ | {"INTERNLM_KERNELS": "avx2"}, stderr=subprocess.PIPE, text=True)
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not found:
        sys.exit(f"error: {case}: {run.stderr}")
    return int(found[1])


def main():
    program = executable()
    cases = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    counts = {}
    for case in cases:
        # What a program does besides its calls cancels out.
        counts[case] = (count(program, case, CALLS + 1) - count(program, case, 1)) // CALLS
    if sys.argv[1:] == ["--record"]:
        RECORD.write_text(json.dumps(counts, indent=2) + "\n")
    record = json.loads(RECORD.read_text())
    print(f"{'instructions of a call':24} {'now':>10} {'record':>10} {'ratio':>6}")
    worse = 0
    for case, now in counts.items():
        before = record.get(case)
        ratio = now / before if before else float("nan")
        worse += before is not None and ratio > TOLERANCE
        print(f"{case:24} {now:10} {before or '-':>10} {ratio:6.3f}")
    if worse:
        sys.exit(f"{worse} kernels need more instructions than on record")


if __name__ == "__main__":
    main()
