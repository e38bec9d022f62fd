//! `adapter_config.json` as PEFT writes it.
//!
//! PEFT adds options with each release, so unknown ones are accepted; those that change what an
//! adapter computes, and that are not implemented, are refused by name.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::WeightNames;
use crate::config::keys::Keys;
use crate::error::{Error, Result};

/// The file's name, also where errors speak of a configuration that is in no file.
pub(super) const FILE: &str = "adapter_config.json";
/// Largest rank; that of the largest square matrices there are.
const MAX_RANK: usize = 1 << 16;

/// Options that must be absent, `null`, `false` or empty, because they change what is computed.
const NOT_IMPLEMENTED: [&str; 19] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "exclude_modules",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "layers_pattern",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];

/// Ways to begin that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) change it,
/// so that their adapters are wrong over the base itself.
const INIT_OF_ADAPTER_ALONE: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Which modules have an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear module but the head.
    #[default]
    AllLinear,
    /// Paths, or their last parts: `wqkv`, `feed_forward.w1`, `model.layers.0.attention.wo`.
    Names(Vec<String>),
    /// A regular expression of Python for whole paths. It is kept, not evaluated: the file's
    /// tensors tell the modules, and a new adapter can't be made from it.
    Pattern(String),
}

/// Shape and scale of a LoRA adapter (arXiv 2106.09685), as PEFT's `LoraConfig`, with its defaults.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rank: rows of A and columns of B. At least 1.
    pub r: usize,
    /// What is added is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// The share of inputs that training drops, in 0..1. Kept as data; a forward pass drops none.
    pub lora_dropout: f64,
    /// Which modules have an adapter.
    pub target_modules: TargetModules,
    /// The layers whose modules have one; without it all. Only where `target_modules` are names.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Divides `lora_alpha` by the root of `r` instead (rsLoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// What PEFT's classes take the base for; `CAUSAL_LM` for language models.
    pub task_type: Option<String>,
    /// Where the base was found when the adapter was trained. Kept as data.
    pub base_model_name_or_path: Option<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::AllLinear,
            layers_to_transform: None,
            use_rslora: false,
            task_type: Some("CAUSAL_LM".to_owned()),
            base_model_name_or_path: None,
        }
    }
}

impl LoraConfig {
    /// Sets the rank.
    #[must_use]
    pub fn with_rank(mut self, r: usize) -> Self {
        self.r = r;
        self
    }

    /// Sets `lora_alpha`.
    #[must_use]
    pub fn with_alpha(mut self, lora_alpha: f64) -> Self {
        self.lora_alpha = lora_alpha;
        self
    }

    /// Sets the share of inputs that training drops.
    #[must_use]
    pub fn with_dropout(mut self, lora_dropout: f64) -> Self {
        self.lora_dropout = lora_dropout;
        self
    }

    /// Chooses modules by path or last parts of it.
    #[must_use]
    pub fn with_target_modules(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.target_modules = TargetModules::Names(names);
        self
    }

    /// Chooses the layers whose modules have an adapter.
    #[must_use]
    pub fn with_layers_to_transform(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.layers_to_transform = Some(layers.into_iter().collect());
        self
    }

    /// Chooses the scale of rsLoRA.
    #[must_use]
    pub fn with_rslora(mut self, use_rslora: bool) -> Self {
        self.use_rslora = use_rslora;
        self
    }

    /// Sets what is said about where the base is.
    #[must_use]
    pub fn with_base_model(mut self, name_or_path: impl Into<String>) -> Self {
        self.base_model_name_or_path = Some(name_or_path.into());
        self
    }

