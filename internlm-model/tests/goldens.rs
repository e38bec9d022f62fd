//! Logits and greedy tokens of the official Python classes, every family and file layout.
//!
//! Tolerances: f32 logits within 1e-4 absolute and greedy ids exact; f16 within 0.05; bf16 within
//! 0.3 without a greedy check (`goldens/README.md`, "Measured tolerances").

mod common;

use std::path::Path;

use candle_core::DType;
use common::{max_abs_diff, shared};
use internlm_core::SamplingParams;
use internlm_model::batch::Logits;
use internlm_model::config::Head;
use internlm_model::context::Mode;
use internlm_model::generate::TokenEvent;
use internlm_model::kv_cache::{KvCache, NoCache};
use internlm_model::{Batch, CausalLm, Context, LoadConfig, ModelDir, Result};
use serde::Deserialize;

const F32: f32 = 1e-4;
const F16: f32 = 0.05;
const BF16: f32 = 0.3;

#[derive(Deserialize)]
struct Golden {
    #[serde(default)]
    full_logits: Option<FullLogits>,
    cases: Vec<Case>,
    batch_left_pad: LeftPad,
    #[serde(default)]
    instance_reuse_after_long: Option<Reuse>,
    #[serde(default)]
    decode_across_max_position: Option<Across>,
}

#[derive(Deserialize)]
struct FullLogits {
    input_ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Case {
    input_ids: Vec<u32>,
    #[serde(default)]
    last_logits: Vec<f32>,
    #[serde(default)]
    argmax_per_position: Vec<u32>,
    #[serde(default)]
    greedy_32: Vec<u32>,
    #[serde(default)]
    greedy_32_full_recompute: Vec<u32>,
    #[serde(default)]
    last_step_logits_first16: Vec<f32>,
    #[serde(default)]
    values: Vec<f32>,
    #[serde(default)]
    score: f32,
}

#[derive(Deserialize)]
struct LeftPad {
    input_ids: Vec<Vec<u32>>,
    attention_mask: Vec<Vec<u32>>,
    #[serde(default)]
    prefill_last_logits: Vec<Vec<f32>>,
    #[serde(default)]
    greedy_32_unpadded: Vec<Vec<u32>>,
    #[serde(default)]
    rows_equal_unpadded: Vec<bool>,
    #[serde(default)]
    scores_unpadded: Vec<f32>,
}

#[derive(Deserialize)]
struct Reuse {
    long_input_len: usize,
    then_input_ids: Vec<u32>,
    fresh_last_logits: Vec<f32>,
}

#[derive(Deserialize)]
struct Across {
    input_ids: Vec<u32>,
    new_tokens: Vec<u32>,
    steps: Vec<AcrossStep>,
}

#[derive(Deserialize)]
struct AcrossStep {
    kv_len: usize,
    logits: Vec<f32>,
}

struct Loaded {
    model: CausalLm,
    golden: Golden,
    dtype: Option<DType>,
}

fn load(dir: &Path, dtype: Option<DType>) -> Loaded {
    let golden = std::fs::read(dir.join("golden.json")).expect("a golden has a golden.json");
    let mut options = LoadConfig::default();
    options.dtype = dtype;
    options.threads = Some(2);
    let dir = ModelDir::open(dir).expect("the folder opens");
    Loaded {
        model: CausalLm::load(&dir, options).expect("the checkpoint loads"),
        golden: serde_json::from_slice(&golden).expect("golden.json parses"),
        dtype,
    }
}

/// Every golden of models, also those that are held back: whatever folder has a `golden.json`.
fn all(dtype: Option<DType>) -> Vec<Loaded> {
    let Some(models) = shared("goldens/models") else {
        return Vec::new();
    };
    let mut dirs: Vec<_> = std::fs::read_dir(models)
        .expect("the folder of goldens is readable")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("golden.json").exists())
        .collect();
    dirs.sort();
    dirs.iter().map(|dir| load(dir, dtype)).collect()
}

fn language_models(dtype: Option<DType>) -> Vec<Loaded> {
    let mut models = all(dtype);
    models.retain(|l| l.model.config().head == Head::Lm);
    models
}

/// Logits of every position; the prompt is cut into chunks of `chunk` tokens.
fn logits(loaded: &Loaded, ids: &[u32], chunk: usize, mode: Mode) -> Result<Vec<Vec<f32>>> {
    let mut cache = loaded.model.new_cache()?;
    let mut rows = Vec::new();
    let mut start = 0;
    for part in ids.chunks(chunk) {
        let mut batch = Batch::new();
        batch.push(0, part, start, ids.len(), Logits::All)?;
        let mut ctx = Context::new(&mut cache).with_mode(mode);
        rows.extend(loaded.model.forward(&batch, &mut ctx)?.to_vec2::<f32>()?);
        start += part.len();
    }
    Ok(rows)
}

