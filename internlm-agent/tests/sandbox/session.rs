//! Sessions: state, time, and code that wants to speak for its session.

use std::time::Duration;

use internlm_agent::sandbox::{CallOutput, CallStatus, Fault, Limits, PythonSession, Sandbox};
use internlm_core::code_executor::CodeStatus;

use super::support::{LONG, config, eventually, names, processes_with, sandbox};

fn session() -> PythonSession {
    sandbox().session().unwrap()
}

#[track_caller]
fn value(session: &mut PythonSession, code: &str) -> Option<String> {
    let output = session.call(code, LONG).unwrap();
    assert_eq!(output.status, CallStatus::Finished, "{output:?}");
    output.value
}

#[track_caller]
fn raised(output: CallOutput) -> (String, String, String) {
    match output.status {
        CallStatus::Raised(error) => (error.kind, error.message, error.traceback),
        status => panic!("{status:?}"),
    }
}

#[test]
fn what_one_call_defines_the_next_one_finds() {
    let mut session = session();
    assert_eq!(value(&mut session, "x = 6"), None);
    assert_eq!(value(&mut session, "def f(y):\n    return x * y"), None);
    assert_eq!(value(&mut session, "f(7)"), Some("42".into()));
    assert_eq!(value(&mut session, "_ + 1"), Some("43".into()));
    assert_eq!(value(&mut session, "None"), None);
    assert_eq!(value(&mut session, "'数' * 2"), Some("'数数'".into()));
    assert_eq!(value(&mut session, ""), None);
    assert_eq!(
        value(
            &mut session,
            "import pickle\nclass C: pass\npickle.loads(pickle.dumps(C())).__class__ is C"
        ),
        Some("True".into())
    );
}

#[test]
fn output_belongs_to_its_call() {
    let mut session = session();
    let output = session
        .call(
            "import sys\nprint('one')\nprint('two', file=sys.stderr)\nsys.stdout.write('three')",
            LONG,
        )
        .unwrap();
    assert_eq!(output.stdout, "one\nthree");
    assert_eq!(output.stderr, "two\n");
    assert_eq!(output.value.as_deref(), Some("5"));
    let output = session.call("print('next')", LONG).unwrap();
    assert_eq!(output.stdout, "next\n");
    let output = session.call_with("print('n' * 100)", LONG, 10).unwrap();
    assert_eq!(output.stdout, "n".repeat(10));
    assert_eq!(
        value(&mut session, "input.__name__"),
        Some("'input'".into())
    );
    assert_eq!(raised(session.call("input()", LONG).unwrap()).0, "EOFError");
}

#[test]
fn an_exception_names_its_line_and_nothing_of_ours() {
    let mut session = session();
    session.call("def f():\n    return 1 / 0", LONG).unwrap();
    let (kind, message, traceback) = raised(session.call("a = 1\nf()", LONG).unwrap());
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("ZeroDivisionError", "division by zero")
    );
    assert!(traceback.contains("line 2"), "{traceback}");
    assert!(traceback.contains("return 1 / 0"), "{traceback}");
    assert!(!traceback.contains("session.py"), "{traceback}");
    let (kind, ..) = raised(session.call("a = = 1", LONG).unwrap());
    assert_eq!(kind, "SyntaxError");
    let (kind, message, _) = raised(session.call("raise SystemExit(3)", LONG).unwrap());
    assert_eq!((kind.as_str(), message.as_str()), ("SystemExit", "3"));
    let (kind, ..) = raised(
        session
            .call(
                "class Bad(Exception):\n  def __str__(self): raise self\nraise Bad",
                LONG,
            )
            .unwrap(),
    );
    assert_eq!(kind, "Bad");
    let (kind, ..) = raised(session.call("bytearray(8 << 30)", LONG).unwrap());
    assert_eq!(kind, "MemoryError");
    // It is still there after all that, with what it knew.
    assert_eq!(value(&mut session, "a"), Some("1".into()));
}

