//! What is refused, and how.

use internlm_core::{ChatModel, SamplingParams};
use internlm_serve::config::CacheBudget;
use internlm_serve::{Engine, EngineConfig, Error, Request};

use crate::common::{alone, blocks, engine, ids, model, padded_model, request, sampled};

#[track_caller]
fn refused(engine: &Engine, request: impl Into<Request>) -> Error {
    engine.submit(request).expect_err("it is refused")
}

#[test]
fn requests_that_cannot_be_run() {
    let engine = engine(EngineConfig::default().with_max_batch(4));
    let good = || request(&ids(5, 1), sampled(1, 5));
    for n in [0, 5] {
        let error = refused(&engine, Request::new(good()).with_n(n));
        assert!(
            matches!(error, Error::Request { field: "n", .. }),
            "{error}"
        );
    }
    let error = refused(&engine, Request::new(good()).with_adapter("none"));
    assert!(
        matches!(
            error,
            Error::Request {
                field: "adapter",
                ..
            }
        ),
        "{error}"
    );
    let error = refused(&engine, request(&[], sampled(1, 5)));
    assert!(matches!(error, Error::Model(_)), "{error}");
    let error = refused(&engine, request(&[5, 9999], sampled(1, 5)));
    assert!(
        matches!(
            error,
            Error::Model(internlm_model::Error::TokenId { id: 9999, .. })
        ),
        "{error}"
    );
    let error = refused(
        &engine,
        request(&ids(5, 1), SamplingParams::greedy().with_top_p(7.0)),
    );
    assert!(error.to_string().contains("top_p"), "{error}");
}

/// Never free text where a form was asked for.
#[cfg(not(feature = "guided"))]
#[test]
fn forms_are_refused_where_they_are_not_built_in() {
    use internlm_core::chat_model::ResponseFormat;
    use internlm_core::tool::ToolChoice;
    use internlm_core::{ChatModel, Error as CoreError, ToolSpec};

    let engine = engine(EngineConfig::default());
    let good = || request(&ids(5, 1), sampled(1, 5));
    let json = good().with_response_format(ResponseFormat::JsonObject);
    let error = engine.generate(&json).err().unwrap();
    assert!(
        matches!(
            error,
            CoreError::Request {
                field: "response_format",
                ..
            }
        ),
        "{error}"
    );
    let tool = good()
        .with_tools(vec![ToolSpec::new("f", "", serde_json::json!({}))])
        .with_tool_choice(ToolChoice::Required);
    let error = refused(&engine, tool);
    assert!(
        matches!(
            error,
            Error::Request {
                field: "tool_choice",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_context_is_what_the_cache_has_room_for() {
    let reference = model("internlm2", 7);
    let small = engine(EngineConfig::default().with_cache(blocks(2)));
    assert_eq!(small.context_length(), 128);
    let error = refused(&small, request(&ids(128, 1), sampled(1, 5)));
    assert!(
        matches!(
            error,
            Error::PromptTooLong {
                prompt_tokens: 128,
                context_length: 128
            }
        ) || matches!(
            error,
            Error::Model(internlm_model::Error::PromptTooLong {
                prompt_tokens: 128,
                context_length: 128
            })
        ),
        "{error}"
    );
    // An answer ends where the cache does, with what the model would have said up to there.
    let got = small
        .complete(&request(&ids(120, 1), sampled(1, 50)))
        .unwrap();
    assert_eq!(
        got,
        alone(&reference, &request(&ids(120, 1), sampled(1, 8)))
    );
    let short = engine(EngineConfig::default().with_max_context(Some(50)));
    assert_eq!(short.context_length(), 50);
}

#[test]
fn configurations_out_of_range() {
    let field = |config: EngineConfig| match Engine::new(model("internlm2", 1), config) {
        Err(Error::Config { field, .. }) => field,
        other => panic!("{:?}", other.err()),
    };
    let base = EngineConfig::default;
    assert_eq!(field(base().with_max_batch(0)), "max_batch");
    assert_eq!(field(base().with_max_waiting(0)), "max_waiting");
    assert_eq!(field(base().with_prefill_chunk(0)), "prefill_chunk");
    assert_eq!(field(base().with_max_context(Some(0))), "max_context");
    assert_eq!(field(base().with_cache(CacheBudget::Share(1.5))), "cache");
    assert_eq!(
        field(base().with_cache(CacheBudget::Share(f64::NAN))),
        "cache"
    );
    assert_eq!(field(base().with_cache(CacheBudget::Bytes(1000))), "cache");
}

/// Checkpoints pad their vocabulary: what is drawn there has no text, and harms nobody.
#[test]
fn columns_without_a_token_have_no_text() {
    let engine = Engine::new(padded_model(), EngineConfig::default()).unwrap();
    let mut silent = 0;
    for seed in 0..20 {
        let mut request = request(&ids(9, 1), sampled(seed, 40).with_temperature(5.0));
        request.sampling.ignore_eos = true;
        let answer = engine.complete(&request).unwrap();
        assert_eq!(answer.ids.len(), 40);
        silent += answer.ids.iter().filter(|&&id| id >= 265).count();
    }
    assert!(silent > 0);
}
