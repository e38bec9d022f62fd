//! Who ran what: what must be the same for answers in a folder to be used again.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use internlm_core::scorer::ModelFacts;
use serde::{Deserialize, Serialize};

use super::config::Shard;
use crate::benchmark::Identity;
use crate::error::{Error, Result};

/// The model of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Its name in reports and file names.
    pub name: String,
    /// A SHA-256 that identifies the weights, where it is known.
    #[serde(default)]
    pub model_hash: Option<String>,
    /// A SHA-256 over the tokenizer's files, where it is known.
    #[serde(default)]
    pub tokenizer_hash: Option<String>,
    /// Whether the weights are on a server, which does not say what they are.
    #[serde(default)]
    pub remote: bool,
}

impl ModelIdentity {
    pub(super) fn of(facts: &ModelFacts) -> Self {
        Self {
            name: facts.name.clone(),
            model_hash: facts.model_hash.clone(),
            tokenizer_hash: facts.tokenizer_hash.clone(),
            remote: false,
        }
    }
}

/// A benchmark of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BenchmarkIdentity {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    /// Numbers of all its items, those of other shards among them, as ranges from..to.
    pub(crate) items: Vec<(usize, usize)>,
}

/// The head of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunIdentity {
    /// Of the journal's format.
    pub(crate) version: u32,
    pub(crate) model: ModelIdentity,
    pub(crate) judge: Option<String>,
    pub(crate) seed: u64,
    pub(crate) shard: Shard,
    pub(crate) benchmarks: Vec<BenchmarkIdentity>,
    /// Seconds since 1970.
    pub(crate) time: u64,
}

pub(crate) const VERSION: u32 = 1;

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Numbers in rising order as ranges from..to.
pub(crate) fn ranges(mut numbers: Vec<usize>) -> Vec<(usize, usize)> {
    numbers.sort_unstable();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to == number => *to += 1,
            _ => ranges.push((number, number + 1)),
        }
    }
    ranges
}

impl RunIdentity {
    /// Whether answers that `self` recorded may stand in a run of `now`. Benchmarks may come and go; one that is in
    /// both must be the same.
    pub(crate) fn check(&self, folder: &Path, now: &RunIdentity) -> Result<()> {
        let differ = |what: &str, recorded: &str, now: &str| {
            Err(Error::OtherRun {
                folder: folder.to_owned(),
                what: what.to_owned(),
                recorded: format!("`{recorded}`"),
                now: format!("`{now}`"),
            })
        };
        if self.version != now.version {
            let (recorded, now) = (self.version.to_string(), now.version.to_string());
            return differ("version of the journal", &recorded, &now);
        }
        let (a, b) = (&self.model, &now.model);
        if a.name != b.name {
            return differ("model", &a.name, &b.name);
        }
        let known = [
            ("model hash", &a.model_hash, &b.model_hash),
            ("tokenizer", &a.tokenizer_hash, &b.tokenizer_hash),
            ("judge", &self.judge, &now.judge),
        ];
        for (what, recorded, now) in known {
            if let (Some(recorded), Some(now)) = (recorded, now)
                && recorded != now
            {
                return differ(what, recorded, now);
            }
        }
        if self.seed != now.seed {
            return differ("seed", &self.seed.to_string(), &now.seed.to_string());
        }
        for benchmark in &now.benchmarks {
            let recorded = self.benchmarks.iter().find(|b| b.name == benchmark.name);
            let Some(recorded) = recorded else { continue };
            let (a, b) = (&recorded.identity, &benchmark.identity);
            let shots = (a.shots.to_string(), b.shots.to_string());
            for (what, recorded, now) in [
                ("rule set", &a.rules, &b.rules),
                ("mode", &a.mode, &b.mode),
                ("number of shots", &shots.0, &shots.1),
                ("prompt", &a.prompt_hash, &b.prompt_hash),
                ("data", &a.data_hash, &b.data_hash),
            ] {
                if recorded != now {
                    return differ(&format!("{what} of {}", benchmark.name), recorded, now);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_neighbours() {
        assert_eq!(ranges(vec![3, 0, 1, 5, 4]), [(0, 2), (3, 6)]);
        assert!(ranges(Vec::new()).is_empty());
    }
}
