//! `config.json` in the layouts of the official classes.
//!
//! Defaults of absent keys are those of the configuration classes (InternLM 1 and 2:
//! `transformers/*/configuration_*.py` of InternLM/InternEvo). Sizes have no default: a file
//! without them is another model's.

use std::path::Path;

use internlm_quant::{Error as QuantError, QuantizationConfig};
use serde_json::{Map, Value, json};

use super::generation::token_ids;
use super::keys::Keys;
use super::{Architecture, Config, Head, RopeConfig, RopeScaling};
use crate::error::{Error, Result};

/// `[UNUSED_TOKEN_130]`, the reward token of the released InternLM2 reward models.
const DEFAULT_REWARD_TOKEN_ID: u32 = 92_527;

/// What stands for absent keys.
struct Defaults {
    max_position_embeddings: usize,
    bias: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

fn defaults(architecture: Architecture) -> Defaults {
    let internlm = Defaults {
        max_position_embeddings: 2048,
        bias: true,
        bos_token_id: Some(1),
        eos_token_id: Some(2),
        pad_token_id: Some(0),
    };
    match architecture {
        Architecture::InternLm | Architecture::InternLm2 => internlm,
        Architecture::InternLm3 => Defaults {
            max_position_embeddings: 32_768,
            bias: false,
            pad_token_id: None,
            ..internlm
        },
        Architecture::Llama => Defaults {
            bias: false,
            pad_token_id: None,
            ..internlm
        },
        Architecture::Qwen2 => Defaults {
            max_position_embeddings: 32_768,
            bias: false,
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
        },
    }
}

impl Config {
    /// Reads and checks the bytes of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// [`Error::Json`] for bytes that are not a JSON object, [`Error::Config`] for a key that is
    /// missing, of the wrong kind, contradictory, absurd, or asks for what the decoder is not.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<Self> {
        let map: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|source| Error::Json {
                file: file.to_path_buf(),
                source,
            })?;
        let keys = Keys::new(file, &map);
        let (architecture, reward) = class(&keys)?;
        refuse_other_networks(&keys)?;
        let defaults = defaults(architecture);
        let num_attention_heads = keys.required_size("num_attention_heads")?;
        let bias = keys.bool("bias")?.unwrap_or(defaults.bias);
        let (qkv_bias, o_bias, mlp_bias) = match architecture {
            Architecture::InternLm | Architecture::InternLm2 => (bias, bias, false),
            Architecture::InternLm3 => (keys.bool("qkv_bias")?.unwrap_or(false), bias, bias),
            Architecture::Llama => {
                let attention = keys.bool("attention_bias")?.unwrap_or(false);
                (
                    attention,
                    attention,
                    keys.bool("mlp_bias")?.unwrap_or(false),
                )
            }
            Architecture::Qwen2 => (true, false, false),
        };
        let hidden_size = keys.required_size("hidden_size")?;
        let max_position_embeddings = keys
            .size("max_position_embeddings")?
            .unwrap_or(defaults.max_position_embeddings);
        let id = |key, default| match keys.has(key) {
            true => keys.token_id(key),
            false => Ok(default),
        };
        let config = Self {
            architecture,
            hidden_size,
            intermediate_size: keys.required_size("intermediate_size")?,
            num_hidden_layers: keys.required_size("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: key_value_heads(&keys, architecture, num_attention_heads)?,
            head_dim: head_dim(&keys, architecture, hidden_size, num_attention_heads)?,
            vocab_size: keys.required_size("vocab_size")?,
            max_position_embeddings,
            rms_norm_eps: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope: match architecture {
                Architecture::InternLm => rotary(&keys)?,
                _ => rope(&keys, max_position_embeddings)?,
            },
            qkv_bias,
            o_bias,
            mlp_bias,
            tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(false),
            head: match reward {
                true => Head::Reward {
                    reward_token_id: keys
                        .token_id("reward_token_id")?
                        .unwrap_or(DEFAULT_REWARD_TOKEN_ID),
                },
                false => Head::Lm,
            },
            quantization: quantization(&keys)?,
            torch_dtype: match keys.string("torch_dtype")? {
                Some(dtype) => Some(dtype.to_owned()),
                None => keys.string("dtype")?.map(str::to_owned),
            },
            bos_token_id: id("bos_token_id", defaults.bos_token_id)?,
            eos_token_ids: match keys.has("eos_token_id") {
                true => keys.token_ids("eos_token_id")?.unwrap_or_default(),
                false => defaults.eos_token_id.into_iter().collect(),
            },
            pad_token_id: id("pad_token_id", defaults.pad_token_id)?,
        };
        config.validate_in(file)?;
        Ok(config)
    }

