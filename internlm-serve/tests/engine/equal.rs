//! Alone = in a batch, paged = contiguous, with prefix cache = without, chunked = whole; also past the model's
//! own length, where dynamic NTK changes the base.

use internlm_core::ChatModel;
use internlm_core::scorer::{ScoreRequest, Tokens};
use internlm_core::{SamplingParams, Scorer};
use internlm_serve::config::{KvCacheDtype, PromptLookup};
use internlm_serve::{Engine, EngineConfig, Error, Models, Request};

use crate::common::{
    alone, blocks, check_together, engine, ids, model, request, said, sampled, settle, together,
};

/// Prompts around blocks and the length at which dynamic NTK begins.
const LENGTHS: [usize; 10] = [1, 5, 63, 64, 65, 90, 99, 130, 200, 333];

#[test]
fn one_answer_is_that_of_the_model() {
    for model_type in ["internlm2", "internlm"] {
        let engine = Engine::new(model(model_type, 7), EngineConfig::default()).unwrap();
        let reference = model(model_type, 7);
        for (seed, len) in LENGTHS.into_iter().enumerate() {
            let request = request(&ids(len, 1), sampled(seed as u64, 40));
            let got = said(engine.complete(&request).unwrap());
            assert_eq!(got, alone(&reference, &request), "{model_type}, {len}");
        }
    }
}

#[test]
fn a_batch_gives_the_answers_that_each_has_alone() {
    for model_type in ["internlm2", "internlm"] {
        let reference = model(model_type, 3);
        for config in [
            EngineConfig::default(),
            EngineConfig::default()
                .with_max_batch(3)
                .with_prefill_chunk(50),
            EngineConfig::default()
                .with_prefix_caching(false)
                .with_prefill_chunk(1),
        ] {
            let engine = Engine::new(model(model_type, 3), config).unwrap();
            let requests: Vec<_> = LENGTHS
                .iter()
                .enumerate()
                .map(|(i, &len)| request(&ids(len, i as u64), sampled(i as u64, 20 + 3 * i)))
                .collect();
            check_together(&engine, &reference, &requests);
            settle(&engine);
        }
    }
}

#[test]
fn chunks_of_any_size_are_the_whole() {
    let reference = model("internlm2", 7);
    let long = request(&ids(333, 5), sampled(1, 30));
    let want = alone(&reference, &long);
    for chunk in [1, 2, 63, 64, 65, 100, 1000] {
        let engine = engine(EngineConfig::default().with_prefill_chunk(chunk));
        assert_eq!(engine.complete(&long).unwrap(), want, "{chunk}");
    }
}

#[test]
fn a_cached_prefix_changes_nothing_but_the_work() {
    let reference = model("internlm2", 7);
    let engine = engine(EngineConfig::default());
    // Below the length of dynamic NTK all prompts have one base and share blocks.
    let common = ids(70, 9);
    for (round, tail) in [3usize, 3, 20, 29].into_iter().enumerate() {
        let mut prompt = common.clone();
        prompt.extend(ids(tail, 100 + tail as u64));
        let request = request(&prompt, sampled(4, 10));
        let before = engine.metrics().cached_tokens;
        assert_eq!(
            said(engine.complete(&request).unwrap()),
            alone(&reference, &request)
        );
        let cached = engine.metrics().cached_tokens - before;
        assert_eq!(cached, if round == 0 { 0 } else { 64 }, "round {round}");
    }
    // Past it, a prompt of another length has another base from the first token on.
    let long = ids(300, 11);
    for (len, cached) in [(300, 0), (300, 256), (290, 0)] {
        let request = request(&long[..len], sampled(4, 10));
        let before = engine.metrics().cached_tokens;
        assert_eq!(
            said(engine.complete(&request).unwrap()),
            alone(&reference, &request),
            "{len}"
        );
        assert_eq!(engine.metrics().cached_tokens - before, cached, "{len}");
    }
}

