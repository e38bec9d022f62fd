//! Rounding to nearest against checkpoints that AutoAWQ and LMDeploy wrote.

use std::collections::BTreeMap;
use std::path::Path;

use internlm_kernels::Compute;
use internlm_quant::awq::AwqTensors;
use internlm_quant::rtn::{Grouping, ScaleType, asymmetric};
use internlm_quant::search::scale;
use internlm_quant::{Codes, RawTensor, Result, Zeros};

use super::common::{f32s, shared, tensors};

struct Golden {
    source: BTreeMap<String, RawTensor<'static>>,
    written: BTreeMap<String, RawTensor<'static>>,
    found: BTreeMap<String, RawTensor<'static>>,
}

fn open(folder: &Path) -> Golden {
    Golden {
        source: tensors(&folder.join("source/model.safetensors")),
        written: tensors(&folder.join("awq/model.safetensors")),
        found: tensors(&folder.join("search_stats.safetensors")),
    }
}

impl Golden {
    fn dense(&self, path: &str) -> Vec<f32> {
        let tensor = self.source[path].to_tensor(&candle_core::Device::Cpu);
        let tensor = tensor.and_then(|t| {
            Ok(t.to_dtype(candle_core::DType::F32)?
                .flatten_all()?
                .to_vec1()?)
        });
        tensor.expect("floats")
    }

    fn codes(&self, path: &str, group_size: usize) -> Result<Codes> {
        let tensor = |name: &str| self.written[&format!("{path}.{name}")].clone();
        let (qweight, qzeros) = (tensor("qweight"), tensor("qzeros"));
        let all = AwqTensors::new(qweight, Some(qzeros), tensor("scales"), group_size, true)?;
        all.codes(0..all.out_features())
    }

    /// What AutoAWQ found, by its kind and module, for one layer: names are numbered in order.
    fn of_layer(&self, layer: usize, kind: &str, module: &str) -> Option<Vec<f32>> {
        let ending = format!(".{kind}.{module}");
        let mut matching = self
            .found
            .iter()
            .filter(|(name, _)| name.ends_with(&ending));
        matching.nth(layer).map(|(_, tensor)| f32s(tensor))
    }
}

/// A linear layer of a Llama block, what produces its input, and the layers that share it.
const LAYERS: [(&str, &str, &[&str]); 7] = [
    ("self_attn.q_proj", "input_layernorm", QKV),
    ("self_attn.k_proj", "input_layernorm", QKV),
    ("self_attn.v_proj", "input_layernorm", QKV),
    (
        "self_attn.o_proj",
        "self_attn.v_proj",
        &["self_attn.o_proj"],
    ),
    ("mlp.gate_proj", "post_attention_layernorm", GATE_UP),
    ("mlp.up_proj", "post_attention_layernorm", GATE_UP),
    ("mlp.down_proj", "mlp.up_proj", &["mlp.down_proj"]),
];
const QKV: &[&str] = &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const GATE_UP: &[&str] = &["mlp.gate_proj", "mlp.up_proj"];

