//! A conversation that fits the context, and the cache that carries over from turn to turn.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use internlm_core::chat_model::Usage;
use internlm_core::{Message, SamplingParams};
use internlm_examples::{Error, Result, progress};
use internlm_model::batch::Logits;
use internlm_model::config::RopeScaling;
use internlm_model::generate::TokenEvent;
use internlm_model::{Batch, Context, ContiguousCache, TextModel};
use serde::Serialize;

use super::interrupt::Answering;

/// Tokens of the prompt that are read between two looks at Ctrl-C.
const CHUNK: usize = 256;

/// What was said, and what the model remembers of it.
pub(crate) struct Conversation<'m> {
    model: &'m TextModel,
    sampling: SamplingParams,
    /// Most tokens of prompt and answer.
    context: usize,
    system: Option<String>,
    /// User and assistant by turns.
    messages: Vec<Message>,
    cached: Option<Cached>,
}

/// A cache and the tokens in it.
struct Cached {
    cache: ContiguousCache,
    ids: Vec<u32>,
    /// The longest sequence that any of the cached keys was rotated for.
    rope_length: usize,
}

/// An answer and what it took.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) usage: Usage,
    pub(crate) interrupted: bool,
    /// Old turns that no longer fit.
    pub(crate) dropped_turns: usize,
    /// Tokens of the prompt that were not in the cache.
    pub(crate) read: usize,
    pub(crate) reading: Duration,
    pub(crate) writing: Duration,
}

#[derive(Serialize)]
struct Saved<'a> {
    model: &'a str,
    messages: Vec<Message>,
}

impl<'m> Conversation<'m> {
    pub(crate) fn new(
        model: &'m TextModel,
        sampling: SamplingParams,
        context: Option<usize>,
    ) -> Self {
        let config = model.model().config();
        let longest = match config.rope.scaling {
            // Beyond the trained length quality falls off, though there is no hard end.
            RopeScaling::Dynamic { .. } => config.max_position_embeddings,
            _ => config.context_length(),
        };
        Self {
            model,
            sampling,
            context: context.unwrap_or(longest).min(config.context_length()),
            system: None,
            messages: Vec::new(),
            cached: None,
        }
    }

    /// Replaces the system prompt; an empty one is none.
    pub(crate) fn set_system(&mut self, system: Option<String>) {
        self.system = system.filter(|text| !text.is_empty());
    }