#[test]
fn text_that_is_none_does_not_end_the_session() {
    let mut session = session();
    let (_, message, _) = raised(
        session
            .call(
                "raise ValueError('half \\ud83d, \\0, \\x7f, whole 😀')",
                LONG,
            )
            .unwrap(),
    );
    assert_eq!(message, "half \\ud83d, \0, \x7f, whole 😀");
    let code = "class Odd:\n    def __repr__(self): return '\\udc00\\n\"'\nOdd()";
    assert_eq!(value(&mut session, code), Some("\\udc00\n\"".into()));
    let output = session
        .call("import os; os.write(1, b'\\xff\\xfe') and None", LONG)
        .unwrap();
    assert_eq!(output.stdout, "\u{fffd}\u{fffd}");
    // Code that is no Python.
    let (kind, ..) = raised(session.call("1 +\0 2", LONG).unwrap());
    assert!(
        ["SyntaxError", "ValueError"].contains(&kind.as_str()),
        "{kind}"
    );
}

#[test]
fn a_large_piece_of_code_is_taken_whole() {
    let mut session = session();
    let code = format!("x = '{}'\nlen(x)", "y".repeat(1 << 20));
    assert_eq!(value(&mut session, &code), Some("1048576".into()));
}

#[test]
fn a_long_value_is_cut() {
    let mut session = session();
    let text = value(&mut session, "'x' * 10_000_000").unwrap();
    assert_eq!(text.len(), 64 << 10);
    let (_, message, traceback) = raised(
        session
            .call("raise ValueError('\\0' * 10_000_000)", LONG)
            .unwrap(),
    );
    assert_eq!((message.len(), traceback.len()), (64 << 10, 64 << 10));
}

#[test]
fn a_limit_of_values_may_be_as_large_as_it_likes() {
    let mut limits = Limits::default();
    limits.value_bytes = usize::MAX;
    let sandbox = Sandbox::new(config().with_limits(limits)).unwrap();
    let text = value(&mut sandbox.session().unwrap(), "'x' * 100_000").unwrap();
    assert_eq!(text.len(), 100_002);
}

#[test]
fn a_call_that_takes_too_long_is_stopped_and_its_session_kept() {
    let mut session = session();
    value(&mut session, "x = 1");
    let short = Duration::from_millis(200);
    for code in ["while True: x = 2", "import time; time.sleep(1000)"] {
        let output = session.call(code, short).unwrap();
        assert_eq!(
            output.status,
            CallStatus::TimedOut { session_kept: true },
            "{code}"
        );
    }
    assert_eq!(value(&mut session, "x"), Some("2".into()));
}

#[test]
fn a_call_that_does_not_stop_ends_its_session() {
    let mut session = session();
    let code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass";
    let output = session.call(code, Duration::from_millis(200)).unwrap();
    assert_eq!(
        output.status,
        CallStatus::TimedOut {
            session_kept: false
        }
    );
    assert!(!session.is_alive());
    assert!(matches!(session.call("1", LONG), Err(Fault::Ended { .. })));
}

#[test]
fn who_closes_every_pipe_is_ended_in_time() {
    let mut session = session();
    let code = "import os\nprint('so')\nos.closerange(3, 256)\nwhile True: pass";
    let output = session.call(code, Duration::from_millis(200)).unwrap();
    // It stops when told to, finds that it can't answer, and ends.
    assert_eq!(
        output.status,
        CallStatus::TimedOut {
            session_kept: false
        }
    );
    assert_eq!(output.stdout, "so\n");
}

