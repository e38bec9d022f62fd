//! Continue a prompt.

use std::process::ExitCode;

use clap::Parser;
use internlm_core::chat_model::{ChatRequest, Completion, Event, FinishReason, Input};
use internlm_core::{ChatModel, Part, SamplingParams};
use internlm_examples::input::lines;
use internlm_examples::model::ModelArgs;
use internlm_examples::output::Output;
use internlm_examples::sampling::SamplingArgs;
use internlm_examples::{Error, Result, program, progress};
use internlm_model::generate::TokenEvent;
use internlm_model::{CausalLm, TextModel};
use internlm_serve::{Engine, EngineConfig};
use serde::{Deserialize, Serialize};

/// Continue a text or token ids.
///
/// Without --prompt it reads one JSON object a line from stdin: {"text" or "ids",
/// "max_new_tokens"?}. Before a text BOS is put where the tokenizer adds it; ids are taken as they
/// are, and need no tokenizer. `ids` of the output are the new ones, without the one that ended
/// the answer.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Continue this text instead of reading stdin
    #[arg(long)]
    prompt: Option<String>,
    /// Most tokens to generate; a line's own number goes first
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Stop before this text; may be given several times
    #[arg(long)]
    stop: Vec<String>,
    /// Go on past end tokens
    #[arg(long)]
    ignore_eos: bool,
    /// Let special tokens that a prompt spells become their ids, and spell them out in the answer
    #[arg(long)]
    special: bool,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Item {
    text: Option<String>,
    ids: Option<Vec<u32>>,
    max_new_tokens: Option<usize>,
}

const WANT: &str = r#"{"text": "…"} or {"ids": [1, 2]}, with "max_new_tokens" if wanted"#;

#[derive(Serialize)]
struct Generated {
    ids: Vec<u32>,
    text: String,
    finish_reason: &'static str,
}

/// A model, with a tokenizer where its folder has one.
enum Model {
    Text(Engine),
    Ids(Box<CausalLm>),
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let (model, tokenizer) = arguments.model.model_and_tokenizer()?;
    let mut params = arguments
        .sampling
        .params(model.generation_config().sampling_params());
    params.max_new_tokens = Some(arguments.max_new_tokens);
    params.stop.clone_from(&arguments.stop);
    params.ignore_eos = arguments.ignore_eos;
    let model = match tokenizer {
        Some(tokenizer) => {
            let text = TextModel::new(model, tokenizer)?;
            Model::Text(Engine::new(text, EngineConfig::default())?)
        }
        None => Model::Ids(Box::new(model)),
    };
    let mut output = Output::new(arguments.json);
    if let Some(prompt) = &arguments.prompt {
        let input = model.encode(prompt, arguments.special)?;
        let generated = model.generate(input, params, arguments.special, &mut output)?;
        return finish(&generated, &mut output);
    }
    for item in lines::<Item>(WANT) {
        let (line, item) = item?;
        let at_line = |e: Error| e.at_line(line);
        let mut params = params.clone();
        params.max_new_tokens = item.max_new_tokens.or(params.max_new_tokens);
        let input = match (item.ids, item.text) {
            (Some(ids), None) => Input::Ids(ids),
            (None, Some(text)) => model.encode(&text, arguments.special).map_err(at_line)?,
            _ => return Err(at_line(Error::Input(format!("expected {WANT}")))),
        };
        let generated = model.generate(input, params, arguments.special, &mut output);
        finish(&generated.map_err(at_line)?, &mut output)?;
    }
    Ok(())
}

/// The object; a person has seen the text already.
fn finish(generated: &Generated, output: &mut Output) -> Result<()> {
    output.record(generated, |generated| {
        if generated.text.is_empty() {
            format!("{:?}", generated.ids)
        } else {
            String::new()
        }
    })
}

impl Model {
    fn encode(&self, text: &str, special: bool) -> Result<Input> {
        match self {
            Model::Text(model) if special => Ok(Input::Prompt(model.tokenizer().parse_markers(text))),
            Model::Text(_) => Ok(Input::Prompt(vec![Part::text(text)])),
            Model::Ids(_) => Err(Error::Input(
                "a text needs a tokenizer and the checkpoint has none; give `ids`, or put tokenizer.model or \
                 tokenizer.json beside the weights"
                    .to_owned(),
            )),
        }
    }

    /// Runs one request; without `--json` the text is printed as it comes.
    fn generate(
        &self,
        input: Input,
        params: SamplingParams,
        special: bool,
        output: &mut Output,
    ) -> Result<Generated> {
        match (self, input) {
            (Model::Text(model), input) => {
                let request = ChatRequest::new(input)
                    .with_sampling(params)
                    .with_keep_special_tokens(special);
                text(model, &request, output)
            }
            (Model::Ids(model), Input::Ids(prompt)) => ids(model, &prompt, &params),
            (Model::Ids(_), _) => Err(Error::Input("a text needs a tokenizer".to_owned())),
        }
    }
}

fn text(model: &Engine, request: &ChatRequest, output: &mut Output) -> Result<Generated> {
    let spinner = progress::spinner("reading the prompt");
    let mut completion = Completion::default();
    for event in model.generate(request)? {
        let event = event?;
        spinner.finish_and_clear();
        if let Event::Delta { text, .. } = &event
            && !output.is_json()
        {
            output.text(text)?;
        }
        completion.push(event);
    }
    Ok(Generated {
        ids: completion.ids,
        text: completion.text,
        finish_reason: completion.finish_reason.map_or("", FinishReason::as_str),
    })
}

fn ids(model: &CausalLm, prompt: &[u32], params: &SamplingParams) -> Result<Generated> {
    if !params.stop.is_empty() {
        return Err(Error::Input(
            "--stop needs a tokenizer and the checkpoint has none".to_owned(),
        ));
    }
    let mut generated = Generated {
        ids: Vec::new(),
        text: String::new(),
        finish_reason: "",
    };
    for event in model.generate(prompt, params)? {
        match event? {
            TokenEvent::Token { id, .. } => generated.ids.push(id),
            TokenEvent::Finish { reason, .. } => generated.finish_reason = reason.as_str(),
            _ => {}
        }
    }
    Ok(generated)
}
