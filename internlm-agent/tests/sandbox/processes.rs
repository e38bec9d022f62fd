//! Processes: other ones, too many, and such that want to stay.

use std::process::Command;

use internlm_core::code_executor::CodeStatus;

use super::support::{eventually, printed, processes_with, python, refused};

#[test]
fn processes_of_the_host_have_no_number_here() {
    let host = std::process::id();
    assert!(host > 64, "a number that nothing inside has");
    refused(&[
        (&format!("os.kill({host}, 0)"), "ESRCH"),
        (&format!("os.kill({host}, signal.SIGKILL)"), "ESRCH"),
        (&format!("os.pidfd_open({host})"), "ESRCH"),
        (&format!("os.sched_setaffinity({host}, [0])"), "ESRCH"),
        (&format!("os.getpgid({host})"), "ESRCH"),
    ]);
    // No parent but the first process, and its signals don't reach that one.
    let text = printed(
        "import os, signal, time\n\
         for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV):\n    \
             os.kill(1, number)\n\
         time.sleep(0.2)\n\
         print(os.getppid(), os.getsid(0))",
    );
    assert_eq!(text, "1 1\n");
}

#[test]
fn a_signal_to_all_reaches_only_those_inside() {
    let text = printed(
        "import os, signal, time\n\
         child = os.fork()\n\
         if child == 0:\n    \
             time.sleep(1000)\n\
         os.kill(-1, signal.SIGKILL)\n\
         print(os.waitpid(child, 0)[1])",
    );
    assert_eq!(text, "9\n");
}

#[test]
fn a_fork_bomb_meets_its_limit() {
    let text = printed(
        "import os, time\n\
         made = 0\n\
         for _ in range(1000):\n    \
             try:\n        \
                 if os.fork() == 0:\n            \
                     time.sleep(1000)\n        \
                 made += 1\n    \
             except BlockingIOError as error:\n        \
                 print(error.errno)\n        \
                 break\n\
         print(made <= 32)",
    );
    assert_eq!(text, format!("{}\nTrue\n", libc::EAGAIN));

    // One whose children fork, too.
    let run = python(
        "import os, sys\n\
         while True:\n    \
             try: os.fork()\n    \
             except OSError: sys.exit(3)",
    );
    assert_eq!(run.output.status, CodeStatus::Exited(3), "{:?}", run.output);
}

#[test]
fn threads_count_as_well() {
    let text = printed(
        "import threading, time\n\
         try:\n    \
             for made in range(1000):\n        \
                 threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n\
         except RuntimeError:\n    \
             print(made < 33)",
    );
    assert_eq!(text, "True\n");
}

#[test]
fn nothing_survives_a_run() {
    let marker = format!("survivor-{}", std::process::id());
    let code = format!(
        "import os, sys\n\
         if os.fork() == 0:\n    \
             os.setsid()\n    \
             if os.fork() == 0:\n        \
                 for fd in (0, 1, 2): os.close(fd)\n        \
                 os.execv(sys.executable, [sys.executable, '-c', 'import time, signal\\n'\n            \
                     'for n in range(1, 32):\\n'\n            \
                     '  try: signal.signal(n, signal.SIG_IGN)\\n'\n            \
                     '  except OSError: pass\\n'\n            \
                     'open(\"/work/up\", \"w\").close(); time.sleep(1000)', '{marker}'])\n    \
             os._exit(0)\n\
         os.wait()\n\
         while not os.path.exists('/work/up'): pass\n\
         print('gone')",
    );
    let run = python(&code);
    assert_eq!(run.output.status, CodeStatus::Exited(0), "{:?}", run.output);
    assert_eq!(run.output.stdout, "gone\n");
    assert_eq!(run.folder.list().unwrap().len(), 1);
    assert!(processes_with(&marker).is_empty());
}

#[test]
fn who_holds_the_pipes_does_not_hold_up_the_end() {
    let run = python(
        "import os, time\n\
         if os.fork() == 0:\n    \
             os.setsid()\n    \
             time.sleep(1000)\n\
         print('the end', flush=True)\n\
         os._exit(7)",
    );
    assert_eq!(run.output.status, CodeStatus::Exited(7));
    assert_eq!(run.output.stdout, "the end\n");
}

#[test]
fn all_ends_with_a_host_that_is_killed() {
    const NAME: &str = "INTERNLM_SANDBOX_TEST_HOST";
    if let Ok(marker) = std::env::var(NAME) {
        // The host that is to be killed: this test, in a process of its own.
        let code = format!(
            "import os, sys\n\
             os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1000)', '{marker}'])"
        );
        python(&code);
        return;
    }
    let marker = format!("orphan-{}", std::process::id());
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::all_ends_with_a_host_that_is_killed"])
        .env(NAME, &marker)
        .spawn()
        .unwrap();
    let started = eventually(|| !processes_with(&marker).is_empty());
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(started);
    assert!(eventually(|| processes_with(&marker).is_empty()));
}

#[test]
fn a_signal_that_ends_a_program_is_named() {
    let run = python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)");
    assert_eq!(run.output.status, CodeStatus::Killed("signal 11".into()));
}

#[test]
fn processes_can_be_found_while_they_run() {
    // So that an empty list in the other tests means something.
    let marker = format!("0.{}", std::process::id());
    let mut child = Command::new("sleep")
        .args(["1000", &marker])
        .spawn()
        .unwrap();
    let found = eventually(|| processes_with(&marker).contains(&child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found);
    assert!(processes_with(&marker).is_empty());
}
