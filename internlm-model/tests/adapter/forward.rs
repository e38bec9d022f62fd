//! Passes with adapters: against merged weights, and each sequence against itself alone.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use internlm_core::SamplingParams;
use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::context::Mode;
use internlm_model::generate::TokenEvent;
use internlm_model::save::SaveConfig;
use internlm_model::{
    AdapterSet, Batch, CausalLm, Config, Context, Error, LoadConfig, LoraAdapter, LoraConfig,
};
use serde_json::json;

use crate::checkpoint::{bits, load_with, options, random};
use crate::{FAMILIES, adapter, assert_close, family, floats, logits};

const IDS: [u32; 9] = [1, 5, 9, 30, 2, 17, 8, 39, 11];

/// Modules of one family or another; those that a family lacks are no harm.
fn lora(names: &[&str]) -> LoraConfig {
    let names = names.iter().copied();
    LoraConfig::default()
        .with_rank(3)
        .with_alpha(5.0)
        .with_target_modules(names)
}

/// Some of the modules of each fused product, all of them, and the head.
fn choices() -> [LoraConfig; 3] {
    [
        lora(&["wqkv", "k_proj", "w3", "up_proj"]),
        LoraConfig::default()
            .with_rank(3)
            .with_alpha(5.0)
            .with_rslora(true),
        lora(&[
            "wo",
            "q_proj",
            "v_proj",
            "gate_proj",
            "w2",
            "lm_head",
            "output",
        ]),
    ]
}

#[test]
fn live_is_merged() {
    for name in FAMILIES {
        let base = random(&family(name, json!({})));
        let plain = logits(&base, None, &IDS, Mode::Infer);
        for (seed, lora) in choices().into_iter().enumerate() {
            let adapter = adapter(base.config(), lora, seed as u64);
            let live = logits(&base, Some(&adapter), &IDS, Mode::Infer);
            let mut merged = random(base.config());
            merged.merge(&adapter).unwrap();
            assert_close(&live, &logits(&merged, None, &IDS, Mode::Infer), 2e-5);
            let train = logits(&base, Some(&adapter), &IDS, Mode::Train);
            assert_close(&train, &live, 2e-5);
            assert!(crate::common::max_abs_diff(&live, &plain) > 1e-2, "{name}");
        }
    }
}

/// `W + scale * B A` by checkpoint path, written out.
#[test]
fn merging_adds_to_the_rows_of_its_path_alone() {
    for name in FAMILIES {
        for (seed, lora) in choices().into_iter().enumerate() {
            let mut model = random(&family(name, json!({})));
            let before = model.tensors().unwrap();
            let adapter = adapter(model.config(), lora, seed as u64);
            let scale = match adapter.config().use_rslora {
                true => 5.0 / 3f64.sqrt(),
                false => 5.0 / 3.0,
            };
            model.merge(&adapter).unwrap();
            let after = model.tensors().unwrap();
            let mut merged = 0;
            for ((path, before), (_, after)) in before.iter().zip(&after) {
                let module = path.strip_suffix(".weight").unwrap_or(path);
                let Some(lora) = adapter.module(module) else {
                    assert_eq!(floats(before), floats(after), "{path}");
                    continue;
                };
                merged += 1;
                let product = |a: &Tensor, b: &Tensor| {
                    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
                    before.to_dtype(DType::F64)? + (b.matmul(&a)? * scale)?
                };
                let want = product(lora.a(), lora.b()).unwrap();
                let want = floats(&want.to_dtype(DType::F32).unwrap());
                assert_close(&floats(after), &want, 1e-6);
            }
            assert_eq!(merged, adapter.paths().len());
        }
    }
}

