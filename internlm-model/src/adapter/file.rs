//! Adapters on disk, in PEFT's layout.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};

use super::config::{self, LoraConfig, TargetModules};
use super::{Base, LoraAdapter, LoraModule, targeted};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::load::{NamedTensors, linear_modules, read_small};
use crate::save::{Staging, is_taken, write_json, write_shard};

/// What PEFT's classes put before a path of the base.
const PREFIX: &str = "base_model.model.";
const SUFFIX_A: &str = ".lora_A.weight";
const SUFFIX_B: &str = ".lora_B.weight";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT wrote before it knew safetensors.
const OLD_WEIGHTS: &str = "adapter_model.bin";
/// Most names that an error spells out.
const MAX_NAMES: usize = 10;

pub(super) fn name_of_a(path: &str) -> String {
    format!("{PREFIX}{path}{SUFFIX_A}")
}

pub(super) fn name_of_b(path: &str) -> String {
    format!("{PREFIX}{path}{SUFFIX_B}")
}

/// See [`LoraAdapter::load`].
pub(super) fn load(folder: &Path, base: &Config) -> Result<LoraAdapter> {
    let file = folder.join(config::FILE);
    let config = LoraConfig::from_json(&file, &read_small(&file)?)?;
    let weights = match folder.join(WEIGHTS) {
        weights if !weights.exists() && folder.join(OLD_WEIGHTS).exists() => {
            folder.join(OLD_WEIGHTS)
        }
        weights => weights,
    };
    let tensors = NamedTensors::open(&weights)?;
    let known: BTreeMap<_, _> = linear_modules(base).into_iter().collect();
    let found = paths(&tensors, &known, &weights)?;
    // Which modules the file must have: those that PEFT would look for. Others it would not use.
    let wanted: BTreeSet<String> = match &config.target_modules {
        TargetModules::Pattern(_) => found.into_iter().map(str::to_owned).collect(),
        _ => {
            let targeted = targeted(base, &config, &file)?.into_iter();
            let targeted: BTreeSet<_> = targeted.map(|(path, _)| path).collect();
            if let Some(path) = found.into_iter().find(|path| !targeted.contains(*path)) {
                return Err(Error::AdapterTensor {
                    file: weights,
                    name: name_of_a(path),
                    what: "is for a module that `target_modules` of adapter_config.json leaves out",
                });
            }
            targeted
        }
    };
    let names: BTreeSet<_> = tensors.names().into_iter().collect();
    let expected = wanted.iter().flat_map(|p| [name_of_a(p), name_of_b(p)]);
    let mut missing: Vec<_> = expected
        .filter(|name| !names.contains(name.as_str()))
        .collect();
    if !missing.is_empty() {
        let count = missing.len();
        missing.truncate(MAX_NAMES);
        return Err(Error::MissingTensors {
            file: weights,
            names: missing,
            count,
        });
    }
    let mut modules = HashMap::with_capacity(wanted.len());
    for path in wanted {
        let [out_features, in_features] = known[&path];
        let module = LoraModule {
            a: tensors.tensor(&name_of_a(&path), &[config.r, in_features])?,
            b: tensors.tensor(&name_of_b(&path), &[out_features, config.r])?,
        };
        modules.insert(path, module);
    }
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    Ok(LoraAdapter {
        name: name.to_string_lossy().into_owned(),
        config,
        base: Base::of(base),
        modules,
    })
}

/// The modules that a file holds a matrix of; anything else in it is an error.
fn paths<'t>(
    tensors: &'t NamedTensors,
    known: &BTreeMap<String, [usize; 2]>,
    file: &Path,
) -> Result<BTreeSet<&'t str>> {
    let mut paths = BTreeSet::new();
    for name in tensors.names() {
        let refuse = |what| {
            Err(Error::AdapterTensor {
                file: file.to_path_buf(),
                name: name.to_owned(),
                what,
            })
        };
        let Some(rest) = name.strip_prefix(PREFIX) else {
            return refuse("has another name than PEFT's, expected `base_model.model.` before it");
        };
        let path = rest.strip_suffix(SUFFIX_A);
        let Some(path) = path.or_else(|| rest.strip_suffix(SUFFIX_B)) else {
            return refuse(
                "is neither `lora_A.weight` nor `lora_B.weight`, others are not implemented",
            );
        };
        if !known.contains_key(path) {
            return refuse("is for no linear module of the base");
        }
        paths.insert(path);
    }
    if paths.is_empty() {
        return Err(Error::MissingTensors {
            file: file.to_path_buf(),
            names: known.keys().take(1).map(|path| name_of_a(path)).collect(),
            count: 2 * known.len(),
        });
    }
    Ok(paths)
}

/// See [`LoraAdapter::save`].
pub(super) fn save(adapter: &LoraAdapter, folder: &Path) -> Result<()> {
    if is_taken(folder)? {
        return Err(Error::OutputExists {
            path: folder.to_path_buf(),
        });
    }
    let staging = Staging::new(folder)?;
    let tensors: Result<Vec<(String, Tensor)>> = adapter
        .tensors()
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
        .collect();
    write_shard(&staging.path.join(WEIGHTS), &tensors?)?;
    write_json(&staging.path.join(config::FILE), &adapter.config.to_json())?;
    staging.finish(folder)
}
