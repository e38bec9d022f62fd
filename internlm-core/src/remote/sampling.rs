//! Sampling parameters as servers want them, and those that they can't keep.

use serde_json::{Map, Value};

use super::config::Dialect;
use super::request::Route;
use crate::error::{Error, Result};
use crate::sampling::SamplingParams;

/// How far llama.cpp's penalties look back where its context is not known.
const LLAMA_CPP_PENALTY_TOKENS: usize = 1 << 17;

pub(super) fn refuse<T>(field: &'static str, what: impl Into<String>) -> Result<T> {
    let what = what.into();
    Err(Error::Request { field, what })
}

/// A number as it is written: 0.7, not the 0.699999988079071 that widening makes of it.
fn number(value: f32) -> Value {
    value
        .to_string()
        .parse::<f64>()
        .unwrap_or(f64::from(value))
        .into()
}

/// What says how tokens are drawn.
///
/// A server whose extensions are known is told all of it: left out, vLLM takes what the model's
/// `generation_config.json` recommends, LMDeploy a top-k of 40 and llama.cpp a min-p of 0.05.
pub(super) fn fields(
    p: &SamplingParams,
    dialect: Dialect,
    route: Route,
    context_length: usize,
    body: &mut Map<String, Value>,
) -> Result<()> {
    match dialect {
        Dialect::LmDeploy => check_lmdeploy(p, route)?,
        Dialect::LlamaCpp => check_llama_cpp(p)?,
        Dialect::OpenAi | Dialect::Vllm => {}
    }
    let known = dialect != Dialect::OpenAi;
    let mut set = |name: &str, value: Value, always: bool, off: bool| {
        if always || !off {
            body.insert(name.to_owned(), value);
        }
    };
    set("temperature", number(p.temperature), true, false);
    set("top_p", number(p.top_p), true, false);
    let (frequency, presence) = (p.frequency_penalty, p.presence_penalty);
    set(
        "frequency_penalty",
        number(frequency),
        known,
        frequency == 0.0,
    );
    set("presence_penalty", number(presence), known, presence == 0.0);
    let top_k = match p.top_k {
        // LMDeploy always samples; of one token there is nothing to draw.
        _ if dialect == Dialect::LmDeploy && p.temperature == 0.0 => 1.into(),
        0 if dialect == Dialect::Vllm => (-1).into(),
        top_k => top_k.into(),
    };
    set("top_k", top_k, known, p.top_k == 0);
    set("min_p", number(p.min_p), known, p.min_p == 0.0);
    let repetition = p.repetition_penalty;
    let name = match dialect {
        Dialect::LlamaCpp => "repeat_penalty",
        _ => "repetition_penalty",
    };
    set(name, number(repetition), known, repetition == 1.0);
    if dialect == Dialect::LlamaCpp {
        // All penalties look at the whole context, not only at its last 64 tokens. Old versions
        // take -1 for this, new ones refuse it.
        let off = repetition == 1.0 && frequency == 0.0 && presence == 0.0;
        let last = match context_length {
            0 => LLAMA_CPP_PENALTY_TOKENS,
            length => length,
        };
        set("repeat_last_n", last.into(), false, off);
    }
    if let Some(seed) = p.seed {
        set("seed", seed.into(), true, false);
    }
    set("stop", p.stop.clone().into(), false, p.stop.is_empty());
    set("ignore_eos", true.into(), false, !p.ignore_eos);
    if !p.logit_bias.is_empty() {
        // OpenAI's range ends at ±100, and -100 forbids a token.
        let bias = p
            .logit_bias
            .iter()
            .map(|&(id, bias)| (id.to_string(), number(bias.max(-100.0))));
        set(
            "logit_bias",
            bias.collect::<Map<_, _>>().into(),
            true,
            false,
        );
    }
    let stop_token_ids = p.stop_token_ids.clone();
    let off = stop_token_ids.is_empty();
    set("stop_token_ids", stop_token_ids.into(), false, off);
    logprobs(p, dialect, route, body)
}

/// What LMDeploy's interface has no field for, or reads and passes over
/// (`lmdeploy/serve/openai/api_server.py`).
fn check_lmdeploy(p: &SamplingParams, route: Route) -> Result<()> {
    if p.frequency_penalty != 0.0 {
        return refuse("frequency_penalty", "LMDeploy passes it over");
    }
    if p.presence_penalty != 0.0 {
        return refuse("presence_penalty", "LMDeploy passes it over");
    }
    if !p.logit_bias.is_empty() && route == Route::Completions {
        return refuse("logit_bias", "LMDeploy has it for messages only");
    }
    if p.seed == Some(0) {
        return refuse("seed", "is 0, which LMDeploy takes for none");
    }
    no_stop_token_ids(p)
}

/// What llama.cpp's server would take otherwise (`tools/server/server-schema.cpp`).
fn check_llama_cpp(p: &SamplingParams) -> Result<()> {
    if p.seed.is_some_and(|seed| seed >= u64::from(u32::MAX)) {
        return refuse(
            "seed",
            "has more than 32 bits, or is what llama.cpp takes for none",
        );
    }
    no_stop_token_ids(p)
}

fn no_stop_token_ids(p: &SamplingParams) -> Result<()> {
    match p.stop_token_ids.is_empty() {
        true => Ok(()),
        false => refuse("stop_token_ids", "the server's interface has no such field"),
    }
}

fn logprobs(
    p: &SamplingParams,
    dialect: Dialect,
    route: Route,
    body: &mut Map<String, Value>,
) -> Result<()> {
    let Some(top) = p.logprobs else {
        return Ok(());
    };
    if matches!(dialect, Dialect::OpenAi | Dialect::LmDeploy) {
        let what = "the server names tokens by their text, from which their ids can't be told";
        return refuse("logprobs", what);
    }
    // To llama.cpp 0 means none at all, not even the chosen token's.
    let top = match dialect {
        Dialect::LlamaCpp => top.max(1),
        _ => top,
    };
    match route {
        Route::Chat => {
            body.insert("logprobs".into(), true.into());
            body.insert("top_logprobs".into(), top.into());
        }
        Route::Completions => {
            body.insert("logprobs".into(), top.into());
        }
    }
    if dialect == Dialect::Vllm {
        body.insert("return_tokens_as_token_ids".into(), true.into());
    }
    Ok(())
}
