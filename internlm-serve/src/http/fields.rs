//! Fields of requests, and what they may be.

use std::collections::BTreeMap;

use internlm_core::chat_model::ResponseFormat;
use internlm_core::{ChatRequest, SamplingParams};
use serde::Deserialize;
use serde_json::Number;

use super::body;
use super::error::ApiError;
use super::form::{Format, OtherForms, Structured};
use super::state::Server;
use crate::request::Request;

/// Values that a number may have.
struct Range {
    field: &'static str,
    least: f64,
    most: f64,
    /// Whether the least one is excluded.
    open: bool,
}

/// Tokens that an answer may be limited to: more than any context holds.
const MOST_TOKENS: f64 = i32::MAX as f64;

/// Every number of a request that is not limited by the server's configuration or by the model. OpenAI's
/// ranges where it has the field, else vLLM's.
const RANGES: [Range; 16] = [
    range("temperature", 0.0, 2.0),
    above("top_p", 0.0, 1.0),
    // -1 means all, as in vLLM.
    range("top_k", -1.0, MOST_TOKENS),
    range("min_p", 0.0, 1.0),
    above("repetition_penalty", 0.0, 2.0),
    range("frequency_penalty", -2.0, 2.0),
    range("presence_penalty", -2.0, 2.0),
    range("logit_bias", -100.0, 100.0),
    range("max_tokens", 0.0, MOST_TOKENS),
    range("max_completion_tokens", 0.0, MOST_TOKENS),
    range("top_logprobs", 0.0, 20.0),
    range("logprobs", 0.0, 20.0),
    // How many of them.
    range("stop", 0.0, 16.0),
    range("stop_token_ids", 0.0, 256.0),
    range("tools", 0.0, 128.0),
    range("messages", 1.0, 8192.0),
];

/// Longest stop text in bytes.
const MOST_STOP_BYTES: usize = 1024;

const fn range(field: &'static str, least: f64, most: f64) -> Range {
    Range {
        field,
        least,
        most,
        open: false,
    }
}

const fn above(field: &'static str, least: f64, most: f64) -> Range {
    Range {
        field,
        least,
        most,
        open: true,
    }
}

/// Checks a number by the table.
///
/// # Errors
/// Out of the field's range, or not a number.
pub(super) fn check(field: &str, value: f64) -> Result<(), ApiError> {
    let Some(range) = RANGES.iter().find(|range| range.field == field) else {
        return Ok(());
    };
    let good = value <= range.most
        && match range.open {
            true => value > range.least,
            false => value >= range.least,
        };
    match good {
        true => Ok(()),
        false => {
            let open = if range.open { "above" } else { "from" };
            let message = format!(
                "`{field}` is {value}, expected {open} {} to {}.",
                range.least, range.most
            );
            Err(ApiError::field(field, message))
        }
    }
}

/// The same for a number of things.
pub(super) fn check_len(field: &str, len: usize) -> Result<(), ApiError> {
    let Some(range) = RANGES.iter().find(|range| range.field == field) else {
        return Ok(());
    };
    let (least, most) = (range.least as usize, range.most as usize);
    match (least..=most).contains(&len) {
        true => Ok(()),
        false => {
            let message = format!("`{field}` has {len} items, expected {least} to {most}.");
            Err(ApiError::field(field, message))
        }
    }
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

/// How a stream is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    include_usage: Option<bool>,
}

/// What requests for chats and for completions have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Common {
    pub(super) model: Option<String>,
    n: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<BTreeMap<String, f64>>,
    pub(super) max_tokens: Option<u64>,
    pub(super) max_completion_tokens: Option<u64>,
    seed: Option<Number>,
    stop: Option<Texts>,
    stop_token_ids: Option<Vec<u32>>,
    ignore_eos: Option<bool>,
    skip_special_tokens: Option<bool>,
    return_tokens_as_token_ids: Option<bool>,
    return_token_ids: Option<bool>,
    response_format: Option<Format>,
    structured_outputs: Option<Structured>,
}

