//! The `tojson` filter as Hugging Face transformers defines it.
//!
//! `json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, and not
//! Jinja's own filter, which escapes for HTML (huggingface/transformers
//! `utils/chat_template_utils.py`).

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 192;

/// `value | tojson(ensure_ascii, indent, separators, sort_keys)`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let values = args.into_values();
    let (ensure_ascii, indent, separators, sort_keys, kwargs): (
        Option<Value>,
        Option<Value>,
        Option<Value>,
        Option<Value>,
        Kwargs,
    ) = from_args(&values)?;
    let argument = |positional: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let value = match positional {
            Some(value) => Some(value),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is_true(argument(ensure_ascii, "ensure_ascii")?);
    let sort_keys = is_true(argument(sort_keys, "sort_keys")?);
    let indent = argument(indent, "indent")?
        .map(|indent| match indent.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => {
                let spaces = i64::try_from(indent)?.max(0);
                let spaces = usize::try_from(spaces).unwrap_or(usize::MAX);
                if spaces > 64 {
                    return Err(invalid("tojson: indent is over 64"));
                }
                Ok(" ".repeat(spaces))
            }
        })
        .transpose()?;
    let (item_separator, key_separator) = match argument(separators, "separators")? {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(pair) => {
            let pair: Vec<Value> = pair.try_iter()?.take(3).collect();
            match pair.as_slice() {
                [item, key] => (string(item)?, string(key)?),
                _ => return Err(invalid("tojson: separators is no pair of strings")),
            }
        }
    };
    kwargs.assert_all_used()?;
    let mut writer = Writer {
        state,
        out: String::new(),
        charged: 0,
        ensure_ascii,
        sort_keys,
        indent,
        item_separator,
        key_separator,
    };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

struct Writer<'a, 't, 'e> {
    state: &'a State<'t, 'e>,
    out: String,
    /// Length of `out` that was paid for.
    charged: usize,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("tojson: the value is nested too deeply"));
        }
        self.charge()?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut empty = true;
                for item in value.try_iter()? {
                    if let ValueKind::Invalid = item.kind() {
                        return Err(invalid("tojson: the iteration failed"));
                    }
                    self.begin_item(if empty { "[" } else { "" }, depth);
                    empty = false;
                    self.value(&item, depth + 1)?;
                }
                self.end("[", "]", empty, depth);
            }
            ValueKind::Map => {
                let mut keys = Vec::new();
                for key in value.try_iter()? {
                    self.state.consume_fuel(1)?;
                    keys.push((key_string(&key)?, key));
                }
                if self.sort_keys {
                    keys.sort_by(|a, b| a.0.cmp(&b.0));
                }
                let empty = keys.is_empty();
                for (index, (name, key)) in keys.into_iter().enumerate() {
                    self.begin_item(if index == 0 { "{" } else { "" }, depth);
                    self.string(&name);
                    self.out.push_str(&self.key_separator);
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.end("{", "}", empty, depth);
            }
            kind => {
                return Err(invalid(format!("tojson: {kind} is not JSON serializable")));
            }
        }
        Ok(())
    }

    /// Pays for what was written since the last call, a fuel for 16 bytes.
    fn charge(&mut self) -> Result<(), Error> {
        let bytes = self.out.len() - self.charged;
        self.charged = self.out.len();
        self.state.consume_fuel(1 + bytes as u64 / 16)
    }

    fn begin_item(&mut self, open: &str, depth: usize) {
        if open.is_empty() {
            self.out.push_str(&self.item_separator);
        } else {
            self.out.push_str(open);
        }
        self.new_line(depth + 1);
    }

    fn end(&mut self, open: &str, close: &str, empty: bool, depth: usize) {
        if empty {
            self.out.push_str(open);
        } else {
            self.new_line(depth);
        }
        self.out.push_str(close);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(number) if !value.is_integer() => self.out.push_str(&python_float(number)),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    /// A string as Python's `json` writes it.
    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A key as Python's `json` writes it: numbers, booleans and None become strings.
fn key_string(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => string(key),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(match f64::try_from(key.clone()) {
            Ok(number) if !key.is_integer() => python_float(number),
            _ => key.to_string(),
        }),
        kind => Err(invalid(format!("tojson: a key is a {kind}"))),
    }
}

fn string(value: &Value) -> Result<String, Error> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| invalid("tojson: expected a string"))
}

fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// `repr(float)` of Python, with JSON's names for what is no number.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    // Both write the shortest digits that read back as the same number.
    let scientific = format!("{number:e}");
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let mantissa = scientific.split('e').next().unwrap_or_default();
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python() {
        for (number, want) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e300, "1e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(python_float(number), want);
        }
    }
}
