//! The tensors of a GGUF file under the checkpoint paths of the Hugging Face folder that it was
//! converted from.
//!
//! llama.cpp rotates neighbouring elements in the architectures `llama` and `internlm2`, so its
//! converter stores the rows of each q and k head as pairs; they are put back in order here
//! (`LlamaModel.permute` and `InternLM2Model` of `convert_hf_to_gguf.py`). It also takes
//! InternLM2's `wqkv` apart, which is presented as one tensor again: query heads of a group, key
//! head, value head, group by group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use internlm_core::gguf::Gguf;
use internlm_quant::ggml::GgmlType;

use super::file::SourceFile;
use super::source::{Block, ElementType, Presented, RowOrder, Stored, TensorSource};
use crate::config::{Architecture, Config, QkvLayout};
use crate::error::{Error, Result};

/// What a checkpoint path is made of.
#[derive(Debug)]
enum Recipe {
    /// A stored tensor as it is.
    Whole(String),
    /// The heads of a projection, their rows put back in order.
    Heads(String),
    /// Query, key and value heads, interleaved by group.
    Groups([String; 3]),
}

/// A GGUF file as a source of tensors.
#[derive(Debug)]
pub(super) struct GgufTensors {
    path: PathBuf,
    stored: BTreeMap<String, Stored>,
    recipes: BTreeMap<String, Recipe>,
    /// Names in the file that no path is made of.
    unused: BTreeSet<String>,
    config: Config,
}

impl GgufTensors {
    /// Finds the tensors of a configuration that was read from the same file.
    pub(super) fn new(gguf: &Gguf, config: &Config) -> Result<Self> {
        let file = Arc::new(SourceFile::open(&gguf.file)?);
        if file.len() < gguf.file_len {
            return Err(file.corrupt("was cut after its head was read"));
        }
        let stored: BTreeMap<_, _> = gguf
            .tensors
            .iter()
            .map(|(name, info)| {
                let element_type = match GgmlType::from_id(info.ggml_type) {
                    Some(known) => ElementType::Known(known),
                    None => {
                        let name = GgmlType::name_of(info.ggml_type).map(str::to_owned);
                        ElementType::Other(
                            name.unwrap_or_else(|| format!("number {}", info.ggml_type)),
                        )
                    }
                };
                let stored = Stored {
                    file: file.clone(),
                    offset: info.offset,
                    element_type,
                    shape: info.shape.iter().map(|&d| d as usize).collect(),
                };
                (name.clone(), stored)
            })
            .collect();
        let recipes = recipes(config, |name| stored.contains_key(name));
        let mut unused: BTreeSet<String> = stored.keys().cloned().collect();
        for recipe in recipes.values() {
            match recipe {
                Recipe::Whole(name) | Recipe::Heads(name) => _ = unused.remove(name),
                Recipe::Groups(names) => names.iter().for_each(|name| _ = unused.remove(name)),
            }
        }
        let tensors = Self {
            path: gguf.file.clone(),
            stored,
            recipes,
            unused,
            config: config.clone(),
        };
        tensors.check_heads()?;
        Ok(tensors)
    }

    /// Checks that tensors that are taken apart by heads have all of them.
    fn check_heads(&self) -> Result<()> {
        let (heads, kv_heads) = (
            self.config.num_attention_heads,
            self.config.num_key_value_heads,
        );
        for recipe in self.recipes.values() {
            let names = match recipe {
                Recipe::Whole(_) => continue,
                Recipe::Heads(name) => std::slice::from_ref(name),
                Recipe::Groups(names) => names,
            };
            for name in names {
                let stored = &self.stored[name];
                let heads = if name.contains("attn_q.") {
                    heads
                } else {
                    kv_heads
                };
                let rows = heads * self.config.head_dim;
                let mut want = stored.shape.clone();
                want.truncate(2);
                if let Some(first) = want.first_mut() {
                    *first = rows;
                }
                // Rows are moved one by one, so blocks must not cross them.
                let whole = match &stored.element_type {
                    ElementType::Known(t) => stored.columns().is_multiple_of(t.block_size()),
                    ElementType::I32 | ElementType::I8 | ElementType::Other(_) => true,
                };
                if stored.shape != want || !whole {
                    return Err(Error::TensorShape {
                        file: self.path.clone(),
                        name: name.clone(),
                        got: stored.shape.clone(),
                        want,
                    });
                }
            }
        }
        Ok(())
    }

