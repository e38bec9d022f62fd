//! Checkpoint paths, as the official classes spell them.

use super::Architecture;

/// Paths of modules, without `.weight` and `.bias`. Those of a layer are relative to
/// `{layers}.{index}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WeightNames {
    /// The embedding.
    pub embed_tokens: &'static str,
    /// What layers are numbered under.
    pub layers: &'static str,
    /// The norm before attention.
    pub attention_norm: &'static str,
    /// The q, k and v projections, or the fused one.
    pub qkv: &'static [&'static str],
    /// The attention's output projection.
    pub wo: &'static str,
    /// The norm before the feed-forward layer.
    pub ffn_norm: &'static str,
    /// The gate and up projections.
    pub gate_up: [&'static str; 2],
    /// The down projection.
    pub down: &'static str,
    /// The norm after the last layer.
    pub norm: &'static str,
    /// The language model head.
    pub head: &'static str,
    /// The reward head.
    pub v_head: &'static str,
}

/// InternLM 1 and 3, Llama, Qwen2.
const LLAMA: WeightNames = WeightNames {
    embed_tokens: "model.embed_tokens",
    layers: "model.layers",
    attention_norm: "input_layernorm",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    wo: "self_attn.o_proj",
    ffn_norm: "post_attention_layernorm",
    gate_up: ["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
    norm: "model.norm",
    head: "lm_head",
    v_head: "v_head",
};

const INTERNLM2: WeightNames = WeightNames {
    embed_tokens: "model.tok_embeddings",
    layers: "model.layers",
    attention_norm: "attention_norm",
    qkv: &["attention.wqkv"],
    wo: "attention.wo",
    ffn_norm: "ffn_norm",
    gate_up: ["feed_forward.w1", "feed_forward.w3"],
    down: "feed_forward.w2",
    norm: "model.norm",
    head: "output",
    v_head: "v_head",
};

pub(super) fn of(architecture: Architecture) -> &'static WeightNames {
    match architecture {
        Architecture::InternLm2 => &INTERNLM2,
        _ => &LLAMA,
    }
}
