//! Who is asked.

use internlm_core::remote::{RemoteConfig, RemoteModel};
use internlm_eval::Run;
use internlm_examples::model::ModelArgs;
use internlm_examples::{Error, Result};
use internlm_serve::Engine;

use crate::arguments::RunArguments;

pub(crate) enum Models {
    Local(Box<Engine>),
    Remote(Box<RemoteModel>),
    /// Only answers that were made elsewhere are judged.
    Nobody,
}

impl Models {
    pub(crate) fn of(arguments: &RunArguments) -> Result<Self> {
        if arguments.judges_only() {
            return Ok(Models::Nobody);
        }
        match (&arguments.model, &arguments.base_url) {
            (Some(model), _) => {
                let model = ModelArgs {
                    model: model.clone(),
                    runtime: arguments.runtime.clone(),
                };
                Ok(Models::Local(Box::new(model.engine()?)))
            }
            (None, Some(url)) => {
                let mut config = RemoteConfig::new(url, &arguments.api_model);
                if let Some(key) = &arguments.api_key {
                    config = config.with_api_key(key);
                }
                Ok(Models::Remote(Box::new(RemoteModel::connect(config)?)))
            }
            (None, None) => Err(Error::Input(
                "expected --model PATH, or --base-url URL, or --predictions DIR".to_owned(),
            )),
        }
    }

    pub(crate) fn give_to<'a>(&'a self, run: Run<'a>) -> Run<'a> {
        match self {
            Models::Local(engine) => run.with_scorer(&**engine).with_chat_model(&**engine),
            Models::Remote(model) => run.with_scorer(&**model).with_chat_model(&**model),
            Models::Nobody => run,
        }
    }
}
