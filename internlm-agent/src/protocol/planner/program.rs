//! The planner's call language: what it is, and its parser.
//!
//! A program is a list of statements: `graph = WebSearchGraph()`, calls of the six methods on `graph` with texts
//! as arguments, by place or by name, and several calls in a row between commas. Comments, the import of the
//! class and `print(…)` around calls are skipped. Everything else is an error that says where.

use std::sync::LazyLock;

use regex::Regex;

use crate::lagent;
use crate::python;

/// A statement of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statement {
    /// `graph = WebSearchGraph()`. A graph that is there stays.
    New,
    /// `graph.reset()`.
    Reset,
    /// The question itself.
    AddRootNode {
        /// The node's name.
        name: String,
        /// The question.
        content: String,
    },
    /// A question to search for.
    AddNode {
        /// The node's name.
        name: String,
        /// The question.
        content: String,
    },
    /// The end.
    AddResponseNode {
        /// The node's name.
        name: String,
    },
    /// What leads to what.
    AddEdge {
        /// From.
        start: String,
        /// To.
        end: String,
    },
    /// Asks for a node's result.
    Node {
        /// The node's name.
        name: String,
    },
}

/// Why a program is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct GraphError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

static IMPORT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"from ([\w.]+) import WebSearchGraph").expect("the pattern is valid")
});
static NODE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"graph.node\((.*?)\)").expect("the pattern is valid"));

/// The program in a reply, as MindSearch finds it: without the import, the first fence, else the first pair of
/// backticks, else everything.
pub fn extract_program(reply: &str) -> String {
    let text = IMPORT.replace_all(reply, "");
    lagent::fenced(&text).map_or_else(|| text.to_string(), str::to_owned)
}

/// The names of the nodes that a program asks for, as MindSearch finds them.
pub fn wanted_nodes(program: &str) -> Vec<String> {
    let names = NODE.captures_iter(program).map(|found| {
        let name = python::strip(found.get(1).map_or("", |m| m.as_str()));
        name.trim_matches('"').trim_matches('\'').to_owned()
    });
    names.collect()
}

/// Reads a program.
///
/// # Errors
/// [`GraphError`] with the first line that is not of the language.
pub fn parse_program(program: &str) -> Result<Vec<Statement>, GraphError> {
    let program = IMPORT.replace_all(program, "");
    let mut reader = Reader {
        text: &program,
        at: 0,
    };
    let mut statements = Vec::new();
    loop {
        reader.space();
        if reader.at >= reader.text.len() {
            return Ok(statements);
        }
        reader.statement(&mut statements, true)?;
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Arguments = Vec<(Option<String>, String)>;

impl Reader<'_> {
    fn fail<T>(&self, what: impl Into<String>) -> Result<T, GraphError> {
        let line = self.text[..self.at.min(self.text.len())]
            .matches('\n')
            .count()
            + 1;
        Err(GraphError {
            line,
            what: what.into(),
        })
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// White space, line breaks, separators of statements and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed =
                rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == ',');
            self.at += rest.len() - trimmed.len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest();
        let trimmed = rest.trim_start();
        let found = trimmed.starts_with(token);
        if found {
            self.at += rest.len() - trimmed.len() + token.len();
        }
        found
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let trimmed = rest.trim_start();
        let end = trimmed
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(trimmed.len());
        let word = trimmed[..end].to_owned();
        self.at += rest.len() - trimmed.len() + end;
        word
    }

    /// `outer` is whether it may be a `print`; inside of one there is no other.
    fn statement(&mut self, out: &mut Vec<Statement>, outer: bool) -> Result<(), GraphError> {
        let word = self.word();
        match word.as_str() {
            "print" if outer && self.eat("(") => loop {
                self.space();
                if self.eat(")") {
                    return Ok(());
                }
                if self.at >= self.text.len() {
                    return self.fail("a bracket is not closed");
                }
                self.statement(out, false)?;
            },
            "graph" if self.eat("=") => {
                if self.word() != "WebSearchGraph" || !self.eat("(") || !self.eat(")") {
                    return self.fail("only `WebSearchGraph()` can be given a name");
                }
                out.push(Statement::New);
                Ok(())
            }
            "graph" if self.eat(".") => {
                let method = self.word();
                if !self.eat("(") {
                    return self.fail(format!("`{method}` is not called"));
                }
                let arguments = self.arguments()?;
                out.push(self.call(&method, arguments)?);
                Ok(())
            }
            "" => {
                let next: String = self.rest().trim_start().chars().take(1).collect();
                self.fail(format!("`{next}` is not of the language"))
            }
            word => self.fail(format!(
                "`{word}` is not of the language: only calls on `graph` are"
            )),
        }
    }

    fn arguments(&mut self) -> Result<Arguments, GraphError> {
        let mut arguments = Vec::new();
        loop {
            self.space();
            if self.eat(")") {
                return Ok(arguments);
            }
            let before = self.at;
            let word = self.word();
            let name = match (word.as_str(), self.eat("=")) {
                ("", false) => None,
                (_, true) => Some(word),
                _ => {
                    self.at = before;
                    None
                }
            };
            arguments.push((name, self.string()?));
            let rest = self.rest().trim_start();
            if !rest.starts_with([',', ')', '#']) {
                return self.fail("`,` or `)` is missing after a text");
            }
        }
    }

    fn string(&mut self) -> Result<String, GraphError> {
        self.space();
        let rest = self.rest();
        let Some(length) = string_length(rest) else {
            return self.fail("arguments are texts in quotes");
        };
        let value = python::literal(&rest[..length]);
        match value
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
        {
            Some(text) => {
                self.at += length;
                Ok(text)
            }
            None => self.fail("arguments are texts in quotes"),
        }
    }

    fn call(&self, method: &str, arguments: Arguments) -> Result<Statement, GraphError> {
        let parameters: &[(&str, Option<&str>)] = match method {
            "add_root_node" => &[("node_content", None), ("node_name", Some("root"))],
            "add_node" => &[("node_name", None), ("node_content", None)],
            "add_response_node" => &[("node_name", Some("response"))],
            "add_edge" => &[("start_node", None), ("end_node", None)],
            "node" => &[("node_name", None)],
            "reset" => &[],
            other => return self.fail(format!("`graph.{other}` does not exist")),
        };
        let mut values: Vec<Option<String>> = vec![None; parameters.len()];
        for (i, (name, value)) in arguments.into_iter().enumerate() {
            let place = match &name {
                Some(name) => parameters.iter().position(|(p, _)| p == name),
                None => (i < parameters.len()).then_some(i),
            };
            match place {
                Some(place) if values[place].is_none() => values[place] = Some(value),
                _ => {
                    let what = name.unwrap_or(value);
                    return self.fail(format!("`graph.{method}` has no place for `{what}`"));
                }
            }
        }
        let mut filled = Vec::new();
        for ((name, default), value) in parameters.iter().zip(values) {
            match value.or_else(|| default.map(str::to_owned)) {
                Some(value) => filled.push(value),
                None => return self.fail(format!("`graph.{method}` needs `{name}`")),
            }
        }
        let mut filled = filled.into_iter();
        let mut next = || filled.next().unwrap_or_default();
        Ok(match method {
            "add_root_node" => {
                let content = next();
                Statement::AddRootNode {
                    name: next(),
                    content,
                }
            }
            "add_node" => Statement::AddNode {
                name: next(),
                content: next(),
            },
            "add_response_node" => Statement::AddResponseNode { name: next() },
            "add_edge" => Statement::AddEdge {
                start: next(),
                end: next(),
            },
            "node" => Statement::Node { name: next() },
            _ => Statement::Reset,
        })
    }
}

