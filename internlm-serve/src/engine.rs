//! The engine: a model, a thread that runs it, and the handle that applications hold.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use internlm_core::chat_model::{Events, ModelIdentity, TokenLogprob};
use internlm_core::scorer::{ModelFacts, ScoreRequest, ScoredIds, TokenScore, Tokens};
use internlm_core::{ChatModel, ChatRequest, Message, Part, RewardModel, Scorer, ToolSpec};
use internlm_model::context::Mode;
use internlm_model::sampler::Sampler;
use internlm_model::score::{ScoreSpan, Scored};
use internlm_model::text::AnswerText;
use internlm_model::{AdapterSet, CausalLm, KvDtype, LoadConfig, PagedCache, TextModel};
use internlm_tokenize::{ChatTemplate, Tokenizer};

use crate::blocks::ContentId;
use crate::chat::Chat;
use crate::config::{CacheBudget, EngineConfig, KvCacheDtype};
use crate::error::{Error, Result};
use crate::guide::{self, Guide, GuideFactory};
use crate::inbox::{Closing, Inbox, Job};
use crate::memory::{self, Budget};
use crate::metrics::Metrics;
use crate::models::Models;
use crate::prompt_logprobs::{self, Reading};
use crate::request::Request;
use crate::response::{Response, channel};
use crate::sequence::{Sequence, Sibling};
use crate::speculate::Drafter;
use crate::worker::Worker;

/// A model that answers many requests at once. Cheap to clone; all clones are one engine, which does what
/// it was asked and ends when the last of them is dropped.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

struct Handle {
    text: Arc<TextModel>,
    config: EngineConfig,
    inbox: Arc<Inbox>,
    context_length: usize,
    /// Names of the adapters, in the order of the worker's set.
    adapters: Vec<String>,
    /// Made when the first answer of a certain form is asked for.
    guides: Mutex<Option<Arc<GuideFactory>>>,
    /// What was scored last, for a call that goes on with what begins alike; keys and values of one sequence. An
    /// answer that is asked for frees it.
    scored: Mutex<Option<Scored>>,
}

impl Handle {
    fn scored(&self) -> MutexGuard<'_, Option<Scored>> {
        self.scored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.close(Closing::Draining);
    }
}

impl Engine {
    /// Loads model, tokenizer and chat template from a folder or a GGUF file, and starts.
    ///
    /// # Errors
    /// Whatever loading of one of the three meets, and as [`new`](Engine::new).
    pub fn load(path: impl AsRef<Path>, load: LoadConfig, config: EngineConfig) -> Result<Self> {
        Self::new(TextModel::load(path, load)?, config)
    }

    /// Starts an engine over a model, or over [`Models`]: one with adapters, or with a model that guesses.
    ///
    /// # Errors
    /// A configuration out of range, a cache that does not hold one block, adapters of one name, a draft model
    /// of another tokenizer, a thread that can't be started.
    pub fn new(models: impl Into<Models>, config: EngineConfig) -> Result<Self> {
        Self::on(Machine::default(), models.into(), config)
    }

