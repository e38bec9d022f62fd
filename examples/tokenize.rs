//! Text to token ids and back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use internlm_examples::input::lines;
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, model, program};
use internlm_tokenize::{EncodeOptions, Tokenizer};
use serde::{Deserialize, Serialize};

/// Encode texts, or decode token ids.
///
/// Reads one JSON object a line from stdin: {"text", "add_bos"}, or with --decode and --stream
/// {"ids", "skip_special_tokens"}. The two flags in the objects are false where they are absent.
#[derive(Parser)]
struct Arguments {
    /// A folder with tokenizer files, a tokenizer.model, tokenizer.json or .gguf file, or a hub id
    #[arg(long, value_name = "PATH|ID")]
    model: PathBuf,
    /// Let special tokens that a text spells become their ids; without it they stay text
    #[arg(long)]
    special: bool,
    /// Turn ids into text
    #[arg(long)]
    decode: bool,
    /// Turn ids into text one by one, as they come from a model
    #[arg(long, conflicts_with = "decode")]
    stream: bool,
    /// Encode this text instead of reading stdin
    #[arg(long, conflicts_with_all = ["decode", "stream"])]
    text: Option<String>,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    #[serde(default)]
    add_bos: bool,
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<u32>,
    #[serde(default)]
    skip_special_tokens: bool,
}

const WANT_TEXT: &str = r#"{"text": "…", "add_bos": false}"#;
const WANT_IDS: &str = r#"{"ids": [1, 2], "skip_special_tokens": false}"#;

#[derive(Serialize)]
struct Encoded {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

#[derive(Serialize)]
struct Decoded {
    text: String,
}

#[derive(Serialize)]
struct Streamed {
    increments: Vec<String>,
    flush: String,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let tokenizer = model::tokenizer(&arguments.model)?;
    let mut output = Output::new(arguments.json);
    if arguments.decode || arguments.stream {
        for item in lines::<Ids>(WANT_IDS) {
            let (line, item) = item?;
            if arguments.decode {
                let decoded = decode(&tokenizer, &item).map_err(|e| e.at_line(line))?;
                output.record(&decoded, |d| d.text.clone())?;
            } else {
                let streamed = stream(&tokenizer, &item).map_err(|e| e.at_line(line))?;
                output.record(&streamed, show_stream)?;
            }
        }
        return Ok(());
    }
    let mut encode = |text: &str, add_bos: bool| -> Result<()> {
        let special = arguments.special;
        let encoded = encode(&tokenizer, text, EncodeOptions { add_bos, special })?;
        output.record(&encoded, show_tokens)
    };
    if let Some(text) = &arguments.text {
        return encode(text, tokenizer.adds_bos());
    }
    for item in lines::<Text>(WANT_TEXT) {
        let (line, item) = item?;
        encode(&item.text, item.add_bos).map_err(|e| e.at_line(line))?;
    }
    Ok(())
}

fn encode(tokenizer: &Tokenizer, text: &str, options: EncodeOptions) -> Result<Encoded> {
    let ids = tokenizer.encode(text, options)?;
    let token = |&id| tokenizer.id_to_token(id).unwrap_or_default();
    let tokens = ids.iter().map(token).collect();
    Ok(Encoded { ids, tokens })
}

fn decode(tokenizer: &Tokenizer, item: &Ids) -> Result<Decoded> {
    let text = tokenizer.decode(&item.ids, item.skip_special_tokens)?;
    Ok(Decoded { text })
}

fn stream(tokenizer: &Tokenizer, item: &Ids) -> Result<Streamed> {
    let mut detokenizer = tokenizer.detokenizer(item.skip_special_tokens);
    let increments = item.ids.iter().map(|&id| detokenizer.push(id));
    let increments = increments
        .collect::<Result<_, _>>()
        .map_err(Error::Tokenize)?;
    Ok(Streamed {
        increments,
        flush: detokenizer.flush(),
    })
}

fn show_tokens(encoded: &Encoded) -> String {
    let pairs = encoded.ids.iter().zip(&encoded.tokens);
    let shown: Vec<_> = pairs.map(|(id, token)| format!("{token:?} {id}")).collect();
    format!("{} tokens: {}", encoded.ids.len(), shown.join(", "))
}

fn show_stream(streamed: &Streamed) -> String {
    let mut shown: Vec<_> = streamed
        .increments
        .iter()
        .map(|text| format!("{text:?}"))
        .collect();
    if !streamed.flush.is_empty() {
        shown.push(format!("{:?} at the end", streamed.flush));
    }
    shown.join(" ")
}
