//! One step: a pass of the model over the parts of many sequences, then a token for each that has read all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use candle_core::{Device, Storage, Tensor};
use internlm_core::chat_model::FinishReason;
use internlm_model::batch::{Batch, Logits};
use internlm_model::sampler::Choice;
use internlm_model::{Context, Error as ModelError};

use crate::error::{Error, Result};
use crate::guide::Guide;
use crate::schedule::Part;
use crate::sequence::{RequestId, Sequence};
use crate::worker::Worker;

impl Worker {
    /// Computes what the schedule says, and says what came of it.
    pub(crate) fn step(&mut self) {
        let parts = self.schedule();
        if parts.is_empty() {
            return;
        }
        self.counts.steps += 1;
        // Whoever hears a token finds its request among those that run.
        self.report();
        self.draft(&parts);
        match self.forward(&parts) {
            Ok(logits) => self.advance(&parts, &logits),
            Err(error) if parts.len() == 1 => {
                let id = self.running[parts[0].at].request;
                self.fail(id, error);
            }
            Err(error) => {
                tracing::warn!(%error, "a step failed; its sequences are computed one by one");
                self.one_by_one(&parts);
            }
        }
    }

    /// Lets the draft model read and guess, where there is one. Without its guesses the step is as good.
    fn draft(&mut self, parts: &[Part]) {
        let Some(drafter) = &mut self.drafter else {
            return;
        };
        let (running, max_draft) = (&mut self.running, self.config.max_draft);
        let pass = || drafter.run(running, parts, max_draft, Sequence::room_for_guesses);
        // Whatever a broken pass leaves behind in the cache is written anew before it is read.
        let outcome = catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(|p| Err(panicked(&*p)));
        if let Err(error) = outcome {
            tracing::warn!(%error, "the draft model failed");
            self.running.iter_mut().for_each(|s| s.draft.clear());
        }
    }

    /// The parts of a step that failed, each alone: only the one that is to blame fails.
    fn one_by_one(&mut self, parts: &[Part]) {
        let who: Vec<((RequestId, usize), usize)> = parts
            .iter()
            .map(|part| {
                let sequence = &self.running[part.at];
                ((sequence.request, sequence.index), part.len)
            })
            .collect();
        for (name, len) in who {
            let is = |s: &Sequence| (s.request, s.index) == name;
            let Some(at) = self.running.iter().position(is) else {
                continue;
            };
            let part = Part { at, len };
            match self.forward(&[part]) {
                Ok(logits) => self.advance(&[part], &logits),
                Err(error) => self.fail(name.0, error),
            }
        }
    }

    /// The pass.
    ///
    /// # Shapes
    /// - out: for each part that reaches the end of its tokens a row, and one for each guess,
    ///   `(rows, vocab_size)`
    fn forward(&mut self, parts: &[Part]) -> Result<Tensor> {
        let mut batch = Batch::new();
        for (slot, part) in parts.iter().enumerate() {
            let sequence = &self.running[part.at];
            self.cache.set(slot, &sequence.blocks, sequence.computed);
            let mut ids = sequence.tokens[sequence.computed..][..part.len].to_vec();
            let logits = match part.len == sequence.pending() {
                true => Logits::LastRows(1 + sequence.draft.len()),
                false => Logits::None,
            };
            ids.extend_from_slice(&sequence.draft);
            batch.push(slot, &ids, sequence.computed, sequence.prompt_len, logits)?;
            batch.set_adapter(slot, sequence.adapter)?;
        }
        let text = self.text.clone();
        let mut context = Context::new(&mut self.cache)
            .with_adapters(&self.adapters)
            .with_mode(self.mode);
        // The cache holds nothing that a broken pass could leave behind: it is written anew.
        let pass = AssertUnwindSafe(|| text.model().forward(&batch, &mut context));
        match catch_unwind(pass) {
            Ok(logits) => {
                let logits = logits?.to_device(&Device::Cpu).map_err(ModelError::from)?;
                Ok(logits.contiguous().map_err(ModelError::from)?)
            }
            Err(panic) => Err(panicked(&*panic)),
        }
    }

