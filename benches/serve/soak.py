#!/usr/bin/env python3
"""Many clients that go away, for minutes: nothing may leak, nobody may be stuck, answers may not change.

usage: soak.py MODEL [--clients 500] [--minutes 10] [--serve "ARGUMENTS"]

Starts target/release/examples/serve. Each client asks again and again, with prompts of 4 to 512 token ids: most drop
the stream somewhere, some do not even read the head, some close in the middle of their request; the rest reads its
answer to the end and compares it with what the idle server said to the same prompt before. In the end requests that
run or wait and blocks in use must be none, and resident memory within 5 % of what it was after the first minute.
Standard library only; Linux.
"""
import argparse
import asyncio
import json
import random
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from run import ROOT, free_port, wait

SURVIVORS = 40


def body(prompt, tokens):
    return json.dumps({
        "model": "m", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
        "return_token_ids": True,
    }).encode()


def drawn(draw):
    return [draw.randrange(300, 32000) for _ in range(draw.choice([4, 16, 64, 200, 512]))]


async def ask(port, payload, leave_after=None):
    """The text of the stream, or None where the client left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n".encode() + payload
    try:
        if leave_after == "request":
            writer.write(request[: len(request) // 2])
            await writer.drain()
            return None
        writer.write(request)
        await writer.drain()
        if leave_after == "sent":
            return None
        whole = b""
        while piece := await reader.read(1 << 16):
            whole += piece
            if leave_after is not None and len(whole) > leave_after:
                return None
        if b" 200 " not in whole.split(b"\r\n", 1)[0] or b"[DONE]" not in whole:
            raise SystemExit(f"error: {whole[-500:]!r}")
        lines = [line[6:] for line in whole.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: {")]
        return "".join(choice["text"] for line in lines for choice in json.loads(line)["choices"])
    finally:
        writer.transport.abort()


async def soak(port, arguments, known, counts, memory):
    end = time.monotonic() + 60 * arguments.minutes

    async def client(number):
        draw = random.Random(number)
        while time.monotonic() < end:
            if number % 10 == 0:
                prompt, tokens, want = draw.choice(known)
                # Minutes behind hundreds of others are allowed, for ever is not.
                got = await asyncio.wait_for(ask(port, body(prompt, tokens)), 600)
                counts["the same" if got == want else "changed"] += 1
                continue
            leave = draw.choice(["request", "sent", 1, 400, 2000, 5000])
            await asyncio.wait_for(ask(port, body(drawn(draw), 64), leave), 600)
            counts["left"] += 1

    async def watch():
        await asyncio.sleep(min(60, 30 * arguments.minutes))
        memory["before"] = resident(memory["pid"])
        while time.monotonic() < end:
            await asyncio.sleep(30)
            print(f"{end - time.monotonic():.0f} s left: {counts}, {resident(memory['pid']) >> 20} MiB", file=sys.stderr)

    await asyncio.gather(watch(), *(client(number) for number in range(arguments.clients)))


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def gauges(url):
    text = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
    return {name: float(value) for name, value in re.findall(r"^(internlm_\w+) (\S+)$", text, re.M)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--serve", default="--act int8 --cache-mib 512")
    arguments = parser.parse_args()
    port = free_port()
    command = [ROOT / "target/release/examples/serve", "--model", arguments.model, "--port", str(port), "--model-name", "m", "--max-waiting",
               str(2 * arguments.clients), *shlex.split(arguments.serve)]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait(url, process)
        draw = random.Random(0)
        known = [(drawn(draw), draw.randrange(8, 64)) for _ in range(SURVIVORS)]
        known = [(prompt, tokens, asyncio.run(ask(port, body(prompt, tokens)))) for prompt, tokens in known]
        counts, memory = {"left": 0, "the same": 0, "changed": 0}, {"pid": process.pid}
        asyncio.run(soak(port, arguments, known, counts, memory))
        for _ in range(100):
            left = {name: value for name, value in gauges(url).items() if re.search("requests_running|requests_waiting|blocks_in_use", name)}
            if not any(left.values()):
                break
            time.sleep(0.1)
        after = resident(process.pid)
        print(json.dumps({**counts, **left, "resident_before": memory["before"], "resident_after": after}))
        grown = after > memory["before"] * 1.05
        if any(left.values()) or counts["changed"] or grown or not counts["the same"]:
            raise SystemExit("error: something was left, changed or grew")
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
