//! This side of the walls: starting the launcher, mapping its users, ending it.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::fault::Fault;
use super::layers::Layers;
use super::spec::{INNER_ID, LAUNCHER_NAME, NOBODY, Order, Report, Spec};
use super::wire;

/// Whether this program can be its own launcher.
pub(crate) static INITIALISED: AtomicBool = AtomicBool::new(false);

/// How long building the place may take, and then the start of a session's interpreter.
pub(crate) const START: Duration = Duration::from_secs(20);
/// How long the end of everything inside may take before the launcher is killed.
pub(crate) const END: Duration = Duration::from_secs(5);

/// The program that becomes the launcher.
pub(crate) fn launcher(named: Option<&Path>) -> Result<PathBuf, Fault> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None if INITIALISED.load(Ordering::Relaxed) => Ok("/proc/self/exe".into()),
        None => Err(Fault::NoLauncher),
    }
}

/// Something that runs inside.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) control: UnixStream,
    pub(crate) layers: Layers,
    pub(crate) folder: OwnedFd,
}

impl Running {
    /// Starts the launcher, maps its users and waits until all layers are up.
    pub(crate) fn start(
        launcher: &Path,
        spec: &Spec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Self, Fault> {
        let (control, theirs) = UnixStream::pair().map_err(system("a socket"))?;
        let mut command = Command::new(launcher);
        command
            .arg0(LAUNCHER_NAME)
            .arg("outer")
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // The launcher may need it to find this program's own libraries; the code never sees it.
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        let child = command.spawn().map_err(system("starting the launcher"))?;
        // From here on the launcher and all below it end when `control` is closed.
        drop(command);
        let mut starting = Starting { child: Some(child) };
        control
            .set_read_timeout(Some(START))
            .and_then(|()| control.set_write_timeout(Some(START)))
            .map_err(system("a socket"))?;
        wire::send(&control, spec, fds).map_err(system("telling the launcher"))?;
        loop {
            match wire::recv::<Report>(&control).map_err(system("hearing the launcher"))? {
                Some((Report::Unshared { user }, _)) => {
                    if user {
                        map_users(starting.id()).map_err(system("mapping users"))?;
                    }
                    wire::send(&control, &Order::Mapped, &[]).map_err(system("the launcher"))?;
                }
                Some((Report::Started { layers }, mut fds)) => {
                    let (Some(folder), Some(child)) = (fds.pop(), starting.child.take()) else {
                        return Err(unexpected("no folder"));
                    };
                    return Ok(Running {
                        child,
                        control,
                        layers,
                        folder,
                    });
                }
                Some((Report::Failed { layer, what }, _)) => {
                    return Err(match layer {
                        Some(layer) => Fault::Layer { layer, what },
                        None => Fault::Start { what },
                    });
                }
                Some((Report::Limit { what }, _)) => return Err(Fault::Start { what }),
                Some((Report::Exited { .. }, _)) => return Err(unexpected("an exit")),
                None => return Err(unexpected("it ended before it began")),
            }
        }
    }

    /// Asks the program to stop what it is doing.
    pub(crate) fn interrupt(&self) {
        // If it is gone already, the next report says so.
        wire::send(&self.control, &Order::Interrupt, &[]).ok();
    }

    /// Ends the launcher, and so everything, without asking.
    pub(crate) fn kill(&mut self) -> Result<(), Fault> {
        self.child.kill().map_err(system("killing the launcher"))
    }

    /// Has everything inside ended; the end is reported by the control socket's.
    pub(crate) fn end(&self) {
        self.control.shutdown(std::net::Shutdown::Write).ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        self.control.set_read_timeout(Some(END)).ok();
        // Its last holder is the launcher, which ends when nothing inside is left.
        while let Ok(Some(_)) = wire::recv::<Report>(&self.control) {}
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A launcher that is killed unless it comes up.
struct Starting {
    child: Option<Child>,
}

impl Starting {
    fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Fault {
    move |error| Fault::system(what, error)
}

pub(crate) fn unexpected(what: &str) -> Fault {
    Fault::Launcher { what: what.into() }
}

/// Maps the users of the launcher's new namespace. Root gives its code to `nobody`, and stays root
/// inside as long as mounts are made; anyone else can map no one but themselves.
fn map_users(pid: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let file = |name: &str| format!("/proc/{pid}/{name}");
    if uid.is_root() {
        let map = format!("0 0 1\n{INNER_ID} {NOBODY} 1\n");
        fs::write(file("uid_map"), &map)?;
        fs::write(file("gid_map"), &map)
    } else {
        fs::write(file("uid_map"), format!("{INNER_ID} {} 1\n", uid.as_raw()))?;
        fs::write(file("setgroups"), "deny")?;
        fs::write(file("gid_map"), format!("{INNER_ID} {} 1\n", gid.as_raw()))
    }
}

/// A pipe whose end for this side never blocks, as that end and the other.
pub(crate) fn pipe_to_read() -> Result<(OwnedFd, OwnedFd), Fault> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(system("a pipe"))?;
    nonblocking(&read)?;
    Ok((read, write))
}

/// As [`pipe_to_read`], to write to.
pub(crate) fn pipe_to_write() -> Result<(OwnedFd, OwnedFd), Fault> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(system("a pipe"))?;
    nonblocking(&write)?;
    Ok((write, read))
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Fault> {
    rustix::fs::fcntl_getfl(fd)
        .and_then(|flags| rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK))
        .map_err(system("a pipe"))
}