    /// Notes what is computed, and gives each sequence that has read all its next token.
    fn advance(&mut self, parts: &[Part], logits: &Tensor) {
        let mut row = 0;
        let mut chosen: Vec<((RequestId, usize), usize)> = Vec::new();
        for part in parts {
            let sequence = &mut self.running[part.at];
            sequence.computed += part.len;
            if sequence.pending() == 0 {
                chosen.push(((sequence.request, sequence.index), row));
                row += 1 + sequence.draft.len();
            }
            self.publish(part.at);
        }
        for ((request, index), row) in chosen.clone() {
            let forked = self.fork(request, index);
            chosen.extend(forked.into_iter().map(|index| ((request, index), row)));
        }
        let rows: Vec<Option<usize>> = self
            .running
            .iter()
            .map(|s| {
                let name = (s.request, s.index);
                chosen.iter().find(|(n, _)| *n == name).map(|&(_, row)| row)
            })
            .collect();
        let outcomes = match self.sample(logits, &rows) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                // Logits that can't be read are nobody's in particular.
                let what = error.to_string();
                for ((request, _), _) in chosen {
                    self.fail(request, Error::Panicked { what: what.clone() });
                }
                return;
            }
        };
        for (name, outcome) in outcomes {
            self.settle(name, outcome);
        }
    }

    /// Lets the other answers of a prompt begin, now that it is read. Their indices.
    fn fork(&mut self, request: RequestId, index: usize) -> Vec<usize> {
        let is = |s: &Sequence| (s.request, s.index) == (request, index);
        let Some(at) = self.running.iter().position(is) else {
            return Vec::new();
        };
        let siblings = std::mem::take(&mut self.running[at].siblings);
        let mut indices = Vec::with_capacity(siblings.len());
        for sibling in siblings {
            let leader = &self.running[at];
            for &block in &leader.blocks {
                self.blocks.share(block);
            }
            let sequence = Sequence {
                request,
                index: sibling.index,
                priority: leader.priority,
                tokens: leader.tokens.clone(),
                prompt_len: leader.prompt_len,
                max_new_tokens: leader.max_new_tokens,
                stop_token_ids: leader.stop_token_ids.clone(),
                sampler: sibling.sampler,
                guide: sibling.guide,
                text: sibling.text,
                adapter: leader.adapter,
                siblings: Vec::new(),
                computed: leader.computed,
                drafted: leader.drafted,
                draft: Vec::new(),
                blocks: leader.blocks.clone(),
                published: leader.published,
                content: leader.content,
                cached_tokens: leader.cached_tokens,
                last_token_at: None,
            };
            indices.push(sequence.index);
            // Answers of one request come in the order of their indices, this one first.
            self.start(sequence);
        }
        indices
    }

    /// Chooses tokens, on all threads where there are several to choose. `rows` says for each running sequence
    /// which row of the logits is its first, if any.
    fn sample(&mut self, logits: &Tensor, rows: &[Option<usize>]) -> Result<Vec<(Name, Outcome)>> {
        let text = self.text.clone();
        let vocab_size = text.model().config().vocab_size;
        let (storage, layout) = logits.storage_and_layout();
        let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            return Err(Error::Panicked {
                what: "logits that are not a contiguous tensor on the CPU".to_owned(),
            });
        };
        let logits = &cpu.as_slice::<f32>().map_err(ModelError::from)?[start..end];
        type Slot<'a> = Mutex<(&'a mut Sequence, usize, Option<Outcome>)>;
        let slots: Vec<Slot<'_>> = self
            .running
            .iter_mut()
            .zip(rows)
            .filter_map(|(sequence, row)| row.map(|row| Mutex::new((sequence, row, None))))
            .collect();
        let task = |index: usize| {
            let mut slot = slots[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (sequence, row, outcome) = &mut *slot;
            let logits = &logits[*row * vocab_size..];
            // A sequence that panics is failed, and not looked at again.
            let next = || sequence.next_tokens(logits.chunks_exact(vocab_size));
            let done = catch_unwind(AssertUnwindSafe(next));
            *outcome = Some(done.unwrap_or_else(|panic| Err(panicked(&*panic))));
        };
        match slots.len() {
            1 => task(0),
            count => text.model().compute().run(count, task),
        }
        Ok(slots
            .into_iter()
            .filter_map(|slot| {
                let (sequence, _, outcome) =
                    slot.into_inner().unwrap_or_else(PoisonError::into_inner);
                outcome.map(|outcome| ((sequence.request, sequence.index), outcome))
            })
            .collect())
    }

    /// Delivers what a sequence's new tokens brought.
    fn settle(&mut self, name: Name, outcome: Outcome) {
        let is = |s: &Sequence| (s.request, s.index) == name;
        let Some(at) = self.running.iter().position(is) else {
            return;
        };
        let next = match outcome {
            Ok(next) => next,
            Err(error) => return self.fail(name.0, error),
        };
        let now = Instant::now();
        self.counts.completion_tokens += next.tokens as u64;
        self.counts.drafted_tokens += next.drafted as u64;
        self.counts.accepted_tokens += (next.tokens - 1) as u64;
        match self.running[at].last_token_at.replace(now) {
            Some(last) => {
                for _ in 0..next.tokens {
                    let time = (now - last) / next.tokens as u32;
                    self.counts.time_per_token.record(time);
                }
            }
            None => {
                if let Some(active) = self.requests.get(&name.0) {
                    let time = now - active.arrived;
                    self.counts.time_to_first_token.record(time);
                }
            }
        }
        self.deliver(at, next.done);
    }
}

