//! What a request asks for, as a grammar.

use internlm_core::ChatRequest;
use internlm_core::chat_model::ResponseFormat;
use internlm_core::tool::{ToolChoice, ToolSpec};
use internlm_core::tool_call::{ACTION_END, ACTION_START, PLUGIN};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::json;

use super::schema::{MAX_REGEX_BYTES, of_parameters, of_schema};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Most bytes of a Lark grammar.
const MAX_LARK_BYTES: usize = 64 << 10;
/// Deepest nesting of a Lark grammar or a regular expression, and most rules: the compiler recurses into
/// both.
const MAX_NESTING: usize = 100;
const MAX_LINES: usize = 1000;
/// Most tools, and most calls in one answer: a model that only ever calls must end some time.
const MAX_TOOLS: usize = 128;
const MAX_CALLS: usize = 16;

/// A grammar that is not compiled yet.
pub(super) struct Grammar {
    pub(super) top: TopLevelGrammar,
    pub(super) form: Form,
}

/// What a guide knows of the request besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The field of the request that asked for it.
    pub(super) field: &'static str,
    /// Which tokens show in the text.
    pub(super) shown: Shown,
    /// Whether the answer holds calls between special tokens, whose spelling must not be text.
    pub(super) calls: bool,
}

/// Which tokens show in the text that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All.
    All,
    /// Those of text, and markers that are not special.
    NotSpecial,
    /// Those of text, and the tool protocol's markers, which a parser reads.
    Protocol,
}

/// The grammar of a request that asks for a form in `field`.
pub(super) fn grammar(
    request: &ChatRequest,
    field: &'static str,
    vocabulary: &Vocabulary,
) -> Result<Grammar> {
    let shown = match (request.keep_special_tokens, request.tools.is_empty()) {
        (true, _) => Shown::All,
        (false, true) => Shown::NotSpecial,
        (false, false) => Shown::Protocol,
    };
    let markers = Markers::of(vocabulary);
    let tools = &request.tools;
    let (grammars, calls) = match &request.tool_choice {
        ToolChoice::Required => (calls(tools, "", MAX_CALLS, &markers)?, true),
        ToolChoice::Tool(name) => {
            let named: Vec<_> = tools.iter().filter(|t| t.name == *name).cloned().collect();
            if named.is_empty() {
                let what = format!("there is no tool `{name}` among the request's tools");
                return Err(Error::request(field, what));
            }
            (calls(&named[..1], "", 1, &markers)?, true)
        }
        // The model may answer or call. Spelled-out markers could be text of the answer, so this takes
        // special tokens.
        ToolChoice::Auto if !tools.is_empty() && markers.special => {
            let mut grammars = calls(tools, "@answer | ", MAX_CALLS, &markers)?;
            grammars.push(answer(&request.response_format)?);
            (grammars, true)
        }
        ToolChoice::Auto | ToolChoice::None => (vec![answer(&request.response_format)?], false),
    };
    Ok(Grammar {
        top: TopLevelGrammar {
            grammars,
            max_tokens: None,
        },
        form: Form {
            field,
            shown,
            calls: calls && markers.special,
        },
    })
}

/// The grammar `answer` of a response format.
fn answer(format: &ResponseFormat) -> Result<GrammarWithLexer> {
    let (field, name) = ("response_format", "answer");
    let lark = match format {
        // A request that asks for nothing has no grammar, so this is not reached.
        ResponseFormat::Text => "start: /(?s:.*)/".to_owned(),
        ResponseFormat::JsonObject => return of_schema(field, name, &json!({"type": "object"})),
        ResponseFormat::JsonSchema(schema) => return of_schema(field, name, schema),
        ResponseFormat::Regex(regex) => {
            check_regex(field, regex)?;
            format!("start: /{}/", llguidance::regex_to_lark(regex, ""))
        }
        ResponseFormat::Lark(lark) => {
            check_lark(field, lark)?;
            lark.clone()
        }
    };
    Ok(GrammarWithLexer {
        name: Some(name.to_owned()),
        json_schema: None,
        lark_grammar: Some(lark),
    })
}

