//! Which weights were asked: the hash of their files, or that a server has them.
//!
//! Files are hashed while the run asks, so that nothing waits for gigabytes to be read. The hash is kept in the run's
//! folder and computed anew only where a file has another size or time.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::{hex, sha256_hex};
use crate::report::file::replace;

/// Where the weights of a run's model are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// In these files. The hash in reports is the SHA-256 of a single file, as `sha256sum` and the hub give it; of
    /// several it is that of what `sha256sum` prints for them, in the order of their names:
    /// `sha256sum *.safetensors | sha256sum`.
    Files(Vec<PathBuf>),
    /// On a server, under the model's name.
    Remote,
}

impl Weights {
    /// The weights of a checkpoint: a file, or those in a folder of Hugging Face's layout, which are its files
    /// `.safetensors`, else `.bin`, else `.gguf`.
    ///
    /// # Errors
    /// No such file or folder, and a folder without weights.
    pub fn at(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            std::fs::metadata(path).map_err(Error::io(path))?;
            return Ok(Weights::Files(vec![path.to_owned()]));
        }
        let mut all = Vec::new();
        for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
            all.push(entry.map_err(Error::io(path))?.path());
        }
        all.sort();
        for extension in ["safetensors", "bin", "gguf"] {
            let has = |file: &&PathBuf| file.extension().is_some_and(|found| found == extension);
            let files: Vec<PathBuf> = all.iter().filter(has).cloned().collect();
            if !files.is_empty() {
                return Ok(Weights::Files(files));
            }
        }
        Err(Error::Config {
            field: "weights",
            what: format!("{}: no .safetensors, .bin or .gguf", path.display()),
        })
    }
}

/// What tells whether a file is still the one that was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    file: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// The hash of files with these stamps.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    files: Vec<Stamp>,
    sha256: String,
}

/// Files to be hashed.
#[derive(Debug)]
pub(super) struct Hashing {
    files: Vec<Stamp>,
    keep: Option<PathBuf>,
    /// The hash, where the run's folder has it.
    pub(super) known: Option<String>,
}

impl Hashing {
    /// Looks at the files and for a hash that is kept in the run's folder.
    ///
    /// # Errors
    /// A file that is not there.
    pub(super) fn new(files: &[PathBuf], folder: Option<&Path>) -> Result<Self> {
        let mut files = files.to_vec();
        files.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
        let stamp = |file: PathBuf| {
            let facts = std::fs::metadata(&file).map_err(Error::io(&file))?;
            let modified = facts.modified().map_err(Error::io(&file))?;
            Ok(Stamp {
                bytes: facts.len(),
                modified: nanoseconds(modified),
                file,
            })
        };
        let files: Vec<Stamp> = files.into_iter().map(stamp).collect::<Result<_>>()?;
        let keep = folder.map(|folder| folder.join("configs/weights.json"));
        // What cannot be read is computed anew.
        let kept = keep
            .as_ref()
            .and_then(|path| std::fs::read(path).ok())
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
            .filter(|kept| kept.files == files);
        Ok(Self {
            files,
            keep,
            known: kept.map(|kept| kept.sha256),
        })
    }

    /// Computes the hash and keeps it; None where it was told to stop.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn hash(&self, stop: &AtomicBool) -> Result<Option<String>> {
        let mut hashes = Vec::new();
        for Stamp { file, .. } in &self.files {
            match of_file(file, stop)? {
                Some(hash) => hashes.push(hash),
                None => return Ok(None),
            }
        }
        let sha256 = match &hashes[..] {
            [hash] => hash.clone(),
            hashes => {
                let line = |(hash, stamp): (&String, &Stamp)| {
                    let name = stamp.file.file_name().unwrap_or_default();
                    format!("{hash}  {}\n", name.to_string_lossy())
                };
                let lines: String = hashes.iter().zip(&self.files).map(line).collect();
                sha256_hex(lines.as_bytes())
            }
        };
        if let Some(path) = &self.keep {
            let kept = Kept {
                files: self.files.clone(),
                sha256: sha256.clone(),
            };
            // Texts and numbers can always be written.
            let text = serde_json::to_string_pretty(&kept).unwrap_or_default();
            replace(path, text.as_bytes())?;
        }
        Ok(Some(sha256))
    }
}

fn of_file(path: &Path, stop: &AtomicBool) -> Result<Option<String>> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hex(&hash.finalize()))),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_a_folder_are_of_one_format() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Weights::at(folder.path()).is_err());
        assert!(Weights::at(&folder.path().join("none.gguf")).is_err());
        for name in ["b.safetensors", "a.safetensors", "c.bin", "config.json"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
        assert_eq!(
            Weights::at(folder.path()).unwrap(),
            Weights::Files(files.to_vec())
        );
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["b", "a"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "b").unwrap();
        std::fs::write(&files[1], "abc").unwrap();
        let hash = |files: &[PathBuf]| {
            let hashing = Hashing::new(files, None).unwrap();
            hashing.hash(&AtomicBool::new(false)).unwrap().unwrap()
        };
        let (a, b) = (sha256_hex(b"abc"), sha256_hex(b"b"));
        assert!(a.starts_with("ba7816bf"));
        assert_eq!(hash(&files[1..]), a);
        let lines = format!("{a}  a\n{b}  b\n");
        assert_eq!(hash(&files), sha256_hex(lines.as_bytes()));
        let stopped = Hashing::new(&files, None).unwrap();
        assert_eq!(stopped.hash(&AtomicBool::new(true)).unwrap(), None);
    }
}