/// How long the string at the beginning of a text is, quotes included.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let (open, close) = match text.starts_with(&triple) {
        true => (3, triple),
        false => (1, quote.to_string()),
    };
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(open) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if text[i..].starts_with(&close) {
            return Some(i + close.len());
        } else if c == '\n' && open == 1 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Statement {
        Statement::Node {
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_program_is_read() {
        let program = "from mindsearch.graph import WebSearchGraph\n# plan\ngraph = WebSearchGraph()\n\
            graph.add_root_node(\"Q \\\"x\\\"?\")\ngraph.add_node(node_content='a(b, c)', node_name='a'); \
            graph.add_edge(start_node=\"root\",\n  end_node=\"a\", # last\n)\nprint(graph.node('a'), graph.node(\"b\"))\n\
            graph.add_response_node()";
        let edge = Statement::AddEdge {
            start: "root".to_owned(),
            end: "a".to_owned(),
        };
        let want = [
            Statement::New,
            Statement::AddRootNode {
                name: "root".to_owned(),
                content: "Q \"x\"?".to_owned(),
            },
            Statement::AddNode {
                name: "a".to_owned(),
                content: "a(b, c)".to_owned(),
            },
            edge,
            node("a"),
            node("b"),
            Statement::AddResponseNode {
                name: "response".to_owned(),
            },
        ];
        assert_eq!(parse_program(program).unwrap(), want);
    }

    #[test]
    fn nothing_else_is() {
        for (program, line) in [
            ("import os", 1),
            ("graph.node(\"a\")\n__import__('os').system('ls')", 2),
            ("graph.node(open('/etc/passwd'))", 1),
            ("graph.node(f\"{x}\")", 1),
            ("graph.add_node('a')", 1),
            ("graph.add_node('a', 'b', 'c')", 1),
            ("graph.add_node('a', node_name='b')", 1),
            ("graph.delete('a')", 1),
            ("graph.node('a'", 1),
            ("graph.node('a\n')", 1),
            ("graph.node('a').response", 1),
            ("graph = 1", 1),
            ("for i in range(9):\n  graph.node('a')", 1),
            ("\n\n(", 3),
        ] {
            assert_eq!(parse_program(program).unwrap_err().line, line, "{program}");
        }
        assert!(parse_program(&"print(".repeat(100_000)).is_err());
    }
}
