//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use internlm_agent::agent::Limits;
use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::code::CodeAct;
use internlm_agent::protocol::internlm::InternLm;
use internlm_agent::protocol::planner::Planner;
use internlm_agent::protocol::react_json::ReActJson;
use internlm_agent::protocol::react_text::ReActText;
use internlm_agent::protocol::rewoo::ReWoo;
use internlm_agent::protocol::tools::Tools;
use internlm_core::SamplingParams;
use internlm_examples::sampling::SamplingArgs;
use internlm_examples::source::{Source, SourceArgs};
use internlm_examples::{Error, Result};

/// Answer with tools.
///
/// Without --ask it reads a question a line from stdin, each for itself. Without --model and --base-url it takes
/// the SmolLM2 that examples/fetch_smollm2.sh fetches.
#[derive(Parser)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How the model says what it calls
    #[arg(long, default_value = "openai")]
    pub(crate) protocol: Speech,
    /// Tools that it may call, by name
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B",
        default_value = "calculator"
    )]
    pub(crate) tools: Vec<String>,
    /// The folder that tools for files stay in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) root: PathBuf,
    /// A search engine with SearXNG's interface, for the tool web_search
    #[arg(long, value_name = "URL")]
    pub(crate) search: Option<String>,
    /// Servers of tools: the mcpServers file of other programs
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp: Option<PathBuf>,
    /// The question
    #[arg(long, value_name = "TEXT")]
    pub(crate) ask: Option<String>,
    /// Instructions before the question
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Let the model write calls as it likes. Without this an engine or a server that can keeps to the form of
    /// openai and react, and the first turn of openai is a call
    #[arg(long)]
    pub(crate) unconstrained: bool,
    /// Run calls that need approval without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Most requests to the model for a question
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) max_turns: usize,
    /// Most tokens of one answer of the model
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// Most seconds for a question
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) max_time: u64,
    /// Write what happens to the end of this file, a line of JSON each
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) trace: Option<PathBuf>,
    /// Make a page of --trace at the end
    #[arg(long, value_name = "FILE.html", requires = "trace")]
    pub(crate) page: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Write one JSON object a step, then {"answer"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// Protocols by the names of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Speech {
    /// The model's own interface for tools, which is InternLM2's markers with InternLM2
    Openai,
    /// InternLM2's markers, written into the prompt and read from the text
    Internlm,
    /// A thought and an action in JSON
    React,
    /// A thought and an action in text
    ReactText,
    /// A whole plan first
    Rewoo,
    /// Programs in fences, which the tool python runs in its sandbox
    Code,
    /// A graph of questions, each for a searcher: an agent of the same model that has the tools
    Planner,
}

/// The tool that runs programs.
const PYTHON: &str = "python";

impl Arguments {
    /// Refuses what can't work before anything is loaded.
    ///
    /// # Errors
    /// Markers for a server: its requests have no way to tell them from text.
    pub(crate) fn check(&self) -> Result<()> {
        if self.protocol == Speech::Internlm && self.source.base_url.is_some() {
            let what = "--protocol internlm: a server takes no markers in messages; expected --protocol openai, for \
                        which a server of InternLM2 writes and reads them, or --model";
            return Err(Error::Input(what.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn protocol(&self) -> Protocol {
        let constrained = !self.unconstrained;
        match self.protocol {
            Speech::Openai => Protocol::Tools(Tools::default().with_require_call(constrained)),
            // Code has markers of its own there.
            Speech::Internlm if self.tools.iter().any(|name| name == PYTHON) => {
                Protocol::InternLm(InternLm::default().with_interpreter(PYTHON))
            }
            Speech::Internlm => Protocol::InternLm(InternLm::default()),
            Speech::React => {
                Protocol::ReActJson(ReActJson::default().with_constrained(constrained))
            }
            Speech::ReactText => Protocol::ReActText(ReActText::default()),
            Speech::Rewoo => Protocol::ReWoo(ReWoo::default()),
            Speech::Code => Protocol::Code(CodeAct::default().with_interpreter(PYTHON)),
            Speech::Planner => Protocol::Planner(Planner::default()),
        }
    }

    /// The names of the tools; an agent whose every action is a program has python in any case.
    pub(crate) fn tools(&self) -> Vec<String> {
        let mut names = self.tools.clone();
        let lacks = !names.iter().any(|name| name == PYTHON);
        if self.protocol == Speech::Code && lacks {
            names.push(PYTHON.to_owned());
        }
        names
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::default()
            .with_max_turns(self.max_turns)
            .with_max_time(Duration::from_secs(self.max_time))
    }

    /// What was asked for, over what the checkpoint recommends; a server has its own.
    pub(crate) fn sampling(&self, source: &Source) -> SamplingParams {
        let defaults = match source {
            Source::Local(engine) => engine.model().recommended_sampling(),
            Source::Remote(_) => SamplingParams::default(),
        };
        let mut params = self.sampling.params(defaults);
        params.max_new_tokens = Some(self.max_new_tokens);
        params
    }
}