impl Common {
    /// Reads them.
    ///
    /// # Errors
    /// A body that is not JSON, a field of another type, a form in words of another server.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        body::parse::<OtherForms>(bytes)?.check()?;
        body::parse(bytes)
    }

    pub(super) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    pub(super) fn includes_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage == Some(true))
    }

    /// Whether tokens are written as `token_id:5`.
    pub(super) fn tokens_as_ids(&self) -> bool {
        self.return_tokens_as_token_ids == Some(true)
    }

    /// Whether answers come with their token ids, as vLLM's `return_token_ids` has it.
    pub(super) fn returns_ids(&self) -> bool {
        self.return_token_ids == Some(true)
    }

    /// The number of answers to each of `prompts` prompts.
    ///
    /// # Errors
    /// None, or more in all than the server allows.
    pub(super) fn n(&self, server: &Server, prompts: usize) -> Result<usize, ApiError> {
        let n = usize::try_from(self.n.unwrap_or(1)).unwrap_or(usize::MAX);
        check_answers(server, "n", n, prompts)?;
        Ok(n)
    }

    /// Sampling and stopping: what the request says, over the server's defaults.
    ///
    /// # Errors
    /// A value out of its range.
    pub(super) fn sampling(&self, server: &Server) -> Result<SamplingParams, ApiError> {
        let mut params = server.sampling.clone();
        let number = |field: &str, value: Option<f64>, place: &mut f32| -> Result<(), ApiError> {
            if let Some(value) = value {
                check(field, value)?;
                *place = value as f32;
            }
            Ok(())
        };
        let drawn = self.top_p.is_some() || self.top_k.is_some() || self.min_p.is_some();
        if drawn && self.temperature.is_none() && params.temperature == 0.0 {
            // Without a temperature these would have nothing to choose from.
            params.temperature = 1.0;
        }
        number("temperature", self.temperature, &mut params.temperature)?;
        number("top_p", self.top_p, &mut params.top_p)?;
        number("min_p", self.min_p, &mut params.min_p)?;
        number(
            "repetition_penalty",
            self.repetition_penalty,
            &mut params.repetition_penalty,
        )?;
        number(
            "frequency_penalty",
            self.frequency_penalty,
            &mut params.frequency_penalty,
        )?;
        number(
            "presence_penalty",
            self.presence_penalty,
            &mut params.presence_penalty,
        )?;
        if params.top_p <= 0.0 {
            // Above 0 in f64 and not in f32.
            params.top_p = f32::MIN_POSITIVE;
        }
        if let Some(top_k) = self.top_k {
            check("top_k", top_k as f64)?;
            params.top_k = usize::try_from(top_k).unwrap_or(0);
        }
        for (field, value) in [
            ("max_tokens", self.max_tokens),
            ("max_completion_tokens", self.max_completion_tokens),
        ] {
            if let Some(value) = value {
                check(field, value as f64)?;
                params.max_new_tokens = Some(value as usize);
            }
        }
        if let Some(seed) = &self.seed {
            params.seed = Some(read_seed(seed)?);
        }
        if let Some(bias) = &self.logit_bias {
            params.logit_bias = read_bias(bias, server)?;
        }
        if let Some(stop) = &self.stop {
            params.stop = read_stop(stop)?;
        }
        if let Some(ids) = &self.stop_token_ids {
            check_len("stop_token_ids", ids.len())?;
            ids.iter()
                .try_for_each(|&id| check_token(id, "stop_token_ids", server))?;
            params.stop_token_ids = ids.clone();
        }
        params.ignore_eos = self.ignore_eos.unwrap_or(params.ignore_eos);
        Ok(params)
    }

    /// The engine's request.
    ///
    /// # Errors
    /// There is no such model.
    pub(super) fn request(
        &self,
        server: &Server,
        chat: ChatRequest,
        n: usize,
    ) -> Result<Request, ApiError> {
        let form = match (&self.response_format, &self.structured_outputs) {
            (None, None) => ResponseFormat::Text,
            (Some(format), None) => format.response_format(),
            (None, Some(structured)) => structured.response_format()?,
            (Some(_), Some(_)) => {
                let message = "An answer has one form: `response_format` or `structured_outputs`.";
                return Err(ApiError::field("structured_outputs", message.to_owned()));
            }
        };
        let chat = chat.with_response_format(form);
        let keep = self.skip_special_tokens == Some(false);
        let mut request = Request::new(chat.with_keep_special_tokens(keep)).with_n(n);
        request.deadline = server.config.request_deadline;
        request.adapter = server.adapter(self.model.as_deref())?;
        Ok(request)
    }
}

