//! The order in which things are asked.

use std::collections::HashMap;

use internlm_core::chat_model::Input;
use internlm_core::message::join;
use internlm_core::scorer::Tokens;

use super::unit::{Planned, Unit};
use crate::item::Request;

/// One call, or some that belong together.
#[derive(Debug)]
pub(super) enum Job {
    /// Continuations, and for each everybody who wants to know it.
    Score(Vec<Vec<Unit>>),
    Perplexity(Vec<Unit>),
    Rolling(Vec<Unit>),
    Reward(Vec<Unit>),
    Generate(Unit),
}

/// Rolling texts that go to the scorer at a time: each may be many windows long.
const ROLLING_BATCH: usize = 8;

/// What is open in the items' own requests: what is scored, and what is generated.
pub(super) fn jobs<'a>(
    items: impl IntoIterator<Item = (usize, &'a Planned)>,
    score_batch: usize,
) -> (Vec<Job>, Vec<Job>) {
    let mut contexts = Contexts::default();
    let (mut perplexities, mut rolling) = (Vec::new(), Vec::new());
    let (mut rewards, mut generate) = (Vec::new(), Vec::new());
    for (number, planned) in items {
        for (request, answer) in planned.stages[0].pending() {
            let unit = Unit {
                item: number,
                stage: 0,
                request,
                answer,
            };
            let asked = planned.request(unit);
            let sized =
                |list: &mut Vec<_>| list.push((planned.benchmark, number, length(asked), unit));
            match asked {
                Request::Loglikelihood {
                    context,
                    continuation,
                } => contexts.add(planned.benchmark, context, continuation, unit),
                Request::Perplexity { .. } => sized(&mut perplexities),
                Request::Rolling { .. } => sized(&mut rolling),
                Request::Reward { .. } => sized(&mut rewards),
                Request::Generate { .. } => sized(&mut generate),
            }
        }
    }
    let mut score = contexts.into_jobs(score_batch);
    // The prompts of an item stay together, and so do the items of a benchmark, for they begin alike.
    for group in batches(by_item(perplexities), score_batch) {
        score.push(Job::Perplexity(group));
    }
    for group in batches(by_item(rolling), ROLLING_BATCH) {
        score.push(Job::Rolling(group));
    }
    for group in batches(by_item(rewards), score_batch) {
        score.push(Job::Reward(group));
    }
    let generate = by_item(generate).into_iter().flatten().map(Job::Generate);
    (score, generate.collect())
}

/// A size to sort by; texts are not encoded for it.
pub(super) fn length(request: &Request) -> usize {
    match request {
        Request::Loglikelihood {
            context,
            continuation,
        } => size(context) + continuation.len(),
        Request::Rolling { text } => text.len(),
        Request::Perplexity { text, .. } => size(text),
        Request::Reward { messages } => messages.iter().map(|m| m.text().len()).sum(),
        Request::Generate { input, .. } => match input {
            Input::Messages(messages) => messages.iter().map(|m| m.text().len()).sum(),
            Input::Prompt(parts) => join(parts).len(),
            Input::Ids(ids) => 4 * ids.len(),
        },
    }
}

fn size(text: &Tokens) -> usize {
    match text {
        Tokens::Text(text) => text.len(),
        Tokens::Ids(ids) => 4 * ids.len(),
        Tokens::Parts(parts) => parts.iter().map(|part| part.as_str().len()).sum(),
    }
}

type Sized = (usize, usize, usize, Unit);

/// Units of one item together, longest items first, benchmark by benchmark, the one with the longest first.
fn by_item(units: Vec<Sized>) -> Vec<Vec<Unit>> {
    let mut items: Vec<(usize, usize, Vec<Unit>)> = Vec::new();
    let mut last = None;
    for (benchmark, item, length, unit) in units {
        match items.last_mut() {
            Some((_, longest, units)) if last == Some(item) => {
                *longest = length.max(*longest);
                units.push(unit);
            }
            _ => items.push((benchmark, length, vec![unit])),
        }
        last = Some(item);
    }
    longest_first(&mut items, |(benchmark, length, _)| (*benchmark, *length));
    items.into_iter().map(|(_, _, units)| units).collect()
}

/// Sorts by benchmark, the one with the longest first, and each by falling length; equals keep their order.
fn longest_first<T>(list: &mut [T], of: impl Fn(&T) -> (usize, usize)) {
    let mut longest: HashMap<usize, usize> = HashMap::new();
    for (benchmark, length) in list.iter().map(&of) {
        let entry = longest.entry(benchmark).or_default();
        *entry = length.max(*entry);
    }
    list.sort_by_key(|entry| {
        let (benchmark, length) = of(entry);
        let most = longest.get(&benchmark).copied().unwrap_or_default();
        (
            std::cmp::Reverse(most),
            benchmark,
            std::cmp::Reverse(length),
        )
    });
}

