//! The decoder against a plain f64 forward pass written from the papers, for every family and
//! switch, on random weights. Needs no files.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use internlm_model::batch::Logits;
use internlm_model::config::{Architecture, Head, QkvLayout, RopeConfig, RopeScaling};
use internlm_model::context::Mode;
use internlm_model::{Batch, CausalLm, Config, Context, LoadConfig, Result};

type Matrix = Vec<Vec<f64>>;

/// Weights by checkpoint path, in f64; vectors are matrices of one row.
struct Reference<'a> {
    config: &'a Config,
    weights: BTreeMap<String, Matrix>,
}

impl<'a> Reference<'a> {
    fn new(model: &'a CausalLm) -> Result<Self> {
        let to_f64 = |t: &Tensor| -> Result<Matrix> {
            let t = t.to_dtype(DType::F64)?;
            let columns = t.dims()[t.rank() - 1];
            Ok(t.reshape(((), columns))?.to_vec2()?)
        };
        let tensors = model.tensors()?;
        let weights = tensors
            .iter()
            .map(|(name, t)| Ok((name.clone(), to_f64(t)?)));
        Ok(Self {
            config: model.config(),
            weights: weights.collect::<Result<_>>()?,
        })
    }

    /// The first of these names that the checkpoint has.
    fn weight(&self, names: &[String]) -> &Matrix {
        let found = names.iter().find_map(|name| self.weights.get(name));
        found.unwrap_or_else(|| panic!("none of {names:?}"))
    }

    fn linear(&self, x: &Matrix, modules: &[String]) -> Matrix {
        let names =
            |suffix: &str| -> Vec<_> { modules.iter().map(|m| format!("{m}.{suffix}")).collect() };
        let w = self.weight(&names("weight"));
        let bias = names("bias")
            .iter()
            .find_map(|name| self.weights.get(name))
            .map(|b| &b[0]);
        x.iter()
            .map(|x| {
                let dot = |w: &Vec<f64>| x.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
                let y = w.iter().map(dot);
                match bias {
                    Some(bias) => y.zip(bias).map(|(y, b)| y + b).collect(),
                    None => y.collect(),
                }
            })
            .collect()
    }

    fn norm(&self, x: &Matrix, modules: &[String]) -> Matrix {
        let names: Vec<_> = modules.iter().map(|m| format!("{m}.weight")).collect();
        let w = &self.weight(&names)[0];
        x.iter()
            .map(|x| {
                let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
                let scale = 1.0 / (mean + self.config.rms_norm_eps).sqrt();
                x.iter().zip(w).map(|(v, w)| v * scale * w).collect()
            })
            .collect()
    }

