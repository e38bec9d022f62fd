//! Runs benchmarks against a local model or a server, and goes on where it stood.

mod arguments;
mod bar;
mod plan;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use internlm_agent::sandbox::{self, Sandbox, SandboxConfig};
use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeOutput, CodeRequest};
use internlm_eval::child::ChildProcess;
use internlm_eval::run::{Progress, Weights, merge};
use internlm_eval::{Benchmark, Report, Run, RunConfig, Task};
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program};
use serde::Serialize;

use self::arguments::{Arguments, Command, MergeArguments, RunArguments};
use self::bar::Bar;
use self::plan::{Plan, Tasks};

fn main() -> ExitCode {
    // A sandbox is this program, started once more: it must know that before anything else happens.
    sandbox::init();
    program::run(|arguments: Arguments| match arguments.command {
        Some(Command::Merge(merge)) => merged(&merge),
        None => run(&arguments.run),
    })
}

/// Set by the first interrupt.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn run(arguments: &RunArguments) -> Result<()> {
    let plan = Plan::of(arguments);
    let Tasks { tasks, missing } = plan.tasks(None)?;
    let code = match tasks.iter().find(|task| task.needs_code()) {
        Some(task) => Some(code(task, arguments.allow_unconfined_code)?),
        None => None,
    };
    // Where only answers that were made elsewhere are judged, nobody is asked.
    let source = match arguments.judges_only() {
        true => None,
        false => Some(arguments.source.open()?),
    };
    plan.save(&arguments.out)?;
    // A second interrupt ends the program at once; the journal has what is done.
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .map_err(|e| Error::Input(format!("waiting for interrupts: {e}")))?;
    let predictions = arguments.predictions()?;
    let bar = Bar::new();
    let on_progress = |progress: &Progress| {
        bar.show(progress);
        match INTERRUPTED.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let mut run = Run::new(arguments.config())
        .with_benchmarks(benchmarks(&tasks))
        .with_missing(missing)
        .with_on_progress(&on_progress);
    if let Some(name) = &arguments.name {
        run = run.with_name(name);
    }
    if let Some(code) = &code {
        run = run.with_code_executor(&**code);
    }
    if let Some(predictions) = &predictions {
        run = run.with_predictions(predictions);
    }
    if let Some(source) = &source {
        run = run
            .with_scorer(source.scorer())
            .with_chat_model(source.chat_model())
            .with_reward_model(source.reward_model())
            .with_weights(match arguments.source.model_args() {
                Some(model) => Weights::at(model.dir()?.path())?,
                None => Weights::Remote,
            });
    }
    let report = run.execute();
    bar.clear();
    let report = report?;
    if let Some(other) = &arguments.compare {
        return compare(arguments, other, &plan, &report);
    }
    show(&report, &arguments.out, arguments.json)
}

fn merged(arguments: &MergeArguments) -> Result<()> {
    let Some(first) = arguments.folders.first() else {
        return Err(Error::Input(
            "merge: expected the folders of the shards".to_owned(),
        ));
    };
    let plan = Plan::read(first)?;
    merge(&arguments.folders, &arguments.out)?;
    plan.save(&arguments.out)?;
    let report = offline(&plan, &arguments.out, arguments.data.as_deref())?;
    show(&report, &arguments.out, arguments.json)
}

/// The report of a folder, without a model.
fn offline(plan: &Plan, folder: &Path, data: Option<&Path>) -> Result<Report> {
    let Tasks { tasks, missing } = plan.tasks(data)?;
    let run = Run::new(RunConfig::default().with_folder(folder).with_offline(true))
        .with_benchmarks(benchmarks(&tasks))
        .with_missing(missing)
        .with_code_executor(&NothingRuns);
    Ok(run.execute()?)
}

/// What the model's code did is in the folder; should something be missing, its item fails.
struct NothingRuns;

impl CodeExecutor for NothingRuns {
    fn run(&self, _: &CodeRequest) -> internlm_core::Result<CodeOutput> {
        Err(internlm_core::Error::Request {
            field: "code",
            what: "is not run while a report is made".to_owned(),
        })
    }

    fn confinement(&self) -> &str {
        "nothing runs"
    }
}

fn compare(arguments: &RunArguments, other: &Path, plan: &Plan, report: &Report) -> Result<()> {
    // Its own tasks and shots: what differs is said beside what can be compared.
    let before = offline(&Plan::read(other)?.with_data_of(plan), other, None)?;
    let comparison = before.compare(report);
    let page = arguments.out.join("comparison.html");
    std::fs::write(&page, report.html_compared(&comparison))
        .map_err(Error::io(page.display().to_string()))?;
    show(report, &arguments.out, arguments.json)?;
    let mut output = Output::new(arguments.json);
    if arguments.json {
        for score in &comparison.scores {
            output.record(score, |_| String::new())?;
        }
        return Ok(());
    }
    output.text(&format!("\n{comparison}\n"))
}

fn benchmarks(tasks: &[Task]) -> impl Iterator<Item = &dyn Benchmark> {
    tasks.iter().map(|task| task as &dyn Benchmark)
}

/// What runs the code that a model wrote: the sandbox, or a plain child process where that was allowed.
fn code(task: &Task, unconfined: bool) -> Result<Box<dyn CodeExecutor>> {
    let code: Box<dyn CodeExecutor> = if unconfined {
        Box::new(ChildProcess::allow_unconfined()?)
    } else {
        Box::new(Sandbox::new(SandboxConfig::default()).map_err(|fault| {
            Error::Input(format!(
                "{} runs code that the model wrote, and there is no sandbox: {fault}; --allow-unconfined-code runs it \
                 as a plain child process, with limits of time and memory, that can read what you can read",
                task.name()
            ))
        })?)
    };
    tracing::info!("code of the model: {}", code.confinement());
    Ok(code)
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    task: &'a str,
    metric: &'a str,
    value: Option<f64>,
    stderr: Option<f64>,
    n: usize,
    failed: usize,
}

fn show(report: &Report, out: &Path, json: bool) -> Result<()> {
    let mut output = Output::new(json);
    if !json {
        let width = bar::columns();
        output.text(&format!("{report:width$}\n"))?;
        let page = out.join("report.html");
        return output.remark(&format!("the page with all items: {}", page.display()));
    }
    for benchmark in &report.benchmarks {
        let line = |metric, value, stderr, n| Line {
            task: &benchmark.name,
            metric,
            value,
            stderr,
            n,
            failed: benchmark.failed,
        };
        if benchmark.scores.is_empty() {
            output.record(&line("-", None, None, 0), |_| String::new())?;
        }
        for score in &benchmark.scores {
            let line = line(&score.metric, Some(score.value), score.stderr, score.n);
            output.record(&line, |_| String::new())?;
        }
    }
    for group in &report.groups {
        let figure = group.figure();
        let line = Line {
            task: &group.name,
            metric: &group.metric,
            value: figure.map(|(value, _)| value),
            stderr: figure.and_then(|(_, stderr)| stderr),
            n: group.items,
            failed: group.failed,
        };
        output.record(&line, |_| String::new())?;
    }
    Ok(())
}