/// Refuses more answers than the server allows.
pub(super) fn check_answers(
    server: &Server,
    field: &'static str,
    n: usize,
    prompts: usize,
) -> Result<(), ApiError> {
    let most = (server.config.max_answers / prompts.max(1)).max(1);
    match (1..=most).contains(&n) {
        true => Ok(()),
        false => {
            let message = format!("`{field}` is {n}, expected 1 to {most}.");
            Err(ApiError::field(field, message))
        }
    }
}

/// Refuses ids outside of the vocabulary.
pub(super) fn check_token(id: u32, field: &str, server: &Server) -> Result<(), ApiError> {
    let vocab_size = server.engine.model().config().vocab_size;
    match (id as usize) < vocab_size {
        true => Ok(()),
        false => {
            let message = format!("`{field}` has the token {id}, the vocabulary has {vocab_size}.");
            Err(ApiError::field(field, message))
        }
    }
}

/// A whole number of 64 bits, with or without a sign.
fn read_seed(seed: &Number) -> Result<u64, ApiError> {
    let signed = || seed.as_i64().map(i64::cast_unsigned);
    seed.as_u64().or_else(signed).ok_or_else(|| {
        let message = format!("`seed` is {seed}, expected a whole number of 64 bits.");
        ApiError::field("seed", message)
    })
}

fn read_bias(bias: &BTreeMap<String, f64>, server: &Server) -> Result<Vec<(u32, f32)>, ApiError> {
    let mut read = Vec::with_capacity(bias.len());
    for (token, &bias) in bias {
        let id: u32 = token.parse().map_err(|_| {
            let message = format!("`logit_bias` has the key `{token}`, expected token ids.");
            ApiError::field("logit_bias", message)
        })?;
        check_token(id, "logit_bias", server)?;
        check("logit_bias", bias)?;
        read.push((id, bias as f32));
    }
    Ok(read)
}

fn read_stop(stop: &Texts) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        Texts::One(text) => vec![text.clone()],
        Texts::Many(texts) => texts.clone(),
    };
    check_len("stop", stops.len())?;
    match stops
        .iter()
        .all(|stop| !stop.is_empty() && stop.len() <= MOST_STOP_BYTES)
    {
        true => Ok(stops),
        false => {
            let message =
                format!("`stop` has a text that is not 1 to {MOST_STOP_BYTES} bytes long.");
            Err(ApiError::field("stop", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_closed_or_open() {
        for (field, good, bad) in [
            ("temperature", vec![0.0, 2.0], vec![-0.1, 2.1, f64::NAN]),
            ("top_p", vec![0.1, 1.0], vec![0.0, 1.1, f64::NAN]),
            ("top_k", vec![-1.0, 0.0, 50.0], vec![-2.0, 1e20]),
            ("max_tokens", vec![0.0, 1e9], vec![-1.0, 2f64.powi(63)]),
            ("presence_penalty", vec![-2.0, 2.0], vec![-2.1, 2.1]),
        ] {
            for value in good {
                assert!(check(field, value).is_ok(), "{field} {value}");
            }
            for value in bad {
                let error = check(field, value).unwrap_err();
                assert_eq!(error.param.as_deref(), Some(field), "{value}");
            }
        }
    }

    #[test]
    fn seeds_have_64_bits() {
        let seed = |text: &str| read_seed(&serde_json::from_str(text).unwrap()).ok();
        assert_eq!(seed("7"), Some(7));
        assert_eq!(seed("-1"), Some(u64::MAX));
        assert_eq!(seed("9223372036854775808"), Some(1 << 63));
        assert_eq!(seed("18446744073709551616"), None);
        assert_eq!(seed("1.5"), None);
    }

    #[test]
    fn stops_are_one_or_many() {
        let stop = |text: &str| read_stop(&serde_json::from_str(text).unwrap());
        assert_eq!(stop("\"a\"").unwrap(), ["a"]);
        assert_eq!(stop("[\"a\", \"b\"]").unwrap(), ["a", "b"]);
        assert!(stop("[\"a\", \"\"]").is_err());
        let many = serde_json::to_string(&vec!["a"; 17]).unwrap();
        assert!(stop(&many).is_err());
        assert!(serde_json::from_str::<Texts>("1").is_err());
    }
}