    fn rotate(&self, x: &[f64], position: usize, len: usize) -> Vec<f64> {
        let c = self.config;
        let d = c.head_dim as f64;
        let (mut base, mut position) = (c.rope.theta, position as f64);
        match c.rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => position /= factor,
            RopeScaling::Dynamic { factor } if len > c.max_position_embeddings => {
                let ratio = len as f64 / c.max_position_embeddings as f64;
                base *= (factor * ratio - (factor - 1.0)).powf(d / (d - 2.0));
            }
            RopeScaling::Dynamic { .. } => {}
        }
        let half = c.head_dim / 2;
        let mut out = x.to_vec();
        for i in 0..half {
            let angle = position * base.powf(-2.0 * i as f64 / d);
            let (sin, cos) = angle.sin_cos();
            out[i] = x[i] * cos - x[i + half] * sin;
            out[i + half] = x[i + half] * cos + x[i] * sin;
        }
        out
    }

    /// Query, key and value heads of a token.
    fn heads(&self, x: &Matrix, layer: &str) -> Vec<[Vec<Vec<f64>>; 3]> {
        let c = self.config;
        let split = |row: &Vec<f64>| -> Vec<Vec<f64>> {
            row.chunks(c.head_dim).map(<[f64]>::to_vec).collect()
        };
        if c.qkv_layout() == QkvLayout::Interleaved {
            let group = c.num_attention_heads / c.num_key_value_heads;
            let qkv = self.linear(x, &[format!("{layer}.attention.wqkv")]);
            let of_row = |row: &Vec<f64>| {
                let mut out: [Vec<Vec<f64>>; 3] = Default::default();
                for group_heads in split(row).chunks(group + 2) {
                    out[0].extend_from_slice(&group_heads[..group]);
                    out[1].push(group_heads[group].clone());
                    out[2].push(group_heads[group + 1].clone());
                }
                out
            };
            return qkv.iter().map(of_row).collect();
        }
        let of = |name: &str| self.linear(x, &[format!("{layer}.self_attn.{name}_proj")]);
        let (q, k, v) = (of("q"), of("k"), of("v"));
        q.iter()
            .zip(k)
            .zip(v)
            .map(|((q, k), v)| [split(q), split(&k), split(&v)])
            .collect()
    }

    fn attention(&self, x: &Matrix, layer: &str) -> Matrix {
        let c = self.config;
        let heads = self.heads(x, layer);
        let group = c.num_attention_heads / c.num_key_value_heads;
        let len = x.len();
        let mut out = Vec::new();
        for (row, [q, _, _]) in heads.iter().enumerate() {
            let mut all = Vec::new();
            for (h, q) in q.iter().enumerate() {
                let q = self.rotate(q, row, len);
                let scores: Vec<f64> = (0..=row)
                    .map(|t| {
                        let k = self.rotate(&heads[t][1][h / group], t, len);
                        let dot: f64 = q.iter().zip(&k).map(|(a, b)| a * b).sum();
                        dot / (c.head_dim as f64).sqrt()
                    })
                    .collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut sum = vec![0.0; c.head_dim];
                for (t, w) in weights.iter().enumerate() {
                    for (s, v) in sum.iter_mut().zip(&heads[t][2][h / group]) {
                        *s += w / total * v;
                    }
                }
                all.extend(sum);
            }
            out.push(all);
        }
        self.linear(
            &out,
            &[
                format!("{layer}.attention.wo"),
                format!("{layer}.self_attn.o_proj"),
            ],
        )
    }

    fn feed_forward(&self, x: &Matrix, layer: &str) -> Matrix {
        let of = |x: &Matrix, a: &str, b: &str| {
            self.linear(
                x,
                &[
                    format!("{layer}.feed_forward.{a}"),
                    format!("{layer}.mlp.{b}_proj"),
                ],
            )
        };
        let (gate, up) = (of(x, "w1", "gate"), of(x, "w3", "up"));
        let gated = gate.iter().zip(&up).map(|(g, u)| {
            g.iter()
                .zip(u)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect()
        });
        of(&gated.collect(), "w2", "down")
    }

    fn logits(&self, ids: &[u32]) -> Matrix {
        let names = ["model.tok_embeddings", "model.embed_tokens"].map(|n| format!("{n}.weight"));
        let embedding = self.weight(&names);
        let mut x: Matrix = ids
            .iter()
            .map(|&id| embedding[id as usize].clone())
            .collect();
        let add = |x: &mut Matrix, y: Matrix| {
            for (x, y) in x.iter_mut().flatten().zip(y.into_iter().flatten()) {
                *x += y;
            }
        };
        for index in 0..self.config.num_hidden_layers {
            let layer = format!("model.layers.{index}");
            let at = |a: &str, b: &str| [format!("{layer}.{a}"), format!("{layer}.{b}")];
            let h = self.norm(&x, &at("attention_norm", "input_layernorm"));
            let out = self.attention(&h, &layer);
            add(&mut x, out);
            let h = self.norm(&x, &at("ffn_norm", "post_attention_layernorm"));
            let out = self.feed_forward(&h, &layer);
            add(&mut x, out);
        }
        let x = self.norm(&x, &["model.norm".to_owned()]);
        let heads = [
            "v_head",
            "output",
            "lm_head",
            "model.tok_embeddings",
            "model.embed_tokens",
        ];
        self.linear(&x, &heads.map(str::to_owned))
    }
}