    pub(crate) fn on(machine: Machine, models: Models, config: EngineConfig) -> Result<Self> {
        let Machine { available, mode } = machine;
        config.validate()?;
        models.validate()?;
        let Models {
            text,
            adapters,
            draft,
        } = models;
        let names = adapters.iter().map(|a| a.name().to_owned()).collect();
        let model = text.model();
        let dtype = match config.kv_cache {
            KvCacheDtype::Auto => model.kv_dtype()?,
            KvCacheDtype::Int8 => KvDtype::Int8,
            KvCacheDtype::Int4 => KvDtype::Int4,
        };
        if config.kv_cache != KvCacheDtype::Auto && !model.device().is_cpu() {
            return Err(Error::Config {
                field: "kv_cache",
                what: "int8 and int4 are read on the CPU only; use auto on other devices"
                    .to_owned(),
            });
        }
        let draft = draft.map(TextModel::into_model);
        let draft = match draft {
            Some(draft) => Some((draft.kv_dtype()?, draft)),
            None => None,
        };
        let bytes = |model: &CausalLm, dtype| PagedCache::bytes_per_block(model.config(), dtype);
        let of_draft = draft
            .as_ref()
            .map_or(0, |(dtype, draft)| bytes(draft, *dtype));
        let bytes_per_block = bytes(model, dtype) + of_draft;
        let num_blocks = num_blocks(&config, bytes_per_block, available)?;
        let budget = model.device().is_cpu().then(|| {
            let rows = config.prefill_chunk.max(config.max_batch);
            Budget {
                bytes_per_block,
                bytes_per_step: memory::of_pass(model.config(), rows, config.max_batch),
                available,
            }
        });
        let cache = PagedCache::new(model.config(), dtype, num_blocks);
        let drafter = draft.map(|(dtype, model)| Drafter {
            cache: PagedCache::new(model.config(), dtype, num_blocks),
            model,
        });
        let context_length = model
            .config()
            .context_length()
            .min(
                drafter
                    .as_ref()
                    .map_or(usize::MAX, |d| d.model.config().context_length()),
            )
            .min(config.max_context.unwrap_or(usize::MAX))
            .min(num_blocks * PagedCache::BLOCK_SIZE);
        let (text, inbox) = (Arc::new(text), Arc::new(Inbox::default()));
        let adapters = AdapterSet::from_iter(adapters);
        let mut worker = Worker::new(
            text.clone(),
            config.clone(),
            inbox.clone(),
            cache,
            adapters,
            drafter,
        )
        .on(budget, mode);
        worker.report();
        std::thread::Builder::new()
            .name("internlm-engine".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| Error::Thread { source })?;
        let handle = Handle {
            text,
            config,
            inbox,
            context_length,
            adapters: names,
            guides: Mutex::default(),
            scored: Mutex::default(),
        };
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// Hands in a request. The prompt is rendered and encoded on the thread that calls.
    ///
    /// # Errors
    /// A request that can't be run (an empty or over-long prompt, an option out of range), a full queue, an
    /// engine that is shut down.
    pub fn submit(&self, request: impl Into<Request>) -> Result<Response> {
        let request = request.into();
        let arrived = Instant::now();
        self.handle.scored().take();
        let adapter = self.check(&request)?;
        let Handle {
            text,
            config,
            inbox,
            context_length,
            ..
        } = &*self.handle;
        let params = &request.chat.sampling;
        let tokens = text.prompt_ids(&request.chat)?;
        let room = text.model().check_prompt(&tokens, *context_length)?;
        let mut stop_token_ids = text.model().generation_config().eos_token_ids.clone();
        stop_token_ids.extend_from_slice(text.stop_token_ids());
        let guide = self.guide(&request.chat, &stop_token_ids)?;
        let answer = |index: usize| -> Result<Sibling> {
            let mut params = params.clone();
            params.seed = params.seed.map(|seed| seed.wrapping_add(index as u64));
            Ok(Sibling {
                index,
                sampler: Sampler::new(params, &tokens)?,
                guide: guide.clone(),
                text: AnswerText::new(text.tokenizer(), &request.chat)?,
            })
        };
        let Sibling {
            index,
            sampler,
            guide,
            text: answer_text,
        } = answer(0)?;
        let siblings = (1..request.n).map(answer).collect::<Result<_>>()?;
        if params.ignore_eos {
            stop_token_ids.clear();
        }
        stop_token_ids.extend_from_slice(&params.stop_token_ids);
        let mut sequence = Sequence {
            request: 0,
            index,
            priority: request.priority,
            prompt_len: tokens.len(),
            tokens,
            max_new_tokens: params.max_new_tokens.map_or(room, |max| max.min(room)),
            stop_token_ids,
            sampler,
            guide,
            text: answer_text,
            adapter,
            siblings,
            computed: 0,
            drafted: 0,
            draft: Vec::new(),
            blocks: Vec::new(),
            published: 0,
            content: ContentId::root(adapter),
            cached_tokens: None,
            last_token_at: None,
        };
        let (sender, response) = channel();
        if sequence.max_new_tokens == 0 {
            sequence.finish_unstarted(sender);
            return Ok(response);
        }
        let deadline = request.deadline.or(config.deadline);
        inbox.submit(config.max_waiting, |id| {
            sequence.request = id;
            Job {
                sequence,
                sender,
                arrived,
                deadline: deadline.and_then(|deadline| arrived.checked_add(deadline)),
            }
        })?;
        Ok(response)
    }

    /// A conversation that begins.
    pub fn chat(&self) -> Chat {
        Chat::new(self.clone())
    }

    /// The index of the adapter that a request asks for.
    fn check(&self, request: &Request) -> Result<Option<usize>> {
        let max_batch = self.handle.config.max_batch;
        if request.n == 0 || request.n > max_batch {
            let what = format!("{} answers, expected 1 to {max_batch}", request.n);
            return Err(Error::request("n", what));
        }
        let Some(name) = &request.adapter else {
            return Ok(None);
        };
        match self
            .handle
            .adapters
            .iter()
            .position(|adapter| adapter == name)
        {
            Some(index) => Ok(Some(index)),
            None => {
                let what = format!(
                    "no adapter is called `{name}`; there are {:?}",
                    self.handle.adapters
                );
                Err(Error::request("adapter", what))
            }
        }
    }

    /// What keeps an answer to the form that a request asks for, if it asks for one.
    fn guide(&self, request: &ChatRequest, end_tokens: &[u32]) -> Result<Option<Guide>> {
        if guide::demand(request).is_none() {
            return Ok(None);
        }
        let Handle { text, guides, .. } = &*self.handle;
        // Whoever comes while the first one is made waits for it.
        let mut guides = guides.lock().unwrap_or_else(PoisonError::into_inner);
        let factory = match &*guides {
            Some(factory) => factory.clone(),
            None => {
                let vocab_size = text.model().config().vocab_size;
                let made = GuideFactory::new(text.tokenizer(), vocab_size, end_tokens)?;
                guides.insert(Arc::new(made)).clone()
            }
        };
        drop(guides);
        factory.guide(request)
    }

    /// Takes no more requests, and waits for those that run until they are done or `grace` is over; what is
    /// left then ends with [`Error::Closed`].
    pub fn shutdown(&self, grace: Duration) {
        let inbox = &self.handle.inbox;
        inbox.close(Closing::Draining);
        if !inbox.wait_for_end(grace) {
            inbox.close(Closing::Now);
            // A step is short; a thread that does not come back from one must not keep others.
            inbox.wait_for_end(Duration::from_secs(10));
        }
    }

    /// The reward model's score of a conversation.
    ///
    /// # Errors
    /// A model without a reward head, a template that refuses the messages, too little memory.
    pub fn reward(&self, messages: &[Message]) -> Result<f32> {
        let ids = self.handle.text.reward_ids(messages)?;
        let rows = self.model().prefill_chunk();
        let needed = memory::of_reading(self.model(), ids.len(), rows, 0)?;
        self.call(needed, move |model| Ok(model.reward(&ids)?))
    }

    /// The log-probability of each token of a prompt but the first, with those of the `top` most likely tokens
    /// at its place. Others get their steps between its pieces.
    ///
    /// # Errors
    /// An id outside of the vocabulary, a failed pass, too little memory.
    pub fn prompt_logprobs(&self, ids: &[u32], top: usize) -> Result<Vec<TokenLogprob>> {
        let ids = ids.to_vec();
        let rows = prompt_logprobs::ROWS;
        let needed = memory::of_reading(self.model(), ids.len(), rows, rows)?;
        let mut reading = self.call(needed, move |model| Reading::new(model, ids, top))?;
        while !reading.is_done() {
            reading = self.call(0, move |model| {
                reading.read(model)?;
                Ok(reading)
            })?;
        }
        Ok(reading.into_scores())
    }

    /// Has work done on the engine's thread that takes so many bytes of memory beside the cache.
    fn call<R: Send + 'static>(
        &self,
        needed: usize,
        work: impl FnOnce(&CausalLm) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.handle.inbox.call(move |model| {
            memory::require(needed)?;
            work(model)
        })?
    }

