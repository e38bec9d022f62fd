//! `generation_config.json`: end tokens and sampling defaults.

use std::path::Path;

use internlm_core::SamplingParams;
use serde_json::{Map, Value, json};

use super::Config;
use super::keys::Keys;
use crate::error::{Error, Result};

/// End tokens and sampling defaults of a checkpoint. Absent values leave the choice to the caller.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer.
    pub eos_token_ids: Vec<u32>,
    /// The token that fills up batches.
    pub pad_token_id: Option<u32>,
    /// Whether to draw tokens or to take the most likely one.
    pub do_sample: Option<bool>,
    /// Divides the logits.
    pub temperature: Option<f32>,
    /// Keeps this many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Keeps the most likely tokens up to this sum of probabilities.
    pub top_p: Option<f32>,
    /// Keeps tokens at least this many times as likely as the most likely one.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens that were seen.
    pub repetition_penalty: Option<f32>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
}

impl GenerationConfig {
    /// The token ids of a configuration, and no sampling defaults.
    pub fn of(config: &Config) -> Self {
        Self {
            bos_token_id: config.bos_token_id,
            eos_token_ids: config.eos_token_ids.clone(),
            pad_token_id: config.pad_token_id,
            ..Self::default()
        }
    }

    /// Reads `generation_config.json`. Its ids take priority, those that it lacks come from
    /// `config`.
    ///
    /// # Errors
    /// Bytes that are not a JSON object, or a value of the wrong kind; `file` is named.
    pub fn from_json(file: &Path, bytes: &[u8], config: &Config) -> Result<Self> {
        let map: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|source| Error::Json {
                file: file.to_path_buf(),
                source,
            })?;
        let keys = Keys::new(file, &map);
        let of_config = Self::of(config);
        let float = |key| Ok::<_, Error>(keys.number(key)?.map(|v| v as f32));
        Ok(Self {
            bos_token_id: keys.token_id("bos_token_id")?.or(of_config.bos_token_id),
            eos_token_ids: keys
                .token_ids("eos_token_id")?
                .unwrap_or(of_config.eos_token_ids),
            pad_token_id: keys.token_id("pad_token_id")?.or(of_config.pad_token_id),
            do_sample: keys.bool("do_sample")?,
            temperature: float("temperature")?,
            top_k: keys.size("top_k")?,
            top_p: float("top_p")?,
            min_p: float("min_p")?,
            repetition_penalty: float("repetition_penalty")?,
            max_new_tokens: keys.size("max_new_tokens")?,
        })
    }

    /// The layout of `generation_config.json`.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            map.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("bos_token_id", self.bos_token_id.map(Value::from));
        put("eos_token_id", token_ids(&self.eos_token_ids));
        put("pad_token_id", self.pad_token_id.map(Value::from));
        put("do_sample", self.do_sample.map(Value::from));
        put("temperature", self.temperature.map(shortest));
        put("top_k", self.top_k.map(Value::from));
        put("top_p", self.top_p.map(shortest));
        put("min_p", self.min_p.map(shortest));
        put("repetition_penalty", self.repetition_penalty.map(shortest));
        put("max_new_tokens", self.max_new_tokens.map(Value::from));
        Value::Object(map)
    }

    /// Sampling as the checkpoint recommends it: greedy unless `do_sample` is true.
    pub fn sampling_params(&self) -> SamplingParams {
        let mut params = SamplingParams::greedy();
        if self.do_sample == Some(true) {
            params.temperature = self.temperature.unwrap_or(1.0);
            params.top_k = self.top_k.unwrap_or(params.top_k);
            params.top_p = self.top_p.unwrap_or(params.top_p);
            params.min_p = self.min_p.unwrap_or(params.min_p);
        }
        params.repetition_penalty = self.repetition_penalty.unwrap_or(params.repetition_penalty);
        params.max_new_tokens = self.max_new_tokens;
        params
    }
}

/// A single id as a number, more as a list, as Hugging Face writes them.
pub(super) fn token_ids(ids: &[u32]) -> Option<Value> {
    match ids {
        [] => None,
        [one] => Some(json!(one)),
        more => Some(json!(more)),
    }
}

/// 0.8, not 0.800000011920929.
fn shortest(value: f32) -> Value {
    value
        .to_string()
        .parse::<f64>()
        .map_or(Value::Null, Value::from)
}
