"""Serves a session: reads code, runs it in one lasting namespace, answers.

The host follows each piece of code with a token, which is read only when the code is done: while it
runs, the token lies in the pipe and is in no variable. An answer without it ends the session.
"""
import ast
import fcntl
import json
import os
import signal
import sys
import types


def serve(requests, answers):
    # Bound here, so that code which replaces functions of these modules doesn't break the session.
    read, write, get_pid, leave = os.read, os.write, os.getpid, os._exit
    loads, dumps, parse = json.loads, json.dumps, ast.parse
    set_signal, interrupt, ignore = signal.signal, signal.SIGINT, signal.SIG_IGN
    raise_interrupt = signal.default_int_handler
    Expr, Expression = ast.Expr, ast.Expression
    modules = sys.modules
    me = get_pid()
    sources = {}
    figures = [0]

    space = types.ModuleType("__main__")
    space.__dict__["__builtins__"] = __builtins__
    modules["__main__"] = space
    space = space.__dict__

    def take(count):
        parts = b""
        while len(parts) < count:
            piece = read(requests, count - len(parts))
            if not piece:
                leave(0)
            parts += piece
        return parts

    def give(message):
        data = dumps(message).encode()
        data = len(data).to_bytes(4, "big") + data
        while data:
            data = data[write(answers, data):]

    def save_figures():
        plot = modules.get("matplotlib.pyplot")
        if plot is None:
            return
        for number in plot.get_fignums():
            figures[0] += 1
            plot.figure(number).savefig("figure-%d.png" % figures[0])
        plot.close("all")

    def describe(error, limit):
        kind = type(error).__name__
        try:
            message = str(error)
        except BaseException:
            message = ""
        try:
            import linecache
            import traceback

            for name, code in sources.items():
                linecache.cache[name] = (len(code), None, code.splitlines(True), name)
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename not in sources:
                trace = trace.tb_next
            text = "".join(traceback.format_exception(type(error), error, trace))
        except BaseException:
            text = ""
        return {"type": kind[:200], "message": message[:limit], "traceback": text[-limit:]}

    def run(code, name, limit):
        value = None
        set_signal(interrupt, raise_interrupt)
        tree = parse(code, name)
        last = None
        if tree.body and isinstance(tree.body[-1], Expr):
            last = Expression(tree.body.pop().value)
        exec(compile(tree, name, "exec"), space)
        if last is not None:
            result = eval(compile(last, name, "eval"), space)
            if result is not None:
                space["_"] = result
                value = repr(result)[:limit]
        save_figures()
        return value

    count = 0
    while True:
        request = loads(take(int.from_bytes(take(4), "big")))
        limit = request["limit"]
        name = "<call %d>" % count
        count += 1
        sources[name] = request["code"]
        answer = {"value": None, "error": None}
        try:
            try:
                answer["value"] = run(request["code"], name, limit)
            finally:
                set_signal(interrupt, ignore)
        except BaseException as error:
            set_signal(interrupt, ignore)
            answer["error"] = describe(error, limit)
        if get_pid() != me:
            # A child that the code forked and that came back to the end of it.
            leave(0)
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()
            except BaseException:
                pass
        answer["token"] = take(32).decode()
        give(answer)


def hide(fd):
    """Moves a pipe to a number that is not the same in every session and closes with `exec`."""
    place = 64 + os.urandom(1)[0] % 128
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, place)
    os.close(fd)
    return moved


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipes = [hide(int(argument)) for argument in sys.argv[1:3]]
    sys.argv = [""]
    sys.path.insert(0, os.getcwd())
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    serve(*pipes)
