//! Sizes of released models (`config.json` of each).

use clap::ValueEnum;
use internlm_examples::Result;
use internlm_model::Config;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    #[value(name = "internlm2-1.8b")]
    InternLm2_1_8b,
    #[value(name = "internlm2.5-7b")]
    InternLm2_5_7b,
    #[value(name = "internlm2.5-20b")]
    InternLm2_5_20b,
    #[value(name = "internlm3-8b")]
    InternLm3_8b,
    #[value(name = "smollm2-135m")]
    SmolLm2_135m,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::InternLm2_1_8b => "internlm2-1.8b",
            Shape::InternLm2_5_7b => "internlm2.5-7b",
            Shape::InternLm2_5_20b => "internlm2.5-20b",
            Shape::InternLm3_8b => "internlm3-8b",
            Shape::SmolLm2_135m => "smollm2-135m",
        }
    }

    pub(crate) fn config(self) -> Result<Config> {
        let json = match self {
            Shape::InternLm2_1_8b => internlm2(2048, 24, 16, 8192),
            Shape::InternLm2_5_7b => internlm2(4096, 32, 32, 14336),
            Shape::InternLm2_5_20b => internlm2(6144, 48, 48, 16384),
            Shape::InternLm3_8b => json!({
                "architectures": ["InternLM3ForCausalLM"], "model_type": "internlm3",
                "hidden_size": 4096, "num_hidden_layers": 48, "num_attention_heads": 32,
                "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 10240,
                "vocab_size": 128_512, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-5,
                "rope_theta": 5e7, "rope_scaling": {"rope_type": "dynamic", "factor": 6.0},
                "qkv_bias": false, "bias": false, "tie_word_embeddings": false, "hidden_act": "silu",
                "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
            }),
            Shape::SmolLm2_135m => json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama",
                "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
                "num_key_value_heads": 3, "intermediate_size": 1536,
                "vocab_size": 49_152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
                "rope_theta": 1e5, "rope_scaling": null, "attention_bias": false, "mlp_bias": false,
                "tie_word_embeddings": true, "hidden_act": "silu",
                "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
            }),
        };
        let name = format!("{}/config.json", self.name());
        Ok(Config::from_json(
            name.as_ref(),
            json.to_string().as_bytes(),
        )?)
    }
}

/// InternLM2 and 2.5 share their sizes.
fn internlm2(hidden_size: usize, layers: usize, heads: usize, intermediate_size: usize) -> Value {
    json!({
        "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2",
        "hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 8, "intermediate_size": intermediate_size,
        "vocab_size": 92_544, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000, "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "bias": false, "tie_word_embeddings": false, "hidden_act": "silu",
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    })
}
