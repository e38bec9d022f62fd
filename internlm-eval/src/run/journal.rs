//! What a run has done so far, on disk: one line of JSON per event, only ever appended, each with a checksum.
//!
//! A line is `{"sum":"<16 hex>","entry":<JSON>}`; the sum is the beginning of the SHA-256 of the entry's bytes.
//!
//! **Durability.** A line is one `write`, so a process that is killed loses nothing it wrote but perhaps a part of
//! its last line, which the next run cuts off. `fdatasync` follows at most every two seconds and at the end, so a
//! machine that loses power loses at most two seconds of answers, and those are asked again. Damage before the last
//! good line is not repaired but an error: something else wrote to the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::identity::RunIdentity;
use super::unit::UnitKey;
use crate::benchmark::Sample;
use crate::error::{Error, Result};
use crate::hash::hex16;
use crate::item::Response;

pub(super) const NAME: &str = "journal.jsonl";
const SYNC: Duration = Duration::from_secs(2);
const HEAD: &str = "{\"sum\":\"";
const MIDDLE: &str = "\",\"entry\":";

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A run began or went on.
    Session(RunIdentity),
    /// A request is answered, or failed.
    Response {
        #[serde(flatten)]
        key: UnitKey,
        /// The beginning of the SHA-256 of what was asked.
        asked: String,
        response: Response,
    },
    /// An item is judged.
    Sample { benchmark: String, sample: Sample },
    /// An item cannot be judged.
    Failed {
        benchmark: String,
        item: usize,
        error: String,
    },
}

/// The line of an entry, with its line feed.
pub(crate) fn line(entry: &Entry) -> Result<String, serde_json::Error> {
    let entry = serde_json::to_string(entry)?;
    let sum = hex16(entry.as_bytes());
    Ok(format!("{HEAD}{sum}{MIDDLE}{entry}}}\n"))
}

/// What is wrong with a line.
#[derive(Debug)]
enum Fault {
    /// It is not what was written.
    Damaged(String),
    /// It is what was written, but not by this version.
    Foreign(String),
}

/// The entry of a line without its line feed.
fn parse(line: &[u8]) -> Result<Entry, Fault> {
    let entry = checked(line).map_err(Fault::Damaged)?;
    serde_json::from_str(entry).map_err(|e| Fault::Foreign(e.to_string()))
}

/// The text of a line's entry; the error says what is wrong with the line.
fn checked(line: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    let rest = text.strip_prefix(HEAD).ok_or("has no checksum")?;
    let (sum, rest) = rest.split_at_checked(16).ok_or("is cut")?;
    let entry = rest.strip_prefix(MIDDLE).ok_or("has no entry")?;
    let entry = entry.strip_suffix('}').ok_or("is cut")?;
    if hex16(entry.as_bytes()) != sum {
        return Err("does not match its checksum".to_owned());
    }
    Ok(entry)
}

/// What the bytes of a journal hold, and how many of them are good.
pub(crate) fn parse_all(file: &Path, bytes: &[u8]) -> Result<(Vec<Entry>, usize)> {
    let mut entries = Vec::new();
    let (mut good, mut bad) = (0, None);
    let mut at = 0;
    let mut number = 0;
    while at < bytes.len() {
        number += 1;
        let end = bytes[at..].iter().position(|&b| b == b'\n');
        let (line, next) = match end {
            Some(end) => (&bytes[at..at + end], at + end + 1),
            None => (&bytes[at..], bytes.len()),
        };
        // A line without its end may be complete, but the next one would be glued to it.
        let parsed = match end {
            Some(_) => parse(line),
            None => Err(Fault::Damaged("is cut".to_owned())),
        };
        match (parsed, &bad) {
            // Cutting it off would throw away good answers.
            (Err(Fault::Foreign(what)), _) => {
                return Err(Error::Journal {
                    file: file.to_owned(),
                    line: number,
                    what: format!("the line is of another version of this program: {what}"),
                });
            }
            (Ok(entry), None) => {
                entries.push(entry);
                good = next;
            }
            (Ok(_), Some((line, what))) => {
                return Err(Error::Journal {
                    file: file.to_owned(),
                    line: *line,
                    what: format!("the line {what}, and good ones follow it"),
                });
            }
            (Err(Fault::Damaged(what)), None) => bad = Some((number, what)),
            (Err(Fault::Damaged(_)), Some(_)) => {}
        }
        at = next;
    }
    Ok((entries, good))
}

/// A journal that is open and locked.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    synced: Instant,
}

