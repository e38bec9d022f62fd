//! One step: a pass of the model over the parts of many sequences, then a token for each that has read all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use candle_core::{Device, Storage, Tensor};
use internlm_core::chat_model::FinishReason;
use internlm_model::batch::{Batch, Logits};
use internlm_model::{Context, Error as ModelError};

use crate::error::{Error, Result};
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
    /// - out: a row for each part that reaches the end of its tokens, `(rows, vocab_size)`
    fn forward(&mut self, parts: &[Part]) -> Result<Tensor> {
        let mut batch = Batch::new();
        for (slot, part) in parts.iter().enumerate() {
            let sequence = &self.running[part.at];
            self.cache.set(slot, &sequence.blocks, sequence.computed);
            let ids = &sequence.tokens[sequence.computed..][..part.len];
            let logits = match part.len == sequence.pending() {
                true => Logits::Last,
                false => Logits::None,
            };
            batch.push(slot, ids, sequence.computed, sequence.prompt_len, logits)?;
        }
        let text = self.text.clone();
        let cache = &mut self.cache;
        // The cache holds nothing that a broken pass could leave behind: it is written anew.
        let pass = AssertUnwindSafe(|| text.model().forward(&batch, &mut Context::new(cache)));
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
                row += 1;
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
                text: sibling.text,
                siblings: Vec::new(),
                computed: leader.computed,
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
    /// which row of the logits is its own, if any.
    fn sample(
        &mut self,
        logits: &Tensor,
        rows: &[Option<usize>],
    ) -> Result<Vec<((RequestId, usize), Result<bool>)>> {
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
        type Slot<'a> = Mutex<(&'a mut Sequence, usize, Option<Result<bool>>)>;
        let slots: Vec<Slot<'_>> = self
            .running
            .iter_mut()
            .zip(rows)
            .filter_map(|(sequence, row)| row.map(|row| Mutex::new((sequence, row, None))))
            .collect();
        let task = |index: usize| {
            let mut slot = slots[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (sequence, row, outcome) = &mut *slot;
            let logits = &logits[*row * vocab_size..][..vocab_size];
            // A sequence that panics is failed, and not looked at again.
            let done = catch_unwind(AssertUnwindSafe(|| sequence.next_token(logits)));
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

    /// Delivers what a sequence's new token brought.
    fn settle(&mut self, name: (RequestId, usize), outcome: Result<bool>) {
        let is = |s: &Sequence| (s.request, s.index) == name;
        let Some(at) = self.running.iter().position(is) else {
            return;
        };
        let now = Instant::now();
        self.counts.completion_tokens += 1;
        let sequence = &mut self.running[at];
        match sequence.last_token_at.replace(now) {
            Some(last) => self.counts.time_per_token.record(now - last),
            None => {
                if let Some(active) = self.requests.get(&name.0) {
                    self.counts.time_to_first_token.record(now - active.arrived);
                }
            }
        }
        match outcome {
            Ok(done) => self.deliver(at, done),
            Err(error) => self.fail(name.0, error),
        }
    }
}

impl Sequence {
    /// Chooses the next token from `(vocab_size)` logits. Whether the answer is done.
    fn next_token(&mut self, logits: &[f32]) -> Result<bool> {
        let choice = self.sampler.sample(logits)?;
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
