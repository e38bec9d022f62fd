//! The files that code left, read without following it anywhere.
//!
//! The folder is held by a file descriptor, so it can be read after everything inside has ended and
//! its mounts are gone. Every path is resolved by the kernel below the folder and through no link.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fstat, openat2};

use super::fault::Fault;
use super::spec::NOBODY;

/// How deep folders are looked into.
const DEPTH: usize = 8;
/// Most files that are listed.
const FILES: usize = 4096;

/// A regular file in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// Its path, relative to the folder.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its number and the time of its last change, seconds and nanoseconds, to tell a new file from an old one.
    pub(crate) version: (u64, i64, i64),
}

/// The folder of a run or a session.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
}

impl Folder {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// All regular files, sorted by path. Links, pipes and the like are left out, and what lies
    /// deeper than eight folders.
    ///
    /// # Errors
    /// If the folder can't be read, or holds more than 4,096 files.
    #[allow(
        clippy::unnecessary_cast,
        reason = "types of times depend on the architecture"
    )]
    pub fn list(&self) -> Result<Vec<FileEntry>, Fault> {
        let mut found = Vec::new();
        let mut left = vec![(PathBuf::new(), 0)];
        while let Some((folder, depth)) = left.pop() {
            let fault = |what: String| Fault::File {
                path: folder.clone(),
                what,
            };
            // The folder itself is `.`; what lies in it could have been replaced since it was listed.
            let name = if depth == 0 { Path::new(".") } else { &folder };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = match self.open(name, flags, Mode::empty()) {
                Ok(opened) => opened,
                Err(_) if depth > 0 => continue,
                Err(error) => return Err(fault(error.to_string())),
            };
            let entries = Dir::new(opened).map_err(|error| fault(error.to_string()))?;
            for entry in entries {
                let entry = entry.map_err(|error| fault(error.to_string()))?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                let path = folder.join(name);
                match entry.file_type() {
                    FileType::Directory if depth < DEPTH => left.push((path, depth + 1)),
                    FileType::RegularFile => {
                        let Ok((_, stat)) = self.regular(&path) else {
                            continue;
                        };
                        if found.len() == FILES {
                            return Err(fault(format!("it holds more than {FILES} files")));
                        }
                        found.push(FileEntry {
                            path,
                            size: u64::try_from(stat.st_size).unwrap_or(0),
                            version: (stat.st_ino, stat.st_mtime as i64, stat.st_mtime_nsec as i64),
                        });
                    }
                    _ => {}
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If the path leads out of the folder, through a link, to what is no regular file, or to one of
    /// more than `limit` bytes.
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>, Fault> {
        let path = path.as_ref();
        let fault = |what: String| Fault::File {
            path: path.into(),
            what,
        };
        let (file, _) = self.regular(path)?;
        let mut bytes = Vec::new();
        // Not by its stated size, which may have changed since.
        File::from(file)
            .take((limit as u64).saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| fault(error.to_string()))?;
        if bytes.len() > limit {
            return Err(fault(format!("it has more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Puts a file into the folder, in place of one of its name.
    ///
    /// # Errors
    /// As [`Folder::read`], or if there is no space.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Fault> {
        let path = path.as_ref();
        let fault = |what: String| Fault::File {
            path: path.into(),
            what,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self
            .open(path, flags, Mode::from_raw_mode(0o644))
            .map_err(|error| fault(error.to_string()))?;
        let stat = fstat(&file).map_err(|error| fault(error.to_string()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(fault("it is no regular file".into()));
        }
        if rustix::process::geteuid().is_root() {
            // The code's user, who must be able to change it.
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::fs::fchown(&file, Some(uid), Some(gid))
                .map_err(|error| fault(error.to_string()))?;
        }
        let mut file = File::from(file);
        file.set_len(0)
            .and_then(|()| file.write_all(bytes))
            .map_err(|error| fault(error.to_string()))
    }

    /// Copies all regular files to a folder of this system, made if need be, and says which.
    ///
    /// # Errors
    /// If a file can't be read or written, is there already, or if all have more than `limit` bytes together.
    pub fn copy_to(&self, target: &Path, limit: usize) -> Result<Vec<PathBuf>, Fault> {
        let mut left = limit;
        let mut copied = Vec::new();
        for FileEntry { path, .. } in self.list()? {
            let bytes = self.read(&path, left)?;
            left -= bytes.len();
            let place = target.join(&path);
            place
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                // Never over a file or through a link that is there already.
                .and_then(|()| File::create_new(&place))
                .and_then(|mut file| file.write_all(&bytes))
                .map_err(|error| Fault::File {
                    path: place.clone(),
                    what: error.to_string(),
                })?;
            copied.push(place);
        }
        Ok(copied)
    }

    /// Opens a regular file for reading.
    fn regular(&self, path: &Path) -> Result<(OwnedFd, rustix::fs::Stat), Fault> {
        let fault = |what: String| Fault::File {
            path: path.into(),
            what,
        };
        // Without waiting for the other end, should it be a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self
            .open(path, flags, Mode::empty())
            .map_err(|error| fault(error.to_string()))?;
        let stat = fstat(&file).map_err(|error| fault(error.to_string()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(fault("it is no regular file".into()));
        }
        Ok((file, stat))
    }

    fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        openat2(&self.root, path, flags, mode, resolve)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(path: &Path) -> Folder {
        Folder::new(File::open(path).unwrap().into())
    }

    #[test]
    fn files_come_and_go() {
        let place = tempfile::tempdir().unwrap();
        let inside = folder(place.path());
        inside.write("a.txt", b"one, and long").unwrap();
        inside.write("a.txt", b"two").unwrap();
        fs::create_dir(place.path().join("sub")).unwrap();
        inside.write("sub/b.txt", b"three").unwrap();
        let listed = inside.list().unwrap();
        let names: Vec<_> = listed
            .iter()
            .map(|file| (file.path.to_str().unwrap(), file.size))
            .collect();
        assert_eq!(names, [("a.txt", 3), ("sub/b.txt", 5)]);
        assert_eq!(inside.read("a.txt", 3).unwrap(), b"two");
        assert!(matches!(inside.read("a.txt", 2), Err(Fault::File { .. })));

        let target = tempfile::tempdir().unwrap();
        assert_eq!(inside.copy_to(target.path(), 100).unwrap().len(), 2);
        assert_eq!(fs::read(target.path().join("sub/b.txt")).unwrap(), b"three");
        // A second time nothing is overwritten.
        assert!(inside.copy_to(target.path(), 100).is_err());
        assert!(inside.copy_to(&target.path().join("new"), 7).is_err());
    }

    #[test]
    fn no_path_leads_out() {
        let place = tempfile::tempdir().unwrap();
        let canary = tempfile::tempdir().unwrap();
        let secret = canary.path().join("secret");
        fs::write(&secret, "canary").unwrap();
        symlink(&secret, place.path().join("link")).unwrap();
        symlink(canary.path(), place.path().join("way")).unwrap();
        let inside = folder(place.path());
        assert!(inside.list().unwrap().is_empty());
        let up = format!(
            "../{}/secret",
            canary.path().file_name().unwrap().to_str().unwrap()
        );
        for path in [
            "link",
            "way/secret",
            &up,
            secret.to_str().unwrap(),
            ".",
            "none",
        ] {
            assert!(
                matches!(inside.read(path, 100), Err(Fault::File { .. })),
                "{path}"
            );
        }
        for path in [
            "link",
            "way/secret",
            "way/new",
            &up,
            secret.to_str().unwrap(),
        ] {
            assert!(
                matches!(inside.write(path, b"x"), Err(Fault::File { .. })),
                "{path}"
            );
        }
        assert_eq!(fs::read(&secret).unwrap(), b"canary");
        assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 1);
    }
}
