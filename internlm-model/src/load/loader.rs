//! Tensors for the decoder, by checkpoint path.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use candle_core::Tensor;
use internlm_quant::{QuantizationConfig, Weight};

use super::head::HeadWeights;
use super::matrix::Matrix;
use super::packed::{self, Part};
use super::prepared::Store;
use super::random::RandomTensors;
use super::source::{TensorSource, check_shape};
use super::{LoadConfig, read};
use crate::config::{Config, Head};
use crate::error::{Error, Result};

/// Most names that an error or a report spells out.
const MAX_NAMES: usize = 10;

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadProgress {
    /// Tensors that are loaded.
    pub tensors: usize,
    /// Tensors of the checkpoint that the model uses.
    pub total_tensors: usize,
    /// Bytes of files that were read.
    pub bytes: u64,
    /// Bytes of files that will have been read.
    pub total_bytes: u64,
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Tensors that were loaded.
    pub tensors: usize,
    /// Bytes of files that were read.
    pub bytes: u64,
    /// Names that the file holds and the model does not use.
    pub unused: Vec<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors, {} bytes", self.tensors, self.bytes)?;
        match self.unused.len() {
            0 => Ok(()),
            count => write!(f, ", {count} not used"),
        }
    }
}

/// Where tensors come from.
enum Source {
    Files(Box<dyn TensorSource>),
    Random(RandomTensors),
}

/// Gives out a checkpoint's tensors.
pub(crate) struct Loader<'a> {
    source: Source,
    quantization: Option<QuantizationConfig>,
    options: &'a LoadConfig,
    store: Option<Store>,
    /// The paths whose matrices are rounded.
    head: Option<([&'static str; 2], HeadWeights)>,
    unused: Vec<String>,
    total_tensors: usize,
    total_bytes: u64,
    tensors: Cell<usize>,
    bytes: Cell<u64>,
}

impl fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("options", self.options)
            .finish_non_exhaustive()
    }
}

