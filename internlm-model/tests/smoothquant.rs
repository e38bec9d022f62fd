//! Checkpoints smoothed and quantized to 8 bits, read back by plain arithmetic and by the loader.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use common::{max_abs_diff, shared};
use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::quantize::{BlockwiseLm, QuantizeConfig, Quantized, quantize};
use internlm_model::{Batch, CausalLm, Context, Error, LoadConfig, ModelDir, Result};
use internlm_quant::Stream;
use internlm_quant::calibrate::{Calibrate, Tap};
use internlm_quant::quantize::SmoothConfig;
use safetensors::{Dtype, SafeTensors};

/// Interleaved `wqkv`; o behind v, and biases; grouped queries.
const GOLDENS: [&str; 3] = [
    "tiny-internlm2-lmdeploy-g128",
    "tiny-internlm3-mha-bias-autoawq-g64",
    "tiny-llama-gqa-autoawq-g64",
];

fn calibration(folder: &Path) -> Vec<Vec<u32>> {
    let text = std::fs::read(folder.join("calib_ids.json")).expect("a golden is there");
    serde_json::from_slice(&text).expect("a golden is sound")
}

/// A golden's folder and one that it was quantized to.
fn quantized(
    name: &str,
    config: SmoothConfig,
) -> Result<Option<(PathBuf, Quantized, tempfile::TempDir)>> {
    let Some(folder) = shared(&format!("goldens/awq/{name}")) else {
        return Ok(None);
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let calib = calibration(&folder);
    let config = QuantizeConfig::new(config).with_evaluate(calib[..2].to_vec());
    let dir = ModelDir::open(folder.join("source"))?;
    let done = quantize(&dir, &calib, &config, scratch.path().join("out"), |_| {})?;
    Ok(Some((folder.join("source"), done, scratch)))
}

/// All numbers of a file: floats in f64, signed bytes as they are.
fn numbers(folder: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<f64>)> {
    let bytes = std::fs::read(folder.join("model.safetensors")).expect("is there");
    let file = SafeTensors::deserialize(&bytes).expect("is sound");
    let all = file.iter().map(|(name, view)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::I8 => data.iter().map(|b| f64::from(*b as i8)).collect(),
            Dtype::F16 => {
                let words = data
                    .chunks_exact(2)
                    .map(|b| half::f16::from_le_bytes([b[0], b[1]]));
                words.map(f64::from).collect()
            }
            Dtype::F32 => {
                let words = data
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                words.map(f64::from).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        (
            name.to_owned(),
            (view.dtype(), view.shape().to_vec(), values),
        )
    });
    all.collect()
}

/// What a layer's input is divided by, from the tensors of both folders alone: `(before / after)` of the
/// norm before it, or of the rows of the layer before it.
fn factors(
    source: &BTreeMap<String, (Dtype, Vec<usize>, Vec<f64>)>,
    out: &BTreeMap<String, (Dtype, Vec<usize>, Vec<f64>)>,
    norm: &str,
) -> Vec<f64> {
    let (before, after) = (&source[norm].2, &out[norm].2);
    before.iter().zip(after).map(|(b, a)| b / a).collect()
}

/// Every matrix behind a norm: signed bytes times a scale that is a 127th of the largest of the row of the
/// source's weight times what the norm was divided by.
#[test]
fn an_independent_reader_finds_the_scaled_source() -> Result<()> {
    for name in GOLDENS {
        let Some((source, done, _scratch)) = quantized(name, SmoothConfig::default())? else {
            return Ok(());
        };
        let (source, out) = (numbers(&source), numbers(done.dir.path()));
        let mut modules = 0;
        for (path, (dtype, shape, bytes)) in out.iter().filter(|(_, t)| t.0 == Dtype::I8) {
            let module = path.strip_suffix(".weight").expect("bytes are weights");
            let scale = &out[&format!("{module}.weight_scale")];
            assert_eq!(
                (*dtype, scale.0, &*scale.1),
                (Dtype::I8, Dtype::F32, &[shape[0], 1][..])
            );
            modules += 1;
            let (block, kind) =
                module.split_at(module.find(|c: char| c.is_ascii_digit()).expect("a block") + 1);
            let norm = match kind {
                ".attention.wqkv" => "attention_norm",
                ".feed_forward.w1" | ".feed_forward.w3" => "ffn_norm",
                ".self_attn.q_proj" | ".self_attn.k_proj" | ".self_attn.v_proj" => {
                    "input_layernorm"
                }
                ".mlp.gate_proj" | ".mlp.up_proj" => "post_attention_layernorm",
                _ => continue,
            };
            let factors = factors(&source, &out, &format!("{block}.{norm}.weight"));
            assert!(
                factors.iter().any(|f| (f - 1.0).abs() > 0.05),
                "{norm} is smoothed"
            );
            let columns = shape[1];
            // Rows of v and up are divided as well, for the layer behind them.
            let own_rows =
                !kind.ends_with("v_proj") && !kind.ends_with("up_proj") && !kind.ends_with("w3");
            for (row, weights) in source[path]
                .2
                .chunks(columns)
                .enumerate()
                .filter(|_| own_rows)
            {
                let scaled: Vec<f64> = weights.iter().zip(&factors).map(|(w, f)| w * f).collect();
                let step = scaled.iter().fold(0f64, |m, w| m.max(w.abs())) / 127.0;
                assert!(
                    (scale.2[row] - step).abs() <= 2e-3 * step,
                    "{path} {row}: {} {step}",
                    scale.2[row]
                );
                for (byte, w) in bytes[row * columns..].iter().zip(&scaled) {
                    let exact = w / scale.2[row];
                    assert!(
                        (byte - exact).abs() <= 0.5 + 2e-3 * exact.abs(),
                        "{path}: {byte}, {exact}"
                    );
                }
            }
        }
        assert!(modules >= 10, "{modules}");
        let json: serde_json::Value = serde_json::from_slice(
            &std::fs::read(done.dir.path().join("config.json")).expect("is there"),
        )
        .expect("is JSON");
        let quantization = &json["quantization_config"];
        assert_eq!(quantization["quant_method"], "compressed-tensors");
        assert_eq!(quantization["format"], "int-quantized");
        let head = if name.contains("internlm2") {
            "output"
        } else {
            "lm_head"
        };
        assert_eq!(quantization["ignore"], serde_json::json!([head]));
    }
    Ok(())
}

/// The factors of the first block's norm, from the inputs of the float network: the paper's formula.
#[test]
fn factors_are_those_of_the_paper() -> Result<()> {
    /// The largest |x| of each channel of one layer's input.
    struct Largest(&'static str, Vec<f32>);
    impl Tap for Largest {
        fn input(&mut self, path: &str, x: &Tensor) -> internlm_quant::Result<()> {
            if path == self.0 {
                self.1.resize(x.dim(1)?, 0.0);
                for row in x.to_vec2::<f32>()? {
                    self.1
                        .iter_mut()
                        .zip(row)
                        .for_each(|(most, x)| *most = most.max(x.abs()));
                }
            }
            Ok(())
        }
    }
    let alpha = 0.6;
    let name = "tiny-internlm2-lmdeploy-g128";
    let Some((source, done, _scratch)) =
        quantized(name, SmoothConfig::default().with_alpha(alpha))?
    else {
        return Ok(());
    };
    let options = LoadConfig::default();
    let dir = ModelDir::open(&source)?;
    let mut model = BlockwiseLm::open(&dir, &options, options.compute()?)?;
    let calib = calibration(source.parent().expect("it lies in the golden"));
    let stream = Stream::embed(&mut model, &calib)?;
    model.load_block(0)?;
    let mut inputs = Largest("model.layers.0.attention.wqkv", Vec::new());
    for piece in stream.pieces() {
        model.run("model.layers.0", &piece.x, &piece.cu_seqlens, &mut inputs)?;
    }
    let (source, out) = (numbers(&source), numbers(done.dir.path()));
    let got = factors(&source, &out, "model.layers.0.attention_norm.weight");
    let weight = &source["model.layers.0.attention.wqkv.weight"].2;
    for (k, (got, x)) in got.iter().zip(&inputs.1).enumerate() {
        let column = weight.iter().skip(k).step_by(inputs.1.len());
        let w = column.fold(0f64, |m, w| m.max(w.abs()));
        let want = f64::from(*x).powf(alpha.into()) / w.powf(1.0 - f64::from(alpha));
        // The norm is stored in f16.
        assert!((got - want).abs() <= 1e-3 * want, "{k}: {got}, not {want}");
    }
    Ok(())
}

fn logits(model: &CausalLm, ids: &[u32]) -> Result<Vec<f32>> {
    let mut cache = model.new_cache()?;
    let mut batch = Batch::new();
    batch.push(0, ids, 0, ids.len(), Logits::All)?;
    let out = model.forward(&batch, &mut Context::new(&mut cache))?;
    Ok(out.to_vec2::<f32>()?.concat())
}

/// What was written is loaded packed, with the same matrices, and predicts nearly what the float model
/// does, with activations of 8 bits too.
#[test]
fn the_folder_loads_and_predicts_what_the_source_does() -> Result<()> {
    for name in GOLDENS {
        let Some((source, done, _scratch)) = quantized(name, SmoothConfig::default())? else {
            return Ok(());
        };
        for layer in &done.report.layers {
            let (mse, power) = (layer.output_mse, layer.output_power);
            assert!(mse.zip(power).is_some_and(|(e, p)| e < 1e-3 * p), "{layer}");
            assert!(layer.rtn_mse.is_some());
        }
        assert!(
            done.kl_divergence
                .is_some_and(|kl| (0.0..1e-2).contains(&kl)),
            "{:?}",
            done.kl_divergence
        );
        let out = numbers(done.dir.path());
        let float = CausalLm::load(&ModelDir::open(&source)?, LoadConfig::default())?;
        let ids = &calibration(source.parent().expect("it lies in the golden"))[3];
        let want = logits(&float, ids)?;
        let most = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (activation, tolerance) in [
            (Activation::F32, 0.03),
            (Activation::Bf16, 0.04),
            (Activation::Int8, 0.06),
        ] {
            let options = LoadConfig::default().with_packed_activation(activation);
            let model = CausalLm::load(&done.dir, options)?;
            assert!(model.is_packed());
            let diff = max_abs_diff(&logits(&model, ids)?, &want);
            assert!(
                diff <= tolerance * most,
                "{name} {activation:?}: {diff} of {most}"
            );
            for (path, tensor) in model.tensors()? {
                let (Dtype::I8, shape, bytes) = &out[&path] else {
                    continue;
                };
                let module = path.strip_suffix(".weight").expect("bytes are weights");
                let scale = &out[&format!("{module}.weight_scale")].2;
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                let want = bytes
                    .iter()
                    .enumerate()
                    .map(|(i, b)| (b * scale[i / shape[1]]) as f32);
                assert!(values.into_iter().eq(want), "{path}");
            }
        }
    }
    Ok(())
}

#[test]
fn bad_input_leaves_nothing_behind() -> Result<()> {
    let Some(folder) = shared("goldens/awq/tiny-internlm2-lmdeploy-g128") else {
        return Ok(());
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let dir = ModelDir::open(folder.join("source"))?;
    let run = |dir: &ModelDir, smooth: SmoothConfig, calib: &[Vec<u32>]| {
        let config = QuantizeConfig::new(smooth);
        quantize(dir, calib, &config, scratch.path().join("out"), |_| {}).err()
    };
    let calib = calibration(&folder);
    for alpha in [-0.5, 1.5, f32::NAN] {
        let error = run(&dir, SmoothConfig::default().with_alpha(alpha), &calib);
        let refused = matches!(
            &error,
            Some(Error::Weight {
                source: internlm_quant::Error::Alpha { .. },
                ..
            })
        );
        assert!(refused, "{error:?}");
    }
    let error = run(&dir, SmoothConfig::default(), &[vec![]]);
    let refused = matches!(
        &error,
        Some(Error::Weight {
            source: internlm_quant::Error::NoCalibration,
            ..
        })
    );
    assert!(refused, "{error:?}");
    // Rows that are too wide for sums of 32 bits.
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": 8, "intermediate_size": (1 << 16) + 8, "head_dim": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 16,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
    });
    let wide =
        internlm_model::Config::from_json(Path::new("config.json"), json.to_string().as_bytes())?;
    let wide = CausalLm::random(wide, 1, LoadConfig::default())?;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let wide = wide.save(
        elsewhere.path().join("wide"),
        &internlm_model::save::SaveConfig::default(),
    )?;
    let error = run(&wide, SmoothConfig::default(), &[vec![1, 2, 3]]);
    let refused = matches!(&error, Some(Error::Weight { at, source: internlm_quant::Error::Shape { .. } })
        if at == "intermediate_size");
    assert!(refused, "{error:?}");
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        0
    );
    Ok(())
}

/// A run that is stopped after the first block ends with the same bytes.
#[test]
fn interrupted_runs_end_with_the_same_bytes() -> Result<()> {
    let Some((source, done, scratch)) = quantized(GOLDENS[1], SmoothConfig::default())? else {
        return Ok(());
    };
    let dir = ModelDir::open(&source)?;
    let calib = calibration(source.parent().expect("it lies in the golden"));
    let config = QuantizeConfig::new(SmoothConfig::default());
    let target = scratch.path().join("again");
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        quantize(&dir, &calib, &config, &target, |_| {
            panic!("stopped after the first block")
        })
    }));
    assert!(stopped.is_err() && !target.exists());
    let resumed = quantize(&dir, &calib, &config, &target, |_| {})?;
    assert_eq!(resumed.report, done.report);
    let file = |folder: &Path| std::fs::read(folder.join("model.safetensors")).expect("is there");
    assert!(file(&target) == file(done.dir.path()));
    Ok(())
}
