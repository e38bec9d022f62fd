//! The command line that gives a child its limits.
//!
//! Limits are set by `prlimit` and namespaces made by `unshare` (both util-linux), which run before the program: to
//! set them between fork and exec from here would need `unsafe`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a child may use.
pub(super) struct Limits {
    pub(super) cpu_seconds: u64,
    pub(super) memory_bytes: u64,
    pub(super) file_bytes: u64,
    pub(super) processes: u64,
}

/// A temporary folder that goes when it is dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("internlm-eval-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What the program made unreadable stays, in the system's own folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program on the path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

const UNSHARE: [&str; 7] = [
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--",
];

/// Whether a user can take a child's network and keep its processes together.
pub(super) fn can_isolate() -> bool {
    let Some(unshare) = find("unshare") else {
        return false;
    };
    Command::new(unshare)
        .args(UNSHARE)
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// `unshare … prlimit … python main.py` in the folder.
pub(super) fn command(python: &Path, folder: &Folder, limits: &Limits, isolated: bool) -> Command {
    let prlimit = find("prlimit").unwrap_or_else(|| PathBuf::from("prlimit"));
    let mut command = match find("unshare").filter(|_| isolated) {
        Some(unshare) => {
            let mut command = Command::new(unshare);
            command.args(UNSHARE).arg(prlimit);
            command
        }
        None => Command::new(prlimit),
    };
    command
        .arg(format!("--cpu={}", limits.cpu_seconds))
        .arg(format!("--as={}", limits.memory_bytes))
        .arg(format!("--fsize={}", limits.file_bytes))
        .arg(format!("--nproc={}", limits.processes))
        .args(["--nofile=256", "--core=0", "--"])
        .arg(python)
        // Without the user's packages and variables, and without writing caches.
        .args(["-I", "-B", "-X", "utf8", "main.py"])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .env("LANG", "C.UTF-8")
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
