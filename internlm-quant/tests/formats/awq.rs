//! AWQ tensors: every golden checkpoint both ways, ranges, and what is refused.

use std::collections::BTreeMap;

use internlm_quant::awq::AwqTensors;
use internlm_quant::{
    Codes, Error, QuantizationConfig, QuantizationMethod, RawDtype, RawTensor, Zeros,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::common::{bits, cases, codes, f32s, shared, tensors};

type Tensors = BTreeMap<String, RawTensor<'static>>;

fn find(tensors: &Tensors, module: &str, name: &str) -> Option<RawTensor<'static>> {
    tensors.get(&format!("{module}.{name}")).cloned()
}

/// The packed layers of a checkpoint by module path.
fn layers(checkpoint: &Tensors, config: &Value) -> Vec<(String, AwqTensors<'static>)> {
    let config = QuantizationConfig::from_json(&config["quantization_config"]).expect("is read");
    let QuantizationMethod::Awq { zero_point } = config.method else {
        panic!("{config:?}");
    };
    let modules = checkpoint
        .keys()
        .filter_map(|name| name.strip_suffix(".qweight"));
    let layer = |module: &str| {
        let tensor = |name| find(checkpoint, module, name);
        let qweight = tensor("qweight").expect("has codes");
        let group_size = config.group_size_of(qweight.shape[0]).expect("divides");
        let scales = tensor("scales").expect("has scales");
        let layer = AwqTensors::new(qweight, tensor("qzeros"), scales, group_size, zero_point);
        (module.to_owned(), layer.expect("is sound"))
    };
    modules.map(layer).collect()
}

