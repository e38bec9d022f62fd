//! What a checkpoint says about its network, the same for every family and file format.
//!
//! The differences between InternLM 1, 2, 3, Llama and Qwen2 end here: [`Config`] holds sizes and
//! switches, [`WeightNames`] the checkpoint paths, and the decoder reads only those. Values come
//! from a `config.json` ([`Config::from_json`]) or GGUF metadata ([`Config::from_gguf`]) and are
//! checked once, before anything is allocated by them.

mod check;
mod generation;
mod gguf;
mod hugging_face;
pub(crate) mod keys;
mod names;

pub use generation::GenerationConfig;
pub use names::WeightNames;

/// The classes of checkpoints that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// `InternLMForCausalLM`: InternLM 7B and 20B.
    InternLm,
    /// `InternLM2ForCausalLM` and `InternLM2ForRewardModel`: InternLM2 and 2.5.
    InternLm2,
    /// `InternLM3ForCausalLM`.
    InternLm3,
    /// `LlamaForCausalLM`.
    Llama,
    /// `Qwen2ForCausalLM`.
    Qwen2,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 5] = [
        Architecture::InternLm,
        Architecture::InternLm2,
        Architecture::InternLm3,
        Architecture::Llama,
        Architecture::Qwen2,
    ];

    /// The `model_type` of `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::InternLm => "internlm",
            Architecture::InternLm2 => "internlm2",
            Architecture::InternLm3 => "internlm3",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }

    /// What class names in `architectures` begin with.
    fn class_prefix(self) -> &'static str {
        match self {
            Architecture::InternLm => "InternLM",
            Architecture::InternLm2 => "InternLM2",
            Architecture::InternLm3 => "InternLM3",
            Architecture::Llama => "Llama",
            Architecture::Qwen2 => "Qwen2",
        }
    }
}

/// How positions beyond the trained length are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Positions are divided by the factor.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// The base grows with the sequence once it is longer than `max_position_embeddings` (dynamic
    /// NTK).
    Dynamic {
        /// At least 1.
        factor: f64,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// The base of the frequencies.
    pub theta: f64,
    /// What happens beyond the trained length.
    pub scaling: RopeScaling,
}

/// What stands on top of the last norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// Logits over the vocabulary.
    #[default]
    Lm,
    /// One number per position.
    Reward {
        /// The token at which the number is read.
        reward_token_id: u32,
    },
}

/// The order of heads in the fused rows of the q, k and v projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvLayout {
    /// Per key head: its query heads, then the key head, then the value head (`wqkv` of InternLM2).
    Interleaved,
    /// All query heads, all key heads, all value heads.
    Separate,
}

/// Sizes and switches of a network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The class that the checkpoint was written for.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads of a layer.
    pub num_attention_heads: usize,
    /// Key and value heads of a layer; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Elements of a head; even. Need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Positions that the model was trained on; where dynamic NTK begins.
    pub max_position_embeddings: usize,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f64,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// Whether the q, k and v projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub o_bias: bool,
    /// Whether the gate, up and down projections have biases.
    pub mlp_bias: bool,
    /// Whether the head is the embedding matrix and has no tensor of its own.
    pub tie_word_embeddings: bool,
    /// What stands on top.
    pub head: Head,
    /// How the matrices of the layers are packed; for GGUF that is told by its tensors instead.
    pub quantization: Option<internlm_quant::QuantizationConfig>,
    /// The dtype that the file says its weights have (`bfloat16`, ...), as it spells it.
    pub torch_dtype: Option<String>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer, by `config.json` alone; see [`GenerationConfig`].
    pub eos_token_ids: Vec<u32>,
    /// The token that fills up batches.
    pub pad_token_id: Option<u32>,
}

impl Config {
    /// The order of heads in fused q, k and v rows.
    pub fn qkv_layout(&self) -> QkvLayout {
        match self.architecture {
            Architecture::InternLm2 => QkvLayout::Interleaved,
            _ => QkvLayout::Separate,
        }
    }

    /// Whether keys are cached before rotation, so that every step rotates all of them with its
    /// own base: InternLM 1 under dynamic NTK (`modeling_internlm.py` of InternLM/InternEvo).
    pub fn keeps_raw_keys(&self) -> bool {
        self.architecture == Architecture::InternLm
            && matches!(self.rope.scaling, RopeScaling::Dynamic { .. })
    }

    /// Most tokens of one sequence: `max_position_embeddings`, under linear scaling times the
    /// factor. Dynamic NTK has no end of its own; there it is eight times that product, far beyond
    /// where quality ends, so that a runaway answer ends too.
    pub fn context_length(&self) -> usize {
        // Both are bounded by `validate`, so the products fit.
        let scaled = |factor: f64| (self.max_position_embeddings as f64 * factor) as usize;
        match self.rope.scaling {
            RopeScaling::None => self.max_position_embeddings,
            RopeScaling::Linear { factor } => scaled(factor),
            RopeScaling::Dynamic { factor } => scaled(8.0 * factor).min(u32::MAX as usize),
        }
    }

    /// Checkpoint paths of the modules.
    pub fn weight_names(&self) -> &'static WeightNames {
        names::of(self.architecture)
    }
}
