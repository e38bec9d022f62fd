//! Where goldens are, and random matrices.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use internlm_quant::{Codes, RawDtype, RawTensor, Zeros};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};

/// Cases of a property: `INTERNLM_FUZZ_CASES`, else 64.
pub(crate) fn cases() -> ProptestConfig {
    let cases = std::env::var("INTERNLM_FUZZ_CASES");
    ProptestConfig::with_cases(
        cases.map_or(64, |v| v.parse().expect("INTERNLM_FUZZ_CASES is a number")),
    )
}

/// A folder or file beside the workspace, or `None` with a printed reason; with `CI=true` a panic.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(!ci, "{} is absent and CI=true", path.display());
    println!("skipped: {} is absent; set INTERNLM_SHARED", path.display());
    None
}

/// All tensors of a safetensors file whose dtype a quantized checkpoint has.
pub(crate) fn tensors(file: &Path) -> BTreeMap<String, RawTensor<'static>> {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a golden is sound");
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let dtype = match view.dtype() {
            Dtype::I32 => RawDtype::I32,
            Dtype::U8 => RawDtype::U8,
            Dtype::F16 => RawDtype::F16,
            Dtype::BF16 => RawDtype::Bf16,
            Dtype::F32 => RawDtype::F32,
            other => panic!("{name} is {other:?}"),
        };
        let tensor = RawTensor::new(dtype, view.shape(), view.data().to_vec());
        (name.to_owned(), tensor)
    };
    file.iter().map(tensor).collect()
}

/// The elements of an f32 tensor.
pub(crate) fn f32s(tensor: &RawTensor<'_>) -> Vec<f32> {
    assert_eq!(tensor.dtype, RawDtype::F32);
    let words = tensor.bytes.as_chunks().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Words as a tensor of i32.
pub(crate) fn words(shape: &[usize], words: &[u32]) -> RawTensor<'static> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    RawTensor::new(RawDtype::I32, shape, bytes)
}

/// A generator of reproducible numbers.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// In -1..1, exact in f16 and bf16.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() % 255) as f32 / 128.0 - 1.0
    }
}

/// Random codes of 4 bits with zero points, and scales that every float dtype holds.
pub(crate) fn codes(rows: usize, columns: usize, group_size: usize, seed: u64) -> Codes {
    let mut numbers = Numbers::new(seed);
    let groups = rows * (columns / group_size);
    let mut nibbles =
        |count: usize| -> Vec<u8> { (0..count).map(|_| (numbers.next() % 16) as u8).collect() };
    Codes {
        rows,
        columns,
        bits: 4,
        group_size,
        codes: nibbles(rows * columns),
        zeros: Zeros::Points(nibbles(groups)),
        scales: (0..groups)
            .map(|_| (numbers.next() % 127 + 1) as f32 / 512.0)
            .collect(),
        order: None,
    }
}