/// Calls `f` with the tensors, config and dequantized twins of every golden.
fn goldens(f: impl Fn(&str, Tensors, Value, Tensors)) {
    let Some(folder) = shared("goldens/awq") else {
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("is a folder") {
        let folder = entry.expect("can be listed").path();
        if !folder.is_dir() {
            continue;
        }
        let config = std::fs::read(folder.join("awq/config.json")).expect("has a config");
        f(
            &folder.to_string_lossy(),
            tensors(&folder.join("awq/model.safetensors")),
            serde_json::from_slice(&config).expect("is JSON"),
            tensors(&folder.join("dequantized_f32.safetensors")),
        );
        count += 1;
    }
    assert!(count >= 5, "{count} goldens");
}

#[test]
fn goldens_come_back_bit_for_bit() {
    goldens(|golden, checkpoint, config, _| {
        let layers = layers(&checkpoint, &config);
        assert!(layers.len() >= 8, "{golden}: {} layers", layers.len());
        for (module, layer) in layers {
            let codes = layer.codes(0..layer.out_features()).expect("is sound");
            codes.check().expect("is sound");
            let dtype = find(&checkpoint, &module, "scales")
                .expect("has scales")
                .dtype;
            let written = AwqTensors::from_codes(&codes, dtype).expect("can be written");
            for (name, tensor) in written.named(&module) {
                assert!(checkpoint[&name] == tensor, "{golden}: {name}");
            }
        }
    });
}

#[test]
fn goldens_have_the_values_of_their_tool() {
    goldens(|golden, checkpoint, config, dequantized| {
        let layers: BTreeMap<_, _> = layers(&checkpoint, &config).into_iter().collect();
        assert!(!dequantized.is_empty());
        for (name, want) in dequantized {
            let layer = &layers[name.strip_suffix(".weight").expect("is a weight")];
            assert_eq!([layer.out_features(), layer.in_features()], *want.shape);
            let got = layer
                .codes(0..layer.out_features())
                .expect("is sound")
                .dequantize();
            assert_eq!(bits(&got), bits(&f32s(&want)), "{golden}: {name}");
        }
    });
}

/// The value of an output and an input, by the rule of the format and nothing else.
fn value(words: &[&RawTensor<'_>; 2], scale: f32, groups: usize, o: usize, k: usize) -> f32 {
    let [qweight, qzeros] = words;
    let group = k / (qweight.shape[0] / groups);
    let nibble = |tensor: &RawTensor<'_>, line: usize| {
        let at = 4 * (line * tensor.shape[1] + o / 8);
        let word = i32::from_le_bytes(tensor.bytes[at..at + 4].try_into().expect("4 bytes"));
        let i = [0, 2, 4, 6, 1, 3, 5, 7]
            .iter()
            .position(|&channel| channel == o % 8);
        word >> (4 * i.expect("is one of eight")) & 15
    };
    (nibble(qweight, k) - nibble(qzeros, group)) as f32 * scale
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ranges_are_rows_of_the_whole(
        words in 1usize..6, groups in 1usize..4, group_size in 1usize..70, ends: [u8; 2], seed: u64,
    ) {
        let (out, columns) = (8 * words, groups * group_size);
        let all = codes(out, columns, group_size, seed);
        let tensors = AwqTensors::from_codes(&all, RawDtype::Bf16)?;
        prop_assert_eq!(&tensors.codes(0..out)?, &all);
        let [a, b] = ends.map(|end| usize::from(end) % (out + 1));
        let (start, end) = (a.min(b), a.max(b));
        let part = tensors.codes(start..end)?;
        part.check()?;
        prop_assert_eq!((part.rows, part.columns), (end - start, columns));
        prop_assert_eq!(&part.codes, &all.codes[start * columns..end * columns]);
        prop_assert_eq!(&part.scales, &all.scales[start * groups..end * groups]);
        let Zeros::Points(points) = &all.zeros else { unreachable!() };
        prop_assert_eq!(&part.zeros, &Zeros::Points(points[start * groups..end * groups].to_vec()));
    }

    #[test]
    fn words_mean_what_the_format_says(words in 1usize..4, groups in 1usize..4, seed: u64) {
        let (out, columns) = (8 * words, groups * 9);
        let all = codes(out, columns, 9, seed);
        let tensors: Tensors = AwqTensors::from_codes(&all, RawDtype::F16)?.named("m").into_iter().collect();
        let want = all.dequantize();
        for o in 0..out {
            for k in 0..columns {
                let scale = all.scales[o * groups + k / 9];
                let got = value(&[&tensors["m.qweight"], &tensors["m.qzeros"]], scale, groups, o, k);
                prop_assert_eq!(got, want[o * columns + k]);
            }
        }
    }

    #[test]
    fn any_tensors_are_read_or_refused(
        lines in 0usize..20, words in 0usize..4, groups in 0usize..4, group_size in 0usize..20,
        lengths: [u8; 3], seed: u64,
    ) {
        let mut numbers = crate::common::Numbers::new(seed);
        let mut tensor = |dtype, shape: [usize; 2], cut: u8| {
            let bytes = shape[0] * shape[1] * 4;
            RawTensor::new(dtype, shape, numbers.bytes(if cut == 0 { bytes / 2 } else { bytes }))
        };
        let qweight = tensor(RawDtype::I32, [lines, words], lengths[0]);
        let qzeros = tensor(RawDtype::I32, [groups, words], lengths[1]);
        let scales = tensor(RawDtype::F32, [groups, 8 * words], lengths[2]);
        if let Ok(tensors) = AwqTensors::new(qweight, Some(qzeros), scales, group_size, true)
            && let Ok(codes) = tensors.codes(0..8 * words)
        {
            codes.check()?;
        }
    }
}

/// Tensors of 16 outputs and 4 groups of 8, changed.
#[track_caller]
fn read(change: impl FnOnce(&mut Tensors)) -> Result<Codes, Error> {
    let codes = codes(16, 32, 8, 7);
    let named = AwqTensors::from_codes(&codes, RawDtype::F32)?.named("m");
    let mut tensors: Tensors = named.into_iter().collect();
    change(&mut tensors);
    let tensor = |name: &str| tensors.get(name).cloned();
    let [qweight, scales] = [tensor("m.qweight"), tensor("m.scales")].map(|t| t.expect("stays"));
    AwqTensors::new(qweight, tensor("m.qzeros"), scales, 8, true)?.codes(0..16)
}

fn set_scale(tensors: &mut Tensors, scale: f32) {
    let scales = tensors.get_mut("m.scales").expect("has scales");
    scales.bytes.to_mut()[20..24].copy_from_slice(&scale.to_le_bytes());
}

#[test]
fn contradictions_are_refused() {
    assert!(read(|_| {}).is_ok());
    for scale in [0.0, -0.0, f32::NAN, f32::INFINITY] {
        let error = read(|t| set_scale(t, scale));
        assert!(
            matches!(error, Err(Error::Codes { what: "scales", .. })),
            "{scale}"
        );
    }
    for name in ["m.qweight", "m.qzeros", "m.scales"] {
        let shape = read(|t| t.get_mut(name).expect("is there").shape.reverse());
        assert!(shape.is_err(), "{name}");
        let flat = read(|t| t.get_mut(name).expect("is there").shape = vec![64]);
        assert!(flat.is_err(), "{name}");
        let short = read(|t| {
            t.get_mut(name)
                .expect("is there")
                .bytes
                .to_mut()
                .truncate(9)
        });
        assert!(matches!(short, Err(Error::RawLength { .. })), "{name}");
        let dtype = read(|t| t.get_mut(name).expect("is there").dtype = RawDtype::U8);
        assert!(matches!(dtype, Err(Error::Dtype { .. })), "{name}");
    }
    let missing = read(|t| drop(t.remove("m.qzeros")));
    assert!(matches!(missing, Err(Error::Missing { what, .. }) if what == "qzeros"));
}

#[test]
fn symmetric_files_have_zero_points_of_8() -> Result<(), Error> {
    let want = Codes {
        zeros: Zeros::Points(vec![8; 16 * 2]),
        ..codes(16, 64, 32, 3)
    };
    let mut tensors: Tensors = AwqTensors::from_codes(&want, RawDtype::F16)?
        .named("m")
        .into_iter()
        .collect();
    let mut take = |name| tensors.remove(name).expect("was written");
    let read = AwqTensors::new(take("m.qweight"), None, take("m.scales"), 32, false)?;
    assert_eq!(read.codes(0..16)?, want);
    let names: Vec<String> = read.named("m").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["m.qweight", "m.scales"]);
    Ok(())
}

