//! Chat messages to the prompt that a model reads.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use internlm_core::{Message, Part, Role, ToolSpec, message};
use internlm_examples::input::lines;
use internlm_examples::output::Output;
use internlm_examples::{Result, model, program};
use internlm_tokenize::{ChatTemplate, Tokenizer};
use serde::{Deserialize, Serialize};

/// Render chat messages.
///
/// Reads one JSON object a line from stdin: {"messages", "tools"?, "add_generation_prompt"?}; the
/// last is true where it is absent. `prompt` is the text without BOS, unless the checkpoint's own
/// template writes it; `ids` begin with BOS where the tokenizer adds it.
#[derive(Parser)]
struct Arguments {
    /// A folder with tokenizer files, a .gguf file, or a hub id; without it `ids` are null
    #[arg(long, value_name = "PATH|ID", required_unless_present = "template")]
    model: Option<PathBuf>,
    /// internlm-chat, internlm-chat-eoh, internlm2-chat or internlm3-instruct; without it the
    /// checkpoint's own template, else one chosen by its special tokens
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Let special tokens that any message spells become their ids, as the official Python code
    /// does; without it only the assistant's may
    #[arg(long)]
    special: bool,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Option<Vec<ToolSpec>>,
    #[serde(default = "yes")]
    add_generation_prompt: bool,
}

fn yes() -> bool {
    true
}

const WANT: &str =
    r#"{"messages": [{"role": "user", "content": "…"}], "add_generation_prompt": true}"#;

#[derive(Serialize)]
struct Rendered {
    prompt: String,
    ids: Option<Vec<u32>>,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let tokenizer = arguments
        .model
        .as_deref()
        .map(model::tokenizer)
        .transpose()?;
    let template = match (&arguments.template, &tokenizer) {
        (Some(name), _) => ChatTemplate::builtin(name)?,
        (None, Some(tokenizer)) => ChatTemplate::for_tokenizer(tokenizer)?,
        (None, None) => return Ok(()), // clap asks for one of the two
    };
    let mut output = Output::new(arguments.json);
    for item in lines::<Conversation>(WANT) {
        let (line, conversation) = item?;
        let rendered = render(
            conversation,
            &template,
            tokenizer.as_ref(),
            arguments.special,
        );
        output.record(&rendered.map_err(|e| e.at_line(line))?, show)?;
    }
    Ok(())
}

fn render(
    mut conversation: Conversation,
    template: &ChatTemplate,
    tokenizer: Option<&Tokenizer>,
    special: bool,
) -> Result<Rendered> {
    if let Some(tokenizer) = tokenizer {
        for message in &mut conversation.messages {
            // What the model wrote itself holds its own markers, as those around a tool call.
            if special || message.role == Role::Assistant {
                message.content = with_markers(tokenizer, &message.content);
            }
        }
    }
    let tools = conversation.tools.unwrap_or_default();
    let parts = template.render(
        &conversation.messages,
        &tools,
        conversation.add_generation_prompt,
    )?;
    let ids = tokenizer
        .map(|t| t.encode_parts(&parts, t.adds_bos()))
        .transpose()?;
    Ok(Rendered {
        prompt: message::join(&parts),
        ids,
    })
}

fn with_markers(tokenizer: &Tokenizer, content: &[Part]) -> Vec<Part> {
    let parse = |part: &Part| match part {
        Part::Text { text } => tokenizer.parse_markers(text),
        marker => vec![marker.clone()],
    };
    content.iter().flat_map(parse).collect()
}

fn show(rendered: &Rendered) -> String {
    match &rendered.ids {
        Some(ids) => format!("{}\n{} tokens: {ids:?}", rendered.prompt, ids.len()),
        None => rendered.prompt.clone(),
    }
}