    /// The layout that the official classes and [`from_json`](Config::from_json) read, of a dense
    /// checkpoint: `quantization_config` is for who writes packed tensors to add.
    pub fn to_json(&self) -> Value {
        let class = match self.head {
            Head::Lm => "ForCausalLM",
            Head::Reward { .. } => "ForRewardModel",
        };
        let mut map = json!({
            "architectures": [format!("{}{class}", self.architecture.class_prefix())],
            "model_type": self.architecture.as_str(),
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": token_ids(&self.eos_token_ids),
            "pad_token_id": self.pad_token_id,
            "initializer_range": 0.02,
            "use_cache": true,
        });
        if let Some(dtype) = &self.torch_dtype {
            map["torch_dtype"] = json!(dtype);
        }
        if let Head::Reward { reward_token_id } = self.head {
            map["reward_token_id"] = json!(reward_token_id);
        }
        match self.architecture {
            Architecture::InternLm | Architecture::InternLm2 => map["bias"] = json!(self.o_bias),
            Architecture::InternLm3 => {
                map["qkv_bias"] = json!(self.qkv_bias);
                map["bias"] = json!(self.o_bias);
            }
            Architecture::Llama => {
                map["attention_bias"] = json!(self.o_bias);
                map["mlp_bias"] = json!(self.mlp_bias);
            }
            Architecture::Qwen2 => map["use_sliding_window"] = json!(false),
        }
        if !matches!(
            self.architecture,
            Architecture::InternLm | Architecture::InternLm2
        ) {
            map["head_dim"] = json!(self.head_dim);
        }
        let theta = integral(self.rope.theta);
        if self.architecture == Architecture::InternLm {
            map["rotary"] = match self.rope.scaling {
                RopeScaling::Dynamic { factor } => {
                    json!({"base": theta, "type": "dynamic", "scaling_factor": factor})
                }
                _ => json!({"base": theta, "type": "origin"}),
            };
        } else {
            // InternLM2's class insists on exactly these two keys and on a float.
            let kind = match self.architecture {
                Architecture::InternLm2 => "type",
                _ => "rope_type",
            };
            map["rope_theta"] = theta;
            map["rope_scaling"] = match self.rope.scaling {
                RopeScaling::None => Value::Null,
                RopeScaling::Linear { factor } => json!({kind: "linear", "factor": factor}),
                RopeScaling::Dynamic { factor } => json!({kind: "dynamic", "factor": factor}),
            };
        }
        map
    }
}

/// 10000, not 10000.0: configuration classes declare an integer.
fn integral(value: f64) -> Value {
    let whole = value as u64;
    if whole as f64 == value {
        json!(whole)
    } else {
        json!(value)
    }
}

/// The class that the file was written for, and whether it has a reward head.
fn class(keys: &Keys<'_>) -> Result<(Architecture, bool)> {
    let model_type = keys.string("model_type")?;
    let by_type = match model_type {
        None => None,
        Some(name) => {
            let known = Architecture::ALL.into_iter().find(|a| a.as_str() == name);
            let Some(known) = known else {
                let known = Architecture::ALL.map(Architecture::as_str).join(", ");
                return Err(keys.wrong(
                    "model_type",
                    format!("is `{name}`, expected one of {known}"),
                ));
            };
            Some(known)
        }
    };
    let Some(class) = keys.value("architectures").and_then(|v| v.get(0)?.as_str()) else {
        return match by_type {
            Some(architecture) => Ok((architecture, false)),
            None => Err(keys.wrong("model_type", "is missing, and `architectures` too")),
        };
    };
    let parsed = Architecture::ALL.into_iter().find_map(|architecture| {
        let reward = match class.strip_prefix(architecture.class_prefix())? {
            "ForCausalLM" | "Model" => false,
            // Qwen2's class of this name has another head.
            "ForRewardModel" if architecture != Architecture::Qwen2 => true,
            _ => return None,
        };
        Some((architecture, reward))
    });
    match (parsed, by_type) {
        (None, _) => {
            let what = format!(
                "is `{class}`, expected a ForCausalLM or ForRewardModel class of InternLM, Llama or Qwen2"
            );
            Err(keys.wrong("architectures", what))
        }
        (Some((architecture, _)), Some(by_type)) if architecture != by_type => {
            let what = format!("is `{class}`, but model_type is `{}`", by_type.as_str());
            Err(keys.wrong("architectures", what))
        }
        (Some(parsed), _) => Ok(parsed),
    }
}

/// Refuses values that ask for another network than the decoder's.
fn refuse_other_networks(keys: &Keys<'_>) -> Result<()> {
    match keys.string("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(other) => {
            return Err(keys.wrong("hidden_act", format!("is `{other}`, expected `silu`")));
        }
    }
    if keys.bool("use_sliding_window")? == Some(true) {
        return Err(keys.wrong(
            "use_sliding_window",
            "is true, expected attention to all tokens",
        ));
    }
    Ok(())
}

fn quantization(keys: &Keys<'_>) -> Result<Option<QuantizationConfig>> {
    const KEY: &str = "quantization_config";
    let Some(value) = keys.value(KEY) else {
        return Ok(None);
    };
    let config = QuantizationConfig::from_json(value).map_err(|error| {
        let what = match error {
            QuantError::QuantizationConfig { key, message } => format!("`{key}` {message}"),
            QuantError::QuantizationUnsupported { key, got, known } => {
                format!("`{key}` is {got}, only {known} can be read")
            }
            other => other.to_string(),
        };
        keys.wrong(KEY, what)
    })?;
    Ok(Some(config))
}

