//! The command line.

use std::path::PathBuf;

use clap::Parser;
use internlm_examples::model::{ModelArgs, Precision, RuntimeArgs};
use internlm_examples::{Error, Result};
use internlm_model::ModelDir;

/// What examples/fetch_smollm2.sh fetches.
const SMOLLM2: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The whole chain in one run: load, quantize to 4 bits, evaluate before and after, serve, and let an agent with a
/// tool answer questions over HTTP.
///
/// Stages that are done are skipped when the same command is given again.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// A folder in Hugging Face layout, a .gguf file or a hub id; without it the SmolLM2 that
    /// examples/fetch_smollm2.sh fetches
    #[arg(long, value_name = "PATH|ID")]
    model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,
    /// Train a model instead of loading one: not there yet
    #[arg(long, hide = true)]
    from_scratch: bool,
    /// Built-in tasks to evaluate, such as hellaswag,arc_easy; without it 24 capitals that come with this program
    #[arg(long, value_delimiter = ',', value_name = "A,B", requires = "data")]
    pub(crate) tasks: Vec<String>,
    /// The folder of the data sets of --tasks
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Only the first items of each task
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Where everything goes that is made
    #[arg(long, value_name = "DIR", default_value = "runs/pipeline")]
    pub(crate) out: PathBuf,
    /// Write one JSON object a stage
    #[arg(long)]
    pub(crate) json: bool,
}

impl Arguments {
    /// Where and how precisely is computed.
    pub(crate) fn computes(&self) -> String {
        let runtime = &self.runtime;
        let dtype = runtime.dtype.map_or("as stored", Precision::as_str);
        format!(
            "{}, weights {dtype}, activations {}, head {}",
            runtime.device,
            runtime.act.as_str(),
            runtime.head.as_str()
        )
    }

    /// How models of the run are loaded.
    pub(crate) fn model_args(&self, model: &ModelDir) -> ModelArgs {
        ModelArgs {
            model: model.path().to_owned(),
            runtime: self.runtime.clone(),
        }
    }

    /// The checkpoint to begin with.
    ///
    /// # Errors
    /// None was named, and SmolLM2 was not fetched.
    pub(crate) fn model(&self) -> Result<ModelDir> {
        if self.from_scratch {
            let what = "--from-scratch: there is no training yet; expected --model, or the fetched SmolLM2";
            return Err(Error::Input(what.to_owned()));
        }
        let model = self.model.clone().unwrap_or_else(|| PathBuf::from(SMOLLM2));
        let runtime = self.runtime.clone();
        ModelArgs { model, runtime }.dir()
    }
}