/// Blocks run out again and again: sequences are sent back and computed anew, and say the same.
#[test]
fn preempted_sequences_say_the_same() {
    for prefix_caching in [true, false] {
        let reference = model("internlm2", 7);
        let config = EngineConfig::default()
            .with_cache(blocks(9))
            .with_prefix_caching(prefix_caching);
        let engine = engine(config);
        let requests: Vec<_> = (0..8)
            .map(|i| {
                let sampling = sampled(i as u64, 120).with_ignore_eos(true);
                request(&ids(40 + 9 * i, i as u64), sampling)
            })
            .collect();
        check_together(&engine, &reference, &requests);
        let metrics = settle(&engine);
        assert!(metrics.preemptions > 0, "{metrics:?}");
        assert_eq!((metrics.blocks_in_use, metrics.blocks_total), (0, 9));
    }
}

#[test]
fn answers_of_one_prompt_are_those_of_seeds_in_a_row() {
    let reference = model("internlm2", 7);
    let engine = engine(EngineConfig::default());
    for len in [5, 64, 70, 150] {
        let chat = request(&ids(len, 2), sampled(100, 30));
        let answers = engine.submit(Request::new(chat.clone()).with_n(5)).unwrap();
        let answers = answers.complete_all().unwrap();
        assert_eq!(answers.len(), 5);
        for (i, answer) in answers.iter().enumerate() {
            let alone_request = request(&ids(len, 2), sampled(100 + i as u64, 30));
            assert_eq!(
                &said(answer.clone()),
                &alone(&reference, &alone_request),
                "{len}: {i}"
            );
        }
    }
    settle(&engine);
}

#[test]
fn quantized_caches_are_near_and_do_not_depend_on_the_batch() {
    let reference = model("internlm2", 7);
    for (kv_cache, near) in [(KvCacheDtype::Int8, 0.02), (KvCacheDtype::Int4, 0.3)] {
        let config = EngineConfig::default().with_kv_cache(kv_cache);
        let engine = engine(config.clone());
        let requests: Vec<_> = LENGTHS
            .iter()
            .map(|&len| request(&ids(len, 3), sampled(5, 1)))
            .collect();
        for (request, got) in requests.iter().zip(together(&engine, &requests)) {
            let alone_here = Engine::new(model("internlm2", 7), config.clone()).unwrap();
            assert_eq!(got, said(alone_here.complete(request).unwrap()));
            let want = alone(&reference, request);
            let (got, want) = (got.logprobs[0].top[0].1, want.logprobs[0].top[0].1);
            assert!((got - want).abs() < near, "{kv_cache:?}: {got} and {want}");
        }
    }
}

/// An answer that is being written goes on while a prompt is scored, at least a token for each piece but the first.
#[test]
fn a_prompt_that_is_scored_holds_nobody_up() {
    let engine = engine(EngineConfig::default());
    let prompt = ids(500, 2);
    // An answer that ended before the prompt was read says nothing: it is asked for again.
    for seed in 0..20 {
        let sampling = sampled(seed, 590).with_ignore_eos(true);
        let mut running = engine.submit(request(&ids(5, seed), sampling)).unwrap();
        running.next().unwrap().unwrap();
        let before = engine.metrics().completion_tokens;
        let scores = engine.prompt_logprobs(&prompt, 1).unwrap();
        assert_eq!(scores.len(), prompt.len() - 1);
        let after = engine.metrics();
        if after.running > 0 {
            let written = after.completion_tokens - before;
            assert!(written >= 7, "{written} tokens");
            return;
        }
    }
    panic!("all answers ended before the prompt was read");
}

/// More than the engine does in one go, in calls that begin where others ended, and with an answer between them.
#[test]
fn scores_of_what_begins_alike_go_on_from_piece_to_piece() {
    let reference = model("internlm2", 7);
    let engine = engine(EngineConfig::default());
    let span = |i: u64| {
        // Two subjects with examples of their own, questions, and several endings of each.
        let mut context = ids(50, 100 + i / 120);
        context.extend(ids(20 + (i / 4 % 3) as usize, i / 4));
        ScoreRequest {
            context: Tokens::Ids(context),
            continuation: Tokens::Ids(ids(1 + (i % 4) as usize, i)),
        }
    };
    let requests: Vec<_> = (0..240).map(span).collect();
    let want = reference.score(&requests).unwrap();
    assert_eq!(engine.score(&requests).unwrap(), want);
    let mut got = Vec::new();
    for (i, part) in requests.chunks(50).enumerate() {
        if i == 2 {
            engine
                .complete(&request(&ids(30, 1), sampled(1, 5)))
                .unwrap();
        }
        got.extend(engine.score(part).unwrap());
    }
    assert_eq!(got, want);
}