impl<'a> Loader<'a> {
    /// A loader of files, after a check that all tensors of the configuration are there in the
    /// right shapes. Nothing is read yet.
    pub(super) fn new(
        source: Box<dyn TensorSource>,
        config: &Config,
        options: &'a LoadConfig,
    ) -> Result<Self> {
        let (mut missing, mut known, mut total_bytes) = (Vec::new(), BTreeSet::new(), 0);
        let quantization = config.quantization.as_ref();
        for (path, suffix, want) in expected(config) {
            let name = format!("{path}.{suffix}");
            if let [rows, columns] = *want {
                let shape = [rows, columns];
                let source = source.as_ref();
                let found = Matrix::find(source, quantization, &path, shape, &mut missing)?;
                if let Some(matrix) = found {
                    total_bytes += matrix.stored_bytes();
                    known.extend(matrix.names(&path));
                }
            } else if let Some(found) = source.find(&name) {
                check_shape(&found, &name, &want)?;
                total_bytes += found.stored_bytes();
                known.insert(name);
            } else {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            return Err(self::missing(source.as_ref(), missing));
        }
        let head = format!("{}.weight", config.weight_names().head);
        let unused: Vec<String> = source
            .names()
            .into_iter()
            .filter(|name| !known.contains(*name) && !is_ignored(name))
            // The head of tied embeddings may be stored all the same.
            .filter(|name| !(config.tie_word_embeddings && *name == head))
            .map(str::to_owned)
            .collect();
        if !unused.is_empty() {
            tracing::warn!(
                file = %source.path().display(),
                count = unused.len(),
                names = ?&unused[..unused.len().min(MAX_NAMES)],
                "the checkpoint holds tensors that the model does not use"
            );
        }
        Ok(Self {
            source: Source::Files(source),
            quantization: config.quantization.clone(),
            options,
            store: None,
            head: None,
            unused,
            total_tensors: known.len(),
            total_bytes,
            tensors: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// The same with embedding and head as the options say.
    pub(super) fn with_head(self, config: &Config) -> Self {
        let names = config.weight_names();
        Self {
            head: Some(([names.embed_tokens, names.head], self.options.head)),
            ..self
        }
    }

    /// The same with a file that keeps packed matrices.
    pub(super) fn with_store(self, store: Store) -> Self {
        Self {
            store: Some(store),
            ..self
        }
    }

    /// A loader of seeded random tensors, equal for equal paths and seeds.
    pub(crate) fn random(config: &Config, options: &'a LoadConfig, seed: u64) -> Result<Self> {
        Ok(Self {
            source: Source::Random(RandomTensors::new(config, seed, options)?),
            quantization: None,
            options,
            store: None,
            head: None,
            unused: Vec::new(),
            total_tensors: expected(config).len(),
            total_bytes: 0,
            tensors: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// A tensor by checkpoint path.
    pub(crate) fn tensor(&self, name: &str, want: &[usize]) -> Result<Tensor> {
        self.rows(&[(name.to_owned(), want.to_vec())])
    }

    /// Tensors one after another along the first dimension.
    ///
    /// # Shapes
    /// - parts: `(rows, ...)`, equal but for their rows
    /// - out: `(sum of rows, ...)`
    pub(crate) fn rows(&self, parts: &[(String, Vec<usize>)]) -> Result<Tensor> {
        let tensor = match &self.source {
            Source::Random(random) => {
                let tensor = random.rows(parts)?;
                self.loaded(parts.len(), 0);
                tensor
            }
            Source::Files(source) => {
                let mut found = Vec::with_capacity(parts.len());
                for (name, want) in parts {
                    let Some(presented) = source.find(name) else {
                        return Err(missing(source.as_ref(), vec![name.clone()]));
                    };
                    check_shape(&presented, name, want)?;
                    found.push((name.as_str(), presented));
                }
                let tensor = read::tensors(&found, self.options)?;
                let bytes = found.iter().map(|(_, part)| part.stored_bytes()).sum();
                self.loaded(parts.len(), bytes);
                tensor
            }
        };
        Ok(tensor)
    }

    /// The matrices of modules that share an input, in their order: one weight, unless
    /// neighbours differ in form.
    ///
    /// # Shapes
    /// - parts: module paths with their rows
    /// - out: `(rows of neighbours, columns)`
    pub(crate) fn weight(&self, parts: &[(String, usize)], columns: usize) -> Result<Vec<Weight>> {
        let source = match &self.source {
            Source::Random(random) => {
                let weight = random.weight(parts, columns)?;
                self.loaded(parts.len(), 0);
                return Ok(vec![weight]);
            }
            Source::Files(source) => source.as_ref(),
        };
        let quantization = self.quantization.as_ref();
        let mut found = Vec::with_capacity(parts.len());
        for (path, rows) in parts {
            let mut lacks = Vec::new();
            match Matrix::find(source, quantization, path, [*rows, columns], &mut lacks)? {
                Some(matrix) => {
                    let matrix = match self.head {
                        Some((paths, head)) if paths.contains(&path.as_str()) => {
                            matrix.rounded(head)
                        }
                        _ => matrix,
                    };
                    found.push(Part::new(path, *rows, matrix, self.options)?);
                }
                None => return Err(missing(source, lacks)),
            }
        }
        let weights = packed::weights(&found, columns, self.options, self.store.as_ref())?;
        self.loaded(
            found.iter().map(|p| p.matrix.names(p.path).len()).sum(),
            found.iter().map(|p| p.matrix.stored_bytes()).sum(),
        );
        Ok(weights)
    }

    /// The matrix of one module whose rows are looked up.
    pub(crate) fn embedding(&self, path: &str, [rows, columns]: [usize; 2]) -> Result<Weight> {
        let weights = self.weight(&[(path.to_owned(), rows)], columns)?;
        Ok(weights.into_iter().next().expect("one part is one weight"))
    }

    /// Counts tensors, and tells how far loading is.
    fn loaded(&self, tensors: usize, bytes: u64) {
        self.tensors.set(self.tensors.get() + tensors);
        self.bytes.set(self.bytes.get() + bytes);
        if let Some(on_progress) = &self.options.on_progress {
            on_progress(LoadProgress {
                tensors: self.tensors.get(),
                total_tensors: self.total_tensors,
                bytes: self.bytes.get(),
                total_bytes: self.total_bytes,
            });
        }
    }

    /// What was loaded.
    ///
    /// # Errors
    /// A prepared file that can't be written.
    pub(crate) fn finish(&self) -> Result<LoadReport> {
        self.store.as_ref().map_or(Ok(()), Store::finish)?;
        let report = LoadReport {
            tensors: self.tensors.get(),
            bytes: self.bytes.get(),
            unused: self.unused.clone(),
        };
        tracing::debug!(%report, "weights are loaded");
        Ok(report)
    }
}

/// Module paths, suffixes and shapes of all tensors of a configuration, matrices as if they were dense.
fn expected(config: &Config) -> Vec<(String, &'static str, Vec<usize>)> {
    let names = config.weight_names();
    let (hidden, inner, vocab) = (
        config.hidden_size,
        config.intermediate_size,
        config.vocab_size,
    );
    let q_rows = config.num_attention_heads * config.head_dim;
    let kv_rows = config.num_key_value_heads * config.head_dim;
    let qkv_rows: &[usize] = match names.qkv {
        [_] => &[q_rows + 2 * kv_rows],
        _ => &[q_rows, kv_rows, kv_rows],
    };
    let mut tensors = Vec::new();
    let mut linear = |path: String, rows: usize, columns: usize, bias: bool| {
        if bias {
            tensors.push((path.clone(), "bias", vec![rows]));
        }
        tensors.push((path, "weight", vec![rows, columns]));
    };
    linear(names.embed_tokens.to_owned(), vocab, hidden, false);
    for layer in 0..config.num_hidden_layers {
        let at = |module: &str| format!("{}.{layer}.{module}", names.layers);
        for (module, &rows) in names.qkv.iter().zip(qkv_rows) {
            linear(at(module), rows, hidden, config.qkv_bias);
        }
        linear(at(names.wo), hidden, q_rows, config.o_bias);
        for module in names.gate_up {
            linear(at(module), inner, hidden, config.mlp_bias);
        }
        linear(at(names.down), hidden, inner, config.mlp_bias);
    }
    match config.head {
        Head::Reward { .. } => linear(names.v_head.to_owned(), 1, hidden, false),
        Head::Lm if config.tie_word_embeddings => {}
        Head::Lm => linear(names.head.to_owned(), vocab, hidden, false),
    }
    for layer in 0..config.num_hidden_layers {
        for module in [names.attention_norm, names.ffn_norm] {
            let path = format!("{}.{layer}.{module}", names.layers);
            tensors.push((path, "weight", vec![hidden]));
        }
    }
    tensors.push((names.norm.to_owned(), "weight", vec![hidden]));
    tensors
}

/// Paths and shapes of the linear modules of a configuration: its matrices but for the embedding.
pub(crate) fn linear_modules(config: &Config) -> Vec<(String, [usize; 2])> {
    let embedding = config.weight_names().embed_tokens;
    let tensors = expected(config).into_iter();
    tensors
        .filter(|(path, ..)| path != embedding)
        .filter_map(|(path, _, shape)| Some((path, <[usize; 2]>::try_from(shape).ok()?)))
        .collect()
}

/// Buffers that old checkpoints store and nobody reads.
fn is_ignored(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// The error of tensors that are not there; the first few are named.
fn missing(source: &dyn TensorSource, mut names: Vec<String>) -> Error {
    let count = names.len();
    names.truncate(MAX_NAMES);
    Error::MissingTensors {
        file: source.path().to_path_buf(),
        names,
        count,
    }
}
