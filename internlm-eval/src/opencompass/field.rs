//! Fields of a row in a text, as Python writes them.

use serde_json::Value;

use crate::item::Row;

/// Puts the row's values in place of `{name}`, one column after the other.
///
/// It is a plain replacement, not Python's `str.format`: what names no column stays, doubled braces stay doubled,
/// and a value that spells `{other}` is itself replaced when `other` is a later column (OpenCompass's `safe_format`).
pub fn fill(text: &str, row: &Row) -> String {
    let mut filled = text.to_owned();
    for (name, value) in row {
        if !filled.contains('{') {
            break;
        }
        let field = format!("{{{name}}}");
        if filled.contains(&field) {
            filled = filled.replace(&field, &python_str(value));
        }
    }
    filled
}

/// What Python's `str` gives for a value.
pub fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

/// What Python's `repr` gives for a value.
pub fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float_repr(float),
            _ => number.to_string(),
        },
        Value::String(text) => text_repr(text),
        Value::Array(values) => {
            let parts: Vec<_> = values.iter().map(python_repr).collect();
            format!("[{}]", parts.join(", "))
        }
        Value::Object(fields) => {
            let parts: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", text_repr(name), python_repr(value)))
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
    }
}

/// The shortest digits that give the number back; an exponent below 1e-4 and from 1e16 on.
fn float_repr(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{float:e}");
        let Some((digits, exponent)) = text.split_once('e') else {
            return text;
        };
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{float:?}")
}

fn text_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut repr = String::with_capacity(text.len() + 2);
    repr.push(quote);
    for char in text.chars() {
        match char {
            '\\' => repr.push_str("\\\\"),
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            _ if char == quote => {
                repr.push('\\');
                repr.push(char);
            }
            ' ' => repr.push(' '),
            _ if char.is_control() || char.is_whitespace() || is_format(char) => {
                let code = u32::from(char);
                repr.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
            _ => repr.push(char),
        }
    }
    repr.push(quote);
    repr
}

/// Characters besides white space and controls that Python does not print: format marks, private use.
fn is_format(char: char) -> bool {
    matches!(
        u32::from(char),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff9..=0xfffb | 0xe0001..=0xe007f
            | 0xf0000..=0x10ffff
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_replaced_in_the_order_of_the_columns() {
        let row = json!({"a": "{b}", "b": 1, "c": "{a}"});
        let row = row.as_object().unwrap();
        assert_eq!(fill("{a} {b} {c} {d} {{b}}", row), "1 1 {a} {d} {1}");
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let value = json!([
            null,
            true,
            1,
            2.0,
            1e16,
            1.5e-7,
            "it's",
            "\"'",
            "a\n\u{a0}\u{200b}é"
        ]);
        assert_eq!(
            python_str(&value),
            "[None, True, 1, 2.0, 1e+16, 1.5e-07, \"it's\", '\"\\'', 'a\\n\\xa0\\u200bé']"
        );
        assert_eq!(python_str(&json!({"k": "v"})), "{'k': 'v'}");
        assert_eq!(python_str(&json!("it's")), "it's");
    }
}
