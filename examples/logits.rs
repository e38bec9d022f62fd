//! A forward pass over token ids.

use std::process::ExitCode;

use clap::Parser;
use internlm_examples::input::lines;
use internlm_examples::model::{self, ModelArgs};
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program};
use internlm_model::batch::Logits;
use internlm_model::config::Head;
use internlm_model::sampler::argmax;
use internlm_model::{Batch, CausalLm, Context};
use serde::{Deserialize, Serialize};

/// Logits of every position, or the score of a reward model.
///
/// Reads one JSON object a line from stdin: {"ids"}. Writes {"logits": [[…], …]}, a row of
/// vocabulary size for each position; for a reward model {"score"}, its value at the last id.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Only the last position
    #[arg(long)]
    last: bool,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct Rows {
    logits: Vec<Vec<f32>>,
}

#[derive(Serialize)]
struct Score {
    score: f32,
}

/// Positions of one pass.
const CHUNK: usize = 256;

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let config = arguments.model.runtime.load_config()?;
    let model = model::load(&arguments.model.dir()?, config)?;
    let mut output = Output::new(arguments.json);
    for item in lines::<Ids>(r#"{"ids": [1, 2]}"#) {
        let (line, Ids { ids }) = item?;
        if matches!(model.config().head, Head::Reward { .. }) {
            let score = model
                .reward(&ids)
                .map_err(|e| Error::Model(e).at_line(line))?;
            output.record(&Score { score }, |s| s.score.to_string())?;
        } else {
            let logits = logits(&model, &ids, arguments.last).map_err(|e| e.at_line(line))?;
            let first = ids.len() - logits.len();
            output.record(&Rows { logits }, |rows| show(rows, first))?;
        }
    }
    Ok(())
}

/// Logits of all positions or of the last one, `(positions, vocab_size)`.
fn logits(model: &CausalLm, ids: &[u32], last: bool) -> Result<Vec<Vec<f32>>> {
    if ids.is_empty() {
        return Err(Error::Input(
            "`ids` is empty; expected at least one id".to_owned(),
        ));
    }
    let mut cache = model.new_cache()?;
    let mut rows = Vec::new();
    let mut start = 0;
    for chunk in ids.chunks(CHUNK) {
        let wanted = match last {
            false => Logits::All,
            true if start + chunk.len() == ids.len() => Logits::Last,
            true => Logits::None,
        };
        let mut batch = Batch::new();
        batch.push(0, chunk, start, ids.len(), wanted)?;
        let logits = model.forward(&batch, &mut Context::new(&mut cache))?;
        rows.extend(logits.to_vec2::<f32>()?);
        start += chunk.len();
    }
    if rows.iter().flatten().any(|x| !x.is_finite()) {
        // JSON has no words for them.
        return Err(Error::Input(
            "the logits are not finite: weights or activations overflow".to_owned(),
        ));
    }
    Ok(rows)
}

fn show(rows: &Rows, first: usize) -> String {
    let line = |(i, row): (usize, &Vec<f32>)| {
        let best = argmax(row);
        let logit = row.get(best as usize).copied().unwrap_or_default();
        format!(
            "position {}: most likely next is {best} with {logit}",
            first + i
        )
    };
    rows.logits
        .iter()
        .enumerate()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}