/// Five sequences, of which two share an adapter and are no neighbours and two have none.
fn alone_is_in_a_batch(model: &CausalLm) {
    let of = |lora: LoraConfig, seed| adapter(model.config(), lora, seed);
    let [some, all, head] = choices();
    let set = AdapterSet::from_iter([of(some, 1), of(all, 2), of(head.with_rank(2), 3)]);
    let wanted: [(&[u32], _, _); 6] = [
        (&IDS[..4], Some(1), Logits::All),
        (&IDS[2..5], None, Logits::Last),
        (&IDS[..7], Some(2), Logits::LastRows(3)),
        (&IDS, Some(1), Logits::None),
        (&IDS[1..2], Some(0), Logits::Last),
        (&IDS[3..], None, Logits::All),
    ];
    let run = |slots: &[usize], set: Option<&AdapterSet>| {
        let (mut cache, mut batch) = (model.new_cache().unwrap(), Batch::new());
        for &slot in slots {
            let (ids, adapter, logits) = wanted[slot];
            batch.push(slot, ids, 0, ids.len(), logits).unwrap();
            batch.set_adapter(slot, adapter).unwrap();
        }
        let mut context = Context::new(&mut cache);
        context.adapters = set;
        floats(&model.forward(&batch, &mut context).unwrap())
    };
    let alone = |slot: usize| match wanted[slot].1 {
        // Without the set, as if there were no adapters at all.
        None => run(&[slot], None),
        Some(_) => run(&[slot], Some(&set)),
    };
    let all: Vec<f32> = (0..6).flat_map(alone).collect();
    assert_eq!(all.len(), (4 + 1 + 3 + 1 + 6) * model.config().vocab_size);
    assert_eq!(run(&[0, 1, 2, 3, 4, 5], Some(&set)), all);
    let some = [alone(0), alone(4), alone(3)].concat();
    assert_eq!(run(&[0, 4, 3], Some(&set)), some);
}

