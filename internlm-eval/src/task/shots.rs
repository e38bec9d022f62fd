//! Which examples an item gets.

use super::likeness::Likeness;
use super::spec::{FewshotSpec, Sampler};
use crate::error::{Error, Result};
use crate::item::Row;
use crate::python::Random;

/// Chooses examples for the items one after the other.
pub(super) struct Shots<'a> {
    task: &'a str,
    pool: &'a [Row],
    count: usize,
    choice: Choice<'a>,
}

enum Choice<'a> {
    None,
    FirstN {
        leave_self_out: bool,
    },
    Fixed(&'a [usize]),
    Random {
        generator: Random,
        leave_self_out: bool,
    },
    Bm25 {
        index: Likeness,
        leave_self_out: bool,
    },
}

impl<'a> Shots<'a> {
    /// `documents` are the texts of the pool that BM25 compares; asked for only with it.
    pub(super) fn new(
        task: &'a str,
        spec: Option<&'a FewshotSpec>,
        pool: &'a [Row],
        count: usize,
        seed: Option<i64>,
        documents: impl FnOnce() -> Result<Vec<String>>,
    ) -> Result<Self> {
        let choice = match spec {
            Some(spec) if count > 0 => {
                let leave_self_out = spec.leave_self_out;
                match spec.sampler {
                    Sampler::Zero => Choice::None,
                    Sampler::FirstN => Choice::FirstN { leave_self_out },
                    Sampler::Fixed => Choice::Fixed(&spec.ids),
                    Sampler::Random => Choice::Random {
                        generator: Random::new(seed.unwrap_or(spec.seed)),
                        leave_self_out,
                    },
                    Sampler::Bm25 => Choice::Bm25 {
                        index: Likeness::new(documents()?.iter().map(String::as_str)),
                        leave_self_out,
                    },
                }
            }
            _ => Choice::None,
        };
        Ok(Self {
            task,
            pool,
            count,
            choice,
        })
    }

    /// Places in the pool for the next item. `query` is what BM25 compares.
    pub(super) fn next(&mut self, row: &Row, query: &str) -> Result<Vec<usize>> {
        let (pool, count) = (self.pool, self.count);
        let short = |wanted: usize| Error::Shots {
            task: self.task.to_owned(),
            wanted,
            pool: pool.len(),
        };
        let chosen: Vec<usize> = match &mut self.choice {
            Choice::None => return Ok(Vec::new()),
            Choice::FirstN { leave_self_out } => (0..pool.len())
                .filter(|at| !*leave_self_out || pool[*at] != *row)
                .take(count)
                .collect(),
            Choice::Fixed(ids) => {
                let wanted: Vec<usize> = ids.iter().copied().take(count).collect();
                if let Some(beyond) = wanted.iter().find(|at| **at >= pool.len()) {
                    return Err(short(beyond + 1));
                }
                wanted
            }
            Choice::Random {
                generator,
                leave_self_out: false,
            } => generator
                .sample(pool.len(), count)
                .ok_or_else(|| short(count))?,
            Choice::Random { generator, .. } => {
                let drawn = generator
                    .sample(pool.len(), count + 1)
                    .ok_or_else(|| short(count + 1))?;
                let others: Vec<usize> = drawn
                    .into_iter()
                    .filter(|at| pool[*at] != *row)
                    .take(count)
                    .collect();
                if others.len() == count {
                    others
                } else {
                    // The row stands in the pool more than once: it is drawn again from all others.
                    let others: Vec<usize> =
                        (0..pool.len()).filter(|at| pool[*at] != *row).collect();
                    generator
                        .sample(others.len(), count)
                        .ok_or_else(|| short(count))?
                        .into_iter()
                        .map(|at| others[at])
                        .collect()
                }
            }
            Choice::Bm25 {
                index,
                leave_self_out,
            } => index
                .ranked(query)
                .into_iter()
                .filter(|at| !*leave_self_out || pool[*at] != *row)
                .take(count)
                .collect(),
        };
        if chosen.len() < count {
            return Err(short(count));
        }
        Ok(chosen)
    }

    /// Whether [`next`](Shots::next) looks at the query.
    pub(super) fn compares(&self) -> bool {
        matches!(self.choice, Choice::Bm25 { .. })
    }
}
