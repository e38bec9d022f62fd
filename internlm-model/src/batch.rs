//! Flat tokens of one forward pass: which sequence, which position, which logits.

use crate::error::{Error, Result};

/// Which positions of a sequence's new tokens get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: the pass only fills the cache.
    None,
    /// The last one.
    Last,
    /// This many of the last ones.
    LastRows(usize),
    /// All of them.
    All,
}

/// New tokens of one or more sequences, back to back.
///
/// A token's RoPE length is `max(prompt_len, position + 1)`: it decides the base under dynamic
/// NTK, so prefill in chunks, decoding and replay agree without any state.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    input_ids: Vec<u32>,
    positions: Vec<u32>,
    rope_lengths: Vec<u32>,
    cu_seqlens: Vec<usize>,
    slots: Vec<usize>,
    adapters: Vec<Option<usize>>,
    logit_rows: Vec<u32>,
}

impl Batch {
    /// A batch without tokens.
    pub fn new() -> Self {
        Self {
            cu_seqlens: vec![0],
            ..Self::default()
        }
    }

    /// One whole prompt in slot 0, with logits at every position.
    ///
    /// # Errors
    /// As [`push`](Batch::push).
    pub fn prompt(ids: &[u32]) -> Result<Self> {
        let mut batch = Self::new();
        batch.push(0, ids, 0, ids.len(), Logits::All)?;
        Ok(batch)
    }

    /// Adds the next tokens of a sequence.
    ///
    /// - `slot`: the sequence's place in the cache; each slot once a batch.
    /// - `start`: the position of the first of `ids`; what the cache holds from there on is replaced.
    /// - `prompt_len`: the length of the whole prompt, of which `ids` may be a chunk.
    ///
    /// # Errors
    /// No ids, a slot that is there already, or positions over `u32::MAX`.
    pub fn push(
        &mut self,
        slot: usize,
        ids: &[u32],
        start: usize,
        prompt_len: usize,
        logits: Logits,
    ) -> Result<()> {
        let refuse = |what: String| Err(Error::Batch { what });
        if ids.is_empty() {
            return refuse(format!("the sequence in slot {slot} has no tokens"));
        }
        if self.slots.contains(&slot) {
            return refuse(format!("slot {slot} occurs twice"));
        }
        let (Some(end), Ok(prompt_len)) = (
            start
                .checked_add(ids.len())
                .filter(|&end| u32::try_from(end).is_ok()),
            u32::try_from(prompt_len),
        ) else {
            return refuse(format!("position {start} + {} is over u32::MAX", ids.len()));
        };
        let first_row = self.input_ids.len();
        self.input_ids.extend_from_slice(ids);
        for position in start..end {
            let position = position as u32;
            self.positions.push(position);
            self.rope_lengths.push(prompt_len.max(position + 1));
        }
        self.slots.push(slot);
        self.adapters.push(None);
        self.cu_seqlens.push(self.input_ids.len());
        let rows = first_row as u32..self.input_ids.len() as u32;
        match logits {
            Logits::None => {}
            Logits::Last => self.logit_rows.extend(rows.last()),
            Logits::LastRows(count) => {
                let first = rows.len().saturating_sub(count);
                self.logit_rows.extend(rows.skip(first));
            }
            Logits::All => self.logit_rows.extend(rows),
        }
        Ok(())
    }

    /// Sends a sequence through an adapter, an index into [`Context::adapters`](crate::Context::adapters).
    /// Without a call it goes through none.
    ///
    /// # Errors
    /// A slot that is not in the batch.
    pub fn set_adapter(&mut self, slot: usize, adapter: Option<usize>) -> Result<()> {
        match self.slots.iter().position(|&s| s == slot) {
            Some(sequence) => {
                self.adapters[sequence] = adapter;
                Ok(())
            }
            None => Err(Error::Batch {
                what: format!("slot {slot} is to have an adapter, but has no tokens"),
            }),
        }
    }

    /// Token ids, `(num_tokens)`.
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids
    }

    /// Positions within their sequences, `(num_tokens)`.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// RoPE lengths, `(num_tokens)`.
    pub fn rope_lengths(&self) -> &[u32] {
        &self.rope_lengths
    }

    /// Where sequences begin and end in the rows, `(num_seqs + 1)`.
    pub fn cu_seqlens(&self) -> &[usize] {
        &self.cu_seqlens
    }

    /// Adapters of the sequences, `(num_seqs)`.
    pub fn adapters(&self) -> &[Option<usize>] {
        &self.adapters
    }

    /// Rows that get logits, rising.
    pub fn logit_rows(&self) -> &[u32] {
        &self.logit_rows
    }

    /// Number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// The sequences: slot and rows.
    pub fn sequences(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + '_ {
        let rows = self.cu_seqlens.windows(2).map(|w| w[0]..w[1]);
        self.slots.iter().copied().zip(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rope_length_is_the_prompt_until_decoding_passes_it() -> Result<()> {
        let mut batch = Batch::new();
        batch.push(3, &[7, 8], 4, 10, Logits::Last)?;
        batch.push(1, &[9], 12, 10, Logits::Last)?;
        assert_eq!(batch.rope_lengths(), [10, 10, 13]);
        assert_eq!(batch.positions(), [4, 5, 12]);
        assert_eq!(batch.logit_rows(), [1, 2]);
        assert_eq!(
            batch.sequences().collect::<Vec<_>>(),
            [(3, 0..2), (1, 2..3)]
        );
        Ok(())
    }

    #[test]
    fn refuses_empty_repeated_and_overflowing_sequences() {
        let mut batch = Batch::new();
        assert!(matches!(
            batch.push(0, &[], 0, 0, Logits::All),
            Err(Error::Batch { .. })
        ));
        assert!(batch.push(0, &[1], 0, 1, Logits::All).is_ok());
        assert!(batch.push(0, &[1], 0, 1, Logits::All).is_err());
        assert!(
            batch
                .push(1, &[1], u32::MAX as usize, 1, Logits::All)
                .is_err()
        );
        assert!(batch.push(1, &[1], usize::MAX, 1, Logits::All).is_err());
        assert_eq!(batch.num_tokens(), 1);
        assert!(matches!(
            batch.set_adapter(7, Some(0)),
            Err(Error::Batch { .. })
        ));
        assert_eq!(batch.adapters(), [None]);
    }
}