#[test]
fn scores_are_those_of_the_model_also_while_others_run() {
    let reference = model("internlm2", 7);
    let engine = engine(EngineConfig::default());
    let requests: Vec<_> = (0..30)
        .map(|i| ScoreRequest {
            context: Tokens::Ids(ids(20 + 30 * (i % 3), (i % 3) as u64)),
            continuation: Tokens::Ids(ids(1 + i % 5, 50 + i as u64)),
        })
        .collect();
    let chat = request(&ids(50, 1), sampled(1, 200));
    let running = engine.submit(chat.clone()).unwrap();
    assert_eq!(
        engine.score(&requests).unwrap(),
        reference.score(&requests).unwrap()
    );
    let texts = [
        Tokens::from("a text of some length"),
        Tokens::Ids(ids(1500, 8)),
    ];
    assert_eq!(
        engine.score_rolling(&texts).unwrap(),
        reference.score_rolling(&texts).unwrap()
    );
    assert_eq!(running.complete().unwrap(), alone(&reference, &chat));
}

/// Answers that repeat themselves: guesses are right often, and change nothing.
#[test]
fn guesses_change_nothing() {
    let config = EngineConfig::default()
        .with_prompt_lookup(Some(PromptLookup::default().with_ngrams(1, 3)))
        .with_max_batch(5);
    for model_type in ["internlm2", "internlm"] {
        let reference = model(model_type, 7);
        let engine = Engine::new(model(model_type, 7), config.clone()).unwrap();
        let pattern = ids(7, 1).repeat(12);
        let requests: Vec<_> = (0..10)
            .map(|i| {
                let sampling = match i % 2 {
                    0 => SamplingParams::greedy().with_max_new_tokens(30 + i),
                    _ => sampled(i as u64, 50 + i).with_temperature(0.7),
                };
                request(&pattern[..20 + 6 * i], sampling)
            })
            .collect();
        check_together(&engine, &reference, &requests);
        let metrics = settle(&engine);
        assert!(metrics.accepted_tokens > 0, "{metrics:?}");
        assert!(
            metrics.accepted_tokens < metrics.drafted_tokens,
            "{metrics:?}"
        );
        assert_eq!(metrics.blocks_in_use, 0);
    }
}

/// A draft model that is right always, sometimes or never, over a cache with room and without: the answers stay.
#[test]
fn guesses_of_a_model_change_nothing() {
    for model_type in ["internlm2", "internlm"] {
        let reference = model(model_type, 7);
        for (draft, block_count) in [(7, 60), (7, 9), (8, 60), (8, 9)] {
            let models = Models::new(model(model_type, 7)).with_draft(model(model_type, draft));
            // The draft's cache takes as much again; InternLM 1 has twice the heads.
            let heads = if model_type == "internlm" { 2 } else { 1 };
            let config = EngineConfig::default()
                .with_cache(blocks(2 * heads * block_count))
                .with_max_batch(5)
                .with_prefill_chunk_beside_decode(30);
            let engine = Engine::new(models, config).unwrap();
            assert_eq!(engine.metrics().blocks_total, block_count);
            let requests: Vec<_> = (0..6)
                .map(|i| {
                    let sampling = match i % 2 {
                        0 => SamplingParams::greedy().with_max_new_tokens(130 + i),
                        _ => sampled(i as u64, 150 + i).with_temperature(0.7),
                    };
                    request(
                        &ids(20 + 7 * i, (i % 4) as u64),
                        sampling.with_ignore_eos(true),
                    )
                })
                .collect();
            for _ in 0..2 {
                check_together(&engine, &reference, &requests);
            }
            let metrics = settle(&engine);
            assert!(metrics.drafted_tokens > 0);
            if draft == 7 {
                // Of greedy answers, 804 tokens, every guess of the model itself is right.
                assert!(metrics.accepted_tokens > 500, "{metrics:?}");
            }
            assert_eq!(metrics.preemptions > 0, block_count == 9, "{metrics:?}");
        }
    }
}

#[test]
fn a_draft_model_must_have_the_tokenizer() {
    let models = Models::new(model("internlm2", 7)).with_draft(crate::common::padded_model());
    let refused = Engine::new(models, EngineConfig::default());
    assert!(matches!(refused, Err(Error::Config { field: "draft", .. })));
}
