//! The whole chain in one run: a checkpoint is read, quantized, evaluated before and after, served, and asked by an
//! agent with a tool. Every stage calls the public interface of one crate, and reads like the chain itself.

mod about;
mod agent;
mod arguments;
mod benchmark;
mod compress;
mod fingerprint;
mod page;
mod server;
mod stage;

use std::process::ExitCode;

use internlm_examples::model::weight_bytes;
use internlm_examples::output::Output;
use internlm_examples::{Result, program};
use internlm_model::ModelDir;
use serde_json::json;

use self::about::About;
use self::arguments::Arguments;
use self::server::Server;
use self::stage::{Stage, Stages};

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let original = arguments.model()?;
    let about = About::new(&arguments, &original)?;
    let mut stages = Stages::open(&arguments.out, &original, &about, arguments.json)?;

    stages.run("load", "", &[], |_| load(&arguments, &original, &about))?;
    let group_size = compress::group_size(&original)?;
    let quantized = arguments.out.join("model-w4a16");
    let how = format!("awq, groups of {group_size}");
    stages.run("quantize", &how, &[&quantized], |bar| {
        compress::quantize(&original, &quantized, group_size, bar)
    })?;
    let quantized = ModelDir::open(&quantized)?;

    let tasks = benchmark::tasks(&arguments)?;
    let (before, after) = (
        arguments.out.join("eval-before"),
        arguments.out.join("eval-after"),
    );
    stages.run("evaluate before", tasks.key(), &[&before], |bar| {
        benchmark::evaluate(&arguments, &original, &tasks, &before, bar)
    })?;
    stages.run("evaluate after", tasks.key(), &[&after], |bar| {
        benchmark::evaluate(&arguments, &quantized, &tasks, &after, bar)
    })?;

    let trace = arguments.out.join("agent.jsonl");
    let shown = trace.with_extension("html");
    let mut server = Server::of(&arguments, &quantized);
    stages.run("serve", "", &[], |_| server.start())?;
    stages.run("agent", agent::QUESTIONS, &[&trace, &shown], |bar| {
        agent::ask(server.url()?, &trace, &shown, bar)
    })?;

    let page = arguments.out.join("pipeline.html");
    page::write(&page, &about, stages.done())?;
    let mut output = Output::new(arguments.json);
    if !arguments.json {
        output.text(&stages.table())?;
        output.text(&format!("{}\n", page.display()))?;
    }
    Ok(())
}

/// The checkpoint as a model that could answer; it is dropped again, as later stages load what they need.
fn load(arguments: &Arguments, original: &ModelDir, about: &About) -> Result<Stage> {
    let model = arguments.model_args(original).text_model()?;
    let config = model.model().config();
    Ok(Stage {
        what: format!(
            "{} layers, {} wide, vocabulary of {}",
            config.num_hidden_layers, config.hidden_size, config.vocab_size
        ),
        bytes: Some(weight_bytes(original.path())?),
        details: json!(about),
        ..Stage::default()
    })
}