#[track_caller]
fn check(loaded: &Loaded, what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    let diff = max_abs_diff(got, want);
    let name = loaded.model.name();
    assert!(
        diff <= tolerance,
        "{name} ({:?}): {what}: off by {diff}",
        loaded.dtype
    );
}

fn check_logits(loaded: &Loaded, mode: Mode, tolerance: f32) -> Result<()> {
    if let Some(full) = &loaded.golden.full_logits {
        let got = logits(loaded, &full.input_ids, usize::MAX, mode)?;
        check(
            loaded,
            "full logits",
            &got.concat(),
            &full.logits.concat(),
            tolerance,
        );
    }
    for case in &loaded.golden.cases {
        let got = logits(loaded, &case.input_ids, usize::MAX, mode)?;
        let last = got.last().expect("a prompt has a last token");
        check(loaded, "last logits", last, &case.last_logits, tolerance);
        if tolerance == F32 {
            let argmax: Vec<_> = got
                .iter()
                .map(|r| internlm_model::sampler::argmax(r))
                .collect();
            assert_eq!(argmax, case.argmax_per_position, "{}", loaded.model.name());
        }
    }
    Ok(())
}

#[test]
fn logits_in_f32() -> Result<()> {
    for loaded in language_models(Some(DType::F32)) {
        check_logits(&loaded, Mode::Infer, F32)?;
    }
    Ok(())
}

#[test]
fn logits_as_stored() -> Result<()> {
    for loaded in language_models(None) {
        check_logits(&loaded, Mode::Infer, F32)?;
    }
    Ok(())
}

#[test]
fn logits_in_f16_and_bf16() -> Result<()> {
    for loaded in language_models(Some(DType::F16)) {
        check_logits(&loaded, Mode::Infer, F16)?;
    }
    for loaded in language_models(Some(DType::BF16)) {
        check_logits(&loaded, Mode::Infer, BF16)?;
    }
    Ok(())
}

/// The tensor path (devices without our kernels, training) is the kernels' twin.
#[test]
fn logits_of_the_tensor_path() -> Result<()> {
    for loaded in language_models(None) {
        check_logits(&loaded, Mode::Train, F32)?;
    }
    Ok(())
}

#[test]
fn chunks_are_bitwise_the_whole() -> Result<()> {
    for loaded in language_models(None) {
        for case in &loaded.golden.cases {
            let whole = logits(&loaded, &case.input_ids, usize::MAX, Mode::Infer)?;
            for chunk in [1, 7] {
                let chunked = logits(&loaded, &case.input_ids, chunk, Mode::Infer)?;
                assert_eq!(whole, chunked, "{}, chunks of {chunk}", loaded.model.name());
            }
        }
    }
    Ok(())
}

#[test]
fn a_batch_is_bitwise_its_sequences_alone() -> Result<()> {
    for loaded in language_models(None) {
        let cases = &loaded.golden.cases;
        let mut batch = Batch::new();
        for (slot, case) in cases.iter().enumerate() {
            batch.push(slot, &case.input_ids, 0, case.input_ids.len(), Logits::Last)?;
        }
        let mut cache = loaded.model.new_cache()?;
        let together = loaded
            .model
            .forward(&batch, &mut Context::new(&mut cache))?;
        let without = loaded
            .model
            .forward(&batch, &mut Context::new(&mut NoCache))?;
        let (together, without) = (together.to_vec2::<f32>()?, without.to_vec2::<f32>()?);
        assert_eq!(together, without);
        for (case, got) in cases.iter().zip(together) {
            let alone = logits(&loaded, &case.input_ids, usize::MAX, Mode::Infer)?;
            assert_eq!(alone.last(), Some(&got), "{}", loaded.model.name());
        }
    }
    Ok(())
}

fn greedy(loaded: &Loaded, prompt: &[u32], n: usize) -> Result<Vec<u32>> {
    let mut params = SamplingParams::greedy().with_max_new_tokens(n);
    params.ignore_eos = true;
    let mut ids = Vec::new();
    for event in loaded.model.generate(prompt, &params)? {
        if let TokenEvent::Token { id, .. } = event? {
            ids.push(id);
        }
    }
    Ok(ids)
}

#[test]
fn greedy_tokens_with_a_cache() -> Result<()> {
    for loaded in language_models(None) {
        for case in &loaded.golden.cases {
            let got = greedy(&loaded, &case.input_ids, 32)?;
            assert_eq!(got, case.greedy_32, "{}", loaded.model.name());
            // The last step's logits, by hand.
            let mut ids = case.input_ids.clone();
            let mut cache = loaded.model.new_cache()?;
            let mut last = Vec::new();
            for step in 0..32 {
                let mut batch = Batch::new();
                let start = cache.len(0);
                batch.push(0, &ids[start..], start, case.input_ids.len(), Logits::Last)?;
                let out = loaded
                    .model
                    .forward(&batch, &mut Context::new(&mut cache))?;
                last = out.to_vec2::<f32>()?.concat();
                ids.push(case.greedy_32[step]);
            }
            check(
                &loaded,
                "last step",
                &last[..16],
                &case.last_step_logits_first16,
                F32,
            );
        }
    }
    Ok(())
}

