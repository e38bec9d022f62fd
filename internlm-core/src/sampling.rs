//! How the next token is chosen and when generation stops.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Parameters of sampling and stopping.
///
/// The steps are applied in Hugging Face's order: logit bias, repetition, frequency and presence
/// penalties, temperature, top-k, top-p, min-p. The default is greedy, without penalties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SamplingParams {
    /// Divides the logits; `0` takes the largest (the first of equals).
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; `0` keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probabilities reach this sum; in `(0, 1]`.
    pub top_p: f32,
    /// Keeps tokens at least this many times as likely as the most likely one; in `[0, 1]`.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer
    /// (CTRL, arXiv 1909.05858); `1` is off.
    pub repetition_penalty: f32,
    /// Subtracted once per earlier occurrence in the answer (OpenAI).
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred in the answer (OpenAI).
    pub presence_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the generator; without one every run draws anew.
    pub seed: Option<u64>,
    /// Most tokens to generate; without a limit generation ends with the context.
    pub max_new_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides those of the model; they are not part of it.
    pub stop_token_ids: Vec<u32>,
    /// Go on past the model's own end tokens (for benchmarks).
    pub ignore_eos: bool,
    /// Report the chosen token's log-probability and those of this many most likely tokens.
    pub logprobs: Option<usize>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            max_new_tokens: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }
}

impl SamplingParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self::default()
    }

    /// Sets the temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets top-k.
    #[must_use]
    pub fn with_top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets top-p.
    #[must_use]
    pub fn with_top_p(mut self, top_p: f32) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets min-p.
    #[must_use]
    pub fn with_min_p(mut self, min_p: f32) -> Self {
        self.min_p = min_p;
        self
    }

    /// Sets the repetition penalty.
    #[must_use]
    pub fn with_repetition_penalty(mut self, repetition_penalty: f32) -> Self {
        self.repetition_penalty = repetition_penalty;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the most tokens to generate.
    #[must_use]
    pub fn with_max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = Some(max_new_tokens);
        self
    }

    /// Adds a stop text.
    #[must_use]
    pub fn with_stop(mut self, stop: impl Into<String>) -> Self {
        self.stop.push(stop.into());
        self
    }

    /// Asks for log-probabilities, with those of this many most likely tokens.
    #[must_use]
    pub fn with_logprobs(mut self, top: usize) -> Self {
        self.logprobs = Some(top);
        self
    }

    /// Sets whether to go on past the model's own end tokens.
    #[must_use]
    pub fn with_ignore_eos(mut self, ignore_eos: bool) -> Self {
        self.ignore_eos = ignore_eos;
        self
    }

    /// Checks every number on its own; what depends on a model (token ids, the context) is not
    /// checked.
    ///
    /// # Errors
    /// [`Error::Request`] that names the first field out of its range: the temperature must be
    /// finite and not negative, `top_p` in `(0, 1]`, `min_p` in `[0, 1]`, the repetition penalty
    /// finite and positive, the other penalties finite. A bias must not be NaN or positive
    /// infinity (negative infinity forbids the token), and a stop text not empty.
    pub fn validate(&self) -> Result<()> {
        let check = |field, value: f32, good: bool, want: &str| match good {
            true => Ok(()),
            false => Err(Error::Request {
                field,
                what: format!("is {value}, expected {want}"),
            }),
        };
        let t = self.temperature;
        let finite = "a finite number";
        check(
            "temperature",
            t,
            t.is_finite() && t >= 0.0,
            "a finite number that is not negative",
        )?;
        let p = self.top_p;
        check("top_p", p, p > 0.0 && p <= 1.0, "a number in (0, 1]")?;
        let p = self.min_p;
        check("min_p", p, (0.0..=1.0).contains(&p), "a number in [0, 1]")?;
        let p = self.repetition_penalty;
        check(
            "repetition_penalty",
            p,
            p.is_finite() && p > 0.0,
            "a finite number above 0",
        )?;
        let p = self.frequency_penalty;
        check("frequency_penalty", p, p.is_finite(), finite)?;
        let p = self.presence_penalty;
        check("presence_penalty", p, p.is_finite(), finite)?;
        for &(_, bias) in &self.logit_bias {
            let good = bias < f32::INFINITY;
            check(
                "logit_bias",
                bias,
                good,
                "finite numbers or negative infinity",
            )?;
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Request {
                field: "stop",
                what: "has an empty text, which would end every answer".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(want: &str, change: impl FnOnce(&mut SamplingParams)) {
        let mut params = SamplingParams::default();
        change(&mut params);
        match params.validate() {
            Err(Error::Request { field, .. }) => assert_eq!(field, want),
            other => panic!("expected an error about `{want}`, got {other:?}"),
        }
    }

    #[test]
    fn good_parameters() {
        SamplingParams::default().validate().unwrap();
        SamplingParams::greedy()
            .with_temperature(2.5)
            .with_top_k(40)
            .with_top_p(f32::MIN_POSITIVE)
            .with_min_p(1.0)
            .with_repetition_penalty(0.5)
            .with_seed(1)
            .with_stop("\n")
            .with_max_new_tokens(0)
            .with_logprobs(0)
            .with_ignore_eos(true)
            .validate()
            .unwrap();
        let mut params = SamplingParams::greedy();
        params.logit_bias = vec![(1, f32::NEG_INFINITY), (2, -100.0)];
        params.frequency_penalty = -2.0;
        params.presence_penalty = 2.0;
        params.validate().unwrap();
    }

    #[test]
    fn bad_parameters_are_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            refused("temperature", |p| p.temperature = bad);
            refused("top_p", |p| p.top_p = bad);
            refused("min_p", |p| p.min_p = bad);
            refused("repetition_penalty", |p| p.repetition_penalty = bad);
            refused("frequency_penalty", |p| p.frequency_penalty = bad);
            refused("presence_penalty", |p| p.presence_penalty = bad);
        }
        refused("temperature", |p| p.temperature = -0.1);
        refused("top_p", |p| p.top_p = 0.0);
        refused("top_p", |p| p.top_p = 1.1);
        refused("min_p", |p| p.min_p = -0.1);
        refused("min_p", |p| p.min_p = 1.1);
        refused("repetition_penalty", |p| p.repetition_penalty = 0.0);
        refused("repetition_penalty", |p| p.repetition_penalty = -1.0);
        refused("logit_bias", |p| {
            p.logit_bias = vec![(0, 1.0), (1, f32::NAN)]
        });
        refused("logit_bias", |p| p.logit_bias = vec![(1, f32::INFINITY)]);
        refused("stop", |p| p.stop = vec!["a".into(), String::new()]);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let params: SamplingParams = serde_json::from_value(json!({"top_k": 3})).unwrap();
        assert_eq!(params, SamplingParams::default().with_top_k(3));
        let written = serde_json::to_value(&params).unwrap();
        assert_eq!(
            serde_json::from_value::<SamplingParams>(written).unwrap(),
            params
        );
    }
}
