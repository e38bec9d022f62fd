//! Checkpoints quantized block by block: what LMDeploy found, resumption, bad input.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use common::shared;
use internlm_kernels::{Activation, Compute};
use internlm_model::batch::Logits;
use internlm_model::quantize::{BlockwiseLm, QuantizeConfig, quantize};
use internlm_model::save::{SaveConfig, save};
use internlm_model::{Batch, CausalLm, Context, Error, LoadConfig, ModelDir, Result};
use internlm_quant::Stream;
use internlm_quant::calibrate::{Calibrate, Producer, Tap};
use internlm_quant::quantize::{AwqConfig, scale_block};
use internlm_quant::rtn::ScaleType;
use internlm_quant::search::statistics::InputStatistics;
use internlm_tokenize::{EncodeOptions, Tokenizer};

const LMDEPLOY: [&str; 2] = [
    "tiny-internlm2-lmdeploy-g128",
    "tiny-internlm3-lmdeploy-g128",
];

fn compute() -> Result<Arc<Compute>> {
    Ok(Arc::new(Compute::new(Some(2))?))
}

fn calibration(folder: &Path) -> Vec<Vec<u32>> {
    let text = std::fs::read(folder.join("calib_ids.json")).expect("a golden is there");
    serde_json::from_slice(&text).expect("a golden is sound")
}

fn found(folder: &Path) -> std::collections::HashMap<String, Tensor> {
    let file = folder.join("search_stats.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu).expect("a golden is sound")
}

/// The statistics of every layer that runs.
#[derive(Default)]
struct Statistics(BTreeMap<String, InputStatistics>);

impl Tap for Statistics {
    fn input(&mut self, path: &str, x: &Tensor) -> internlm_quant::Result<()> {
        let statistics = self.0.entry(path.to_owned());
        let statistics = statistics.or_insert(InputStatistics::new(x.dim(1)?));
        statistics.add(&x.flatten_all()?.to_vec1::<f32>()?)
    }
}

/// Mean and maximum of every layer's inputs, over the float network, are LMDeploy's.
#[test]
fn statistics_are_those_of_lmdeploy() -> Result<()> {
    for name in LMDEPLOY {
        let Some(folder) = shared(&format!("goldens/awq/{name}")) else {
            return Ok(());
        };
        let want = found(&folder);
        let options = LoadConfig::default();
        let dir = ModelDir::open(folder.join("source"))?;
        let mut model = BlockwiseLm::open(&dir, &options, compute()?)?;
        let mut stream = Stream::embed(&mut model, &calibration(&folder))?;
        let mut got = Statistics::default();
        for block in 0..model.blocks() {
            model.load_block(block)?;
            let path = model.block_path(block);
            for piece in stream.pieces() {
                model.run(&path, &piece.x, &piece.cu_seqlens, &mut got)?;
            }
            stream.advance(&model, block)?;
        }
        assert_eq!(got.0.len() * 2, want.len(), "{name}");
        for (path, statistics) in &got.0 {
            for (kind, got) in [
                ("absmean", statistics.absmean()),
                ("absmax", statistics.absmax().to_vec()),
            ] {
                let want = want[&format!("{kind}.{path}")].to_vec1::<f32>()?;
                for (got, want) in got.iter().zip(want) {
                    let error = (got - want).abs();
                    assert!(
                        error <= 1e-4 * want.max(1e-3),
                        "{kind}.{path}: {got}, not {want}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// The exponents on LMDeploy's own ground: float inputs, scales of f32, no clipping. By our measure
/// LMDeploy's are never better, and they are near ours on the flat curves of random weights. Layers
/// that follow a linear one are left out: LMDeploy reports 0 for all of them, for `o_proj` of grouped
/// queries too, which it does not scale.
#[test]
fn exponents_are_near_those_of_lmdeploy() -> Result<()> {
    let (mut near, mut all) = (0, 0);
    for name in LMDEPLOY {
        let Some(folder) = shared(&format!("goldens/awq/{name}")) else {
            return Ok(());
        };
        let info = std::fs::read(folder.join("info.json")).expect("a golden is there");
        let info: serde_json::Value = serde_json::from_slice(&info).expect("a golden is sound");
        let options = LoadConfig::default();
        let dir = ModelDir::open(folder.join("source"))?;
        let compute = compute()?;
        let mut model = BlockwiseLm::open(&dir, &options, compute.clone())?;
        let mut stream = Stream::embed(&mut model, &calibration(&folder))?;
        let awq = AwqConfig::default().with_scales(ScaleType::F32);
        for block in 0..model.blocks() {
            model.load_block(block)?;
            let groups = model.groups(block);
            let scaled = scale_block(&mut model, block, &stream, &compute, &awq)?;
            for (group, scaled) in groups.iter().zip(scaled) {
                let layers = group.consumers.iter();
                let theirs = layers
                    .filter_map(|c| info["search_meta"][&c.path].as_f64())
                    .next();
                let (Some(theirs), Some(scaled), Some(Producer::Norm(_))) =
                    (theirs, scaled, &group.producer)
                else {
                    continue;
                };
                assert!(scaled.error <= scaled.errors[(theirs * 20.0).round() as usize]);
                let ours = f64::from(scaled.exponent.expect("random weights gain by scales"));
                all += 1;
                near += usize::from((ours - theirs).abs() < 0.101);
            }
            // A scaled block gives the output of the float block, on which LMDeploy goes on.
            stream.advance(&model, block)?;
        }
    }
    assert!(
        all == 8 && near >= 7,
        "{near} of {all} exponents are near LMDeploy's"
    );
    Ok(())
}

/// Files of a folder with their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let files = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        (name, std::fs::read(&path).expect("a file"))
    });
    files.collect()
}

/// A run that is stopped after any block goes on and ends with the same bytes.
#[test]
fn interrupted_runs_end_with_the_same_bytes() -> Result<()> {
    let Some(folder) = shared("goldens/awq/tiny-internlm3-lmdeploy-g128") else {
        return Ok(());
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let dir = ModelDir::open(folder.join("source"))?;
    let calib = calibration(&folder);
    let awq = AwqConfig::default()
        .with_scale_steps(4)
        .with_compensate(Some(0.01));
    let config = QuantizeConfig::new(awq).with_evaluate(vec![calib[0].clone()]);
    let whole = quantize(&dir, &calib, &config, scratch.path().join("whole"), |_| {})?;
    assert_eq!(whole.report.layers.len(), 14);
    let (before, after) = (whole.ppl_before, whole.ppl_after);
    assert!(before.is_some_and(|p| p.is_finite()) && after.is_some_and(|p| p.is_finite()));
    let target = scratch.path().join("target");
    let work = scratch.path().join(".target.quantize");
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        quantize(&dir, &calib, &config, &target, |_| {
            panic!("stopped after the first block")
        })
    }));
    assert!(stopped.is_err() && !target.exists() && work.is_dir());
    // What a kill in the middle of a write leaves behind.
    std::fs::write(work.join("block-00001.tmp"), b"half").expect("can be written");
    let resumed = quantize(&dir, &calib, &config, &target, |_| {})?;
    assert_eq!(resumed.report, whole.report);
    assert_eq!(resumed.ppl_after, after);
    assert_eq!(files(&target), files(&scratch.path().join("whole")));
    assert!(!work.exists());
    // Other data: the finished blocks are not used.
    std::fs::remove_dir_all(&target).expect("can be removed");
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        quantize(&dir, &calib[..4], &config, &target, |_| panic!("stopped"))
    }));
    let other = quantize(&dir, &calib, &config, &target, |_| {})?;
    assert_eq!(other.report, whole.report);
    Ok(())
}

