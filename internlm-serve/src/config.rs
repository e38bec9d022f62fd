//! How an engine is set up.

use std::time::Duration;

use crate::error::{Error, Result};
pub use crate::speculate::PromptLookup;

/// How keys and values are held in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvCacheDtype {
    /// As goes with the model's weights: bf16 or f16 where they were asked for, else f32.
    #[default]
    Auto,
    /// 8 bits an element with a scale and a zero per token and head (LMDeploy's `quant_policy` 8).
    Int8,
    /// 4 bits an element, the same way (LMDeploy's `quant_policy` 4).
    Int4,
}

/// The memory of the cache: the most that it ever takes, and as much of that as the machine has when it is needed
/// ([`Error::OutOfMemory`]).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheBudget {
    /// Bytes of keys and values.
    Bytes(usize),
    /// A share of the memory that is free when the engine starts, in `(0, 1]`.
    Share(f64),
}

/// The configuration of an [`Engine`](crate::Engine).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Most sequences that are computed together.
    pub max_batch: usize,
    /// Most requests that wait; one more is refused with [`Error::QueueFull`].
    pub max_waiting: usize,
    /// Most tokens of a prompt in one pass, so that a long one does not stall those who decode.
    pub prefill_chunk: usize,
    /// The same while other sequences decode.
    pub prefill_chunk_beside_decode: usize,
    /// Memory of the cache.
    pub cache: CacheBudget,
    /// How keys and values are held.
    pub kv_cache: KvCacheDtype,
    /// Whether blocks of earlier requests are found again by their tokens.
    pub prefix_caching: bool,
    /// Most tokens of prompt and answer; the model's own limit without.
    pub max_context: Option<usize>,
    /// The deadline of requests that name none.
    pub deadline: Option<Duration>,
    /// Guesses at what follows, out of prompt and answer; answers don't change by it. A draft model
    /// ([`Models::draft`](crate::Models::draft)) goes on where it finds nothing.
    pub prompt_lookup: Option<PromptLookup>,
    /// Most tokens that a draft model guesses at a time.
    pub max_draft: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_batch: 32,
            max_waiting: 256,
            prefill_chunk: 256,
            prefill_chunk_beside_decode: 128,
            cache: CacheBudget::Share(0.5),
            kv_cache: KvCacheDtype::Auto,
            prefix_caching: true,
            max_context: None,
            deadline: None,
            prompt_lookup: None,
            max_draft: 4,
        }
    }
}

macro_rules! with {
    ($($(#[$doc:meta])* $name:ident: $field:ident, $type:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )*};
}

impl EngineConfig {
    with! {
        /// Sets the most sequences that are computed together.
        with_max_batch: max_batch, usize;
        /// Sets the most requests that wait.
        with_max_waiting: max_waiting, usize;
        /// Sets the most tokens of a prompt in one pass.
        with_prefill_chunk: prefill_chunk, usize;
        /// Sets the most tokens of a prompt in one pass while others decode.
        with_prefill_chunk_beside_decode: prefill_chunk_beside_decode, usize;
        /// Sets the memory of the cache.
        with_cache: cache, CacheBudget;
        /// Sets how keys and values are held.
        with_kv_cache: kv_cache, KvCacheDtype;
        /// Sets whether blocks of earlier requests are used again.
        with_prefix_caching: prefix_caching, bool;
        /// Sets the most tokens of prompt and answer.
        with_max_context: max_context, Option<usize>;
        /// Sets the deadline of requests that name none.
        with_deadline: deadline, Option<Duration>;
        /// Sets whether and how what follows is guessed.
        with_prompt_lookup: prompt_lookup, Option<PromptLookup>;
        /// Sets the most tokens that a draft model guesses at a time.
        with_max_draft: max_draft, usize;
    }

    /// Checks every number on its own.
    ///
    /// # Errors
    /// [`Error::Config`] that names the first field out of its range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, what: &str| {
            Err(Error::Config {
                field,
                what: what.to_owned(),
            })
        };
        for (field, value) in [
            ("max_batch", self.max_batch),
            ("max_waiting", self.max_waiting),
            ("prefill_chunk", self.prefill_chunk),
            (
                "prefill_chunk_beside_decode",
                self.prefill_chunk_beside_decode,
            ),
            ("max_context", self.max_context.unwrap_or(1)),
        ] {
            if value == 0 {
                return refuse(field, "is 0, expected at least 1");
            }
        }
        match self.cache {
            CacheBudget::Share(share) if !(share > 0.0 && share <= 1.0) => {
                refuse("cache", "a share lies in (0, 1]")
            }
            _ => Ok(()),
        }
    }
}
