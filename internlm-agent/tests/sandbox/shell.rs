//! What a shell must not get, either.

use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeRequest, CodeStatus};

use super::support::{LONG, processes_with, sandbox, shell};

/// Checks that a command fails, whatever it says of it.
#[track_caller]
fn fails(command: &str) {
    assert_eq!(
        shell(&format!(
            "( {command} ) >/dev/null 2>&1 && echo done || echo refused"
        )),
        "refused\n",
        "{command}"
    );
}

#[test]
fn the_usual_works() {
    assert_eq!(
        shell("for i in 1 2 3; do echo $i; done | sort -r | head -n 1"),
        "3\n"
    );
    assert_eq!(
        shell("echo text > a; cat a; pwd; id -u; echo $HOME; hostname || uname -n"),
        "text\n/work\n1000\n/work\nsandbox\n"
    );
    let output = sandbox()
        .run(
            &CodeRequest::new("sh", "read line; echo \"got $line\"; exit 4").with_stdin("a line\n"),
        )
        .unwrap();
    assert_eq!(output.status, CodeStatus::Exited(4));
    assert_eq!(output.stdout, "got a line\n");
}

#[test]
fn files_and_devices() {
    for command in [
        "cat /etc/shadow",
        "cat /etc/passwd",
        "ls /root",
        "ls /home",
        "ls /proc/1",
        "cat /proc/self/environ",
        "cat <(echo text)",
        "echo x > /proc/sys/kernel/core_pattern",
        "ls /sys",
        "touch /usr/bin/new",
        "echo x >> /run/main.sh",
        "ln -s /etc/shadow link && cat link",
        "mount -t tmpfs none /tmp",
        "mount --bind / /tmp",
        "umount /usr/bin",
        "mknod disk b 254 0",
        "chroot / true",
        "dd if=/dev/vda of=/dev/null count=1",
    ] {
        fails(command);
    }
}

#[test]
fn network_and_namespaces() {
    for command in [
        "exec 3<>/dev/tcp/127.0.0.1/22",
        "exec 3<>/dev/udp/127.0.0.1/53",
        "unshare -U true",
        "unshare -r true",
        "unshare -n true",
        "nsenter -t 1 -m true",
        "chroot /work",
    ] {
        fails(command);
    }
}

#[test]
fn setuid_programs_give_nothing() {
    for command in [
        "su -c true",
        "sudo -n true",
        "passwd --status",
        "ping -c 1 127.0.0.1",
    ] {
        fails(command);
    }
    // One of its own making.
    assert_eq!(
        shell("cp /usr/bin/id own; chmod u+s,g+s own; ./own -u; ./own -ru"),
        "1000\n1000\n"
    );
}

#[test]
fn signals_and_limits() {
    let host = std::process::id();
    for command in [
        format!("kill -0 {host}"),
        format!("kill -9 {host}"),
        "ulimit -v unlimited".into(),
        "ulimit -u 100000".into(),
        "head -c 1000000000 /dev/zero > big".into(),
    ] {
        fails(&command);
    }
    assert_eq!(
        shell("kill -9 1; kill -TERM 1; echo still here"),
        "still here\n"
    );
}

#[test]
fn the_classic_fork_bomb() {
    let request = CodeRequest::new(
        "bash",
        "bomb() { bomb | bomb & }; bomb; sleep 0.5; echo over",
    )
    .with_timeout(Duration::from_secs(20));
    let output = sandbox().run(&request).unwrap();
    // Bash may give up when it can't start another process, or get to its end; nothing else happens.
    assert!(
        matches!(output.status, CodeStatus::Exited(_) | CodeStatus::TimedOut),
        "{:?}",
        output.status
    );
    assert_eq!(shell("echo fine"), "fine\n");
}

#[test]
fn nothing_is_left() {
    let marker = format!("54321.{}", std::process::id());
    let text = shell(&format!(
        "setsid nohup sleep {marker} >/dev/null 2>&1 </dev/null & disown; (sleep {marker} &) ; sleep 0.3; echo left"
    ));
    assert_eq!(text, "left\n");
    assert!(processes_with(&marker).is_empty());
    let request = CodeRequest::new(
        "bash",
        format!("trap '' TERM INT HUP; sleep {marker} & while :; do :; done"),
    )
    .with_timeout(Duration::from_secs(1));
    assert_eq!(
        sandbox().run(&request).unwrap().status,
        CodeStatus::TimedOut
    );
    assert!(processes_with(&marker).is_empty());
}

#[test]
fn an_unknown_language_is_an_error() {
    let error = sandbox()
        .execute(&CodeRequest::new("cobol", "").with_timeout(LONG))
        .unwrap_err();
    assert!(
        matches!(error, internlm_agent::sandbox::Fault::Interpreter { .. }),
        "{error}"
    );
}
