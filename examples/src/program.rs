//! From `main` to an exit status: 0, 1 with one line `error: …`, or 2 for wrong usage.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use crate::error::{Error, Result};

/// Parses the arguments and runs the program.
///
/// Wrong usage ends with status 2, an error with one line on stderr and status 1. A reader that
/// closes our output (`… | head`) ends the program with status 0. Should the program panic, one
/// line says so, and the status is 1.
pub fn run<A: Parser>(program: impl FnOnce(A) -> Result<()>) -> ExitCode {
    run_logging(LevelFilter::WARN, program)
}

/// The same for a program whose log is of interest at this level and above.
pub fn run_logging<A: Parser>(
    level: LevelFilter,
    program: impl FnOnce(A) -> Result<()>,
) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        report(&format!("this is a bug, please report it: {panic}"));
    }));
    let arguments = A::parse();
    log_to_stderr(level);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| program(arguments)));
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            report_error(&error);
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints `error: …`, on one line.
pub fn report_error(error: &Error) {
    report(&error.to_string());
}

fn report(what: &str) {
    let lines: Vec<_> = what
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    // Nothing is left to do where even stderr is closed.
    let _ = writeln!(std::io::stderr(), "error: {}", lines.join("; "));
}

/// What the libraries log at `default` and above, or at what `INTERNLM_LOG` (off, error, warn, info, debug,
/// trace) asks for.
fn log_to_stderr(default: LevelFilter) {
    let level = std::env::var("INTERNLM_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level.unwrap_or(default))
        .with_target(false)
        .without_time()
        .init();
}
