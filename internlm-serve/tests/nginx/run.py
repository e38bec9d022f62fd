#!/usr/bin/env python3
"""Two servers behind nginx, as docs/deploy/nginx.conf has them: who is asked, streams, a server that goes away.

usage: run.py SERVE MODEL

SERVE is the example program, MODEL what it serves. Needs nginx. Standard library only.
"""
import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def requests(port):
    """Requests that the server took in."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    return int(re.search(r"^internlm_requests_total (\d+)$", text, re.M).group(1))


def post(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


def chat(system, question, tokens=8, **more):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, **more}


def answer(port, body):
    response = post(port, body)
    text = response.read()
    assert response.status == 200, (response.status, text)
    return json.loads(text)


def check(what, holds, seen):
    print(f"{'ok' if holds else 'FAILED'}: {what} ({seen})")
    if not holds:
        raise SystemExit(1)


def main():
    serve, model = sys.argv[1:]
    first, second, least_busy, same_beginning = free_ports(4)
    text = (ROOT / "docs/deploy/nginx.conf").read_text()
    for name, port in {23401: first, 23402: second, 23400: least_busy, 23410: same_beginning}.items():
        text = re.sub(rf"127\.0\.0\.1:{name}\b", f"127.0.0.1:{port}", text)
    folder = tempfile.TemporaryDirectory()
    conf = Path(folder.name) / "nginx.conf"
    conf.write_text(f"daemon off; pid {folder.name}/pid; error_log {folder.name}/error.log;\n{text}")
    servers = [
        subprocess.Popen([serve, "--model", model, "--port", str(port), "--allow-host", "internlm", "--threads", "1",
                          "--cache-mib", "256"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for port in (first, second)
    ]
    nginx = subprocess.Popen(["nginx", "-c", conf, "-p", folder.name])
    try:
        for port in (first, second, least_busy, same_beginning):
            for attempt in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                raise SystemExit(f"error: nothing answers at {port}")

        # Eight at once: the one with fewer connections is asked, so both get about half.
        threads = [
            threading.Thread(target=answer, args=(least_busy, chat(f"You are number {i}.", "Count.", 48))) for i in range(8)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        shares = [requests(port) for port in (first, second)]
        check("least_conn spreads eight requests", sum(shares) == 8 and min(shares) >= 3, shares)

        # One system prompt goes to one server, which then knows its tokens.
        systems = [f"You are guide number {i}. " + "Be brief, be kind, and say what you do not know. " * 12 for i in range(6)]
        seen = []
        for system in systems:
            before = [requests(port) for port in (first, second)]
            cached = []
            for question in ("Where is Paris?", "Where is Rome?", "Where is Oslo?"):
                usage = answer(same_beginning, chat(system, question))["usage"]
                cached.append(usage["prompt_tokens_details"]["cached_tokens"])
            moved = [requests(port) - b for port, b in zip((first, second), before)]
            check("one beginning, one server", sorted(moved) == [0, 3], moved)
            check("its prompt is computed once", cached[0] < 64 <= min(cached[1:]), cached)
            seen.append(moved.index(3))
        check("beginnings are spread over both", len(set(seen)) == 2, seen)

        # A stream arrives while it is written.
        response = post(least_busy, chat("You are a poet.", "Write a long poem.", 96, stream=True))
        begin, times = time.monotonic(), []
        while line := response.readline():
            if line.startswith(b"data: {"):
                times.append(time.monotonic() - begin)
        check("streams are not held back", len(times) > 20 and times[5] < times[-1] / 2, f"{times[5]:.2f} of {times[-1]:.2f} s")

        # A server that went away is not asked any more, and no request is lost.
        servers[0].terminate()
        servers[0].wait(60)
        ids = {answer(port, chat("You are here.", f"Say {i}."))["id"] for i in range(4) for port in (least_busy, same_beginning)}
        check("one server is left and answers all", len(ids) == 8, len(ids))
    finally:
        nginx.terminate()
        for server in servers:
            server.terminate()
        for process in (nginx, *servers):
            process.wait(60)
        folder.cleanup()


if __name__ == "__main__":
    main()
