//! From Python's syntax of patterns to Rust's.

/// The edges that Python and Rust see differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edges {
    /// `\b`: marks, superscripts and fractions are letters in one and not in the other.
    pub(super) word: bool,
    /// `$` without MULTILINE: also before a final line feed.
    pub(super) end: bool,
}

/// Python's `\w` and `\s`, as they stand in a class.
const WORD: &str = r"\p{L}\p{N}_";
const SPACE: &str = r"\s\x1c-\x1f";
/// Python's `\b` and `\B`.
const WORD_EDGE: &str =
    r"(?:(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_]))";
const NO_WORD_EDGE: &str =
    r"(?:(?<=[\p{L}\p{N}_])(?=[\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?![\p{L}\p{N}_]))";

/// Whether the pattern turns MULTILINE on in its leading flags.
pub(super) fn sets_multi_line(pattern: &str) -> bool {
    let flags = pattern
        .strip_prefix("(?")
        .and_then(|rest| rest.split_once(')'));
    flags.is_some_and(|(flags, _)| {
        flags.bytes().all(|b| b.is_ascii_lowercase()) && flags.contains('m')
    })
}

/// A pattern in Rust's syntax.
pub(super) struct Translated {
    pub(super) text: String,
    pub(super) edges: Edges,
}

/// Rewrites Python's syntax in Rust's; edges either exactly, by look-around, or as the linear engine has them.
pub(super) fn translate(pattern: &str, multi_line: bool, exact: bool) -> Translated {
    let mut edges = Edges::default();
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut i = 0;
    let mut in_class = false;
    while i < chars.len() {
        let next = chars.get(i + 1).copied();
        match chars[i] {
            '\\' => {
                match next {
                    Some('b') if !in_class => {
                        edges.word = true;
                        out.push_str(if exact { WORD_EDGE } else { r"\b" });
                    }
                    Some('B') if !in_class => {
                        edges.word = true;
                        out.push_str(if exact { NO_WORD_EDGE } else { r"\B" });
                    }
                    _ => escape_sequence(next, in_class, &mut out),
                }
                i += 1;
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    i += 1;
                }
                // A bracket right at the start is a literal.
                if chars.get(i + 1) == Some(&']') {
                    out.push_str(r"\]");
                    i += 1;
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // Operators of classes in Rust, literals in Python.
            c @ ('[' | '&' | '~') if in_class => out.extend(['\\', c]),
            '-' if in_class && next == Some('-') => out.push_str(r"\-"),
            '$' if !in_class && !multi_line => {
                edges.end = true;
                out.push_str(if exact { r"(?=\n?\z)" } else { r"\z" });
            }
            '{' if !in_class => match quantifier(&chars[i..]) {
                Some((text, length)) => {
                    out.push_str(&text);
                    i += length - 1;
                }
                None => out.push_str(r"\{"),
            },
            '}' if !in_class => out.push_str(r"\}"),
            c => out.push(c),
        }
        i += 1;
    }
    Translated { text: out, edges }
}

/// `{m}`, `{m,}`, `{,n}` or `{m,n}` in Rust's syntax, and its length in characters.
fn quantifier(chars: &[char]) -> Option<(String, usize)> {
    let close = chars.iter().take(16).position(|&c| c == '}')?;
    let body: String = chars[1..close].iter().collect();
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let text = match body.split_once(',') {
        None if !body.is_empty() && digits(&body) => body,
        Some(("", most)) if !most.is_empty() && digits(most) => format!("0,{most}"),
        Some((least, most)) if !least.is_empty() && digits(least) && digits(most) => body,
        _ => return None,
    };
    Some((format!("{{{text}}}"), close + 1))
}

fn escape_sequence(escaped: Option<char>, in_class: bool, out: &mut String) {
    let class = |negated: &str, members: &str| match (in_class, negated) {
        (true, "") => members.to_owned(),
        _ => format!("[{negated}{members}]"),
    };
    match escaped {
        // A lone backslash at the end is an error in both syntaxes.
        None => out.push('\\'),
        Some('w') => out.push_str(&class("", WORD)),
        Some('W') => out.push_str(&class("^", WORD)),
        Some('s') => out.push_str(&class("", SPACE)),
        Some('S') => out.push_str(&class("^", SPACE)),
        Some('Z') => out.push_str(r"\z"),
        Some('b') if in_class => out.push_str(r"\x08"),
        // Rust has no escapes for these, Python takes them for themselves.
        Some(c) if matches!(c, '<' | '>' | '_') || !c.is_ascii() => out.push(c),
        Some(c) => out.extend(['\\', c]),
    }
}
