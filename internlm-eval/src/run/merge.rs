//! One run from its shards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::identity::RunIdentity;
use super::journal::{Entry, Journal, line};
use crate::error::{Error, Result};
use crate::item::Response;
use crate::report::file;

/// Makes a folder with the answers of all shards. [`Run::execute`](super::Run::execute) in it then finds everything
/// done and writes the report; with [`offline`](super::RunConfig::offline) it needs no model.
///
/// An answer that several folders hold is taken from the first that has one that did not fail; nothing is compared,
/// for two machines may differ in the last bits.
///
/// # Errors
/// A folder without a journal, folders of different models, benchmarks or sizes ([`Error::OtherRun`]), items that are
/// in none ([`Error::Incomplete`]), a folder that cannot be written or is in use.
pub fn merge<P: AsRef<Path>>(folders: &[P], out: impl AsRef<Path>) -> Result<()> {
    let out = out.as_ref();
    let mut whole: Option<RunIdentity> = None;
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: HashMap<Name, usize> = HashMap::new();
    for folder in folders {
        let folder = folder.as_ref();
        let mut last: Option<RunIdentity> = None;
        for entry in Journal::read(folder)? {
            match entry {
                Entry::Session(identity) => {
                    last = Some(identity);
                }
                entry => keep(&mut entries, &mut places, entry),
            }
        }
        let last = last.ok_or_else(|| Error::Journal {
            file: folder.to_owned(),
            line: 1,
            what: "expected a run, found none".to_owned(),
        })?;
        match &mut whole {
            None => whole = Some(last),
            Some(whole) => join(folder, whole, last)?,
        }
    }
    let Some(mut whole) = whole else {
        return Err(Error::Config {
            field: "merge",
            what: "expected folders of shards, got none".to_owned(),
        });
    };
    whole.shard = super::Shard::WHOLE;
    complete(&whole, &entries)?;
    let mut text = String::new();
    for entry in std::iter::once(&Entry::Session(whole)).chain(&entries) {
        let line = line(entry).map_err(|e| Error::Journal {
            file: out.to_owned(),
            line: 0,
            what: e.to_string(),
        })?;
        text.push_str(&line);
    }
    // The lock keeps a run that is at work in the folder from losing its journal.
    let (journal, _) = Journal::open(out)?;
    let path: PathBuf = out.join(super::journal::NAME);
    file::replace(&path, text.as_bytes())?;
    drop(journal);
    Ok(())
}

/// What an entry is about.
#[derive(PartialEq, Eq, Hash)]
enum Name {
    Response(super::unit::UnitKey),
    Item(String, usize),
}

fn keep(entries: &mut Vec<Entry>, places: &mut HashMap<Name, usize>, entry: Entry) {
    let name = match &entry {
        Entry::Session(_) => return,
        Entry::Response { key, .. } => Name::Response(key.clone()),
        Entry::Sample { benchmark, sample } => Name::Item(benchmark.clone(), sample.index),
        Entry::Failed {
            benchmark, item, ..
        } => Name::Item(benchmark.clone(), *item),
    };
    match places.get(&name) {
        Some(&place) if failed(&entries[place]) => entries[place] = entry,
        Some(_) => {}
        None => {
            places.insert(name, entries.len());
            entries.push(entry);
        }
    }
}

fn failed(entry: &Entry) -> bool {
    match entry {
        Entry::Response { response, .. } => matches!(response, Response::Failed { .. }),
        Entry::Failed { .. } => true,
        _ => false,
    }
}

/// Adds what another shard has to the identity of the whole.
fn join(folder: &Path, whole: &mut RunIdentity, shard: RunIdentity) -> Result<()> {
    whole.check(folder, &shard)?;
    whole.time = whole.time.min(shard.time);
    for benchmark in shard.benchmarks {
        let known = whole.benchmarks.iter().find(|b| b.name == benchmark.name);
        match known {
            None => whole.benchmarks.push(benchmark),
            Some(known) if known.items == benchmark.items => {}
            Some(known) => {
                let count = |ranges: &[(usize, usize)]| -> String {
                    let count: usize = ranges.iter().map(|(from, to)| to - from).sum();
                    count.to_string()
                };
                return Err(Error::OtherRun {
                    folder: folder.to_owned(),
                    what: format!("set of items of {}", benchmark.name),
                    recorded: count(&benchmark.items),
                    now: count(&known.items),
                });
            }
        }
    }
    Ok(())
}

/// Every item must be judged or failed.
fn complete(whole: &RunIdentity, entries: &[Entry]) -> Result<()> {
    let done: HashSet<(&str, usize)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sample { benchmark, sample } => Some((benchmark.as_str(), sample.index)),
            Entry::Failed {
                benchmark, item, ..
            } => Some((benchmark.as_str(), *item)),
            _ => None,
        })
        .collect();
    let mut missing = BTreeSet::new();
    for benchmark in &whole.benchmarks {
        let items = benchmark.items.iter().flat_map(|&(from, to)| from..to);
        for item in items {
            if !done.contains(&(benchmark.name.as_str(), item)) {
                missing.insert((benchmark.name.as_str(), item));
            }
        }
    }
    match missing.first() {
        None => Ok(()),
        Some((benchmark, item)) => Err(Error::Incomplete {
            missing: missing.len(),
            first: format!("{benchmark} item {item}"),
        }),
    }
}
