//! Which layers hold, and what happens where one does not.

use std::collections::BTreeMap;
use std::time::Duration;

use internlm_agent::sandbox::{Fault, Layer, LayerState, Sandbox, SandboxConfig};
use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeRequest, CodeStatus};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::support::{LONG, config, processes_with, sandbox};

/// Makes a system call fail for this thread and all processes that it starts: what a kernel without
/// the layer does. A test has a thread of its own.
fn without(call: i64, rules: Vec<SeccompRule>) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        TargetArch::try_from(std::env::consts::ARCH).unwrap(),
    )
    .unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// As [`without`], if a bit of the first argument is set.
fn without_flag(call: i64, flag: i32) {
    let flag = u64::from(flag.cast_unsigned());
    let condition = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    )
    .unwrap();
    without(call, vec![SeccompRule::new(vec![condition]).unwrap()]);
}

#[track_caller]
fn missing(error: Fault, want: Layer) {
    match error {
        Fault::Layer { layer, .. } => assert_eq!(layer, want),
        other => panic!("{other}"),
    }
}

#[test]
fn all_hold_here() {
    let sandbox = sandbox();
    assert!(sandbox.layers().complete(), "{}", sandbox.layers());
    let text = sandbox.layers().to_string();
    assert!(
        text.starts_with("user namespace, pid namespace, network namespace"),
        "{text}"
    );
    assert!(!text.contains("missing"), "{text}");
    assert!(sandbox.confinement().contains("Landlock (ABI "), "{text}");
}

#[test]
fn without_landlock_nothing_runs_unless_said_otherwise() {
    without(libc::SYS_landlock_create_ruleset, Vec::new());
    missing(Sandbox::new(config()).unwrap_err(), Layer::Landlock);
    let sandbox = Sandbox::new(config().with_optional(Layer::Landlock)).unwrap();
    assert!(!sandbox.layers().complete());
    assert!(
        sandbox
            .layers()
            .to_string()
            .contains("; missing: Landlock (")
    );
    // The other walls stand.
    let code = "try: open('/etc/passwd')\nexcept OSError as error: print(error.errno)";
    let output = sandbox
        .run(&CodeRequest::new("python", code).with_timeout(LONG))
        .unwrap();
    assert_eq!(output.stdout, format!("{}\n", libc::ENOENT), "{output:?}");
}

#[test]
fn without_seccomp_nothing_runs_unless_said_otherwise() {
    without(libc::SYS_seccomp, Vec::new());
    missing(Sandbox::new(config()).unwrap_err(), Layer::Seccomp);
    let sandbox = Sandbox::new(config().with_optional(Layer::Seccomp)).unwrap();
    assert!(!sandbox.layers().holds(Layer::Seccomp));
    // A socket can be made, and leads nowhere.
    let code = "import socket\n\
                try: socket.create_connection(('127.0.0.1', 1))\n\
                except OSError as error: print(error.errno)";
    let output = sandbox
        .run(&CodeRequest::new("python", code).with_timeout(LONG))
        .unwrap();
    assert!(
        [libc::ENETUNREACH, libc::EACCES]
            .iter()
            .any(|want| output.stdout == format!("{want}\n")),
        "{output:?}"
    );
}

#[test]
fn without_a_network_namespace_nothing_runs() {
    without_flag(libc::SYS_unshare, libc::CLONE_NEWNET);
    missing(Sandbox::new(config()).unwrap_err(), Layer::NetworkNamespace);
}

#[test]
fn without_user_namespaces_nothing_runs() {
    without_flag(libc::SYS_unshare, libc::CLONE_NEWUSER);
    missing(Sandbox::new(config()).unwrap_err(), Layer::UserNamespace);
}

