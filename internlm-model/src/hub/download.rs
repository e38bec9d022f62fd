//! One file into the cache: locked, resumed, counted, hashed, and only then named.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cache::RepoCache;
use super::client::{Client, Failure, Remote, Target};
use super::error::{Error, Result};

/// Bytes between two writes, hash updates and progress reports.
const CHUNK: usize = 256 << 10;
/// An attempt that brought this much forgives the failures before it.
const PROGRESS: u64 = 1 << 20;

/// Brings a blob into the cache, unless it is there. `report` hears how many of its bytes are on
/// disk.
pub(super) fn blob(
    client: &Client,
    cache: &RepoCache,
    target: &Target,
    commit: &str,
    remote: &Remote,
    lock_patience: Duration,
    report: &mut dyn FnMut(u64),
) -> Result<()> {
    let path = cache.blob(&remote.hash);
    let whole = || fs::metadata(&path).is_ok_and(|file| file.len() == remote.size);
    if whole() {
        return Ok(());
    }
    let _lock = cache.lock(&remote.hash, lock_patience)?;
    if whole() {
        return Ok(());
    }
    let mut partial = Partial::open(cache.partial(&remote.hash), remote)?;
    report(partial.written);
    let result = loop {
        if let Err(error) = fill(client, target, commit, remote, &mut partial, report) {
            break Err(error);
        }
        let got = partial.hash();
        if got == remote.hash {
            break Ok(());
        }
        if !partial.inherited {
            let (file, want) = (remote.name.clone(), remote.hash.clone());
            break Err(Error::Hash { file, got, want });
        }
        // What an earlier run left may be at fault: once more, from the start.
        partial.restart()?;
    };
    match result {
        Ok(()) => partial.finish(path),
        Err(error) => {
            if matches!(error, Error::Hash { .. } | Error::Size { .. }) {
                partial.discard();
            }
            Err(error)
        }
    }
}

/// Requests bytes until the file is whole.
fn fill(
    client: &Client,
    target: &Target,
    commit: &str,
    remote: &Remote,
    partial: &mut Partial,
    report: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut failures = 0;
    while partial.written < remote.size {
        let before = partial.written;
        match attempt(client, target, commit, remote, partial, report) {
            Ok(()) => {}
            Err(failure) if failure.retry => {
                if partial.written.saturating_sub(before) >= PROGRESS {
                    failures = 0;
                }
                if failures >= client.patience.retries {
                    return Err(failure.error);
                }
                failures += 1;
                client.patience.wait(failures, &failure);
            }
            Err(failure) => return Err(failure.error),
        }
    }
    Ok(())
}

/// One request, written as far as it goes.
fn attempt(
    client: &Client,
    target: &Target,
    commit: &str,
    remote: &Remote,
    partial: &mut Partial,
    report: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let size = |got: u64| Error::Size {
        file: remote.name.clone(),
        got,
        want: remote.size,
    };
    let response = client.bytes(target, commit, &remote.name, partial.written)?;
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    match response.status().as_u16() {
        206 => {
            let range = header("content-range").and_then(content_range);
            let Some((start, total)) = range.filter(|(start, _)| *start == partial.written) else {
                return Err(Error::Response {
                    url: client.file_url(target, commit, &remote.name),
                    what: format!("asked for bytes from {} on, got {range:?}", partial.written),
                }
                .into());
            };
            tracing::debug!(file = remote.name, start, "hub: resumed");
            if let Some(total) = total.filter(|&total| total != remote.size) {
                return Err(size(total).into());
            }
        }
        // The range is past the end: the hub's file is shorter than what is here.
        416 => {
            let total =
                header("content-range").and_then(|r| r.strip_prefix("bytes */")?.parse().ok());
            return Err(size(total.unwrap_or(0)).into());
        }
        200 => {
            let total = header("content-length").and_then(|length| length.parse().ok());
            if let Some(total) = total.filter(|&total: &u64| total != remote.size) {
                return Err(size(total).into());
            }
            if partial.written > 0 {
                partial.restart()?;
            }
        }
        status => {
            let url = client.file_url(target, commit, &remote.name);
            return Err(Error::Status { url, status }.into());
        }
    }
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; CHUNK];
    loop {
        let (count, cut) = read_chunk(&mut body, &mut buffer);
        if partial.written + count as u64 > remote.size {
            return Err(size(partial.written + count as u64).into());
        }
        partial.append(&buffer[..count])?;
        report(partial.written);
        if cut.is_some() || count < CHUNK {
            if partial.written == remote.size {
                return Ok(());
            }
            tracing::debug!(file = remote.name, ?cut, "hub: cut");
            let (got, want) = (partial.written, remote.size);
            let error = Error::Interrupted {
                file: remote.name.clone(),
                got,
                want,
            };
            return Err(Failure {
                error,
                retry: true,
                after: None,
            });
        }
    }
}