fn check_regex(field: &'static str, regex: &str) -> Result<()> {
    if regex.len() > MAX_REGEX_BYTES {
        let what = format!("the regex has more than {MAX_REGEX_BYTES} bytes");
        return Err(Error::request(field, what));
    }
    let backslashes = regex.len() - regex.trim_end_matches('\\').len();
    if regex.is_empty() || backslashes % 2 == 1 {
        let what = "the regex is empty, or ends with a backslash that escapes nothing";
        return Err(Error::request(field, what));
    }
    check_nesting(field, regex)
}

fn check_lark(field: &'static str, lark: &str) -> Result<()> {
    if lark.len() > MAX_LARK_BYTES || lark.lines().count() > MAX_LINES {
        let what = format!("the grammar has more than {MAX_LARK_BYTES} bytes or {MAX_LINES} lines");
        return Err(Error::request(field, what));
    }
    // Text that is not UTF-8 is shown as U+FFFD, and could spell special tokens.
    if lark.contains("allow_invalid_utf8") {
        let what = "the grammar has `allow_invalid_utf8`, which clients may not set";
        return Err(Error::request(field, what));
    }
    check_nesting(field, lark)
}

/// Counts brackets, those in strings too.
fn check_nesting(field: &'static str, text: &str) -> Result<()> {
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            let what = format!("brackets are nested deeper than {MAX_NESTING}");
            return Err(Error::request(field, what));
        }
    }
    Ok(())
}

/// How a grammar names the tokens of the tool protocol.
struct Markers {
    start: String,
    plugin: String,
    end: String,
    /// Whether all are special tokens.
    special: bool,
}

impl Markers {
    /// A marker that the tokenizer lacks is spelled out; the parser of calls reads both.
    fn of(vocabulary: &Vocabulary) -> Self {
        let name = |marker| match vocabulary.marker(marker) {
            Some(id) => format!("<[{id}]>"),
            None => literal(marker),
        };
        let all = [ACTION_START, PLUGIN, ACTION_END];
        Self {
            start: name(ACTION_START),
            plugin: name(PLUGIN),
            end: name(ACTION_END),
            special: all.iter().all(|m| vocabulary.marker(m).is_some()),
        }
    }
}

/// The grammars of at least one and at most `most` calls, as `internlm_core::tool_call` writes them;
/// `or` comes before them in the start rule.
fn calls(
    tools: &[ToolSpec],
    or: &str,
    most: usize,
    markers: &Markers,
) -> Result<Vec<GrammarWithLexer>> {
    let field = "tool_choice";
    if tools.is_empty() || tools.len() > MAX_TOOLS {
        let what = format!("a call is asked for; expected 1 to {MAX_TOOLS} tools");
        return Err(Error::request(field, what));
    }
    let Markers {
        start, plugin, end, ..
    } = markers;
    let more = match most {
        0 | 1 => String::new(),
        most => format!(" call{{0,{}}}", most - 1),
    };
    let mut lark = format!("start: {or}call{more}\ncall: {start} {plugin} \"\\n\" body {end}\n");
    let mut grammars = Vec::with_capacity(tools.len() + 1);
    let mut bodies = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let name = serde_json::Value::from(tool.name.as_str()).to_string();
        if tool.name.is_empty() || name.contains(ACTION_START) || name.contains(ACTION_END) {
            let what = format!("tool {index} has no name that a call can spell");
            return Err(Error::request(field, what));
        }
        let before = literal(&format!("{{\"name\": {name}, \"parameters\": "));
        bodies.push(format!("{before} @tool_{index} \"}}\""));
        let grammar = of_parameters(field, &format!("tool_{index}"), &tool.parameters);
        grammars.push(grammar.map_err(|error| of_tool(&tool.name, error))?);
    }
    lark.push_str("body: ");
    lark.push_str(&bodies.join(" | "));
    let calls = GrammarWithLexer {
        name: Some("calls".into()),
        json_schema: None,
        lark_grammar: Some(lark),
    };
    grammars.insert(0, calls);
    Ok(grammars)
}

fn of_tool(name: &str, error: Error) -> Error {
    match error {
        Error::Request { field, what } => Error::request(field, format!("tool `{name}`: {what}")),
        error => error,
    }
}

/// A text as Lark spells it, which is JSON's way.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
