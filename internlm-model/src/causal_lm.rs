//! A loaded model: embedding, layers, head.

mod merge;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use internlm_core::SamplingParams;
use internlm_kernels::{Activation, Compute};
use internlm_quant::Weight;

use crate::adapter::{Base, RowAdapters};
use crate::batch::{Batch, Logits};
use crate::buffers::Buffers;
use crate::config::{Architecture, Config, GenerationConfig, Head};
use crate::context::{AttentionGeometry, Context, Mode, Step};
use crate::decoder::{Layer, Norm, Residual, linear};
use crate::error::{Error, Result};
use crate::kv_cache::{ContiguousCache, KvDtype, natural_dtype};
use crate::linear::{Linear, is_packed};
use crate::load::{LoadConfig, Loader, ModelDir, Prepared};
use crate::rope::{Rope, RopeTable};

/// Rows of one pass when a prompt is read in chunks.
const PREFILL_CHUNK: usize = 256;

/// A decoder with its head. Immutable: share it between threads by reference or `Arc`.
///
/// ```no_run
/// use internlm_model::{CausalLm, LoadConfig, ModelDir};
/// use internlm_core::SamplingParams;
///
/// let model = CausalLm::load(&ModelDir::open("internlm2-1_8b")?, LoadConfig::default())?;
/// for event in model.generate(&[1, 918, 4131], &SamplingParams::greedy())? {
///     println!("{:?}", event?);
/// }
/// # Ok::<(), internlm_model::Error>(())
/// ```
#[derive(Debug)]
pub struct CausalLm {
    name: String,
    config: Config,
    generation_config: GenerationConfig,
    /// `(vocab_size, hidden_size)`
    embedding: Weight,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    rope: Rope,
    geometry: AttentionGeometry,
    compute: Arc<Compute>,
    device: Device,
    dtype: Option<DType>,
    packed_activation: Activation,
}

impl CausalLm {
    /// Loads a checkpoint.
    ///
    /// # Errors
    /// A configuration that contradicts itself, a missing or wrongly shaped tensor, a corrupt or
    /// cut file, weights that are not finite, a device that is not there; a prepared file that
    /// [`Prepared`] does not allow to be made again, or that can't be written.
    pub fn load(dir: &ModelDir, options: LoadConfig) -> Result<Self> {
        let config = dir.config()?;
        let generation_config = dir.generation_config()?;
        let load = |again| {
            let loader = dir.model_loader(&config, &options, again)?;
            let (config, generation_config) = (config.clone(), generation_config.clone());
            Self::build(dir.name(), config, generation_config, &loader, &options)
        };
        match load(false) {
            Err(Error::Prepared { file, what }) if options.prepared == Some(Prepared::Beside) => {
                tracing::info!(file = %file.display(), what, "a prepared file is made again");
                load(true)
            }
            result => result,
        }
    }

    /// A model of this shape with random weights of `options.dtype` (f32 without), for benchmarks
    /// and tests. With `config.quantization` the matrices of its layers are packed, with zero points
    /// and scales of f16; with `options.head` embedding and head.
    ///
    /// # Errors
    /// A configuration that contradicts itself, or a head that can't be packed.
    pub fn random(config: Config, seed: u64, options: LoadConfig) -> Result<Self> {
        config.validate()?;
        let loader = Loader::random(&config, &options, seed)?;
        let generation_config = GenerationConfig::of(&config);
        Self::build(
            "random".to_owned(),
            config,
            generation_config,
            &loader,
            &options,
        )
    }

