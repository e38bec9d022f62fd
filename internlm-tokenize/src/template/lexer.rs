//! Just enough of Jinja's lexer to find brackets and operators inside of a tag.

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Text,
    Sign,
}

#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    pub(super) fn text(self, source: &str) -> &str {
        &source[self.start..self.end]
    }
}

pub(super) struct Tokens {
    pub(super) list: Vec<Token>,
    /// Bytes up to the closing delimiter, or to the end of the source.
    pub(super) length: usize,
}

/// Splits the inside of a tag into words (names, numbers), string literals and single signs.
pub(super) fn lex(source: &str, closing: &str) -> Tokens {
    let mut list = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        // A `}}` inside of brackets closes mappings.
        if depth == 0 && source[at..].starts_with(closing) {
            break;
        }
        let start = at;
        at += c.len_utf8();
        let kind = match c {
            c if c.is_whitespace() => continue,
            '\'' | '"' => {
                let mut escaped = false;
                for inner in source[at..].chars() {
                    at += inner.len_utf8();
                    match inner {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        inner if inner == c => break,
                        _ => {}
                    }
                }
                Kind::Text
            }
            c if c.is_alphanumeric() || c == '_' => {
                at += source[at..]
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(source.len() - at);
                Kind::Word
            }
            _ => {
                match c {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                Kind::Sign
            }
        };
        list.push(Token {
            kind,
            start,
            end: at,
        });
    }
    Tokens { list, length: at }
}
