"""A server of MCP on standard input and output that misbehaves as its first argument says. Python alone, no SDK."""

import json
import os
import signal
import subprocess
import sys
import time

mode = sys.argv[1]
cancelled = []
subscription = None
tools = ["echo"]


def write(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(text):
    return {"content": [{"type": "text", "text": text}]}


def listed(names):
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": []}
    return [{"name": name, "description": f"Tool {name}", "inputSchema": schema} for name in names]


def list_tools(params):
    if mode == "endless-pages":
        return {"tools": [], "nextCursor": "again"}
    if mode == "many-tools":
        return {"tools": listed(f"t{i}" for i in range(1000))}
    if mode == "pages":
        page = int(params.get("cursor", "0"))
        return {"tools": listed([f"t{page}", "t0"]), **({"nextCursor": str(page + 1)} if page < 3 else {})}
    if mode == "odd-tools":
        huge = {"type": "object", "description": "x" * 100_000}
        return {
            "tools": [
                {"name": "no schema type", "inputSchema": {}},
                {"name": "huge.schema", "inputSchema": huge},
                {"name": "long", "description": "y" * 100_000, "inputSchema": {"type": "object"}},
            ]
        }
    return {"tools": listed(tools)}


def call(name, arguments, id):
    if mode == "dies-in-call":
        print("out of cheese", file=sys.stderr, flush=True)
        os._exit(7)
    if mode == "long-answer":
        return text("x" * 100_000)
    if mode == "odd-answer":
        return {"neither": "content nor anything"}
    if name == "hang":
        return None
    if name == "cancelled":
        return text(json.dumps(cancelled))
    if name == "environment":
        return text(json.dumps({**os.environ, "pid": os.getpid()}))
    if name == "grandchild":
        # It keeps our output open.
        child = subprocess.Popen(["sleep", "1000"])
        return text(json.dumps([os.getpid(), child.pid]))
    if name == "change":
        tools[:] = ["echo", "new"]
        meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": subscription}}
        write({"method": "notifications/tools/list_changed", **({"params": meta} if subscription else {})})
        return text("changed")
    return text(f"{name}: {json.dumps(arguments)}")


if mode == "dies-at-start":
    print("no licence found", file=sys.stderr)
    sys.exit(3)
if mode == "silent":
    time.sleep(1000)
if mode == "garbage":
    print("Welcome!\n" * 3)
    sys.exit()
if mode == "flood":
    while True:
        print("x" * 1000)
if mode == "endless-line":
    while True:
        sys.stdout.write("{" * 1000)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tools = ["grandchild"]
if mode == "chatty":
    print("Welcome!\n{\"level\": \"info\"}\n", flush=True)
if mode == "slow":
    tools = ["hang", "cancelled"]
if mode == "environment":
    tools = ["environment"]
if mode in ["changes", "new"]:
    tools = ["echo", "change"]

for line in sys.stdin:
    message = json.loads(line)
    method, params, id = message.get("method"), message.get("params", {}), message.get("id")
    if mode == "new" and method == "initialize":
        write({"id": id, "error": {"code": -32022, "message": "too old", "data": {"supported": ["2026-07-28"]}}})
        continue
    elif method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}}}
    elif method == "subscriptions/listen":
        subscription = id
        meta = {"io.modelcontextprotocol/subscriptionId": id}
        params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
        write({"method": "notifications/subscriptions/acknowledged", "params": params})
        continue
    elif method == "initialize":
        if mode == "refuses":
            write({"id": id, "error": {"code": -32000, "message": "not today"}})
            continue
        info = {"name": "stand-in", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}
    elif method == "tools/list":
        result = list_tools(params)
    elif method == "tools/call":
        if mode == "errors":
            code = -32602 if params["arguments"].get("text") == "bad" else -32000
            write({"id": id, "error": {"code": code, "message": "so it is"}})
            continue
        result = call(params["name"], params.get("arguments"), id)
    elif method == "notifications/cancelled":
        cancelled.append(params["requestId"])
        continue
    else:
        continue
    if mode == "new" and result is not None:
        result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **result}
    if result is not None:
        write({"id": id, "result": result})

if mode == "stubborn":
    time.sleep(1000)
