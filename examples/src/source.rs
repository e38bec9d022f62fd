//! `--model` or `--base-url`: who answers, an engine in this program or a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use internlm_core::remote::{RemoteConfig, RemoteModel};
use internlm_core::{ChatModel, RewardModel, Scorer};
use internlm_serve::Engine;

use crate::error::{Error, Result};
use crate::model::{ModelArgs, RuntimeArgs};

/// A checkpoint, or a server that has one.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// A folder in Hugging Face layout, a .gguf file, or a hub id (org/name, org/name@revision)
    #[arg(long, value_name = "PATH|ID", conflicts_with = "base_url")]
    pub model: Option<PathBuf>,
    /// In place of --model: an OpenAI-compatible server
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// The model's name on the server; not needed where it has one
    #[arg(long, value_name = "NAME", default_value = "", requires = "base_url")]
    pub api_model: String,
    /// The server's key
    #[arg(long, value_name = "KEY", requires = "base_url")]
    pub api_key: Option<String>,
    /// Where and how precisely to compute.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Who answers.
#[derive(Debug)]
pub enum Source {
    /// An engine in this program.
    Local(Box<Engine>),
    /// A server.
    Remote(Box<RemoteModel>),
}

impl SourceArgs {
    /// Takes this model where neither a model nor a server was named.
    #[must_use]
    pub fn or_model(mut self, path: &Path) -> Self {
        if self.model.is_none() && self.base_url.is_none() {
            self.model = Some(path.to_owned());
        }
        self
    }

    /// The checkpoint, if one was named.
    pub fn model_args(&self) -> Option<ModelArgs> {
        let model = self.model.clone()?;
        let runtime = self.runtime.clone();
        Some(ModelArgs { model, runtime })
    }

    /// Loads the model, or connects to the server.
    ///
    /// # Errors
    /// Neither was named, the checkpoint lacks something, or the server can't be used.
    pub fn open(&self) -> Result<Source> {
        match (self.model_args(), &self.base_url) {
            (Some(model), _) => Ok(Source::Local(Box::new(model.engine()?))),
            (None, Some(url)) => {
                let mut config = RemoteConfig::new(url, &self.api_model);
                if let Some(key) = &self.api_key {
                    config = config.with_api_key(key);
                }
                Ok(Source::Remote(Box::new(RemoteModel::connect(config)?)))
            }
            (None, None) => Err(Error::Input(
                "expected --model PATH or --base-url URL".to_owned(),
            )),
        }
    }
}

impl Source {
    /// What answers.
    pub fn chat_model(&self) -> &dyn ChatModel {
        match self {
            Source::Local(engine) => &**engine,
            Source::Remote(model) => &**model,
        }
    }

    /// What scores.
    pub fn scorer(&self) -> &dyn Scorer {
        match self {
            Source::Local(engine) => &**engine,
            Source::Remote(model) => &**model,
        }
    }

    /// What gives conversations a score, where it is a reward model.
    pub fn reward_model(&self) -> &dyn RewardModel {
        match self {
            Source::Local(engine) => &**engine,
            Source::Remote(model) => &**model,
        }
    }

    /// What answers, to be given away.
    pub fn into_chat_model(self) -> Arc<dyn ChatModel> {
        match self {
            Source::Local(engine) => Arc::from(engine as Box<dyn ChatModel>),
            Source::Remote(model) => Arc::from(model as Box<dyn ChatModel>),
        }
    }
}
