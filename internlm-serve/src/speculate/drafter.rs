//! A smaller model that guesses what the model will say.
//!
//! Its cache has the same blocks as the model's: whatever the engine does with a block (shares, copies, finds
//! or gives away) holds for both. So it reads each chunk of a prompt beside the model, and a block is found by
//! later requests only when both have filled it.

use internlm_model::batch::{Batch, Logits};
use internlm_model::sampler::argmax;
use internlm_model::{CausalLm, Context, Error as ModelError, PagedCache};

use crate::error::Result;
use crate::schedule::Part;
use crate::sequence::Sequence;

/// The smaller model.
pub(crate) struct Drafter {
    pub(crate) model: CausalLm,
    pub(crate) cache: PagedCache,
}

impl Drafter {
    /// Reads the parts of a step that read, and guesses up to `max_draft` tokens for those that decode, in
    /// their `draft`. `room` says how many each has room for.
    ///
    /// # Errors
    /// A failed pass; then some sequences have no guesses, and are behind.
    pub(crate) fn run(
        &mut self,
        running: &mut [Sequence],
        parts: &[Part],
        max_draft: usize,
        room: impl Fn(&Sequence) -> usize,
    ) -> Result<()> {
        let reading: Vec<usize> = parts
            .iter()
            .filter(|part| running[part.at].pending() > 1)
            .map(|part| part.at)
            .collect();
        let ends: Vec<usize> = parts
            .iter()
            .filter(|part| running[part.at].pending() > 1)
            .map(|part| running[part.at].computed + part.len)
            .collect();
        self.read(running, &reading, &ends)?;
        let mut guessing: Vec<usize> = parts
            .iter()
            .map(|part| part.at)
            .filter(|&at| running[at].pending() == 1 && room(&running[at]) > 0)
            .collect();
        for _ in 0..max_draft {
            guessing.retain(|&at| running[at].draft.len() < room(&running[at]));
            if guessing.is_empty() {
                break;
            }
            self.guess(running, &guessing)?;
        }
        Ok(())
    }

    /// Reads tokens up to `ends`.
    fn read(&mut self, running: &mut [Sequence], places: &[usize], ends: &[usize]) -> Result<()> {
        let mut batch = Batch::new();
        for (&at, &end) in places.iter().zip(ends) {
            let sequence = &running[at];
            if sequence.drafted >= end {
                continue;
            }
            self.cache.set(at, &sequence.blocks, sequence.drafted);
            let ids = &sequence.tokens[sequence.drafted..end];
            batch.push(at, ids, sequence.drafted, sequence.prompt_len, Logits::None)?;
        }
        if batch.num_tokens() > 0 {
            self.model
                .hidden_states(&batch, &mut Context::new(&mut self.cache))?;
        }
        for (&at, &end) in places.iter().zip(ends) {
            running[at].drafted = running[at].drafted.max(end);
        }
        Ok(())
    }

    /// One more guess for each: the likeliest token after all that is known and guessed.
    fn guess(&mut self, running: &mut [Sequence], places: &[usize]) -> Result<()> {
        let mut batch = Batch::new();
        for &at in places {
            let sequence = &running[at];
            let known = sequence.tokens.len();
            let (ids, start) = match sequence.draft.last() {
                // All that is known is read; the last guess is not.
                Some(last) => (std::slice::from_ref(last), known + sequence.draft.len() - 1),
                None => (&sequence.tokens[sequence.drafted..], sequence.drafted),
            };
            self.cache.set(at, &sequence.blocks, start);
            batch.push(at, ids, start, sequence.prompt_len, Logits::Last)?;
        }
        let logits = self
            .model
            .forward(&batch, &mut Context::new(&mut self.cache))?;
        let rows = logits.to_vec2::<f32>().map_err(ModelError::from)?;
        for (&at, row) in places.iter().zip(rows) {
            let sequence = &mut running[at];
            sequence.drafted = sequence.drafted.max(sequence.tokens.len());
            sequence.draft.push(argmax(&row));
        }
        Ok(())
    }
}
