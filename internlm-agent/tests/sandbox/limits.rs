//! Memory, disk, time and output.

use std::time::Duration;

use internlm_agent::sandbox::{Limits, Run, Sandbox};
use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeRequest, CodeStatus};

use super::support::{LONG, config, printed, sandbox};

fn within(limits: Limits, code: &str) -> Run {
    let sandbox = Sandbox::new(config().with_limits(limits)).unwrap();
    sandbox
        .execute(&CodeRequest::new("python", code).with_timeout(LONG))
        .unwrap()
}

#[test]
fn eight_gigabytes_are_refused() {
    let text = printed(
        "import mmap\n\
         try: bytearray(8 << 30)\n\
         except MemoryError: print('no bytes')\n\
         try: mmap.mmap(-1, 8 << 30)\n\
         except OSError as error: print(error.errno)",
    );
    assert_eq!(text, format!("no bytes\n{}\n", libc::ENOMEM));
}

#[test]
fn many_processes_share_one_limit_of_memory() {
    let limits = Limits::default().with_memory_bytes(256 << 20);
    let run = within(
        limits,
        "import os, time\n\
         for _ in range(8):\n    \
             if os.fork() == 0:\n        \
                 held = bytearray(b'x') * (100 << 20)\n        \
                 time.sleep(1000)\n\
         time.sleep(1000)",
    );
    assert!(
        matches!(&run.output.status, CodeStatus::Killed(what) if what.starts_with("memory")),
        "{:?}",
        run.output
    );
    // Shared memory counts, too.
    let limits = Limits::default().with_memory_bytes(256 << 20);
    let run = within(
        limits,
        "import mmap, os, time\n\
         for _ in range(8):\n    \
             if os.fork() == 0:\n        \
                 held = mmap.mmap(-1, 100 << 20)\n        \
                 for at in range(0, 100 << 20, 4096): held[at] = 1\n        \
                 time.sleep(1000)\n\
         time.sleep(1000)",
    );
    assert!(
        matches!(&run.output.status, CodeStatus::Killed(what) if what.starts_with("memory")),
        "{:?}",
        run.output
    );
}

#[test]
fn a_gigabyte_does_not_fit_the_folder() {
    let code = "import os\n\
                written = 0\n\
                def fill(path):\n    \
                    global written\n    \
                    try:\n        \
                        with open(path, 'wb', buffering=0) as file:\n            \
                            while written < 1 << 30: written += file.write(bytes(1 << 20))\n    \
                    except OSError as error:\n        \
                        print(error.errno)\n\
                fill('/work/a'); fill('/work/b'); fill('/tmp/c'); fill('/dev/shm/d')\n\
                print(written <= 64 << 20)";
    let text = printed(code);
    let (errors, last) = text.trim().rsplit_once('\n').unwrap();
    assert_eq!(last, "True");
    assert_eq!(errors.lines().count(), 4, "{text}");
    for error in errors.lines() {
        let error: i32 = error.parse().unwrap();
        assert!([libc::ENOSPC, libc::EFBIG].contains(&error), "{text}");
    }
}

#[test]
fn files_have_a_number_and_a_size() {
    let text = printed(
        "import os\n\
         try:\n    \
             for number in range(100_000): open(f'/work/{number}', 'w').close()\n\
         except OSError as error: print(error.errno, number <= 4104)\n\
         try: open('/dev/shm/one', 'w')\n\
         except OSError as error: print(error.errno)",
    );
    let full = libc::ENOSPC;
    assert_eq!(text, format!("{full} True\n{full}\n"));
    let text = printed(
        "try: open('/work/hole', 'wb').truncate(1 << 40)\n\
         except OSError as error: print(error.errno)",
    );
    assert_eq!(text, format!("{}\n", libc::EFBIG));
}

#[test]
fn open_files_have_a_number() {
    let text = printed(
        "held = []\n\
         try:\n    \
             while True: held.append(open('/dev/null'))\n\
         except OSError as error: print(error.errno, len(held) < 256)",
    );
    assert_eq!(text, format!("{} True\n", libc::EMFILE));
}

#[test]
fn an_endless_loop_ends_with_its_time() {
    let short = Duration::from_millis(300);
    for code in [
        "print('begun', flush=True)\nwhile True: pass",
        "print('begun', flush=True)\nimport time; time.sleep(1000)",
        "print('begun', flush=True)\nimport signal\n\
         for n in range(1, 32):\n  \
           try: signal.signal(n, signal.SIG_IGN)\n  \
           except (OSError, ValueError): pass\n\
         while True: pass",
        "print('begun', flush=True)\nimport os\nos.close(1); os.close(2)\nwhile True: pass",
    ] {
        let request = CodeRequest::new("python", code).with_timeout(short + Duration::from_secs(1));
        let output = sandbox().run(&request).unwrap();
        assert_eq!(output.status, CodeStatus::TimedOut, "{code}");
        assert_eq!(output.stdout, "begun\n", "{code}");
    }
}

#[test]
fn processor_time_is_that_of_each_process() {
    let mut limits = Limits::default();
    limits.cpu_seconds = 1;
    let run = within(
        limits,
        "import os\n\
         child = os.fork()\n\
         if child == 0:\n    \
             while True: pass\n\
         print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)\n\
         while True: pass",
    );
    assert_eq!(run.output.stdout, "9\n", "{:?}", run.output);
    assert_eq!(run.output.status, CodeStatus::Killed("signal 9".into()));
}

#[test]
fn endless_output_is_cut_and_ended() {
    let limits = Limits::default().with_output_bytes(4 << 20);
    let sandbox = Sandbox::new(config().with_limits(limits)).unwrap();
    for stream in ["stdout", "stderr"] {
        let code = format!("import sys\nwhile True: sys.{stream}.write('x' * 65536)");
        let request = CodeRequest::new("python", code)
            .with_timeout(LONG)
            .with_max_output_bytes(1000);
        let output = sandbox.run(&request).unwrap();
        assert_eq!(output.status, CodeStatus::Killed("output".into()));
        assert_eq!(output.stdout.len() + output.stderr.len(), 1000);
    }
}

#[test]
fn long_output_is_cut_and_the_program_goes_on() {
    let request = CodeRequest::new("python", "print('é' * 1_000_000)\nraise SystemExit(5)")
        .with_timeout(LONG)
        .with_max_output_bytes(11);
    let output = sandbox().run(&request).unwrap();
    assert_eq!(output.status, CodeStatus::Exited(5));
    // Cut within a letter.
    assert_eq!(output.stdout, "ééééé\u{fffd}");
}

#[test]
fn input_is_read_or_not() {
    let text = "line\n".repeat(100_000);
    let request = CodeRequest::new("python", "import sys; print(len(sys.stdin.read()))")
        .with_stdin(text.as_str())
        .with_timeout(LONG);
    assert_eq!(sandbox().run(&request).unwrap().stdout, "500000\n");
    let request = CodeRequest::new("python", "print('not read')")
        .with_stdin(text)
        .with_timeout(LONG);
    let output = sandbox().run(&request).unwrap();
    assert_eq!(output.status, CodeStatus::Exited(0));
    assert_eq!(output.stdout, "not read\n");
}

#[test]
fn an_error_of_the_program_is_its_own() {
    let output = sandbox()
        .run(&CodeRequest::new("python", "import nothing_of_this_name").with_timeout(LONG))
        .unwrap();
    assert_eq!(output.status, CodeStatus::Exited(1));
    assert!(output.stderr.contains("ModuleNotFoundError"), "{output:?}");
}