/// Fills batches up to a size without parting a group; a larger group is a batch of its own.
fn batches<T>(groups: Vec<Vec<T>>, size: usize) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    for group in groups {
        match batches.last_mut() {
            Some(batch) if batch.len() + group.len() <= size => batch.extend(group),
            _ => batches.push(group),
        }
    }
    batches
}

/// The continuations of each context.
#[derive(Default)]
struct Contexts<'a> {
    places: HashMap<&'a Tokens, usize>,
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    benchmark: usize,
    longest: usize,
    continuations: Vec<(&'a str, Vec<Unit>)>,
}

impl<'a> Contexts<'a> {
    fn add(&mut self, benchmark: usize, context: &'a Tokens, continuation: &'a str, unit: Unit) {
        let groups = &mut self.groups;
        let place = *self.places.entry(context).or_insert_with(|| {
            groups.push(Group {
                benchmark,
                longest: 0,
                continuations: Vec::new(),
            });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.longest = group.longest.max(size(context) + continuation.len());
        // The empty context may have thousands of continuations, hardly any of which is asked twice far apart.
        let mut known = group.continuations.iter_mut().rev().take(64);
        match known.find(|(text, _)| *text == continuation) {
            Some((_, units)) => units.push(unit),
            None => group.continuations.push((continuation, vec![unit])),
        }
    }

    fn into_jobs(self, size: usize) -> Vec<Job> {
        let mut groups = self.groups;
        longest_first(&mut groups, |group| (group.benchmark, group.longest));
        let mut parts = Vec::with_capacity(groups.len());
        for group in groups {
            let mut rest = group
                .continuations
                .into_iter()
                .map(|(_, units)| units)
                .peekable();
            while rest.peek().is_some() {
                parts.push(rest.by_ref().take(size).collect());
            }
        }
        batches(parts, size).into_iter().map(Job::Score).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::super::unit::Stage;
    use super::*;
    use crate::item::Item;

    fn planned(benchmark: usize, requests: Vec<Request>) -> Planned {
        let item = Item {
            index: 0,
            row: Map::new(),
            requests,
            gold: Value::Null,
        };
        Planned {
            benchmark,
            stages: vec![Stage::own(&item.requests)],
            item,
            outcome: None,
        }
    }

    fn choices(benchmark: usize, context: &str, choices: &[&str]) -> Planned {
        let request = |choice: &&str| Request::Loglikelihood {
            context: context.into(),
            continuation: (*choice).to_owned(),
        };
        planned(benchmark, choices.iter().map(request).collect())
    }

    /// The contexts of each call, by its items.
    fn contexts<'a>(jobs: &[Job], items: &'a [Planned]) -> Vec<Vec<&'a str>> {
        let context = |units: &Vec<Unit>| match items[units[0].item].request(units[0]) {
            Request::Loglikelihood {
                context: Tokens::Text(context),
                ..
            } => context.as_str(),
            other => panic!("{other:?}"),
        };
        jobs.iter()
            .map(|job| match job {
                Job::Score(list) => list.iter().map(context).collect(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn contexts_stay_together_and_the_longest_come_first() {
        let items = [
            choices(0, "bb", &["1", "2"]),
            choices(1, "a long one", &["1", "2", "3"]),
            choices(0, "ccc", &["1", "2"]),
            choices(1, "d", &["1"]),
        ];
        let (score, generate) = jobs(items.iter().enumerate(), 4);
        assert!(generate.is_empty());
        let want: [&[&str]; 2] = [
            &["a long one", "a long one", "a long one", "d"],
            &["ccc", "ccc", "bb", "bb"],
        ];
        assert_eq!(contexts(&score, &items), want);
    }

    #[test]
    fn what_is_asked_twice_is_computed_once() {
        let items = [choices(0, "a", &["1", "2"]), choices(1, "a", &["2", "3"])];
        let (score, _) = jobs(items.iter().enumerate(), 64);
        let [Job::Score(list)] = &score[..] else {
            panic!("{score:?}")
        };
        let units: Vec<usize> = list.iter().map(Vec::len).collect();
        assert_eq!(units, [1, 2, 1]);
    }

    #[test]
    fn what_is_answered_is_not_asked() {
        let mut item = choices(0, "a", &["1", "2"]);
        item.stages[0].responses[0][0] = Some(crate::item::Response::Scores { tokens: Vec::new() });
        let (score, _) = jobs([(7, &item)], 64);
        let [Job::Score(list)] = &score[..] else {
            panic!("{score:?}")
        };
        assert_eq!((list.len(), list[0][0].item), (1, 7));
    }

    #[test]
    fn prompts_of_an_item_are_one_batch() {
        let text = |text: &str| Request::Perplexity {
            text: text.into(),
            mask_length: None,
        };
        let items = [
            planned(0, vec![text("a"), text("b")]),
            planned(0, vec![text("ccc"), text("d"), text("e")]),
        ];
        let (score, _) = jobs(items.iter().enumerate(), 4);
        let sizes: Vec<usize> = score
            .iter()
            .map(|job| match job {
                Job::Perplexity(units) => units.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [3, 2]);
    }
}
