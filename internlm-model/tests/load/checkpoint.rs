//! Tiny checkpoints, and the writers of other formats that the loader is held against.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use internlm_core::gguf::{GgufWriter, Value as GgufValue};
use internlm_kernels::Compute;
use internlm_model::config::{Architecture, Config};
use internlm_model::save::{self, SaveConfig};
use internlm_model::{CausalLm, Error, LoadConfig, ModelDir};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Shape, dtype and bits of a tensor.
pub(crate) type Bits = (Vec<usize>, DType, Vec<u32>);

/// Options that share two threads between all tests.
pub(crate) fn options() -> LoadConfig {
    static COMPUTE: OnceLock<Arc<Compute>> = OnceLock::new();
    let compute = COMPUTE.get_or_init(|| Arc::new(Compute::new(Some(2)).expect("two threads")));
    LoadConfig::default()
        .with_compute(compute.clone())
        .with_threads(2)
}

pub(crate) fn config(model_type: &str, more: Value) -> Config {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "bias": true, "eos_token_id": 2,
    });
    if model_type != "internlm" {
        config["num_key_value_heads"] = json!(2);
    }
    let Value::Object(more) = more else {
        panic!("an object")
    };
    for (key, value) in more {
        config[key] = value;
    }
    Config::from_json(Path::new("config.json"), config.to_string().as_bytes()).expect("is valid")
}

/// A configuration of which a checkpoint takes 1.5 KB.
pub(crate) fn minimal() -> Config {
    let sizes = json!({"hidden_size": 4, "intermediate_size": 2, "head_dim": 4, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 3});
    config("llama", sizes)
}

pub(crate) fn random(config: &Config) -> CausalLm {
    CausalLm::random(config.clone(), 7, options()).expect("a random model")
}

/// A saved random model.
pub(crate) fn folder(at: &Path, name: &str, config: &Config) -> PathBuf {
    let path = at.join(name);
    random(config)
        .save(&path, &SaveConfig::default())
        .expect("saves");
    path
}

/// A folder of given tensors.
pub(crate) fn folder_of(path: &Path, config: &Config, tensors: Vec<(String, Tensor)>) -> PathBuf {
    let generation = internlm_model::config::GenerationConfig::of(config);
    let tensors = tensors.into_iter().map(Ok);
    save::save(path, config, &generation, tensors, &SaveConfig::default()).expect("saves");
    path.to_path_buf()
}

pub(crate) fn load(path: &Path) -> Result<CausalLm, Error> {
    load_with(path, options())
}

pub(crate) fn load_with(path: &Path, options: LoadConfig) -> Result<CausalLm, Error> {
    CausalLm::load(&ModelDir::open(path)?, options)
}

pub(crate) fn bits_of(tensor: &Tensor) -> Bits {
    let flat = tensor.flatten_all().expect("flattens");
    let bits = match tensor.dtype() {
        DType::BF16 => {
            let values = flat.to_vec1::<bf16>().expect("bf16");
            values.iter().map(|v| v.to_bits().into()).collect()
        }
        DType::F16 => {
            let values = flat.to_vec1::<f16>().expect("f16");
            values.iter().map(|v| v.to_bits().into()).collect()
        }
        _ => flat
            .to_vec1::<f32>()
            .expect("f32")
            .iter()
            .map(|v| v.to_bits())
            .collect(),
    };
    (tensor.dims().to_vec(), tensor.dtype(), bits)
}

/// All tensors of a model.
pub(crate) fn bits(model: &CausalLm) -> BTreeMap<String, Bits> {
    let tensors = model.tensors().expect("tensors");
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), bits_of(tensor)))
        .collect()
}

