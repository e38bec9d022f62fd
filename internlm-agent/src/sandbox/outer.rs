//! The launcher: a small process with one thread that leaves the host's namespaces, starts the first
//! process inside, watches how much memory everything inside holds, and ends when all of it has.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::layers::{Layer, LayerState, Layers};
use super::spec::{Handover, LAUNCHER_NAME, Order, Report, Spec};
use super::wire;

/// How often memory is looked at.
const WATCH: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// A layer that could not be raised, or something else that failed.
pub(crate) type Failure = (Option<Layer>, String);

/// Turns an error of a named step into a failure.
pub(crate) fn failure<E: std::fmt::Display>(
    layer: impl Into<Option<Layer>>,
    what: &str,
) -> impl FnOnce(E) -> Failure {
    let layer = layer.into();
    let what = what.to_owned();
    move |error| (layer, format!("{what}: {error}"))
}

/// Runs the launcher to its end.
pub(crate) fn run() {
    // What the host opened without close-on-exec is nobody's business inside.
    if close_inherited().is_err() {
        return;
    }
    let Ok(control) = io::stdin().as_fd().try_clone_to_owned() else {
        return;
    };
    let control = UnixStream::from(control);
    if let Err((layer, what)) = launch(&control) {
        // If the host is gone there is no one left to tell.
        wire::send(&control, &Report::Failed { layer, what }, &[]).ok();
    }
}

/// Closes every file but the standard streams.
fn close_inherited() -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|s| s.parse().ok()) {
            open.push(fd);
        }
    }
    for fd in open.into_iter().filter(|fd: &i32| *fd > 2) {
        // One of them was the listing itself, which is closed by now.
        nix::unistd::close(fd).ok();
    }
    Ok(())
}

fn launch(control: &UnixStream) -> Result<(), Failure> {
    let Some((spec, fds)) = wire::recv::<Spec>(control).map_err(failure(None, "the order"))? else {
        return Ok(());
    };
    let mut layers = Layers::default();
    namespaces(&spec, &mut layers)?;
    let user = layers.holds(Layer::UserNamespace);
    wire::send(control, &Report::Unshared { user }, &[]).map_err(failure(None, "the host"))?;
    match wire::recv::<Order>(control).map_err(failure(None, "the host"))? {
        Some((Order::Mapped, _)) => {}
        _ => return Ok(()),
    }
    if user {
        keep_capabilities().map_err(failure(Layer::UserNamespace, "capabilities"))?;
    }
    let pids = layers.holds(Layer::PidNamespace);
    if !pids {
        // Whatever loses its parent becomes a child of this process, which ends it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(failure(None, "subreaper"))?;
    }
    layers.set(
        Layer::MemoryWatch,
        match can_watch() {
            true => LayerState::Holds(String::new()),
            false => LayerState::Missing("/proc does not list children".into()),
        },
    );
    let memory = spec.limits.memory_bytes;
    let mut child = start_inner(control, spec, layers, fds)?;
    watch(control, &mut child, memory).map_err(failure(None, "waiting"))?;
    if !pids {
        end_descendants();
    }
    Ok(())
}

/// Leaves the host's namespaces; those that stay must be optional. The mounts are left by the first
/// process inside: this one goes on needing the host's `/proc`.
fn namespaces(spec: &Spec, layers: &mut Layers) -> Result<(), Failure> {
    let all = [
        (Layer::UserNamespace, CloneFlags::CLONE_NEWUSER),
        (Layer::PidNamespace, CloneFlags::CLONE_NEWPID),
        (Layer::NetworkNamespace, CloneFlags::CLONE_NEWNET),
        (Layer::IpcNamespace, CloneFlags::CLONE_NEWIPC),
        (Layer::UtsNamespace, CloneFlags::CLONE_NEWUTS),
    ];
    let together = all
        .iter()
        .fold(CloneFlags::empty(), |flags, (_, flag)| flags | *flag);
    let whole = unshare(together).is_ok();
    for (layer, flag) in all {
        if whole {
            layers.set(layer, LayerState::Holds(String::new()));
        } else {
            leave(spec, layers, layer, flag)?;
        }
    }
    Ok(())
}

