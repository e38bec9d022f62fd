//! OpenCompass's perplexities, with what prompts have in common computed once.
//!
//! `PPLInferencer` gives each label a whole prompt, and the prompts of an item, and those of a subject with its
//! in-context examples, begin alike. A token's log-probability depends only on what stands before it, so the losses
//! of a common beginning are computed once: the prompts are parted where they part, and each part is a continuation
//! after what precedes it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use internlm_core::Scorer;
use internlm_core::scorer::{ScoreRequest, Tokens};

use super::rate::RateLimit;
use super::score::{one_line, panic_text, score_each};

/// A common beginning is worth a part of its own from this many tokens on.
const WORTH: usize = 16;

/// A text and its `mask_length`.
pub(super) type Masked<'a> = (&'a Tokens, Option<usize>);

/// The value and the number of tokens, or why there is none.
pub(super) type Perplexity = Result<(f64, usize), String>;

/// A stretch of tokens that all of `members` have in common; scored after what precedes it.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    from: usize,
    to: usize,
    /// Places in the list of token ids.
    members: Vec<usize>,
}

/// Parts lists of ids, each of at least one, so that common beginnings of some length are one stretch. The first id
/// of each is only a context. `order` sorts them.
fn stretches(ids: &[Vec<u32>]) -> Vec<Stretch> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by(|&a, &b| ids[a].cmp(&ids[b]));
    let mut found = Vec::new();
    // Those that begin with the same id can have more in common.
    for group in order.chunk_by(|&a, &b| ids[a][0] == ids[b][0]) {
        part(ids, group, 1, &mut found);
    }
    found
}

