//! How likely a model finds given continuations.

use std::process::ExitCode;

use clap::Parser;
use internlm_core::Scorer;
use internlm_core::scorer::{ScoreRequest, TokenScore};
use internlm_examples::input::lines;
use internlm_examples::model::ModelArgs;
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program};
use internlm_serve::Engine;
use serde::Serialize;

/// Score continuations by lm-evaluation-harness's rules.
///
/// Reads one JSON object a line from stdin: {"context", "continuation"}, each a text or a list of
/// token ids. `logprob` is the sum over the continuation's tokens, a natural logarithm.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Most lines that are scored together; fewer are not waited for
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Score {
    logprob: f64,
    num_tokens: usize,
    is_greedy: bool,
}

impl Score {
    fn of(tokens: &[TokenScore]) -> Self {
        Self {
            logprob: tokens.iter().map(|t| f64::from(t.logprob)).sum(),
            num_tokens: tokens.len(),
            is_greedy: tokens.iter().all(|t| t.is_argmax),
        }
    }
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let engine = arguments.model.engine()?;
    let mut output = Output::new(arguments.json);
    let mut lines = lines::<ScoreRequest>(r#"{"context": "…", "continuation": "…"}"#);
    while let Some(batch) = lines.batch(arguments.batch) {
        let (numbers, requests): (Vec<_>, Vec<_>) = batch?.into_iter().unzip();
        match engine.score(&requests) {
            Ok(scores) => {
                for tokens in &scores {
                    write(&mut output, tokens)?;
                }
            }
            // One by one, to answer the good ones and to name the line of the other.
            Err(_) => {
                for (number, request) in numbers.into_iter().zip(requests) {
                    let tokens = score_one(&engine, request).map_err(|e| e.at_line(number))?;
                    write(&mut output, &tokens)?;
                }
            }
        }
    }
    Ok(())
}

fn score_one(engine: &Engine, request: ScoreRequest) -> Result<Vec<TokenScore>> {
    let scores = engine.score(&[request])?;
    scores
        .into_iter()
        .next()
        .ok_or_else(|| Error::Input("no score".to_owned()))
}

fn write(output: &mut Output, tokens: &[TokenScore]) -> Result<()> {
    output.record(&Score::of(tokens), |s| {
        let greedy = if s.is_greedy { ", greedy" } else { "" };
        format!("{:.4} over {} tokens{greedy}", s.logprob, s.num_tokens)
    })
}