    /// Forgets everything but the system prompt.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
    }

    /// Number of turns.
    pub(crate) fn turns(&self) -> usize {
        self.messages.len() / 2
    }

    fn with_system(&self) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain(self.messages.iter().cloned()).collect()
    }

    /// Writes the conversation as JSON; a file of that name is replaced as a whole or not at all.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let saved = Saved {
            model: self.model.model().name(),
            messages: self.with_system(),
        };
        let mut json =
            serde_json::to_vec_pretty(&saved).map_err(|e| Error::Input(e.to_string()))?;
        json.push(b'\n');
        let mut scratch = file.as_os_str().to_owned();
        scratch.push(format!(".{}.tmp", std::process::id()));
        let write = || {
            let mut out = std::fs::File::create_new(&scratch)?;
            std::io::Write::write_all(&mut out, &json)?;
            out.sync_all()?;
            std::fs::rename(&scratch, file)
        };
        write().map_err(|e| {
            // Whatever was written is of no use; the error that counts is the first one.
            let _ = std::fs::remove_file(&scratch);
            Error::io(file.display().to_string())(e)
        })
    }

    /// Says something and lets the model answer; `on_text` sees the text as it comes.
    ///
    /// # Errors
    /// What was said does not fit the context, or the model fails; then nothing was said.
    pub(crate) fn say(
        &mut self,
        text: &str,
        answering: &Answering<'_>,
        on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let before = self.messages.clone();
        self.messages.push(Message::user(text));
        let answer = self.answer(answering, on_text);
        match &answer {
            Ok(answer) if !(answer.interrupted && answer.text.is_empty()) => {
                self.messages.push(Message::assistant(&answer.text));
            }
            _ => self.messages = before,
        }
        answer
    }

    fn answer(
        &mut self,
        answering: &Answering<'_>,
        mut on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let (ids, dropped_turns) = self.fit()?;
        let model = self.model.model();
        let mut sampling = self.sampling.clone();
        let room = self.context - ids.len();
        sampling.max_new_tokens = Some(sampling.max_new_tokens.map_or(room, |max| max.min(room)));

        let begin = Instant::now();
        let mut cached = self.recall(&ids)?;
        let mut answer = Answer {
            dropped_turns,
            read: ids.len() - cached.ids.len(),
            usage: Usage {
                prompt_tokens: ids.len(),
                completion_tokens: 0,
            },
            ..Answer::default()
        };
        if !self.read(&mut cached, &ids, answering)? {
            answer.interrupted = true;
            self.cached = Some(cached);
            return Ok(answer);
        }
        answer.reading = begin.elapsed();

        let begin = Instant::now();
        let mut generation = model.generate_with(cached.cache, &ids, &sampling)?;
        if let Some(template) = self.model.template() {
            let tokens = template.stop_tokens().iter();
            let stops: Vec<_> = tokens
                .filter_map(|t| self.model.tokenizer().token_to_id(t))
                .collect();
            generation.stop_at(&stops);
        }
        let mut detokenizer = self.model.tokenizer().detokenizer(true);
        let mut all_ids = ids;
        for event in generation.by_ref() {
            let TokenEvent::Token { id, .. } = event? else {
                continue;
            };
            all_ids.push(id);
            let text = detokenizer.push(id)?;
            on_text(&text)?;
            answer.text.push_str(&text);
            answer.interrupted = answering.stopped();
            if answer.interrupted {
                break;
            }
        }
        let tail = detokenizer.flush();
        on_text(&tail)?;
        answer.text.push_str(&tail);
        answer.usage = generation.usage();
        answer.writing = begin.elapsed();

        let cache = generation.into_cache();
        // The token that was sampled last is not in the cache.
        all_ids.truncate(internlm_model::KvCache::len(&cache, 0));
        let rope_length = cached.rope_length.max(all_ids.len());
        self.cached = Some(Cached {
            cache,
            ids: all_ids,
            rope_length,
        });
        Ok(answer)
    }

    /// The prompt's ids; the oldest turns are dropped until it leaves room for an answer.
    fn fit(&mut self) -> Result<(Vec<u32>, usize)> {
        let wanted = self.sampling.max_new_tokens.unwrap_or(self.context);
        let room = wanted.min(self.context / 4).max(1);
        let mut dropped = 0;
        loop {
            let parts = self.model.render(&self.with_system(), &[], true)?;
            let tokenizer = self.model.tokenizer();
            let ids = tokenizer.encode_parts(&parts, tokenizer.adds_bos())?;
            if ids.len() + room <= self.context {
                return Ok((ids, dropped));
            }
            if self.messages.len() < 3 {
                return Err(internlm_model::Error::PromptTooLong {
                    prompt_tokens: ids.len(),
                    context_length: self.context,
                }
                .into());
            }
            self.messages.drain(..2);
            dropped += 1;
        }
    }

    /// What the cache holds of the beginning of `ids`; at least the last of them is to be read.
    fn recall(&mut self, ids: &[u32]) -> Result<Cached> {
        let config = self.model.model().config();
        let fresh = || {
            Ok(Cached {
                cache: self.model.model().new_cache()?,
                ids: Vec::new(),
                rope_length: 0,
            })
        };
        let Some(mut cached) = self.cached.take() else {
            return fresh();
        };
        // Past the trained length dynamic NTK rotates by the length of the whole prompt: keys of a
        // shorter or longer one are not the ones that a fresh reading would store.
        let longest = cached.rope_length.max(ids.len());
        if matches!(config.rope.scaling, RopeScaling::Dynamic { .. })
            && longest > config.max_position_embeddings
        {
            return fresh();
        }
        let same = cached
            .ids
            .iter()
            .zip(ids)
            .take_while(|(a, b)| a == b)
            .count();
        let same = same.min(ids.len() - 1);
        cached.ids.truncate(same);
        cached.cache.truncate(0, same);
        Ok(cached)
    }

    /// Reads all of the prompt that is not in the cache, but for its last token, which generation
    /// begins with. Returns whether it got that far.
    fn read(&self, cached: &mut Cached, ids: &[u32], answering: &Answering<'_>) -> Result<bool> {
        let todo = &ids[cached.ids.len()..ids.len() - 1];
        let bar = if todo.len() > CHUNK {
            progress::bar(todo.len() as u64, "reading")
        } else {
            ProgressBar::hidden()
        };
        cached.rope_length = cached.rope_length.max(ids.len());
        for chunk in todo.chunks(CHUNK) {
            let mut batch = Batch::new();
            batch.push(0, chunk, cached.ids.len(), ids.len(), Logits::None)?;
            self.model
                .model()
                .forward(&batch, &mut Context::new(&mut cached.cache))?;
            cached.ids.extend_from_slice(chunk);
            bar.inc(chunk.len() as u64);
            if answering.stopped() {
                bar.finish_and_clear();
                return Ok(false);
            }
        }
        bar.finish_and_clear();
        Ok(true)
    }
}