fn part(ids: &[Vec<u32>], group: &[usize], from: usize, found: &mut Vec<Stretch>) {
    let (Some(&first), Some(&last)) = (group.first(), group.last()) else {
        return;
    };
    // In sorted lists what the first and the last have in common all have.
    let common = common(&ids[first], &ids[last]);
    let mut stretch = |to: usize, members: &[usize]| {
        if to > from {
            let members = members.to_vec();
            found.push(Stretch { from, to, members });
        }
    };
    if common == ids[first].len() && common == ids[last].len() {
        return stretch(common, group);
    }
    let shared = if common >= from + WORTH { common } else { from };
    stretch(shared, group);
    // Neighbours that go on alike for long enough stay together.
    let alike = |a: &usize, b: &usize| {
        let (a, b) = (&ids[*a], &ids[*b]);
        a == b || self::common(a, b) >= shared + WORTH
    };
    for group in group.chunk_by(alike) {
        // At least one of the group's neighbours differs, so the next call sees a smaller group or a longer
        // beginning.
        match group {
            [only] => {
                let to = ids[*only].len();
                if to > shared {
                    let members = vec![*only];
                    found.push(Stretch {
                        from: shared,
                        to,
                        members,
                    });
                }
            }
            _ => part(ids, group, shared, found),
        }
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The mean cross entropy of each text.
pub(super) fn perplexities(
    scorer: &dyn Scorer,
    rate: &RateLimit,
    texts: &[Masked<'_>],
    score_batch: usize,
) -> Vec<Perplexity> {
    let longest = scorer.facts().context_length;
    let encode = |&(text, _): &Masked<'_>| -> Result<Vec<u32>, String> {
        let ids = catch_unwind(AssertUnwindSafe(|| match text {
            Tokens::Text(text) => scorer.encode(text, true),
            Tokens::Parts(parts) => scorer.encode_parts(parts, true),
            Tokens::Ids(ids) => Ok(ids.clone()),
        }));
        let mut ids = ids
            .map_err(|panic| panic_text(&*panic))?
            .map_err(|e| one_line(&e))?;
        if longest > 0 {
            ids.truncate(longest);
        }
        match ids.is_empty() {
            true => Err("the text has no tokens".to_owned()),
            false => Ok(ids),
        }
    };
    let encoded: Vec<_> = texts.iter().map(encode).collect();
    // Places in `texts` of those that have tokens.
    let places: Vec<usize> = (0..texts.len()).filter(|&i| encoded[i].is_ok()).collect();
    let ids: Vec<Vec<u32>> = encoded.iter().flatten().cloned().collect();

    let stretches = stretches(&ids);
    let mut losses: Vec<Result<Vec<f64>, String>> =
        ids.iter().map(|ids| Ok(vec![0.0; ids.len() - 1])).collect();
    for batch in stretches.chunks(score_batch.max(1)) {
        let request = |stretch: &Stretch| {
            let ids = &ids[stretch.members[0]];
            ScoreRequest {
                context: Tokens::Ids(ids[..stretch.from].to_vec()),
                continuation: Tokens::Ids(ids[stretch.from..stretch.to].to_vec()),
            }
        };
        let requests: Vec<_> = batch.iter().map(request).collect();
        let scores = score_each(scorer, rate, &requests);
        for (stretch, scores) in batch.iter().zip(scores) {
            let want = stretch.to - stretch.from;
            let scores = scores.and_then(|scores| match scores.len() == want {
                true => Ok(scores),
                false => Err(format!(
                    "expected scores of {want} tokens, got {}",
                    scores.len()
                )),
            });
            for &member in &stretch.members {
                match (&mut losses[member], &scores) {
                    (Ok(losses), Ok(scores)) => {
                        let place = &mut losses[stretch.from - 1..stretch.to - 1];
                        for (loss, score) in place.iter_mut().zip(scores) {
                            *loss = -f64::from(score.logprob);
                        }
                    }
                    (Err(_), _) => {}
                    (losses, Err(why)) => *losses = Err(why.clone()),
                }
            }
        }
    }

    let mut values: Vec<Perplexity> = encoded
        .into_iter()
        .map(|e| e.map(|e| (0.0, e.len())))
        .collect();
    for (place, losses) in places.into_iter().zip(losses) {
        values[place] = losses.and_then(|losses| mean(&losses, texts[place].1));
    }
    values
}

/// The sum of the losses over the number of all tokens, the first included (OpenCompass: `get_ppl` of
/// `opencompass/models/huggingface.py`).
fn mean(losses: &[f64], mask_length: Option<usize>) -> Perplexity {
    let tokens = losses.len() + 1;
    let masked = mask_length.unwrap_or_default();
    let dropped = masked.saturating_sub(1).min(losses.len());
    match tokens.checked_sub(masked) {
        None | Some(0) => Err(format!(
            "the text has {tokens} tokens, and {masked} of them are masked"
        )),
        Some(divisor) => Ok((
            losses[dropped..].iter().sum::<f64>() / divisor as f64,
            tokens,
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn means_divide_by_all_tokens() {
        assert_eq!(mean(&[], None), Ok((0.0, 1)));
        assert_eq!(mean(&[1.0, 2.0, 3.0], None), Ok((1.5, 4)));
        // The first loss is dropped, the divisor is 4 - 2.
        assert_eq!(mean(&[1.0, 2.0, 3.0], Some(2)), Ok((2.5, 4)));
        assert!(mean(&[1.0], Some(2)).is_err());
        assert!(mean(&[1.0], Some(9)).is_err());
    }

    #[test]
    fn a_common_beginning_is_one_stretch() {
        let prompt = |item: u32, label: u32| -> Vec<u32> {
            let shared = 0..100u32;
            let own = (0..40).map(|n| 1000 * (item + 1) + n);
            shared.chain(own).chain([500 + label]).collect()
        };
        let ids: Vec<_> = (0..2)
            .flat_map(|i| (0..4).map(move |l| prompt(i, l)))
            .collect();
        let parts = stretches(&ids);
        let computed: usize = parts.iter().map(|s| s.to - s.from).sum();
        assert_eq!(computed, 99 + 2 * 40 + 8);
    }

    proptest! {
        #[test]
        fn stretches_cover_each_text_once_and_hold_what_its_members_share(
            ids in prop::collection::vec(prop::collection::vec(0..2u32, 1..60), 0..12),
        ) {
            let mut seen: Vec<Vec<u32>> = ids.iter().map(|ids| vec![0; ids.len()]).collect();
            for stretch in stretches(&ids) {
                let first = &ids[stretch.members[0]];
                for &member in &stretch.members {
                    prop_assert_eq!(&ids[member][..stretch.to], &first[..stretch.to]);
                    for place in &mut seen[member][stretch.from..stretch.to] {
                        *place += 1;
                    }
                }
            }
            for seen in seen {
                prop_assert_eq!(seen[0], 0);
                prop_assert!(seen[1..].iter().all(|&n| n == 1));
            }
        }
    }
}
