//! Python literals: what `ast.literal_eval` takes.

use num_bigint::BigInt;

use super::value::PyValue;
use super::{MAX_DEPTH, MAX_DIGITS, PythonError, hexadecimal};

/// Python's `ast.literal_eval`, but for byte strings, complex numbers and f-strings.
///
/// # Errors
/// [`PythonError::Syntax`] if the text is no expression, [`PythonError::NotLiteral`] if it has names in it
/// (`true`, `null`, calls), [`PythonError::TooDeep`].
pub fn literal(text: &str) -> Result<PyValue, PythonError> {
    let mut reader = Reader {
        text: text.trim_start_matches([' ', '\t']),
        at: 0,
        depth: 0,
        name: None,
    };
    let value = reader.expressions()?;
    reader.space(true);
    if reader.at < reader.text.len() {
        return reader.fail("the end");
    }
    match reader.name {
        Some(name) => Err(PythonError::NotLiteral { name }),
        None => Ok(value),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Open brackets; inside of them a line may break.
    depth: usize,
    /// The first name. Reading goes on, because a wrong syntax later is the graver error.
    name: Option<String>,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T, PythonError> {
        Err(PythonError::Syntax { at: self.at, what })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: char) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn space(&mut self, lines: bool) {
        loop {
            let lines = lines || self.depth > 0;
            let rest = self.rest().trim_start_matches(|c| {
                matches!(c, ' ' | '\t' | '\u{c}') || (lines && matches!(c, '\n' | '\r'))
            });
            self.at = self.text.len() - rest.len();
            if !rest.starts_with('#') {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    /// The top: a value, or a tuple without brackets.
    fn expressions(&mut self) -> Result<PyValue, PythonError> {
        // Lines without an expression come before it; its own may not be indented.
        while let Some((line, _)) = self.rest().split_once('\n') {
            let line_length = line.len();
            let line = line.trim_matches([' ', '\t', '\r', '\u{c}']);
            if !line.is_empty() && !line.starts_with('#') {
                break;
            }
            self.at += line_length + 1;
        }
        if self.at > 0 && self.rest().starts_with([' ', '\t']) {
            return self.fail("an expression that is not indented");
        }
        let first = self.value()?;
        self.space(false);
        if self.peek() != Some(',') {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.eat(',') {
            self.space(false);
            if self.peek().is_none_or(|c| matches!(c, '\n' | '\r')) {
                break;
            }
            items.push(self.value()?);
            self.space(false);
        }
        Ok(PyValue::Tuple(items))
    }

    fn value(&mut self) -> Result<PyValue, PythonError> {
        if self.depth > MAX_DEPTH {
            return Err(PythonError::TooDeep { limit: MAX_DEPTH });
        }
        self.space(false);
        let Some(c) = self.peek() else {
            return self.fail("a value");
        };
        match c {
            '[' => Ok(PyValue::List(self.bracketed('[', ']')?.0)),
            '(' => {
                let (mut items, comma) = self.bracketed('(', ')')?;
                match items.pop() {
                    Some(only) if items.is_empty() && !comma => Ok(only),
                    last => {
                        items.extend(last);
                        Ok(PyValue::Tuple(items))
                    }
                }
            }
            '{' => self.braces(),
            '\'' | '"' => self.strings(),
            '-' | '+' => self.signed(c),
            c if c.is_ascii_digit() || c == '.' => self.number(),
            c if c.is_alphabetic() || c == '_' => self.word(),
            _ => self.fail("a value"),
        }
    }

    fn signed(&mut self, sign: char) -> Result<PyValue, PythonError> {
        self.at += 1;
        self.depth += 1;
        let value = self.value();
        self.depth -= 1;
        match (value?, sign) {
            (PyValue::Int(i), '-') => Ok(PyValue::Int(-i)),
            (PyValue::Float(f), '-') => Ok(PyValue::Float(-f)),
            (value @ (PyValue::Int(_) | PyValue::Float(_)), _) => Ok(value),
            (value, _) => {
                self.name.get_or_insert_with(|| sign.to_string());
                Ok(value)
            }
        }
    }

    /// The items between brackets, and whether a comma is last.
    fn bracketed(&mut self, open: char, close: char) -> Result<(Vec<PyValue>, bool), PythonError> {
        _ = self.eat(open);
        self.depth += 1;
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            self.space(true);
            if self.eat(close) {
                self.depth -= 1;
                return Ok((items, comma));
            }
            if !items.is_empty() && !comma {
                return self.fail("a comma or the closing bracket");
            }
            items.push(self.value()?);
            self.space(true);
            comma = self.eat(',');
        }
    }

    fn braces(&mut self) -> Result<PyValue, PythonError> {
        _ = self.eat('{');
        self.depth += 1;
        let mut entries: Vec<(PyValue, PyValue)> = Vec::new();
        let mut set = Vec::new();
        loop {
            self.space(true);
            if self.eat('}') {
                self.depth -= 1;
                return Ok(if set.is_empty() {
                    PyValue::Dict(entries)
                } else {
                    PyValue::Set(set)
                });
            }
            let key = self.value()?;
            self.space(true);
            if set.is_empty() && self.eat(':') {
                let value = self.value()?;
                PyValue::insert(&mut entries, key, value);
            } else if entries.is_empty() {
                if !set.contains(&key) {
                    set.push(key);
                }
            } else {
                return self.fail("`:`");
            }
            self.space(true);
            if !self.eat(',') && self.peek() != Some('}') {
                return self.fail("`,` or `}`");
            }
        }
    }

    fn word(&mut self) -> Result<PyValue, PythonError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        if rest[end..].starts_with(['\'', '"']) {
            return match word.to_ascii_lowercase().as_str() {
                "r" | "u" => self.strings(),
                "b" | "br" | "rb" | "f" | "fr" | "rf" => {
                    self.name.get_or_insert_with(|| word.to_owned());
                    self.at += end;
                    self.strings()
                }
                _ => self.fail("a value"),
            };
        }
        self.at += end;
        match word {
            "None" => return Ok(PyValue::None),
            "True" => return Ok(PyValue::Bool(true)),
            "False" => return Ok(PyValue::Bool(false)),
            "set" if self.rest().starts_with("()") => {
                self.at += 2;
                return Ok(PyValue::Set(Vec::new()));
            }
            _ => {}
        }
        self.name.get_or_insert_with(|| word.to_owned());
        // What may follow a name: attributes, calls, subscripts.
        loop {
            self.space(false);
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    let rest = self.rest();
                    let end = rest
                        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                        .unwrap_or(rest.len());
                    if end == 0 {
                        return self.fail("a name");
                    }
                    self.at += end;
                }
                Some('(') => _ = self.bracketed('(', ')')?,
                Some('[') => _ = self.bracketed('[', ']')?,
                _ => return Ok(PyValue::None),
            }
        }
    }

    /// One string or several next to each other.
    fn strings(&mut self) -> Result<PyValue, PythonError> {
        let mut out = String::new();
        loop {
            let raw = matches!(self.peek(), Some('r' | 'R'));
            if matches!(self.peek(), Some('r' | 'R' | 'u' | 'U')) {
                self.at += 1;
            }
            self.string(raw, &mut out)?;
            self.space(false);
            let mut next = self.rest().chars();
            match (next.next(), next.next()) {
                (Some('\'' | '"'), _) | (Some('r' | 'R' | 'u' | 'U'), Some('\'' | '"')) => {}
                _ => return Ok(PyValue::Str(out)),
            }
        }
    }

    fn string(&mut self, raw: bool, out: &mut String) -> Result<(), PythonError> {
        let Some(quote @ ('\'' | '"')) = self.peek() else {
            return self.fail("a string");
        };
        let triple: String = std::iter::repeat_n(quote, 3).collect();
        let long = self.rest().starts_with(&triple);
        self.at += if long { 3 } else { 1 };
        loop {
            let Some(c) = self.peek() else {
                return self.fail("the end of a string");
            };
            if long && self.rest().starts_with(&triple) {
                self.at += 3;
                return Ok(());
            }
            self.at += c.len_utf8();
            match c {
                c if c == quote && !long => return Ok(()),
                '\n' | '\r' if !long => return self.fail("the end of a string"),
                '\\' if raw => {
                    out.push('\\');
                    if let Some(c) = self.peek() {
                        self.at += c.len_utf8();
                        out.push(c);
                    }
                }
                '\\' => self.escape(out)?,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), PythonError> {
        let Some(c) = self.peek() else {
            return self.fail("an escape");
        };
        self.at += c.len_utf8();
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            'x' => self.code(2, out)?,
            'u' => self.code(4, out)?,
            'U' => self.code(8, out)?,
            '0'..='7' => {
                self.at -= 1;
                let rest = self.rest();
                let count = rest
                    .bytes()
                    .take(3)
                    .take_while(|b| (b'0'..=b'7').contains(b))
                    .count();
                let code = u32::from_str_radix(&rest[..count], 8).unwrap_or(0);
                out.extend(char::from_u32(code));
                self.at += count;
            }
            // Python keeps what it does not know.
            c => {
                out.push('\\');
                out.push(c);
            }
        }
        Ok(())
    }

    fn code(&mut self, count: usize, out: &mut String) -> Result<(), PythonError> {
        let Some(code) = hexadecimal(self.text, self.at, count) else {
            return self.fail("hexadecimal digits");
        };
        self.at += count;
        // Python keeps both halves of a pair of surrogates, which JSON then joins. One alone is a character
        // in Python and none in Rust.
        let low = self
            .rest()
            .strip_prefix("\\u")
            .and_then(|_| hexadecimal(self.text, self.at + 2, 4));
        let pair = low.and_then(|low| {
            char::decode_utf16([u16::try_from(code).ok()?, u16::try_from(low).ok()?])
                .next()?
                .ok()
        });
        match pair.filter(|_| (0xd800..0xdc00).contains(&code)) {
            Some(pair) => {
                self.at += 6;
                out.push(pair);
            }
            None => out.push(char::from_u32(code).unwrap_or('\u{fffd}')),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<PyValue, PythonError> {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|&(i, c)| {
                let sign = matches!(c, '+' | '-')
                    && rest[..i].ends_with(['e', 'E'])
                    && !rest.starts_with("0x");
                !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || sign)
            })
            .map_or(rest.len(), |(i, _)| i);
        let token = &rest[..end];
        let parsed = number(token);
        if parsed.is_some() {
            self.at += end;
        }
        parsed.map_or_else(|| self.fail("a number"), Ok)
    }
}

fn number(token: &str) -> Option<PyValue> {
    if token.ends_with('_') || token.contains("__") {
        return None;
    }
    let digits = token.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return BigInt::parse_bytes(digits.as_bytes(), radix).map(PyValue::Int);
        }
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let zeros = digits.bytes().all(|b| b == b'0');
        if digits.len() > MAX_DIGITS || (digits.starts_with('0') && !zeros) {
            return None;
        }
        return digits.parse().ok().map(PyValue::Int);
    }
    if lower.bytes().any(|b| b.is_ascii_alphabetic() && b != b'e') {
        return None;
    }
    lower.parse().ok().map(PyValue::Float)
}

#[cfg(test)]
mod tests;