impl Journal {
    /// Opens or makes the journal of a folder, locks it, cuts off a torn end and gives what it holds.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Entry>)> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io(&path))?;
        let meta = file.metadata().map_err(Error::io(&path))?;
        if !meta.is_file() {
            return Err(Error::Journal {
                file: path,
                line: 1,
                what: "expected a plain file".to_owned(),
            });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    folder: folder.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io(&path)(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io(&path))?;
        let (entries, good) = parse_all(&path, &bytes)?;
        if good < bytes.len() {
            file.set_len(good as u64).map_err(Error::io(&path))?;
        }
        let end = SeekFrom::Start(good as u64);
        file.seek(end).map_err(Error::io(&path))?;
        let synced = Instant::now();
        Ok((Self { path, file, synced }, entries))
    }

    /// What the journal of another run's folder holds; it is neither locked nor repaired.
    pub(crate) fn read(folder: &Path) -> Result<Vec<Entry>> {
        let path = folder.join(NAME);
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        Ok(parse_all(&path, &bytes)?.0)
    }

    /// Adds an entry.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<()> {
        let line = line(entry).map_err(|e| Error::Journal {
            file: self.path.clone(),
            line: 0,
            what: e.to_string(),
        })?;
        self.file
            .write_all(line.as_bytes())
            .map_err(Error::io(&self.path))?;
        if self.synced.elapsed() >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        match self.file.sync_data() {
            // A device or pipe, which has no disk to reach.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
            other => other.map_err(Error::io(&self.path)),
        }
    }
}

impl Drop for Journal {
    /// Closing would not do: a child process that another thread is starting holds the file until it is another
    /// program, and with it the lock.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(item: usize, text: &str) -> Entry {
        Entry::Response {
            key: UnitKey {
                benchmark: "b".to_owned(),
                item,
                stage: 0,
                request: 0,
                answer: 0,
            },
            asked: "00".to_owned(),
            response: Response::Texts {
                answers: vec![vec![text.to_owned()]],
            },
        }
    }

    fn bytes(entries: &[Entry]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|e| line(e).unwrap().into_bytes())
            .collect()
    }

    #[test]
    fn every_cut_leaves_the_whole_lines_before_it() {
        let entries: Vec<Entry> = (0..4).map(|i| entry(i, "答\n\"}")).collect();
        let whole = bytes(&entries);
        let ends: Vec<usize> = (1..=4).map(|n| bytes(&entries[..n]).len()).collect();
        for cut in 0..=whole.len() {
            let (got, good) = parse_all(Path::new("j"), &whole[..cut]).unwrap();
            let want = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(got, entries[..want], "cut at {cut}");
            assert_eq!(good, if want == 0 { 0 } else { ends[want - 1] });
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_and_at_the_end_is_cut() {
        let entries: Vec<Entry> = (0..3).map(|i| entry(i, "x")).collect();
        let mut whole = bytes(&entries);
        let second = bytes(&entries[..1]).len() + 40;
        whole[second] ^= 1;
        let error = parse_all(Path::new("j"), &whole).unwrap_err();
        assert!(matches!(error, Error::Journal { line: 2, .. }), "{error}");
        let mut tail = bytes(&entries);
        let good = tail.len();
        tail.extend_from_slice(&[0; 4096]);
        assert_eq!(parse_all(Path::new("j"), &tail).unwrap().1, good);
    }

    #[test]
    fn lines_of_another_version_are_not_cut_off() {
        let foreign = r#"{"type":"later"}"#;
        let sum = hex16(foreign.as_bytes());
        let line = format!("{HEAD}{sum}{MIDDLE}{foreign}}}\n");
        let error = parse_all(Path::new("j"), line.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Journal { line: 1, .. }), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut journal = Journal {
            path,
            file,
            synced: Instant::now(),
        };
        let Err(Error::Io { file, source }) = journal.append(&entry(0, "x")) else {
            panic!("the disk is full")
        };
        assert_eq!(file, Path::new("/dev/full"));
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec(".*", 0..8)) {
            let entries: Vec<Entry> = texts.iter().enumerate().map(|(i, t)| entry(i, t)).collect();
            let whole = bytes(&entries);
            prop_assert_eq!(parse_all(Path::new("j"), &whole).unwrap(), (entries, whole.len()));
        }

        #[test]
        fn one_wrong_bit_is_never_read_as_another_answer(text in ".{0,40}", at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let good = entry(0, &text);
            let mut whole = bytes(std::slice::from_ref(&good));
            let at = at.index(whole.len());
            whole[at] ^= 1 << bit;
            let (got, _) = parse_all(Path::new("j"), &whole).unwrap_or_default();
            prop_assert!(got.is_empty() || got == [good]);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_all(Path::new("j"), &bytes);
        }

        #[test]
        fn numbers_come_back_as_they_were(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let key = UnitKey { benchmark: "b".to_owned(), item: 0, stage: 0, request: 0, answer: 0 };
            let response = Response::Perplexity { value, tokens: 1 };
            let entry = Entry::Response { key, asked: String::new(), response };
            let (got, _) = parse_all(Path::new("j"), &bytes(std::slice::from_ref(&entry))).unwrap();
            prop_assert_eq!(got, [entry]);
        }
    }
}
