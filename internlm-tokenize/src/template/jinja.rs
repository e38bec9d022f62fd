//! Jinja templates of checkpoints, through minijinja.

use std::borrow::Cow;

use internlm_core::{Message, Part, Role, ToolSpec};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, ErrorKind, State, escape_formatter, filters, functions};

use super::conversation::{Conversation, Spelling};
use super::trust::{Seals, Tokens, Twins, Used};
use super::{SpecialTokens, clock, guard, json};
use crate::error::{Error, Result};

/// Longest source. The longest known are under 30 KB.
const MAX_SOURCE: usize = 256 << 10;
/// Instructions, or pieces of 64 bytes, that a template may always spend.
const FUEL: u64 = 300_000;
/// What it may spend for each value in the messages and tools on top.
const FUEL_PER_NODE: u64 = 200;
/// Bytes of input that add one fuel, so that a few copies of a long text are paid for.
const BYTES_PER_FUEL: u64 = 4;
/// Depth of macros and loops within each other. A macro counts as four.
const RECURSION_LIMIT: usize = 200;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Jinja {
    env: Environment<'static>,
    source: String,
    special: SpecialTokens,
    tokens: Tokens,
    now: Option<i64>,
}

impl Jinja {
    pub(super) fn new(source: &str, special: SpecialTokens) -> Result<Self> {
        let named = [
            &special.bos_token,
            &special.eos_token,
            &special.pad_token,
            &special.unk_token,
        ];
        let tokens = Tokens::new(
            special
                .all
                .iter()
                .chain(named.into_iter().flatten())
                .map(String::as_str),
        );
        Ok(Self {
            env: environment(source, None)?,
            source: source.to_owned(),
            special,
            tokens,
            now: None,
        })
    }

    pub(super) fn with_now(&self, unix_seconds: i64) -> Self {
        let mut env = self.env.clone();
        add_clock(&mut env, Some(unix_seconds));
        Self {
            env,
            source: self.source.clone(),
            special: self.special.clone(),
            tokens: self.tokens.clone(),
            now: Some(unix_seconds),
        }
    }

    /// Whether the template reads a variable of the conversation.
    pub(super) fn reads(&self, variable: &str) -> bool {
        let template = self.env.get_template(TEMPLATE);
        template.is_ok_and(|template| template.undeclared_variables(false).contains(variable))
    }

    /// See [`super::ChatTemplate::render`].
    pub(super) fn render(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>> {
        let conversation = Conversation {
            messages,
            tools,
            add_generation_prompt,
            special: &self.special,
            role: &|message| self.role(message),
        };
        let mut tokens = Cow::Borrowed(&self.tokens);
        let mut used = Used::default();
        used.add(&self.source);
        tokens.iter().for_each(|token| used.add(token));
        let mut budget = Budget::default();
        conversation.visit(&mut |text| {
            used.add(text);
            budget.add(text);
        })?;
        for part in messages.iter().flat_map(|message| &message.content) {
            if let Part::Marker { text } = part
                && !tokens.contains(text)
            {
                tokens.to_mut().insert(text);
            }
        }
        let full = || Error::Template {
            what: "the messages use up all private-use characters".to_owned(),
            line: None,
        };

        let plain = Spelling {
            untrusted: &str::to_owned,
            marker: &str::to_owned,
        };
        let output = run(&self.env, budget.fuel(), conversation.context(&plain)?)?;

        let twins = Twins::new(&tokens, &used).ok_or_else(full)?;
        let disguised = Spelling {
            untrusted: &|text| twins.disguise(text),
            marker: &str::to_owned,
        };
        let second = run(&self.env, budget.fuel(), conversation.context(&disguised)?);
        if let Ok(second) = second
            && twins.restore(&second) == output
        {
            return Ok(twins.split(&tokens, &second));
        }

        let seals = Seals::new(&tokens, &used).ok_or_else(full)?;
        let sealed = Spelling {
            untrusted: &str::to_owned,
            marker: &|token| {
                seals
                    .seal(token)
                    .map_or_else(|| token.to_owned(), String::from)
            },
        };
        let env = environment(&seals.source(&self.source), self.now)?;
        let output = run(&env, budget.fuel(), conversation.context(&sealed)?)?;
        Ok(seals.split(&output))
    }

    /// The markers that end an answer: the one written after an assistant's text, and EOS.
    pub(super) fn stop_tokens(&self) -> Vec<String> {
        const ANSWER: &str = "answer";
        let mut stops = Vec::new();
        let probe = [Message::user("question"), Message::assistant(ANSWER)];
        if let Ok(parts) = self.render(&probe, &[], false) {
            for pair in parts.windows(2) {
                if let [Part::Text { text }, Part::Marker { text: marker }] = pair
                    && text.trim_end().ends_with(ANSWER)
                {
                    stops.push(marker.clone());
                }
            }
        }
        stops.extend(self.special.eos_token.clone());
        stops.dedup();
        stops
    }

    /// What Hugging Face's templates call a role.
    fn role(&self, message: &Message) -> &'static str {
        let speaks_of = |role: &str| {
            self.source.contains(&format!("'{role}'"))
                || self.source.contains(&format!("\"{role}\""))
        };
        if message.role != Role::Environment || speaks_of("environment") {
            message.role.as_str()
        } else if speaks_of("tool") || message.tool_call_id.is_some() {
            "tool"
        } else {
            "environment"
        }
    }
}

