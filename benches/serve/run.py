#!/usr/bin/env python3
"""Our server beside llama.cpp's, both running, level by level and round by round: a Markdown table.

usage: run.py MODEL.gguf [--peers DIR] [--rounds N] [--threads N] [--clients 1,4,16,32] [--requests N]
              [--max-tokens N] [--serve "ARGUMENTS OF OURS"]

Needs `PEERS="llama.cpp llama-server" benches/peers/setup.sh` and `cargo build --release --example serve`. Run it
alone on the machine. The one that waits costs no time: both sleep without requests.
"""
import argparse
import json
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(url, process):
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"error: the server at {url} ended with {process.returncode}")
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5).read()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"error: nothing answers at {url}")


def servers(options):
    threads, clients = str(options.threads), max(map(int, options.clients.split(",")))
    context = 512 + options.max_tokens + 64
    ours, theirs = free_port(), free_port()
    commands = {
        "ours": (ours, [
            ROOT / "target/release/examples/serve", "--model", options.model, "--threads", threads, "--port", str(ours),
            "--max-batch", str(clients), "--model-name", "m", *shlex.split(options.serve)]),
        "llama.cpp": (theirs, [
            options.peers / "bin/llama-server", "-m", options.model, "-t", threads, "-tb", threads, "--port", str(theirs),
            "-np", str(clients), "-c", str(clients * context), "-cb", "--no-cache-prompt", "-cram", "0", "--no-webui"]),
    }
    for name, (port, command) in commands.items():
        log = open(f"/tmp/bench-{name}.log", "w")
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        yield name, f"http://127.0.0.1:{port}", process


def load(url, clients, seed, options):
    command = [
        sys.executable, HERE / "load.py", url, "m", "--json", "--clients", str(clients), "--requests",
        str(options.requests), "--max-tokens", str(options.max_tokens), "--vocabulary", str(options.vocabulary),
        "--seed", str(seed)]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--peers", type=Path, default=ROOT / "benches/peers/work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", default="1,4,16,32")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--serve", default="--act int8")
    options = parser.parse_args()
    running = list(servers(options))
    try:
        for _, url, process in running:
            wait(url, process)
        print("| clients | requests | tokens/s in all, ours | llama.cpp | ratio | first token p50 / p99 s, ours | llama.cpp |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for clients in map(int, options.clients.split(",")):
            got = {name: [] for name, _, _ in running}
            for turn in range(options.rounds):
                for name, url, _ in running if turn % 2 == 0 else reversed(running):
                    got[name].append(load(url, clients, turn + 1, options))
                    print(name, json.dumps(got[name][-1]), file=sys.stderr, flush=True)

            def median(name, key):
                return statistics.median(round_[key] for round_ in got[name])

            rates = {name: median(name, "all_tokens_per_s") for name in got}
            ratio = statistics.median(
                a["all_tokens_per_s"] / b["all_tokens_per_s"] for a, b in zip(got["ours"], got["llama.cpp"]))
            waits = [f"{median(n, 'first_token_p50_s'):.2f} / {median(n, 'first_token_p99_s'):.2f}" for n in got]
            print(f"| {clients} | {got['ours'][0]['requests']} | {rates['ours']:.0f} | {rates['llama.cpp']:.0f} "
                  f"| {ratio:.2f} | {waits[0]} | {waits[1]} |", flush=True)
    finally:
        for _, _, process in running:
            process.terminate()
        for _, _, process in running:
            process.wait(30)


if __name__ == "__main__":
    main()
