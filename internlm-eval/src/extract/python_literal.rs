//! Python string literals, read as data.
//!
//! Upstream hands a model's text to `eval`, for the sake of models that answer with a quoted string. What such a string
//! means is read here by hand; all other expressions are none of a model's business.

/// Nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// The text that an expression made of string literals means: literals of all quotes and prefixes but bytes, side by
/// side or joined by `+`, in parentheses. `None` for everything else, also for f-strings with fields, named characters
/// (`\N{..}`) and lone surrogates.
pub(super) fn string(text: &str) -> Option<String> {
    if text.contains('\0') {
        return None;
    }
    let mut reader = Reader {
        rest: first_line_of_code(text.trim_start_matches([' ', '\t']))?,
        depth: 0,
    };
    let value = reader.sum()?;
    let tail = reader
        .rest
        .trim_start_matches([' ', '\t', '\x0c', '\n', '\r']);
    // A comment may end the text, and so may further lines of comments.
    let rest = tail.lines().all(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('#')
    });
    rest.then_some(value)
}

/// Skips blank lines and comments; code after them must not be indented.
fn first_line_of_code(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let bare = line.trim_start_matches([' ', '\t', '\x0c']);
        if !bare.trim_end_matches('\r').is_empty() && !bare.starts_with('#') {
            return (bare.len() == line.len()).then_some(rest);
        }
        if after.is_empty() {
            return None;
        }
        rest = after;
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn skip_blanks(&mut self) {
        let within = self.depth > 0;
        self.rest = self.rest.trim_start_matches(|c| {
            matches!(c, ' ' | '\t' | '\x0c') || within && matches!(c, '\n' | '\r')
        });
    }

    fn sum(&mut self) -> Option<String> {
        let mut value = self.term()?;
        loop {
            self.skip_blanks();
            let Some(rest) = self.rest.strip_prefix('+') else {
                return Some(value);
            };
            self.rest = rest;
            value.push_str(&self.term()?);
        }
    }

    /// A sum in parentheses, or literals side by side.
    fn term(&mut self) -> Option<String> {
        self.skip_blanks();
        if let Some(rest) = self.rest.strip_prefix('(') {
            if self.depth == MAX_DEPTH {
                return None;
            }
            self.rest = rest;
            self.depth += 1;
            let value = self.sum()?;
            self.skip_blanks();
            self.rest = self.rest.strip_prefix(')')?;
            self.depth -= 1;
            return Some(value);
        }
        let mut value = self.literal()?;
        loop {
            self.skip_blanks();
            let is_literal = self
                .rest
                .trim_start_matches(|c: char| "rRuUfFbB".contains(c))
                .starts_with(['\'', '"']);
            if !is_literal {
                return Some(value);
            }
            value.push_str(&self.literal()?);
        }
    }

    fn literal(&mut self) -> Option<String> {
        let quote_at = self.rest.find(['\'', '"'])?;
        let prefix = self.rest[..quote_at].to_ascii_lowercase();
        let (raw, formatted) = match prefix.as_str() {
            "" | "u" => (false, false),
            "r" => (true, false),
            "f" => (false, true),
            "rf" | "fr" => (true, true),
            _ => return None,
        };
        let body = &self.rest[quote_at..];
        let quote = body.chars().next()?;
        let triple: String = [quote; 3].iter().collect();
        let (end, long) = if body.starts_with(&triple) {
            (triple, true)
        } else {
            (quote.to_string(), false)
        };
        let body = &body[end.len()..];
        let close = closing(body, &end, long)?;
        let inside = &body[..close];
        self.rest = &body[close + end.len()..];
        if formatted && inside.contains(['{', '}']) {
            return None;
        }
        let inside = if long {
            inside.replace("\r\n", "\n").replace('\r', "\n")
        } else {
            inside.to_owned()
        };
        if raw {
            Some(inside)
        } else {
            unescaped(&inside)
        }
    }
}

/// Where the closing quote stands; a backslash takes the next character with it, also in raw literals.
fn closing(body: &str, end: &str, long: bool) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if body[at..].starts_with(end) {
            return Some(at);
        } else if !long && matches!(c, '\n' | '\r') {
            return None;
        }
    }
    None
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            same @ ('\\' | '\'' | '"') => out.push(same),
            'x' => out.push(code_point(&mut chars, 2)?),
            'u' => out.push(code_point(&mut chars, 4)?),
            'U' => out.push(code_point(&mut chars, 8)?),
            'N' => return None,
            first @ '0'..='7' => {
                let mut digits = String::from(first);
                while digits.len() < 3 && chars.as_str().starts_with(|c| ('0'..='7').contains(&c)) {
                    digits.extend(chars.next());
                }
                out.push(char::from_u32(u32::from_str_radix(&digits, 8).ok()?)?);
            }
            other => out.extend(['\\', other]),
        }
    }
    Some(out)
}

fn code_point(chars: &mut std::str::Chars<'_>, length: usize) -> Option<char> {
    let digits = chars.as_str().get(..length)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let code = u32::from_str_radix(digits, 16).ok()?;
    chars.nth(length - 1);
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::string;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        assert_eq!(string(text).as_deref(), want, "{text}");
    }

    #[test]
    fn literals() {
        check(r#"  'a\n\x41\u4e2d\101\q' "b" # end"#, Some("a\nA中A\\qb"));
        check(r#"r'\n' + ("x"\n)"#, None);
        check("('a'\n 'b') + '''c\r\nd'''\n", Some("abc\nd"));
        check("f'x'", Some("x"));
        check("  # why\n\n'a'#b", Some("a"));
        check("'it\\'s'", Some("it's"));
    }

    #[test]
    fn everything_else_is_left_alone() {
        for text in [
            "",
            "x",
            "'a",
            "'a\nb'",
            "b'a'",
            "f'{x}'",
            "'a'*3",
            "'a'.upper()",
            "'\\N{DASH}'",
            "'a' 1",
            "'\\ud800'",
            "'a'\n'b'",
            "'\\xg1'",
            "__import__('os')",
            "'a';",
            "\n 'a'",
            "# a",
        ] {
            check(text, None);
        }
        check(&"(".repeat(100_000), None);
    }
}
