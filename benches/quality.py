#!/usr/bin/env python3
"""What each step of quantization is worth: perplexity, KL divergence and time of one checkpoint, as a table.

usage: quality.py MODEL CALIB EVAL [GROUP_SIZE ...] [-- FURTHER OPTIONS OF quantize]

Runs the release build of the example `quantize` once a step and group size. Times are of the whole
command, evaluation of the float and of the quantized model included.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target/release/examples/quantize"
SHORT, LONG = ["--samples", "16", "--seq-len", "256"], ["--samples", "64", "--seq-len", "512"]
STEPS = [
    ("rounding to nearest", ["--method", "rtn", *SHORT]),
    ("+ scales", ["--method", "awq", "--no-clip", *SHORT]),
    ("+ clipping (`awq`)", ["--method", "awq", *SHORT]),
    ("+ error compensation (`awq-gptq`)", ["--method", "awq-gptq", *SHORT]),
    ("the same, 64 blocks of 512 tokens", ["--method", "awq-gptq", *LONG]),
]


def run(model, calib, evaluation, group_size, options, further):
    """The summary of one run, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [PROGRAM, "--model", model, "--group-size", group_size, "--json", *options, *further]
        command += ["--calib", calib, "--eval", evaluation, "--out", folder + "/out"]
        begin = time.monotonic()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1]), time.monotonic() - begin


def main(arguments):
    further = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    model, calib, evaluation, *group_sizes = arguments[: len(arguments) - len(further) - bool(further)]
    print("| weights | group | perplexity | KL divergence, nats | layers that got worse | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for group_size in group_sizes or ["64", "32"]:
        for name, options in STEPS:
            got, seconds = run(model, calib, evaluation, group_size, options, further)
            figures = f"{got['ppl_after']:.2f} | {got['kl_divergence']:.4f} | {len(got['worse'])}"
            print(f"| {name} | {group_size} | {figures} | {seconds:.0f} |", flush=True)
    print(f"\nThe float model has {got['ppl_before']:.2f}.")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1:])
