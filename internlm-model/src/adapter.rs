//! LoRA adapters (arXiv 2106.09685) over one base, chosen by sequence.
//!
//! A linear module of the base computes `W x`; an adapter adds `scale * B (A x)` to it, with A
//! `(r, in_features)` and B `(out_features, r)`. Adapters are not a part of the weights: a
//! [`Context`](crate::Context) carries a set of them and each sequence of a [`Batch`](crate::Batch)
//! chooses one or none, so that one base, dense or packed, serves many at once. What is added to a
//! row does not depend on the other rows, nor on which adapters they go through.
//!
//! They are addressed by checkpoint paths. Where modules are one product (q, k and v; gate and up)
//! each adds to the columns that its rows of the product give.
//!
//! What an earlier token left in a cache depends on its adapter: a sequence keeps one adapter from its
//! first token to its last, and prefixes are shared only among sequences of the same.
//!
//! ```
//! use internlm_model::{AdapterSet, Batch, CausalLm, Config, Context, LoadConfig};
//! use internlm_model::{LoraAdapter, LoraConfig, batch::Logits};
//!
//! # let json = br#"{"model_type": "internlm2", "hidden_size": 32, "intermediate_size": 64,
//! #     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
//! #     "vocab_size": 100, "bias": false}"#;
//! # let config = Config::from_json("config.json".as_ref(), json)?;
//! let model = CausalLm::random(config, 7, LoadConfig::default())?;
//! let lora = LoraConfig::default().with_rank(4).with_target_modules(["wqkv", "wo"]);
//! let adapters = AdapterSet::from_iter([LoraAdapter::new(model.config(), lora, 1)?]);
//!
//! let mut batch = Batch::new();
//! batch.push(0, &[1, 5, 42], 0, 3, Logits::Last)?;
//! batch.push(1, &[1, 5, 42], 0, 3, Logits::Last)?;
//! batch.set_adapter(1, Some(0))?; // slot 0 goes through the base alone
//! let mut cache = model.new_cache()?;
//! let logits = model.forward(&batch, &mut Context::new(&mut cache).with_adapters(&adapters))?;
//! assert_eq!(logits.dims(), [2, 100]);
//! # Ok::<(), internlm_model::Error>(())
//! ```

mod base;
mod config;
mod file;
mod forward;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};

pub(crate) use base::Base;
pub use config::{LoraConfig, TargetModules};
pub(crate) use forward::RowAdapters;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::load::{linear_modules, seed_of, uniform};

/// The two matrices of one module.
#[derive(Clone, Debug)]
pub struct LoraModule {
    a: Tensor,
    b: Tensor,
}

impl LoraModule {
    /// A, `(r, in_features)`, f32.
    pub fn a(&self) -> &Tensor {
        &self.a
    }

    /// B, `(out_features, r)`, f32.
    pub fn b(&self) -> &Tensor {
        &self.b
    }
}

/// A LoRA adapter for a network of given sizes.
#[derive(Clone, Debug)]
pub struct LoraAdapter {
    name: String,
    config: LoraConfig,
    base: Base,
    /// By checkpoint path.
    modules: HashMap<String, LoraModule>,
}

impl LoraAdapter {
    /// A new adapter, which changes nothing yet: A is uniform in ±1/√in_features, as PEFT begins
    /// (`kaiming_uniform_` with `a = √5`), and B is zero. Equal for equal paths and seeds.
    ///
    /// # Errors
    /// A configuration that is out of range, that is for no module of the network, or whose
    /// modules are told by a pattern.
    pub fn new(base: &Config, config: LoraConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        let r = config.r;
        let mut modules = HashMap::new();
        for (path, [out_features, in_features]) in targeted(base, &config, config::FILE.as_ref())? {
            let mut state = seed_of(seed, &path);
            let bound = 1.0 / (in_features.max(1) as f32).sqrt();
            let a: Vec<_> = (0..r * in_features)
                .map(|_| bound * uniform(&mut state))
                .collect();
            let module = LoraModule {
                a: Tensor::from_vec(a, (r, in_features), &Device::Cpu)?,
                b: Tensor::zeros((out_features, r), DType::F32, &Device::Cpu)?,
            };
            modules.insert(path, module);
        }
        Ok(Self {
            name: "new".to_owned(),
            config,
            base: Base::of(base),
            modules,
        })
    }

    /// Reads a folder as PEFT writes it: `adapter_config.json`, and `adapter_model.safetensors` or
    /// `adapter_model.bin`. Matrices become f32 on the CPU.
    ///
    /// # Errors
    /// A configuration that is not read or implemented, a file that is cut or corrupt, a tensor that
    /// is missing, of a shape that does not go with the base, not finite, or no adapter of a module
    /// of the base.
    pub fn load(folder: impl AsRef<Path>, base: &Config) -> Result<Self> {
        file::load(folder.as_ref(), base)
    }

