//! Tensors for the decoder, by checkpoint path.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use candle_core::Tensor;

use super::LoadConfig;
use super::random::RandomTensors;
use super::read;
use super::source::{ElementType, Presented, TensorSource};
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
    options: &'a LoadConfig,
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
        let expected = expected(config);
        let mut missing = Vec::new();
        let mut total_bytes = 0;
        for (name, want) in &expected {
            match source.find(name) {
                None => missing.push(name.clone()),
                Some(found) => {
                    check_shape(&found, name, want)?;
                    total_bytes += stored_bytes(&found);
                }
            }
        }
        if !missing.is_empty() {
            let count = missing.len();
            missing.truncate(MAX_NAMES);
            return Err(Error::MissingTensors {
                file: source.path().to_path_buf(),
                names: missing,
                count,
            });
        }
        let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let head = format!("{}.weight", config.weight_names().head);
        let unused: Vec<String> = source
            .names()
            .into_iter()
            .filter(|name| !known.contains(name) && !is_ignored(name))
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
            options,
            unused,
            total_tensors: expected.len(),
            total_bytes,
            tensors: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// A loader of seeded random tensors, equal for equal paths and seeds.
    pub(crate) fn random(config: &Config, options: &'a LoadConfig, seed: u64) -> Result<Self> {
        let expected = expected(config);
        Ok(Self {
            source: Source::Random(RandomTensors::new(seed, options)?),
            options,
            unused: Vec::new(),
            total_tensors: expected.len(),
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
            Source::Random(random) => random.rows(parts)?,
            Source::Files(source) => {
                let mut found = Vec::with_capacity(parts.len());
                for (name, want) in parts {
                    let Some(presented) = source.find(name) else {
                        return Err(Error::MissingTensors {
                            file: source.path().to_path_buf(),
                            names: vec![name.clone()],
                            count: 1,
                        });
                    };
                    check_shape(&presented, name, want)?;
                    found.push((name.as_str(), presented));
                }
                let tensor = read::tensors(&found, self.options)?;
                let bytes: u64 = found.iter().map(|(_, part)| stored_bytes(part)).sum();
                self.bytes.set(self.bytes.get() + bytes);
                tensor
            }
        };
        self.tensors.set(self.tensors.get() + parts.len());
        if let Some(on_progress) = &self.options.on_progress {
            on_progress(LoadProgress {
                tensors: self.tensors.get(),
                total_tensors: self.total_tensors,
                bytes: self.bytes.get(),
                total_bytes: self.total_bytes,
            });
        }
        Ok(tensor)
    }

    /// What was loaded.
    pub(crate) fn finish(&self) -> Result<LoadReport> {
        let report = LoadReport {
            tensors: self.tensors.get(),
            bytes: self.bytes.get(),
            unused: self.unused.clone(),
        };
        tracing::debug!(%report, "weights are loaded");
        Ok(report)
    }
}

/// Paths and shapes of all tensors of a configuration.
pub(crate) fn expected(config: &Config) -> Vec<(String, Vec<usize>)> {
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
        tensors.push((format!("{path}.weight"), vec![rows, columns]));
        if bias {
            tensors.push((format!("{path}.bias"), vec![rows]));
        }
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
            tensors.push((
                format!("{}.{layer}.{module}.weight", names.layers),
                vec![hidden],
            ));
        }
    }
    tensors.push((format!("{}.weight", names.norm), vec![hidden]));
    tensors
}

/// Buffers that old checkpoints store and nobody reads.
fn is_ignored(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

fn check_shape(found: &Presented<'_>, name: &str, want: &[usize]) -> Result<()> {
    if found.shape == want {
        return Ok(());
    }
    let file = found
        .blocks
        .first()
        .map(|b| b.stored.file.path().to_path_buf());
    Err(Error::TensorShape {
        file: file.unwrap_or_default(),
        name: name.to_owned(),
        got: found.shape.clone(),
        want: want.to_vec(),
    })
}

fn stored_bytes(found: &Presented<'_>) -> u64 {
    let block_bytes = found
        .blocks
        .iter()
        .map(|block| match &block.stored.element_type {
            ElementType::Known(t) => {
                t.bytes(block.rows * block.stored.columns()).unwrap_or(0) as u64
            }
            ElementType::Other(_) => 0,
        });
    block_bytes.sum()
}
