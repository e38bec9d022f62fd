//! Perplexity of a text.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use internlm_examples::model::ModelArgs;
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program, progress};
use internlm_model::score::ScoreSpan;
use internlm_tokenize::EncodeOptions;
use serde::Serialize;

/// Perplexity of a text file.
///
/// The whole file is encoded once, without BOS, and cut into windows of N tokens that do not
/// overlap; a remainder is dropped. In each window every token but the first is predicted:
/// N - 1 predictions. The perplexity is exp of the mean negative log-likelihood of them all.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, UTF-8
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512)]
    window: usize,
    /// Only the first windows
    #[arg(long, value_name = "K")]
    max_windows: Option<usize>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ppl: f64,
    /// Tokens that were predicted.
    tokens: usize,
    windows: usize,
    /// Of the model's work; loading and encoding are not counted.
    seconds: f64,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let text = std::fs::read_to_string(&arguments.text);
    let text = text.map_err(Error::io(arguments.text.display().to_string()))?;
    let window = arguments.window;
    if window < 2 {
        return Err(Error::Input(format!(
            "--window {window}: expected at least 2 tokens"
        )));
    }
    let model = arguments.model.text_model()?;
    let ids = model.tokenizer().encode(&text, EncodeOptions::default())?;
    let count = (ids.len() / window).min(arguments.max_windows.unwrap_or(usize::MAX));
    if count == 0 {
        return Err(Error::Input(format!(
            "{}: {} tokens make no window of {window}; expected a longer text, a smaller --window or a larger \
             --max-windows",
            arguments.text.display(),
            ids.len()
        )));
    }
    let longest = model.model().config().context_length();
    if window > longest {
        return Err(Error::Input(format!(
            "--window {window}: the model's context holds {longest} tokens"
        )));
    }

    let bar = progress::bar(count as u64, "windows");
    let begin = Instant::now();
    let (mut sum, mut tokens) = (0.0, 0);
    for window in ids.chunks_exact(window).take(count) {
        let span = ScoreSpan {
            ids: window,
            scored: window.len() - 1,
        };
        for score in model.model().score(&[span])?.iter().flatten() {
            sum += f64::from(score.logprob);
            tokens += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report {
        ppl: (-sum / tokens as f64).exp(),
        tokens,
        windows: count,
        seconds: begin.elapsed().as_secs_f64(),
    };
    Output::new(arguments.json).record(&report, |r| {
        format!(
            "perplexity {:.4} over {} tokens in {} windows, {:.1} s",
            r.ppl, r.tokens, r.windows, r.seconds
        )
    })
}
