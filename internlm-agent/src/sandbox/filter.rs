//! The system calls that programs inside may make.
//!
//! What is not listed does not exist for them: sockets but pairs, new namespaces, mounts, tracing,
//! key rings, io_uring, bpf, perf, memory that no limit counts (`memfd_create`, System V), and
//! whatever a later kernel adds. A refused call gives `EPERM`, so programs report it and go on.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Calls of every architecture that may be made with any arguments.
fn allowed() -> Vec<i64> {
    let mut all = vec![
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_brk,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_sched_yield,
        libc::SYS_mremap,
        libc::SYS_msync,
        libc::SYS_mincore,
        libc::SYS_madvise,
        libc::SYS_dup,
        libc::SYS_nanosleep,
        libc::SYS_getitimer,
        libc::SYS_setitimer,
        libc::SYS_getpid,
        libc::SYS_sendfile,
        libc::SYS_sendto,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_shutdown,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_setsockopt,
        libc::SYS_getsockopt,
        libc::SYS_clone3,
        libc::SYS_execve,
        libc::SYS_exit,
        libc::SYS_wait4,
        libc::SYS_kill,
        libc::SYS_uname,
        libc::SYS_fcntl,
        libc::SYS_flock,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_truncate,
        libc::SYS_ftruncate,
        libc::SYS_getcwd,
        libc::SYS_chdir,
        libc::SYS_fchdir,
        libc::SYS_fchmod,
        libc::SYS_fchown,
        libc::SYS_umask,
        libc::SYS_gettimeofday,
        libc::SYS_getrlimit,
        libc::SYS_getrusage,
        libc::SYS_sysinfo,
        libc::SYS_times,
        libc::SYS_getuid,
        libc::SYS_getgid,
        libc::SYS_geteuid,
        libc::SYS_getegid,
        libc::SYS_setpgid,
        libc::SYS_getppid,
        libc::SYS_setsid,
        libc::SYS_getpgid,
        libc::SYS_getsid,
        libc::SYS_getgroups,
        libc::SYS_setresuid,
        libc::SYS_getresuid,
        libc::SYS_setresgid,
        libc::SYS_getresgid,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_rt_sigpending,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_sigsuspend,
        libc::SYS_sigaltstack,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        libc::SYS_getpriority,
        libc::SYS_setpriority,
        libc::SYS_sched_getparam,
        libc::SYS_sched_getscheduler,
        libc::SYS_sched_get_priority_max,
        libc::SYS_sched_get_priority_min,
        libc::SYS_sched_rr_get_interval,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_setaffinity,
        libc::SYS_prctl,
        libc::SYS_setrlimit,
        libc::SYS_sync,
        libc::SYS_gettid,
        libc::SYS_futex,
        libc::SYS_set_tid_address,
        libc::SYS_set_robust_list,
        libc::SYS_get_robust_list,
        libc::SYS_getdents64,
        libc::SYS_restart_syscall,
        libc::SYS_fadvise64,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_exit_group,
        libc::SYS_tgkill,
        libc::SYS_tkill,
        libc::SYS_waitid,
        libc::SYS_timer_create,
        libc::SYS_timer_settime,
        libc::SYS_timer_gettime,
        libc::SYS_timer_getoverrun,
        libc::SYS_timer_delete,
        libc::SYS_openat,
        libc::SYS_mkdirat,
        libc::SYS_fchownat,
        libc::SYS_newfstatat,
        libc::SYS_unlinkat,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_readlinkat,
        libc::SYS_fchmodat,
        libc::SYS_faccessat,
        libc::SYS_pselect6,
        libc::SYS_ppoll,
        libc::SYS_splice,
        libc::SYS_tee,
        libc::SYS_sync_file_range,
        libc::SYS_utimensat,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_settime,
        libc::SYS_timerfd_gettime,
        libc::SYS_eventfd2,
        libc::SYS_signalfd4,
        libc::SYS_dup3,
        libc::SYS_pipe2,
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_prlimit64,
        libc::SYS_syncfs,
        libc::SYS_getcpu,
        libc::SYS_sched_setattr,
        libc::SYS_sched_getattr,
        libc::SYS_renameat2,
        libc::SYS_getrandom,
        libc::SYS_membarrier,
        libc::SYS_mlock2,
        libc::SYS_copy_file_range,
        libc::SYS_preadv2,
        libc::SYS_pwritev2,
        libc::SYS_pkey_mprotect,
        libc::SYS_pkey_alloc,
        libc::SYS_pkey_free,
        libc::SYS_statx,
        libc::SYS_rseq,
        libc::SYS_pidfd_send_signal,
        libc::SYS_pidfd_open,
        libc::SYS_close_range,
        libc::SYS_openat2,
        libc::SYS_faccessat2,
        libc::SYS_epoll_pwait2,
        libc::SYS_fallocate,
        libc::SYS_mlock,
        libc::SYS_munlock,
        libc::SYS_mlockall,
        libc::SYS_munlockall,
        libc::SYS_inotify_init1,
        libc::SYS_inotify_add_watch,
        libc::SYS_inotify_rm_watch,
        libc::SYS_getxattr,
        libc::SYS_lgetxattr,
        libc::SYS_fgetxattr,
        libc::SYS_listxattr,
        libc::SYS_llistxattr,
        libc::SYS_flistxattr,
        libc::SYS_capget,
    ];
    #[cfg(not(target_arch = "riscv64"))]
    all.push(libc::SYS_renameat);
    #[cfg(target_arch = "x86_64")]
    all.extend([
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_poll,
        libc::SYS_access,
        libc::SYS_pipe,
        libc::SYS_select,
        libc::SYS_dup2,
        libc::SYS_alarm,
        libc::SYS_pause,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_rename,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_creat,
        libc::SYS_link,
        libc::SYS_unlink,
        libc::SYS_symlink,
        libc::SYS_readlink,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_getpgrp,
        libc::SYS_utime,
        libc::SYS_time,
        libc::SYS_utimes,
        libc::SYS_epoll_create,
        libc::SYS_epoll_wait,
        libc::SYS_eventfd,
        libc::SYS_signalfd,
        libc::SYS_futimesat,
        libc::SYS_getdents,
        libc::SYS_arch_prctl,
        libc::SYS_inotify_init,
    ]);
    all
}

