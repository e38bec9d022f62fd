//! Objects from bytes (ISO 32000-1, sections 7.2 and 7.3).

use std::collections::BTreeMap;

/// A dictionary.
pub(in crate::tools::documents) type Dict = BTreeMap<String, Object>;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::tools::documents) enum Object {
    Null,
    Bool,
    Number(f64),
    Text(Vec<u8>),
    Name(String),
    Array(Vec<Object>),
    Dict(Dict),
    /// A dictionary with the place where its bytes begin.
    Stream(Dict, usize),
    Reference(u32),
    /// A word of a content stream.
    Operator(String),
}

impl Object {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// Most arrays and dictionaries within each other.
const DEPTH: usize = 64;

/// Most bytes of a number, name or word.
const WORD: usize = 256;

/// Most values in one object: they take far more memory than their bytes.
const VALUES: usize = 200_000;

pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values of the object that is read, or was last.
    values: usize,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | 9 | 10 | 12 | 13 | 32)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
    )
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            values: 0,
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many values the last object has, itself included.
    pub(super) fn values(&self) -> usize {
        self.values
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'%' {
                while self
                    .peek()
                    .is_some_and(|byte| byte != b'\n' && byte != b'\r')
                {
                    self.at += 1;
                }
            } else if is_space(byte) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// Where the bytes of a stream begin, if the dictionary before was that of one.
    pub(super) fn stream_start(&mut self) -> Option<usize> {
        self.skip_space();
        let rest = self.bytes.get(self.at..)?.strip_prefix(b"stream")?;
        let line = match rest {
            [b'\r', b'\n', ..] => 2,
            [b'\n' | b'\r', ..] => 1,
            _ => 0,
        };
        Some(self.at + 6 + line)
    }

    /// The next object. At the end, and where nothing is one, there is none.
    pub(super) fn object(&mut self) -> Option<Object> {
        self.values = 0;
        self.nested(0)
    }

    fn nested(&mut self, depth: usize) -> Option<Object> {
        self.skip_space();
        let byte = self.peek()?;
        self.values += 1;
        if self.values > VALUES {
            return None;
        }
        let next = self.bytes.get(self.at + 1).copied();
        match byte {
            b'(' => Some(Object::Text(self.text())),
            b'<' if next == Some(b'<') => {
                self.at += 2;
                Some(Object::Dict(self.dict(depth)?))
            }
            b'<' => Some(Object::Text(self.hex())),
            b'/' => Some(Object::Name(self.name())),
            b'[' => {
                self.at += 1;
                Some(Object::Array(self.array(depth)?))
            }
            b'+' | b'-' | b'.' | b'0'..=b'9' => Some(self.number_or_reference()),
            _ if is_delimiter(byte) => {
                // An end without a beginning.
                self.at += 1;
                Some(Object::Operator(char::from(byte).to_string()))
            }
            _ => Some(match self.word() {
                "true" | "false" => Object::Bool,
                "null" => Object::Null,
                word => Object::Operator(word.to_owned()),
            }),
        }
    }

    /// Regular characters: a number or an operator.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|byte| !is_space(byte) && !is_delimiter(byte))
        {
            self.at += 1;
        }
        if self.at == start {
            self.at += 1;
        }
        let end = self.at.min(start + WORD).min(self.bytes.len());
        std::str::from_utf8(&self.bytes[start..end]).unwrap_or("?")
    }

    fn number_or_reference(&mut self) -> Object {
        let word = self.word();
        let Some(number) = parse_number(word) else {
            return Object::Operator(word.to_owned());
        };
        if !word.bytes().all(|byte| byte.is_ascii_digit()) || word.len() > 10 {
            return Object::Number(number);
        }
        // `12 0 R`, or just a number.
        let back = self.at;
        self.skip_space();
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            let generation = self.word();
            self.skip_space();
            let digits = generation.bytes().all(|byte| byte.is_ascii_digit());
            if digits && generation.len() <= 5 && self.peek() == Some(b'R') {
                let behind = self.bytes.get(self.at + 1).copied();
                if behind.is_none_or(|byte| is_space(byte) || is_delimiter(byte)) {
                    self.at += 1;
                    return match word.parse() {
                        Ok(number) => Object::Reference(number),
                        Err(_) => Object::Null,
                    };
                }
            }
        }
        self.at = back;
        Object::Number(number)
    }

    fn array(&mut self, depth: usize) -> Option<Vec<Object>> {
        let mut values = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return Some(values),
                Some(b']') => {
                    self.at += 1;
                    return Some(values);
                }
                Some(_) if depth >= DEPTH => return None,
                Some(_) => values.push(self.nested(depth + 1)?),
            }
            // A word that has no place in an array ends it: the `]` was forgotten.
            if let Some(Object::Operator(word)) = values.last()
                && matches!(word.as_str(), "endobj" | "stream" | ">")
            {
                values.pop();
                return Some(values);
            }
        }
    }

    fn dict(&mut self, depth: usize) -> Option<Dict> {
        let mut dict = Dict::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return Some(dict),
                Some(b'>') => {
                    self.at += 1;
                    if self.peek() == Some(b'>') {
                        self.at += 1;
                    }
                    return Some(dict);
                }
                Some(_) if depth >= DEPTH => return None,
                Some(b'/') => {
                    let key = self.name();
                    self.skip_space();
                    if self.peek() == Some(b'>') {
                        continue;
                    }
                    let value = self.nested(depth + 1)?;
                    dict.insert(key, value);
                }
                // Not a key: pass it over, but not the end of the object.
                Some(_) => match self.nested(depth + 1)? {
                    Object::Operator(word) if matches!(word.as_str(), "endobj" | "stream") => {
                        return Some(dict);
                    }
                    _ => {}
                },
            }
        }
    }

    fn name(&mut self) -> String {
        self.at += 1;
        let mut name = Vec::new();
        while let Some(byte) = self.peek() {
            if is_space(byte) || is_delimiter(byte) {
                break;
            }
            self.at += 1;
            let hex = self
                .bytes
                .get(self.at..self.at + 2)
                .filter(|_| byte == b'#');
            let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    self.at += 2;
                    name.push(byte);
                }
                None => name.push(byte),
            }
        }
        name.truncate(WORD);
        String::from_utf8_lossy(&name).into_owned()
    }

    /// A text in parentheses.
    fn text(&mut self) -> Vec<u8> {
        self.at += 1;
        let (mut text, mut depth) = (Vec::new(), 1);
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'(' => depth += 1,
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                b'\\' => {
                    self.escape(&mut text);
                    continue;
                }
                _ => {}
            }
            text.push(byte);
        }
        text
    }

    fn escape(&mut self, text: &mut Vec<u8>) {
        let Some(byte) = self.peek() else {
            return;
        };
        self.at += 1;
        match byte {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'\r' if self.peek() == Some(b'\n') => self.at += 1,
            b'\r' | b'\n' => {}
            b'0'..=b'7' => {
                let mut value = u16::from(byte - b'0');
                for _ in 0..2 {
                    match self.peek() {
                        Some(digit @ b'0'..=b'7') => {
                            value = value * 8 + u16::from(digit - b'0');
                            self.at += 1;
                        }
                        _ => break,
                    }
                }
                // What is beyond a byte is dropped (section 7.3.4.2).
                text.push((value & 0xff) as u8);
            }
            other => text.push(other),
        }
    }

    /// A text in digits.
    fn hex(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut digits = Vec::new();
        while let Some(byte) = self.peek() {
            self.at += 1;
            if byte == b'>' {
                break;
            }
            if let Some(digit) = char::from(byte).to_digit(16) {
                digits.push(digit as u8);
            }
        }
        let pairs = digits.chunks(2);
        pairs
            .map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0))
            .collect()
    }

    /// Passes over an inline image, whose data stand between `ID` and `EI`.
    pub(super) fn skip_inline_image(&mut self) {
        while let Some(rest) = self.bytes.get(self.at..) {
            let Some(at) = super::marks::find(rest, b"EI") else {
                self.at = self.bytes.len();
                return;
            };
            let before = at == 0 || is_space(rest[at - 1]);
            let behind = rest.get(at + 2).is_none_or(|byte| is_space(*byte));
            self.at += at + 2;
            if before && behind {
                return;
            }
        }
    }
}

/// A number as PDF writes it, without an exponent; `--5` and `1.2.3` occur and mean what they begin with.
fn parse_number(word: &str) -> Option<f64> {
    if let Ok(number) = word.parse::<f64>() {
        // `inf` and `nan` never get here: they begin with letters.
        return number.is_finite().then_some(number);
    }
    let digits = word.trim_start_matches('-');
    let end = digits
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' && !digits[..*at].contains('.')))
        .map_or(digits.len(), |(at, _)| at);
    let number: f64 = digits[..end].parse().ok()?;
    Some(if word.starts_with('-') {
        -number
    } else {
        number
    })
}

#[cfg(test)]
mod tests;
