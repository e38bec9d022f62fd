//! Lines that begin with a slash.

use std::path::PathBuf;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Something to say to the model.
    Say(String),
    Clear,
    Save(Option<PathBuf>),
    /// Replace the system prompt; an empty one is none.
    System(String),
    Help,
    Exit,
    Unknown(String),
}

pub(crate) const HELP: &str = "\
/clear        forget the conversation, keep the system prompt
/system TEXT  replace the system prompt; without TEXT remove it
/save [FILE]  write the conversation as JSON
/help         this list
/exit         leave (Ctrl-D, or Ctrl-C twice)
//…           say something that begins with a slash
A backslash at the end of a line goes on with the next line. Ctrl-C stops an answer.
";

impl Command {
    pub(crate) fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else {
            return Command::Say(line.to_owned());
        };
        if rest.starts_with('/') {
            return Command::Say(rest.to_owned());
        }
        let (name, argument) = match rest.split_once(char::is_whitespace) {
            Some((name, argument)) => (name, argument.trim()),
            None => (rest.trim_end(), ""),
        };
        match (name, argument) {
            ("clear", "") => Command::Clear,
            ("save", "") => Command::Save(None),
            ("save", file) => Command::Save(Some(file.into())),
            ("system", text) => Command::System(text.to_owned()),
            ("help", "") => Command::Help,
            ("exit" | "quit", "") => Command::Exit,
            _ => Command::Unknown(name.to_owned()),
        }
    }
}
