//! Translation edit rate as sacrebleu computes it, after Tercom.
//!
//! Edits are insertions, deletions, substitutions and shifts of a run of words. The best sequence of shifts is searched
//! greedily, with Tercom's limits on a shift's length and distance and sacrebleu's on the number of candidates, so the
//! work is bounded: at most `MAX_CANDIDATES` edit distances in a band around the diagonal per pair of texts.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::metric::count;
use crate::metric::tokenize::Tercom;

const MAX_SHIFT_SIZE: usize = 10;
const MAX_SHIFT_DISTANCE: usize = 50;
const BEAM_WIDTH: usize = 25;
const MAX_CANDIDATES: usize = 1000;
const INFINITE: u32 = u32::MAX / 2;

/// Edits and reference words of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Edits towards the reference that needs the fewest.
    pub edits: f64,
    /// The mean length of the references, words.
    pub reference_len: f64,
}

/// The score of a corpus in per cent (it may exceed 100): pairs of a prediction and its references.
///
/// # Errors
/// [`Error::Metric`] if there is no segment or one has no reference.
pub fn corpus(tokenizer: Tercom, segments: &[(&str, &[&str])]) -> Result<f64> {
    let statistics: Vec<Statistics> = segments
        .iter()
        .map(|(prediction, references)| statistics(tokenizer, prediction, references))
        .collect::<Result<_>>()?;
    score(&statistics)
}

/// The edits of one segment.
///
/// # Errors
/// [`Error::Metric`] if there is no reference.
pub fn statistics(tokenizer: Tercom, prediction: &str, references: &[&str]) -> Result<Statistics> {
    let mut ids: HashMap<String, u32> = HashMap::new();
    let mut words = |text: &str| -> Vec<u32> {
        let tokens = tokenizer.tokens(text).into_iter();
        tokens
            .map(|token| {
                let next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                *ids.entry(token).or_insert(next)
            })
            .collect()
    };
    let predicted = words(prediction);
    // sacrebleu cuts references twice: once for its cache, and the result again.
    let again = |text: &&str| tokenizer.tokens(text).join(" ");
    let references: Vec<Vec<u32>> = references
        .iter()
        .map(again)
        .map(|text| words(&text))
        .collect();
    let edits = references
        .iter()
        .map(|reference| edits(&predicted, reference))
        .min();
    let Some(edits) = edits else {
        return Err(Error::metric("ter", "a segment has no reference"));
    };
    let length: usize = references.iter().map(Vec::len).sum();
    Ok(Statistics {
        edits: count(edits),
        reference_len: count(length) / count(references.len()),
    })
}