/// Which sequence: its request, and which of its answers.
type Name = (RequestId, usize);

type Outcome = Result<Next>;

/// What a step brought to a sequence.
struct Next {
    /// New tokens, an end token included; at least one.
    tokens: usize,
    /// Guesses that were checked.
    drafted: usize,
    /// Whether the answer is done.
    done: bool,
}

impl Sequence {
    /// Chooses the next token from the first row of logits, and goes on to the next row as long as the guesses
    /// are what was chosen.
    fn next_tokens<'a>(&mut self, rows: impl Iterator<Item = &'a [f32]>) -> Outcome {
        #[cfg(test)]
        tests::panic_if_marked(&self.tokens);
        let draft = std::mem::take(&mut self.draft);
        let mut next = Next {
            tokens: 0,
            drafted: draft.len(),
            done: false,
        };
        // The draft model has not read the last of its own guesses.
        let read = draft.len().saturating_sub(1);
        let mut guesses = draft.into_iter();
        for logits in rows {
            let allowed = self.guide.as_mut().map(Guide::mask).transpose()?;
            let choice = self.sampler.sample_among(logits, allowed)?;
            if let Some(guide) = &mut self.guide {
                guide.accept(choice.id)?;
            }
            next.tokens += 1;
            let id = choice.id;
            next.done = self.take(choice)?;
            if !next.done && self.guide.as_ref().is_some_and(Guide::is_complete) {
                // Nothing but an end token could follow.
                self.finish(FinishReason::Stop, false, 0);
                next.done = true;
            }
            if next.done || guesses.next() != Some(id) {
                break;
            }
            // The guess was right: what was computed for it holds.
            self.computed += 1;
            self.drafted += usize::from(next.tokens <= read);
        }
        Ok(next)
    }

    /// Takes a token that was chosen. Whether the answer is done.
    fn take(&mut self, choice: Choice) -> Result<bool> {
        if self.stop_token_ids.contains(&choice.id) {
            self.finish(FinishReason::Stop, false, 1);
            return Ok(true);
        }
        self.tokens.push(choice.id);
        if self.text.push(choice.id, choice.logprob)? {
            self.finish(FinishReason::Stop, true, 0);
            return Ok(true);
        }
        if self.generated() >= self.max_new_tokens {
            self.finish(FinishReason::Length, false, 0);
            return Ok(true);
        }
        Ok(false)
    }
}