/// Logits of every position, by the whole decoder.
fn logits(folder: &Path, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
    let options = LoadConfig::default().with_packed_activation(Activation::F32);
    let model = CausalLm::load(&ModelDir::open(folder)?, options)?;
    let mut cache = model.new_cache()?;
    let mut batch = Batch::new();
    batch.push(0, ids, 0, ids.len(), Logits::All)?;
    let rows = model.forward(&batch, &mut Context::new(&mut cache))?;
    let rows = rows.to_vec2::<f32>()?.into_iter();
    Ok(rows
        .map(|row| row.into_iter().map(f64::from).collect())
        .collect())
}

/// Perplexities and the KL divergence, against the softmax of the logits of both folders.
#[test]
fn the_evaluation_is_that_of_the_two_checkpoints() -> Result<()> {
    for (name, group_size) in [
        ("tiny-internlm2-lmdeploy-g128", 128),
        ("tiny-llama-gqa-autoawq-g64", 64),
    ] {
        let Some(folder) = shared(&format!("goldens/awq/{name}")) else {
            return Ok(());
        };
        let scratch = tempfile::tempdir().expect("a folder");
        let target = scratch.path().join("out");
        let source = folder.join("source");
        // Longer than the rows of one head, and of odd lengths.
        let calib = calibration(&folder);
        let windows = vec![
            calib.concat()[..150].to_vec(),
            Vec::new(),
            calib[2][..7].to_vec(),
        ];
        let awq = AwqConfig::rtn().with_group_size(group_size);
        let config = QuantizeConfig::new(awq).with_evaluate(windows.clone());
        let done = quantize(&ModelDir::open(&source)?, &[], &config, &target, |_| {})?;
        let (mut tokens, mut before, mut after, mut divergence) = (0.0, 0.0, 0.0, 0.0);
        for window in windows.iter().filter(|w| !w.is_empty()) {
            let (float, quantized) = (logits(&source, window)?, logits(&target, window)?);
            for (at, (p, q)) in float
                .iter()
                .zip(&quantized)
                .take(window.len() - 1)
                .enumerate()
            {
                let softmax = |logits: &[f64]| -> Vec<f64> {
                    let sum: f64 = logits.iter().map(|v| v.exp()).sum();
                    logits.iter().map(|v| v.exp() / sum).collect()
                };
                let (p, q, id) = (softmax(p), softmax(q), window[at + 1] as usize);
                tokens += 1.0;
                before -= p[id].ln();
                after -= q[id].ln();
                divergence += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
            }
        }
        for (what, got, want) in [
            ("before", done.ppl_before, (before / tokens).exp()),
            ("after", done.ppl_after, (after / tokens).exp()),
            ("divergence", done.kl_divergence, divergence / tokens),
        ] {
            let got = got.expect("it was asked for");
            assert!(
                (got - want).abs() <= 1e-4 * want,
                "{name}: {what} {got}, not {want}"
            );
            assert!(got > 0.0);
        }
        assert!(done.kl_divergence < Some(0.5), "{:?}", done.kl_divergence);
    }
    Ok(())
}