/// The score of summed edits, in per cent.
///
/// # Errors
/// [`Error::Metric`] if there are no segments.
pub fn score<'a>(segments: impl IntoIterator<Item = &'a Statistics>) -> Result<f64> {
    let mut segments = segments.into_iter().peekable();
    if segments.peek().is_none() {
        return Err(Error::metric("ter", "there are no segments"));
    }
    let (edits, length) = segments.fold((0.0, 0.0), |(edits, length), segment| {
        (edits + segment.edits, length + segment.reference_len)
    });
    Ok(if length > 0.0 {
        100.0 * edits / length
    } else if edits > 0.0 {
        100.0
    } else {
        0.0
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Keep,
    Substitute,
    Insert,
    Delete,
    Undefined,
}

fn edits(predicted: &[u32], reference: &[u32]) -> usize {
    if reference.is_empty() {
        return predicted.len();
    }
    let mut words = predicted.to_vec();
    let mut shifts = 0;
    let mut candidates = 0;
    while let Some(shifted) = best_shift(&words, reference, &mut candidates) {
        if candidates >= MAX_CANDIDATES {
            break;
        }
        shifts += 1;
        words = shifted;
    }
    shifts + edit_distance(&words, reference).0
}

/// The words after the shift that saves the most edits; `None` if none saves any.
fn best_shift(words: &[u32], reference: &[u32], candidates: &mut usize) -> Option<Vec<u32>> {
    let (before, trace) = edit_distance(words, reference);
    let alignment = Alignment::new(&trace);
    // Ranked by edits saved, then by length, then by the earliest source and target.
    type Rank = (
        i64,
        usize,
        std::cmp::Reverse<usize>,
        std::cmp::Reverse<usize>,
    );
    let mut best: Option<(Rank, Vec<u32>)> = None;
    for (start, start_reference, length) in equal_runs(words, reference) {
        let wrong = alignment.word_errors[start..start + length].contains(&true)
            && alignment.reference_errors[start_reference..start_reference + length]
                .contains(&true);
        let aligned = alignment.to_word[start_reference];
        let within = aligned.is_some_and(|to| (start..start + length).contains(&to));
        if !wrong || within {
            continue;
        }
        let mut tried = None;
        // Before the reference word, then after each word of the run.
        for position in start_reference..=start_reference + length {
            let target = match position.checked_sub(1) {
                None => 0,
                Some(index) => match alignment.to_word.get(index) {
                    Some(to) => to.map_or(0, |to| to + 1),
                    None => break,
                },
            };
            if tried.replace(target) == Some(target) {
                continue;
            }
            let shifted = shift(words, start, length, target);
            let saved = signed(before) - signed(edit_distance(&shifted, reference).0);
            let rank = (
                saved,
                length,
                std::cmp::Reverse(start),
                std::cmp::Reverse(target),
            );
            *candidates += 1;
            if best.as_ref().is_none_or(|(most, _)| rank > *most) {
                best = Some((rank, shifted));
            }
        }
        if *candidates >= MAX_CANDIDATES {
            break;
        }
    }
    best.filter(|((saved, ..), _)| *saved > 0)
        .map(|(_, shifted)| shifted)
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Where each reference word lies in the prediction, and which words are wrong on either side.
struct Alignment {
    /// Per reference word the index of the predicted word, `None` before the first.
    to_word: Vec<Option<usize>>,
    reference_errors: Vec<bool>,
    word_errors: Vec<bool>,
}

impl Alignment {
    /// From the edits that turn the prediction into the reference.
    fn new(trace: &[Edit]) -> Self {
        let mut alignment = Self {
            to_word: Vec::new(),
            reference_errors: Vec::new(),
            word_errors: Vec::new(),
        };
        for &edit in trace {
            let wrong = edit != Edit::Keep;
            if edit != Edit::Insert {
                alignment.word_errors.push(wrong);
            }
            if edit != Edit::Delete {
                alignment.reference_errors.push(wrong);
                alignment
                    .to_word
                    .push(alignment.word_errors.len().checked_sub(1));
            }
        }
        alignment
    }
}

/// Runs of equal words not too far apart, every length of each: start in the prediction and in the reference, length.
fn equal_runs(words: &[u32], reference: &[u32]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..words.len()).flat_map(move |start| {
        let first = start.saturating_sub(MAX_SHIFT_DISTANCE);
        let last = reference.len().min(start + MAX_SHIFT_DISTANCE + 1);
        (first..last.max(first)).flat_map(move |start_reference| {
            let pairs = words[start..].iter().zip(&reference[start_reference..]);
            let length = pairs
                .take(MAX_SHIFT_SIZE)
                .take_while(|(a, b)| a == b)
                .count();
            (1..=length).map(move |length| (start, start_reference, length))
        })
    })
}

fn shift(words: &[u32], start: usize, length: usize, target: usize) -> Vec<u32> {
    let run = &words[start..start + length];
    let parts: [&[u32]; 4] = if target < start {
        [
            &words[..target],
            run,
            &words[target..start],
            &words[start + length..],
        ]
    } else {
        // A target within the run counts from the run's end.
        let end = if target > start + length {
            target
        } else {
            (length + target).min(words.len())
        };
        [
            &words[..start],
            &words[start + length..end],
            run,
            &words[end..],
        ]
    };
    parts.concat()
}

/// The number of edits and the edits themselves that turn `words` into `reference`, searched in a band around the
/// diagonal.
fn edit_distance(words: &[u32], reference: &[u32]) -> (usize, Vec<Edit>) {
    let width = reference.len() + 1;
    let mut costs = vec![(INFINITE, Edit::Undefined); (words.len() + 1) * width];
    for (j, cell) in costs[..width].iter_mut().enumerate() {
        *cell = (u32::try_from(j).unwrap_or(INFINITE), Edit::Insert);
    }
    let ratio = if words.is_empty() {
        1.0
    } else {
        count(reference.len()) / count(words.len())
    };
    // Texts of very different lengths need a wider band for rows to meet.
    let beam = if count(BEAM_WIDTH) < ratio / 2.0 {
        floor((ratio / 2.0 + count(BEAM_WIDTH)).ceil())
    } else {
        BEAM_WIDTH
    };
    for i in 1..=words.len() {
        let diagonal = floor(count(i) * ratio);
        let last = if i == words.len() {
            width
        } else {
            width.min(diagonal + beam)
        };
        for j in diagonal.saturating_sub(beam)..last {
            let above = costs[(i - 1) * width + j].0 + 1;
            if j == 0 {
                costs[i * width] = (above, Edit::Delete);
                continue;
            }
            let equal = words[i - 1] == reference[j - 1];
            let diagonal = costs[(i - 1) * width + j - 1].0;
            let ways = [
                if equal {
                    (diagonal, Edit::Keep)
                } else {
                    (diagonal + 1, Edit::Substitute)
                },
                (above, Edit::Delete),
                (costs[i * width + j - 1].0 + 1, Edit::Insert),
            ];
            let cell = &mut costs[i * width + j];
            for way in ways {
                if way.0 < cell.0 {
                    *cell = way;
                }
            }
        }
    }
    let mut trace = Vec::with_capacity(words.len().max(reference.len()));
    let (mut i, mut j) = (words.len(), reference.len());
    while i > 0 || j > 0 {
        // Outside the band nothing is known; any way back is as good.
        let edit = match costs[i * width + j].1 {
            Edit::Undefined if i > 0 => Edit::Delete,
            Edit::Undefined => Edit::Insert,
            edit => edit,
        };
        trace.push(edit);
        if edit != Edit::Insert {
            i -= 1;
        }
        if edit != Edit::Delete {
            j -= 1;
        }
    }
    trace.reverse();
    let distance = costs.last().map_or(0, |cell| cell.0);
    (usize::try_from(distance).unwrap_or(usize::MAX), trace)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position in a text"
)]
fn floor(x: f64) -> usize {
    x as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prediction: &str, reference: &str, edits: f64) {
        let got = statistics(Tercom::default(), prediction, &[reference]).unwrap();
        assert_eq!(got.edits, edits);
    }

    #[test]
    fn shifts_count_once() {
        check("a b c", "a b c", 0.0);
        check("c d a b", "a b c d", 1.0);
        check("a x c", "a b c", 1.0);
        check("", "a b", 2.0);
        check("a b", "", 2.0);
    }

    #[test]
    fn long_texts_stay_bounded() {
        let words = "x y z w v ".repeat(60);
        let score = corpus(
            Tercom::default(),
            &[(&words, &["z x v y ".repeat(60).as_str()])],
        );
        assert!(score.unwrap() > 0.0);
    }
}