/// What a panic said.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let what = panic
        .downcast_ref::<&str>()
        .map(|what| (*what).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Error::Panicked {
        what: what.unwrap_or_else(|| "a panic without a message".to_owned()),
    }
}

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
pub(crate) mod common;

#[cfg(test)]
mod tests {
    use internlm_core::chat_model::Completion;
    use internlm_model::context::Mode;

    use super::common::{alone, blocks, engine, ids, model, request, said, sampled, together};
    use crate::engine::Machine;
    use crate::{Engine, EngineConfig, Error, Request};

    /// A prompt of this token alone panics when its answer begins.
    const MARK: u32 = 13;

    pub(super) fn panic_if_marked(tokens: &[u32]) {
        assert!(tokens.first() != Some(&MARK), "the mark was met");
    }

    /// With the operations that run where the kernels don't: on a GPU.
    #[test]
    fn tensor_operations_say_the_same() {
        let tensors = Machine {
            mode: Mode::Train,
            ..Machine::default()
        };
        for model_type in ["internlm2", "internlm"] {
            let reference = model(model_type, 3);
            // Room for two of their answers to an end: others give their blocks back and are read again.
            let config = EngineConfig::default()
                .with_cache(blocks(8))
                .with_prefill_chunk(50);
            let engine = Engine::on(tensors, model(model_type, 3).into(), config).unwrap();
            let requests: Vec<_> = [1, 63, 64, 90, 130, 150]
                .into_iter()
                .enumerate()
                .map(|(i, len)| {
                    let sampling = sampled(i as u64, 90 + 3 * i).with_ignore_eos(true);
                    request(&ids(len, i as u64), sampling)
                })
                .collect();
            for (request, got) in requests.iter().zip(together(&engine, &requests)) {
                check_close(&got, &alone(&reference, request));
            }
            assert!(engine.metrics().preemptions > 0, "{model_type}");
            // Answers to one prompt copy the block that they write to.
            let prompt = request(&ids(70, 9), sampled(1, 20));
            let several = engine.submit(Request::from(prompt.clone()).with_n(3));
            let first = several.unwrap().complete_all().unwrap().remove(0);
            check_close(&first, &alone(&reference, &prompt));
        }
    }

    /// The same tokens, with log-probabilities that differ by rounding at most.
    #[track_caller]
    fn check_close(got: &Completion, want: &Completion) {
        assert_eq!(got.ids, want.ids);
        assert_eq!(got.logprobs.len(), want.logprobs.len());
        for (got, want) in got.logprobs.iter().zip(&want.logprobs) {
            let difference = (got.logprob - want.logprob).abs();
            assert!(difference < 1e-4, "{got:?}, {want:?}");
        }
    }

    #[test]
    fn a_panic_ends_one_request_alone() {
        let reference = model("internlm2", 7);
        let engine = engine(EngineConfig::default());
        let requests: Vec<_> = (0..6)
            .map(|i| {
                let prompt = if i % 3 == 1 {
                    vec![MARK; 5]
                } else {
                    ids(30 + i, 20 + i as u64)
                };
                request(&prompt, sampled(i as u64, 30))
            })
            .collect();
        let running: Vec<_> = requests
            .iter()
            .map(|r| engine.submit(r.clone()).unwrap())
            .collect();
        for (i, (request, response)) in requests.iter().zip(running).enumerate() {
            match response.complete() {
                Ok(answer) if i % 3 != 1 => assert_eq!(said(answer), alone(&reference, request)),
                Err(Error::Panicked { what }) if i % 3 == 1 => assert!(what.contains("mark")),
                other => panic!("{i}: {other:?}"),
            }
        }
        let metrics = super::common::settle(&engine);
        assert_eq!((metrics.failed, metrics.finished), (2, 4));
    }
}
