//! The first token of an answer, from which some decoders take spaces.

use internlm_core::chat_model::ResponseFormat;

use super::tokenizers::{self, Subject};
use super::{allowed, contextual_refusal, guide, request, text};

/// Every first token under a grammar of one text, against what the tokenizer decodes.
#[track_caller]
fn check(subject: &Subject, answer: &str) {
    let lark = format!("start: {}", serde_json::Value::from(answer));
    let request = request(ResponseFormat::Lark(lark));
    let tokenizer = &subject.tokenizer;
    let got = allowed(&mut guide(subject, &request));
    let want: Vec<u32> = (0..tokenizer.vocab_size() as u32)
        .filter(|&id| !subject.eos.contains(&id))
        .filter_map(|id| {
            Some((
                id,
                tokenizer.first_token_bytes(id)?,
                tokenizer.token_bytes(id)?,
            ))
        })
        // A token of which nothing is left may come first too, if there was something.
        .filter(|(_, first, later)| answer.as_bytes().starts_with(first) && !later.is_empty())
        .map(|(id, ..)| id)
        .collect();
    assert_eq!(got, want, "{}: {answer:?}", subject.name);
    // And each leads to the answer.
    for id in got {
        let mut guide = guide(subject, &request);
        let mut ids = vec![id];
        guide.accept(id).unwrap();
        while !guide.is_complete() {
            let next = allowed(&mut guide)[0];
            guide.accept(next).unwrap();
            ids.push(next);
        }
        assert_eq!(text(tokenizer, &ids), answer, "{}: {ids:?}", subject.name);
    }
}

#[test]
fn every_first_token_shows_as_the_grammar_has_it() {
    for answer in ["a", " a", "  a", " ", "foo a", "{\"a\":1}", "你"] {
        for subject in [tokenizers::drops_one(), tokenizers::byte_level()] {
            check(&subject, answer);
        }
    }
    // Bytes are spelled out under this decoder, so it can say less.
    for answer in ["a", "foo a", "{\" a\""] {
        check(&tokenizers::drops_all(), answer);
    }
}

#[test]
fn real_tokenizers_too() {
    tokenizers::each_real(|subject| {
        for answer in [" a", "{\"a\": 1}", "你好"] {
            check(subject, answer);
        }
    });
}

/// A special token before the text does not show, so the text's first token is still to come.
#[test]
fn special_tokens_before_the_text() {
    let subject = tokenizers::drops_one();
    let plugin = subject.tokenizer.token_to_id("<|plugin|>").unwrap();
    let foo = subject.tokenizer.token_to_id("\u{2581}foo").unwrap();
    let request = request(ResponseFormat::Lark("start: <|plugin|> \"foo\"".into()));
    let mut skipped = guide(&subject, &request);
    assert!(allowed(&mut skipped).contains(&plugin));
    skipped.accept(plugin).unwrap();
    assert!(allowed(&mut skipped).contains(&foo));
    let mut kept = guide(&subject, &request.with_keep_special_tokens(true));
    kept.accept(plugin).unwrap();
    assert!(!allowed(&mut kept).contains(&foo));
}

#[test]
fn tokenizers_that_decode_by_context_are_refused() {
    contextual_refusal();
}
