//! A checkpoint that is gone through block by block, each loaded from its files when its turn comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use internlm_kernels::{Activation, Compute};
use internlm_quant::Codes;
use internlm_quant::calibrate::{Calibrate, Consumer, Group, Parameter, Producer, Tap, WeightSink};

use crate::batch::{Batch, Logits};
use crate::buffers::Buffers;
use crate::config::{Config, Head, QkvLayout, WeightNames};
use crate::context::{AttentionGeometry, Mode, Step};
use crate::decoder::{Layer, Norm, Residual, linear};
use crate::error::{Error, Result};
use crate::kv_cache::{KvCache, NoCache};
use crate::linear::Linear;
use crate::load::{LoadConfig, Loader, ModelDir};
use crate::rope::{Rope, RopeTable};

/// A decoder of which one block is in memory at a time.
#[derive(Debug)]
pub struct BlockwiseLm<'a> {
    loader: Loader<'a>,
    config: Config,
    names: &'static WeightNames,
    rope: Rope,
    geometry: AttentionGeometry,
    compute: Arc<Compute>,
    loaded: Option<Loaded>,
    embedding: Option<Tensor>,
}

#[derive(Debug)]
struct Loaded {
    block: usize,
    layer: Layer,
    /// What tensors were stored in, by path.
    dtypes: BTreeMap<String, DType>,
    codes: BTreeMap<String, Codes>,
}

impl<'a> BlockwiseLm<'a> {
    /// Opens a checkpoint; only names and shapes are checked yet. Computes in f32 on the CPU.
    ///
    /// # Errors
    /// A configuration that contradicts itself, a missing or wrongly shaped tensor.
    pub fn open(dir: &ModelDir, options: &'a LoadConfig, compute: Arc<Compute>) -> Result<Self> {
        let config = dir.config()?;
        Ok(Self {
            loader: dir.loader(&config, options)?,
            names: config.weight_names(),
            rope: Rope::new(&config),
            geometry: AttentionGeometry::of(&config),
            config,
            compute,
            loaded: None,
            embedding: None,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn at(&self, block: usize, module: &str) -> String {
        format!("{}.{block}.{module}", self.names.layers)
    }

    fn embedding(&mut self) -> Result<Tensor> {
        if let Some(embedding) = &self.embedding {
            return Ok(embedding.clone());
        }
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let name = format!("{}.weight", self.names.embed_tokens);
        let embedding = self.loader.tensor(&name, &shape)?;
        self.embedding = Some(embedding.clone());
        Ok(embedding)
    }

    /// Tensors outside of the blocks, by checkpoint path, as they are stored.
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn outer_tensors(&mut self) -> Result<Vec<(String, Tensor)>> {
        let embed_tokens = format!("{}.weight", self.names.embed_tokens);
        let mut tensors = vec![(embed_tokens, self.embedding()?), self.norm()?.tensors()?];
        if let Some(head) = self.own_head()? {
            tensors.extend(head.tensors()?);
        }
        Ok(tensors)
    }

    fn norm(&self) -> Result<Norm> {
        let path = self.names.norm.to_owned();
        Norm::load(&self.loader, path, self.config.hidden_size)
    }

    /// The module path of the head, tied or not.
    pub(super) fn head_path(&self) -> &'static str {
        match self.config.head {
            Head::Reward { .. } => self.names.v_head,
            Head::Lm => self.names.head,
        }
    }

    /// The head, where it is not the embedding.
    fn own_head(&self) -> Result<Option<Linear>> {
        let (path, rows) = match self.config.head {
            Head::Reward { .. } => (self.names.v_head, 1),
            Head::Lm if self.config.tie_word_embeddings => return Ok(None),
            Head::Lm => (self.names.head, self.config.vocab_size),
        };
        let parts = vec![(path.to_owned(), rows)];
        let head = linear(&self.loader, parts, self.config.hidden_size, false)?;
        Ok(Some(head))
    }

    fn step<'s>(&'s self, batch: &'s Batch, rope: &'s RopeTable) -> Step<'s> {
        Step {
            batch,
            rope,
            geometry: &self.geometry,
            compute: &self.compute,
            activation: Activation::F32,
            packed_activation: Activation::F32,
            attention_activation: Activation::F32,
            mode: Mode::Infer,
            adapters: None,
            buffers: &Buffers::NONE,
        }
    }

    fn loaded(&self) -> Result<&Loaded> {
        self.loaded.as_ref().ok_or_else(|| Error::Batch {
            what: "no block is loaded".to_owned(),
        })
    }
}

/// The module that holds another.
fn parent(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(parent, _)| parent)
}

