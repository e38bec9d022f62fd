//! Contradictions and absurd sizes, found before they allocate anything.

use std::path::Path;

use super::{Config, Head, RopeScaling};
use crate::error::{Error, Result};

/// Largest sizes that are believed. The largest InternLM has 60 layers, 48 heads, a hidden size of
/// 6144 and 128,512 tokens.
const MAX_LAYERS: usize = 1 << 12;
const MAX_HEADS: usize = 1 << 14;
const MAX_WIDTH: usize = 1 << 22;
const MAX_VOCAB: usize = 1 << 26;
/// Positions are u32.
const MAX_POSITIONS: usize = 1 << 31;
const MAX_FACTOR: f64 = 65_536.0;
/// Most parameters of a network.
const MAX_PARAMETERS: u128 = 1 << 44;

impl Config {
    /// Checks that sizes are neither zero nor absurd and do not contradict each other.
    ///
    /// # Errors
    /// [`Error::Config`] with the field, in constant time.
    pub fn validate(&self) -> Result<()> {
        self.validate_in(Path::new("config"))
    }

    /// As [`validate`](Config::validate), with the file that the errors name.
    pub(super) fn validate_in(&self, file: &Path) -> Result<()> {
        let wrong = |field: &str, what: String| {
            Err(Error::Config {
                file: file.to_path_buf(),
                field: field.to_owned(),
                what,
            })
        };
        for (field, value, max) in [
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_HEADS),
            ("head_dim", self.head_dim, MAX_WIDTH),
            ("vocab_size", self.vocab_size, MAX_VOCAB),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_POSITIONS,
            ),
        ] {
            if value == 0 || value > max {
                return wrong(field, format!("is {value}, expected 1 to {max}"));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % kv_heads != 0 {
            let what = format!("is {kv_heads}, which does not divide num_attention_heads {heads}");
            return wrong("num_key_value_heads", what);
        }
        if !self.head_dim.is_multiple_of(2) {
            return wrong(
                "head_dim",
                format!("is {}, expected an even number", self.head_dim),
            );
        }
        if heads * self.head_dim > MAX_WIDTH {
            let what = format!(
                "is {}, times {heads} heads it is over {MAX_WIDTH}",
                self.head_dim
            );
            return wrong("head_dim", what);
        }
        if self.parameters() > MAX_PARAMETERS {
            let what = format!("the sizes imply {} parameters", self.parameters());
            return wrong("num_hidden_layers", what);
        }
        let eps = self.rms_norm_eps;
        if !(eps.is_finite() && (0.0..1.0).contains(&eps)) {
            return wrong("rms_norm_eps", format!("is {eps}, expected 0 to 1"));
        }
        let theta = self.rope.theta;
        if !((1.0..=1e30).contains(&theta)) {
            return wrong("rope_theta", format!("is {theta}, expected 1 to 1e30"));
        }
        if let RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor } = self.rope.scaling
            && !(1.0..=MAX_FACTOR).contains(&factor)
        {
            let what = format!("is {factor}, expected 1 to {MAX_FACTOR}");
            return wrong("rope_scaling.factor", what);
        }
        if matches!(self.rope.scaling, RopeScaling::Dynamic { .. }) && self.head_dim < 4 {
            let what = format!("is {}, dynamic scaling needs at least 4", self.head_dim);
            return wrong("head_dim", what);
        }
        if let Head::Reward { reward_token_id } = self.head
            && reward_token_id as usize >= self.vocab_size
        {
            let what = format!(
                "is {reward_token_id}, expected less than {}",
                self.vocab_size
            );
            return wrong("reward_token_id", what);
        }
        Ok(())
    }

    /// Number of elements of the large matrices, for sizes that passed the single checks.
    fn parameters(&self) -> u128 {
        let wide = |v: usize| v as u128;
        let hidden = wide(self.hidden_size);
        let heads = wide(2 * self.num_attention_heads + 2 * self.num_key_value_heads);
        let layer = hidden * (heads * wide(self.head_dim) + 3 * wide(self.intermediate_size));
        layer * wide(self.num_hidden_layers) + 2 * hidden * wide(self.vocab_size)
    }
}