/// Every linear layer of an AutoAWQ checkpoint: the source, scaled and clipped by what AutoAWQ
/// found, gives its scales, zeros and codes.
///
/// On a CPU AutoAWQ 0.2.9 scales twice: `_compute_best_scale` keeps the weights that it restores
/// after each trial with `.cpu()`, which copies nothing there, and the first trial (`r = 0`)
/// multiplies them in place. So its weights are those of the source times the factors of exponent 0,
/// which the norm was never divided by, and the factors that it reports. We form the first ones
/// ourselves, so their last bits may differ, and a few codes with them.
#[track_caller]
fn autoawq(name: &str, group_size: usize) -> Result<()> {
    let Some(folder) = shared(&format!("goldens/awq/{name}")) else {
        return Ok(());
    };
    let golden = open(&folder);
    let compute = Compute::new(Some(2))?;
    for layer in 0..2 {
        let dense = |module: &str| golden.dense(&format!("model.layers.{layer}.{module}.weight"));
        for (module, producer, siblings) in LAYERS {
            let path = format!("model.layers.{layer}.{module}");
            let want = golden.codes(&path, group_size)?;
            let columns = want.columns;
            let mut weight = dense(module);
            if let Some(scales) = golden.of_layer(layer, "scale", producer) {
                let siblings: Vec<_> = siblings.iter().map(|module| dense(module)).collect();
                let siblings: Vec<&[f32]> = siblings.iter().map(Vec::as_slice).collect();
                let means = scale::weight_means(&siblings, columns, group_size)?;
                let first = scale::candidate(&vec![1.0; columns], &means, 0.0);
                scale::multiply_columns(&mut weight, &first);
                scale::multiply_columns(&mut weight, &scales);
            }
            if let Some(scales) = golden.of_layer(layer, "scale", module) {
                scale::divide_rows(&mut weight, columns, &scales);
            }
            if let Some(bounds) = golden.of_layer(layer, "clip", module) {
                let groups = weight.chunks_mut(group_size).zip(bounds);
                groups.for_each(|(group, m)| group.iter_mut().for_each(|w| *w = w.clamp(-m, m)));
            }
            let got = asymmetric(&compute, &weight, columns, Grouping::awq(group_size))?;
            for (a, b) in got.scales.iter().zip(&want.scales) {
                // AutoAWQ rounds max - min and its fifteenth to f16, and may be two steps away.
                assert!(
                    (a - b).abs() <= 2e-3 * b,
                    "{path}: scale {a}, AutoAWQ has {b}"
                );
            }
            // A clipped group is symmetric, -m..m, and its zero a tie, 7.5: the last bit of a scale
            // decides between 7 and 8, and all codes follow. So codes are compared from their zero.
            let (got, want) = (from_zero(&got), from_zero(&want));
            let pairs = || got.iter().zip(&want);
            assert!(pairs().all(|(a, b)| a.abs_diff(*b) <= 1), "{path}");
            let differing = pairs().filter(|(a, b)| a != b).count();
            assert!(
                differing * 50 <= want.len(),
                "{path}: {differing} of {} codes differ",
                want.len()
            );
        }
    }
    Ok(())
}

/// Each code less the zero of its group.
fn from_zero(codes: &Codes) -> Vec<i32> {
    let Zeros::Points(points) = &codes.zeros else {
        panic!("AWQ has zero points");
    };
    let groups = codes.codes.chunks(codes.group_size).zip(points);
    groups
        .flat_map(|(group, zero)| group.iter().map(|&code| i32::from(code) - i32::from(*zero)))
        .collect()
}

#[test]
fn autoawq_codes_of_a_grouped_query_llama() -> Result<()> {
    autoawq("tiny-llama-gqa-autoawq-g64", 64)
}

#[test]
fn autoawq_codes_of_layers_with_biases() -> Result<()> {
    autoawq("tiny-internlm3-mha-bias-autoawq-g64", 64)
}

/// LMDeploy leaves InternLM2's `wo` unscaled: plain rounding of the source, scales of f32.
#[test]
fn lmdeploy_codes_of_an_unscaled_layer() -> Result<()> {
    let Some(folder) = shared("goldens/awq/tiny-internlm2-lmdeploy-g128") else {
        return Ok(());
    };
    let golden = open(&folder);
    let grouping = Grouping {
        scales: ScaleType::F32,
        ..Grouping::awq(128)
    };
    for layer in 0..2 {
        let path = format!("model.layers.{layer}.attention.wo");
        let weight = golden.dense(&format!("{path}.weight"));
        let got = asymmetric(&Compute::new(Some(2))?, &weight, 256, grouping)?;
        assert_eq!(got, golden.codes(&path, 128)?, "{path}");
    }
    Ok(())
}
