//! Index files of sharded checkpoints. What they name must lie inside of the folder.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::dir::read_small;
use super::file::SourceFile;
use super::snapshot;
use super::source::{Stored, Table};
use crate::error::{Error, Result};

/// Most shards of a checkpoint.
const MAX_SHARDS: usize = 4096;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the tables of all shards that an index names and checks that each tensor is where the
/// index says.
pub(super) fn table(
    index: &Path,
    folder: &Path,
    read: impl Fn(&Arc<SourceFile>) -> Result<BTreeMap<String, Stored>>,
) -> Result<Table> {
    let Index { weight_map } =
        serde_json::from_slice(&read_small(index)?).map_err(|source| Error::Json {
            file: index.to_path_buf(),
            source,
        })?;
    let mut by_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, shard) in &weight_map {
        by_shard.entry(shard).or_default().push(name);
    }
    if by_shard.len() > MAX_SHARDS {
        return Err(Error::Corrupt {
            file: index.to_path_buf(),
            what: format!(
                "names {} files, expected at most {MAX_SHARDS}",
                by_shard.len()
            ),
        });
    }
    // All paths before the first file is opened.
    let paths = by_shard
        .keys()
        .map(|shard| inside(index, folder, shard))
        .collect::<Result<Vec<_>>>()?;
    let mut tensors = BTreeMap::new();
    for (path, (shard, names)) in paths.iter().zip(by_shard) {
        let mut stored = read(&Arc::new(SourceFile::open(path)?))?;
        for name in names {
            let Some(tensor) = stored.remove(name) else {
                return Err(Error::Corrupt {
                    file: index.to_path_buf(),
                    what: format!("says that `{name}` is in {shard}, which has no such tensor"),
                });
            };
            tensors.insert(name.to_owned(), tensor);
        }
        // What the index leaves out is kept, to be reported.
        for (name, tensor) in stored {
            tensors.entry(name).or_insert(tensor);
        }
    }
    Ok(Table {
        path: index.to_path_buf(),
        tensors,
    })
}

/// The path of a shard: plain names below the folder, also after following links. Links into the
/// `blobs` of the hub cache that the folder is a snapshot of are part of that layout.
fn inside(index: &Path, folder: &Path, shard: &str) -> Result<PathBuf> {
    let outside = || Error::OutsideFolder {
        file: index.to_path_buf(),
        path: PathBuf::from(shard),
    };
    let relative = Path::new(shard);
    let plain = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if shard.is_empty() || !plain || shard.contains(['\\', '\0']) {
        return Err(outside());
    }
    let joined = folder.join(relative);
    let real = |path: &Path| {
        path.canonicalize().map_err(|source| Error::Io {
            file: path.to_path_buf(),
            source,
        })
    };
    let (real_folder, real_shard) = (real(folder)?, real(&joined)?);
    if real_shard.starts_with(&real_folder)
        || snapshot::blobs(&real_folder).is_some_and(|b| real_shard.starts_with(b))
    {
        Ok(joined)
    } else {
        Err(outside())
    }
}
