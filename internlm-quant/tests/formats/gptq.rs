//! GPTQ tensors: no tool's file is at hand, so a writer of plain arithmetic makes them from the rule.

use internlm_quant::gptq::{GptqParts, GptqTensors, GptqZeros};
use internlm_quant::{Error, RawDtype, RawTensor, Zeros};
use proptest::prelude::*;

use crate::common::{Numbers, bits, cases, words};

/// A layer before it is packed, and its values.
struct Layer {
    inputs: usize,
    outputs: usize,
    groups: usize,
    /// `(inputs, outputs)`
    q: Vec<u32>,
    /// `(groups, outputs)`
    zeros: Vec<u32>,
    /// `(groups, outputs)`
    scales: Vec<f32>,
    /// `(inputs)`
    g_idx: Vec<u32>,
}

impl Layer {
    fn new(inputs: usize, outputs: usize, groups: usize, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let mut nibbles = |count| -> Vec<u32> { (0..count).map(|_| numbers.next() % 16).collect() };
        Self {
            inputs,
            outputs,
            groups,
            q: nibbles(inputs * outputs),
            zeros: nibbles(groups * outputs),
            scales: (0..groups * outputs)
                .map(|_| numbers.unit() + 2.0)
                .collect(),
            g_idx: (0..inputs)
                .map(|k| (k / (inputs / groups)) as u32)
                .collect(),
        }
    }

    /// As `desc_act` leaves it: inputs belong to any group.
    fn shuffled(mut self, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        for i in (1..self.inputs).rev() {
            self.g_idx.swap(i, numbers.next() as usize % (i + 1));
        }
        self
    }

    /// `w[o, k] = (q - zero) * s`, as the page says it.
    fn values(&self) -> Vec<f32> {
        let value = |o: usize, k: usize| {
            let at = self.g_idx[k] as usize * self.outputs + o;
            (self.q[k * self.outputs + o] as f32 - self.zeros[at] as f32) * self.scales[at]
        };
        (0..self.outputs)
            .flat_map(|o| (0..self.inputs).map(move |k| value(o, k)))
            .collect()
    }

    fn parts(&self, zeros: GptqZeros) -> GptqParts<'static> {
        let (inputs, outputs, groups) = (self.inputs, self.outputs, self.groups);
        let mut qweight = vec![0u32; inputs / 8 * outputs];
        for k in 0..inputs {
            for o in 0..outputs {
                qweight[k / 8 * outputs + o] += self.q[k * outputs + o] * 16u32.pow(k as u32 % 8);
            }
        }
        let mut qzeros = vec![0u32; groups * outputs / 8];
        for (i, &zero) in self.zeros.iter().enumerate() {
            let stored = match zeros {
                GptqZeros::LessOne => (zero + 15) % 16,
                GptqZeros::Plain => zero,
            };
            qzeros[i / 8] += stored * 16u32.pow(i as u32 % 8);
        }
        let scales: Vec<u8> = self
            .scales
            .iter()
            .flat_map(|s| half::f16::from_f32(*s).to_le_bytes())
            .collect();
        GptqParts {
            qweight: words(&[inputs / 8, outputs], &qweight),
            qzeros: Some(words(&[groups, outputs / 8], &qzeros)),
            scales: RawTensor::new(RawDtype::F16, [groups, outputs], scales),
            g_idx: Some(words(&[inputs], &self.g_idx)),
        }
    }

    fn group_size(&self) -> usize {
        self.inputs / self.groups
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn values_are_those_of_the_rule(
        groups in 1usize..5, size in 1usize..4, words in 1usize..4, shuffle: bool, seed: u64,
    ) {
        let mut layer = Layer::new(groups * size * 8, words * 8, groups, seed);
        if shuffle {
            layer = layer.shuffled(seed);
        }
        let want = layer.values();
        for zeros in [GptqZeros::LessOne, GptqZeros::Plain] {
            let tensors = GptqTensors::new(layer.parts(zeros), layer.group_size(), zeros, false)?;
            prop_assert_eq!((tensors.in_features(), tensors.out_features()), (layer.inputs, layer.outputs));
            let codes = tensors.codes(0..layer.outputs)?;
            codes.check()?;
            prop_assert_eq!(bits(&codes.dequantize()), bits(&want));
            let sorted = layer.g_idx.is_sorted();
            prop_assert_eq!(codes.order.is_none(), sorted);
            // Columns of a group stay in the order of the inputs.
            if let Some(order) = &codes.order {
                prop_assert!(order.chunks(layer.group_size()).all(|group| group.is_sorted()));
            }
            let (start, end) = (layer.outputs / 3, layer.outputs - 1);
            let part = tensors.codes(start..end)?.dequantize();
            prop_assert_eq!(bits(&part), bits(&want[start * layer.inputs..end * layer.inputs]));
        }
    }

    #[test]
    fn any_groups_are_read_or_refused(g_idx in proptest::collection::vec(-1i32..4, 16)) {
        let layer = Layer::new(16, 8, 4, 1);
        let mut parts = layer.parts(GptqZeros::Plain);
        let words: Vec<u32> = g_idx.iter().map(|g| *g as u32).collect();
        parts.g_idx = Some(crate::common::words(&[16], &words));
        let equal = (0..4).all(|group| g_idx.iter().filter(|g| **g == group).count() == 4);
        let read = GptqTensors::new(parts, 4, GptqZeros::Plain, false);
        prop_assert_eq!(read.is_ok(), equal);
        let refused = matches!(read, Err(Error::Codes { what: "g_idx", .. }));
        prop_assert!(equal || refused);
    }
}