/// 4-bit weights: the same values, packed and dense, and the folder of the latter.
fn packed(name: &str) -> (CausalLm, tempfile::TempDir) {
    let awq = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": true});
    let more = json!({"hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "quantization_config": awq});
    let exact = options().with_packed_activation(Activation::F32);
    let model = CausalLm::random(family(name, more), 7, exact).unwrap();
    assert!(model.is_packed());
    let at = tempfile::tempdir().unwrap();
    let folder = at.path().join("dense");
    model.save(&folder, &SaveConfig::default()).unwrap();
    (model, at)
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for name in FAMILIES {
        alone_is_in_a_batch(&random(&family(name, json!({}))));
    }
    let bf16 = LoadConfig::default().with_dtype(DType::F16);
    alone_is_in_a_batch(&CausalLm::random(family("llama", json!({})), 7, bf16).unwrap());
    alone_is_in_a_batch(&packed("qwen2").0);
    let (rounding, at) = packed("internlm2");
    alone_is_in_a_batch(&rounding);
    drop(at);
}

#[test]
fn a_packed_base_serves_adapters_and_refuses_to_merge() {
    for name in FAMILIES {
        let (mut base, at) = packed(name);
        for (seed, lora) in choices().into_iter().enumerate() {
            let adapter = adapter(base.config(), lora, seed as u64);
            let mut dense = load_with(&at.path().join("dense"), options()).unwrap();
            assert!(!dense.is_packed());
            let live = logits(&base, Some(&adapter), &IDS, Mode::Infer);
            let train = logits(&base, Some(&adapter), &IDS, Mode::Train);
            dense.merge(&adapter).unwrap();
            let merged = logits(&dense, None, &IDS, Mode::Infer);
            assert_close(&live, &merged, 2e-5);
            assert_close(&train, &merged, 2e-5);
            let before = bits(&base);
            let refused = base.merge(&adapter);
            assert!(
                matches!(&refused, Err(Error::PackedMerge { at }) if adapter.module(at).is_some()),
                "{refused:?}"
            );
            assert!(bits(&base) == before);
        }
    }
}

#[test]
fn merging_keeps_the_dtype() {
    let bf16 = || options().with_dtype(DType::BF16);
    let config = family("internlm2", json!({}));
    let mut model = CausalLm::random(config.clone(), 7, bf16()).unwrap();
    let dtypes = |model: &CausalLm| -> Vec<_> {
        let tensors = model.tensors().unwrap().into_iter();
        tensors.map(|(name, t)| (name, t.dtype())).collect()
    };
    let before = dtypes(&model);
    let live = {
        let adapter = adapter(&config, LoraConfig::default(), 1);
        let live = logits(&model, Some(&adapter), &IDS, Mode::Train);
        model.merge(&adapter).unwrap();
        live
    };
    assert_eq!(dtypes(&model), before);
    // bf16 has 8 bits: weights are rounded by 2^-9 of themselves once more.
    assert_close(&logits(&model, None, &IDS, Mode::Train), &live, 3e-2);
}

/// Larger than the blocks that threads take, with gathered rows.
#[test]
fn threads_change_nothing() {
    let more = json!({"hidden_size": 64, "intermediate_size": 1024, "head_dim": 16});
    let config = family("llama", more);
    let ids: Vec<u32> = (0..40).collect();
    let outs: Vec<_> = [1, 2, 5]
        .into_iter()
        .map(|threads| {
            let options = LoadConfig::default().with_threads(threads);
            let model = CausalLm::random(config.clone(), 7, options).unwrap();
            let of = |seed| adapter(&config, LoraConfig::default(), seed);
            let set = AdapterSet::from_iter([of(1), of(2)]);
            let (mut cache, mut batch) = (model.new_cache().unwrap(), Batch::new());
            for slot in 0..3 {
                batch.push(slot, &ids, 0, ids.len(), Logits::All).unwrap();
                batch.set_adapter(slot, Some(slot % 2)).unwrap();
            }
            let mut context = Context::new(&mut cache).with_adapters(&set);
            floats(&model.forward(&batch, &mut context).unwrap())
        })
        .collect();
    assert!(outs[0] == outs[1] && outs[0] == outs[2]);
    // Slots 0 and 2 are one prompt through one adapter, slot 1 through another.
    let rows = outs[0].len() / 3;
    assert!(outs[0][..rows] == outs[0][2 * rows..]);
    assert!(outs[0][..rows] != outs[0][rows..2 * rows]);
}

fn answer(model: &CausalLm, adapter: Option<Arc<LoraAdapter>>) -> Vec<u32> {
    let params = SamplingParams::greedy()
        .with_max_new_tokens(12)
        .with_ignore_eos(true);
    let mut generation = model.generate(&IDS, &params).unwrap();
    if let Some(adapter) = adapter {
        generation = generation.with_adapter(adapter);
    }
    generation
        .filter_map(|event| match event.unwrap() {
            TokenEvent::Token { id, .. } => Some(id),
            _ => None,
        })
        .collect()
}

#[test]
fn an_answer_goes_through_its_adapter() {
    let base = random(&family("internlm2", json!({})));
    let adapter = Arc::new(adapter(base.config(), LoraConfig::default(), 4));
    let mut merged = random(base.config());
    merged.merge(&adapter).unwrap();
    let got = answer(&base, Some(adapter));
    assert_eq!(got.len(), 12);
    assert_eq!(got, answer(&merged, None));
    assert_ne!(got, answer(&base, None));
}

#[test]
fn a_new_adapter_changes_nothing() {
    let base = random(&family("llama", json!({})));
    let adapter = LoraAdapter::new(base.config(), LoraConfig::default(), 1).unwrap();
    let live = logits(&base, Some(&adapter), &IDS, Mode::Infer);
    assert_eq!(live, logits(&base, None, &IDS, Mode::Infer));
    // Two layers of 7 modules, ranks of 8.
    assert_eq!(adapter.paths().len(), 14);
    let widths = [
        32 + 32,
        32 + 16,
        32 + 16,
        32 + 32,
        32 + 64,
        32 + 64,
        64 + 32,
    ];
    let parameters = 2 * 8 * widths.iter().sum::<usize>();
    assert_eq!(adapter.num_parameters(), parameters);
    // A is uniform in ±1/√in_features; the seed and the path decide.
    let a = |adapter: &LoraAdapter, path: &str| floats(adapter.module(path).unwrap().a());
    let (q, down) = (
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    );
    for (path, in_features) in [(q, 32f32), (down, 64.0)] {
        let values = a(&adapter, path);
        let bound = 1.0 / in_features.sqrt();
        let most = values.iter().fold(0f32, |most, v| most.max(v.abs()));
        assert!(most <= bound && most > 0.9 * bound, "{most} of {bound}");
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.15 * bound, "{mean} of {bound}");
    }
    let again = LoraAdapter::new(base.config(), LoraConfig::default(), 1).unwrap();
    let other = LoraAdapter::new(base.config(), LoraConfig::default(), 2).unwrap();
    assert_eq!(a(&again, q), a(&adapter, q));
    assert_ne!(a(&other, q), a(&adapter, q));
    assert_ne!(a(&adapter, &q.replace('0', "1")), a(&adapter, q));
}

#[test]
fn adapters_that_are_not_there_or_of_another_network_are_refused() {
    let base = random(&family("llama", json!({})));
    let run = |adapters: Option<&AdapterSet>, index| {
        let (mut cache, mut batch) = (base.new_cache().unwrap(), Batch::new());
        batch.push(0, &IDS, 0, IDS.len(), Logits::Last).unwrap();
        batch.set_adapter(0, Some(index)).unwrap();
        let mut context = Context::new(&mut cache);
        context.adapters = adapters;
        let out = base.forward(&batch, &mut context);
        // Refused before the cache is told of the tokens.
        assert_eq!(internlm_model::KvCache::len(&cache, 0), 0);
        out.map(|_| ())
    };
    let of = |config: &Config| adapter(config, LoraConfig::default(), 1).with_name("mine");
    let set = AdapterSet::from_iter([of(base.config())]);
    for (set, count) in [(None, 0), (Some(&set), 1)] {
        let refused = run(set, 1);
        let matches =
            matches!(refused, Err(Error::AdapterIndex { index: 1, count: c }) if c == count);
        assert!(matches, "{refused:?}");
    }
    for (field, other) in [
        ("model_type", family("qwen2", json!({}))),
        (
            "intermediate_size",
            family("llama", json!({"intermediate_size": 48})),
        ),
        (
            "num_key_value_heads",
            family("llama", json!({"num_key_value_heads": 4})),
        ),
        ("vocab_size", family("llama", json!({"vocab_size": 41}))),
    ] {
        let wrong = of(&other);
        let is = |result: &Result<(), Error>| matches!(result, Err(Error::AdapterBase { name, field: f, .. }) if name == "mine" && *f == field);
        let merged = random(base.config()).merge(&wrong);
        assert!(is(&merged), "{merged:?}");
        let refused = run(Some(&AdapterSet::from_iter([wrong])), 0);
        assert!(is(&refused), "{refused:?}");
    }
}

#[test]
fn logits_of_some_rows_go_through_the_adapters_of_theirs() {
    let model = random(&family("internlm2", json!({})));
    let lora = || lora(&["output", "wo"]);
    let of = |seed| adapter(model.config(), lora(), seed);
    let set = AdapterSet::from_iter([of(1), of(2)]);
    let mut batch = Batch::new();
    for (slot, logits) in [
        (0, Logits::All),
        (1, Logits::Last),
        (2, Logits::LastRows(2)),
    ] {
        batch.push(slot, &IDS[..4], 0, 4, logits).unwrap();
        let adapter = [Some(1), Some(0), None][slot];
        batch.set_adapter(slot, adapter).unwrap();
    }
    let mut cache = model.new_cache().unwrap();
    let mut context = Context::new(&mut cache).with_adapters(&set);
    let want = floats(&model.forward(&batch, &mut context).unwrap());
    let hidden = model.hidden_states(&batch, &mut context).unwrap();
    assert_eq!(hidden.dim(0).unwrap(), 7);
    for size in [1, 2, 3, 7] {
        let mut got = Vec::new();
        for start in (0..7).step_by(size) {
            let rows = start..(start + size).min(7);
            let part = hidden.narrow(0, start, rows.len()).unwrap();
            let logits = model.batch_logits(&part, &batch, rows, &context);
            got.extend(floats(&logits.unwrap()));
        }
        assert!(got == want, "{size}");
    }
    let refused = model.batch_logits(&hidden, &batch, 0..8, &context);
    assert!(matches!(refused, Err(Error::Batch { .. })), "{refused:?}");
}
