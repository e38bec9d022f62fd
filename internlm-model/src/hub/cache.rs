//! The cache folder, shared with Python's `huggingface_hub` and the `hf-hub` crate:
//!
//! ```text
//! models--org--name/refs/main                     the commit that `main` pointed to
//! models--org--name/snapshots/<commit>/<file>     a relative link to the blob
//! models--org--name/blobs/<hash>                  SHA-256 of a large file, git hash of a small one
//! models--org--name/blobs/<hash>.incomplete       a download that may be resumed
//! .locks/models--org--name/<hash>.lock            `flock`ed by whoever downloads the blob
//! ```

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hf_hub::{Cache, Repo, RepoType};

use super::error::{Error, Result};
use super::names::is_commit;

/// The part of the cache that belongs to one repository.
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
    repo: hf_hub::CacheRepo,
}

/// Held while a blob is written; released when dropped.
pub(super) struct Lock {
    _file: File,
}

impl RepoCache {
    /// `repo` has been checked to be a hub id.
    pub(super) fn new(root: &Path, repo: &str) -> Self {
        let repo = Repo::new(repo.to_owned(), RepoType::Model);
        let name = repo.folder_name();
        Self {
            folder: root.join(&name),
            locks: root.join(".locks").join(name),
            repo: Cache::new(root.to_owned()).repo(repo),
        }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    pub(super) fn partial(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{hash}.incomplete"))
    }

    /// The commit that a revision had when it was last fetched.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Notes the commit of a revision. Written last, so a reference leads to a whole snapshot.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let file = self.folder.join("refs").join(revision);
        let temporary = self.temporary(&file)?;
        fs::write(&temporary, commit).map_err(Error::io(&temporary))?;
        fs::rename(&temporary, &file).map_err(Error::io(&file))
    }

    /// The size of a snapshot's file, if it is there and its link is not broken.
    pub(super) fn size(&self, commit: &str, name: &str) -> Option<u64> {
        let file = fs::metadata(self.snapshot(commit).join(name)).ok()?;
        file.is_file().then_some(file.len())
    }

    /// The files of a snapshot, with `/` between folders, sorted. Broken links are left out.
    pub(super) fn names(&self, commit: &str) -> Vec<String> {
        fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
            let Ok(entries) = fs::read_dir(folder) else {
                return;
            };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = entry.path();
                match fs::metadata(&path) {
                    Ok(file) if file.is_file() => names.push(format!("{prefix}{name}")),
                    Ok(file) if file.is_dir() && depth > 0 => {
                        walk(&path, &format!("{prefix}{name}/"), depth - 1, names);
                    }
                    _ => {}
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.snapshot(commit), "", 16, &mut names);
        names.sort();
        names
    }

    /// Puts a blob's link into a snapshot, replacing what is there.
    pub(super) fn link(&self, commit: &str, name: &str, hash: &str) -> Result<()> {
        let pointer = self.snapshot(commit).join(name);
        let temporary = self.temporary(&pointer)?;
        // From `snapshots/<commit>/` up to the repository's folder, and once more a subfolder.
        let mut target: PathBuf = "../..".into();
        target.extend(std::iter::repeat_n("..", name.matches('/').count()));
        target.extend(["blobs", hash]);
        symlink(&target, &self.blob(hash), &temporary).map_err(Error::io(&temporary))?;
        fs::rename(&temporary, &pointer).map_err(Error::io(&pointer))
    }