/// The work that a conversation may cause.
#[derive(Default)]
struct Budget {
    nodes: u64,
    bytes: u64,
}

impl Budget {
    fn add(&mut self, text: &str) {
        self.nodes += 1;
        self.bytes += text.len() as u64;
    }

    fn fuel(&self) -> u64 {
        FUEL + self.nodes * FUEL_PER_NODE + self.bytes / BYTES_PER_FUEL
    }
}

const TEMPLATE: &str = "chat_template";

/// minijinja, set up as transformers sets up Jinja, with one template. No loader; the tags that
/// would need one are not compiled in.
fn environment(source: &str, now: Option<i64>) -> Result<Environment<'static>> {
    if source.len() > MAX_SOURCE {
        return Err(Error::Template {
            what: format!(
                "the source has {} bytes; expected at most {MAX_SOURCE}",
                source.len()
            ),
            line: None,
        });
    }
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(template_error)?;
    env.set_syntax(syntax);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_recursion_limit(RECURSION_LIMIT);
    env.set_formatter(|out, state, value| {
        guard::pay(state, value)?;
        escape_formatter(out, state, value)
    });
    env.set_unknown_method_callback(|state, value, method, args| {
        // Joining, formatting and counting look into lists.
        for argument in args {
            guard::pay(state, argument)?;
        }
        match method {
            "count" => guard::pay(state, value)?,
            "format" if has_long_number(value.as_str().unwrap_or_default()) => {
                return Err(minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    "a format string with a number over 999",
                ));
            }
            _ => {}
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    guard::add_functions(&mut env);
    env.add_function("raise_exception", raise_exception);
    add_clock(&mut env, now);
    env.add_function("dict", measured(Value::from_function(functions::dict)));
    env.add_filter("tojson", json::tojson);
    for (name, filter) in [
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("groupby", Value::from_function(filters::groupby)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("join", Value::from_function(filters::join)),
        ("string", Value::from_function(filters::string)),
        ("format", Value::from_function(filters::format)),
        ("pprint", Value::from_function(filters::pprint)),
        ("sort", Value::from_function(filters::sort)),
        ("unique", Value::from_function(filters::unique)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
    ] {
        env.add_filter(name, measured(filter));
    }
    for not_in_jinja2 in ["zip", "chain"] {
        env.remove_filter(not_in_jinja2);
    }
    env.remove_global("debug");
    let source = guard::instrument(source).map_err(|(line, what)| Error::Template {
        what,
        line: Some(line),
    })?;
    env.add_template_owned(TEMPLATE, source)
        .map_err(template_error)?;
    Ok(env)
}

/// `strftime_now`, by the system's clock unless one is given.
fn add_clock(env: &mut Environment<'static>, now: Option<i64>) {
    env.add_function(
        "strftime_now",
        move |format: &str| -> Result<String, minijinja::Error> {
            clock::strftime(now.unwrap_or_else(clock::now), format).ok_or_else(|| {
                minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: unknown directive in {format:?}"),
                )
            })
        },
    );
}

/// A built-in filter or function that pays for its arguments and whose result is bounded.
fn measured(
    function: Value,
) -> impl Fn(&mut State, Rest<ValueOrKwargs>) -> Result<Value, minijinja::Error> + Send + Sync + 'static
{
    move |state, args| {
        let args = args.into_values();
        for argument in &args {
            guard::pay(state, argument)?;
        }
        let result = function.call(state, &args)?;
        guard::pay(state, &result)?;
        Ok(result)
    }
}

/// Whether a format string may ask for a huge width or precision, which nothing else bounds.
fn has_long_number(format: &str) -> bool {
    format
        .split(|c: char| !c.is_ascii_digit())
        .any(|number| number.len() > 3)
}

/// Carries the text of `raise_exception` through minijinja.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    Err(
        minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception")
            .with_source(Raised(message.to_owned())),
    )
}

fn run(env: &Environment<'static>, fuel: u64, context: Value) -> Result<String> {
    let mut env = env.clone();
    env.set_fuel(Some(fuel));
    env.get_template(TEMPLATE)
        .and_then(|template| template.render(context))
        .map_err(template_error)
}

fn template_error(error: minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(raised) = cause.downcast_ref::<Raised>() {
            return Error::TemplateRefused {
                message: raised.0.clone(),
            };
        }
        if let Some(cause) = cause.downcast_ref::<minijinja::Error>()
            && cause.kind() == ErrorKind::OutOfFuel
        {
            return Error::TemplateFuel;
        }
        source = cause.source();
    }
    let line = error.line();
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    Error::Template { what, line }
}
