//! Calibrated quantization of a toy network, and rounding against what AutoAWQ and LMDeploy wrote.

#[path = "../formats/common.rs"]
#[expect(dead_code, reason = "the tests of formats use the rest")]
mod common;
mod goldens;
mod toy;

use candle_core::DType;
use internlm_kernels::Compute;
use internlm_quant::calibrate::{Calibrate, Parameter, Tap};
use internlm_quant::quantize::{
    AwqConfig, SmoothConfig, quantize, quantize_block, scale_block, smooth_block,
};
use internlm_quant::report::Report;
use internlm_quant::{Error, Result, Stream};
use toy::{Kept, Toy, VOCABULARY};

fn sequences() -> Vec<Vec<u32>> {
    let ids = |s: usize| (0..40).map(move |t| ((t * t * 7 + s * 13 + t) % VOCABULARY) as u32);
    (0..30).map(|s| ids(s).collect()).collect()
}

fn run(config: &AwqConfig, threads: usize) -> Result<(Report, Kept)> {
    let mut kept = Kept::default();
    let compute = Compute::new(Some(threads))?;
    let mut toy = Toy::new(DType::F32)?;
    let report = quantize(&mut toy, &sequences(), &compute, config, &mut kept)?;
    Ok((report, kept))
}

fn config() -> AwqConfig {
    AwqConfig::default().with_group_size(32)
}