fn key_value_heads(
    keys: &Keys<'_>,
    architecture: Architecture,
    num_attention_heads: usize,
) -> Result<usize> {
    const KEY: &str = "num_key_value_heads";
    let heads = keys.size(KEY)?.unwrap_or(num_attention_heads);
    if architecture == Architecture::InternLm && heads != num_attention_heads {
        let what = format!("is {heads}, InternLM 1 has as many as num_attention_heads");
        return Err(keys.wrong(KEY, what));
    }
    Ok(heads)
}

fn head_dim(
    keys: &Keys<'_>,
    architecture: Architecture,
    hidden_size: usize,
    num_attention_heads: usize,
) -> Result<usize> {
    let implied = match num_attention_heads {
        0 => None,
        heads if hidden_size.is_multiple_of(heads) => Some(hidden_size / heads),
        _ => None,
    };
    let fixed = matches!(
        architecture,
        Architecture::InternLm | Architecture::InternLm2
    );
    match (keys.size("head_dim")?, implied) {
        (Some(given), Some(implied)) if fixed && given != implied => {
            let what = format!("is {given}, this class has hidden_size / heads = {implied}");
            Err(keys.wrong("head_dim", what))
        }
        (Some(given), _) if !fixed => Ok(given),
        (_, Some(implied)) => Ok(implied),
        (_, None) => {
            let what = format!(
                "is {num_attention_heads}, which does not divide hidden_size {hidden_size}"
            );
            Err(keys.wrong("num_attention_heads", what))
        }
    }
}

/// InternLM 1: an object `rotary`, dynamic where it is absent.
fn rotary(keys: &Keys<'_>) -> Result<RopeConfig> {
    let Some(rotary) = keys.object("rotary", "rotary.")? else {
        return Ok(RopeConfig {
            theta: 10_000.0,
            scaling: RopeScaling::Dynamic { factor: 1.0 },
        });
    };
    let scaling = match rotary.string("type")?.unwrap_or("dynamic") {
        "origin" => RopeScaling::None,
        "dynamic" => RopeScaling::Dynamic {
            factor: rotary.number("scaling_factor")?.unwrap_or(1.0),
        },
        other => {
            return Err(rotary.wrong("type", format!("is `{other}`, expected origin or dynamic")));
        }
    };
    Ok(RopeConfig {
        theta: rotary.number("base")?.unwrap_or(10_000.0),
        scaling,
    })
}

/// The others: `rope_theta` and `rope_scaling`, or `rope_parameters` of transformers 5.
fn rope(keys: &Keys<'_>, max_position_embeddings: usize) -> Result<RopeConfig> {
    let parameters = keys.object("rope_parameters", "rope_parameters.")?;
    let inner = match &parameters {
        Some(parameters) => parameters.number("rope_theta")?,
        None => None,
    };
    let theta = match (keys.number("rope_theta")?, inner) {
        (Some(outer), Some(inner)) if outer != inner => {
            let what = format!("is {outer}, but rope_parameters.rope_theta is {inner}");
            return Err(keys.wrong("rope_theta", what));
        }
        (outer, inner) => outer.or(inner).unwrap_or(10_000.0),
    };
    let read = |object: Option<Keys<'_>>| match object {
        Some(object) => scaling(&object, max_position_embeddings).map(Some),
        None => Ok(None),
    };
    let outer = read(keys.object("rope_scaling", "rope_scaling.")?)?;
    let scaling = match (outer, read(parameters)?) {
        (Some(outer), Some(inner)) if outer != inner => {
            return Err(keys.wrong("rope_scaling", "contradicts rope_parameters"));
        }
        (outer, inner) => outer.or(inner).unwrap_or_default(),
    };
    Ok(RopeConfig { theta, scaling })
}

/// An object that names a kind under either spelling, and its factor.
fn scaling(object: &Keys<'_>, max_position_embeddings: usize) -> Result<RopeScaling> {
    let (rope_type, old) = (object.string("rope_type")?, object.string("type")?);
    let kind = match (rope_type, old) {
        (Some(a), Some(b)) if a != b => {
            return Err(object.wrong("type", format!("is `{b}`, but rope_type is `{a}`")));
        }
        (a, b) => a.or(b),
    };
    let factor = || match object.number("factor")? {
        Some(factor) => Ok(factor),
        None => Err(object.wrong("factor", "is missing, expected a number from 1")),
    };
    match kind {
        Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
        Some("dynamic") => {
            const KEY: &str = "original_max_position_embeddings";
            match object.size(KEY)? {
                Some(original) if original != max_position_embeddings => {
                    let what = format!(
                        "is {original}, expected max_position_embeddings {max_position_embeddings}"
                    );
                    Err(object.wrong(KEY, what))
                }
                _ => Ok(RopeScaling::Dynamic { factor: factor()? }),
            }
        }
        Some(other) => {
            let what = format!("is `{other}`, expected default, linear or dynamic");
            Err(object.wrong("rope_type", what))
        }
        None => Err(object.wrong(
            "rope_type",
            "is missing, expected default, linear or dynamic",
        )),
    }
}
