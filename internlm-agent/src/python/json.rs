//! JSON by Python's rules, and JSON5.

use num_bigint::BigInt;

use super::value::PyValue;
use super::{MAX_DEPTH, MAX_DIGITS, PythonError, hexadecimal};

/// Python's `json.loads`: `NaN` and infinities are numbers, a repeated key keeps its last value, whole
/// numbers have any size. Half of a surrogate pair, which a Rust string can't hold, becomes U+FFFD.
///
/// # Errors
/// [`PythonError::Json`] where the text is not JSON, [`PythonError::TooDeep`].
pub fn loads(text: &str) -> Result<PyValue, PythonError> {
    Reader::new(text, false).document()
}

/// JSON5: also comments, trailing commas, single quotes, names as keys, hexadecimal numbers.
///
/// # Errors
/// As [`loads`].
pub fn json5(text: &str) -> Result<PyValue, PythonError> {
    Reader::new(text, true).document()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    five: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, five: bool) -> Self {
        Self { text, at: 0, five }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, PythonError> {
        Err(PythonError::Json { at: self.at, what })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn space(&mut self) -> Result<(), PythonError> {
        loop {
            let five = self.five;
            let white = |c: char| {
                matches!(c, ' ' | '\t' | '\n' | '\r')
                    || (five && (c.is_whitespace() || c == '\u{feff}'))
            };
            let rest = self.rest().trim_start_matches(white);
            self.at = self.text.len() - rest.len();
            if five && self.eat("//") {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            } else if five && self.eat("/*") {
                match self.rest().find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return self.fail("the end of a comment"),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn document(mut self) -> Result<PyValue, PythonError> {
        let value = self.value(0)?;
        self.space()?;
        if self.at < self.text.len() {
            return self.fail("the end");
        }
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<PyValue, PythonError> {
        if depth > MAX_DEPTH {
            return Err(PythonError::TooDeep { limit: MAX_DEPTH });
        }
        self.space()?;
        match self.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => self.string('"').map(PyValue::Str),
            Some('\'') if self.five => self.string('\'').map(PyValue::Str),
            _ => self.constant(),
        }
    }

    fn constant(&mut self) -> Result<PyValue, PythonError> {
        let words = [
            ("null", PyValue::None),
            ("true", PyValue::Bool(true)),
            ("false", PyValue::Bool(false)),
            ("NaN", PyValue::Float(f64::NAN)),
            ("Infinity", PyValue::Float(f64::INFINITY)),
            ("-Infinity", PyValue::Float(f64::NEG_INFINITY)),
        ];
        for (word, value) in words {
            if self.eat(word) {
                return Ok(value);
            }
        }
        self.number()
    }

    fn number(&mut self) -> Result<PyValue, PythonError> {
        if self.five {
            _ = self.eat("+");
        }
        let start = self.at;
        let negative = self.eat("-");
        if self.five && (self.eat("0x") || self.eat("0X")) {
            let digits = self.take(|c| c.is_ascii_hexdigit());
            return match BigInt::parse_bytes(digits.as_bytes(), 16) {
                Some(value) if negative => Ok(PyValue::Int(-value)),
                Some(value) => Ok(PyValue::Int(value)),
                None => self.fail("hexadecimal digits"),
            };
        }
        let whole = self.take(|c| c.is_ascii_digit());
        if whole.is_empty() && !(self.five && self.rest().starts_with('.')) {
            self.at = start;
            return self.fail("a value");
        }
        if whole.len() > 1 && whole.starts_with('0') {
            // As Python: the zero is a number of its own, and what follows is too much.
            self.at -= whole.len() - 1;
            return Ok(PyValue::int(0));
        }
        let is_float = self.fraction();
        let text = &self.text[start..self.at];
        if is_float {
            return match text.parse() {
                Ok(value) => Ok(PyValue::Float(value)),
                Err(_) => self.fail("a number"),
            };
        }
        if whole.len() > MAX_DIGITS {
            return self.fail("a number of fewer digits");
        }
        match text.parse() {
            Ok(value) => Ok(PyValue::Int(value)),
            Err(_) => self.fail("a number"),
        }
    }

    /// The part of a number after its whole digits, if there is one.
    fn fraction(&mut self) -> bool {
        let mut is_float = false;
        let dot = self.at;
        if self.eat(".") {
            is_float = true;
            if self.take(|c| c.is_ascii_digit()).is_empty() && !self.five {
                self.at = dot;
                return false;
            }
        }
        let exponent = self.at;
        if self.eat("e") || self.eat("E") {
            _ = self.eat("-") || self.eat("+");
            if self.take(|c| c.is_ascii_digit()).is_empty() {
                self.at = exponent;
            } else {
                is_float = true;
            }
        }
        is_float
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn array(&mut self, depth: usize) -> Result<PyValue, PythonError> {
        _ = self.eat("[");
        let mut items = Vec::new();
        self.space()?;
        if self.eat("]") {
            return Ok(PyValue::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space()?;
            if self.eat("]") {
                return Ok(PyValue::List(items));
            }
            if !self.eat(",") {
                return self.fail("`,` or `]`");
            }
            self.space()?;
            if self.five && self.eat("]") {
                return Ok(PyValue::List(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<PyValue, PythonError> {
        _ = self.eat("{");
        let mut entries = Vec::new();
        self.space()?;
        if self.eat("}") {
            return Ok(PyValue::Dict(entries));
        }
        loop {
            let key = self.key()?;
            self.space()?;
            if !self.eat(":") {
                return self.fail("`:`");
            }
            let value = self.value(depth + 1)?;
            PyValue::insert(&mut entries, PyValue::Str(key), value);
            self.space()?;
            if self.eat("}") {
                return Ok(PyValue::Dict(entries));
            }
            if !self.eat(",") {
                return self.fail("`,` or `}`");
            }
            self.space()?;
            if self.five && self.eat("}") {
                return Ok(PyValue::Dict(entries));
            }
        }
    }

    fn key(&mut self) -> Result<String, PythonError> {
        match self.peek() {
            Some('"') => self.string('"'),
            Some('\'') if self.five => self.string('\''),
            Some(c) if self.five && (c.is_alphabetic() || c == '_' || c == '$') => {
                let name = self.take(|c| c.is_alphanumeric() || c == '_' || c == '$');
                Ok(name.to_owned())
            }
            _ => self.fail("a key in double quotes"),
        }
    }

    fn string(&mut self, quote: char) -> Result<String, PythonError> {
        self.at += quote.len_utf8();
        let mut out = String::new();
        loop {
            let Some(c) = self.peek() else {
                return self.fail("the end of a string");
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(out),
                '\\' => self.escape(&mut out)?,
                '\n' | '\r' if self.five => return self.fail("the end of a string"),
                c if u32::from(c) < 0x20 && !self.five => {
                    self.at -= 1;
                    return self.fail("no control character in a string");
                }
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
            '"' | '\\' | '/' => out.push(c),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'u' => {
                let first = self.hex(4)?;
                let mut units = vec![first];
                let back = self.at;
                if (0xd800..0xdc00).contains(&first) && self.eat("\\u") {
                    match self.hex(4)? {
                        low @ 0xdc00..=0xdfff => units.push(low),
                        _ => self.at = back,
                    }
                }
                out.push_str(&String::from_utf16_lossy(&units));
            }
            'x' if self.five => {
                let code = self.hex(2)?;
                out.extend(char::from_u32(code.into()));
            }
            'v' if self.five => out.push('\u{b}'),
            '0' if self.five => out.push('\0'),
            '\n' | '\u{2028}' | '\u{2029}' if self.five => {}
            '\r' if self.five => _ = self.eat("\n"),
            c if self.five => out.push(c),
            _ => {
                self.at -= c.len_utf8();
                return self.fail("an escape of JSON");
            }
        }
        Ok(())
    }

    fn hex(&mut self, count: usize) -> Result<u16, PythonError> {
        let code = hexadecimal(self.text, self.at, count);
        match code.and_then(|code| u16::try_from(code).ok()) {
            Some(code) => {
                self.at += count;
                Ok(code)
            }
            None => self.fail("hexadecimal digits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(loads(text).unwrap().dumps(), want);
    }

    #[test]
    fn python_reads_more_than_json() {
        check(
            r#" {"a": NaN, "b": [-Infinity, 1e5, 0]} "#,
            r#"{"a": NaN, "b": [-Infinity, 100000.0, 0]}"#,
        );
        check(r#"{"a": 1, "b": 2, "a": 3}"#, r#"{"a": 3, "b": 2}"#);
        let large = "123456789012345678901234567890";
        check(large, large);
        check(r#""\u6674\ud83d\ude42\/""#, "\"晴🙂/\"");
        check(r#""\ud83dx""#, "\"\u{fffd}x\"");
    }

    #[test]
    fn whole_numbers_have_as_many_digits_as_in_python() {
        let digits = "1".repeat(MAX_DIGITS);
        for text in [digits.clone(), format!("-{digits}"), format!("{digits}1.5")] {
            assert!(loads(&text).is_ok(), "{} characters", text.len());
        }
        assert!(loads(&format!("{digits}1")).is_err());
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            "{",
            "{'a': 1}",
            "[1,]",
            "{\"a\": 1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "\"a\nb\"",
            "// c\n1",
            "1 2",
            "nan",
            "\"\\x41\"",
            "tru",
        ] {
            assert!(
                matches!(loads(text), Err(PythonError::Json { .. })),
                "{text}"
            );
        }
        let deep = "[".repeat(100_000);
        assert_eq!(loads(&deep), Err(PythonError::TooDeep { limit: MAX_DEPTH }));
    }

    #[test]
    fn json5_is_wider() {
        let value = json5("// c\n{code: 'print(1)', /* d */ n: +0x1F, l: [.5, 1.,],}").unwrap();
        assert_eq!(
            value.dumps(),
            r#"{"code": "print(1)", "n": 31, "l": [0.5, 1.0]}"#
        );
        assert!(json5("print(1)").is_err());
    }
}