    /// What the engine counts.
    pub fn metrics(&self) -> Metrics {
        self.handle.inbox.metrics()
    }

    /// Most tokens of prompt and answer together.
    pub fn context_length(&self) -> usize {
        self.handle.context_length
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        self.handle.text.model()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.handle.text.tokenizer()
    }

    /// The chat template, if there is one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.handle.text.template()
    }

    /// Token ids of a request's prompt.
    ///
    /// # Errors
    /// A template that refuses the messages, a text that the tokenizer refuses.
    pub fn prompt_ids(&self, request: &ChatRequest) -> Result<Vec<u32>> {
        Ok(self.handle.text.prompt_ids(request)?)
    }

    /// The names of the adapters that requests may choose.
    pub fn adapters(&self) -> Vec<String> {
        self.handle.adapters.clone()
    }
}

impl Engine {
    /// Scores spans in pieces, between which the engine's other requests get their steps.
    fn score_all(&self, spans: Vec<ScoredIds>) -> Result<Vec<Vec<TokenScore>>> {
        let mut scores = vec![Vec::new(); spans.len()];
        let mut spans: Vec<(usize, ScoredIds)> = spans.into_iter().enumerate().collect();
        // Spans that begin alike are neighbours, and what they have in common is computed once.
        spans.sort_by(|(_, a), (_, b)| a.ids.cmp(&b.ids));
        let mut rest = spans.into_iter().peekable();
        let (mut before, mut last) = (Vec::new(), self.handle.scored().take());
        while rest.peek().is_some() {
            let mut piece: Vec<(usize, ScoredIds)> = Vec::new();
            let (mut tokens, mut longest) = (0, 0);
            while let Some((_, span)) = rest.peek() {
                tokens += new_tokens(&before, span);
                if !piece.is_empty() && tokens > TOKENS_OF_A_PIECE {
                    break;
                }
                longest = longest.max(span.ids.len());
                before.clone_from(&span.ids);
                piece.extend(rest.next());
            }
            let rows = prompt_logprobs::ROWS;
            let needed = memory::of_reading(self.model(), longest + tokens, tokens, rows)?;
            let done;
            (last, done) = self.call(needed, move |model| {
                let spans: Vec<_> = piece
                    .iter()
                    .map(|(_, span)| ScoreSpan::from(span))
                    .collect();
                let done = model.score_after(&mut last, &spans)?;
                let done = piece.iter().map(|(index, _)| *index).zip(done);
                Ok((last, done.collect::<Vec<_>>()))
            })?;
            for (index, done) in done {
                scores[index] = done;
            }
        }
        *self.handle.scored() = last;
        Ok(scores)
    }
}