/// Flags of `clone` that make namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Installs both filters, for good.
pub(crate) fn install() -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    // `clone3` takes its flags by pointer, where no filter sees them. Said not to exist, it makes
    // the C library fall back to `clone`. Of two refusals the one of the later filter counts, and
    // that one lets this call pass.
    let unknown = filter(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        arch,
    )?;
    let listed = filter(
        rules()?,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
        arch,
    )?;
    apply_filter(&unknown).map_err(|error| error.to_string())?;
    apply_filter(&listed).map_err(|error| error.to_string())
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    mismatch: SeccompAction,
    matched: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, String> {
    SeccompFilter::new(rules, mismatch, matched, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = allowed()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    // No namespaces.
    rules.insert(
        libc::SYS_clone,
        vec![only(0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)?],
    );
    // Event loops wake themselves through a pair of sockets; no other socket is needed.
    rules.insert(
        libc::SYS_socketpair,
        vec![only(
            0,
            SeccompCmpOp::Eq,
            libc::AF_UNIX.cast_unsigned().into(),
        )?],
    );
    // No typing into a terminal.
    rules.insert(
        libc::SYS_ioctl,
        vec![both(
            (1, SeccompCmpOp::Ne, libc::TIOCSTI),
            (1, SeccompCmpOp::Ne, libc::TIOCLINUX),
        )?],
    );
    // Asking for the personality, and the plain one; no address space without randomness.
    rules.insert(
        libc::SYS_personality,
        vec![
            only(0, SeccompCmpOp::Eq, 0)?,
            only(0, SeccompCmpOp::Eq, 0xffff_ffff)?,
        ],
    );
    Ok(rules)
}

/// A rule on the low half of one argument: the kernel reads these arguments as 32 bits.
fn only(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| error.to_string())
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the type of these numbers depends on the C library"
)]
fn both(
    first: (u8, SeccompCmpOp, libc::Ioctl),
    second: (u8, SeccompCmpOp, libc::Ioctl),
) -> Result<SeccompRule, String> {
    let condition = |(argument, op, value): (u8, SeccompCmpOp, libc::Ioctl)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value as u64)
    };
    condition(first)
        .and_then(|first| SeccompRule::new(vec![first, condition(second)?]))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that must never be on the list, by what they would give.
    const NEVER: [i64; 30] = [
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_memfd_create,
        libc::SYS_shmget,
        libc::SYS_open_by_handle_at,
        libc::SYS_seccomp,
        libc::SYS_execveat,
        libc::SYS_mknodat,
    ];

    #[test]
    fn what_must_be_refused_is_not_listed() {
        let rules = rules().unwrap();
        for call in NEVER {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut all = allowed();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
