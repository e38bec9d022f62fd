//! What the tests share.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use internlm_agent::sandbox::{FileEntry, Run, Sandbox, SandboxConfig};
use internlm_core::code_executor::{CodeRequest, CodeStatus};

/// The helper program: a test can't be its own launcher, for its `main` is not ours.
pub(crate) const LAUNCHER: &str = env!("CARGO_BIN_EXE_internlm-sandbox");

/// A limit that is reached only if something hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn config() -> SandboxConfig {
    // One that every user of the system can reach, if there is one.
    let python = match std::env::var_os("INTERNLM_SANDBOX_PYTHON") {
        Some(named) => named,
        None if Path::new("/usr/bin/python3").exists() => "/usr/bin/python3".into(),
        None => "python3".into(),
    };
    SandboxConfig::default()
        .with_launcher(LAUNCHER)
        .with_python(python)
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(config()).unwrap()
}

/// Runs Python in a sandbox of the usual limits.
#[track_caller]
pub(crate) fn python(code: &str) -> Run {
    let request = CodeRequest::new("python", code).with_timeout(LONG);
    sandbox().execute(&request).unwrap()
}

/// Runs Python that must end well, for what it prints.
#[track_caller]
pub(crate) fn printed(code: &str) -> String {
    let run = python(code);
    assert_eq!(run.output.status, CodeStatus::Exited(0), "{:?}", run.output);
    run.output.stdout
}

/// Runs a shell program that must end well, for what it prints.
#[track_caller]
pub(crate) fn shell(code: &str) -> String {
    let request = CodeRequest::new("bash", code).with_timeout(LONG);
    let run = sandbox().execute(&request).unwrap();
    assert_eq!(run.output.status, CodeStatus::Exited(0), "{:?}", run.output);
    run.output.stdout
}

/// The paths of files.
pub(crate) fn names(files: &[FileEntry]) -> Vec<&str> {
    let paths = files.iter().map(|file| file.path.to_str().unwrap());
    paths.collect()
}

/// Checks that Python expressions, all in one process, raise what they are to: the name of an error
/// number, or of an exception without one; `|` between two if either wall may be met first.
#[track_caller]
pub(crate) fn refused(cases: &[(&str, &str)]) {
    let mut code = String::from(
        "import ctypes, errno, os, signal, socket, struct, subprocess, sys\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         def syscall(number, *arguments):\n    \
             ctypes.set_errno(0)\n    \
             result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))\n    \
             if result < 0:\n        \
                 raise OSError(ctypes.get_errno(), 'refused')\n    \
             return result\n\
         def attempt(number, action):\n    \
             try:\n        \
                 result = action()\n    \
             except OSError as error:\n        \
                 print(number, errno.errorcode.get(error.errno, type(error).__name__))\n    \
             except BaseException as error:\n        \
                 print(number, type(error).__name__)\n    \
             else:\n        \
                 print(number, 'succeeded:', repr(result)[:200])\n",
    );
    for (number, (action, _)) in cases.iter().enumerate() {
        writeln!(code, "attempt({number}, lambda: {action})").unwrap();
    }
    let got = printed(&code);
    assert_eq!(got.lines().count(), cases.len(), "{got}");
    for (number, (line, (action, want))) in got.lines().zip(cases).enumerate() {
        assert!(
            want.split('|')
                .any(|want| line == format!("{number} {want}")),
            "{action}: got {line}, want {want}"
        );
    }
}

/// Waits for something to become true, twenty seconds at most; says whether it did.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Processes of this system with a marker among their arguments. A list made while others start and end may lack
/// one that was there all the time.
pub(crate) fn processes_with(marker: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(marker) {
            found.push(pid);
        }
    }
    found
}
