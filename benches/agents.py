#!/usr/bin/env python3
"""Calls of a model on 100 questions of arithmetic, by each protocol, with and without constrained calls.

usage: agents.py MODEL [QUESTIONS] [PROTOCOL...]

Runs the release build of the example `agent` once a row, with greedy answers of at most 320 tokens and two turns; the
planner has four, as its last one is for the answer. A question counts as valid where every call that was made ran, and
there was one; as right where a call gave the result. Calls of the planner's searcher count as the question's.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target/release/examples/agent"
PROTOCOLS = ["openai", "react", "internlm", "react-text", "rewoo", "code", "planner"]
# The others can't be constrained: one row each. The planner's searcher is constrained, its plan is not.
CONSTRAINED = ["openai", "react", "planner"]
ROWS = [(name, free) for name in PROTOCOLS for free in [False, True] if free or name in CONSTRAINED]


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


def calls_of_questions(trace):
    """The finished calls of each question, those of the planner's searcher among them."""
    calls = []
    for line in map(json.loads, trace.read_text().splitlines()):
        if line["event"] == "call_finished":
            calls.append(line)
        elif line["event"] == "finished" and line["agent"] != "searcher":
            yield calls
            calls = []


def text_of(call):
    return "".join(part.get("text", "") for part in call["observed"].get("output", []))


def main(model, count, names, scratch):
    asked = list(questions(count))
    print("| protocol | calls | valid | right | answers in words | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, free in ROWS:
        if names and name not in names:
            continue
        turns = "4" if name == "planner" else "2"
        trace = pathlib.Path(scratch) / f"{name}-{free}.jsonl"
        command = [PROGRAM, "--model", model, "--protocol", name, "--trace", trace, "--greedy", "--max-turns", turns]
        command += ["--max-new-tokens", "320"] + ["--unconstrained"] * free
        begin = time.monotonic()
        text = "".join(question + "\n" for question, _ in asked)
        subprocess.run(command, input=text, check=True, stdout=subprocess.DEVNULL, text=True)
        seconds = time.monotonic() - begin
        valid = right = words = 0
        for (_, result), calls in zip(asked, calls_of_questions(trace), strict=True):
            valid += bool(calls) and all("output" in call["observed"] for call in calls)
            right += any(text_of(call) == str(result) for call in calls)
            words += not calls
        form = "free" if free else "constrained"
        print(f"| {name} | {form} | {valid} | {right} | {words} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100, sys.argv[3:], scratch)
