//! A person decides on calls that need it.

use std::io::{BufRead, IsTerminal, Write};

use internlm_agent::agent::{Decision, SavedRun};
use internlm_agent::protocol::Call;
use internlm_examples::{Error, Result};

/// Decides on all calls that a run waits for: `--yes`, or a person at the terminal, or nobody, and then none is run.
pub(crate) fn decide(run: SavedRun, yes: bool) -> Result<SavedRun> {
    if yes {
        return Ok(run.allow_all());
    }
    let mut run = run;
    for call in run.waiting() {
        let decision = ask(&call)?;
        run = run.decide(call.id, decision);
    }
    Ok(run)
}

fn ask(call: &Call) -> Result<Decision> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        let why = "nobody is there to allow it";
        return Ok(Decision::Deny(why.to_owned()));
    }
    // Escaped as JSON, so that what a model writes can't hide in control characters.
    write!(stderr, "Run {} {}? [y/N] ", call.name, call.arguments)
        .and_then(|()| stderr.flush())
        .map_err(Error::io("standard error"))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    read.map_err(Error::io("standard input"))?;
    Ok(match line.trim() {
        "y" | "Y" | "yes" => Decision::Allow,
        _ => Decision::Deny("the user did not allow it".to_owned()),
    })
}
