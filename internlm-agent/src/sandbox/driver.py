"""Serves a session: reads code, runs it in one lasting namespace, answers.

A request is two numbers of four bytes, the length of the code and the most bytes of an answer's
texts, then the code. The host follows it with a token, which is read only when the code is done:
while it runs, the token lies in the pipe and is in no variable. An answer without it ends the session.

Large modules (json, ast, signal) stay out: they would be half of the time that a session takes to start.
"""
import _signal
import fcntl
import os
import sys

try:
    import _ast as ast
    from _json import encode_basestring_ascii as quote
except ImportError:
    import ast
    from json.encoder import encode_basestring_ascii as quote


def serve(requests, answers):
    # Bound here, so that code which replaces functions of these modules doesn't break the session.
    read, write, get_pid, leave = os.read, os.write, os.getpid, os._exit
    set_signal, interrupt, ignore = _signal.signal, _signal.SIGINT, _signal.SIG_IGN
    raise_interrupt = _signal.default_int_handler
    Expr, Expression, only_ast = ast.Expr, ast.Expression, ast.PyCF_ONLY_AST
    compile, exec, eval, repr = map(vars(sys.modules["builtins"]).get, ("compile", "exec", "eval", "repr"))
    modules = sys.modules
    me = get_pid()
    sources = {}
    figures = [0]

    main = type(sys)("__main__")
    main.__builtins__ = __builtins__
    modules["__main__"] = main
    space = main.__dict__

    def take(count):
        parts = b""
        while len(parts) < count:
            piece = read(requests, count - len(parts))
            if not piece:
                leave(0)
            parts += piece
        return parts

    def number():
        return int.from_bytes(take(4), "big")

    def text(value):
        # Half a surrogate pair is no text for the host.
        return quote(value.encode("utf-8", "backslashreplace").decode("utf-8"))

    def give(message):
        data = message.encode("ascii")
        data = len(data).to_bytes(4, "big") + data
        while data:
            data = data[write(answers, data):]

    def save_figures():
        plot = modules.get("matplotlib.pyplot")
        if plot is None:
            return
        for figure in plot.get_fignums():
            figures[0] += 1
            plot.figure(figure).savefig("figure-%d.png" % figures[0])
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
            stack = "".join(traceback.format_exception(type(error), error, trace))
        except BaseException:
            stack = ""
        return '{"type": %s, "message": %s, "traceback": %s}' % (
            text(kind[:200]),
            text(message[:limit]),
            text(stack[-limit:]),
        )

    def run(code, name, limit):
        value = "null"
        set_signal(interrupt, raise_interrupt)
        tree = compile(code, name, "exec", only_ast, True)
        last = None
        if tree.body and isinstance(tree.body[-1], Expr):
            last = Expression(tree.body.pop().value)
        exec(compile(tree, name, "exec", 0, True), space)
        if last is not None:
            result = eval(compile(last, name, "eval", 0, True), space)
            if result is not None:
                space["_"] = result
                value = text(repr(result)[:limit])
        save_figures()
        return value

    count = 0
    while True:
        length, limit = number(), number()
        code = take(length).decode()
        name = "<call %d>" % count
        count += 1
        sources[name] = code
        value = error = "null"
        try:
            try:
                value = run(code, name, limit)
            finally:
                set_signal(interrupt, ignore)
        except BaseException as raised:
            set_signal(interrupt, ignore)
            error = describe(raised, limit)
        if get_pid() != me:
            # A child that the code forked and that came back to the end of it.
            leave(0)
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()
            except BaseException:
                pass
        token = take(32).decode()
        give('{"token": %s, "value": %s, "error": %s}' % (text(token), value, error))
        del token
        if count == 1:
            # While the host has nothing to ask: what the first exception needs.
            import linecache
            import traceback


def hide(fd):
    """Moves a pipe to a number that is not the same in every session and closes with `exec`."""
    place = 64 + os.urandom(1)[0] % 128
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, place)
    os.close(fd)
    return moved


if __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    pipes = [hide(int(argument)) for argument in sys.argv[1:3]]
    sys.argv = [""]
    sys.path.insert(0, os.getcwd())
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    serve(*pipes)