    /// The rows of one head.
    fn head(&self, name: &str, head: usize, order: RowOrder) -> Block<'_> {
        Block {
            stored: &self.stored[name],
            first_row: head * self.config.head_dim,
            rows: self.config.head_dim,
            order,
        }
    }
}

impl TensorSource for GgufTensors {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<&str> {
        self.recipes
            .keys()
            .chain(&self.unused)
            .map(String::as_str)
            .collect()
    }

    fn find(&self, name: &str) -> Option<Presented<'_>> {
        Some(match self.recipes.get(name)? {
            Recipe::Whole(name) => {
                let stored = &self.stored[name];
                Presented {
                    shape: stored.shape.clone(),
                    blocks: vec![Block {
                        stored,
                        first_row: 0,
                        rows: stored.rows(),
                        order: RowOrder::HalfSplit,
                    }],
                }
            }
            Recipe::Heads(name) => {
                let stored = &self.stored[name];
                let heads = stored.rows() / self.config.head_dim;
                Presented {
                    shape: stored.shape.clone(),
                    blocks: (0..heads)
                        .map(|h| self.head(name, h, RowOrder::Paired))
                        .collect(),
                }
            }
            Recipe::Groups([q, k, v]) => {
                let group = self.config.num_attention_heads / self.config.num_key_value_heads;
                let mut blocks = Vec::new();
                for kv in 0..self.config.num_key_value_heads {
                    let heads = kv * group..(kv + 1) * group;
                    blocks.extend(heads.map(|h| self.head(q, h, RowOrder::Paired)));
                    blocks.push(self.head(k, kv, RowOrder::Paired));
                    blocks.push(self.head(v, kv, RowOrder::HalfSplit));
                }
                let mut shape = self.stored[q].shape.clone();
                shape[0] = blocks.len() * self.config.head_dim;
                Presented { shape, blocks }
            }
        })
    }

    fn files(&self) -> BTreeSet<&Path> {
        BTreeSet::from([self.path()])
    }
}

/// Checkpoint paths of everything that is there.
fn recipes(config: &Config, has: impl Fn(&str) -> bool) -> BTreeMap<String, Recipe> {
    let names = config.weight_names();
    let paired = config.architecture != Architecture::Qwen2;
    let mut recipes = BTreeMap::new();
    let mut put = |path: &str, stored: &str, heads: bool| {
        for suffix in ["weight", "bias"] {
            let stored = format!("{stored}.{suffix}");
            if has(&stored) {
                let recipe = if heads {
                    Recipe::Heads(stored)
                } else {
                    Recipe::Whole(stored)
                };
                recipes.insert(format!("{path}.{suffix}"), recipe);
            }
        }
    };
    put(names.embed_tokens, "token_embd", false);
    put(names.norm, "output_norm", false);
    put(names.head, "output", false);
    for layer in 0..config.num_hidden_layers {
        let path = |module: &str| format!("{}.{layer}.{module}", names.layers);
        let block = |module: &str| format!("blk.{layer}.{module}");
        for (module, stored) in [
            (names.attention_norm, "attn_norm"),
            (names.wo, "attn_output"),
            (names.ffn_norm, "ffn_norm"),
            (names.gate_up[0], "ffn_gate"),
            (names.gate_up[1], "ffn_up"),
            (names.down, "ffn_down"),
        ] {
            put(&path(module), &block(stored), false);
        }
        if let [q, k, v] = names.qkv {
            put(&path(q), &block("attn_q"), paired);
            put(&path(k), &block("attn_k"), paired);
            put(&path(v), &block("attn_v"), false);
        }
    }
    if config.qkv_layout() == QkvLayout::Interleaved {
        for layer in 0..config.num_hidden_layers {
            for suffix in ["weight", "bias"] {
                let parts = ["q", "k", "v"].map(|m| format!("blk.{layer}.attn_{m}.{suffix}"));
                if parts.iter().all(|part| has(part)) {
                    let path = format!("{}.{layer}.{}.{suffix}", names.layers, names.qkv[0]);
                    recipes.insert(path, Recipe::Groups(parts));
                }
            }
        }
    }
    recipes
}
