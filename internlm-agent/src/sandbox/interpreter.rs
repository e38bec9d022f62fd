//! Where an interpreter lies, and what of this system it needs to see.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::fault::Fault;

/// What the dynamic loader and the C library read, apart from libraries.
const COMMON: [&str; 4] = [
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/usr/share/zoneinfo",
    "/usr/lib/locale",
];
/// Where libraries lie.
const LIBRARIES: [&str; 8] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/local/lib",
];
/// Where the programs of a shell lie.
const PROGRAMS: [&str; 2] = ["/bin", "/usr/bin"];

/// Asks an interpreter where it is at home.
const PROBE: &str = "import sys, json; print(json.dumps({'executable': sys.executable, \
    'prefixes': [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix], \
    'path': sys.path}))";

/// An interpreter, with the folders and links that it needs inside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interpreter {
    pub(crate) program: PathBuf,
    pub(crate) mounts: BTreeSet<PathBuf>,
    pub(crate) links: BTreeSet<(PathBuf, PathBuf)>,
}

#[derive(Deserialize)]
struct Home {
    executable: PathBuf,
    prefixes: Vec<PathBuf>,
    path: Vec<PathBuf>,
}

impl Interpreter {
    /// Python: its own folders and system libraries, no programs.
    pub(crate) fn python(program: &Path) -> Result<Self, Fault> {
        let fault = |what: String| Fault::Interpreter {
            language: "python".into(),
            what: format!("{}: {what}", program.display()),
        };
        let output = Command::new(program)
            .args(["-I", "-c", PROBE])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| fault(error.to_string()))?;
        if !output.status.success() {
            return Err(fault(output.status.to_string()));
        }
        let home: Home =
            serde_json::from_slice(&output.stdout).map_err(|error| fault(error.to_string()))?;
        let mut found = Self {
            program: home.executable.clone(),
            ..Self::default()
        };
        for prefix in &home.prefixes {
            if is_home(prefix) {
                return Err(fault(format!(
                    "its prefix {} is someone's home",
                    prefix.display()
                )));
            }
            // A prefix that the interpreter shares with the rest of the system shows its libraries alone.
            if is_shared(prefix) {
                found.see(&prefix.join("lib"));
            } else {
                found.see(prefix);
            }
        }
        for folder in &home.path {
            // Not the projects that an editable install points to: only where packages are installed.
            let name = folder.file_name().and_then(OsStr::to_str);
            if matches!(name, Some("site-packages" | "dist-packages")) {
                found.see(folder);
            }
        }
        found.see(&home.executable);
        found.system();
        Ok(found)
    }

    /// A shell and the programs of the system.
    pub(crate) fn shell(name: &str) -> Result<Self, Fault> {
        let program = PROGRAMS
            .iter()
            .rev()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.is_file())
            .ok_or_else(|| Fault::Interpreter {
                language: name.into(),
                what: "it is not in /usr/bin or /bin".into(),
            })?;
        let mut found = Self {
            program,
            ..Self::default()
        };
        for folder in PROGRAMS {
            found.see(Path::new(folder));
        }
        found.system();
        Ok(found)
    }

    /// Libraries, and what the loader reads.
    fn system(&mut self) {
        for path in LIBRARIES.iter().chain(&COMMON) {
            self.see(Path::new(path));
        }
    }

    /// Makes a path of this system, if it is there, readable inside: its links as links, what they
    /// lead to as a mount.
    pub(crate) fn see(&mut self, path: &Path) {
        let mut left: Vec<PathBuf> = path.components().rev().map(as_path).collect();
        let mut at = PathBuf::new();
        // Forty links are what the kernel follows, too.
        let mut links = 0;
        while let Some(step) = left.pop() {
            if step == Path::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            match fs::read_link(&next) {
                Ok(target) if links < 40 => {
                    links += 1;
                    left.extend(target.components().rev().map(as_path));
                    self.links.insert((next, target));
                }
                _ => at = next,
            }
        }
        if at.exists() {
            self.mounts.insert(at);
        }
    }

    /// The mounts without those that lie in others.
    pub(crate) fn outermost(&self) -> Vec<PathBuf> {
        let mut kept: Vec<PathBuf> = Vec::new();
        // In order, a folder comes before what lies in it.
        for path in &self.mounts {
            if !kept.iter().any(|above| path.starts_with(above)) {
                kept.push(path.clone());
            }
        }
        kept
    }
}

/// A component as a path; `.` vanishes when joined.
fn as_path(component: Component<'_>) -> PathBuf {
    match component {
        Component::CurDir => PathBuf::new(),
        other => PathBuf::from(other.as_os_str()),
    }
}

/// Whether a path is a home folder or lies above one.
fn is_home(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let above_home = home.is_some_and(|home| home != Path::new("/") && home.starts_with(path));
    above_home && !is_shared(path)
}

/// Whether a prefix is one of the system's, which programs of all kinds share.
fn is_shared(prefix: &Path) -> bool {
    ["/", "/usr", "/usr/local"]
        .iter()
        .any(|shared| Path::new(shared) == prefix)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_links_and_what_they_lead_to_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/bin")).unwrap();
        fs::write(root.join("real/bin/p3.1"), "").unwrap();
        symlink("p3.1", root.join("real/bin/p3")).unwrap();
        symlink("real", root.join("short")).unwrap();
        let mut found = Interpreter::default();
        found.see(&root.join("short/../short/bin/p3"));
        assert_eq!(
            found.mounts.into_iter().collect::<Vec<_>>(),
            [root.join("real/bin/p3.1")]
        );
        assert_eq!(
            found.links.into_iter().collect::<Vec<_>>(),
            [
                (root.join("real/bin/p3"), PathBuf::from("p3.1")),
                (root.join("short"), PathBuf::from("real")),
            ]
        );
    }

    #[test]
    fn a_circle_of_links_and_a_missing_path_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let mut found = Interpreter::default();
        found.see(&root.join("a"));
        found.see(&root.join("none"));
        assert!(found.mounts.is_empty());
    }

    #[test]
    fn only_the_outermost_folders_are_mounted() {
        let mut found = Interpreter::default();
        for path in ["/usr/lib/x", "/usr/lib", "/usr/lib64", "/usr/lib/x/y"] {
            found.mounts.insert(path.into());
        }
        assert_eq!(
            found.outermost(),
            [PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")]
        );
    }
}