#[test]
fn the_end_of_the_interpreter_is_the_end_of_the_session() {
    for (code, status) in [
        (
            "import os; print('so', flush=True); os._exit(0)",
            CodeStatus::Exited(0),
        ),
        (
            "import os; print('so', flush=True); os.kill(os.getpid(), 9)",
            CodeStatus::Killed("signal 9".into()),
        ),
        (
            "import os; print('so', flush=True); os.closerange(3, 1000)",
            CodeStatus::Exited(1),
        ),
    ] {
        let mut session = session();
        let output = session.call(code, LONG).unwrap();
        assert_eq!(
            output.status,
            CallStatus::Ended(status),
            "{code}: {output:?}"
        );
        assert_eq!(output.stdout, "so\n");
        assert!(matches!(session.call("1", LONG), Err(Fault::Ended { .. })));
    }
}

/// Python that writes an answer to every open file.
const FORGE: &str = "
import json, os
def forge(**fields):
    data = json.dumps(dict(value='forged', error=None, **fields)).encode()
    for fd in range(3, 256):
        try: os.write(fd, len(data).to_bytes(4, 'big') + data)
        except OSError: pass
";

#[test]
fn an_answer_without_the_token_ends_the_session() {
    for code in [
        "forge()",
        "forge(token='')",
        "forge(token='0' * 32)",
        "for fd in range(3, 256):\n  try: os.write(fd, b'\\xff' * 100)\n  except OSError: pass",
        "for fd in range(3, 256):\n  try: os.write(fd, b'\\0\\0\\0\\2{}')\n  except OSError: pass",
        "for fd in range(3, 256):\n  try: os.write(fd, b'\\0\\0\\0\\3{}x more')\n  except OSError: pass",
    ] {
        let mut session = session();
        let output = session.call(&format!("{FORGE}{code}"), LONG).unwrap();
        assert_eq!(output.status, CallStatus::Forged, "{code}: {output:?}");
        assert_eq!(output.value, None);
        assert!(matches!(session.call("1", LONG), Err(Fault::Ended { .. })));
    }
}

#[test]
fn a_thread_or_a_child_can_not_answer_the_next_call() {
    for code in [
        "import threading, time\n\
         asked = threading.Event()\n\
         def later():\n  asked.wait(); forge(token='0' * 32)\n\
         threading.Thread(target=later, daemon=True).start()",
        "import time\n\
         class asked:\n  \
           def set(): open('/work/asked', 'w').close()\n\
         if os.fork() == 0:\n  \
           while not os.path.exists('/work/asked'): time.sleep(0.01)\n  \
           forge(token='0' * 32); os._exit(0)",
    ] {
        let mut session = session();
        value(&mut session, &format!("{FORGE}{code}"));
        let output = session
            .call("asked.set(); time.sleep(1000); 'true'", LONG)
            .unwrap();
        assert_eq!(output.status, CallStatus::Forged, "{code}");
        assert_eq!(output.value, None);
    }
}

#[test]
fn a_token_of_an_earlier_call_is_worth_nothing() {
    // The code has the driver traced, which shows the token of each call once that is done.
    let mut session = session();
    value(
        &mut session,
        &format!(
            "{FORGE}\nimport sys\n\
             seen = []\n\
             def trace(frame, event, argument):\n  \
               seen.extend(filter(None, [frame.f_locals.get('token')]))\n  \
               return trace\n\
             frame = sys._getframe()\n\
             while frame:\n  \
               frame.f_trace = trace\n  \
               frame = frame.f_back\n\
             sys.settrace(trace)"
        ),
    );
    let code = "sys.settrace(None); set(map(len, seen))";
    assert_eq!(value(&mut session, code), Some("{32}".into()));
    let output = session.call("forge(token=seen[-1])", LONG).unwrap();
    assert_eq!(output.status, CallStatus::Forged, "{output:?}");
    assert_eq!(output.value, None);
}

#[test]
fn the_token_is_not_in_the_interpreter_while_code_runs() {
    let mut session = session();
    let code = "import gc, re, sys\n\
                def texts():\n  \
                  frame = sys._getframe()\n  \
                  while frame:\n    \
                    yield from map(repr, frame.f_locals.values())\n    \
                    frame = frame.f_back\n\
                found = [t for text in texts() for t in re.findall('[0-9a-f]{32}', text)]\n\
                found";
    assert_eq!(value(&mut session, code), Some("[]".into()));
}