/// Writes a safetensors file with the reference implementation.
pub(crate) fn write_safetensors(path: &Path, tensors: &[(String, Vec<usize>, Dtype, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, shape, dtype, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("a view");
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, path).expect("writes");
}

/// Bytes of a tensor in a dtype, as a file has them.
pub(crate) fn bytes_as(tensor: &Tensor, dtype: Dtype) -> Vec<u8> {
    let values = tensor
        .to_dtype(DType::F32)
        .and_then(|t| t.flatten_all()?.to_vec1::<f32>());
    let values = values.expect("f32").into_iter();
    match dtype {
        Dtype::F64 => values.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Dtype::F16 => values
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .flat_map(|v| bf16::from_f32(v).to_le_bytes())
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// An f32 matrix or vector as rows.
struct Rows {
    shape: Vec<usize>,
    rows: Vec<Vec<f32>>,
}

impl Rows {
    fn of(tensor: &Tensor) -> Self {
        let rows = tensor.dim(0).expect("a dimension");
        let flat = tensor
            .to_dtype(DType::F32)
            .and_then(|t| t.reshape((rows, ()))?.to_vec2());
        Self {
            shape: tensor.dims().to_vec(),
            rows: flat.expect("rows"),
        }
    }

    fn of_rows(&self, rows: Vec<Vec<f32>>) -> Self {
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Self { shape, rows }
    }

    /// What llama.cpp's converter does to q and k: rows (head, 2, d/2) to (head, d/2, 2).
    fn paired(self, head_dim: usize) -> Self {
        let half = head_dim / 2;
        let heads = self.rows.chunks(head_dim);
        let rows = heads
            .flat_map(|head| (0..half).flat_map(|i| [head[i].clone(), head[half + i].clone()]));
        self.of_rows(rows.collect())
    }
}

/// Writes tensors the way llama.cpp's converter does. `encode` gives type and bytes of a row-major
/// matrix or vector.
pub(crate) fn write_gguf(
    path: &Path,
    config: &Config,
    tensors: &[(String, Tensor)],
    encode: impl Fn(&str, &[usize], &[f32]) -> (u32, Vec<u8>),
) {
    let name = match config.architecture {
        Architecture::InternLm2 => "internlm2",
        Architecture::Qwen2 => "qwen2",
        _ => "llama",
    };
    let size = |v: usize| GgufValue::U32(v as u32);
    let key = |key: &str| format!("{name}.{key}");
    let mut writer = GgufWriter::new()
        .with_metadata("general.architecture", GgufValue::String(name.into()))
        .with_metadata(key("embedding_length"), size(config.hidden_size))
        .with_metadata(key("feed_forward_length"), size(config.intermediate_size))
        .with_metadata(key("block_count"), size(config.num_hidden_layers))
        .with_metadata(
            key("attention.head_count"),
            size(config.num_attention_heads),
        )
        .with_metadata(
            key("attention.head_count_kv"),
            size(config.num_key_value_heads),
        )
        .with_metadata(key("attention.key_length"), size(config.head_dim))
        .with_metadata(key("context_length"), size(config.max_position_embeddings))
        .with_metadata(
            key("rope.freq_base"),
            GgufValue::F32(config.rope.theta as f32),
        )
        .with_metadata(
            key("attention.layer_norm_rms_epsilon"),
            GgufValue::F32(config.rms_norm_eps as f32),
        );
    let mut data = BTreeMap::new();
    for (name, tensor) in tensors {
        for (name, rows) in converted(config, name, Rows::of(tensor)) {
            let (ggml_type, bytes) = encode(&name, &rows.shape, &rows.rows.concat());
            let shape: Vec<u64> = rows.shape.iter().map(|&d| d as u64).collect();
            writer = writer.with_tensor(name.clone(), shape, ggml_type);
            data.insert(name, bytes);
        }
    }
    let out = std::io::BufWriter::new(std::fs::File::create(path).expect("creates"));
    writer
        .write(out, path, |name, out| out.write_all(&data[name]))
        .expect("writes");
}

/// GGUF names and rows of a checkpoint's tensor.
fn converted(config: &Config, name: &str, rows: Rows) -> Vec<(String, Rows)> {
    let (path, suffix) = name.rsplit_once('.').expect("a suffix");
    let one = |name: &str, rows: Rows| vec![(format!("{name}.{suffix}"), rows)];
    let Some(rest) = path.strip_prefix("model.layers.") else {
        return match path {
            "model.embed_tokens" | "model.tok_embeddings" => one("token_embd", rows),
            "model.norm" => one("output_norm", rows),
            "lm_head" | "output" => one("output", rows),
            other => panic!("{other}"),
        };
    };
    let (layer, module) = rest.split_once('.').expect("a module");
    let block = |name: &str| format!("blk.{layer}.{name}");
    let head_dim = config.head_dim;
    let paired = config.architecture != Architecture::Qwen2;
    let rotated = |rows: Rows| if paired { rows.paired(head_dim) } else { rows };
    match module {
        "input_layernorm" | "attention_norm" => one(&block("attn_norm"), rows),
        "post_attention_layernorm" | "ffn_norm" => one(&block("ffn_norm"), rows),
        "self_attn.q_proj" => one(&block("attn_q"), rotated(rows)),
        "self_attn.k_proj" => one(&block("attn_k"), rotated(rows)),
        "self_attn.v_proj" => one(&block("attn_v"), rows),
        "self_attn.o_proj" | "attention.wo" => one(&block("attn_output"), rows),
        "mlp.gate_proj" | "feed_forward.w1" => one(&block("ffn_gate"), rows),
        "mlp.up_proj" | "feed_forward.w3" => one(&block("ffn_up"), rows),
        "mlp.down_proj" | "feed_forward.w2" => one(&block("ffn_down"), rows),
        "attention.wqkv" => {
            let group = config.num_attention_heads / config.num_key_value_heads;
            let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
            for heads in rows.rows.chunks((group + 2) * head_dim) {
                q.extend_from_slice(&heads[..group * head_dim]);
                k.extend_from_slice(&heads[group * head_dim..(group + 1) * head_dim]);
                v.extend_from_slice(&heads[(group + 1) * head_dim..]);
            }
            let mut all = one(&block("attn_q"), rotated(rows.of_rows(q)));
            all.extend(one(&block("attn_k"), rotated(rows.of_rows(k))));
            all.extend(one(&block("attn_v"), rows.of_rows(v)));
            all
        }
        other => panic!("{other}"),
    }
}

/// Encodes as F32.
pub(crate) fn plain(_: &str, _: &[usize], values: &[f32]) -> (u32, Vec<u8>) {
    (0, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}