/// The squared distance of the network's outputs from those of the float network.
fn output_error(kept: &Kept) -> Result<f64> {
    let mut toy = Toy::new(DType::F32)?;
    let mut float = Stream::embed(&mut toy, &sequences())?;
    let mut rounded = float.clone();
    for block in 0..toy.blocks() {
        toy.load_block(block)?;
        float.advance(&toy, block)?;
        for (path, parameter) in &kept.0 {
            if toy.tensor(path)?.is_some() {
                toy.set_weight(path, parameter.clone())?;
            }
        }
        rounded.advance(&toy, block)?;
    }
    let pairs = float.pieces().iter().zip(rounded.pieces());
    let mut sum = 0.0;
    for (a, b) in pairs {
        sum += f64::from((&a.x - &b.x)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    Ok(sum)
}

#[test]
fn every_step_lowers_the_error_of_the_network() -> Result<()> {
    let error = |config: &AwqConfig| output_error(&run(config, 2)?.1);
    let rtn = error(&AwqConfig::rtn().with_group_size(32))?;
    let scaled = error(&config().with_clip(false))?;
    let clipped = error(&config())?;
    let all = error(&config().with_compensate(Some(0.01)))?;
    assert!(scaled < 0.95 * rtn, "scales: {scaled} against {rtn}");
    assert!(
        clipped < 1.02 * scaled,
        "clipping: {clipped} against {scaled}"
    );
    assert!(all < 0.8 * clipped, "compensation: {all} against {clipped}");
    Ok(())
}

#[test]
fn reports_say_what_was_found() -> Result<()> {
    let (report, kept) = run(&config(), 2)?;
    let layers: Vec<_> = report.layers.iter().map(|l| l.layer.as_str()).collect();
    let of = |block| ["gate", "up", "down"].map(|name| format!("blocks.{block}.{name}"));
    assert_eq!(layers, [of(0), of(1)].concat());
    for layer in &report.layers {
        let known = "calibrated layers have errors";
        assert!(layer.scale_error.expect(known) <= layer.unscaled_error.expect(known));
        assert!(
            layer.output_mse.expect(known) <= layer.rtn_mse.expect(known) * 1.05,
            "{layer}"
        );
        assert!(layer.output_mse.expect(known) < 0.1 * layer.output_power.expect(known));
        assert!((0.5..=1.0).contains(&layer.clip_ratio.expect(known)));
        assert!(
            matches!(&kept.0[&format!("{}.weight", layer.layer)], Parameter::Codes(c) if c.check().is_ok())
        );
    }
    assert!(
        report
            .layers
            .iter()
            .any(|l| l.scale_exponent.is_some_and(|e| e > 0.0))
    );
    assert!(matches!(kept.0["blocks.0.up.bias"], Parameter::Dense(_)));
    Ok(())
}

#[test]
fn threads_do_not_change_the_result() -> Result<()> {
    let config = config().with_compensate(Some(0.01)).with_scale_steps(5);
    let (one, three) = (run(&config, 1)?, run(&config, 3)?);
    assert_eq!(one.0, three.0);
    for (path, parameter) in &one.1.0 {
        match (parameter, &three.1.0[path]) {
            (Parameter::Codes(a), Parameter::Codes(b)) => assert_eq!(a, b, "{path}"),
            (a, b) => {
                let values = |p: &Parameter| -> Result<Vec<f32>> {
                    Ok(p.to_tensor()?.flatten_all()?.to_vec1()?)
                };
                assert_eq!(values(a)?, values(b)?, "{path}");
            }
        }
    }
    Ok(())
}

/// Scales that are applied without any rounding leave the output as it was, also where the norm is
/// stored in half precision.
#[test]
fn scales_leave_the_float_output_unchanged() -> Result<()> {
    let compute = Compute::new(Some(2))?;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut toy = Toy::new(dtype)?;
        let stream = Stream::embed(&mut toy, &sequences())?;
        toy.load_block(0)?;
        let mut float = stream.clone();
        float.advance(&toy, 0)?;
        let dense = toy.tensor("blocks.0.gate.weight")?;
        let norm = toy.tensor("blocks.0.norm.weight")?;
        let groups = toy.groups(0);
        let found = scale_block(&mut toy, 0, &stream, &compute, &config())?;
        assert_eq!(found.len(), groups.len());
        assert!(
            found.iter().flatten().any(|s| s.exponent.is_some()),
            "nothing was scaled"
        );
        let difference =
            (dense.expect("is there") - toy.tensor("blocks.0.gate.weight")?.expect("is there"))?;
        assert!(difference.abs()?.max_all()?.to_scalar::<f32>()? > 0.1);
        assert_eq!(
            toy.tensor("blocks.0.norm.weight")?.map(|t| t.dtype()),
            norm.map(|t| t.dtype())
        );
        let mut scaled = stream.clone();
        scaled.advance(&toy, 0)?;
        for (a, b) in float.pieces().iter().zip(scaled.pieces()) {
            let diff = (&a.x - &b.x)?.abs()?.max_all()?.to_scalar::<f32>()?;
            let size = a.x.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(diff < 1e-5 * size, "{dtype:?}: {diff} of {size}");
        }
    }
    Ok(())
}

#[test]
fn rounding_alone_needs_no_data() -> Result<()> {
    let compute = Compute::new(Some(1))?;
    let mut toy = Toy::new(DType::F32)?;
    let rtn = AwqConfig::rtn().with_group_size(32);
    let mut kept = Kept::default();
    let report = quantize(&mut toy, &[], &compute, &rtn, &mut kept)?;
    assert!(report.layers.iter().all(|l| l.output_mse.is_none()));
    assert_eq!(kept.0.len(), 10);
    let none = quantize(
        &mut toy,
        &[vec![]],
        &compute,
        config(),
        &mut Kept::default(),
    );
    assert!(matches!(none, Err(Error::NoCalibration)));
    toy.load_block(0)?;
    let none = quantize_block(&mut toy, 0, None, &compute, &config());
    assert!(matches!(none, Err(Error::NoCalibration)));
    Ok(())
}

#[test]
fn smoothing_lowers_the_error_of_int8_products() -> Result<()> {
    let compute = Compute::new(Some(2))?;
    let mut toy = Toy::new(DType::F32)?;
    let stream = Stream::embed(&mut toy, &sequences())?;
    toy.load_block(0)?;
    let layers = smooth_block(&mut toy, 0, &stream, &compute, &SmoothConfig::default())?;
    assert_eq!(layers.len(), 3);
    for layer in &layers[..2] {
        // These follow the norm, which has channels twelve times as large as the others.
        let (smooth, plain) = (
            layer.output_mse.expect("known"),
            layer.rtn_mse.expect("known"),
        );
        assert!(smooth < 0.7 * plain, "{layer}");
        assert!(
            smooth < 1e-3 * layer.output_power.expect("known"),
            "{layer}"
        );
    }
    let mut float = stream.clone();
    let mut int8 = stream.clone();
    int8.advance(&toy, 0)?;
    toy.load_block(0)?;
    float.advance(&toy, 0)?;
    let (a, b) = (&float.pieces()[0].x, &int8.pieces()[0].x);
    let error = (a - b)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    assert!(
        error < 1e-3 * a.sqr()?.mean_all()?.to_scalar::<f32>()?,
        "{error}"
    );
    Ok(())
}

/// The whole network, with the paper's factors: `up` and `gate` share those of the norm, and the codes of
/// a layer are its scaled weight over a 127th of the largest of each row.
#[test]
fn smoothed_codes_are_those_of_plain_arithmetic() -> Result<()> {
    let compute = Compute::new(Some(2))?;
    let mut toy = Toy::new(DType::F32)?;
    let stream = Stream::embed(&mut toy, &sequences())?;
    toy.load_block(0)?;
    let of = |toy: &Toy, path: &str| -> Result<Vec<f32>> {
        let tensor = toy.tensor(path)?.expect("is there");
        Ok(tensor.flatten_all()?.to_vec1()?)
    };
    let (norm, gate, up) = (
        of(&toy, "blocks.0.norm.weight")?,
        of(&toy, "blocks.0.gate.weight")?,
        of(&toy, "blocks.0.up.weight")?,
    );
    let mut largest = Largest(vec![0.0; norm.len()]);
    for piece in stream.pieces() {
        toy.run("blocks.0", &piece.x, &piece.cu_seqlens, &mut largest)?;
    }
    let alpha = 0.7f32;
    let mut kept = Kept::default();
    let smooth = SmoothConfig::default().with_alpha(alpha);
    let mut toy = Toy::new(DType::F32)?;
    quantize(&mut toy, &sequences(), &compute, smooth, &mut kept)?;
    let factor: Vec<f64> = (0..norm.len())
        .map(|k| {
            let rows = gate.chunks(norm.len()).chain(up.chunks(norm.len()));
            let weight = rows.fold(0f32, |most, row| most.max(row[k].abs()));
            f64::from(largest.0[k]).powf(alpha.into())
                / f64::from(weight).powf(1.0 - f64::from(alpha))
        })
        .collect();
    let after = kept.0["blocks.0.norm.weight"]
        .to_tensor()?
        .to_vec1::<f32>()?;
    for ((before, after), factor) in norm.iter().zip(&after).zip(&factor) {
        let want = f64::from(*before) / factor;
        assert!(
            (f64::from(*after) - want).abs() < 1e-5 * want,
            "{after}, not {want}"
        );
    }
    let Parameter::Codes(codes) = &kept.0["blocks.0.gate.weight"] else {
        panic!("gate has codes");
    };
    assert_eq!(
        (codes.bits, codes.group_size, codes.groups()),
        (8, norm.len(), 1)
    );
    for (row, weights) in gate.chunks(norm.len()).enumerate() {
        let scaled: Vec<f64> = weights
            .iter()
            .zip(&factor)
            .map(|(w, s)| f64::from(*w) * s)
            .collect();
        let step = scaled.iter().fold(0f64, |most, w| most.max(w.abs())) / 127.0;
        assert!((f64::from(codes.scales[row]) - step).abs() < 1e-5 * step);
        for (code, w) in codes.codes[row * norm.len()..].iter().zip(&scaled) {
            assert!(
                (f64::from(*code) - 128.0 - w / step).abs() < 0.501,
                "{code}, {}",
                w / step
            );
        }
    }
    for alpha in [-0.1, 1.1, f32::NAN] {
        let smooth = SmoothConfig::default().with_alpha(alpha);
        let refused = quantize(
            &mut toy,
            &sequences(),
            &compute,
            smooth,
            &mut Kept::default(),
        );
        assert!(matches!(refused, Err(Error::Alpha { .. })), "{refused:?}");
    }
    let none = quantize(
        &mut toy,
        &[],
        &compute,
        SmoothConfig::default(),
        &mut Kept::default(),
    );
    assert!(matches!(none, Err(Error::NoCalibration)));
    Ok(())
}

/// The largest absolute value of each channel behind the norm.
struct Largest(Vec<f32>);

impl Tap for Largest {
    fn input(&mut self, path: &str, x: &candle_core::Tensor) -> Result<()> {
        if path == "blocks.0.gate" {
            for row in x.to_vec2::<f32>()? {
                self.0
                    .iter_mut()
                    .zip(row)
                    .for_each(|(most, x)| *most = most.max(x.abs()));
            }
        }
        Ok(())
    }
}

#[test]
fn bad_groups_and_weights_are_refused() -> Result<()> {
    let compute = Compute::new(Some(1))?;
    let mut toy = Toy::new(DType::F32)?;
    for config in [AwqConfig::default(), AwqConfig::rtn()] {
        let refused = quantize(
            &mut toy,
            &sequences(),
            &compute,
            &config,
            &mut Kept::default(),
        );
        assert!(
            matches!(&refused, Err(Error::GroupSize { group_size: 128, offers, .. }) if offers == &[64, 32]),
            "{refused:?}"
        );
    }
    toy.spoil("blocks.0.down.weight", f32::NAN)?;
    let refused = quantize(
        &mut toy,
        &sequences(),
        &compute,
        config(),
        &mut Kept::default(),
    );
    assert!(
        matches!(refused, Err(Error::NotFinite { .. })),
        "{refused:?}"
    );
    Ok(())
}
