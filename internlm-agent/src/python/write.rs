//! The texts of a value: `repr` and JSON.

use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use super::value::{DumpStyle, PyValue};

impl PyValue {
    pub(super) fn write_repr(&self, out: &mut String) {
        match self {
            Self::None => out.push_str("None"),
            Self::Bool(true) => out.push_str("True"),
            Self::Bool(false) => out.push_str("False"),
            Self::Int(i) => _ = write!(out, "{i}"),
            Self::Float(f) => out.push_str(&float(*f)),
            Self::Str(text) => write_str_repr(text, out),
            Self::List(v) => write_items(v, out, "[", "]"),
            Self::Tuple(v) if v.len() == 1 => write_items(v, out, "(", ",)"),
            Self::Tuple(v) => write_items(v, out, "(", ")"),
            Self::Set(v) if v.is_empty() => out.push_str("set()"),
            Self::Set(v) => write_items(v, out, "{", "}"),
            Self::Dict(entries) => {
                out.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    key.write_repr(out);
                    out.push_str(": ");
                    value.write_repr(out);
                }
                out.push('}');
            }
        }
    }

    pub(super) fn write_json(&self, out: &mut String, style: DumpStyle, depth: usize) {
        match self {
            Self::None => out.push_str("null"),
            Self::Bool(b) => _ = write!(out, "{b}"),
            Self::Int(i) => _ = write!(out, "{i}"),
            Self::Float(f) => out.push_str(&json_float(*f)),
            Self::Str(text) => write_json_str(text, out, style.ascii),
            Self::List(v) | Self::Tuple(v) | Self::Set(v) => {
                let items = v.iter().map(|value| (None, value));
                write_container(out, style, depth, ('[', ']'), items);
            }
            Self::Dict(entries) => {
                let items = entries.iter().map(|(k, v)| (Some(key_text(k)), v));
                write_container(out, style, depth, ('{', '}'), items);
            }
        }
    }
}

/// A key as `json.dumps` makes it a string.
pub(super) fn key_text(key: &PyValue) -> String {
    match key {
        PyValue::Str(text) => text.clone(),
        PyValue::None => "null".to_owned(),
        PyValue::Bool(b) => b.to_string(),
        PyValue::Float(f) => json_float(*f),
        other => other.repr(),
    }
}

fn write_container<'a>(
    out: &mut String,
    style: DumpStyle,
    depth: usize,
    (open, close): (char, char),
    items: impl ExactSizeIterator<Item = (Option<String>, &'a PyValue)>,
) {
    out.push(open);
    let empty = items.len() == 0;
    for (i, (key, value)) in items.enumerate() {
        match style.indent {
            Some(width) => {
                out.push_str(if i > 0 { ",\n" } else { "\n" });
                out.extend(std::iter::repeat_n(' ', width * (depth + 1)));
            }
            None if i > 0 => out.push_str(", "),
            None => {}
        }
        if let Some(key) = key {
            write_json_str(&key, out, style.ascii);
            out.push_str(": ");
        }
        value.write_json(out, style, depth + 1);
    }
    if let (Some(width), false) = (style.indent, empty) {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width * depth));
    }
    out.push(close);
}

fn write_items(items: &[PyValue], out: &mut String, open: &str, close: &str) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        item.write_repr(out);
    }
    out.push_str(close);
}

fn write_str_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

static UNPRINTABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}]").expect("the pattern is valid"));

/// Python's `str.isprintable`: controls, formats, separators other than the space, private and unassigned
/// characters are not. What is assigned differs by the version of Unicode.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c => !UNPRINTABLE.is_match(c.encode_utf8(&mut [0; 4])),
    }
}

fn write_json_str(text: &str, out: &mut String, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || (ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn json_float(f: f64) -> String {
    if f.is_nan() {
        "NaN".to_owned()
    } else if f.is_infinite() {
        (if f > 0.0 { "Infinity" } else { "-Infinity" }).to_owned()
    } else {
        float(f)
    }
}

/// Python's `repr` of a float: the shortest digits, with an exponent from `1e16` on and below `1e-4`.
pub(super) fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".to_owned();
    }
    if f.is_infinite() {
        return (if f > 0.0 { "inf" } else { "-inf" }).to_owned();
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = f.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
