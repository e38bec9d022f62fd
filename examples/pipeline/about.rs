//! Of what and where a run is: without this its figures say little.

use std::path::Path;

use internlm_examples::{Error, Result};
use internlm_kernels::Isa;
use internlm_model::ModelDir;
use serde::Serialize;

use crate::arguments::Arguments;

/// Model, machine, and how is computed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct About {
    /// The checkpoint's path.
    pub(crate) model: String,
    /// Processor, operating system, cores.
    pub(crate) machine: String,
    /// Instruction sets that kernels know and the processor has, and the one in use.
    pub(crate) features: String,
    /// Device and precision.
    pub(crate) computes: String,
}

impl About {
    /// What is known before anything is done.
    ///
    /// # Errors
    /// The model's path can't be made absolute; `INTERNLM_KERNELS` names what this processor lacks.
    pub(crate) fn new(arguments: &Arguments, model: &ModelDir) -> Result<Self> {
        let path = std::path::absolute(model.path()).map_err(Error::io("the model's path"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let processor = processor().unwrap_or_else(|| arch.to_owned());
        let used = Isa::from_env().map_err(|error| Error::Input(error.to_string()))?;
        let available: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        Ok(Self {
            model: path.display().to_string(),
            machine: format!("{processor}, {cores} cores, {os} on {arch}"),
            features: format!("{}; {} in use", available.join(", "), used.name()),
            computes: arguments.computes(),
        })
    }

    /// What figures depend on, besides the files of the model and a stage's own options.
    pub(crate) fn key(&self) -> String {
        format!(
            "{}; {}; {}; version {}",
            self.model,
            self.computes,
            self.features,
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Names and values, to be shown.
    pub(crate) fn facts(&self) -> [(&'static str, &str); 4] {
        [
            ("model", &self.model),
            ("machine", &self.machine),
            ("processor features", &self.features),
            ("computes with", &self.computes),
        ]
    }
}

/// The processor's name, where the system tells it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).ok()?;
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}
