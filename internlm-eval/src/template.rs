//! The template language of task files: Jinja, as lm-evaluation-harness uses it.
//!
//! A template is either a text (`Question: {{ question }}`) or an expression that gives a value
//! (`choices.label.index(answerKey)`). Names are the columns of the row; a name that is not there is an error. There
//! are Python's string methods, Jinja's filters, `regex_replace(pattern, replacement)` with Python's syntax of regular
//! expressions and replacements, and `list.index(member)`. A template that does not end runs out of fuel.

mod regex;
mod wikitext;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

/// Instructions that one rendering may take; a long prompt takes a few thousand.
const FUEL: u64 = 2_000_000;

/// Plain data as a value of templates.
pub(crate) fn of(data: impl serde::Serialize) -> Value {
    Value::from(Serde(data))
}

/// Renders templates.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

/// Names and values that a template sees.
pub(crate) type Names = BTreeMap<String, Value>;

impl Templates {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(method);
        environment.add_filter("regex_replace", regex_replace);
        environment.add_filter("minerva_gold", |solution: &str| {
            crate::math::minerva::gold(solution).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, "the solution boxes no answer")
            })
        });
        environment.add_filter("wikitext_detokenized", |page: &str| {
            wikitext::detokenized(page)
                .map_err(|what| Error::new(ErrorKind::InvalidOperation, what))
        });
        environment.set_formatter(|out, state, value| {
            // What Python writes for these, because Jinja does.
            match value.kind() {
                ValueKind::None => out.write_str("None").map_err(Error::from),
                ValueKind::Bool => {
                    let text = if value.is_true() { "True" } else { "False" };
                    out.write_str(text).map_err(Error::from)
                }
                _ => minijinja::escape_formatter(out, state, value),
            }
        });
        Self { environment }
    }

    /// Renders a text.
    pub(crate) fn text(&self, template: &str, names: &Names) -> Result<String, String> {
        self.environment
            .render_str(template, Value::from(names))
            .map_err(|error| describe(&error))
    }

    /// Evaluates an expression.
    pub(crate) fn value(&self, expression: &str, names: &Names) -> Result<Value, String> {
        self.environment
            .compile_expression(expression)
            .and_then(|expression| expression.eval(Value::from(names)))
            .map_err(|error| describe(&error))
            .and_then(|value| {
                if value.is_undefined() {
                    Err("the value is undefined".to_owned())
                } else {
                    Ok(value)
                }
            })
    }

    /// Whether a text is a template at all.
    pub(crate) fn check_text(&self, template: &str) -> Result<(), String> {
        self.environment
            .template_from_str(template)
            .map(drop)
            .map_err(|error| describe(&error))
    }

    /// Whether an expression is one at all.
    pub(crate) fn check_value(&self, expression: &str) -> Result<(), String> {
        self.environment
            .compile_expression(expression)
            .map(drop)
            .map_err(|error| describe(&error))
    }
}

fn describe(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("the template does not end within {FUEL} steps");
    }
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text.push_str(": ");
        text.push_str(detail);
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Methods of Python that neither the engine nor its Python companion has.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if name == "index" && args.len() == 1 {
        let found = match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                value.try_iter()?.position(|member| member == args[0])
            }
            ValueKind::String => {
                let (text, part) = (value.as_str().unwrap_or(""), args[0].as_str().unwrap_or(""));
                text.find(part).map(|at| text[..at].chars().count())
            }
            _ => {
                return minijinja_contrib::pycompat::unknown_method_callback(
                    state, value, name, args,
                );
            }
        };
        return found.map(Value::from).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("{:?} is not in {value:?}", args[0]),
            )
        });
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// Python's `re.sub`.
fn regex_replace(text: &str, pattern: &str, replacement: &str) -> Result<String, Error> {
    regex::replace_all(text, pattern, replacement)
        .map_err(|what| Error::new(ErrorKind::InvalidOperation, what))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        let row = json!({"q": " who ", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "key": "B",
            "none": null, "yes": true, "n": 3, "s": "aBC. dE"});
        row.as_object()
            .map(|row| {
                row.iter()
                    .map(|(key, value)| (key.clone(), of(value)))
                    .collect()
            })
            .unwrap_or_default()
    }

    #[track_caller]
    fn check(template: &str, want: &str) {
        assert_eq!(
            Templates::new().text(template, &names()).as_deref(),
            Ok(want)
        );
    }

    #[test]
    fn texts() {
        check("Q: {{ q.strip() }}\n", "Q: who\n");
        check("{{ s|capitalize }}", "Abc. de");
        check("{{ none }} {{ yes }} {{ n }}", "None True 3");
        check("{{ choices.label.index(key) }}", "1");
        check(
            "{{ s|regex_replace('([a-z])([A-Z])', '\\\\2\\\\1') }}",
            "BaC. Ed",
        );
        check("{{ s.split(' ')[:-1]|join(' ') }}|{{ s[1:3] }}", "aBC.|BC");
        check("{% if missing is defined %}a{% else %}b{% endif %}", "b");
    }

    #[test]
    fn values() {
        let templates = Templates::new();
        let value = templates.value("choices.text", &names()).unwrap();
        assert_eq!(value.len(), Some(2));
        assert_eq!(
            templates.value("choices.label.index(key)", &names()),
            Ok(Value::from(1))
        );
        assert_eq!(
            templates.value("key|int(default=7) - 1", &names()).ok(),
            Some(Value::from(6))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let templates = Templates::new();
        let undefined = templates.text("{{ missing }}", &names()).unwrap_err();
        assert!(undefined.contains("undefined"), "{undefined}");
        assert!(templates.value("missing", &names()).is_err());
        let endless =
            "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}";
        let endless = templates.text(endless, &names()).unwrap_err();
        assert!(endless.contains("does not end"), "{endless}");
        assert!(templates.check_text("{{ a").is_err());
        assert!(templates.check_value("a b").is_err());
        let absent = templates
            .value("choices.label.index('Z')", &names())
            .unwrap_err();
        assert!(absent.contains("not in"), "{absent}");
    }
}