#[test]
fn ranges_and_group_sizes_are_checked() -> Result<(), Error> {
    let tensors = AwqTensors::from_codes(&codes(8, 64, 64, 1), RawDtype::F16)?;
    assert_eq!(tensors.codes(3..3)?.codes.len(), 0);
    #[allow(clippy::reversed_empty_ranges, reason = "must be refused")]
    for range in [0..9, 9..9, 5..4] {
        assert!(matches!(tensors.codes(range), Err(Error::Shape { .. })));
    }
    let odd = Codes {
        group_size: 24,
        scales: vec![1.0; 24],
        zeros: Zeros::Points(vec![0; 24]),
        ..codes(8, 64, 64, 1)
    };
    match AwqTensors::from_codes(&odd, RawDtype::F16) {
        Err(Error::GroupSize {
            group_size: 24,
            in_features: 64,
            offers,
        }) => assert_eq!(offers, [64, 32]),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn what_the_layout_cannot_say_is_not_written() {
    let sound = || codes(8, 32, 32, 1);
    let field = |codes: Codes, dtype| match AwqTensors::from_codes(&codes, dtype) {
        Err(Error::Codes { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let f16 = RawDtype::F16;
    assert_eq!(field(Codes { bits: 8, ..sound() }, f16), "bits");
    assert_eq!(
        field(
            Codes {
                order: Some((0..32).collect()),
                ..sound()
            },
            f16
        ),
        "order"
    );
    assert_eq!(
        field(
            Codes {
                zeros: Zeros::Minimums(vec![0.5; 8]),
                ..sound()
            },
            f16
        ),
        "zeros"
    );
    assert_eq!(
        field(
            Codes {
                scales: vec![0.0; 8],
                ..sound()
            },
            f16
        ),
        "scales"
    );
    // 1 + 2^-11 needs a bit more than f16 has, 1e-9 is below it, 1e5 above it.
    for scale in [1.0 + 1.0 / 2048.0, 1e-9, 1e5] {
        let with = || Codes {
            scales: vec![scale; 8],
            ..sound()
        };
        assert_eq!(field(with(), f16), "scales");
        assert!(AwqTensors::from_codes(&with(), RawDtype::F32).is_ok());
    }
    assert!(matches!(
        AwqTensors::from_codes(&codes(12, 32, 32, 1), f16),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        AwqTensors::from_codes(&sound(), RawDtype::I32),
        Err(Error::Dtype { .. })
    ));
}
