//! Random walks under grammars: whatever a model draws, the text that a client sees has its form.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod calls;
mod first_token;
mod forms;
mod limits;
mod tokenizers;

use internlm_core::ChatRequest;
use internlm_core::chat_model::ResponseFormat;
use internlm_tokenize::Tokenizer;

use super::{Guide, GuideFactory};
use crate::error::Error;
use tokenizers::{Rng, Subject};

fn request(format: ResponseFormat) -> ChatRequest {
    ChatRequest::prompt("x").with_response_format(format)
}

#[track_caller]
fn guide(subject: &Subject, request: &ChatRequest) -> Guide {
    subject.factory.guide(request).unwrap().unwrap()
}

/// The field of the request that an error names, and what it says.
#[track_caller]
fn refusal(subject: &Subject, request: &ChatRequest) -> (&'static str, String) {
    match subject.factory.guide(request) {
        Err(Error::Request { field, what }) => (field, what),
        Err(error) => panic!("{error:?}, expected an error of the request"),
        Ok(guide) => panic!("a guide ({}), expected an error", guide.is_some()),
    }
}

fn allowed(guide: &mut Guide) -> Vec<u32> {
    let mask = guide.mask().unwrap();
    let bits = (0..).zip(mask).filter(|(_, word)| **word != 0);
    bits.flat_map(|(index, word)| {
        (0..32)
            .filter(move |bit| word >> bit & 1 == 1)
            .map(move |bit| index * 32 + bit)
    })
    .collect()
}

/// Draws tokens at random until the answer ends; `None` if it does not within `steps`. Late in a walk,
/// tokens that close something are preferred, as most strings would not end otherwise.
fn walk(subject: &Subject, mut guide: Guide, rng: &mut Rng, steps: usize) -> Option<Vec<u32>> {
    let mut ids = Vec::new();
    for step in 0..steps {
        let mask = guide.mask().unwrap();
        let is_set = |id: &&u32| mask[**id as usize / 32] >> (**id % 32) & 1 == 1;
        let closers: Vec<u32> = match rng.below(steps) < step || rng.below(4) == 0 {
            true => subject.closers.iter().filter(is_set).copied().collect(),
            false => Vec::new(),
        };
        let id = match closers.as_slice() {
            [] => draw(mask, rng),
            closers => closers[rng.below(closers.len())],
        };
        if rng.below(16) == 0 {
            // A clone goes the same way.
            guide = guide.clone();
        }
        guide.accept(id).unwrap();
        if subject.eos.contains(&id) {
            assert!(guide.is_complete());
            assert!(guide.mask().is_err() && guide.accept(id).is_err());
            return Some(ids);
        }
        ids.push(id);
    }
    None
}

/// One of the set bits.
fn draw(mask: &[u32], rng: &mut Rng) -> u32 {
    let set: u32 = mask.iter().map(|word| word.count_ones()).sum();
    let mut skip = rng.below(set as usize) as u32;
    for (index, &word) in mask.iter().enumerate() {
        if skip < word.count_ones() {
            let mut bits = (0..32).filter(|bit| word >> bit & 1 == 1);
            return index as u32 * 32 + bits.nth(skip as usize).unwrap();
        }
        skip -= word.count_ones();
    }
    unreachable!("at least one bit is set")
}

/// The text that a client sees.
fn text(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut detokenizer = tokenizer.detokenizer(true);
    let mut text = String::new();
    for &id in ids {
        text.push_str(&detokenizer.push(id).unwrap());
    }
    text + &detokenizer.flush()
}

/// Many walks of one request; most must end.
#[track_caller]
fn walks(
    subject: &Subject,
    request: &ChatRequest,
    number: usize,
    mut check: impl FnMut(&[u32], &str),
) {
    let guide = guide(subject, request);
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut ended = 0;
    for _ in 0..number {
        if let Some(ids) = walk(subject, guide.clone(), &mut rng, 200) {
            ended += 1;
            check(&ids, &text(&subject.tokenizer, &ids));
        }
    }
    assert!(
        ended * 2 > number,
        "{}: {ended} of {number} ended",
        subject.name
    );
}

/// A tokenizer whose tokens have no bytes of their own makes a factory that refuses.
fn contextual_refusal() {
    let tokenizer = tokenizers::contextual();
    let factory = GuideFactory::new(&tokenizer, tokenizer.vocab_size(), &[]).unwrap();
    assert!(factory.guide(&ChatRequest::prompt("x")).unwrap().is_none());
    let asked = factory.guide(&request(ResponseFormat::JsonObject));
    assert!(matches!(
        asked,
        Err(Error::Request {
            field: "response_format",
            ..
        })
    ));
}