fn config(architecture: Architecture, change: impl FnOnce(&mut Config)) -> Config {
    // InternLM 1 has no grouped queries.
    let kv_heads = if architecture == Architecture::InternLm {
        6
    } else {
        2
    };
    let json = serde_json::json!({
        "model_type": architecture.as_str(),
        "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": kv_heads, "vocab_size": 97,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bias": false,
    });
    let bytes = serde_json::to_vec(&json).expect("JSON is written");
    let mut config =
        Config::from_json("config.json".as_ref(), &bytes).expect("the config is valid");
    change(&mut config);
    config
}

#[track_caller]
fn check(config: Config, len: usize) {
    let mut options = LoadConfig::default();
    options.threads = Some(2);
    let model = CausalLm::random(config, 11, options).expect("a random model is built");
    let ids: Vec<u32> = (0..len as u32).map(|i| (i * 37 + 5) % 97).collect();
    let want = Reference::new(&model)
        .expect("tensors convert")
        .logits(&ids);
    let scale = want.iter().flatten().map(|x| x.abs()).fold(0.0, f64::max);
    for mode in [Mode::Infer, Mode::Train] {
        let mut cache = model.new_cache().expect("a cache");
        let mut batch = Batch::new();
        batch.push(0, &ids, 0, len, Logits::All).expect("a batch");
        let mut ctx = Context::new(&mut cache).with_mode(mode);
        let got = model.forward(&batch, &mut ctx).expect("a pass");
        let got = got.to_vec2::<f32>().expect("logits are f32");
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            let diff = (f64::from(*got) - want).abs();
            assert!(diff < 1e-5 * scale.max(1.0), "{mode:?}: {got} for {want}");
        }
    }
}

fn dynamic(factor: f64) -> RopeConfig {
    RopeConfig {
        theta: 10_000.0,
        scaling: RopeScaling::Dynamic { factor },
    }
}

#[test]
fn internlm_with_biases() {
    check(
        config(Architecture::InternLm, |c| {
            (c.qkv_bias, c.o_bias) = (true, true)
        }),
        20,
    );
}

#[test]
fn internlm_with_raw_keys_past_the_trained_length() {
    check(
        config(Architecture::InternLm, |c| {
            c.rope = dynamic(1.0);
            c.max_position_embeddings = 16;
        }),
        30,
    );
}

#[test]
fn internlm2_fused_and_grouped() {
    check(config(Architecture::InternLm2, |_| {}), 20);
}

#[test]
fn internlm2_with_biases_and_dynamic_ntk() {
    check(
        config(Architecture::InternLm2, |c| {
            (c.qkv_bias, c.o_bias) = (true, true);
            c.rope = dynamic(2.0);
            c.max_position_embeddings = 16;
        }),
        30,
    );
}

#[test]
fn internlm2_tied_and_linear() {
    check(
        config(Architecture::InternLm2, |c| {
            c.tie_word_embeddings = true;
            c.rope.scaling = RopeScaling::Linear { factor: 3.0 };
        }),
        20,
    );
}

#[test]
fn internlm2_reward() {
    check(
        config(Architecture::InternLm2, |c| {
            c.head = Head::Reward {
                reward_token_id: 90,
            }
        }),
        12,
    );
}

#[test]
fn internlm3_with_all_biases_and_wide_heads() {
    check(
        config(Architecture::InternLm3, |c| {
            c.head_dim = 14;
            (c.qkv_bias, c.o_bias, c.mlp_bias) = (true, true, true);
        }),
        20,
    );
}

#[test]
fn llama() {
    check(config(Architecture::Llama, |_| {}), 20);
}

#[test]
fn qwen2() {
    check(
        config(Architecture::Qwen2, |c| c.tie_word_embeddings = true),
        20,
    );
}