/// Tokens that are scored before others get their turn.
const TOKENS_OF_A_PIECE: usize = 2048;

/// Tokens of a span that are computed after another one.
fn new_tokens(before: &[u32], span: &ScoredIds) -> usize {
    let ids = before.iter().zip(&span.ids);
    let common = ids.take_while(|(a, b)| a == b).count();
    span.ids.len() - common.min(span.ids.len() - span.scored)
}

/// Blocks of a cache of this configuration.
fn num_blocks(
    config: &EngineConfig,
    bytes_per_block: usize,
    available: fn() -> usize,
) -> Result<usize> {
    let bytes = match config.cache {
        CacheBudget::Bytes(bytes) => bytes,
        CacheBudget::Share(share) => (available() as f64 * share) as usize,
    };
    // Block tables hold u32.
    let blocks = (bytes / bytes_per_block).min(u32::MAX as usize);
    if blocks == 0 {
        return Err(Error::Config {
            field: "cache",
            what: format!("{bytes} bytes, but one block takes {bytes_per_block}"),
        });
    }
    Ok(blocks)
}

/// What an engine runs on.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Bytes of memory that are free.
    pub(crate) available: fn() -> usize,
    /// [`Mode::Train`] runs what other devices run.
    pub(crate) mode: Mode,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            available: memory::available,
            mode: Mode::Infer,
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.model().name())
            .finish_non_exhaustive()
    }
}

impl ChatModel for Engine {
    fn identity(&self) -> ModelIdentity {
        self.handle.text.identity()
    }

    fn generate(&self, request: &ChatRequest) -> internlm_core::Result<Events<'_>> {
        let response = self.submit(request.clone())?;
        Ok(Box::new(response.map(|answer| {
            answer.map(|answer| answer.event).map_err(Into::into)
        })))
    }
}

impl RewardModel for Engine {
    fn rewards(&self, conversations: &[Vec<Message>]) -> internlm_core::Result<Vec<f32>> {
        let scores = conversations.iter().map(|messages| self.reward(messages));
        Ok(scores.collect::<Result<_>>()?)
    }
}

impl Scorer for Engine {
    fn score(&self, requests: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        let spans: Result<Vec<_>, _> = requests
            .iter()
            .map(|r| self.handle.text.scored_ids(r))
            .collect();
        Ok(self.score_all(spans.map_err(Error::from)?)?)
    }

    fn score_rolling(&self, texts: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        let (mut spans, mut counts) = (Vec::new(), Vec::new());
        for text in texts {
            let windows = self.handle.text.rolling_ids(text).map_err(Error::from)?;
            counts.push(windows.len());
            spans.extend(windows);
        }
        let mut scores = self.score_all(spans)?.into_iter();
        let joined = counts
            .into_iter()
            .map(|count| scores.by_ref().take(count).flatten().collect());
        Ok(joined.collect())
    }

    fn encode_parts(&self, parts: &[Part], add_bos: bool) -> internlm_core::Result<Vec<u32>> {
        self.handle.text.encode_parts(parts, add_bos)
    }

    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> internlm_core::Result<Vec<Part>> {
        self.handle
            .text
            .render_chat(messages, tools, add_generation_prompt)
    }

    fn facts(&self) -> &ModelFacts {
        self.handle.text.facts()
    }
}