/// Leaves one namespace of the host, or notes that it stays.
pub(crate) fn leave(
    spec: &Spec,
    layers: &mut Layers,
    layer: Layer,
    flag: CloneFlags,
) -> Result<(), Failure> {
    match unshare(flag) {
        Ok(()) => layers.set(layer, LayerState::Holds(String::new())),
        Err(error) if spec.optional.contains(&layer) => {
            layers.set(layer, LayerState::Missing(format!("unshare: {error}")));
        }
        Err(error) => return Err((Some(layer), format!("unshare: {error}"))),
    }
    Ok(())
}

/// Lets the capabilities within the new user namespace pass through the next `execve`, for a user
/// who isn't root inside. The first process inside needs them for its mounts and drops them then.
fn keep_capabilities() -> rustix::io::Result<()> {
    let kept = CapabilitySet::SYS_ADMIN
        | CapabilitySet::SETPCAP
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE;
    let sets = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            inheritable: kept,
            ..sets
        },
    )?;
    for capability in kept.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Starts the first process inside and hands it everything; no file of the code stays here.
fn start_inner(
    control: &UnixStream,
    spec: Spec,
    layers: Layers,
    fds: Vec<OwnedFd>,
) -> Result<Child, Failure> {
    let (ours, theirs) = UnixStream::pair().map_err(failure(None, "a socket"))?;
    let child = Command::new("/proc/self/exe")
        .arg0(LAUNCHER_NAME)
        .arg("inner")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failure(None, "the first process inside"))?;
    let mut all = vec![control.as_fd()];
    all.extend(fds.iter().map(AsFd::as_fd));
    wire::send(&ours, &Handover { spec, layers }, &all).map_err(failure(None, "handing over"))?;
    // Kept open until this process ends: the first process inside ends with it.
    std::mem::forget(ours);
    Ok(child)
}

/// Waits for the first process inside, and so, in a pid namespace, for every one.
fn watch(control: &UnixStream, child: &mut Child, memory: u64) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else {
        return child.wait().map(drop);
    };
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut told = false;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&WATCH)) {
            Ok(0) => {}
            Ok(_) => return child.wait().map(drop),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !told && memory_of_tree(child.id()) > memory {
            told = true;
            let what = format!("memory: all processes together hold more than {memory} bytes");
            wire::send(control, &Report::Limit { what }, &[]).ok();
            child.kill()?;
        }
    }
}

/// Bytes of memory, not of files, that a process and all below it hold. What several share counts
/// for each, so this is never too low.
fn memory_of_tree(root: u32) -> u64 {
    let mut sum = 0;
    let mut left = vec![root];
    let mut seen = BTreeSet::new();
    while let Some(pid) = left.pop() {
        if !seen.insert(pid) {
            continue;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        sum += status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| matches!(*name, "RssAnon" | "RssShmem" | "VmSwap"))
            .filter_map(|(_, value)| value.trim().trim_end_matches("kB").trim().parse().ok())
            .map(|kib: u64| kib << 10)
            .sum::<u64>();
        left.extend(children_of(pid));
    }
    sum
}

/// The children of a process, of all its threads.
fn children_of(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return found;
    };
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|s| s.parse::<u32>().ok()),
        );
    }
    found
}

/// Whether this system tells who the children of a process are.
fn can_watch() -> bool {
    let me = std::process::id();
    fs::read_to_string(format!("/proc/{me}/task/{me}/children")).is_ok()
}

/// Without a pid namespace: ends what the program left behind. A process that dies leaves its
/// children to this one, so a few rounds reach all of them.
fn end_descendants() {
    for _ in 0..1000 {
        let children = children_of(std::process::id());
        if children.is_empty() {
            return;
        }
        for pid in children {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                rustix::process::kill_process(pid, Signal::KILL).ok();
            }
        }
        std::thread::sleep(Duration::from_millis(1));
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}
