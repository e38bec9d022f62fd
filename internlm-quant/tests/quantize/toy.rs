//! A network of two gated feed-forward blocks that can be calibrated.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use internlm_quant::calibrate::{Calibrate, Consumer, Group, Parameter, Producer, Tap, WeightSink};
use internlm_quant::{Error, Result};

pub(crate) const HIDDEN: usize = 64;
pub(crate) const INNER: usize = 96;
pub(crate) const VOCABULARY: usize = 50;

/// Values in about -1..1.
pub(crate) fn noise(seed: usize, count: usize) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(value).collect()
}

pub(crate) struct Toy {
    blocks: Vec<BTreeMap<String, Tensor>>,
    loaded: Option<(usize, BTreeMap<String, Parameter>)>,
}

impl Toy {
    /// Some channels of the norms are much larger than others, and `up` has a bias, so that scales
    /// matter and have something to divide.
    pub(crate) fn new(norm: DType) -> Result<Self> {
        let mut blocks = Vec::new();
        for block in 0..2 {
            let tensor = |seed: usize, rows: usize, columns: usize| {
                let scale = 1.5 / (columns as f32).sqrt();
                let values = noise(seed + 10 * block, rows * columns);
                let values = values.into_iter().map(|v| v * scale).collect();
                Tensor::from_vec(values, (rows, columns), &Device::Cpu)
            };
            let gain = |i: usize| {
                if i % 16 == 3 {
                    12.0
                } else {
                    1.0 + (i % 7) as f32 * 0.1
                }
            };
            let gains: Vec<f32> = (0..HIDDEN).map(gain).collect();
            let gains = Tensor::new(gains, &Device::Cpu)?.to_dtype(norm)?;
            let bias = Tensor::new(noise(5 + block, INNER), &Device::Cpu)?;
            let named = [
                ("norm.weight", gains),
                ("gate.weight", tensor(1, INNER, HIDDEN)?),
                ("up.weight", tensor(2, INNER, HIDDEN)?),
                ("up.bias", bias),
                ("down.weight", tensor(3, HIDDEN, INNER)?),
            ];
            blocks.push(
                named
                    .map(|(name, t)| (format!("blocks.{block}.{name}"), t))
                    .into(),
            );
        }
        Ok(Self {
            blocks,
            loaded: None,
        })
    }

    /// Puts a value into a stored tensor.
    pub(crate) fn spoil(&mut self, path: &str, value: f32) -> Result<()> {
        for tensor in self.blocks.iter_mut().filter_map(|b| b.get_mut(path)) {
            let mut values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            values[0] = value;
            *tensor = Tensor::from_vec(values, tensor.dims(), &Device::Cpu)?;
        }
        Ok(())
    }

    fn parameter(&self, path: &str) -> Result<Tensor> {
        let loaded = self
            .loaded
            .as_ref()
            .and_then(|(_, tensors)| tensors.get(path));
        let missing = Error::Missing {
            what: path.to_owned(),
            why: "the test runs it",
        };
        loaded.ok_or(missing)?.to_tensor()
    }

    fn linear(&self, path: &str, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        tap.input(path, x)?;
        let out = x.matmul(&self.parameter(&format!("{path}.weight"))?.t()?)?;
        match self.parameter(&format!("{path}.bias")) {
            Ok(bias) => Ok(out.broadcast_add(&bias)?),
            Err(_) => Ok(out),
        }
    }

    fn mlp(&self, block: &str, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let gate = self.linear(&format!("{block}.gate"), x, tap)?.silu()?;
        let up = self.linear(&format!("{block}.up"), x, tap)?;
        self.linear(&format!("{block}.down"), &(gate * up)?, tap)
    }
}

impl Calibrate for Toy {
    type Error = Error;

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block_path(&self, block: usize) -> String {
        format!("blocks.{block}")
    }

    fn groups(&self, block: usize) -> Vec<Group> {
        let at = |name: &str| format!("blocks.{block}.{name}");
        let consumer = |name: &str| Consumer {
            path: at(name),
            clip: true,
        };
        vec![
            Group {
                producer: Some(Producer::Norm(at("norm"))),
                consumers: vec![consumer("gate"), consumer("up")],
                inspect: at("mlp"),
            },
            Group {
                producer: Some(Producer::Linear(at("up"))),
                consumers: vec![consumer("down")],
                inspect: at("down"),
            },
        ]
    }

    fn embed(&mut self, ids: &[u32]) -> Result<Tensor> {
        let rows = ids.iter().flat_map(|&id| noise(100 + id as usize, HIDDEN));
        Ok(Tensor::from_vec(
            rows.collect(),
            (ids.len(), HIDDEN),
            &Device::Cpu,
        )?)
    }

    fn load_block(&mut self, block: usize) -> Result<()> {
        let dense = self.blocks[block].iter();
        let dense = dense.map(|(path, t)| (path.clone(), Parameter::Dense(t.clone())));
        self.loaded = Some((block, dense.collect()));
        Ok(())
    }

    fn tensor(&self, path: &str) -> Result<Option<Tensor>> {
        let loaded = self
            .loaded
            .as_ref()
            .and_then(|(_, tensors)| tensors.get(path));
        loaded.map(Parameter::to_tensor).transpose()
    }

    fn set_weight(&mut self, path: &str, parameter: Parameter) -> Result<()> {
        if let Some((_, tensors)) = &mut self.loaded {
            assert!(
                tensors.contains_key(path),
                "{path} is no tensor of the block"
            );
            tensors.insert(path.to_owned(), parameter);
        }
        Ok(())
    }

    fn run(&self, module: &str, x: &Tensor, cu: &[usize], tap: &mut dyn Tap) -> Result<Tensor> {
        assert_eq!(cu.last(), Some(&x.dim(0)?));
        let Some((block, last)) = module.rsplit_once('.') else {
            return Ok(x.clone());
        };
        match last {
            "mlp" => self.mlp(block, x, tap),
            "down" => self.linear(module, x, tap),
            _ => {
                let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
                let normed = x.broadcast_div(&(mean + 1e-6)?.sqrt()?)?;
                let gains = self.parameter(&format!("{module}.norm.weight"))?;
                let normed = normed.broadcast_mul(&gains.to_dtype(DType::F32)?)?;
                Ok((x + self.mlp(module, &normed, tap)?)?)
            }
        }
    }

    fn finish_block(&mut self, block: usize, sink: &mut dyn WeightSink) -> Result<()> {
        if let Some((loaded, tensors)) = self.loaded.take() {
            assert_eq!(loaded, block);
            for (path, parameter) in tensors {
                sink.put(&path, parameter)?;
            }
        }
        Ok(())
    }

    fn head(&mut self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
}

/// Everything that was handed on.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) BTreeMap<String, Parameter>);

impl WeightSink for Kept {
    fn put(&mut self, path: &str, parameter: Parameter) -> Result<()> {
        assert!(
            self.0.insert(path.to_owned(), parameter).is_none(),
            "{path} came twice"
        );
        Ok(())
    }
}
