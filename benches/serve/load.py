#!/usr/bin/env python3
"""Load on a server of OpenAI's completions, from a process of its own: tokens a second and waiting times.

usage: load.py URL MODEL [--clients 1,4,16,32] [--requests N] [--max-tokens N] [--vocabulary N] [--seed N] [--json]

Each client asks, hears the whole stream, and asks again. Prompts are 32 to 512 token ids below --vocabulary,
drawn from --seed and the level: another seed, and no prefix has been seen before. Every answer has exactly
--max-tokens tokens (ignore_eos). Standard library only.
"""
import argparse
import asyncio
import json
import random
import statistics
import time
from urllib.parse import urlsplit


def prompts(count, vocabulary, seed):
    draw = random.Random(seed)
    for _ in range(count):
        length = draw.choice([32, 64, 128, 256, 512])
        yield [draw.randrange(300, vocabulary) for _ in range(length)]


async def ask(url, body):
    """Seconds to the first token and in all."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    payload = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n".encode() + payload)
    first, tail, status = None, b"", None
    while piece := await reader.read(1 << 16):
        status = status or piece.split(b"\r\n", 1)[0]
        if first is None and b"data: " in piece:
            first = time.monotonic() - begin
        tail = (tail + piece)[-4096:]
    writer.close()
    if b" 200 " not in status or b"[DONE]" not in tail:
        raise SystemExit(f"error: {status!r} {tail[-500:]!r}")
    return first, time.monotonic() - begin


async def level(url, arguments, clients):
    waiting = prompts(max(arguments.requests, 2 * clients), arguments.vocabulary, f"{arguments.seed} {clients}")
    done, read = [], 0

    async def client():
        nonlocal read
        for prompt in waiting:
            body = {
                "model": arguments.model, "prompt": prompt, "max_tokens": arguments.max_tokens,
                "temperature": 0, "ignore_eos": True, "stream": True, "cache_prompt": False,
            }
            read += len(prompt)
            done.append(await ask(url, body))

    begin = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.monotonic() - begin
    first = sorted(first for first, _ in done)
    return {
        "clients": clients,
        "requests": len(done),
        "generated_tokens_per_s": len(done) * arguments.max_tokens / seconds,
        "all_tokens_per_s": (read + len(done) * arguments.max_tokens) / seconds,
        "first_token_p50_s": statistics.median(first),
        "first_token_p99_s": first[min(len(first) - 1, int(0.99 * len(first)))],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--clients", default="1,4,16,32")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json:
        print("| clients | requests | tokens/s written | tokens/s in all | first token p50 s | p99 s |")
        print("| --- | --- | --- | --- | --- | --- |")
    for clients in map(int, arguments.clients.split(",")):
        got = asyncio.run(level(urlsplit(arguments.url), arguments, clients))
        if arguments.json:
            print(json.dumps(got), flush=True)
            continue
        rates = f"{got['generated_tokens_per_s']:.1f} | {got['all_tokens_per_s']:.0f}"
        first = f"{got['first_token_p50_s']:.2f} | {got['first_token_p99_s']:.2f}"
        print(f"| {clients} | {got['requests']} | {rates} | {first} |", flush=True)


if __name__ == "__main__":
    main()
