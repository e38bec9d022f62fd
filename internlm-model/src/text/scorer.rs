//! Log-likelihoods of texts, by lm-evaluation-harness's rules.

use internlm_core::scorer::{ModelFacts, ScoreRequest, ScoredIds, SpanEncoder, TokenScore, Tokens};
use internlm_core::{Message, Part, Scorer, ToolSpec};
use internlm_tokenize::Tokenizer;

use super::{TextModel, to_core};
use crate::causal_lm::CausalLm;
use crate::error::{Error, Result};
use crate::score::ScoreSpan;

pub(super) fn facts(model: &CausalLm, tokenizer: &Tokenizer) -> ModelFacts {
    let config = model.config();
    let mut facts = ModelFacts::default();
    facts.name = model.name().to_owned();
    facts.architecture = config.architecture.as_str().to_owned();
    facts.context_length = config.max_position_embeddings;
    facts.vocab_size = config.vocab_size;
    facts.prefix_token = tokenizer.bos_token_id().or(tokenizer.eos_token_id());
    facts.tokenizer_hash = Some(tokenizer.hash().to_owned());
    facts
}

/// A model as the rules of scoring ask it.
struct Encoder<'m>(&'m TextModel);

impl SpanEncoder for Encoder<'_> {
    type Error = Error;

    fn encode(&mut self, parts: &[Part], begins: bool) -> Result<Vec<u32>> {
        self.0.encode_prompt(parts, begins)
    }

    fn prefix_token(&self) -> Result<u32> {
        self.0.facts.prefix_token.ok_or_else(|| Error::Batch {
            what: "the tokenizer has neither a BOS nor an EOS token to stand for no context"
                .to_owned(),
        })
    }

    fn context_length(&self) -> usize {
        self.0.facts.context_length
    }
}

impl TextModel {
    fn encode_prompt(&self, parts: &[Part], add_bos: bool) -> Result<Vec<u32>> {
        let add_bos = add_bos && self.tokenizer.adds_bos();
        Ok(self.tokenizer.encode_parts(parts, add_bos)?)
    }

    /// Token ids of a request, and how many of the last ones are scored: [`ScoredIds::of`].
    ///
    /// # Errors
    /// An empty continuation, or one longer than the context; no token to stand for an empty context.
    pub fn scored_ids(&self, request: &ScoreRequest) -> Result<ScoredIds> {
        ScoredIds::of(&mut Encoder(self), request)
    }

    /// The windows in which every token of a text is scored: [`ScoredIds::rolling`].
    ///
    /// # Errors
    /// A text that the tokenizer refuses; no token to stand for an empty context.
    pub fn rolling_ids(&self, text: &Tokens) -> Result<Vec<ScoredIds>> {
        ScoredIds::rolling(&mut Encoder(self), text)
    }

    fn score_spans(&self, spans: &[ScoredIds]) -> Result<Vec<Vec<TokenScore>>> {
        let spans: Vec<_> = spans.iter().map(ScoreSpan::from).collect();
        self.model.score(&spans)
    }
}

impl Scorer for TextModel {
    fn score(&self, requests: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        let spans: Result<Vec<_>> = requests.iter().map(|r| self.scored_ids(r)).collect();
        spans
            .and_then(|spans| self.score_spans(&spans))
            .map_err(|e| to_core("scoring", e))
    }

    fn score_rolling(&self, texts: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        let run = || {
            let mut scores = Vec::new();
            for text in texts {
                let windows = self.rolling_ids(text)?;
                scores.push(self.score_spans(&windows)?.concat());
            }
            Ok(scores)
        };
        run().map_err(|e| to_core("scoring", e))
    }

    fn encode_parts(&self, parts: &[Part], add_bos: bool) -> internlm_core::Result<Vec<u32>> {
        self.encode_prompt(parts, add_bos)
            .map_err(|e| to_core("encoding", e))
    }

    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> internlm_core::Result<Vec<Part>> {
        self.render(messages, tools, add_generation_prompt)
            .map_err(|e| to_core("rendering a conversation", e))
    }

    fn facts(&self) -> &ModelFacts {
        &self.facts
    }
}