#[test]
fn a_zero_point_of_0_is_stored_as_15() -> Result<(), Error> {
    let mut layer = Layer::new(8, 8, 1, 1);
    layer.zeros = vec![0, 1, 15, 8, 0, 1, 15, 8];
    let parts = layer.parts(GptqZeros::LessOne);
    assert_eq!(
        parts.qzeros.as_ref().map(|z| z.bytes.to_vec()),
        Some(vec![0x0f, 0x7e, 0x0f, 0x7e])
    );
    let codes = GptqTensors::new(parts, 8, GptqZeros::LessOne, false)?.codes(0..8)?;
    assert_eq!(codes.zeros, Zeros::Points(vec![0, 1, 15, 8, 0, 1, 15, 8]));
    Ok(())
}

#[test]
fn symmetric_files_may_lack_zero_points() -> Result<(), Error> {
    let mut layer = Layer::new(32, 8, 2, 1);
    layer.zeros = vec![8; 16];
    let parts = || GptqParts {
        qzeros: None,
        g_idx: None,
        ..layer.parts(GptqZeros::LessOne)
    };
    let codes = GptqTensors::new(parts(), 16, GptqZeros::LessOne, true)?.codes(0..8)?;
    assert_eq!(codes.dequantize(), layer.values());
    let refused = GptqTensors::new(parts(), 16, GptqZeros::LessOne, false);
    assert!(matches!(refused, Err(Error::Missing { what, .. }) if what == "qzeros"));
    Ok(())
}

#[test]
fn contradictions_are_refused() {
    let layer = Layer::new(32, 16, 2, 1);
    let read = |change: &dyn Fn(&mut GptqParts<'static>)| {
        let mut parts = layer.parts(GptqZeros::LessOne);
        change(&mut parts);
        GptqTensors::new(parts, 16, GptqZeros::LessOne, false)?.codes(0..16)
    };
    assert!(read(&|_| {}).is_ok());
    assert!(matches!(
        read(&|p| p.scales.shape.reverse()),
        Err(Error::Shape { what: "scales", .. })
    ));
    assert!(matches!(
        read(&|p| p.g_idx = Some(words(&[16], &[0; 16]))),
        Err(Error::Shape { what: "g_idx", .. })
    ));
    assert!(matches!(
        read(&|p| p.qzeros = Some(words(&[2, 1], &[0; 2]))),
        Err(Error::Shape { what: "qzeros", .. })
    ));
    assert!(matches!(
        read(&|p| p.qweight.dtype = RawDtype::F32),
        Err(Error::Dtype { .. })
    ));
    assert!(matches!(
        read(&|p| p.qweight.bytes.to_mut().truncate(8)),
        Err(Error::RawLength { .. })
    ));
    assert!(matches!(
        read(&|p| p.scales.bytes.to_mut()[..2].fill(0)),
        Err(Error::Codes { what: "scales", .. })
    ));
    // 12 outputs: the words of zero points would not be full.
    let odd = GptqParts {
        qweight: words(&[4, 12], &[0; 48]),
        qzeros: Some(words(&[2, 1], &[0; 2])),
        scales: RawTensor::new(RawDtype::F16, [2, 12], vec![1; 48]),
        g_idx: None,
    };
    let odd = GptqTensors::new(odd, 16, GptqZeros::LessOne, false);
    assert!(matches!(
        odd,
        Err(Error::Shape {
            what: "qweight",
            ..
        })
    ));
    let size = GptqTensors::new(
        layer.parts(GptqZeros::LessOne),
        24,
        GptqZeros::LessOne,
        false,
    );
    assert!(matches!(
        size,
        Err(Error::GroupSize {
            in_features: 32,
            ..
        })
    ));
    // No elements, but as many groups as memory has bytes.
    let empty = GptqParts {
        qweight: words(&[1 << 50, 0], &[]),
        qzeros: None,
        scales: RawTensor::new(RawDtype::F16, [1 << 50, 0], Vec::new()),
        g_idx: None,
    };
    let empty = GptqTensors::new(empty, 8, GptqZeros::LessOne, true);
    assert!(matches!(
        empty,
        Err(Error::Shape {
            what: "qweight",
            ..
        })
    ));
}
