#!/usr/bin/env python3
"""Runs every command that README and docs show.

A fenced block marked `sh` is run with bash from the repository's root; what it needs from standard
input it brings itself. Blocks marked `sh bench`, `sh hub` or `sh gpu` are not run: beside them the
text says when and where they last ran. A block marked `sh interactive` is a program for a terminal;
its first command is run with the input `/exit`. Commands given as arguments have run already.
Also checks that each relative link of a document leads to a file.
"""
import os, pathlib, re, signal, subprocess, sys, time

root = pathlib.Path(__file__).resolve().parent.parent
documents = sorted([*root.glob("*.md"), *root.glob("docs/src/**/*.md"), *root.glob("internlm-*/README.md"), *root.glob("examples/README.md")])
fence = re.compile(r"^```(sh[^\n]*)\n(.*?)^```", re.M | re.S)
link = re.compile(r"\[[^\]]*\]\(([^)#\s]+)")
LIMIT = 1200  # seconds of a block; the programs have been built before
if any(command.startswith("-") for command in sys.argv[1:]):
    sys.exit(__doc__)
ran = skipped = failed = 0


def run(commands: str, stdin: str) -> tuple[int | str, str]:
    """What a block ends with, and its last lines. A block that is late is ended with all that it started."""
    started = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=root, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        output, _ = started.communicate(stdin, timeout=LIMIT)
        return started.returncode, output[-4000:]
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        output, _ = started.communicate()
        return f"none after {LIMIT} s", output[-4000:]


for document in documents:
    text = document.read_text()
    where = document.relative_to(root)
    for target in link.findall(re.sub(r"```.*?```", "", text, flags=re.S)):
        if "://" not in target and not (document.parent / target).exists():
            print(f"{where}: link to {target} leads nowhere")
            failed += 1
    for kind, commands in fence.findall(text):
        marks = kind.split()[1:]
        if {"bench", "hub", "gpu"} & set(marks):
            skipped += 1
            continue
        if commands.strip() in sys.argv[1:]:
            print(f"{where}: {commands.strip()} (ran before)")
            continue
        stdin = "/exit\n" if "interactive" in marks else ""
        print(f"{where}: {commands.strip().splitlines()[0]}", end="", flush=True)
        begin = time.monotonic()
        status, output = run(commands, stdin)
        ran += 1
        print(f" ({time.monotonic() - begin:.0f} s)", flush=True)
        if status != 0:
            failed += 1
            print(output, f"exit status {status}", sep="\n")
print(f"documents: {len(documents)} read, {ran} blocks run, {skipped} marked bench, hub or gpu, {failed} failed")
sys.exit(bool(failed))
