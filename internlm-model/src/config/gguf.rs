//! The metadata of a GGUF file, of the architectures `llama`, `internlm2` and `qwen2`.
//!
//! Keys: `docs/gguf.md` of ggml-org/ggml. What the metadata does not say, the tensor table does:
//! biases and tied embeddings are known by which tensors are there.

use internlm_core::gguf::{Gguf, Value};

use super::{Architecture, Config, Head, RopeConfig, RopeScaling};
use crate::error::{Error, Result};

impl Config {
    /// Reads and checks the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a key that is missing or of the wrong kind, [`Error::Config`] for one
    /// that is contradictory, absurd, or asks for what the decoder is not.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let (architecture, name) = architecture(gguf)?;
        let metadata = Metadata { gguf, name };
        let num_attention_heads = metadata.required("attention.head_count")?;
        let hidden_size = metadata.required("embedding_length")?;
        let head_dim = match metadata.size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if num_attention_heads > 0 && hidden_size % num_attention_heads == 0 => {
                hidden_size / num_attention_heads
            }
            None => {
                let what = format!(
                    "is {num_attention_heads}, which does not divide embedding_length {hidden_size}"
                );
                return Err(metadata.wrong("attention.head_count", what));
            }
        };
        metadata.refuse_other_networks(head_dim)?;
        let has = |tensor: &str| gguf.tensors.contains_key(tensor);
        let ids = |key: &str| Ok::<_, Error>(gguf.u32(&format!("tokenizer.ggml.{key}_token_id"))?);
        let mut eos_token_ids: Vec<u32> = ids("eos")?.into_iter().collect();
        for key in ["eot", "eom"] {
            eos_token_ids.extend(ids(key)?.filter(|id| !eos_token_ids.contains(id)));
        }
        let config = Self {
            architecture,
            hidden_size,
            intermediate_size: metadata.required("feed_forward_length")?,
            num_hidden_layers: metadata.required("block_count")?,
            num_attention_heads,
            num_key_value_heads: metadata
                .size("attention.head_count_kv")?
                .unwrap_or(num_attention_heads),
            head_dim,
            vocab_size: metadata.vocab_size()?,
            max_position_embeddings: metadata.required("context_length")?,
            rms_norm_eps: metadata.eps()?,
            rope: metadata.rope()?,
            qkv_bias: has("blk.0.attn_q.bias"),
            o_bias: has("blk.0.attn_output.bias"),
            mlp_bias: has("blk.0.ffn_gate.bias"),
            tie_word_embeddings: !has("output.weight"),
            head: Head::Lm,
            quantization: None,
            torch_dtype: None,
            bos_token_id: ids("bos")?,
            eos_token_ids,
            pad_token_id: ids("padding")?,
        };
        config.validate_in(&gguf.file)?;
        Ok(config)
    }
}

fn architecture(gguf: &Gguf) -> Result<(Architecture, &str)> {
    const KEY: &str = "general.architecture";
    let Some(name) = gguf.string(KEY)? else {
        return Err(gguf.missing(KEY).into());
    };
    let architecture = match name {
        "llama" => Architecture::Llama,
        "internlm2" => Architecture::InternLm2,
        "qwen2" => Architecture::Qwen2,
        other => {
            return Err(Error::Config {
                file: gguf.file.clone(),
                field: KEY.to_owned(),
                what: format!("is `{other}`, expected llama, internlm2 or qwen2"),
            });
        }
    };
    Ok((architecture, name))
}

/// Keys under the architecture's name.
struct Metadata<'a> {
    gguf: &'a Gguf,
    name: &'a str,
}

impl Metadata<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn wrong(&self, key: &str, what: String) -> Error {
        Error::Config {
            file: self.gguf.file.clone(),
            field: self.key(key),
            what,
        }
    }

    /// A size; of a list with one for each layer, the one that all share.
    fn size(&self, key: &str) -> Result<Option<usize>> {
        let full = self.key(key);
        let Some(Value::Array(_)) = self.gguf.metadata.get(&full) else {
            return Ok(self.gguf.u32(&full)?.map(|v| v as usize));
        };
        match self.gguf.u32s(&full)?.as_deref() {
            Some([first, rest @ ..]) if rest.iter().all(|v| v == first) => {
                Ok(Some(*first as usize))
            }
            _ => Err(self.wrong(key, "differs by layer, expected one value".to_owned())),
        }
    }

    fn required(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            Some(size) => Ok(size),
            None => Err(self.gguf.missing(&self.key(key)).into()),
        }
    }

    /// The rows of the embedding, which the metadata must not contradict.
    fn vocab_size(&self) -> Result<usize> {
        let rows = match self.gguf.tensors.get("token_embd.weight") {
            Some(info) => info.shape.first().copied().unwrap_or(0) as usize,
            None => return self.required("vocab_size"),
        };
        match self.size("vocab_size")? {
            Some(stated) if stated != rows => {
                let what = format!("is {stated}, but token_embd.weight has {rows} rows");
                Err(self.wrong("vocab_size", what))
            }
            _ => Ok(rows),
        }
    }

    /// f32 in the file; as f64 the decimal that was meant.
    fn eps(&self) -> Result<f64> {
        let key = self.key("attention.layer_norm_rms_epsilon");
        match self.gguf.f32(&key)? {
            Some(eps) => Ok(decimal(eps)),
            None => Err(self.gguf.missing(&key).into()),
        }
    }

    fn rope(&self) -> Result<RopeConfig> {
        let theta = self.gguf.f32(&self.key("rope.freq_base"))?;
        let factor = match self.gguf.f32(&self.key("rope.scaling.factor"))? {
            Some(factor) => Some(factor),
            None => self.gguf.f32(&self.key("rope.scale_linear"))?,
        };
        let scaling = match (self.gguf.string(&self.key("rope.scaling.type"))?, factor) {
            (Some("none"), _) | (None, None) => RopeScaling::None,
            (Some("linear") | None, Some(factor)) => RopeScaling::Linear {
                factor: decimal(factor),
            },
            (Some("linear"), None) => {
                return Err(self.gguf.missing(&self.key("rope.scaling.factor")).into());
            }
            (Some(other), _) => {
                let what = format!("is `{other}`, expected none or linear");
                return Err(self.wrong("rope.scaling.type", what));
            }
        };
        Ok(RopeConfig {
            theta: theta.map_or(10_000.0, decimal),
            scaling,
        })
    }

    fn refuse_other_networks(&self, head_dim: usize) -> Result<()> {
        for (key, want) in [
            ("rope.dimension_count", head_dim),
            ("attention.value_length", head_dim),
            ("expert_count", 0),
        ] {
            if let Some(got) = self.size(key)?.filter(|&got| got != want) {
                return Err(self.wrong(key, format!("is {got}, expected {want}")));
            }
        }
        if self.gguf.tensors.contains_key("rope_freqs.weight") {
            let what = "comes with rope_freqs.weight, expected frequencies without factors";
            return Err(self.wrong("rope.scaling.type", what.to_owned()));
        }
        Ok(())
    }
}

/// The shortest decimal that rounds to this f32, as f64: 1e-5, not 0.000009999999747.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