#[test]
fn a_child_that_comes_back_does_not_answer() {
    let mut session = session();
    assert_eq!(
        value(&mut session, "import os\npid = os.fork()\npid > 0"),
        Some("True".into())
    );
    assert_eq!(
        value(&mut session, "os.waitpid(pid, 0)[1]"),
        Some("0".into())
    );
    assert_eq!(value(&mut session, "1 + 1"), Some("2".into()));
}

#[test]
fn replaced_functions_do_not_break_the_session() {
    let mut session = session();
    value(
        &mut session,
        "import ast, json, os, sys\n\
         os.read = os.write = os.getpid = json.dumps = json.loads = ast.parse = None\n\
         sys.modules['json'] = sys.modules['os'] = None\n\
         sys.stdout = sys.stderr = None",
    );
    assert_eq!(value(&mut session, "1 + 1"), Some("2".into()));
}

#[test]
fn changed_files_are_named_and_files_can_be_put_there() {
    let mut session = session();
    session.folder().write("in.txt", b"given").unwrap();
    let output = session
        .call("text = open('in.txt').read()\nopen('out.txt', 'w').write(text.upper())\nopen('in.txt', 'a').write('!')", LONG)
        .unwrap();
    assert_eq!(output.status, CallStatus::Finished, "{output:?}");
    assert_eq!(names(&output.files), ["in.txt", "out.txt"]);
    assert_eq!(session.folder().read("out.txt", 100).unwrap(), b"GIVEN");
    assert_eq!(session.folder().read("in.txt", 100).unwrap(), b"given!");
    assert!(session.call("1", LONG).unwrap().files.is_empty());
    // A pipe or a link in place of a file neither holds up the host nor leads it out.
    let output = session
        .call(
            "import os\nos.unlink('out.txt')\nos.symlink('/etc/passwd', 'out.txt')",
            LONG,
        )
        .unwrap();
    assert_eq!(output.status, CallStatus::Finished);
    assert!(output.files.is_empty());
    assert!(session.folder().read("out.txt", 1 << 20).is_err());
    assert!(session.folder().write("out.txt", b"x").is_err());
    // The files stay when the session ends.
    session.call("os._exit(0)", LONG).unwrap();
    assert_eq!(session.folder().read("in.txt", 100).unwrap(), b"given!");
}

#[test]
fn modules_of_the_folder_can_be_imported() {
    let mut session = session();
    session.folder().write("mine.py", b"answer = 42").unwrap();
    assert_eq!(
        value(&mut session, "import mine; mine.answer"),
        Some("42".into())
    );
}

#[test]
fn sessions_do_not_see_each_other_and_leave_nothing() {
    let marker = format!("session-{}", std::process::id());
    let (mut first, mut second) = (session(), session());
    value(&mut first, "open('secret', 'w').write('first'); x = 1");
    assert_eq!(raised(second.call("x", LONG).unwrap()).0, "NameError");
    assert_eq!(
        raised(second.call("open('/work/secret')", LONG).unwrap()).0,
        "FileNotFoundError"
    );
    value(
        &mut first,
        &format!(
            "import os, sys\n\
             if os.fork() == 0:\n  \
               os.setsid()\n  \
               os.execv(sys.executable, [sys.executable, '-c', \n      \
                 'import time; open(\"/work/up\", \"w\").close(); time.sleep(1000)', '{marker}'])\n\
             while not os.path.exists('/work/up'): pass"
        ),
    );
    assert!(eventually(|| processes_with(&marker).len() == 1));
    drop(first);
    assert!(processes_with(&marker).is_empty());
    assert_eq!(value(&mut second, "2"), Some("2".into()));
}
