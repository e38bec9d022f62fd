//! Talk to a model in the terminal.

mod command;
mod conversation;
mod interrupt;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use internlm_examples::model::ModelArgs;
use internlm_examples::output::Output;
use internlm_examples::sampling::SamplingArgs;
use internlm_examples::{Error, Result, program};
use internlm_serve::{Engine, EngineConfig};
use internlm_tokenize::ChatTemplate;
use serde::Serialize;

use conversation::{Answer, Conversation};
use interrupt::Interrupt;

/// Talk to a model.
///
/// In the terminal: a backslash at the end of a line goes on with the next line, Ctrl-C stops an
/// answer, /help lists the commands. The conversation is kept within the context: the oldest
/// turns are dropped first, the system prompt stays.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Say one thing, print the answer and end
    #[arg(long, value_name = "TEXT")]
    once: Option<String>,
    /// With --once: write {"text", "usage"}
    #[arg(long, requires = "once")]
    json: bool,
    /// internlm-chat, internlm-chat-eoh, internlm2-chat or internlm3-instruct; without it the
    /// checkpoint's own template, else one chosen by its special tokens
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 1024)]
    max_new_tokens: usize,
    /// Most tokens of conversation and answer together; the model's own limit without it
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Serialize)]
struct Once {
    text: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let template = arguments
        .template
        .as_deref()
        .map(ChatTemplate::builtin)
        .transpose()?;
    let mut model = arguments.model.text_model()?;
    if template.is_some() {
        model = model.with_template(template);
    } else if model.template().is_none() {
        // Says why there is none.
        ChatTemplate::for_tokenizer(model.tokenizer())?;
    }
    let mut sampling = arguments
        .sampling
        .params(model.model().recommended_sampling());
    sampling.max_new_tokens = Some(arguments.max_new_tokens);
    sampling.validate()?;
    let engine = Engine::new(model, EngineConfig::default())?;
    let mut conversation = Conversation::new(engine, sampling, arguments.context);
    conversation.set_system(arguments.system);
    let mut output = Output::new(arguments.json);
    match arguments.once {
        Some(text) => once(&mut conversation, &text, &interrupt, &mut output),
        None => terminal::talk(&mut conversation, &interrupt, &mut output),
    }
}

fn once(
    conversation: &mut Conversation,
    text: &str,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<()> {
    let answering = interrupt.answering();
    let answer = conversation.say(text, &answering, |text| {
        if output.is_json() {
            Ok(())
        } else {
            output.text(text)
        }
    })?;
    drop(answering);
    if answer.interrupted {
        return Err(Error::Input("interrupted".to_owned()));
    }
    let Answer { text, usage, .. } = answer;
    let usage = Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.total_tokens(),
    };
    output.record(&Once { text, usage }, |_| String::new())
}
