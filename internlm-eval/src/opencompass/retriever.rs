//! Which in-context examples an item gets.

use serde::{Deserialize, Serialize};

use super::field::python_str;
use super::numpy_random::RandomState;
use super::treebank;
use crate::bm25::Bm25;
use crate::error::{Error, Result};
use crate::item::Row;

/// The rule by which examples are chosen from the index rows.
///
/// Upstream's retrievers that need a sentence encoder or the model itself (TopK, VoteK, DPP, MDL) choose by the
/// encoder's weights, so there is no rule to write down for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Retriever {
    /// None.
    #[default]
    Zero,
    /// The same rows for every item (`FixKRetriever`).
    FixK {
        /// Their numbers in the index rows.
        ids: Vec<usize>,
    },
    /// Rows drawn without replacement, by one generator that runs on from item to item (`RandomRetriever`).
    Random {
        /// How many.
        count: usize,
        /// The generator's seed.
        #[serde(default = "default_seed")]
        seed: u32,
    },
    /// The rows whose input is most alike by Okapi BM25 (`BM25Retriever`), best first.
    Bm25 {
        /// How many.
        count: usize,
    },
    /// The rows before the item's own number; the first items get the last rows too (`SlidingWindowRetriever`).
    SlidingWindow {
        /// How many.
        count: usize,
    },
}

fn default_seed() -> u32 {
    43
}

impl Retriever {
    /// The most examples that an item gets.
    pub fn shots(&self) -> usize {
        match self {
            Retriever::Zero => 0,
            Retriever::FixK { ids } => ids.len(),
            Retriever::Random { count, .. }
            | Retriever::Bm25 { count }
            | Retriever::SlidingWindow { count } => *count,
        }
    }

    /// No more examples than this; of the random, the similar and the previous ones exactly this many.
    pub fn limit(&mut self, shots: usize) {
        match self {
            Retriever::Zero => {}
            Retriever::FixK { ids } => ids.truncate(shots),
            Retriever::Random { count, .. }
            | Retriever::Bm25 { count }
            | Retriever::SlidingWindow { count } => *count = shots,
        }
    }

    /// What joins examples of string templates or of templates per label, and what ends them.
    pub(crate) fn separators(&self) -> (&'static str, &'static str) {
        match self {
            Retriever::Zero => ("", ""),
            _ => ("\n", "\n"),
        }
    }

    /// The numbers of the index rows for each item.
    ///
    /// # Errors
    /// More rows asked for than there are.
    pub fn retrieve(
        &self,
        index: &[Row],
        items: &[Row],
        input_columns: &[String],
    ) -> Result<Vec<Vec<usize>>> {
        let enough = |count: usize| {
            if count <= index.len() {
                return Ok(());
            }
            Err(Error::Prompt(format!(
                "{count} examples are asked for, but there are {} rows to take them from",
                index.len()
            )))
        };
        Ok(match self {
            Retriever::Zero => vec![Vec::new(); items.len()],
            Retriever::FixK { ids } => {
                enough(ids.iter().max().map_or(0, |id| id + 1))?;
                vec![ids.clone(); items.len()]
            }
            Retriever::Random { count, seed } => {
                enough(*count)?;
                let mut random = RandomState::new(*seed);
                items
                    .iter()
                    .map(|_| random.choice(index.len(), *count))
                    .collect()
            }
            Retriever::Bm25 { count } => {
                enough(*count)?;
                let words = |row: &Row| {
                    let fields = input_columns
                        .iter()
                        .map(|column| row.get(column).map(python_str).unwrap_or_default());
                    treebank::words(&fields.collect::<Vec<_>>().join(" "))
                };
                let corpus = Bm25::new(&index.iter().map(words).collect::<Vec<_>>());
                items
                    .iter()
                    .map(|row| nearest(&corpus.scores(&words(row)), *count))
                    .collect()
            }
            Retriever::SlidingWindow { count } => {
                enough((*count).min(items.len()))?;
                (0..items.len())
                    .map(|item| {
                        let missing = count.saturating_sub(item);
                        let padding = index.len().saturating_sub(missing)..index.len();
                        let window = item.saturating_sub(*count)..item;
                        padding.chain(window).collect()
                    })
                    .collect()
            }
        })
    }
}

/// The `count` highest scores, best first; of equals the later one first, as a reversed ascending sort has them.
fn nearest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order.into_iter().rev().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_later_comes_first() {
        assert_eq!(nearest(&[1.0, 2.0, 1.0, 0.0], 3), [1, 2, 0]);
    }
}