    /// A fresh name on the same disk, beside the locks, where no reader of the cache looks. Makes
    /// the folder of `file` too.
    fn temporary(&self, file: &Path) -> Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        for folder in [Some(self.locks.as_path()), file.parent()]
            .into_iter()
            .flatten()
        {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count}.tmp", std::process::id());
        let file = self.locks.join(name);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::Io { file, source: e }),
            _ => Ok(file),
        }
    }

    /// Waits for the lock of a blob, for as long as its holder makes progress.
    ///
    /// # Errors
    /// [`Error::Locked`] if nothing of the blob has grown for `patience`.
    pub(super) fn lock(&self, hash: &str, patience: Duration) -> Result<Lock> {
        for folder in [self.locks.clone(), self.folder.join("blobs")] {
            fs::create_dir_all(&folder).map_err(Error::io(folder))?;
        }
        let lock = self.locks.join(format!("{hash}.lock"));
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock);
        let file = options.map_err(Error::io(&lock))?;
        let (mut seen, mut since) = (self.written(hash), Instant::now());
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                    // Two writers are then told apart by the hash check alone.
                    tracing::warn!(lock = %lock.display(), "this file system has no locks");
                    return Ok(Lock { _file: file });
                }
                Err(TryLockError::Error(source)) => return Err(Error::Io { file: lock, source }),
            }
            let now = self.written(hash);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() >= patience {
                return Err(Error::Locked { lock });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Bytes of a blob on disk, partial ones under any name included.
    fn written(&self, hash: &str) -> u64 {
        let Ok(entries) = fs::read_dir(self.folder.join("blobs")) else {
            return 0;
        };
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(hash))
            .filter_map(|entry| entry.metadata().ok())
            .map(|file| file.len())
            .sum()
    }
}

#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Where links need a privilege, the file is a second name of the blob, or a copy of it.
#[cfg(not(unix))]
fn symlink(target: &Path, blob: &Path, link: &Path) -> std::io::Result<()> {
    #[cfg(windows)]
    if std::os::windows::fs::symlink_file(target, link).is_ok() {
        return Ok(());
    }
    let _ = target;
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache() -> (tempfile::TempDir, RepoCache) {
        let root = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(root.path(), "org/name");
        (root, cache)
    }

    #[test]
    fn layout() {
        let (root, cache) = cache();
        let folder = root.path().join("models--org--name");
        assert_eq!(
            cache.snapshot(COMMIT),
            folder.join("snapshots").join(COMMIT)
        );
        assert_eq!(cache.blob("ab"), folder.join("blobs/ab"));
        assert_eq!(cache.partial("ab"), folder.join("blobs/ab.incomplete"));
        cache.write_ref("refs/pr/1", COMMIT).unwrap();
        assert_eq!(
            fs::read_to_string(folder.join("refs/refs/pr/1")).unwrap(),
            COMMIT
        );
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit_of(COMMIT).as_deref(), Some(COMMIT));
        assert_eq!(cache.commit_of("other"), None);
    }

    #[test]
    fn a_reference_that_is_no_commit_is_ignored() {
        let (root, cache) = cache();
        let refs = root.path().join("models--org--name/refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join("main"), "../../../etc").unwrap();
        assert_eq!(cache.commit_of("main"), None);
    }

    #[test]
    fn links_lead_to_blobs_from_any_depth() {
        let (_root, cache) = cache();
        fs::create_dir_all(cache.blob("")).unwrap();
        fs::write(cache.blob("ab"), "one").unwrap();
        fs::write(cache.blob("cd"), "two2").unwrap();
        for name in ["x.json", "sub/y.json", "sub/deep/z.json"] {
            cache.link(COMMIT, name, "ab").unwrap();
            assert_eq!(
                fs::read_to_string(cache.snapshot(COMMIT).join(name)).unwrap(),
                "one"
            );
        }
        cache.link(COMMIT, "x.json", "cd").unwrap();
        assert_eq!(cache.size(COMMIT, "x.json"), Some(4));
        cache.link(COMMIT, "broken", "gone").unwrap();
        assert_eq!(cache.size(COMMIT, "broken"), None);
        assert_eq!(
            cache.names(COMMIT),
            ["sub/deep/z.json", "sub/y.json", "x.json"]
        );
    }

    #[test]
    fn a_lock_keeps_a_second_writer_out() {
        let (_root, cache) = cache();
        let held = cache.lock("ab", Duration::ZERO).unwrap();
        let second = cache.lock("ab", Duration::from_millis(60));
        assert!(matches!(second, Err(Error::Locked { .. })));
        assert!(cache.lock("cd", Duration::ZERO).is_ok());
        drop(held);
        assert!(cache.lock("ab", Duration::ZERO).is_ok());
    }
}
