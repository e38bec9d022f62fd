//! System calls that would give more than a program needs.

use super::support::refused;

fn call(number: i64, arguments: &str) -> String {
    format!("syscall({number}, {arguments})")
}

#[test]
fn namespaces_and_mounts_are_refused() {
    refused(&[
        (
            &call(libc::SYS_unshare, &libc::CLONE_NEWUSER.to_string()),
            "EPERM",
        ),
        (
            &call(libc::SYS_unshare, &libc::CLONE_NEWNS.to_string()),
            "EPERM",
        ),
        (
            &call(
                libc::SYS_clone,
                &format!("{}, 0, 0, 0, 0", libc::CLONE_NEWUSER | libc::SIGCHLD),
            ),
            "EPERM",
        ),
        (&call(libc::SYS_clone3, "0, 0"), "ENOSYS"),
        (&call(libc::SYS_setns, "0, 0"), "EPERM"),
        (&call(libc::SYS_mount, "0, 0, 0, 0, 0"), "EPERM"),
        (&call(libc::SYS_umount2, "0, 0"), "EPERM"),
        (&call(libc::SYS_pivot_root, "0, 0"), "EPERM"),
        (&call(libc::SYS_chroot, "0"), "EPERM"),
        (&call(libc::SYS_fsopen, "0, 0"), "EPERM"),
        (&call(libc::SYS_open_tree, "0, 0, 0"), "EPERM"),
        (&call(libc::SYS_open_by_handle_at, "0, 0, 0"), "EPERM"),
        ("os.chroot('/work')", "EPERM"),
    ]);
}

#[test]
fn other_processes_are_out_of_reach() {
    refused(&[
        (&call(libc::SYS_ptrace, "16, 1, 0, 0"), "EPERM"),
        (&call(libc::SYS_ptrace, "0, 0, 0, 0"), "EPERM"),
        (
            &call(libc::SYS_process_vm_readv, "1, 0, 0, 0, 0, 0"),
            "EPERM",
        ),
        (
            &call(libc::SYS_process_vm_writev, "1, 0, 0, 0, 0, 0"),
            "EPERM",
        ),
        (&call(libc::SYS_pidfd_getfd, "0, 0, 0"), "EPERM"),
        (&call(libc::SYS_kcmp, "1, 1, 0, 0, 0"), "EPERM"),
        ("os.setpriority(os.PRIO_PROCESS, 0, -5)", "EACCES"),
    ]);
}

#[test]
fn parts_of_the_kernel_that_no_program_needs_are_refused() {
    refused(&[
        (&call(libc::SYS_keyctl, "0, -3, 0"), "EPERM"),
        (&call(libc::SYS_add_key, "0, 0, 0, 0, -3"), "EPERM"),
        (&call(libc::SYS_request_key, "0, 0, 0, 0"), "EPERM"),
        (&call(libc::SYS_io_uring_setup, "8, 0"), "EPERM"),
        (&call(libc::SYS_bpf, "0, 0, 0"), "EPERM"),
        (&call(libc::SYS_perf_event_open, "0, 0, -1, -1, 0"), "EPERM"),
        (&call(libc::SYS_userfaultfd, "0"), "EPERM"),
        (&call(libc::SYS_reboot, "0, 0, 0, 0"), "EPERM"),
        (&call(libc::SYS_init_module, "0, 0, 0"), "EPERM"),
        (&call(libc::SYS_kexec_load, "0, 0, 0, 0"), "EPERM"),
        (&call(libc::SYS_sethostname, "0, 0"), "EPERM"),
        (&call(libc::SYS_clock_settime, "0, 0"), "EPERM"),
        (&call(libc::SYS_syslog, "3, 0, 0"), "EPERM"),
        (&call(libc::SYS_personality, "0x0040000"), "EPERM"),
        // Memory that no limit counts.
        (&call(libc::SYS_memfd_create, "0, 0"), "EPERM"),
        (&call(libc::SYS_shmget, "0, 4096, 0o1600"), "EPERM"),
        (&call(libc::SYS_mq_open, "0, 0, 0, 0"), "EPERM"),
        // A call that this kernel does not know, either.
        (&call(100_000, "0"), "EPERM"),
    ]);
}

#[test]
fn rights_do_not_come_back() {
    refused(&[
        ("os.setuid(0)", "EPERM|EINVAL"),
        ("os.setresuid(0, 0, 0)", "EPERM|EINVAL"),
        ("os.setgid(0)", "EPERM|EINVAL"),
        ("os.setgroups([0])", "EPERM"),
        (
            "__import__('resource').setrlimit(7, (4096, 4096))",
            "ValueError",
        ),
        (
            "__import__('resource').setrlimit(9, (-1, -1))",
            "ValueError",
        ),
        (
            "libc.prctl(38, 0, 0, 0, 0) == -1 and libc.prctl(39, 0, 0, 0, 0) == 1 and 1 / 0",
            "ZeroDivisionError",
        ),
    ]);
}