impl Calibrate for BlockwiseLm<'_> {
    type Error = Error;

    fn blocks(&self) -> usize {
        self.config.num_hidden_layers
    }

    fn block_path(&self, block: usize) -> String {
        format!("{}.{block}", self.names.layers)
    }

    /// norm -> q, k, v; v -> o where both have one shape (without grouped queries); norm -> gate, up;
    /// up -> down. InternLM2's `wqkv` interleaves its heads, so nothing is scaled for `wo` there, as
    /// in LMDeploy; AutoAWQ does not take it for a query projection, and clips it.
    fn groups(&self, block: usize) -> Vec<Group> {
        let at = |module: &str| self.at(block, module);
        let consumer = |module: &str, clip| Consumer {
            path: at(module),
            clip,
        };
        let names = self.names;
        let value = match (names.qkv, self.config.qkv_layout()) {
            ([_, _, v], QkvLayout::Separate) => Some(*v),
            _ => None,
        };
        let qkv = names.qkv.iter();
        let qkv = qkv.map(|&module| consumer(module, value.is_none_or(|v| v == module)));
        let grouped = self.config.num_key_value_heads != self.config.num_attention_heads;
        let [gate, up] = names.gate_up;
        vec![
            Group {
                producer: Some(Producer::Norm(at(names.attention_norm))),
                consumers: qkv.collect(),
                inspect: at(parent(names.wo)),
            },
            Group {
                producer: value.filter(|_| !grouped).map(|v| Producer::Linear(at(v))),
                consumers: vec![consumer(names.wo, true)],
                inspect: at(names.wo),
            },
            Group {
                producer: Some(Producer::Norm(at(names.ffn_norm))),
                consumers: vec![consumer(gate, true), consumer(up, true)],
                inspect: at(parent(names.down)),
            },
            Group {
                producer: Some(Producer::Linear(at(up))),
                consumers: vec![consumer(names.down, true)],
                inspect: at(names.down),
            },
        ]
    }

    fn embed(&mut self, ids: &[u32]) -> Result<Tensor> {
        let vocab_size = self.config.vocab_size;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        let embedding = self.embedding()?;
        let ids = Tensor::new(ids, embedding.device())?;
        Ok(embedding.index_select(&ids, 0)?.to_dtype(DType::F32)?)
    }

    fn load_block(&mut self, block: usize) -> Result<()> {
        // Dropped first, so that there are never two.
        self.loaded = None;
        self.embedding = None;
        let layer = Layer::load(&self.loader, &self.config, self.names, block)?;
        let tensors = layer.tensors()?;
        let dtypes = tensors.into_iter().map(|(path, t)| (path, t.dtype()));
        self.loaded = Some(Loaded {
            block,
            dtypes: dtypes.collect(),
            layer,
            codes: BTreeMap::new(),
        });
        Ok(())
    }

    fn tensor(&self, path: &str) -> Result<Option<Tensor>> {
        let mut tensors = self.loaded()?.layer.tensors()?.into_iter();
        Ok(tensors.find(|(name, _)| name == path).map(|(_, t)| t))
    }

    fn set_weight(&mut self, path: &str, parameter: Parameter) -> Result<()> {
        self.loaded()?;
        let Some(loaded) = &mut self.loaded else {
            return Ok(());
        };
        let tensor = parameter.to_tensor()?;
        if !loaded.layer.set(path, &tensor)? {
            return Err(Error::MissingTensors {
                file: self.names.layers.into(),
                names: vec![path.to_owned()],
                count: 1,
            });
        }
        match parameter {
            Parameter::Codes(codes) => loaded.codes.insert(path.to_owned(), codes),
            Parameter::Dense(_) => loaded.codes.remove(path),
        };
        Ok(())
    }

    fn run(
        &self,
        module: &str,
        x: &Tensor,
        cu_seqlens: &[usize],
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let Loaded { block, layer, .. } = self.loaded()?;
        let mut batch = Batch::new();
        for (slot, rows) in cu_seqlens.windows(2).enumerate() {
            // Only positions matter to a block.
            let ids = vec![0; rows[1].saturating_sub(rows[0])];
            batch.push(slot, &ids, 0, ids.len(), Logits::None)?;
        }
        let rope = RopeTable::new(&self.rope, &batch, self.geometry.keeps_raw_keys);
        let step = self.step(&batch, &rope);
        let mut cache = NoCache;
        cache.begin(&batch)?;
        if module == self.block_path(*block) {
            let mut residual = Residual {
                x: x.clone(),
                delta: None,
            };
            let eps = self.config.rms_norm_eps as f32;
            layer.forward_tapped(*block, &step, &mut cache, &mut residual, eps, tap)?;
            return Ok(match residual.delta {
                Some(delta) => (residual.x + delta)?,
                None => residual.x,
            });
        }
        if module == self.at(*block, parent(self.names.wo)) {
            return layer.attention(*block, &step, &mut cache, x, tap);
        }
        if module == self.at(*block, parent(self.names.down)) {
            return layer.feed_forward(&step, x, tap);
        }
        match layer.linears().into_iter().find(|linear| linear.is(module)) {
            Some(linear) => linear.forward_tapped(&step, x, tap),
            None => Err(Error::Batch {
                what: format!("`{module}` is no module of block {block} that can be run"),
            }),
        }
    }

    fn finish_block(&mut self, block: usize, sink: &mut dyn WeightSink) -> Result<()> {
        let Some(mut loaded) = self.loaded.take().filter(|l| l.block == block) else {
            return Err(Error::Batch {
                what: format!("block {block} is not loaded"),
            });
        };
        for (path, tensor) in loaded.layer.tensors()? {
            let parameter = match loaded.codes.remove(&path) {
                Some(codes) => Parameter::Codes(codes),
                None => {
                    let stored = loaded.dtypes.get(&path).copied();
                    Parameter::Dense(tensor.to_dtype(stored.unwrap_or(tensor.dtype()))?)
                }
            };
            sink.put(&path, parameter)?;
        }
        Ok(())
    }

    fn head(&mut self, x: &Tensor) -> Result<Tensor> {
        let head = match self.own_head()? {
            Some(head) => head,
            None => {
                let parts = vec![(self.names.embed_tokens.to_owned(), self.config.vocab_size)];
                let weight = internlm_quant::Weight::Dense(self.embedding()?);
                Linear::new(vec![weight], None, parts)?
            }
        };
        let norm = self.norm()?;
        let (batch, rope) = (Batch::new(), RopeTable::default());
        let step = self.step(&batch, &rope);
        let mut residual = Residual {
            x: x.contiguous()?,
            delta: None,
        };
        let normed = residual.norm(&step, &norm, self.config.rms_norm_eps as f32)?;
        head.forward(&step, &normed)
    }
}
