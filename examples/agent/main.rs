//! A model that answers with tools.

mod approval;
mod arguments;
mod crew;
mod show;
mod tools;

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use internlm_agent::agent::AgentEvent;
use internlm_agent::{Agent, trace};
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program};

use self::arguments::Arguments;

/// What examples/fetch_smollm2.sh fetches.
const SMOLLM2: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

fn main() -> ExitCode {
    // A sandbox is this program, started once more: it must know that before anything else happens.
    internlm_agent::sandbox::init();
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    arguments.check()?;
    let search = arguments.search.as_deref();
    let mut tools = tools::named(&arguments.tools(), &arguments.root, search)?;
    let servers = arguments.mcp.as_deref().map(tools::servers).transpose()?;
    if let Some(servers) = &servers {
        for tool in servers.tools()? {
            tools.replace(tool);
        }
    }
    let source = arguments.source.clone();
    let source = source.or_model(Path::new(SMOLLM2)).open()?;
    let sampling = arguments.sampling(&source);
    sampling.validate()?;
    let mut agent = crew::of(&arguments, source.into_chat_model(), sampling, tools);
    if let Some(system) = &arguments.system {
        agent = agent.with_system(system);
    }
    let mut output = Output::new(arguments.json);
    let mut answer = |question: &str| answer(&agent, question, arguments.yes, &mut output);
    match &arguments.ask {
        Some(question) => answer(question)?,
        None => {
            for (i, line) in std::io::stdin().lock().lines().enumerate() {
                let question = line.map_err(Error::io("standard input"))?;
                if !question.trim().is_empty() {
                    answer(&question).map_err(|e| e.at_line(i + 1))?;
                }
            }
        }
    }
    if let (Some(file), Some(page)) = (&arguments.trace, &arguments.page) {
        let html = trace::html(&trace::read(file)?);
        std::fs::write(page, html).map_err(Error::io(page.display().to_string()))?;
    }
    Ok(())
}

/// Works on one question, with pauses in which a person decides.
fn answer(agent: &Agent, question: &str, yes: bool, output: &mut Output) -> Result<()> {
    let mut show = show::Show::new(output);
    let mut run = agent.start(question)?;
    loop {
        let mut paused = None;
        for event in run {
            let event = event?;
            show.event(&event)?;
            if let AgentEvent::Finished { report } = event {
                paused = report.paused;
            }
        }
        let Some(saved) = paused else {
            return Ok(());
        };
        run = agent.resume(approval::decide(*saved, yes)?)?;
    }
}