/// Fills the buffer as far as the stream goes; keeps what came before an error.
fn read_chunk(body: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<std::io::Error>) {
    let mut count = 0;
    while count < buffer.len() {
        match body.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return (count, Some(e)),
        }
    }
    (count, None)
}

/// Start and total of `bytes 5-9/10`; the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, total))
}

/// A running hash, of the kind that the hub gave.
enum Hasher {
    Sha256(Sha256),
    /// Git's hash of a blob: a header with the size, then the content.
    Git(Sha1),
}

impl Hasher {
    fn new(remote: &Remote) -> Self {
        if remote.hash.len() == 64 {
            return Hasher::Sha256(Sha256::new());
        }
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", remote.size));
        Hasher::Git(hasher)
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    fn hex(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Hasher::Git(hasher) => hex(&hasher.clone().finalize()),
        }
    }
}

/// The file under its temporary name.
struct Partial<'a> {
    remote: &'a Remote,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    written: u64,
    /// Whether the first bytes are of an earlier run.
    inherited: bool,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier run left, and hashes it.
    fn open(path: PathBuf, remote: &'a Remote) -> Result<Self> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io(&path))?;
        let mut partial = Self {
            remote,
            path,
            file,
            hasher: Hasher::new(remote),
            written: 0,
            inherited: false,
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            let (count, error) = read_chunk(&mut partial.file, &mut buffer);
            if let Some(source) = error {
                return Err(Error::Io {
                    file: partial.path,
                    source,
                });
            }
            partial.hasher.update(&buffer[..count]);
            partial.written += count as u64;
            if count < CHUNK || partial.written > remote.size {
                break;
            }
        }
        partial.inherited = partial.written > 0;
        if partial.written > remote.size {
            partial.restart()?;
        }
        Ok(partial)
    }

    /// Forgets all bytes.
    fn restart(&mut self) -> Result<()> {
        let empty = self.file.set_len(0);
        empty
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(Error::io(&self.path))?;
        self.hasher = Hasher::new(self.remote);
        self.written = 0;
        self.inherited = false;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn hash(&self) -> String {
        self.hasher.hex()
    }

    /// Gives the file its name, once its bytes are on the disk.
    fn finish(self, path: PathBuf) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path))?;
        fs::rename(&self.path, &path).map_err(Error::io(&path))?;
        if let Some(folder) = path.parent() {
            // Not every system syncs folders; the file itself is safe.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes */10",
            "bytes 5/10",
            "items 5-9/10",
            "bytes -1-9/10",
            "bytes 5-9/x",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[track_caller]
    fn hash(text: &str, hash: &str) {
        let (name, size) = ("x".to_owned(), text.len() as u64);
        let remote = Remote {
            name,
            size,
            hash: hash.to_owned(),
        };
        let mut hasher = Hasher::new(&remote);
        hasher.update(text.as_bytes());
        assert_eq!(hasher.hex(), hash);
    }

    /// Of `sha256sum` and `git hash-object`.
    #[test]
    fn hashes() {
        hash(
            "",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        hash(
            "abc",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        );
        hash("", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        hash("hello\n", "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
