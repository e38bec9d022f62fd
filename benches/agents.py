#!/usr/bin/env python3
"""Calls of a model on 100 questions of arithmetic, by each protocol, with and without constrained calls.

usage: agents.py MODEL [QUESTIONS] [PROTOCOL...]

Runs the release build of the example `agent` once a row, with greedy answers of at most 320 tokens and two turns. A
question counts as valid where every call that was made ran, and there was one; as right where a call gave the result.
"""
import json
import pathlib
import random
import subprocess
import sys
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target/release/examples/agent"
ROWS = [(name, free) for name in ["openai", "react", "internlm", "react-text", "rewoo", "code"] for free in [False, True]]
# The others can't be constrained: one row each.
ROWS = [row for row in ROWS if row[1] or row[0] in ("openai", "react")]


def questions(count):
    """Questions with their results; always the same."""
    draw = random.Random(20261129)
    for i in range(count):
        a, b, c = draw.randint(3, 99), draw.randint(3, 99), draw.randint(2, 50)
        yield [
            (f"A shop has {a} boxes with {b} pens each and {c} loose pens. How many pens are there?", a * b + c),
            (f"小明有{a}盒笔,每盒{b}支,又买了{c}支,一共多少支?", a * b + c),
            (f"What is {a} + {b} * {c}?", a + b * c),
            (f"What is {a * b} divided by {b}?", a),
        ][i % 4]


def main(model, count, names):
    asked = list(questions(count))
    print("| protocol | calls | valid | right | answers in words | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, free in ROWS:
        if names and name not in names:
            continue
        command = [PROGRAM, "--model", model, "--protocol", name, "--json", "--greedy", "--max-turns", "2"]
        command += ["--max-new-tokens", "320"] + ["--unconstrained"] * free
        begin = time.monotonic()
        text = "".join(question + "\n" for question, _ in asked)
        done = subprocess.run(command, input=text, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.monotonic() - begin
        valid = right = words = at = 0
        calls = []
        for line in map(json.loads, done.stdout.splitlines()):
            if "tool" in line:
                calls.append(line)
            elif "answer" in line:
                valid += bool(calls) and all(call["ok"] for call in calls)
                right += any(call["ok"] and call["result"] == str(asked[at][1]) for call in calls)
                words += not calls
                calls, at = [], at + 1
        form = "free" if free else "constrained"
        print(f"| {name} | {form} | {valid} | {right} | {words} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100, sys.argv[3:])