#[test]
fn without_any_namespace_the_other_walls_stand_if_that_is_asked_for() {
    without(libc::SYS_unshare, Vec::new());
    let namespaces = [
        Layer::UserNamespace,
        Layer::PidNamespace,
        Layer::MountNamespace,
        Layer::NetworkNamespace,
        Layer::IpcNamespace,
        Layer::UtsNamespace,
    ];
    // One that isn't named is enough for a refusal.
    let most = namespaces[1..]
        .iter()
        .fold(config(), |config, layer| config.with_optional(*layer));
    missing(Sandbox::new(most).unwrap_err(), Layer::UserNamespace);

    let config = namespaces
        .iter()
        .fold(config(), |config, layer| config.with_optional(*layer));
    let sandbox = Sandbox::new(config).unwrap();
    for (layer, state) in sandbox.layers().states() {
        assert_eq!(
            matches!(state, LayerState::Missing(_)),
            namespaces.contains(layer),
            "{layer}"
        );
    }
    let marker = format!("plain-{}", std::process::id());
    let code = format!(
        "import os, socket, sys\n\
         def attempt(action):\n  \
           try: action()\n  \
           except OSError as error: print(error.errno)\n\
         attempt(lambda: open('/etc/shadow'))\n\
         attempt(lambda: open('/etc/passwd'))\n\
         attempt(lambda: open('/new', 'w'))\n\
         attempt(socket.socket)\n\
         open('kept.txt', 'w').write('kept')\n\
         if os.fork() == 0:\n  \
           os.setsid()\n  \
           if os.fork() == 0:\n    \
             for fd in (0, 1, 2): os.close(fd)\n    \
             os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1000)', '{marker}'])\n  \
           os._exit(0)\n\
         os.wait()"
    );
    let run = sandbox
        .execute(&CodeRequest::new("python", code).with_timeout(LONG))
        .unwrap();
    let (access, perm) = (libc::EACCES, libc::EPERM);
    assert_eq!(run.output.status, CodeStatus::Exited(0), "{:?}", run.output);
    assert_eq!(
        run.output.stdout,
        format!("{access}\n{access}\n{access}\n{perm}\n")
    );
    assert!(processes_with(&marker).is_empty());
    let mut session = sandbox.session().unwrap();
    let output = session.call("6 * 7", Duration::from_secs(30)).unwrap();
    assert_eq!(output.value.as_deref(), Some("42"));
}

#[test]
fn a_launcher_is_needed() {
    // The `main` of a test is not ours and never called `init`.
    let error = Sandbox::new(SandboxConfig::default()).unwrap_err();
    assert!(matches!(error, Fault::NoLauncher), "{error}");
    let error = Sandbox::new(SandboxConfig::default().with_launcher("/bin/true")).unwrap_err();
    assert!(
        matches!(error, Fault::Launcher { .. } | Fault::System { .. }),
        "{error}"
    );
    let error = Sandbox::new(SandboxConfig::default().with_launcher("/no/such/file")).unwrap_err();
    assert!(matches!(error, Fault::System { .. }), "{error}");
}

#[test]
fn the_interpreter_of_the_search_path_works() {
    let sandbox =
        Sandbox::new(SandboxConfig::default().with_launcher(super::support::LAUNCHER)).unwrap();
    let mut session = sandbox.session().unwrap();
    let output = session
        .call(
            "import sys, ctypes, sqlite3; sys.version_info >= (3,)",
            LONG,
        )
        .unwrap();
    assert_eq!(output.value.as_deref(), Some("True"), "{output:?}");
}

#[test]
fn an_interpreter_is_needed() {
    let sandbox = Sandbox::new(config().with_python("/no/such/python")).unwrap();
    let error = sandbox.session().unwrap_err();
    assert!(matches!(error, Fault::Interpreter { .. }), "{error}");
    let sandbox = Sandbox::new(config().with_python("/bin/true")).unwrap();
    let error = sandbox.session().unwrap_err();
    assert!(matches!(error, Fault::Interpreter { .. }), "{error}");
}

#[test]
fn many_threads_share_a_sandbox() {
    let sandbox = sandbox();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let request =
                    CodeRequest::new("python", format!("print({number} * 2)")).with_timeout(LONG);
                assert_eq!(
                    sandbox.run(&request).unwrap().stdout,
                    format!("{}\n", number * 2)
                );
            });
        }
    });
}

#[test]
fn a_session_outlives_the_thread_that_started_it() {
    let sandbox = sandbox();
    let mut session = std::thread::scope(|scope| scope.spawn(|| sandbox.session()).join())
        .unwrap()
        .unwrap();
    assert_eq!(
        session.call("1 + 1", LONG).unwrap().value.as_deref(),
        Some("2")
    );
}