/// The written folder has AWQ's tensors under AWQ's names, and a configuration that says so.
#[test]
fn the_folder_is_an_awq_checkpoint() -> Result<()> {
    let Some(folder) = shared("goldens/awq/tiny-internlm2-lmdeploy-g128") else {
        return Ok(());
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let target = scratch.path().join("out");
    let config = QuantizeConfig::new(AwqConfig::rtn());
    quantize(
        &ModelDir::open(folder.join("source"))?,
        &[],
        &config,
        &target,
        |_| {},
    )?;
    let load = |folder: &Path| {
        let tensors =
            candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
        tensors.map(|t| t.into_iter().collect::<BTreeMap<_, _>>())
    };
    let (ours, theirs) = (load(&target)?, load(&folder.join("awq"))?);
    let shapes = |tensors: &BTreeMap<String, Tensor>| -> Vec<_> {
        tensors
            .iter()
            .map(|(name, t)| (name.clone(), t.dims().to_vec()))
            .collect()
    };
    assert_eq!(shapes(&ours), shapes(&theirs));
    let text = std::fs::read(target.join("config.json")).expect("is there");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("is JSON");
    assert_eq!(json["quantization_config"]["quant_method"], "awq");
    assert_eq!(json["quantization_config"]["group_size"], 128);
    Ok(())
}

#[test]
fn bad_input_leaves_nothing_behind() -> Result<()> {
    let Some(folder) = shared("goldens/awq/tiny-internlm3-lmdeploy-g128") else {
        return Ok(());
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let target = scratch.path().join("out");
    let dir = ModelDir::open(folder.join("source"))?;
    let calib = calibration(&folder);
    let run = |awq, calib: &[Vec<u32>]| {
        quantize(&dir, calib, &QuantizeConfig::new(awq), &target, |_| {}).err()
    };
    let groups = run(AwqConfig::default().with_group_size(100), &calib);
    assert!(
        matches!(&groups, Some(Error::Weight { source: internlm_quant::Error::GroupSize { offers, .. }, .. })
            if offers == &[128, 64, 32]),
        "{groups:?}"
    );
    let none = run(AwqConfig::default(), &[vec![]]);
    assert!(
        matches!(
            &none,
            Some(Error::Weight {
                source: internlm_quant::Error::NoCalibration,
                ..
            })
        ),
        "{none:?}"
    );
    let id = run(AwqConfig::default(), &[vec![1, 256]]);
    assert!(matches!(id, Some(Error::TokenId { id: 256, .. })), "{id:?}");
    assert_eq!(files(scratch.path()).len(), 0);
    std::fs::create_dir(&target).expect("a folder");
    std::fs::write(target.join("mine"), b"kept").expect("a file");
    let exists = run(AwqConfig::default(), &calib);
    assert!(
        matches!(exists, Some(Error::OutputExists { .. })),
        "{exists:?}"
    );
    assert_eq!(files(&target).len(), 1);
    // Somebody else's folder of the name that work is done under.
    std::fs::remove_dir_all(&target).expect("can be removed");
    let work = scratch.path().join(".out.quantize");
    std::fs::create_dir(&work).expect("a folder");
    std::fs::write(work.join("mine"), b"kept").expect("a file");
    let taken = run(AwqConfig::default(), &calib);
    assert!(matches!(taken, Some(Error::WorkFolder { .. })), "{taken:?}");
    assert_eq!(files(&work).len(), 1);
    Ok(())
}

/// A checkpoint that is made from a GGUF file keeps its tokenizer.
#[test]
fn the_vocabulary_of_a_gguf_file_comes_along() -> Result<()> {
    let Some(gguf) = common::smollm2() else {
        return Ok(());
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let target = scratch.path().join("out");
    let dir = ModelDir::open(&gguf)?;
    let options = SaveConfig::default().with_files_from(&gguf);
    save(
        &target,
        &dir.config()?,
        &dir.generation_config()?,
        [],
        &options,
    )?;
    let (theirs, ours) = (Tokenizer::load(&gguf)?, Tokenizer::load(&target)?);
    let text = "Grüße, 世界!\n  fn main() {}";
    let encode = |tokenizer: &Tokenizer| tokenizer.encode(text, EncodeOptions::default());
    assert_eq!(encode(&ours)?, encode(&theirs)?);
    assert_eq!(ours.chat_template(), theirs.chat_template());
    assert!(
        std::fs::metadata(target.join("tokenizer.gguf"))
            .expect("is there")
            .len()
            < 8 << 20
    );
    Ok(())
}
