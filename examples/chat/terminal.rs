//! The loop of prompt and answer.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program};

use super::command::{Command, HELP};
use super::conversation::{Answer, Conversation};
use super::interrupt::Interrupt;

/// Talks until the input ends or `/exit`. Without a terminal each line is said in turn, and the
/// first failure ends the program.
pub(crate) fn talk(
    conversation: &mut Conversation,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<()> {
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        output.remark("/help lists the commands, Ctrl-C stops an answer, /exit leaves")?;
    }
    loop {
        interrupt.at_prompt();
        let Some(line) = read_line(interactive)? else {
            if interactive {
                output.text("\n")?;
            }
            return Ok(());
        };
        if line.trim().is_empty() {
            continue;
        }
        let done = match Command::parse(&line) {
            Command::Exit => return Ok(()),
            command => obey(command, conversation, interrupt, output),
        };
        match done {
            Err(error) if interactive && !error.is_broken_pipe() => program::report_error(&error),
            done => done?,
        }
    }
}

fn obey(
    command: Command,
    conversation: &mut Conversation,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<()> {
    match command {
        Command::Say(text) => {
            let answering = interrupt.answering();
            let answer = conversation.say(&text, &answering, |text| output.text(text));
            drop(answering);
            output.text("\n")?;
            let answer = answer?;
            if answer.dropped_turns > 0 {
                let turns = answer.dropped_turns;
                let mut stderr = std::io::stderr();
                // A remark; nothing is lost where stderr is closed.
                let _ = writeln!(
                    stderr,
                    "(the context is full: the oldest {turns} turns were dropped)"
                );
            }
            output.remark(&summary(&answer))
        }
        Command::Clear => {
            conversation.clear();
            output.remark("(cleared)")
        }
        Command::System(text) => {
            conversation.set_system(Some(text));
            output.remark("(system prompt set)")
        }
        Command::Save(file) => {
            let file = file.unwrap_or_else(default_file);
            conversation.save(&file)?;
            output.remark(&format!(
                "({} turns saved to {})",
                conversation.turns(),
                file.display()
            ))
        }
        Command::Help => output.text(HELP),
        Command::Unknown(name) => Err(Error::Input(format!(
            "no command /{name}; /help lists them"
        ))),
        Command::Exit => Ok(()),
    }
}

/// One line, joined with those that follow a backslash; `None` at the end of the input.
fn read_line(interactive: bool) -> Result<Option<String>> {
    let mut text = String::new();
    let mut prompt = "> ";
    loop {
        if interactive {
            // A prompt that can't be shown is no reason not to read.
            let _ = write!(std::io::stderr(), "{prompt}");
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        if read.map_err(Error::io("standard input"))? == 0 {
            return Ok((!text.is_empty()).then_some(text));
        }
        let line = line.trim_end_matches(['\n', '\r']);
        match line.strip_suffix('\\') {
            Some(line) => {
                text.push_str(line);
                text.push('\n');
                prompt = "… ";
            }
            None => {
                text.push_str(line);
                return Ok(Some(text));
            }
        }
    }
}

/// `chat-SECONDS.json` in the current folder.
fn default_file() -> PathBuf {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("chat-{}.json", now.as_secs()).into()
}

fn summary(answer: &Answer) -> String {
    let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let usage = answer.usage;
    let read = usage.prompt_tokens - usage.cached_tokens;
    let mut summary = format!(
        "({} tokens read, {} of them new at {:.0} tokens/s; {} written at {:.1} tokens/s)",
        usage.prompt_tokens,
        read,
        rate(read, answer.reading),
        usage.completion_tokens,
        rate(usage.completion_tokens, answer.writing),
    );
    if answer.interrupted {
        summary.push_str(" (interrupted)");
    }
    summary
}