    fn build(
        name: String,
        config: Config,
        generation_config: GenerationConfig,
        loader: &Loader<'_>,
        options: &LoadConfig,
    ) -> Result<Self> {
        let names = config.weight_names();
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embed_tokens = vec![(names.embed_tokens.to_owned(), vocab)];
        let embedding = loader.embedding(&embed_tokens[0].0, [vocab, hidden])?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(loader, &config, names, index))
            .collect::<Result<_>>()?;
        let norm = Norm::load(loader, names.norm.to_owned(), hidden)?;
        let head = match config.head {
            Head::Reward { .. } => {
                linear(loader, vec![(names.v_head.to_owned(), 1)], hidden, false)?
            }
            Head::Lm if config.tie_word_embeddings => {
                Linear::new(vec![embedding.clone()], None, embed_tokens)?
            }
            Head::Lm => linear(loader, vec![(names.head.to_owned(), vocab)], hidden, false)?,
        };
        loader.finish()?;
        Ok(Self {
            name,
            rope: Rope::new(&config),
            geometry: AttentionGeometry::of(&config),
            config,
            generation_config,
            embedding,
            layers,
            norm,
            head,
            compute: options.compute()?,
            device: options.device.clone(),
            dtype: options.dtype,
            packed_activation: options.packed_activation,
        })
    }

    /// What the checkpoint is called: its folder's or file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// End tokens and sampling defaults of the checkpoint.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation_config
    }

    /// How a chat with the checkpoint is drawn where nothing else is asked for: as its
    /// `generation_config.json` recommends, else as the official code or the model's card does.
    pub fn recommended_sampling(&self) -> SamplingParams {
        let generation = &self.generation_config;
        if generation.do_sample == Some(true) || generation.temperature.is_some() {
            let mut generation = generation.clone();
            generation.do_sample = Some(true);
            return generation.sampling_params();
        }
        let params = SamplingParams::default();
        match self.config.architecture {
            // `chat()` of modeling_internlm.py and modeling_internlm2.py; top-k is Hugging Face's default.
            Architecture::InternLm | Architecture::InternLm2 => {
                params.with_temperature(0.8).with_top_p(0.8).with_top_k(50)
            }
            // README of InternLM/InternLM.
            Architecture::InternLm3 => params
                .with_temperature(1.0)
                .with_top_p(0.8)
                .with_top_k(40)
                .with_repetition_penalty(1.005),
            // Model card of SmolLM2-Instruct. A small model needs its unlikely tokens cut off.
            _ => params.with_temperature(0.2).with_top_p(0.9),
        }
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The CPU kernels and their threads.
    pub fn compute(&self) -> &Arc<Compute> {
        &self.compute
    }

    /// An empty cache whose dtype goes with the weights.
    ///
    /// # Errors
    /// None for a model that was loaded.
    pub fn new_cache(&self) -> Result<ContiguousCache> {
        ContiguousCache::new(&self.config, natural_dtype(self.dtype, &self.device))
    }

    /// How a cache that goes with the weights holds keys and values.
    ///
    /// # Errors
    /// None for a model that was loaded.
    pub fn kv_dtype(&self) -> Result<KvDtype> {
        KvDtype::of(natural_dtype(self.dtype, &self.device))
    }

    /// The RoPE base of a token of this RoPE length (see [`Batch`]): another one for each length under dynamic
    /// NTK past the model's own length, else always the same.
    pub fn rope_base(&self, rope_length: usize) -> f64 {
        self.rope.base(rope_length)
    }

    /// Checks that a prompt can be continued in a context of this many tokens. How many tokens fit after it.
    ///
    /// # Errors
    /// An empty prompt, one that leaves no room, an id outside of the vocabulary, or a reward head.
    pub fn check_prompt(&self, prompt: &[u32], context_length: usize) -> Result<usize> {
        self.expect_head("language model")?;
        self.check_ids(prompt)?;
        if prompt.is_empty() {
            return Err(Error::Batch {
                what: "the prompt has no tokens".to_owned(),
            });
        }
        match context_length.checked_sub(prompt.len()) {
            None | Some(0) => Err(Error::PromptTooLong {
                prompt_tokens: prompt.len(),
                context_length,
            }),
            Some(room) => Ok(room),
        }
    }

    /// Whether weights are packed: all or some of the layers' matrices, or the embedding.
    pub fn is_packed(&self) -> bool {
        let mut linears = self.layers.iter().flat_map(Layer::linears);
        is_packed(&self.embedding) || linears.any(Linear::is_packed) || self.head.is_packed()
    }

    /// Bytes of all weights as they lie in memory.
    pub fn weight_bytes(&self) -> usize {
        let linears = self.layers.iter().flat_map(Layer::linears);
        let tied = self.config.tie_word_embeddings && self.config.head == Head::Lm;
        let head = if tied { 0 } else { self.head.bytes() };
        self.embedding.bytes() + head + linears.map(Linear::bytes).sum::<usize>()
    }

    /// Tokens of one pass where a prompt is read in chunks.
    pub fn prefill_chunk(&self) -> usize {
        PREFILL_CHUNK
    }

    /// Refuses ids outside of the vocabulary.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab_size = self.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(Error::TokenId { id, vocab_size }),
            None => Ok(()),
        }
    }

    /// Logits of the rows that the batch asks for.
    ///
    /// # Shapes
    /// - out: `(batch.logit_rows(), vocab_size)`, f32; for a reward head `(batch.logit_rows(), 1)`
    ///
    /// # Errors
    /// Ids outside of the vocabulary, a sequence that does not join its cache, an adapter that is
    /// not there or is another network's, a failed operation.
    pub fn forward(&self, batch: &Batch, ctx: &mut Context<'_>) -> Result<Tensor> {
        let hidden = self.hidden_states(batch, ctx)?;
        self.batch_logits(&hidden, batch, 0..batch.logit_rows().len(), ctx)
    }

    /// Hidden states after the final norm, of the rows that the batch asks for.
    ///
    /// # Shapes
    /// - out: `(batch.logit_rows(), hidden_size)`, f32 on the CPU
    ///
    /// # Errors
    /// As [`forward`](CausalLm::forward).
    pub fn hidden_states(&self, batch: &Batch, ctx: &mut Context<'_>) -> Result<Tensor> {
        self.check_ids(batch.input_ids())?;
        let adapters = RowAdapters::of_tokens(batch, ctx.adapters, || Base::of(&self.config))?;
        ctx.cache.begin(batch)?;
        let rope = RopeTable::new(&self.rope, batch, self.geometry.keeps_raw_keys);
        let buffers = Buffers::of_pass(ctx.mode);
        let step = self.step(batch, &rope, ctx.mode, adapters.as_ref(), &buffers);
        let eps = self.config.rms_norm_eps as f32;
        let mut residual = Residual {
            x: self
                .embedding
                .rows(batch.input_ids())?
                .to_dtype(self.activation_dtype())?,
            delta: None,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            layer
                .forward(index, &step, ctx.cache, &mut residual, eps)
                .map_err(|e| e.at(index))?;
        }
        let rows = batch.logit_rows();
        if rows.is_empty() {
            let shape = (0, self.config.hidden_size);
            return Ok(Tensor::zeros(shape, self.activation_dtype(), &self.device)?);
        }
        if rows.len() < batch.num_tokens() {
            residual.select(&Tensor::new(rows, &self.device)?)?;
        }
        self.head.announce(&step);
        residual.norm(&step, &self.norm, eps)
    }

    /// The head over hidden states, without adapters; see [`batch_logits`](CausalLm::batch_logits).
    ///
    /// # Shapes
    /// - hidden: `(rows, hidden_size)`
    /// - out: `(rows, vocab_size)` or `(rows, 1)`, f32
    ///
    /// # Errors
    /// A failed operation.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head_of(hidden, Mode::Infer, None)
    }

    /// The head over the [hidden states](CausalLm::hidden_states) of some of a batch's logit rows, in
    /// the context's mode and with the adapters of their sequences.
    ///
    /// # Shapes
    /// - hidden: `(rows.len(), hidden_size)`
    /// - rows: indexes of `batch.logit_rows()`
    /// - out: `(rows.len(), vocab_size)` or `(rows.len(), 1)`, f32
    ///
    /// # Errors
    /// Another number of rows, an adapter that is not there or is another network's, a failed operation.
    pub fn batch_logits(
        &self,
        hidden: &Tensor,
        batch: &Batch,
        rows: Range<usize>,
        ctx: &Context<'_>,
    ) -> Result<Tensor> {
        if rows.end > batch.logit_rows().len() || hidden.dim(0)? != rows.len() {
            return Err(Error::Batch {
                what: format!(
                    "{} hidden states for rows {rows:?} of {} that get logits",
                    hidden.dim(0)?,
                    batch.logit_rows().len()
                ),
            });
        }
        let base = || Base::of(&self.config);
        let adapters = RowAdapters::of_logits(batch, rows, ctx.adapters, base)?;
        self.head_of(hidden, ctx.mode, adapters.as_ref())
    }

    fn head_of(
        &self,
        hidden: &Tensor,
        mode: Mode,
        adapters: Option<&RowAdapters<'_>>,
    ) -> Result<Tensor> {
        let columns = match self.config.head {
            Head::Lm => self.config.vocab_size,
            Head::Reward { .. } => 1,
        };
        if hidden.dim(0)? == 0 {
            return Ok(Tensor::zeros((0, columns), DType::F32, &self.device)?);
        }
        let (batch, rope) = (Batch::new(), RopeTable::default());
        let step = self.step(&batch, &rope, mode, adapters, &Buffers::NONE);
        let hidden = hidden.contiguous()?;
        Ok(self.head.forward(&step, &hidden)?.to_dtype(DType::F32)?)
    }

    /// The reward head's value at the last token.
    ///
    /// # Errors
    /// No tokens, or a checkpoint with another head.
    pub fn reward(&self, ids: &[u32]) -> Result<f32> {
        self.expect_head("reward")?;
        let mut cache = self.new_cache()?;
        let mut score = None;
        let mut start = 0;
        for chunk in ids.chunks(self.prefill_chunk()) {
            let mut batch = Batch::new();
            batch.push(0, chunk, start, ids.len(), Logits::Last)?;
            let values = self.forward(&batch, &mut Context::new(&mut cache))?;
            score = values.flatten_all()?.to_vec1::<f32>()?.pop();
            start += chunk.len();
        }
        match score {
            Some(score) if score.is_finite() => Ok(score),
            Some(_) => Err(Error::NonFiniteLogits { count: 1 }),
            None => Err(Error::Batch {
                what: "a reward needs at least one token".to_owned(),
            }),
        }
    }

    /// Refuses a checkpoint whose head is not `want` ("language model" or "reward").
    pub(crate) fn expect_head(&self, want: &'static str) -> Result<()> {
        let got = match self.config.head {
            Head::Lm => "language model",
            Head::Reward { .. } => "reward",
        };
        if got == want {
            Ok(())
        } else {
            Err(Error::Head { got, want })
        }
    }

    /// Every tensor by checkpoint path, in the dtype that it is held in; packed weights by their
    /// values, in f32.
    ///
    /// # Errors
    /// A failed conversion.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let names = self.config.weight_names();
        let mut tensors = vec![(
            format!("{}.weight", names.embed_tokens),
            self.embedding.dequantize()?,
        )];
        for layer in &self.layers {
            tensors.extend(layer.tensors()?);
        }
        tensors.push(self.norm.tensors()?);
        if !(self.config.tie_word_embeddings && self.config.head == Head::Lm) {
            tensors.extend(self.head.tensors()?);
        }
        Ok(tensors)
    }

    fn step<'a>(
        &'a self,
        batch: &'a Batch,
        rope: &'a RopeTable,
        mode: Mode,
        adapters: Option<&'a RowAdapters<'a>>,
        buffers: &'a Buffers,
    ) -> Step<'a> {
        let activation = match self.dtype {
            Some(DType::BF16) => Activation::Bf16,
            _ => Activation::F32,
        };
        let projection = self.layers.first().map(|layer| layer.linears()[0]);
        Step {
            batch,
            rope,
            geometry: &self.geometry,
            compute: &self.compute,
            activation,
            packed_activation: self.packed_activation,
            attention_activation: match projection {
                Some(wqkv) if wqkv.is_packed() => self.packed_activation,
                _ => activation,
            },
            mode,
            adapters,
            buffers,
        }
    }

    /// f32 on the CPU; elsewhere what was asked for, else the dtype of the head.
    fn activation_dtype(&self) -> DType {
        match self.dtype {
            _ if self.device.is_cpu() => DType::F32,
            Some(dtype) => dtype,
            None => self.head.dtype(),
        }
    }
}
