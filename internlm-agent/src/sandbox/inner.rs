//! The first process inside: builds the root, gives up every right, starts the program, and reaps.
//!
//! In its pid namespace it is process 1: whatever way it ends, the kernel ends everything else there.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::layers::{Layer, LayerState};
use super::outer::{self, Failure, failure};
use super::spec::{FOLDER, Handover, INNER_ID, NOBODY, Order, Program, Report, SCRIPTS};
use super::{restrict, root, wire};

/// How often orphans are reaped.
const REAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Runs the first process inside to its end.
pub(crate) fn run() {
    let Ok(launcher) = io::stdin().as_fd().try_clone_to_owned() else {
        return;
    };
    let launcher = UnixStream::from(launcher);
    let Ok(Some((handover, mut fds))) = wire::recv::<Handover>(&launcher) else {
        return;
    };
    if fds.is_empty() {
        return;
    }
    let control = UnixStream::from(fds.remove(0));
    if let Err((layer, what)) = inside(&launcher, &control, handover, fds) {
        wire::send(&control, &Report::Failed { layer, what }, &[]).ok();
    }
}

fn inside(
    launcher: &UnixStream,
    control: &UnixStream,
    handover: Handover,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let Handover { spec, mut layers } = handover;
    // No terminal, and no one else's process group.
    rustix::process::setsid().map_err(failure(None, "setsid"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    outer::leave(
        &spec,
        &mut layers,
        Layer::MountNamespace,
        CloneFlags::CLONE_NEWNS,
    )?;
    let own_root = layers.holds(Layer::MountNamespace);
    // Without a user namespace, numbers are those of the host.
    let user = match layers.holds(Layer::UserNamespace) {
        true => INNER_ID,
        false => NOBODY,
    };
    let (folder, scripts) = if own_root {
        root::build(&spec, user)?;
        (PathBuf::from(FOLDER), PathBuf::from(SCRIPTS))
    } else {
        let folder = spec
            .plain_folder
            .clone()
            .ok_or((Some(Layer::MountNamespace), "there is no folder".to_owned()))?;
        if let Some(program) = &spec.program {
            let (name, text) = &program.script;
            fs::write(folder.join(name), text).map_err(failure(None, "the script"))?;
        }
        (folder.clone(), folder)
    };
    if layers.holds(Layer::UtsNamespace) {
        rustix::system::sethostname(b"sandbox")
            .map_err(failure(Layer::UtsNamespace, "the host's name"))?;
    }
    let opened = rustix::fs::open(
        &folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failure(None, "the folder"))?;
    rustix::process::chdir(&folder).map_err(failure(None, "the folder"))?;
    restrict::all(&spec, &folder, user, own_root, &mut layers)?;
    for (layer, state) in layers.states() {
        if let LayerState::Missing(what) = state
            && !spec.optional.contains(layer)
        {
            return Err((Some(*layer), what.clone()));
        }
    }
    let program = spec.program;
    wire::send(control, &Report::Started { layers }, &[opened.as_fd()])
        .map_err(failure(None, "the host"))?;
    drop(opened);
    match program {
        None => Ok(()),
        Some(program) => {
            let pid = spawn(program, &scripts, &folder, fds)?;
            attend(launcher, control, pid).map_err(failure(None, "waiting"))
        }
    }
}

/// Starts the program with the first three files as its standard streams, and no other file but
/// those that follow them.
fn spawn(
    program: Program,
    scripts: &Path,
    folder: &Path,
    fds: Vec<OwnedFd>,
) -> Result<Pid, Failure> {
    let mut fds = fds.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) = (fds.next(), fds.next(), fds.next()) else {
        return Err((None, "streams are missing".into()));
    };
    let script = scripts.join(&program.script.0);
    let extra: Vec<OwnedFd> = fds.collect();
    let mut command = Command::new(&program.path);
    for argument in &program.args {
        match argument.as_str() {
            "{script}" => command.arg(&script),
            _ => command.arg(argument),
        };
    }
    for fd in &extra {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(failure(None, "a pipe"))?;
        command.arg(fd.as_raw_fd().to_string());
    }
    let child = command
        .env_clear()
        .env("HOME", folder)
        .envs(program.env)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .spawn()
        .map_err(failure(
            None,
            &format!("starting {}", program.path.display()),
        ))?;
    Pid::from_raw(child.id().cast_signed()).ok_or((None, "no process".into()))
}

/// Reaps until the program has ended, the host says so, or the launcher is gone.
fn attend(launcher: &UnixStream, control: &UnixStream, program: Pid) -> io::Result<()> {
    loop {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == program => {
                    let report = Report::Exited {
                        code: status.exit_status().unwrap_or(-1),
                        signal: status.terminating_signal(),
                    };
                    return wire::send(control, &report, &[]);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // A file for the program's end, so that it is reported at once.
        let pidfd = rustix::process::pidfd_open(program, rustix::process::PidfdFlags::empty())?;
        let mut fds = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(control, PollFlags::IN),
            PollFd::new(launcher, PollFlags::IN),
        ];
        match poll(&mut fds, Some(&REAP)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[2].revents().is_empty() {
            return Ok(());
        }
        if !fds[1].revents().is_empty() {
            match wire::recv::<Order>(control)? {
                Some((Order::Interrupt, _)) => {
                    rustix::process::kill_process(program, Signal::INT).ok();
                }
                Some((Order::Mapped, _)) => {}
                None => return Ok(()),
            }
        }
    }
}