#[test]
fn greedy_tokens_recomputed_from_scratch() -> Result<()> {
    for loaded in language_models(None) {
        for case in &loaded.golden.cases {
            let mut ids = case.input_ids.clone();
            for &want in &case.greedy_32_full_recompute {
                let got = greedy(&loaded, &ids, 1)?;
                assert_eq!(got, [want], "{}", loaded.model.name());
                ids.push(want);
            }
        }
    }
    Ok(())
}

/// Rows of the padded batch, padding taken off.
fn rows(pad: &LeftPad) -> Vec<Vec<u32>> {
    let rows = pad.input_ids.iter().zip(&pad.attention_mask);
    rows.map(|(ids, mask)| {
        let kept = ids.iter().zip(mask).filter(|(_, m)| **m == 1);
        kept.map(|(id, _)| *id).collect()
    })
    .collect()
}

#[test]
fn rows_of_a_batch_are_those_of_the_unpadded_run() -> Result<()> {
    for loaded in language_models(None) {
        let pad = &loaded.golden.batch_left_pad;
        for (i, ids) in rows(pad).iter().enumerate() {
            assert_eq!(greedy(&loaded, ids, 32)?, pad.greedy_32_unpadded[i]);
            if pad.rows_equal_unpadded[i] {
                let got = logits(&loaded, ids, usize::MAX, Mode::Infer)?;
                let last = got.last().expect("a row has a last token");
                check(
                    &loaded,
                    "padded row",
                    last,
                    &pad.prefill_last_logits[i],
                    F32,
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_long_sequence_leaves_nothing_behind() -> Result<()> {
    for loaded in language_models(None) {
        let Some(reuse) = &loaded.golden.instance_reuse_after_long else {
            continue;
        };
        let long: Vec<u32> = (0..reuse.long_input_len as u32)
            .map(|i| 3 + i % 400)
            .collect();
        logits(&loaded, &long, usize::MAX, Mode::Infer)?;
        let got = logits(&loaded, &reuse.then_input_ids, usize::MAX, Mode::Infer)?;
        let last = got.last().expect("a prompt has a last token");
        check(
            &loaded,
            "after a long run",
            last,
            &reuse.fresh_last_logits,
            F32,
        );
    }
    Ok(())
}

#[test]
fn decoding_across_the_trained_length() -> Result<()> {
    for loaded in language_models(None) {
        let Some(across) = &loaded.golden.decode_across_max_position else {
            continue;
        };
        for mode in [Mode::Infer, Mode::Train] {
            let mut ids = across.input_ids.clone();
            ids.extend(&across.new_tokens);
            let mut cache = loaded.model.new_cache()?;
            let mut end = across.input_ids.len();
            while end <= ids.len() {
                let start = cache.len(0);
                let mut batch = Batch::new();
                batch.push(
                    0,
                    &ids[start..end],
                    start,
                    across.input_ids.len(),
                    Logits::Last,
                )?;
                let mut ctx = Context::new(&mut cache).with_mode(mode);
                let got = loaded
                    .model
                    .forward(&batch, &mut ctx)?
                    .to_vec2::<f32>()?
                    .concat();
                if let Some(step) = across.steps.iter().find(|step| step.kv_len == end) {
                    check(
                        &loaded,
                        &format!("kv length {end}"),
                        &got,
                        &step.logits,
                        F32,
                    );
                }
                end += 1;
            }
        }
    }
    Ok(())
}

#[test]
fn reward_scores() -> Result<()> {
    let mut models = all(None);
    models.retain(|l| l.model.config().head != Head::Lm);
    for loaded in models {
        for case in &loaded.golden.cases {
            let values = logits(&loaded, &case.input_ids, usize::MAX, Mode::Infer)?.concat();
            check(&loaded, "values", &values, &case.values, F32);
            let score = loaded.model.reward(&case.input_ids)?;
            check(&loaded, "score", &[score], &[case.score], F32);
        }
        let pad = &loaded.golden.batch_left_pad;
        for (i, ids) in rows(pad).iter().enumerate() {
            let score = loaded.model.reward(ids)?;
            check(
                &loaded,
                "padded score",
                &[score],
                &[pad.scores_unpadded[i]],
                F32,
            );
        }
        let refused = loaded.model.generate(&[1], &SamplingParams::greedy());
        assert!(matches!(
            refused.err(),
            Some(internlm_model::Error::Head { .. })
        ));
    }
    Ok(())
}