    /// What `B · A` is multiplied by.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Reads and checks the bytes of an `adapter_config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// [`Error::Json`] for bytes that are not a JSON object, [`Error::Config`] for a key that is
    /// missing, of the wrong kind or out of range, or an option that is not implemented.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<Self> {
        let map: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|source| Error::Json {
                file: file.to_path_buf(),
                source,
            })?;
        let keys = Keys::new(file, &map);
        refuse_other_adapters(&keys)?;
        let default = Self::default();
        let string = |key| Ok::<_, Error>(keys.string(key)?.map(str::to_owned));
        let config = Self {
            r: keys.size("r")?.unwrap_or(default.r),
            lora_alpha: keys.number("lora_alpha")?.unwrap_or(default.lora_alpha),
            lora_dropout: keys.number("lora_dropout")?.unwrap_or(default.lora_dropout),
            target_modules: target_modules(&keys)?,
            layers_to_transform: layers(&keys)?,
            use_rslora: keys.bool("use_rslora")?.unwrap_or(default.use_rslora),
            task_type: string("task_type")?,
            base_model_name_or_path: string("base_model_name_or_path")?,
        };
        config.check(&keys)?;
        Ok(config)
    }

    /// Refuses values out of range.
    pub(super) fn validate(&self) -> Result<()> {
        self.check(&Keys::new(FILE.as_ref(), &Map::new()))
    }

    fn check(&self, keys: &Keys<'_>) -> Result<()> {
        if !(1..=MAX_RANK).contains(&self.r) {
            let what = format!("is {}, expected 1 to {MAX_RANK}", self.r);
            return Err(keys.wrong("r", what));
        }
        if !self.lora_alpha.is_finite() {
            return Err(keys.wrong("lora_alpha", "is not finite"));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            let what = format!("is {}, expected 0 or more, less than 1", self.lora_dropout);
            return Err(keys.wrong("lora_dropout", what));
        }
        match &self.target_modules {
            TargetModules::Names(names) if names.is_empty() => {
                Err(keys.wrong("target_modules", "is empty, expected at least one name"))
            }
            TargetModules::Names(_) => Ok(()),
            // As in PEFT.
            _ if self.layers_to_transform.is_some() => Err(keys.wrong(
                "layers_to_transform",
                "is set, expected null where target_modules is a string",
            )),
            _ => Ok(()),
        }
    }

    /// The JSON that PEFT reads: what this reader knows, and nothing else.
    pub fn to_json(&self) -> Value {
        let lora_alpha = match self.lora_alpha {
            // PEFT's type is a whole number.
            alpha if alpha.fract() == 0.0 && alpha.abs() < 1e9 => json!(alpha as i64),
            alpha => json!(alpha),
        };
        let target_modules = match &self.target_modules {
            TargetModules::AllLinear => json!("all-linear"),
            TargetModules::Names(names) => json!(names),
            TargetModules::Pattern(pattern) => json!(pattern),
        };
        json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": self.layers_to_transform,
            "lora_alpha": lora_alpha,
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": {},
            "revision": null,
            "target_modules": target_modules,
            "task_type": self.task_type,
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }

    /// Whether the module of a path has an adapter; `None` where a pattern would have to tell.
    pub(super) fn targets(&self, path: &str, names: &WeightNames) -> Option<bool> {
        let targets = match &self.target_modules {
            TargetModules::AllLinear => path != names.head && path != names.v_head,
            TargetModules::Pattern(_) => return None,
            // A path that is given in full has its adapter whatever the layers are, as in PEFT.
            TargetModules::Names(targets) if targets.iter().any(|name| name == path) => true,
            TargetModules::Names(targets) => {
                let ends = |name: &String| {
                    let rest = path.strip_suffix(name.as_str());
                    rest.is_some_and(|rest| rest.ends_with('.'))
                };
                targets.iter().any(ends) && self.transforms(path, names)
            }
        };
        Some(targets)
    }

    /// Whether a path's layer is one of those that are chosen.
    fn transforms(&self, path: &str, names: &WeightNames) -> bool {
        match self.layers_to_transform.as_deref() {
            None | Some([]) => true,
            Some(layers) => {
                let below = path.strip_prefix(names.layers);
                let below = below.and_then(|below| below.strip_prefix('.'));
                let layer = below.and_then(|below| below.split('.').next()?.parse().ok());
                layer.is_some_and(|layer| layers.contains(&layer))
            }
        }
    }
}

/// Refuses adapters of other kinds, and options that change what is computed.
fn refuse_other_adapters(keys: &Keys<'_>) -> Result<()> {
    match keys.string("peft_type")? {
        Some("LORA") => {}
        Some(other) => {
            return Err(keys.wrong("peft_type", format!("is {other}, expected LORA")));
        }
        None => return Err(keys.wrong("peft_type", "is missing, expected LORA")),
    }
    if let Some(bias @ ("all" | "lora_only")) = keys.string("bias")? {
        return Err(keys.wrong("bias", format!("is {bias}, expected none")));
    }
    for key in NOT_IMPLEMENTED {
        let unset = match keys.value(key) {
            None | Some(Value::Bool(false)) => true,
            Some(Value::Array(v)) => v.is_empty(),
            Some(Value::Object(v)) => v.is_empty(),
            Some(_) => false,
        };
        if !unset {
            return Err(keys.wrong(key, "is set, which is not implemented"));
        }
    }
    match keys.value("init_lora_weights") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::String(init)) if INIT_OF_ADAPTER_ALONE.contains(&init.as_str()) => Ok(()),
        Some(_) => Err(keys.wrong(
            "init_lora_weights",
            "is a way that may change the base, expected true, false, gaussian, eva or orthogonal",
        )),
    }
}

fn target_modules(keys: &Keys<'_>) -> Result<TargetModules> {
    let wrong = |what| keys.wrong("target_modules", what);
    match keys.value("target_modules") {
        Some(Value::String(name)) if name.eq_ignore_ascii_case("all-linear") => {
            Ok(TargetModules::AllLinear)
        }
        Some(Value::String(pattern)) => Ok(TargetModules::Pattern(pattern.clone())),
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            let names: Option<Vec<_>> = names.collect();
            let names = names.ok_or_else(|| wrong("is not a list of strings"))?;
            Ok(TargetModules::Names(names))
        }
        Some(_) => Err(wrong("is neither a list of names nor a string")),
        None => Err(wrong("is missing, expected a list of names or a string")),
    }
}

/// One layer or a list of them.
fn layers(keys: &Keys<'_>) -> Result<Option<Vec<usize>>> {
    let layer = |value: &Value| value.as_u64().and_then(|v| usize::try_from(v).ok());
    let layers = match keys.value("layers_to_transform") {
        None => return Ok(None),
        Some(Value::Array(layers)) => layers.iter().map(layer).collect::<Option<Vec<_>>>(),
        Some(one) => layer(one).map(|one| vec![one]),
    };
    match layers {
        Some(layers) => Ok(Some(layers)),
        None => Err(keys.wrong(
            "layers_to_transform",
            "is neither a number of a layer nor a list of them",
        )),
    }
}