    /// Writes a folder that PEFT and [`LoraAdapter::load`] read. It must not exist yet, or be empty, and
    /// either holds the whole adapter afterwards or is not there.
    ///
    /// # Errors
    /// A target that holds something, or a file that can't be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        file::save(self, folder.as_ref())
    }

    /// What the adapter is called: its folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets what the adapter is called.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Shape and scale.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The matrices of a module by its checkpoint path, such as `model.layers.3.attention.wqkv`.
    pub fn module(&self, path: &str) -> Option<&LoraModule> {
        self.modules.get(path)
    }

    /// Paths of the modules that have an adapter, sorted.
    pub fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<_> = self.modules.keys().map(String::as_str).collect();
        paths.sort_unstable();
        paths
    }

    /// Elements of all matrices.
    pub fn num_parameters(&self) -> usize {
        let modules = self.modules.values();
        modules.map(|m| m.a.elem_count() + m.b.elem_count()).sum()
    }

    /// All matrices under PEFT's names, sorted.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::with_capacity(2 * self.modules.len());
        for path in self.paths() {
            let module = &self.modules[path];
            tensors.push((file::name_of_a(path), module.a.clone()));
            tensors.push((file::name_of_b(path), module.b.clone()));
        }
        tensors
    }

    /// Makes all matrices variables, so that [`Mode::Train`](crate::context::Mode::Train) gives
    /// them gradients, and returns them under PEFT's names, sorted. What is done to them later is
    /// done to this adapter and to its clones.
    ///
    /// # Errors
    /// A failed copy.
    pub fn vars(&mut self) -> Result<Vec<(String, Var)>> {
        let mut vars = Vec::with_capacity(2 * self.modules.len());
        for (path, module) in &mut self.modules {
            for (name, matrix) in [
                (file::name_of_a(path), &mut module.a),
                (file::name_of_b(path), &mut module.b),
            ] {
                let var = Var::from_tensor(matrix)?;
                *matrix = var.as_tensor().clone();
                vars.push((name, var));
            }
        }
        vars.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(vars)
    }

    /// The adapter on a model's device. On the CPU it is there already.
    ///
    /// # Errors
    /// A failed copy.
    pub fn to_device(mut self, device: &Device) -> Result<Self> {
        for module in self.modules.values_mut() {
            module.a = module.a.to_device(device)?;
            module.b = module.b.to_device(device)?;
        }
        Ok(self)
    }

    /// Refuses a model of other sizes.
    pub(crate) fn expect_base(&self, model: &Base) -> Result<()> {
        self.base.expect(&self.name, model)
    }

    /// What is added to a module's weight, `scale * B A`.
    ///
    /// # Shapes
    /// - out: `(out_features, in_features)`, f32
    pub(crate) fn delta(&self, path: &str) -> Result<Option<Tensor>> {
        match self.modules.get(path) {
            Some(module) => {
                let delta = (module.b.detach().matmul(&module.a.detach())? * self.config.scale())?;
                Ok(Some(delta))
            }
            None => Ok(None),
        }
    }
}

/// Adapters that the sequences of a batch choose from, by index.
///
/// Cheap to clone: adapters are shared.
#[derive(Clone, Debug, Default)]
pub struct AdapterSet {
    adapters: Vec<Arc<LoraAdapter>>,
}

impl AdapterSet {
    /// Adds an adapter; returns its index.
    pub fn push(&mut self, adapter: impl Into<Arc<LoraAdapter>>) -> usize {
        self.adapters.push(adapter.into());
        self.adapters.len() - 1
    }

    /// The adapters in the order of their indexes.
    pub fn adapters(&self) -> &[Arc<LoraAdapter>] {
        &self.adapters
    }

    pub(crate) fn adapter(&self, index: usize) -> Option<&LoraAdapter> {
        self.adapters.get(index).map(Arc::as_ref)
    }
}

impl<A: Into<Arc<LoraAdapter>>> FromIterator<A> for AdapterSet {
    fn from_iter<I: IntoIterator<Item = A>>(adapters: I) -> Self {
        Self {
            adapters: adapters.into_iter().map(Into::into).collect(),
        }
    }
}

/// The modules of a network that a configuration is for, with their `(out_features, in_features)`.
fn targeted(base: &Config, config: &LoraConfig, file: &Path) -> Result<Vec<(String, [usize; 2])>> {
    let refuse = |what| {
        Err(Error::Config {
            file: file.to_path_buf(),
            field: "target_modules".to_owned(),
            what,
        })
    };
    let names = base.weight_names();
    let mut targeted = Vec::new();
    for (path, shape) in linear_modules(base) {
        match config.targets(&path, names) {
            Some(true) => targeted.push((path, shape)),
            Some(false) => {}
            None => {
                return refuse("is a pattern, expected a list of names or all-linear".to_owned());
            }
        }
    }
    if targeted.is_empty() {
        let modules = linear_modules(base);
        let paths = modules.iter().map(|(path, _)| path.as_str()).take(7);
        let paths: Vec<_> = paths.collect();
        return refuse(format!(
            "is for no module of the base, expected some of {}, ...",
            paths.join(", ")
        ));
    }
    Ok(targeted)
}
