//! An agent with a calculator asks the server.

use std::path::Path;

use indicatif::ProgressBar;
use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::tools::Tools;
use internlm_agent::{Agent, tools, trace};
use internlm_core::SamplingParams;
use internlm_core::remote::{RemoteConfig, RemoteModel};
use internlm_examples::{Error, Result};
use serde_json::json;

use crate::stage::Stage;

/// What the agent is asked, a question a line with its answer after a tab.
pub(crate) const QUESTIONS: &str = include_str!("questions.tsv");

/// Asks all questions. The first turn of each is a call, which the server keeps to the tool's form; whether it is the
/// right one is counted, not required.
///
/// # Errors
/// The server can't be used, or the trace can't be written.
pub(crate) fn ask(url: &str, file: &Path, page: &Path, bar: &ProgressBar) -> Result<Stage> {
    let model = RemoteModel::connect(RemoteConfig::new(url, ""))?;
    let mut sampling = SamplingParams::greedy();
    sampling.max_new_tokens = Some(128);
    let agent = Agent::new(model)
        .with_protocol(Protocol::Tools(Tools::default().with_require_call(true)))
        .with_tool(tools::calculator())
        .with_sampling(sampling)
        .with_max_turns(3)
        .with_trace(file);
    let (mut asked, mut valid, mut right) = (0, 0, 0);
    bar.set_length(QUESTIONS.lines().count() as u64);
    for line in QUESTIONS.lines() {
        let (question, answer) = line.split_once('\t').unwrap_or((line, ""));
        let report = agent.run(question)?;
        asked += 1;
        let first = report.calls.first();
        valid += usize::from(first.is_some_and(|call| call.observed.is_ok()));
        right += usize::from(first.is_some_and(|call| call.observed.text() == answer));
        bar.inc(1);
    }
    let html = trace::html(&trace::read(file)?);
    std::fs::write(page, html).map_err(Error::io(page.display().to_string()))?;
    Ok(Stage {
        what: format!("{asked} questions; {}", page.display()),
        quality: Some(format!(
            "a call ran for {valid} of {asked}, with the right result for {right}"
        )),
        details: json!({"questions": asked, "calls_that_ran": valid, "right_results": right}),
        ..Stage::default()
    })
}
